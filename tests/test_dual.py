"""sdca: the optimum of an independent solver, the dual's own equations, and its ends."""

import math
import signal
import threading
import types

import numpy as np
import pytest

import fastopt
from fastopt import _core
from fastopt.sparse.dual import LOSSES, lowest

sparse = pytest.importorskip("scipy.sparse")
optimize = pytest.importorskip("scipy.optimize")

OF_CLASSES = {"hinge", "squared_hinge", "modified_huber", "logistic"}
E, Q = 0.3, 0.8  # epsilon and quantile of the tests


def value(loss, p, y):
    """Return the losses as hogwild's documentation has them."""
    r, m = p - y, y * p
    if loss == "hinge":
        return np.maximum(0, 1 - m)
    if loss == "squared_hinge":
        return np.maximum(0, 1 - m) ** 2
    if loss == "modified_huber":
        return np.where(m < -1, -4 * m, np.maximum(0, 1 - m) ** 2)
    if loss == "logistic":
        return np.logaddexp(0, -m)
    if loss == "squared":
        return r**2 / 2
    if loss == "huber":
        return np.where(np.abs(r) <= E, r**2 / 2, E * np.abs(r) - E**2 / 2)
    if loss == "epsilon_insensitive":
        return np.maximum(0, np.abs(r) - E)
    if loss == "squared_epsilon_insensitive":
        return np.maximum(0, np.abs(r) - E) ** 2
    return np.where(r < 0, -Q * r, (1 - Q) * r)


def conjugate(loss, b, y, w):
    """Return -loss*(-b) of weighted rows, with b in the loss's domain: what the dual adds up."""
    if loss in ("hinge", "epsilon_insensitive", "quantile"):
        return b * y - (E * np.abs(b) if loss == "epsilon_insensitive" else 0)
    if loss == "logistic":
        a = y * b / w
        return -w * (
            np.where(a > 0, a * np.log(np.maximum(a, 1e-300)), 0)
            + np.where(a < 1, (1 - a) * np.log(np.maximum(1 - a, 1e-300)), 0)
        )
    if loss in ("squared", "huber"):
        return b * y - b**2 / (2 * w)
    return b * y - b**2 / (4 * w) - (E * np.abs(b) if "epsilon" in loss else 0)


def problem(loss, n=240, d=20, seed=0, dtype="f8", classes=None):
    rng = np.random.default_rng(seed)
    X = sparse.random(n, d, 0.3, "csr", dtype="f8", random_state=seed)
    X.data = rng.standard_normal(X.data.size)
    y = X @ rng.standard_normal(d) + 0.7 + 0.5 * rng.standard_normal(n)
    if loss in OF_CLASSES:
        y = np.where(y > 0, 1.0, -1.0)
    return X.astype(dtype), y


def primal(loss, X, y, l2, w, b, weights=None):
    weights = np.ones(len(y)) if weights is None else weights * (len(y) / weights.sum())
    return (weights * value(loss, X.astype("f8") @ w.astype("f8") + b, y)).mean() + l2 / 2 * (
        w.astype("f8") @ w.astype("f8")
    )


def least(loss, X, y, l2, intercept, weights=None):
    """Return what L-BFGS reaches on losses averaged over [p - h, p + h], h falling."""
    n, d = X.shape
    weights = np.ones(n) if weights is None else weights * (n / weights.sum())
    dense = np.hstack([X.toarray(), np.full((n, 1), float(intercept))])
    penal = np.full(d + 1, l2)
    penal[-1] = 0.0

    def smooth(z, h):
        p = dense @ z
        up, down = value(loss, p + h, y), value(loss, p - h, y)
        # the mean by Gauss's rule, its derivative exactly
        nodes, shares = np.polynomial.legendre.leggauss(24)
        mean = sum(s * value(loss, p + h * x, y) for x, s in zip(nodes, shares, strict=True)) / 2
        slope = (up - down) / (2 * h)
        f = (weights * mean).mean() + (penal * z * z).sum() / 2
        return f, dense.T @ (weights * slope) / n + penal * z

    z = np.zeros(d + 1)
    for h in (1.0, 0.1, 1e-2, 1e-3, 1e-4, 1e-5):
        options = {"maxiter": 20_000, "maxfun": 200_000, "ftol": 1e-16, "gtol": 1e-12, "maxcor": 50}
        z = optimize.minimize(smooth, z, (h,), "L-BFGS-B", jac=True, options=options).x
    return primal(loss, X, y, l2, z[:-1], intercept * z[-1], weights)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("intercept", [False, True])
