"""factorize: what input it takes and refuses, how it goes on, and how it stops."""

from __future__ import annotations

import signal
import time
import tracemalloc
from types import SimpleNamespace

import numpy as np
import pytest
from test_factor import begin, make, mix, parts_of, rmse

import fastopt
from fastopt import _core, memory
from fastopt.factorization import completion, ratings
from fastopt.factorization.completion import factorize
from fastopt.factorization.factors import FactorizationResult

# ---- input ----


def off_by_one(x):
    """A copy that starts one byte after where its type should."""
    return np.frombuffer(b"\0" + x.tobytes(), x.dtype, offset=1).reshape(x.shape)


def frozen(x):
    x = x.copy()
    x.flags.writeable = False
    return x


def forms(X, y, shape):
    """The same ratings in the same order, in every form that has that order."""
    sparse = pytest.importorskip("scipy.sparse")
    coo = sparse.coo_matrix((y, X.T), shape)
    csr = coo.tocsr()
    table = np.zeros((len(X), 5), "i4")
    table[:, 1], table[:, 3] = X.T
    wide = SimpleNamespace(
        data=csr.data, indices=csr.indices.astype("i8"), indptr=csr.indptr.astype("i8"),
        shape=shape,
    )  # fmt: skip
    return {
        "csr": (csr, None), "csr_array": (sparse.csr_array(csr), None), "coo": (coo, None),
        "int64": (wide, None), "pairs of int32": (X.astype("i4"), y), "uint8": (X.astype("u1"), y),
        "strided": (table[:, 1::2], y), "list": (X.tolist(), y.tolist()),
        "Fortran": (np.asfortranarray(X), y), "strided y": (X, np.stack([y, y], 1)[:, 1]),
        "backwards": (X[::-1].copy()[::-1], y[::-1].copy()[::-1]),
        "not aligned": (off_by_one(X), off_by_one(y)), "big-endian": (X.astype(">i4"), y),
        "read-only": (frozen(X), frozen(y)),
    }  # fmt: skip


def test_all_forms_give_the_same_bits(monkeypatch):
    monkeypatch.setattr(ratings, "BLOCK_RATINGS", 16)
    X, y = make()
    same = {"epochs": 2, "random_state": 0, "validation_fraction": 0.1, "track_objective": True}
    plain = factorize(X, y, **same)
    for name, (Z, values) in forms(X, y, (60, 40)).items():
        result = factorize(Z, values, **same)
        assert result.user_factors.tobytes() == plain.user_factors.tobytes(), name
        assert result.history[-1]["objective"] == plain.history[-1]["objective"], name
        assert result.predict(Z).tobytes() == plain.predict(X).tobytes(), name


def test_columns_first_are_the_same_ratings():
    sparse = pytest.importorskip("scipy.sparse")
    X, y = make()
    csc = sparse.csc_matrix((y, X.T), (60, 40))
    result = factorize(csc, epochs=20, l2=0.01)
    assert result.user_factors.shape == (60, 16)
    assert rmse(result.predict(X), y) < 0.5 * y.std()
    wanted = sparse.csr_matrix((result.predict(csc), csc.indices, csc.indptr), (40, 60)).T
    np.testing.assert_array_equal(result.predict(X), wanted.tocsr().data)


