"""How good the models of factorize are: against formulas, other solvers, other programs."""

from __future__ import annotations

import numpy as np
import pytest
from test_factor import derivative, make, parts_of, rmse, value

from fastopt.factorization import ratings
from fastopt.factorization.completion import factorize


@pytest.mark.parametrize("loss", ["squared", "absolute", "logistic", "hinge"])
@pytest.mark.parametrize("more", [{}, {"biases": False}, {"nonnegative": True}])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_objective_is_that_of_the_documentation(loss, more, dtype):
    X, y = make(loss=loss)
    result = factorize(
        X, y, loss=loss, l2=0.1, l2_bias=0.3, epochs=2, track_objective=True, dtype=dtype, **more
    )
    p, q, b, c = (part.astype("f8") for part in parts_of(result))
    u, i = X.T
    z = result.mean + b[u] + c[i] + (p[u] * q[i]).sum(1)
    losses = value(loss, z, y)
    shrunk = 0.05 * ((p[u] ** 2).sum(1) + (q[i] ** 2).sum(1)) + 0.15 * (b[u] ** 2 + c[i] ** 2)
    tolerance = 1e-6 if dtype == "f4" else 1e-12
    last = result.history[-1]
    assert last["loss"] == pytest.approx(losses.mean(), rel=tolerance)
    assert last["objective"] == pytest.approx((losses + shrunk).mean(), rel=tolerance)
    np.testing.assert_allclose(result.predict(X), z, rtol=1e-12, atol=1e-12)
    if loss == "squared":
        assert last["rmse"] == pytest.approx(rmse(z, y), rel=tolerance)
    if "biases" in more:
        assert not b.any() and not c.any() and result.mean == 0
    else:
        labels = (y > 0).sum()
        wanted = np.log((labels + 1) / (len(y) - labels + 1)) if loss == "logistic" else y.mean()
        assert result.mean == pytest.approx(wanted)


def test_objective_of_bpr_is_over_one_random_item_each():
    X, _ = make(200, 50, 0.3, seed=3)
    result = factorize(X, loss="bpr", l2=0.1, epochs=3, random_state=0, track_objective=True)
    p, q, _, c = (part.astype("f8") for part in parts_of(result))
    scores = p @ q.T + c
    has = np.zeros(scores.shape, bool)
    has[tuple(X.T)] = True
    ahead, shrunk, right = [], [], []
    for u, i in X:  # the mean over all items that the user does not have
        others = np.flatnonzero(~has[u])
        d = scores[u, i] - scores[u, others]
        ahead.append(np.logaddexp(0, -d).mean())
        right.append((d > 0).mean())
        rows = (q[others] ** 2).sum(1) + c[others] ** 2
        shrunk.append(0.05 * (p[u] @ p[u] + q[i] @ q[i] + c[i] ** 2 + rows.mean()))
    last = result.history[-1]
    assert last["loss"] == pytest.approx(np.mean(ahead), rel=0.02)
    assert last["objective"] == pytest.approx(np.mean(ahead) + np.mean(shrunk), rel=0.02)
    assert last["auc"] == pytest.approx(np.mean(right), abs=0.02)


@pytest.mark.parametrize("mode", ["shared", "blocks"])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_a_planted_matrix_comes_back(monkeypatch, mode, dtype):
    """2 % of noise: the entries that were not given are predicted to about as much."""
    monkeypatch.setattr(ratings, "BLOCK_RATINGS", 1024)
    X, y = make(600, 400, 0.35, rank=4, noise=0.02)
    given = np.random.default_rng(1).random(len(y)) < 0.7
    result = factorize(
        X[given], y[given], rank=4, l2=1e-4, epochs=100, step=0.1, decay=0.97, mode=mode,
        threads=2, dtype=dtype,
    )  # fmt: skip
    assert rmse(result.predict(X[~given]), y[~given]) < 0.03 < 0.03 * np.std(y)