@pytest.mark.parametrize("loss", LOSSES)
def test_it_reaches_the_optimum_of_another_solver(loss, intercept, threads, monkeypatch):
    monkeypatch.setattr("fastopt.sparse.dual.team", lambda rows: (threads, 1, "test"))
    X, y = problem(loss)
    options = {"loss": loss, "l2": 0.01, "fit_intercept": intercept, "epsilon": E, "quantile": Q}
    result = fastopt.sdca(X, y, tol=1e-9, epochs=20_000, threads=threads, **options)
    assert result.status == "finished" and "within" in result.message
    assert result.threads == threads
    found = primal(loss, X, y, 0.01, result.w, result.intercept)
    assert result.objective == pytest.approx(found, rel=1e-12)
    expected = least(loss, X, y, 0.01, intercept)
    assert found <= expected * (1 + 1e-8)  # L-BFGS on corners ends above
    assert found >= expected * (1 - 1e-6)
    assert intercept or result.intercept == 0


@pytest.mark.parametrize("loss", LOSSES)
def test_weights_come_from_the_betas_and_the_gap_is_primal_minus_dual(loss):
    X, y = problem(loss)
    rng = np.random.default_rng(1)
    weight = rng.integers(0, 3, 240).astype("f8")
    options = {"loss": loss, "l2": 0.01, "fit_intercept": False, "epsilon": E, "quantile": Q}
    for epochs in (1, 3, 30):
        result = fastopt.sdca(
            X, y, sample_weight=weight, epochs=epochs, tol=0, threads=1, **options
        )
        scaled = weight * (240 / weight.sum())
        np.testing.assert_allclose(result.w, X.T @ result.beta / (0.01 * 240), atol=1e-12)
        used = weight > 0
        assert not result.beta[~used].any()
        dual = conjugate(loss, result.beta[used], y[used], scaled[used]).sum() / 240
        dual -= 0.01 / 2 * result.w @ result.w
        expected = primal(loss, X, y, 0.01, result.w, 0.0, weight)
        assert result.objective == pytest.approx(expected, rel=1e-12)
        assert result.gap == pytest.approx(expected - dual, rel=1e-6, abs=1e-12)
        assert result.gap >= 0


@pytest.mark.parametrize("loss", ["hinge", "logistic", "squared"])
def test_weights_of_rows_are_as_rows_repeated(loss):
    X, y = problem(loss)
    weight = np.random.default_rng(1).integers(0, 3, 240)
    repeated = np.repeat(np.arange(240), weight)
    options = {"loss": loss, "l2": 0.02, "tol": 1e-10, "epochs": 20_000, "threads": 1}
    one = fastopt.sdca(X, y, sample_weight=weight, **options)
    other = fastopt.sdca(X[repeated], y[repeated], **options)
    assert one.objective == pytest.approx(other.objective, rel=1e-9)
    np.testing.assert_allclose(one.w, other.w, atol=2e-4)


@pytest.mark.parametrize("loss", LOSSES)
def test_the_dual_never_falls(loss, monkeypatch):
    """Whatever the number of workers, on columns that all rows share: the line search's promise."""
    rng = np.random.default_rng(0)
    X = sparse.csr_matrix(rng.standard_normal((640, 3)) + 1.0)
    y = np.sign(rng.standard_normal(640)) if loss in OF_CLASSES else rng.standard_normal(640)
    for workers in (1, 2, 5):
        monkeypatch.setattr("fastopt.sparse.dual.team", lambda rows, k=workers: (k, 3, "test"))
        before = -math.inf
        for epochs in range(1, 12):
            result = fastopt.sdca(
                X, y, loss=loss, l2=1e-2, fit_intercept=False, tol=0, epochs=epochs, threads=2,
                epsilon=E, quantile=Q,
            )  # fmt: skip
            ones = np.ones(640)
            dual = conjugate(loss, result.beta, y, ones).sum() / 640
            dual -= 1e-2 / 2 * result.w @ result.w
            assert dual >= before - 1e-12
            before = dual


