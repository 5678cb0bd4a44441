"""The lock-free runner: what it computes, what it refuses, how it stops."""

from __future__ import annotations

import signal
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest

import fastopt
from fastopt.sparse import evaluation, runner
from fastopt.sparse.one_vs_rest import one_vs_rest
from fastopt.sparse.rows import SCHEDULES, Rows, Settings, Targets, targets

OF_CLASSES = ("hinge", "logistic", "squared_hinge", "modified_huber", "perceptron")
OF_NUMBERS = (
    "squared",
    "huber",
    "epsilon_insensitive",
    "squared_epsilon_insensitive",
    "quantile",
    "poisson",
)
LOSSES = (*OF_CLASSES, *OF_NUMBERS)
EPSILON, QUANTILE = 0.3, 0.8
BLOCK = 64


def make(n=300, d=20, seed=0, dtype="f8", index="i4", pointer="i8", labels=True):
    """Random rows, some of them without features; every fourth column is frequent."""
    r = np.random.default_rng(seed)
    dense = r.normal(size=(n, d)) * (r.random((n, d)) < np.where(np.arange(d) % 4, 0.15, 0.7))
    dense[r.random(n) < 0.1] = 0
    rows, columns = np.nonzero(dense)
    X = SimpleNamespace(
        data=dense[rows, columns].astype(dtype),
        indices=columns.astype(index),
        indptr=np.searchsorted(rows, np.arange(n + 1)).astype(pointer),
        shape=(n, d),
    )
    y = dense @ r.normal(size=d) + 0.5 * r.normal(size=n) + 0.3
    return X, (np.where(y > 0, 1.0, -1.0) if labels else y), dense


def targets_for(loss, y):
    """Make targets that a loss takes of numbers."""
    if loss in OF_CLASSES:
        return np.where(y > 0, 1.0, -1.0)
    return np.round(np.exp(y / 4)) if loss == "poisson" else y


def loss_value(loss, p, y):
    return {
        "hinge": lambda: np.maximum(0, 1 - y * p),
        "logistic": lambda: np.logaddexp(0, -y * p),
        "squared": lambda: (p - y) ** 2 / 2,
        "squared_hinge": lambda: np.maximum(0, 1 - y * p) ** 2,
        "modified_huber": lambda: np.where(y * p >= -1, np.maximum(0, 1 - y * p) ** 2, -4 * y * p),
        "perceptron": lambda: np.maximum(0, -y * p),
        "huber": lambda: np.where(
            np.abs(p - y) <= EPSILON, (p - y) ** 2 / 2, EPSILON * (np.abs(p - y) - EPSILON / 2)
        ),
        "epsilon_insensitive": lambda: np.maximum(0, np.abs(p - y) - EPSILON),
        "squared_epsilon_insensitive": lambda: np.maximum(0, np.abs(p - y) - EPSILON) ** 2,
        "quantile": lambda: np.maximum(QUANTILE * (y - p), (QUANTILE - 1) * (y - p)),
        "poisson": lambda: np.exp(p) - y * p,
    }[loss]()


def loss_derivative(loss, p, y):
    r = p - y
    return {
        "hinge": lambda: -y if y * p < 1 else 0.0,
        "logistic": lambda: -y / (1 + np.exp(y * p)),
        "squared": lambda: r,
        "squared_hinge": lambda: -2 * y * max(0, 1 - y * p),
        "modified_huber": lambda: -4 * y if y * p < -1 else -2 * y * max(0, 1 - y * p),
        "perceptron": lambda: -y if y * p <= 0 else 0.0,
        "huber": lambda: min(max(r, -EPSILON), EPSILON),
        "epsilon_insensitive": lambda: np.sign(r) * (abs(r) > EPSILON),
        "squared_epsilon_insensitive": lambda: 2 * np.sign(r) * max(0, abs(r) - EPSILON),
        "quantile": lambda: -QUANTILE if r < 0 else 1 - QUANTILE if r > 0 else 0.0,
        "poisson": lambda: np.exp(p) - y,
    }[loss]()


