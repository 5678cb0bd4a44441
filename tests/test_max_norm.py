"""The bound on a norm: against projected SGD in NumPy, and against the constrained optimum."""

from __future__ import annotations

import numpy as np
import pytest
from fastopt._core import openmp

import fastopt
from fastopt.sparse.rows import Rows, Settings, Targets
from fastopt.sparse.runner import solve

sparse = pytest.importorskip("scipy.sparse")


def make(n=300, d=30, seed=0, dtype="f8"):
    r = np.random.default_rng(seed)
    dense = r.normal(size=(n, d)) * (r.random((n, d)) < 0.3)
    y = np.where(dense @ r.normal(size=d) + 0.2 * r.normal(size=n) > 0, 1.0, -1.0)
    return sparse.csr_matrix(dense.astype(dtype)), y, dense.astype(dtype).astype("f8")


def in_order(X, y, w0, **settings):
    """Train on the rows in their order, with a constant step; `hogwild` permutes them."""
    rows = Rows(X, Settings.check(**{
        "loss": "logistic", "l2": 0.0, "epochs": 3, "step": 0.5, "schedule": "constant",
        "decay": 0.9, "mode": "serial", "fit_intercept": True, "average": False, "threads": 1,
        "seed": 0, "shuffle": False, "gain": 1.0, **settings,
    }))  # fmt: skip
    w = np.full(X.shape[1], w0, rows.dtype)
    return solve(rows, Targets(rows, y=np.asarray(y, rows.dtype)), w, 0.0)


def reference(dense, y, w0, radius, l2, step, epochs):
    """Projected SGD; also returns the mean of all rows' models."""
    w, b, mean, t = np.full(dense.shape[1], float(w0)), 0.0, 0.0, 0
    w *= min(1, radius / np.linalg.norm(w)) if w0 else 1
    inside = 0
    for _ in range(epochs):
        for x, target in zip(dense, y, strict=True):
            g = -target / (1 + np.exp(target * (x @ w + b)))
            w = (1 - step * l2) * w - step * g * x
            b -= step * g
            norm = np.linalg.norm(w)
            inside += norm < radius
            w *= min(1, radius / norm)
            t += 1
            mean = mean + (w - mean) / t
    return w, b, mean, inside


@pytest.mark.parametrize(("dtype", "close"), [("f8", 1e-9), ("f4", 1e-3)])
@pytest.mark.parametrize("l2", [0.0, 0.01, 1.5])
@pytest.mark.parametrize(("radius", "w0"), [(1.0, 0.0), (1e-3, 0.0), (2.0, 3.0), (100.0, 0.0)])
def test_it_is_projected_sgd(dtype, close, l2, radius, w0):
    X, y, dense = make(dtype=dtype)
    result = in_order(X, y, w0, max_norm=radius, l2=l2)
    w, b, _, inside = reference(dense, y, w0, radius, l2, 0.5, 3)
    np.testing.assert_allclose(result.w, w, rtol=close, atol=close * radius)
    assert result.intercept == pytest.approx(b, rel=close, abs=close)
    assert np.linalg.norm(result.w.astype("f8")) <= radius * (1 + 1e-5)
    assert inside < 900 or radius == 100 or l2 == 1.5


def test_the_mean_of_all_models():
    X, y, dense = make()
    result = in_order(X, y, 0.0, max_norm=1.0, l2=0.01, average=True, plain_mean=True)
    _, _, mean, _ = reference(dense, y, 0.0, 1.0, 0.01, 0.5, 3)
    np.testing.assert_allclose(result.w, mean, rtol=1e-8, atol=1e-10)


def test_columns_that_come_twice():
    X, y, _ = make()
    twice = sparse.csr_matrix(
        (np.repeat(X.data / 2, 2), np.repeat(X.indices, 2), 2 * X.indptr), X.shape
    )
    one, two = (in_order(x, y, 0.0, max_norm=1.0) for x in (X, twice))
    np.testing.assert_allclose(one.w, two.w, rtol=1e-9, atol=1e-12)


def test_the_constrained_optimum():
    optimize = pytest.importorskip("scipy.optimize")
    X, y, dense = make(n=2000)
    result = fastopt.hogwild(X, y, l2=0.0, max_norm=1.0, epochs=50, schedule="power", threads=2)
    assert (result.mode, result.threads) == ("serial", 1)
    assert ("OpenMP" if openmp() == "none" else "norm") in result.reason
    best = optimize.minimize(
        lambda z: np.logaddexp(0, -y * (dense @ z[:-1] + z[-1])).mean(),
        np.zeros(31),
        constraints=[{"type": "ineq", "fun": lambda z: 1 - z[:-1] @ z[:-1]}],
    )
    value = np.logaddexp(0, -y * (dense @ result.w + result.intercept)).mean()
    assert best.fun - 1e-6 <= value < 1.002 * best.fun


def test_estimators():
    estimators = pytest.importorskip("fastopt.estimators")
    X, y, _ = make(n=1000)
    codes = (y > 0) + (np.asarray(X[:, 0].todense()).ravel() > 0.5)
    for loss in ("hinge", "log_loss"):
        model = estimators.SGDClassifier(loss, max_norm=0.5, max_iter=20, tol=None, random_state=0)
        norms = np.linalg.norm(model.fit(X, codes).coef_, axis=1)
        assert (norms <= 0.5 + 1e-9).all() and norms.max() > 0.49
        model.partial_fit(X, codes)
        assert (np.linalg.norm(model.coef_, axis=1) <= 0.5 + 1e-9).all()
    assert estimators.SGDRegressor(max_norm=0.1).fit(X, y).predict(X).shape == (1000,)
    for bad, message in (
        ({"max_norm": 0}, "max_norm must be a number in"),
        ({"max_norm": 1.0, "penalty": "l1"}, "max_norm needs optimizer 'sgd', l1=0"),
        ({"max_norm": 1.0, "positive": True}, "max_norm needs optimizer 'sgd', l1=0"),
        ({"max_norm": 1.0, "optimizer": "ftrl"}, "max_norm needs optimizer 'sgd', l1=0"),
        ({"max_norm": 1.0, "optimizer": "sdca"}, "cannot do max_norm"),
    ):
        with pytest.raises(ValueError, match=message):
            estimators.SGDClassifier(**bad).fit(X, y)