@pytest.mark.parametrize("kind", ["i1", "u2", "i4", "i8", "f2", "f4", "f8", "?"])
def test_types_of_ratings(kind):
    X, y = make()
    y = (np.abs(y) > 1) if kind == "?" else np.abs(y * 10).round()
    wanted = factorize(X, y.astype("f8"), epochs=2, random_state=0)
    got = factorize(X, y.astype(kind), epochs=2, random_state=0)
    np.testing.assert_allclose(got.user_factors, wanted.user_factors, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("loss", ["logistic", "hinge"])
def test_labels_0_and_1_are_minus_and_plus(loss):
    X, y = make(loss=loss)
    one = factorize(X, y, loss=loss, epochs=3, random_state=0)
    other = factorize(X, (y > 0).astype(int), loss=loss, epochs=3, random_state=0)
    assert one.user_factors.tobytes() == other.user_factors.tobytes() and one.mean == other.mean


@pytest.mark.parametrize("loss", ["logistic", "hinge"])
def test_labels_of_ratings_held_out_count(loss):
    """Which labels there are shows in all of them: -1 is not read as 2 * -1 - 1."""
    X, _ = make()
    held = np.array([mix(4 + k) < int(0.2 * 2.0**64) for k in range(len(X))])
    same = {"loss": loss, "random_state": 4, "validation_fraction": 0.2, "track_objective": True}
    result = factorize(X, np.where(held, -1.0, 1.0), epochs=2, **same)
    margins = result.predict(X[held])
    losses = np.logaddexp(0, margins) if loss == "logistic" else np.maximum(0, 1 + margins)
    assert result.history[-1]["validation_loss"] == pytest.approx(losses.mean(), rel=1e-5)
    with pytest.raises(ValueError, match="y must be all 0 or 1, or all -1 or"):
        factorize(X, np.where(held, 0.5, 1.0), **same)
    with pytest.raises(ValueError, match="y must be above 0 for BPR"):
        factorize(X, np.where(held, -1.0, 1.0), **(same | {"loss": "bpr"}))


def test_going_on_without_negative_factors_leaves_none():
    X, y = make()
    start = factorize(X, y, epochs=2, rank=3, random_state=0)
    assert start.user_factors.min() < 0
    few = factorize(X[:5], y[:5], start=start, nonnegative=True, epochs=1, rank=3)
    assert min(few.user_factors.min(), few.item_factors.min()) == 0


def test_zeros_are_ratings_and_duplicates_count():
    X = np.array([[0, 0], [0, 0], [1, 1]])
    result = factorize(X, [0.0, 0.0, 3.0], epochs=1, track_objective=True)
    assert result.mean == pytest.approx(1.0) and result.ratings == 3
    errors = result.predict(X) - [0, 0, 3]
    assert result.history[0]["loss"] == pytest.approx((errors**2).mean() / 2, rel=1e-5)


def test_rows_without_ratings_are_predicted_by_what_is_known():
    X, y = make()
    keep = (X[:, 0] != 7) & (X[:, 1] != 9)
    result = factorize(X[keep], y[keep], shape=(70, 40), epochs=3)
    assert not result.user_factors[[7, 65]].any() and not result.item_factors[9].any()
    assert result.predict([[7, 3]])[0] == pytest.approx(result.mean + result.item_biases[3])
    assert result.predict([[65, 9]])[0] == result.mean
    everybody = factorize(X[keep], loss="bpr", shape=(70, 40), epochs=3)
    assert everybody.item_factors[9].any()  # the others' negative


def test_users_who_have_everything_do_no_harm():
    X = np.argwhere(np.ones((5, 4), bool))
    result = factorize(X, loss="bpr", epochs=3, track_objective=True)
    assert result.status == "finished" and not result.item_biases.any()
    assert result.history[-1]["loss"] == 0


@pytest.mark.parametrize("constant", [0.0, 4.0])
def test_ratings_that_are_all_the_same(constant):
    X, _ = make()
    for more in ({}, {"biases": False}):
        result = factorize(X, np.full(len(X), constant), l2=1e-3, epochs=30, **more)
        assert rmse(result.predict(X), constant) < 0.15
    one = factorize(X[:1], [constant])
    assert one.status == "finished" and one.predict(X[:1])[0] == pytest.approx(constant, abs=0.1)


@pytest.mark.slow
def test_more_than_2_to_the_31_ratings():
    """They are counted and checked where they lie; an entry that is nowhere is found."""
    n = 2**31 + 5
    one = np.zeros(1, "i4")
    pairs = [("X", np.broadcast_to(one, n), False)] * 2
    y = ("y", np.broadcast_to(np.ones(1, "f4"), n))
    facts = _core.Ratings(*pairs, y, n, (1, 1), 0, 0, 2).facts
    assert facts["n"] == n and facts["least"] == 1
    with pytest.raises(ValueError, match=r"X must lie in 0\.\.0; entry 0 is 1"):
        _core.Ratings(("X", np.broadcast_to(one + 1, n), False), pairs[1], y, n, (1, 1), 0, 0, 2)


def test_memory_is_12_bytes_a_rating():
    sparse = pytest.importorskip("scipy.sparse")
    n, shape = 1_000_000, (4000, 1000)
    r = np.random.default_rng(0)
    X = np.stack([r.integers(0, 4000, n), r.integers(0, 1000, n)], axis=1)
    coo = sparse.coo_matrix((r.normal(size=n).astype("f4"), X.T), shape)
    model = sum(shape) * 18 * 4
    for Z, y, more in ((coo, None, 0), (coo.tocsr(), None, 0), (X, coo.data, 0), (X, None, 4)):
        tracemalloc.start()
        factorize(Z, y, shape=shape, epochs=1, loss="bpr" if more else "squared", dtype="f4")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < (12 + more) * n + 6 * model


def test_users_and_items_that_do_not_fit_are_refused_at_once(monkeypatch):
    monkeypatch.setattr(memory, "available", lambda: 1e8)
    with pytest.raises(MemoryError, match=r"a model of 2,000,001 users and items needs about 0\.2"):
        factorize([[1_999_999, 0]], [1.0], rank=10)
    monkeypatch.setattr(memory, "available", lambda: 1e9)
    assert factorize([[1_999_999, 0]], [1.0], rank=10, epochs=1).shape == (2_000_000, 1)


BAD = [
    ({"rank": 0}, ValueError, "rank must be at least 1"),
    ({"rank": 257}, ValueError, "rank must be from 1 to 256"),
    ({"rank": 2.0}, TypeError, "rank must be an integer"),
    (
        {"loss": "huber"},
        ValueError,
        "loss must be one of 'squared', 'absolute', 'logistic', 'hinge'",
    ),
    ({"l2": -1}, ValueError, "l2 must be a number in"),
    ({"l2": float("nan")}, ValueError, "l2 must be a number"),
    ({"l2_bias": "x"}, TypeError, "l2_bias must be a number"),
    ({"l2": 100.0}, ValueError, r"l2 must be at most .* with step=0\.1 and"),
    ({"l2_bias": 100.0}, ValueError, "l2_bias must be at most"),
    ({"biases": 1}, TypeError, "biases must be True or False"),
    ({"nonnegative": None}, TypeError, "nonnegative must be True or False"),
    ({"adaptive": "yes"}, TypeError, "adaptive must be True or False"),
    ({"epochs": -1}, ValueError, "epochs must be at least 0"),
    ({"step": 0}, ValueError, "step must be a number"),
    ({"schedule": "linear"}, ValueError, "schedule must be one of 'inverse'"),
    ({"decay": 1.5}, ValueError, "decay must be a number in"),
    ({"mode": "fast"}, ValueError, "mode must be one of 'auto'"),
    ({"dtype": "f2"}, ValueError, "dtype must be 'float32' or 'float64'"),
    ({"dtype": "abc"}, ValueError, "dtype must be 'float32' or 'float64'"),
    ({"threads": 0}, ValueError, "threads must be"),
    ({"random_state": -1}, ValueError, "random_state must be at least 0"),
    ({"random_state": 1.5}, TypeError, "random_state must be an integer"),
    ({"validation_fraction": 1}, ValueError, "validation_fraction must be below 1"),
    ({"tol": -1}, ValueError, "tol must be a number"),
    ({"patience": 0}, ValueError, "patience must be at least 1"),
    ({"start": 3}, TypeError, "start must be a FactorizationResult"),
    ({"start": begin(60, 40, 3)}, ValueError, "rank must be that of the start, 3, got 16"),
    ({"start": begin(60, 40, 16, "bpr")}, ValueError, "loss must be that of the start, 'bpr'"),
    ({"start": begin(61, 40, 16), "shape": (60, 40)}, ValueError, "X must have at least the "),
    ({"callback": 3}, TypeError, "callback must be callable"),
    ({"shape": 5}, TypeError, r"shape must be \(users, items\)"),
    ({"shape": (0, 5)}, ValueError, r"shape\[0\] must be at least 1"),
    ({"shape": (2**33, 5)}, ValueError, "shape must have at most"),
    ({"shape": (59, 40)}, ValueError, r"X\[:, 0\] must lie in 0\.\.58; entry \d+ is 59"),
    ({"shape": (60, 39)}, ValueError, r"X\[:, 1\] must lie in 0\.\.38; entry \d+ is 39"),
    ({"y": None}, ValueError, "y must have the rating of each pair"),
    ({"y": np.ma.masked_equal([1.0, 0.0], 0)}, TypeError, "y is a masked array"),
    ({"X": np.ma.masked_equal([[1, 0]], 0)}, TypeError, "X is a masked array"),
    ({"y": np.ones(3)}, ValueError, r"y must be one number per pair of X, shape \(\d+,\), got"),
    ({"y": ["a"] * 3}, ValueError, "y must be one number per pair"),
    ({"y": np.nan}, ValueError, "y must be finite, and at most 1e24 in size; entry 17 is nan"),
    ({"y": -np.inf}, ValueError, "y must be finite"),
    ({"y": 1e25}, ValueError, "y must be finite, and at most 1e24"),
    ({"loss": "logistic"}, ValueError, "y must be all 0 or 1, or all -1 or"),
    ({"loss": "hinge"}, ValueError, "y must be all 0 or 1, or all -1 or .* for hinge loss"),
    ({"validation_fraction": 1e-9}, ValueError, "validation_fraction must be 0 or hold out"),
    ({"loss": "bpr"}, ValueError, "y must be above 0 for BPR"),
    ({"X": np.zeros((0, 2), int), "y": np.zeros(0)}, ValueError, "X must have at least one pair"),
    ({"X": np.zeros((4, 3), int)}, ValueError, r"integers of shape \(n, 2\)"),
    ({"X": np.zeros((4, 2))}, ValueError, "got shape .4, 2. of float64"),
    ({"X": np.full((4, 2), -1), "y": np.ones(4)}, ValueError, "must lie in 0..0; entry 0 is -1"),
]


@pytest.mark.parametrize(("bad", "error", "message"), BAD)
def test_bad_arguments_are_named(bad, error, message):
    X, y = make()
    if isinstance(bad.get("y"), float):
        y = y.copy()
        y[17] = bad["y"]
        bad = {k: v for k, v in bad.items() if k != "y"}
    with pytest.raises(error, match=message):
        factorize(**({"X": X, "y": y} | bad))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (("indices", 5, 40), ValueError, r"X.indices must lie in 0\.\.39; entry 5 is 40"),
        (("indices", 5, -1), ValueError, r"X.indices must lie in 0\.\.39; entry 5 is -1"),
        (("data", 9, np.nan), ValueError, "X.data must be finite, .* entry 9 is nan"),
        (("indptr", 7, 10_000), ValueError, "X.indptr must start at 0.* at 6"),
        (("indptr", 0, 1), ValueError, "X.indptr must start at 0.* at 0"),
        (("indptr", 4, 0), ValueError, "X.indptr must start at 0.* at 3"),
        (("indptr", 60, -5), ValueError, "X.indptr must start at 0"),
    ],
)
@pytest.mark.parametrize("kind", ["csr", "csc"])
@pytest.mark.parametrize("index", ["i4", "i8"])
def test_bad_matrices_are_named(change, error, message, kind, index):
    pytest.importorskip("scipy.sparse")
    X, y = make()
    csr = forms(X, y, (60, 40))["csr"][0]
    Z = SimpleNamespace(
        data=csr.data.copy(), indices=csr.indices.astype(index),
        indptr=csr.indptr.astype(index), shape=(60, 40) if kind == "csr" else (40, 60),
        format=kind,
    )  # fmt: skip
    name, at, bad = change
    getattr(Z, name)[at] = bad
    with pytest.raises(error, match=message):
        factorize(Z)