def total_step(schedule, step, l2, decay, n, row):
    """The integral of the step size from row 0 to a row."""
    if schedule == "inverse_time":
        return np.log1p(step * l2 * row) / l2
    if schedule == "constant":  # so that exp(-l2 * sum) is (1 - l2 * step)^row
        return -np.log1p(-l2 * step) / l2 * row
    if schedule == "power":  # step / sqrt(t), t from 1, as the integral around each t
        return 2 * step * (np.sqrt(row + 0.5) - np.sqrt(0.5))
    epoch = int(row // n)
    return step * (n * sum(decay**e for e in range(epoch)) + decay**epoch * (row - epoch * n))


def reference(dense, y, loss, l2, epochs, step, schedule, decay):
    """Plain SGD over the rows in order, with one step size per block of 64 rows."""
    n, d = dense.shape
    blocks = (n + 2 * (BLOCK - 1)) // BLOCK
    w, b = np.zeros(d), 0.0
    gain = np.square(dense[dense != 0]).mean()  # the intercept is a column of the others' size
    for block in range(epochs * blocks):
        t, end = block * n / blocks, (block + 1) * n / blocks
        mean = (
            total_step(schedule, step, l2, decay, n, end)
            - total_step(schedule, step, l2, decay, n, t)
        ) / (end - t)
        eta = step if schedule == "constant" else -np.expm1(-l2 * mean) / l2
        keep = 1 - eta * l2
        eta = mean if schedule == "power" else eta
        first = block % blocks * BLOCK
        for i in range(first, min(first + BLOCK, n)):
            g = loss_derivative(loss, dense[i] @ w + b, y[i])
            w = keep * w - eta * g * dense[i]
            b -= gain * eta * g
    return w, b


def in_order(X, y, **settings):
    """Train with rows in the data's order."""
    checked = Settings.check(
        mode="serial",
        fit_intercept=True,
        average=False,
        threads=1,
        seed=0,
        shuffle=False,
        **settings,
    )
    rows = Rows(X, checked)
    target = targets(y, rows.n, rows.dtype, checked.loss)
    w0 = np.zeros(rows.samples.columns, rows.dtype)
    return runner.solve(rows, Targets(rows, y=target), w0, 0.0)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize(
    ("dtype", "index", "pointer"),
    [("f8", "i4", "i4"), ("f8", "i8", "i4"), ("f8", "i4", "i8"), ("f4", "i8", "i8")],
)
def test_serial_is_plain_sgd(loss, schedule, dtype, index, pointer):
    X, y, dense = make(dtype=dtype, index=index, pointer=pointer, labels=False)
    y = targets_for(loss, y).astype(dtype).astype("f8")
    same = {"loss": loss, "l2": 0.01, "epochs": 3, "step": 0.05, "schedule": schedule, "decay": 0.9}
    result = in_order(X, y, **same, epsilon=EPSILON, quantile=QUANTILE)
    w, b = reference(dense.astype(dtype).astype("f8"), y, **same)
    tolerance = 1e-11 if dtype == "f8" else 1e-4
    assert result.w.dtype == np.dtype(dtype)
    np.testing.assert_allclose(result.w, w, rtol=tolerance, atol=tolerance)
    assert result.intercept == pytest.approx(b, rel=tolerance)


@pytest.mark.parametrize("mode", ["serial", "copies", "shared"])
@pytest.mark.parametrize("n", [1, 2, 63, 64, 65, 1000])
def test_every_row_once_an_epoch(mode, n):
    """Row i alone has column i, so w says how often it was trained on."""
    X = SimpleNamespace(
        data=np.ones(n), indices=np.arange(n), indptr=np.arange(n + 1), shape=(n, n)
    )
    y = np.arange(1.0, n + 1)
    result = fastopt.hogwild(
        X, y, loss="squared", l2=0, epochs=1, step=0.5, schedule="constant", mode=mode,
        threads=1 if mode == "serial" else 2, fit_intercept=False, average=False,
    )  # fmt: skip
    assert result.rows == n
    if mode == "copies":  # merges take a share, and two at once can lose some columns
        assert (result.w > 0).mean() > 0.8 and (result.w <= 0.5 * y * (1 + 1e-12)).all()
    else:
        np.testing.assert_allclose(result.w, 0.5 * y, rtol=1e-12)


@pytest.mark.parametrize("mode", ["serial", "copies", "shared"])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_l2_is_exact(mode, schedule):
    """Where the loss is flat, only L2 acts, on columns without values too."""
    rows, d, step, epochs = 4096, 7, 0.1, 3
    l2 = 0.002 if mode == "copies" else 0.02
    X = SimpleNamespace(
        data=np.ones(rows),
        indices=np.zeros(rows, "i4"),
        indptr=np.arange(rows + 1),
        shape=(rows, d),
    )
    w0 = np.full(d, 1e12)
    result = fastopt.hogwild(
        X, np.ones(rows), loss="hinge", l2=l2, epochs=epochs, step=step, schedule=schedule,
        mode=mode, threads=1 if mode == "serial" else 2, average=False, w0=w0,
    )  # fmt: skip
    shrunk = l2 * total_step(schedule, step, l2, 0.9, rows, epochs * rows)
    expected = 1e12 * np.exp(-shrunk)
    assert expected > 1
    if mode == "copies":  # of two merges at once, one may lose what it shrank in some columns
        assert (result.w > 0.98 * expected).all()
        assert (result.w[1:] < 1e12 * np.exp(-0.6 * shrunk)).all()
    else:
        np.testing.assert_allclose(result.w, expected, rtol=0.02)
        assert np.ptp(result.w[1:]) == 0
    np.testing.assert_array_equal(w0, 1e12)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_objective(loss, dtype):
    X, y, dense = make(n=1000, dtype=dtype, labels=False)
    y = targets_for(loss, y)
    options = {"loss": loss, "l2": 0.3, "epsilon": EPSILON, "quantile": QUANTILE}
    r = np.random.default_rng(1)
    w, weight = r.normal(size=20).astype(dtype), r.random(1000)
    value = loss_value(loss, dense.astype(dtype).astype("f8") @ w + 0.2, y.astype(dtype))
    got = evaluation.objective(X, y, w, 0.2, **options, sample_weight=weight)
    assert got == pytest.approx(
        np.average(value, weights=weight) + 0.15 * np.square(w, dtype="f8").sum(), rel=1e-6
    )
    assert got == evaluation.objective(X, y, w, 0.2, **options, sample_weight=weight, threads=1)


@pytest.mark.parametrize("loss", LOSSES)
def test_derivatives_are_those_of_the_values(loss):
    """A step of one row without penalty moves b by -step times the numerical derivative."""
    h, step = 1e-6, 0.25
    r = np.random.default_rng(3)
    X = SimpleNamespace(
        data=np.array([1.0]), indices=np.array([0]), indptr=np.array([0, 1]), shape=(1, 1)
    )
    options = {"epsilon": EPSILON, "quantile": QUANTILE, "loss": loss, "threads": 1}
    for p in r.normal(size=30) * 2:
        y = float(targets_for(loss, r.normal(size=1) * 2)[0])
        up, down = (evaluation.objective(X, [y], [p + e], **options) for e in (h, -h))
        moved = fastopt.hogwild(
            X, [y], w0=[p], l2=0, epochs=1, step=step, schedule="constant", average=False,
            fit_intercept=False, **options,
        )  # fmt: skip
        assert (p - moved.w[0]) / step == pytest.approx((up - down) / (2 * h), rel=1e-5, abs=1e-7)


def test_objective_of_large_margins():
    X = SimpleNamespace(data=np.array([1e6, -1e6]), indices=np.array([0, 0]),
                        indptr=np.array([0, 1, 2]), shape=(2, 1))  # fmt: skip
    assert evaluation.objective(X, [1, 1], [1.0], loss="logistic") == pytest.approx(5e5)


def test_margins():
    X, _, dense = make()
    W = np.random.default_rng(2).normal(size=(3, 20))
    np.testing.assert_allclose(evaluation.margins(X, W, [1, 2, 3]), dense @ W.T + [1, 2, 3])
    np.testing.assert_allclose(evaluation.margins(X, W[0], 1), dense @ W[0] + 1)


@pytest.mark.parametrize("isa", fastopt.isa_available())
def test_one_thread_gives_the_same_bits(isa):
    X, y, _ = make(n=5000, dtype="f4")
    before = fastopt.get_isa()
    plain = fastopt.hogwild(X, y, threads=1, seed=3)
    fastopt.set_isa(isa)
    try:
        again = fastopt.hogwild(X, y, threads=1, seed=3, track_objective=True)
    finally:
        fastopt.set_isa(before)
    np.testing.assert_array_equal(plain.w, again.w)
    assert plain.intercept == again.intercept
    assert not np.array_equal(plain.w, fastopt.hogwild(X, y, threads=1, seed=4).w)


def native(X, y, mode, average=None, order="blocks", **more):
    """A run below the Python layer, so that a test decides where slices end."""
    options = {"schedule": "constant", "l2": 1e-2, "step": 0.1, "workers": 1, "intercept": True}
    options |= more
    checked = Settings.check(
        loss="logistic", l2=options["l2"], epochs=1, step=options["step"], decay=0.9, seed=3,
        schedule=options["schedule"], mode="serial", fit_intercept=options["intercept"],
        average=False, threads=1,
    )  # fmt: skip
    rows = Rows(X, checked)
    Targets(rows, y=targets(y, rows.n, rows.dtype, "logistic")).give(rows.samples)
    w = np.zeros(X.shape[1], rows.dtype)
    h, h_intercept = rows.curvature() if mode != "serial" else (None, 0.0)
    run = fastopt._core.Hogwild(
        rows.samples, "logistic", 0.0, mode, options["schedule"], order, options["workers"],
        rows.gain, options["l2"], options["step"], 0.9, 3, 512, w, 0.0, h, h_intercept,
        average, None, options["l2"],
    )  # fmt: skip
    return run, w


def test_bits_do_not_depend_on_slices():
    X, y, _ = make(n=20_000)
    seen = set()
    for size in (1, 3, 7, 400):
        average = np.zeros(20)
        run, w = native(X, y, "serial", average, "turns", l2=1e-3)
        for start in range(0, 2 * run.batches, size):
            run.slice(start, min(start + size, 2 * run.batches), 1)
            if size == 7 and start == 4 * 7:
                run.settle()  # where a slice happens to end, the scale may be multiplied in
        run.settle()
        assert run.averaged
        if size != 7:
            seen.add((w.tobytes(), average.tobytes()))
    assert len(seen) == 1


@pytest.mark.parametrize(("schedule", "step"), [("constant", 0.1), ("epoch_decay", 1.0)])
def test_a_shared_scale_never_gets_too_small(schedule, step):
    X, y, _ = make(n=30_000)
    objectives = []
    for mode in ("serial", "shared"):
        result = fastopt.hogwild(
            X, y, l2=1e-2, step=step, schedule=schedule, mode=mode, threads=2, epochs=3,
            track_objective=True,
        )  # fmt: skip
        assert result.status == "finished"
        objectives.append(result.history[-1]["objective"])
    assert objectives[1] == pytest.approx(objectives[0], rel=0.1)


def test_the_average_of_a_shared_model_has_its_size():
    X, y, _ = make(n=20_000)
    average = np.zeros(20)
    run, w = native(X, y, "shared", average, l2=1e-2, step=0.05)
    run.slice(0, run.batches, 1)
    run.settle()
    assert np.linalg.norm(average) == pytest.approx(np.linalg.norm(w), rel=0.2)


def test_targets_that_fail_leave_the_old_ones():
    X, y, _ = make()
    samples = fastopt._core.Samples(X.data, X.indices, X.indptr, X.shape, 1)
    samples.target(y.copy(), None, 0, None)
    before = samples.loss("logistic", 0.0, np.zeros(20), 0.5, 1)
    with pytest.raises(ValueError, match="sample_weight must have 300"):
        samples.target(-y, None, 0, np.ones(3))
    assert samples.loss("logistic", 0.0, np.zeros(20), 0.5, 1) == before
    with pytest.raises(ValueError, match="does not fit h and copies"):
        native(X, y, "copies")


@pytest.mark.parametrize("mode", ["copies", "shared"])
@pytest.mark.parametrize("loss", LOSSES)
def test_many_workers_reach_what_one_reaches(mode, loss):
    X, y, _ = make(n=20_000, labels=False)
    y = targets_for(loss, y)
    one = fastopt.hogwild(X, y, loss=loss, l2=1e-3, threads=1, track_objective=True, epochs=30)
    for threads, more in ((2, 0.01), (16, 0.05)):  # 16 on fewer cores: workers far behind
        many = fastopt.hogwild(
            X, y, loss=loss, l2=1e-3, threads=threads, mode=mode, track_objective=True, epochs=30
        )
        most = (1 + more) * one.history[-1]["objective"] + 1e-12  # perceptron's optimum is w = 0
        assert many.history[-1]["objective"] <= most, threads
        assert many.rows == one.rows == 30 * 20_000
        assert many.nnz == one.nnz == 30 * len(X.data)


@pytest.mark.parametrize("loss", LOSSES)
def test_sorted_rows_train_as_well(loss):
    X, y, dense = make(n=20_000, labels=False)
    y = targets_for(loss, y)
    objectives = []
    for order in (np.arange(20_000), np.argsort(y, kind="stable")):
        rows, columns = np.nonzero(dense[order])
        Z = SimpleNamespace(
            data=dense[order][rows, columns], indices=columns.astype("i4"),
            indptr=np.searchsorted(rows, np.arange(20_001)), shape=X.shape,
        )  # fmt: skip
        result = fastopt.hogwild(Z, y[order], loss=loss, threads=1, track_objective=True)
        objectives.append(result.history[-1]["objective"])
        assert result.order == ("turns" if objectives[1:] else "blocks")
    assert objectives[1] == pytest.approx(objectives[0], rel=0.01)


@pytest.mark.parametrize("order", ["blocks", "turns", "sequential"])
@pytest.mark.parametrize("n", [1, 64, 65, 511, 512, 513, 3000])
def test_every_row_once_in_every_order(order, n):
    X = SimpleNamespace(
        data=np.ones(n), indices=np.arange(n), indptr=np.arange(n + 1), shape=(n, n)
    )
    run, w = native(X, np.ones(n), "serial", None, order, l2=0.0, intercept=False)
    run.slice(0, run.batches, 1)
    run.settle()
    assert run.done() == (n, n) and np.allclose(w, 0.05, rtol=1e-12)


def test_mode_and_reason():
    X, y, _ = make(n=20_000)
    if fastopt._core.openmp() == "none":
        result = fastopt.hogwild(X, y, threads=2, epochs=1)
        assert (result.mode, result.threads) == ("serial", 1) and "OpenMP" in result.reason
        return
    result = fastopt.hogwild(X, y, threads=1, epochs=1)
    assert (result.mode, result.reason) == ("serial", "one thread")
    few, y_few, _ = make(n=300)
    result = fastopt.hogwild(few, y_few, threads=2, epochs=1)
    assert (result.mode, result.threads) == ("serial", 1) and "300 rows" in result.reason
    result = fastopt.hogwild(X, y, threads=2, epochs=1)
    assert (result.mode, result.threads) == ("copies", 2)
    X.shape = (20_000, 1_000_000)
    result = fastopt.hogwild(X, y, threads=2, epochs=1)
    assert result.mode == "shared" and "1000000 columns" in result.reason


def test_weights_are_relative_and_zero_means_absent():
    X, y, _ = make(n=2000)
    plain = fastopt.hogwild(X, y, threads=1)
    np.testing.assert_array_equal(
        plain.w, fastopt.hogwild(X, y, threads=1, sample_weight=np.full(2000, 7)).w
    )
    weight = np.ones(2000)
    weight[y > 0] = 0
    assert fastopt.hogwild(X, y, threads=1, sample_weight=weight, epochs=50).intercept < -1


def test_start_and_no_epochs():
    X, y, _ = make()
    w0 = np.arange(20.0)
    result = fastopt.hogwild(X, y, w0=w0, intercept0=2, epochs=0)
    np.testing.assert_array_equal(result.w, w0)
    assert (result.intercept, result.rows, result.status) == (2, 0, "finished")
    result.w[:] = 0
    assert w0[1] == 1


def test_intercept_can_be_left_out():
    X, y, _ = make()
    assert fastopt.hogwild(X, y, fit_intercept=False).intercept == 0


def test_only_empty_rows():
    X = SimpleNamespace(data=np.empty(0, "f4"), indices=np.empty(0, "i4"),
                        indptr=np.zeros(6, "i4"), shape=(5, 3))  # fmt: skip
    result = fastopt.hogwild(X, [1, 1, 1, 1, -1], l2=0.1, epochs=2000)
    assert result.intercept == pytest.approx(np.log(4), rel=0.02) and not result.w.any()


def test_unscaled_columns():
    """The automatic step copes with values of any size."""
    for scale in (0.1, 1, 1e4):
        X, y, _ = make(n=2000)
        X.data *= scale
        result = fastopt.hogwild(X, y, l2=1e-4 * scale**2, epochs=30, track_objective=True)
        assert result.history[-1]["objective"] < 0.6, scale


@pytest.mark.parametrize(("dtype", "size"), [("f4", 1e20), ("f8", 1e200)])
def test_values_that_no_step_fits_are_refused(dtype, size):
    X, y, _ = make(dtype=dtype)
    X.data *= X.data.dtype.type(size)
    with pytest.raises(ValueError, match="scale the columns of X"):
        fastopt.hogwild(X, y, l2=0.0)


def test_one_vs_rest():
    X, _, dense = make(n=3000)
    codes = dense @ np.random.default_rng(5).normal(size=(20, 3))
    codes = codes.argmax(1)
    settings = Settings.check(
        loss="logistic", l2=1e-4, epochs=5, step="auto", schedule="inverse_time", decay=0.9,
        mode="serial", fit_intercept=True, average=True, threads=1, seed=0,
    )  # fmt: skip
    out = one_vs_rest(X, codes, 3, settings)
    for k in range(3):
        alone = fastopt.hogwild(X, np.where(codes == k, 1, -1), epochs=5, threads=1)
        np.testing.assert_array_equal(out.W[k], alone.w)
        assert out.b[k] == alone.intercept
    two = one_vs_rest(X, codes == 2, 2, settings)
    np.testing.assert_array_equal(two.W, out.W[2:])
    with pytest.raises(ValueError, match=r"codes must lie in 0\.\.1"):
        one_vs_rest(X, codes, 2, settings)
    with pytest.raises(ValueError, match="codes must be 3000 integers"):
        one_vs_rest(X, codes[1:], 3, settings)


BAD = [
    ({"loss": "hing"}, ValueError, "loss must be one of 'hinge', 'logistic', 'squared'"),
    ({"schedule": "x"}, ValueError, "schedule must be one of"),
    ({"mode": "fast"}, ValueError, "mode must be one of 'auto'"),
    ({"l2": -1}, ValueError, "l2 must be a number"),
    ({"l2": float("nan")}, ValueError, "l2 must be a number"),
    ({"l2": None}, TypeError, "l2 must be a number"),
    ({"epochs": -1}, ValueError, "epochs must be at least 0"),
    ({"epochs": 1.5}, TypeError, "epochs must be an integer"),
    ({"step": 0}, ValueError, "step must be a number"),
    ({"step": "big"}, ValueError, "step must be 'auto' or"),
    ({"step": 100.0, "l2": 0.1}, ValueError, r"step must be a number in \(0, 1\]"),
    ({"decay": 0}, ValueError, "decay must be a number"),
    ({"threads": 0}, ValueError, "threads"),
    ({"threads": 1.5}, TypeError, "threads"),
    ({"seed": -1}, ValueError, "seed must be at least 0"),
    ({"callback": 3}, TypeError, "callback must be callable"),
    ({"intercept0": np.inf}, ValueError, "intercept0"),
    ({"w0": np.zeros(3)}, ValueError, r"w0 must be one number per column of X, shape \(20,\)"),
    ({"w0": np.full(20, np.nan)}, ValueError, "w0 must be finite"),
    ({"sample_weight": np.ones(3)}, ValueError, "sample_weight must be one number per row"),
    ({"sample_weight": -np.ones(300)}, ValueError, "sample_weight must not be negative"),
    ({"sample_weight": np.zeros(300)}, ValueError, "sample_weight must not be"),
    ({"y": np.ones(3)}, ValueError, "y must be one number per row"),
    ({"y": np.zeros(300)}, ValueError, r"y must be -1 or \+1"),
    ({"y": np.full(300, np.nan), "loss": "squared"}, ValueError, "y must be finite"),
    ({"y": ["a"] * 300}, ValueError, "y must be one number per row"),
]


@pytest.mark.parametrize(("bad", "error", "message"), BAD)
def test_bad_arguments_are_named(bad, error, message):
    X, y, _ = make()
    with pytest.raises(error, match=message):
        fastopt.hogwild(X, bad.pop("y", y), **bad)


def changed(name, value):
    return lambda X: setattr(X, name, value(getattr(X, name)))


def put(name, at, value):
    def change(X):
        getattr(X, name)[at] = value

    return change


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (put("indices", 5, 20), ValueError, r"X.indices must lie in 0\.\.19; row \d+ has others"),
        (put("indices", 5, -1), ValueError, r"X.indices must lie in 0\.\.19; row \d+"),
        (put("data", 900, np.nan), ValueError, r"X.data must be finite: row \d+"),
        (put("data", 900, -np.inf), ValueError, r"X.data must be finite: row \d+"),
        (put("indptr", 7, 10_000), ValueError, "X.indptr must start at 0.*at row 6"),
        (put("indptr", 0, 1), ValueError, "X.indptr must start at 0.*at row 0"),
        (put("indptr", 4, 0), ValueError, "X.indptr must start at 0.*at row 3"),
        (changed("data", lambda a: a.astype("i4")), TypeError, "X.data must be float32 or float64"),
        (changed("data", lambda a: a.astype(">f8")), TypeError, "X.data must be float32"),
        (changed("indices", lambda a: a.astype("u4")), TypeError, "X.indices must be int32"),
        (changed("indices", lambda a: a[:-1]), ValueError, "X.indptr must start at 0"),
        (changed("indptr", lambda a: a.astype("f8")), TypeError, "X.indptr must be int32"),
        (changed("indptr", lambda a: a[:-1]), ValueError, r"X.indptr must have 300 \+ 1 numbers"),
        (
            changed("data", lambda a: np.repeat(a, 2)[::2]),
            ValueError,
            "X.data must be a contiguous",
        ),
        (changed("shape", lambda s: (0, 20)), ValueError, "at least one row"),
        (changed("shape", lambda s: (300, 0)), ValueError, "at least one row and one column"),
        (changed("shape", lambda s: (300,)), ValueError, "X must have two dimensions"),
        (lambda X: delattr(X, "indptr"), TypeError, "has no indptr"),
        (lambda X: setattr(X, "format", "csc"), TypeError, "X must be in CSR form, got 'csc'"),
    ],
)
@pytest.mark.parametrize("index", ["i4", "i8"])
def test_bad_rows_are_named(change, error, message, index):
    X, y, _ = make(index=index, pointer=index)
    change(X)
    with pytest.raises(error, match=message):
        fastopt.hogwild(X, y)