def test_liblinear_agrees_on_the_hinge():
    svm = pytest.importorskip("sklearn.svm")
    X, y = problem("hinge", 2000, 50)
    l2 = 1e-3
    ours = fastopt.sdca(X, y, l2=l2, fit_intercept=False, tol=1e-7, epochs=5000)
    peer = svm.LinearSVC(
        loss="hinge", C=1 / (l2 * 2000), fit_intercept=False, tol=1e-8, max_iter=1_000_000
    )
    theirs = peer.fit(X, y).coef_[0]
    np.testing.assert_allclose(ours.w, theirs, atol=2e-3)
    assert ours.objective == pytest.approx(primal("hinge", X, y, l2, theirs, 0.0), rel=1e-6)
    # rows at rest are left out: most stay at a bound
    assert 2000 * 10 < ours.rows < 0.5 * 2000 * ours.epochs


@pytest.mark.parametrize("pointers", ["i4", "i8"])
@pytest.mark.parametrize("indices", ["i4", "i8"])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_the_types_that_are_taken(dtype, indices, pointers):
    X, y = problem("logistic", dtype=dtype)
    X = types.SimpleNamespace(
        data=X.data, indices=X.indices.astype(indices), indptr=X.indptr.astype(pointers),
        shape=X.shape,
    )  # fmt: skip
    result = fastopt.sdca(X, y, loss="logistic", l2=0.01, tol=1e-5, epochs=1000)
    reference = fastopt.sdca(*problem("logistic"), loss="logistic", l2=0.01, tol=1e-9, epochs=9000)
    assert result.w.dtype == dtype
    assert result.objective <= reference.objective * (1 + 1.1e-5)


@pytest.mark.parametrize("threads", [1, 2])
def test_the_same_bits_for_every_run_and_instruction_set(threads, monkeypatch):
    X, y = problem("hinge", 3000, 40)
    monkeypatch.setattr("fastopt.sparse.dual.team", lambda rows: (2, 5, "test"))
    before, found = fastopt.get_isa(), set()
    for name in fastopt.isa_available():
        fastopt.set_isa(name)
        for _ in range(2):
            result = fastopt.sdca(X, y, tol=0, epochs=7, threads=threads, seed=3)
            found.add((result.w.tobytes(), result.intercept))
    fastopt.set_isa(before)
    assert len(found) == 1
    other = fastopt.sdca(X, y, tol=0, epochs=7, threads=threads, seed=4)
    assert other.w.tobytes() != result.w.tobytes()


def test_every_row_has_its_turn_in_every_epoch(monkeypatch):
    """With orthogonal rows one turn each is the optimum."""
    for n in (1, 63, 64, 65, 1000):
        X, y = sparse.identity(n, format="csr"), np.linspace(-1, 1, n)
        for workers in (1, 2, 3):
            monkeypatch.setattr("fastopt.sparse.dual.team", lambda rows, k=workers: (k, 1, "test"))
            for shuffle in (True, False):
                result = fastopt.sdca(
                    X, y, loss="squared", l2=1 / n, epochs=1, fit_intercept=False,
                    shuffle=shuffle, threads=2, tol=0,
                )  # fmt: skip
                np.testing.assert_allclose(result.w, y / 2, rtol=1e-12)  # (w - y)^2 / 2 + w^2 / 2
                assert result.rows == n and result.nnz == n