def test_other_bad_matrices():
    sparse = pytest.importorskip("scipy.sparse")
    X, y = make()
    csr = forms(X, y, (60, 40))["csr"][0]
    with pytest.raises(TypeError, match="X must be in CSR, CSC or COO form, got 'lil'"):
        factorize(csr.tolil())
    with pytest.raises(TypeError, match=r"X\.data must be real numbers, got complex128"):
        factorize(csr * 1j)
    with pytest.raises(ValueError, match="y must be None where X is a sparse matrix"):
        factorize(csr, y)
    with pytest.raises(ValueError, match=r"X must have the shape \(60, 41\), got \(60, 40\)"):
        factorize(csr, shape=(60, 41))
    with pytest.raises(ValueError, match="at least one rating"):
        factorize(sparse.csr_matrix((3, 4)))
    swapped = SimpleNamespace(row=csr.indices.astype(">i4"), col=csr.indices, data=csr.data,
                              shape=(60, 40))  # fmt: skip
    with pytest.raises(TypeError, match=r"X\.row must be int32 or int64, in native byte order"):
        factorize(swapped)


# ---- going on and stopping ----


@pytest.mark.parametrize("loss", ["squared", "bpr"])
def test_going_on_is_like_not_having_stopped(loss):
    X, y = make(loss=loss)
    same = {"loss": loss, "random_state": 0, "step": 0.1, "dtype": "f8", "rank": 4}
    whole = factorize(X, y, epochs=6, **same)
    half = factorize(X, y, epochs=2, **same)
    begun = [part.copy() for part in parts_of(half)]
    again = factorize(X, y, epochs=4, start=half, **same)
    for got, wanted in zip(parts_of(again), parts_of(whole), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-12)
    assert again.epochs == 6 and [r["epoch"] for r in again.history] == [3, 4, 5, 6]
    for part, before in zip(parts_of(half), begun, strict=True):
        np.testing.assert_array_equal(part, before)
    none = factorize(X, y, epochs=0, start=half, **same)
    np.testing.assert_array_equal(none.user_factors, half.user_factors)