@pytest.mark.parametrize("threads", [1, 2])
def test_divergence_is_never_silent(threads):
    X, y, _ = make(n=10_000, labels=False)
    with pytest.warns(RuntimeWarning, match="diverged: the weights grew without bound in epoch 1"):
        result = fastopt.hogwild(
            X, y, loss="squared", l2=0, step=1e3, schedule="constant", threads=threads
        )
    assert result.status == "diverged" and "step below 1e+03" in result.message


def large():
    return make(n=60_000, d=30)[:2]


def test_callback_sees_progress_and_can_stop():
    X, y = large()
    seen = []
    result = fastopt.hogwild(
        X, y, epochs=10_000, threads=1, callback=lambda p: seen.append((time.perf_counter(), p))
        or len(seen) == 4,
    )  # fmt: skip
    times, records = zip(*seen, strict=True)
    assert result.status == "stopped" and len(seen) == 4 and np.isfinite(result.w).all()
    assert np.diff(times).min() >= 0.045  # 50 ms, by clocks read a little apart
    assert all(r.epochs == 10_000 and r.rows_total == 60_000 * 10_000 for r in records)
    assert np.diff([r.rows_done for r in records]).min() > 0
    assert records[-1].rows_done == result.rows and records[-1].nnz_per_second > 0
    assert len(result.history) == result.epochs == records[-1].epoch