def test_rows_without_numbers_and_labels_of_one_kind():
    X = sparse.csr_matrix((5, 3))
    result = fastopt.sdca(X, [1, 1, 1, -1, -1], l2=0.1, epochs=2000, tol=1e-6)
    assert not result.w.any()
    assert result.objective == pytest.approx(0.8, rel=1e-5)  # b = 1: two of five lose 2
    result = fastopt.sdca(problem("hinge")[0], np.ones(240), l2=0.1, epochs=2000, tol=1e-6)
    assert result.objective == pytest.approx(0, abs=1e-6)


def test_history_callback_and_budget():
    X, y = problem("logistic", 4000, 100)
    result = fastopt.sdca(X, y, loss="logistic", l2=1e-3, tol=1e-6, track_objective=True)
    assert [r["epoch"] for r in result.history] == [*range(1, result.epochs + 1)]
    assert result.history[-1]["objective"] == result.objective
    assert result.history[-1]["gap"] == result.gap <= 1e-6 * result.objective
    seconds = [r["seconds"] for r in result.history]
    assert seconds == sorted(seconds) and result.seconds >= seconds[-1]
    result = fastopt.sdca(X, y, l2=1e-9, tol=0, epochs=10**6, time_budget=0.15)
    assert result.status == "stopped" and "time budget" in result.message
    assert 0.15 <= result.seconds < 1 and math.isfinite(result.objective)
    seen = []
    result = fastopt.sdca(
        X, y, l2=1e-9, tol=0, epochs=10**6, callback=lambda p: seen.append(p) or len(seen) == 2
    )
    assert result.status == "stopped" and len(seen) == 2
    assert seen[1].rows_done > seen[0].rows_done


def test_ctrl_c_leaves_a_model():
    X, y = problem("hinge", 20_000, 100)
    timer = threading.Timer(0.3, lambda: signal.raise_signal(signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt) as caught:
        fastopt.sdca(X, y, l2=1e-9, tol=0, epochs=10**7)
    timer.join()
    result = caught.value.result
    assert result.status == "interrupted" and result.w.any() and result.epochs > 0


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"loss": "perceptron"}, ValueError, "loss must be one of 'hinge', 'squared_hinge'"),
        ({"l2": 0}, ValueError, r"l2 must be a number in \(0, inf\)"),
        ({"tol": -1}, ValueError, r"tol must be a number in \[0, inf\)"),
        ({"tol": math.nan}, ValueError, r"tol must be a number in \[0, inf\)"),
        ({"time_budget": 0}, ValueError, r"time_budget must be a number in \(0, inf\)"),
        ({"epochs": -1}, ValueError, "epochs must be at least 0"),
        ({"callback": 3}, TypeError, "callback must be callable"),
        ({"y": [0.5] * 240}, ValueError, "y must be -1 or \\+1 for loss='hinge'"),
        ({"y": [1.0] * 3}, ValueError, "y must be one number per row"),
        ({"sample_weight": [-1.0] * 240}, ValueError, "sample_weight must not be negative"),
        ({"fit_intercept": 1}, TypeError, "fit_intercept must be True or False"),
    ],
)
def test_bad_arguments_are_named(change, error, words):
    X, y = problem("hinge")
    arguments = {"X": X, "y": y} | change
    with pytest.raises(error, match=words):
        fastopt.sdca(**arguments)


def test_no_epochs_give_the_start():
    X, y = problem("hinge")
    result = fastopt.sdca(X, y, epochs=0)
    assert not result.w.any() and result.objective == 1 and result.gap == 1


def test_the_plan_of_threads():
    reason = fastopt.sdca(*problem("hinge"), threads=2, epochs=1).reason
    if _core.openmp() == "none":
        assert reason == "built without OpenMP"
        return
    assert "too few" in reason
    rng = np.random.default_rng(0)
    wide = sparse.csr_matrix(
        (np.ones(20_000), rng.integers(0, 400_000, 20_000), np.arange(20_001)), (20_000, 400_000)
    )
    y = np.sign(rng.standard_normal(20_000))
    result = fastopt.sdca(wide, y, threads=2, epochs=1)
    assert result.threads == 1 and result.mode == "serial" and result.reason
    narrow = sparse.csr_matrix(rng.standard_normal((100_000, 4)))
    y = np.sign(rng.standard_normal(100_000))
    result = fastopt.sdca(narrow, y, threads=2, epochs=1)
    assert result.threads == 2 and result.mode == "copies"