def test_new_users_and_items_may_come():
    X, y = make()
    old = (X[:, 0] < 40) & (X[:, 1] < 30)
    first = factorize(X[old], y[old], epochs=10, random_state=0, l2=0.02)
    assert first.shape == (40, 30)
    more = factorize(X, y, epochs=20, start=first, random_state=0, l2=0.02)
    assert more.shape == (60, 40) and more.mean == first.mean and more.spread == first.spread
    assert rmse(more.predict(X[~old]), y[~old]) < 0.6 * y.std()
    fewer = factorize(X[old], y[old], epochs=1, start=more, random_state=0)
    assert fewer.shape == (60, 40)
    np.testing.assert_array_equal(fewer.user_factors[50], more.user_factors[50])


def test_held_out_ratings_are_not_trained_on():
    X, y = make(300, 100, 0.4)
    wrong = y.copy()
    same = {"epochs": 3, "random_state": 4, "validation_fraction": 0.2, "track_objective": True}
    plain = factorize(X, y, **same)
    # Which are held out shows in what does not change the model.
    held = np.array([mix(4 + k) < int(0.2 * 2.0**64) for k in range(len(y))])
    assert 0.17 < held.mean() < 0.23
    assert plain.ratings == 3 * (~held).sum()
    wrong[held] += 100
    other = factorize(X, wrong, **same)
    assert other.user_factors.tobytes() == plain.user_factors.tobytes()
    p = plain.predict(X[held])
    assert plain.history[-1]["validation_rmse"] == pytest.approx(rmse(p, y[held]), rel=1e-5)
    assert plain.history[-1]["validation_loss"] == pytest.approx(rmse(p, y[held]) ** 2 / 2, 1e-5)
    assert other.history[-1]["validation_rmse"] > 90


