"""Factorization machines: what a step, an epoch and a prediction compute, and in which order."""

from __future__ import annotations

import dataclasses
import math
import signal
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
from test_hogwild import EPSILON, LOSSES, QUANTILE, loss_value, targets_for

import fastopt
from fastopt import _core, memory
from fastopt.data import CSR
from fastopt.fm import models, run
from fastopt.fm.run import Samples, Training, outputs
from fastopt.fm.state import Settings, State, Units
from fastopt.sparse import models as linear
from fastopt.sparse.stopping import Watch

SETTINGS = Settings(
    loss="squared", shape=0.1, rank=3, l2_weight=0.03, l2_factor=0.05, init_stdev=0.1,
    adaptive=True, fit_intercept=True, epochs=1, step=0.1, schedule="constant", decay=0.9,
    shuffle=False, seed=0, threads=1, fixed=True,
)  # fmt: skip

ONE = Units()


def settings(**more):
    loss = more.get("loss", "squared")
    return dataclasses.replace(
        SETTINGS, **({"shape": QUANTILE if loss == "quantile" else EPSILON} | more)
    )


def csr(dense, dtype="f8", index="i4", pointer="i8"):
    rows, columns = np.nonzero(dense)
    return SimpleNamespace(
        data=dense[rows, columns].astype(dtype),
        indices=columns.astype(index),
        indptr=np.searchsorted(rows, np.arange(len(dense) + 1)).astype(pointer),
        shape=dense.shape,
    )