def lowest(X, y, loss, l2, rank, shape, nonnegative=False, starts=4):
    """The lowest objective that L-BFGS finds from some starts; biases are free in it."""
    optimize = pytest.importorskip("scipy.optimize")
    (m, n), (u, i) = shape, X.T
    mean = y.mean() if loss == "squared" else np.log(((y > 0).sum() + 1) / ((y < 0).sum() + 1))
    mean = 0.0 if nonnegative else mean
    cuts = np.cumsum([m * rank, n * rank, m])

    def objective(x):
        p, q, b, c = np.split(x, cuts)
        p, q = p.reshape(m, rank), q.reshape(n, rank)
        z = mean + b[u] + c[i] + (p[u] * q[i]).sum(1)
        g = derivative(loss, z, y)
        gradient = [np.zeros_like(a) for a in (p, q, b, c)]
        for out, at, other, own in (
            (gradient[0], u, q[i], p[u]), (gradient[1], i, p[u], q[i]),
            (gradient[2], u, 1.0, b[u]), (gradient[3], i, 1.0, c[i]),
        ):  # fmt: skip
            np.add.at(out, at, (g if own.ndim == 1 else g[:, None]) * other + l2 * own)
        if nonnegative:
            gradient[2][:] = gradient[3][:] = 0
        shrunk = (p[u] ** 2).sum() + (q[i] ** 2).sum() + (b[u] ** 2 + c[i] ** 2).sum()
        total = value(loss, z, y).sum() + l2 / 2 * shrunk
        return total / len(y), np.concatenate([a.ravel() for a in gradient]) / len(y)

    best = np.inf
    for seed in range(starts):
        x = np.random.default_rng(seed).normal(size=cuts[-1] + n) * 0.5
        if nonnegative:
            x = np.abs(x)
            x[cuts[1] :] = 0
        bounds = [(0, None)] * len(x) if nonnegative else None
        until = {"maxiter": 5000, "maxfun": 10**5, "ftol": 1e-12}
        found = optimize.minimize(
            objective, x, jac=True, method="L-BFGS-B", bounds=bounds, options=until
        )
        best = min(best, found.fun)
    return best


@pytest.mark.parametrize(
    ("loss", "more"),
    [("squared", {}), ("logistic", {}), ("squared", {"nonnegative": True, "biases": False})],
)
def test_the_optimum_of_another_solver_is_reached(loss, more):
    """To half a per cent: SGD with falling steps, against L-BFGS until it stands still."""
    X, y = make(80, 50, 0.5, rank=2, loss=loss)
    if more:
        y = np.abs(y)
    best = lowest(X, y, loss, 0.05, 2, (80, 50), "nonnegative" in more)
    result = factorize(
        X, y, loss=loss, rank=2, l2=0.05, epochs=400, step=0.2, decay=0.98, dtype="f8",
        random_state=0, track_objective=True, **more,
    )  # fmt: skip
    assert result.history[-1]["objective"] == pytest.approx(best, rel=0.005)


def test_jester_is_as_good_as_libmf(data_dir):
    """LIBMF's best on these ratings at rank 16 (l2 0.1 to 1, 5 to 40 epochs) is 4.0091."""
    d = np.load(data_dir / "jester.npz")
    X = np.stack([d["train_user"], d["train_item"]], axis=1)
    result = factorize(X, d["train_rating"], l2=0.2, l2_bias=0.05, random_state=0)
    test = np.stack([d["test_user"], d["test_item"]], axis=1)
    assert rmse(result.predict(test), d["test_rating"]) < 4.0091


def test_bpr_ranks_a_planted_taste():
    """The order of items that were not seen is nearly that of the tastes they were drawn by."""
    r = np.random.default_rng(0)
    users, items, each = 1500, 300, 30
    taste = r.normal(size=(users, 4)) @ r.normal(size=(items, 4)).T + r.normal(size=items)
    chosen = np.argsort(-(taste + r.gumbel(size=taste.shape)), axis=1)[:, :each]
    X = np.stack([np.repeat(np.arange(users), each), chosen.ravel()], axis=1)
    held = np.arange(len(X)) % each % 10 == 0

    def auc(scores):
        has = np.zeros(taste.shape, bool)
        has[tuple(X.T)] = True
        d = [scores[u, i] - scores[u][~has[u]] for u, i in X[held]]
        return np.mean([(x > 0).mean() for x in d])

    for threads in (1, 2):
        result = factorize(X[~held], loss="bpr", rank=8, l2=0.02, epochs=30, threads=threads,
                           shape=(users, items), random_state=0)  # fmt: skip
        scores = result.user_factors @ result.item_factors.T + result.item_biases
        assert auc(scores) > auc(taste) - 0.02 > 0.85
    assert not result.user_biases.any()


def test_absolute_loss_goes_through_outliers():
    X, y = make(300, 100, 0.4, noise=0.1)
    clean, r = y.copy(), np.random.default_rng(0)
    y[r.random(len(y)) < 0.05] += 30
    errors = [
        np.median(np.abs(factorize(X, y, rank=3, loss=loss, l2=0.02, epochs=40).predict(X) - clean))
        for loss in ("absolute", "squared")
    ]
    assert errors[0] < 0.5 * errors[1]


@pytest.mark.parametrize("scale", [1e-25, 1e-3, 1.0, 1e4, 1e23])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_ratings_of_any_size(scale, dtype):
    """Everything follows the unit of the ratings, if l2 does: |p|^2 is in that unit.

    To float32's precision, in which the first factors are made.
    """
    X, y = make()
    same = {"l2_bias": 0.01, "epochs": 10, "random_state": 0, "dtype": dtype}
    one = factorize(X, y, l2=0.05, **same)
    other = factorize(X, y * scale, l2=0.05 * scale, **same)
    tolerance = 1e-6 if dtype == "f8" else 2e-4
    np.testing.assert_allclose(other.predict(X) / scale, one.predict(X), atol=tolerance)