@pytest.mark.parametrize("fraction", [0.0, 0.2])
def test_it_stops_where_nothing_improves_and_takes_the_best(fraction):
    X, y = make(300, 100, 0.2, noise=1.0)
    result = factorize(
        X, y, rank=20, l2=1e-3 if fraction else 0.1, epochs=500, tol=1e-3, patience=3,
        validation_fraction=fraction, random_state=0,
    )  # fmt: skip
    key = "validation_loss" if fraction else "objective"
    values = [r[key] for r in result.history]
    assert result.status == "finished" and "no longer improves" in result.message
    assert result.best_epoch == 1 + int(np.argmin(values)) and len(values) == result.epochs < 500
    best = np.minimum.accumulate(values)
    assert all(v > b * (1 - 1e-3) for v, b in zip(values[-3:], best[-4:-1], strict=True))
    assert values[-4] <= best[-5] * (1 - 1e-3)
    same = factorize(X, y, rank=20, l2=1e-3 if fraction else 0.1, epochs=result.best_epoch,
                     validation_fraction=fraction, random_state=0)  # fmt: skip
    assert same.user_factors.tobytes() == result.user_factors.tobytes()


@pytest.mark.parametrize("loss", ["squared", "absolute", "bpr"])
@pytest.mark.parametrize("threads", [1, 2])
def test_divergence_is_never_silent(monkeypatch, loss, threads):
    monkeypatch.setattr(completion, "RATINGS_PER_THREAD", 1000)
    X, y = make(300, 100, 0.4, loss=loss)
    with pytest.warns(RuntimeWarning, match="diverged: the factors grew without bound in epoch"):
        result = factorize(X, y, loss=loss, step=1e6, l2=0.0, adaptive=False, threads=threads)
    assert result.status == "diverged" and "step below 1e+06" in result.message