def make(n=100, d=12, seed=0, labels=False):
    r = np.random.default_rng(seed)
    dense = r.normal(size=(n, d)) * (r.random((n, d)) < 0.4)
    dense[n // 2] = 0
    v = r.normal(size=(d, 2))
    y = dense @ r.normal(size=d) + ((dense @ v) ** 2 - dense**2 @ v**2).sum(1) / 2 + 0.3
    return dense, np.where(y > 0, 1.0, -1.0) if labels else y


def state_of(s, d, dtype="f8", seed=1, units=ONE):
    """A state with random weights and factors."""
    r = np.random.default_rng(seed)
    state = State(d, s.rank, s.adaptive, np.dtype(dtype), units)
    state.weights[:], state.intercept = 0.5 * r.normal(size=d), 0.2
    state.factors[:] = 0.5 * r.normal(size=(d, s.rank))
    return state


def naive(dense, w0, w, V):
    """The formula, a pair at a time."""
    p, products = w0 + dense @ w, V @ V.T
    for i in range(dense.shape[1]):
        for j in range(i + 1, dense.shape[1]):
            p = p + products[i, j] * dense[:, i] * dense[:, j]
    return p


def train(s, state, dense, y, weights=None, **more):
    samples = Samples(csr(dense, state.dtype), s)
    weights = None if weights is None else weights.astype(state.dtype)
    samples.native.target(y.astype(state.dtype), None, 0, weights)
    return Training(samples, state, s, **more).go()


@pytest.mark.parametrize("rank", [1, 3, 8, 16, 17, 40, 256])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("index", ["i4", "i8"])
def test_predictions_are_the_sum_over_all_pairs(rank, dtype, index):
    dense, _ = make()
    dense = dense.astype(dtype).astype("f8")
    for adaptive in (False, True):
        s = settings(rank=rank, adaptive=adaptive)
        state = state_of(s, dense.shape[1], dtype)
        X = csr(dense, dtype, index, index)
        samples = _core.Samples(X.data, X.indices, X.indptr, X.shape, 2)
        p = outputs(samples, [state], s, 2)[:, 0]
        V, w = state.factors.astype("f8"), state.weights.astype("f8")
        wanted = naive(dense, state.intercept, w, V)
        size = 1 + np.abs(naive(np.abs(dense), 0, np.abs(w), np.abs(V)))
        assert (np.abs(p - wanted) / size).max() < (1e-6 if dtype == "f4" else 1e-15)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("row", [3, 8])
def test_a_step_is_along_the_gradient(loss, row):
    """Plain SGD over one row: what moved is the step times a difference quotient of the formula."""
    dense, y = make(60)
    x, target = dense[row : row + 1], targets_for(loss, y)[row : row + 1]
    s = settings(loss=loss, adaptive=False, step=1e-3)
    before = state_of(s, 12)
    after = before.copy()
    train(s, after, x, target)
    there = x[0] != 0

    def objective(w0, w, V):
        penalty = 0.015 * (w[there] ** 2).sum() + 0.025 * (V[there] ** 2).sum()
        return loss_value(loss, naive(x, w0, w, V), target)[0] + penalty

    def slope(part, at, h=1e-6):
        values = []
        for sign in (1, -1):
            model = [np.array(x) for x in (before.intercept, before.weights, before.factors)]
            model[part][at] += sign * h
            values.append(objective(*model))
        return (values[0] - values[1]) / (2 * h)

    def same(moved, wanted):
        np.testing.assert_allclose(moved / 1e-3, wanted, rtol=1e-6, atol=1e-8)

    same(before.intercept - after.intercept, slope(0, ()))
    same(before.weights - after.weights, [slope(1, j) for j in range(12)])
    slopes = [[slope(2, (j, f)) for f in range(3)] for j in range(12)]
    same(before.factors - after.factors, slopes)


def reference(s, state, dense, y, weights):
    """SGD with AdaGrad sums, a row after the other, in NumPy."""
    w0, w, V = state.intercept, state.weights.copy(), state.factors.copy()
    p_unit, d_unit = state.units.prediction, state.units.derivative
    G0, Gw = d_unit**2, np.full(len(w), d_unit**2)
    GV = np.full(V.shape, d_unit**2 * p_unit)
    step_w, step_V = s.step * p_unit, s.step * np.sqrt(p_unit)
    for _ in range(s.epochs):
        for x, target, weight in zip(dense, y, weights, strict=True):
            z = x @ V
            p = w0 + x @ w + ((z**2).sum() - (x**2 @ V**2).sum()) / 2
            if s.loss == "logistic":
                g = -target / (1 + np.exp(target * p)) * weight
            else:
                g = (p - target) * weight
            there = x != 0
            gw = (g * x + s.l2_weight * w) * there
            gV = (g * (np.outer(x, z) - x[:, None] ** 2 * V) + s.l2_factor * V) * there[:, None]
            if s.adaptive:
                G0, Gw, GV = G0 + g**2, Gw + gw**2, GV + gV**2
                w0 -= step_w * g / np.sqrt(G0)
                w, V = w - step_w * gw / np.sqrt(Gw), V - step_V * gV / np.sqrt(GV)
            else:
                w0 -= step_w / d_unit * g
                w, V = w - step_w / d_unit * gw, V - s.step / d_unit * gV
    return w0, w, V


@pytest.mark.parametrize("adaptive", [True, False])
@pytest.mark.parametrize("loss", ["squared", "logistic"])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_epochs_are_those_of_a_plain_reference(adaptive, loss, dtype):
    dense, y = make(150, labels=loss == "logistic")
    weights = np.random.default_rng(5).choice([0.5, 1.0, 2.0], len(y))
    s = settings(adaptive=adaptive, loss=loss, epochs=3, step=0.02, rank=5)
    units = Units.of(s, float(np.std(y))) if loss == "squared" else Units()
    if loss == "squared":
        assert units == Units(np.std(y), np.std(y))
    state = state_of(s, 12, dtype, units=units)
    wanted = reference(s, state, dense, y, weights)
    result = train(s, state, dense, y, weights)
    assert result.status == "finished" and result.rows == 450 and result.epochs == 3
    near = {"rtol": 2e-4, "atol": 2e-5} if dtype == "f4" else {"rtol": 1e-11, "atol": 1e-12}
    np.testing.assert_allclose(state.intercept, wanted[0], **near)
    np.testing.assert_allclose(state.weights, wanted[1], **near)
    np.testing.assert_allclose(state.factors, wanted[2], **near)


@pytest.mark.parametrize("n", [1, 7, 8, 63, 64, 65, 500])
@pytest.mark.parametrize("shuffle", [True, False])
def test_every_row_once_an_epoch(n, shuffle):
    """Columns of one row each: a plain step from 0 is step * y, whenever it is."""
    s = settings(adaptive=False, shuffle=shuffle, fit_intercept=False, l2_weight=0, l2_factor=0)
    state = State(n, 3, False, np.dtype("f8"))
    train(dataclasses.replace(s, init_stdev=0.0), state, np.eye(n), np.arange(n) + 1.0)
    np.testing.assert_array_equal(state.weights, 0.1 * (np.arange(n) + 1.0))


def test_orders_differ_between_epochs_and_seeds():
    dense, y = make(300)

    def model(epochs=1, **more):
        s = settings(shuffle=True, epochs=epochs, **more)
        state = state_of(s, 12)
        train(s, state, dense, y)
        return state

    same = model(2)
    np.testing.assert_array_equal(same.rows, model(2).rows)
    assert (same.rows != model(2, seed=1).rows).any()
    going_on = model(1)
    train(settings(shuffle=True), going_on, dense, y)
    np.testing.assert_array_equal(going_on.rows, same.rows)
    assert going_on.epochs == 2


@pytest.mark.parametrize("isa", ["base", "avx2", "avx512"])
def test_instruction_sets_have_the_same_bits(isa):
    if isa not in fastopt.isa_available():
        pytest.skip(f"no {isa} here")
    dense, y = make(200)

    def model():
        s = settings(shuffle=True, epochs=2, rank=20)
        state = state_of(s, 12, "f4")
        train(s, state, dense, y)
        return state.rows.copy()

    now = fastopt.get_isa()
    wanted = model()
    try:
        fastopt.set_isa(isa)
        np.testing.assert_array_equal(model(), wanted)
    finally:
        fastopt.set_isa(now)


def test_objective_is_that_of_the_documentation():
    dense, y = make(200)
    s = settings(epochs=2)
    state, other = state_of(s, 12), make(50, seed=3)
    held = Samples(csr(other[0]), s)
    held.native.target(other[1], None, 0, None)
    result = train(s, state, dense, y, track=True, validation=held)
    model = state.intercept, state.weights, state.factors
    there = dense != 0
    penalty = 0.015 * (there @ state.weights**2) + 0.025 * (there @ (state.factors**2).sum(1))
    wanted = ((naive(dense, *model) - y) ** 2 / 2 + penalty).mean()
    assert result.history[-1]["objective"] == pytest.approx(wanted, rel=1e-12)
    wanted = ((naive(other[0], *model) - other[1]) ** 2 / 2).mean()
    assert result.history[-1]["validation_loss"] == pytest.approx(wanted, rel=1e-12)
    assert [r["epoch"] for r in result.history] == [1, 2]


def test_schedules_set_the_step_of_epochs():
    dense, y = make(50)
    for name, factors in (
        ("constant", [1, 1, 1]),
        ("epoch_decay", [1, 0.8, 0.64]),
        ("inverse", [1, 0.8, 2 / 3]),
    ):
        s = settings(schedule=name, decay=0.8, epochs=3)
        result = train(s, state_of(s, 12), dense, y)
        assert [r["step"] for r in result.history] == pytest.approx([0.1 * f for f in factors])


def test_columns_that_no_row_has_stay_0_and_others_begin_at_random():
    dense, _ = make(100)
    dense[:, 4] = 0
    state = State(12, 40, True, np.dtype("f8"), Units(4.0, 4.0))
    state.begin((dense != 0).sum(0), 0.5, np.random.default_rng(0))
    assert not state.factors[4].any()
    drawn = np.delete(state.factors, 4, axis=0)
    assert drawn.std() == pytest.approx(0.5 * math.sqrt(4.0), rel=0.1)
    kept = state.factors.copy()
    state.begin(np.ones(12, int), 0.5, np.random.default_rng(1))
    assert state.factors[4].all()
    np.testing.assert_array_equal(np.delete(state.factors, 4, 0), np.delete(kept, 4, 0))


def test_the_best_epoch_is_taken():
    dense, y = make(100)
    s = settings(epochs=40, step=2.0, l2_factor=0.0, shuffle=True)
    result = train(s, state_of(s, 12), dense, y, watch=Watch(1e-3, 3))
    objectives = [r["objective"] for r in result.history]
    assert result.best_epoch == 1 + int(np.argmin(objectives))
    model = result.state.intercept, result.state.weights, result.state.factors
    there = dense != 0
    penalty = 0.015 * (there @ result.state.weights**2)
    wanted = ((naive(dense, *model) - y) ** 2 / 2 + penalty).mean()
    assert min(objectives) == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize("threads", [2, 3])
def test_threads_learn_as_well(need_threads, monkeypatch, threads):
    monkeypatch.setattr(run, "WORK_PER_THREAD", 1)
    r = np.random.default_rng(0)
    dense = (r.random((4000, 60)) < 0.1).astype("f8")
    v = r.normal(size=(60, 2))
    y = ((dense @ v) ** 2 - dense**2 @ v**2).sum(1) / 2
    objectives = []
    for count in (1, threads):
        s = settings(shuffle=True, epochs=30, threads=count, rank=4, l2_factor=1e-4, l2_weight=1e-4)
        result = train(s, State(60, 4, True, np.dtype("f4"), Units.of(s, y.std())), dense, y,
                       track=True)  # fmt: skip
        assert result.threads == count
        objectives.append(result.history[-1]["objective"])
    assert objectives[0] < 0.05 * y.var() / 2
    assert objectives[1] < 1.2 * objectives[0] + 1e-3


def test_callback_stops_and_sees_progress():
    dense, y = make(200)
    seen = []

    def callback(progress):
        seen.append(progress)
        return len(seen) == 3

    s = settings(epochs=100_000_000, shuffle=True)
    result = train(s, state_of(s, 12), dense, y, callback=callback)
    assert result.status == "stopped" and len(seen) == 3
    assert seen[-1].rows_done <= result.rows and seen[-1].nnz_per_second > 0
    s = settings(epochs=2)
    train(s, state_of(s, 12), dense, y, callback=seen.append)
    assert (seen[-1].epoch, seen[-1].epochs, seen[-1].rows_done) == (2, 2, 400)


def test_the_time_budget_ends_training():
    dense, y = make(200)
    s = settings(epochs=100_000_000, shuffle=True)
    result = train(s, state_of(s, 12), dense, y, deadline=time.perf_counter() + 0.1)
    assert result.message == "the time budget is used up" and result.status == "finished"


def test_ctrl_c_leaves_a_model():
    dense, y = make(2000)
    s = settings(epochs=100_000_000, shuffle=True)
    timer = threading.Timer(0.2, lambda: signal.raise_signal(signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt) as caught:
        train(s, state_of(s, 12), dense, y)
    result = caught.value.result
    assert result.status == "interrupted" and result.rows > 0 and result.state.finite()


def test_divergence_is_told():
    dense, y = make(200)
    s = settings(adaptive=False, step=1e3, epochs=50)
    result = train(s, state_of(s, 12), dense, y)
    assert result.status == "diverged" and "give a step below 1e+03" in result.message


def test_memory_is_asked_for(monkeypatch):
    monkeypatch.setattr(memory, "available", lambda: 1e8)
    with pytest.raises(MemoryError, match="a factorization machine of 1,000,000 columns needs"):
        State(1_000_000, 16, True, np.dtype("f4"))


def test_the_native_side_checks_what_it_is_given():
    dense, y = make(20)
    X = csr(dense)
    samples = _core.Samples(X.data, X.indices, X.indptr, X.shape, 1)
    state = state_of(settings(), 12)

    def native(rank=8, rows=state.rows, extra=state.extra):
        return _core.FactorizationMachine(
            samples, "squared", 0.1, rank, rows, extra, True, 0.0, 1.0, True, 0
        )

    with pytest.raises(ValueError, match="rank must be a multiple of 8 up to 256"):
        native(rank=3)
    with pytest.raises(ValueError, match="rows must be d with 192 numbers"):
        native(rows=state.rows[:-1].copy())
    with pytest.raises(ValueError, match="extra must be d with 24 numbers"):
        native(extra=np.zeros(24, "f4"))
    with pytest.raises(ValueError, match="y is not set"):
        native().slice(0, 1, 1)
    samples.target(y, None, 0, None)
    with pytest.raises(ValueError, match="start must not be negative"):
        native().slice(2, 1, 1)
    with pytest.raises(ValueError, match="trains is False"):
        state.native(samples, settings(), False).slice(0, 1, 1)
    with pytest.raises(ValueError, match="out must have 20 numbers"):
        native().predict(samples, np.empty(3), 1)
    narrow = csr(dense[:, :5])
    narrow = _core.Samples(narrow.data, narrow.indices, narrow.indptr, narrow.shape, 1)
    with pytest.raises(ValueError, match="must have the model's dtype and columns"):
        native().predict(narrow, np.empty(20), 1)
    with pytest.raises(ValueError, match="counts must have 12 numbers"):
        _core.count_columns(samples, np.zeros(5, "i8"))


def test_reasons_for_one_thread(need_threads):
    r = np.random.default_rng(0)
    free = settings(fixed=False, threads=4, rank=256)
    dense, _ = make(50)
    threads, why = Samples(csr(dense), free).threads(free)
    assert threads == 1 and "too few" in why
    threads, why = Samples(csr(r.normal(size=(3000, 10))), free).threads(free)
    assert threads == 1 and "in 100% of all rows" in why
    X = SimpleNamespace(
        data=np.ones(200_000), indices=r.integers(0, 10_000, 200_000).astype("i4"),
        indptr=np.arange(0, 200_001, 10), shape=(20_000, 10_000),
    )  # fmt: skip
    assert Samples(X, free).threads(free)[0] == 4
    fixed = settings(threads=3, rank=16)
    assert Samples(X, fixed).threads(fixed) == (3, "asked for")


@pytest.mark.parametrize("classes", [None, ["no", "yes"], [1, 2, 5]])
def test_a_saved_model_predicts_the_same(tmp_path, classes):
    dense, _ = make(30)
    r = np.random.default_rng(0)
    K = 3 if classes and len(classes) == 3 else 1
    model = models.FMModel(
        r.normal(size=(K, 12)), r.normal(size=K), None if classes is None else np.array(classes),
        {"loss": "logistic"}, V=r.normal(size=(K, 12, 4)),
    )  # fmt: skip
    path = tmp_path / "model.npz"
    models.save(path, model)
    again = models.load(path)
    X = csr(np.hstack([dense, np.ones((30, 2))]))  # two columns past the model's
    X = CSR(X.data, X.indices, X.indptr, X.shape)
    wanted = np.stack(
        [naive(dense, b, w, V) for b, w, V in zip(model.b, model.W, model.V, strict=True)], 1
    )
    np.testing.assert_allclose(again.decision(X), wanted, rtol=1e-12, atol=1e-12)
    labels = model.predict(X)
    np.testing.assert_array_equal(again.predict(X), labels)
    if classes:
        assert set(labels) <= set(classes)
    assert again.decision(CSR(X.data[:0], X.indices[:0], X.indptr[:1], (0, 12))).shape == (0, K)


def test_files_that_are_no_model_are_refused(tmp_path):
    path = tmp_path / "model.npz"
    linear.save(path, linear.LinearModel(np.zeros((1, 3)), np.zeros(1), None, {"loss": "squared"}))
    with pytest.raises(ValueError, match=r"model\.npz"):
        models.load(path)
    bad = models.FMModel(
        np.zeros((1, 3)), np.zeros(1), None, {"loss": "squared"}, V=np.zeros((1, 2, 4))
    )
    models.save(path, bad)
    with pytest.raises(ValueError, match="do not make a factorization machine"):
        models.load(path)