@pytest.mark.parametrize("loss", ["hinge", "logistic", "squared", "quantile"])
def test_the_intercept_is_the_best_one(loss):
    """Nothing beside it is better by more than a part of tol, also far from the optimum."""
    X, y = problem(loss)
    for epochs in (1, 2, 30):
        how = {"l2": 1e-2, "epochs": epochs, "tol": 1e-4, "quantile": Q}
        result = fastopt.sdca(X, y, loss=loss, threads=1, **how)
        shifts = np.linspace(-0.2, 0.2, 81)
        values = [primal(loss, X, y, 1e-2, result.w, result.intercept + d) for d in shifts]
        assert values[40] == pytest.approx(result.objective, rel=1e-5)
        assert values[40] <= min(values) + 1e-4 * values[40]


def test_lowest_points_of_convex_functions():
    """Kinks, flat pieces, far starts, no lowest point."""
    for kink in (-300.0, 0.0, 0.3, 7.0):
        for slope in (
            lambda b, k=kink: float(np.sign(b - k)) if b != k else 0.0,
            lambda b, k=kink: max(b - k, 0.0) + 2 * min(b - k + 1, 0.0),  # flat from k - 1 to k
            lambda b, k=kink: np.tanh(b - k),
        ):
            found = lowest(slope, 0.1, 0.1, 1e-9)
            assert abs(slope(found)) < 1e-6 or abs(found - kink) < 1e-6
    assert 1e4 < lowest(lambda b: -1.0, 0.0, 0.1, 1e-9) < 1e6
    assert 3 < lowest(lambda b: -np.exp(-b), 0.0, 0.1, 1e-3) < 20  # lowest at infinity


@pytest.mark.parametrize("loss", ["squared", "hinge", "logistic", "huber", "quantile"])
def test_the_gap_bounds_the_distance_to_the_optimum(loss):
    """With an intercept far away, few rows, and weights that can take its place."""
    for seed in range(4):
        X, y = problem(loss, n=60, d=90, seed=seed)
        if loss in OF_CLASSES:  # few of one kind
            y[(y > 0) & (np.arange(60) % 5 > 0)] = -1
        else:
            y += 5
        how = {"loss": loss, "l2": 1e-2, "threads": 1}
        best = fastopt.sdca(X, y, tol=1e-9, epochs=20_000, **how).objective
        for tol in (0.1, 0.01, 0.001):
            result = fastopt.sdca(X, y, tol=tol, **how)
            assert result.gap <= tol * result.objective
            assert result.objective - best <= result.gap * (1 + 1e-6)


@pytest.mark.parametrize("l2", [1e-3, 1e-1])
@pytest.mark.parametrize("loss", ["hinge", "logistic", "squared", "huber", "quantile"])
def test_an_intercept_takes_few_epochs_more(loss, l2):
    """One that learns as slowly as a rare column would take tens to hundreds of them."""
    r = np.random.default_rng(0)
    X = sparse.random(30_000, 2000, 0.01, "csr", np.float32, random_state=r)
    X.data /= 3  # rows of a norm of about 1
    score = np.asarray(X @ r.normal(size=2000)).ravel()
    y = np.where(score > score.std(), 1.0, -1.0)
    if loss not in OF_CLASSES:
        y = 100 * (score + 0.3 * r.normal(size=30_000) + 5)
    how = {"loss": loss, "l2": l2, "tol": 1e-2, "epochs": 300, "threads": 1, "epsilon": 10.0}
    without, found = (fastopt.sdca(X, y - 500 * (loss not in OF_CLASSES) * (1 - b), **how,
                                   fit_intercept=bool(b)) for b in (0, 1))  # fmt: skip
    assert found.gap <= 1e-2 * found.objective
    assert found.epochs <= without.epochs + 5