def test_callback_error_propagates():
    X, y = large()

    def fail(progress):
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        fastopt.hogwild(X, y, epochs=10_000, callback=fail)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs POSIX timers")
@pytest.mark.parametrize("threads", [1, 2])
def test_interrupt_leaves_a_usable_model(threads):
    X, y = large()
    sent = []

    def interrupt(number, frame):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        sent.append(time.perf_counter() + 0.3)
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        with pytest.raises(KeyboardInterrupt) as caught:
            fastopt.hogwild(X, y, epochs=1_000_000, threads=threads)
        late = time.perf_counter() - sent[0]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    result = caught.value.result
    assert result.status == "interrupted" and result.rows > 0
    assert evaluation.objective(X, y, result.w, result.intercept) < 0.6
    assert late < 0.2


def test_other_threads_run_meanwhile():
    X, y = large()
    stop, count = threading.Event(), [0]

    def work():
        while not stop.is_set():
            count[0] += 1
            time.sleep(0.001)

    other = threading.Thread(target=work)
    other.start()
    try:
        result = fastopt.hogwild(X, y, epochs=50, threads=1)
        seen = count[0]
    finally:
        stop.set()
        other.join()
    assert seen > result.seconds / 0.020


def test_history_has_a_record_per_epoch():
    X, y, _ = make()
    result = fastopt.hogwild(X, y, epochs=7, track_objective=True)
    assert [r["epoch"] for r in result.history] == list(range(1, 8))
    assert [r["rows"] for r in result.history] == [300 * e for e in range(1, 8)]
    assert np.diff([r["seconds"] for r in result.history]).min() >= 0
    assert result.history[-1]["objective"] == pytest.approx(
        evaluation.objective(X, y, result.w, result.intercept, l2=1e-4), rel=1e-12
    )
    untracked = fastopt.hogwild(X, y, epochs=7)
    assert [r["epoch"] for r in untracked.history] == list(range(1, 8))