def test_callback_sees_progress_and_can_stop():
    X, y = make(600, 400, 0.4)
    seen = []
    result = factorize(
        X, y, epochs=100_000, track_objective=True,
        callback=lambda p: seen.append((time.perf_counter(), p)) or len(seen) == 4,
    )  # fmt: skip
    times, records = zip(*seen, strict=True)
    assert result.status == "stopped" and len(seen) == 4 and np.isfinite(result.predict(X)).all()
    assert np.diff(times).min() >= 0.05
    assert np.diff([p.ratings_done for p in records]).min() > 0
    assert records[-1].epochs == 100_000 and records[-1].ratings_total == 100_000 * len(y)
    assert records[-1].record["objective"] > 0 and records[-1].ratings_per_second > 0
    assert len(result.history) == result.epochs == records[-1].epoch
    with pytest.raises(LookupError, match="mine"):
        factorize(X, y, epochs=100_000, callback=lambda p: {}["mine"])


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs POSIX timers")
@pytest.mark.parametrize("more", [{"threads": 1}, {"threads": 2}, {"mode": "blocks"}, {"tol": 0}])
def test_interrupt_leaves_a_usable_model(more):
    X, y = make(1500, 1000, 0.4)

    def interrupt(number, frame):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 1.0)
        start = time.perf_counter()
        with pytest.raises(KeyboardInterrupt) as caught:
            factorize(X, y, epochs=1_000_000, l2=0.02, patience=1_000_000, **more)
        late = time.perf_counter() - start - 1.0
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    result = caught.value.result
    assert isinstance(result, FactorizationResult) and result.status == "interrupted"
    assert result.ratings > 0 and rmse(result.predict(X), y) < 0.7 * y.std()
    assert late < 0.3


def test_history_and_facts():
    X, y = make()
    result = fastopt.factorize(X, y, epochs=5, decay=0.5, random_state=0)
    assert [r["epoch"] for r in result.history] == [1, 2, 3, 4, 5] and result.best_epoch == 5
    assert [r["ratings"] for r in result.history] == [len(y) * e for e in range(1, 6)]
    steps = [r["step"] for r in result.history]
    np.testing.assert_allclose(steps, 0.1 / y.std() / (1 + np.arange(5)))
    assert np.diff([r["seconds"] for r in result.history]).min() >= 0
    assert result.ratings_per_second > 0 and result.prepared > 0 and result.bands == 1
    assert "objective" not in result.history[0]
    assert result.spread == pytest.approx(y.std())


def test_rmse_of_pairs_and_matrices():
    X, y = make()
    result = factorize(X, y, epochs=3, rank=3, random_state=0)
    wanted = rmse(result.predict(X), y)
    assert result.rmse(X, y) == result.rmse(X.tolist(), y.tolist()) == pytest.approx(wanted)
    csr = forms(X, y, (60, 40))["csr"][0]
    assert result.rmse(csr) == pytest.approx(wanted)
    for bad in (None, y[1:], 1.0):
        with pytest.raises((ValueError, TypeError), match="y must be one number per pair of X"):
            result.rmse(X, bad)
    with pytest.raises(ValueError, match="y must be None where X is a sparse matrix"):
        result.rmse(csr, y)
