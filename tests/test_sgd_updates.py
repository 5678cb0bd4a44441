"""Every update of the estimators: against scikit-learn's own in the data's order, and formulas."""

from __future__ import annotations

import numpy as np
import pytest

sparse = pytest.importorskip("scipy.sparse")
linear_model = pytest.importorskip("sklearn.linear_model")
sklearn = pytest.importorskip("sklearn", minversion="1.8")  # the first with pa1 and pa2
from sklearn.exceptions import ConvergenceWarning  # noqa: E402

from fastopt.estimators import SGDClassifier, SGDRegressor  # noqa: E402
from fastopt.sparse.linear_sgd import LOSSES, NUMBERS  # noqa: E402
from fastopt.sparse.rows import Rows, Settings, Targets  # noqa: E402
from fastopt.sparse.runner import solve  # noqa: E402

IN_ORDER = {"shuffle": False, "tol": None, "max_iter": 3, "eta0": 0.02, "learning_rate": "constant"}


def numbers(n=300, d=12, seed=0):
    r = np.random.default_rng(seed)
    X = r.normal(size=(n, d))
    X[np.abs(X) < 0.6] = 0
    return X, X @ r.normal(size=d) + 0.3 * r.normal(size=n) + 0.5


def classes(n=300, k=2, seed=0):
    X, y = numbers(n, seed=seed)
    return X, np.digitize(y, np.quantile(y, np.arange(1, k) / k))


def both(name, X, y, fit=None, **params):
    """Train ours and scikit-learn's own alike, both in the data's order."""
    params = {**IN_ORDER, **params}
    ours = {"SGDClassifier": SGDClassifier, "SGDRegressor": SGDRegressor}[name](**params)
    return ours.fit(X, y, **(fit or {})), getattr(linear_model, name)(**params).fit(
        X, y, **(fit or {})
    )


def same(one, two, tolerance=1e-9):
    np.testing.assert_allclose(one.coef_, two.coef_, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(one.intercept_, two.intercept_, rtol=tolerance, atol=tolerance)
    assert one.coef_.shape == two.coef_.shape and one.intercept_.shape == two.intercept_.shape
    assert one.t_ == two.t_ and one.n_iter_ == two.n_iter_


@pytest.mark.parametrize("penalty", ["l2", None])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("k", [2, 3])
def test_classifiers(loss, penalty, k):
    X, y = classes(k=k)
    same(*both("SGDClassifier", X, y, loss=loss, penalty=penalty, alpha=0.01, epsilon=0.2))


@pytest.mark.parametrize("penalty", ["l2", None])
@pytest.mark.parametrize("loss", NUMBERS)
def test_regressors(loss, penalty):
    X, y = numbers()
    same(*both("SGDRegressor", X, y, loss=loss, penalty=penalty, alpha=0.01, epsilon=0.2))


@pytest.mark.parametrize("alpha", [0.05, 3.0, 40.0, 1e5])
def test_large_shrinkage(alpha):
    """At alpha * eta0 >= 1 scikit-learn's own sets the weights to 0 in every step."""
    X, y = numbers()
    same(*both("SGDRegressor", X, y, alpha=alpha), tolerance=1e-8)


@pytest.mark.parametrize("average", [True, 1, 50, 301, 700, 5000])
@pytest.mark.parametrize("k", [2, 3])
def test_averages(average, k):
    X, y = classes(k=k)
    ours, theirs = both("SGDClassifier", X, y, loss="log_loss", alpha=0.01, average=average)
    same(ours, theirs)
    np.testing.assert_allclose(np.ravel(ours._standard_coef), theirs._standard_coef.ravel())


@pytest.mark.parametrize("average", [True, 50, 330, 700])
def test_averages_go_on(average):
    """Not of the classifier: scikit-learn's own forgets the intercept between two calls."""
    X, y = numbers()
    ours, theirs = both("SGDRegressor", X, y, alpha=0.01, average=average, max_iter=1)
    for rows in (slice(77), slice(77, None)):
        for model in (ours, theirs):
            model.partial_fit(X[rows], y[rows])
        same(ours, theirs)


def test_the_average_survives_a_tiny_scale():
    """The sum of the models is brought together before the scale leaves the dtype's range."""
    X, y = numbers()
    same(*both("SGDRegressor", X, y, alpha=5.0, average=True, max_iter=20))
    single, _ = both("SGDRegressor", X.astype("f4"), y, alpha=1.0, average=True, max_iter=50)
    double, _ = both("SGDRegressor", X, y, alpha=1.0, average=True, max_iter=50)
    same(single, double, 1e-4)


@pytest.mark.parametrize("learning_rate", ["pa1", "pa2"])
@pytest.mark.parametrize("average", [False, 40])
def test_passive_aggressive(learning_rate, average):
    more = {"learning_rate": learning_rate, "penalty": None, "eta0": 0.3, "average": average}
    X, y = classes()
    same(*both("SGDClassifier", X, y, loss="hinge", **more))
    X, y = numbers()
    X[7] = 1e-3 if average else 0  # a row that says nothing: scikit-learn leaves it out of the mean
    same(*both("SGDRegressor", X, y, loss="epsilon_insensitive", **more))


@pytest.mark.parametrize("k", [2, 3])
def test_weights(k):
    X, y = classes(k=k)
    r = np.random.default_rng(2)
    for weight in ({0: 0.3, 1: 2.0, 2: 1.5}, "balanced"):
        if weight != "balanced":
            weight = {label: weight[label] for label in range(k)}
        fit = {"sample_weight": r.random(300) * 3}
        same(*both("SGDClassifier", X, y, fit, class_weight=weight, alpha=0.01))
    X, y = numbers()
    same(*both("SGDRegressor", X, y, fit, alpha=0.01))


def test_adaptive_steps():
    """The step falls by 5 where the objective stops improving, on the same epochs or nearly."""
    X, y = numbers()
    ours, theirs = both(
        "SGDRegressor", X, y, learning_rate="adaptive", tol=1e-4, max_iter=500, alpha=0.01
    )
    np.testing.assert_allclose(ours.coef_, theirs.coef_, atol=2e-3)
    assert ours.n_iter_ < 500 and ours.fit_report_["stop"] == ["the objective no longer improves"]


@pytest.mark.parametrize("power_t", [0.0, 0.25, 0.5, 1.0])
def test_invscaling_steps(power_t):
    """Where the loss is flat L2 alone acts, and shows the sum of all steps.

    1000 rows are 17 blocks of the same time but not the same size: the first has 64 rows, not 58.8.
    """
    X, y, rows = np.ones((1000, 1)), np.ones(1000), np.arange(1, 4001)
    model = SGDRegressor(
        "epsilon_insensitive", epsilon=100, alpha=0.01, learning_rate="invscaling", eta0=0.5,
        power_t=power_t, tol=None, max_iter=4, shuffle=False,
    )  # fmt: skip
    model.fit(X, y, coef_init=[3.0])
    steps = 0.5 / rows**power_t
    assert -np.log(model.coef_[0] / 3) / 0.01 == pytest.approx(steps.sum(), rel=64 / 58.8 - 1)
    for _ in range(2):
        model.partial_fit(X, y)
    steps = 0.5 / np.arange(1.0, 6001) ** power_t
    assert -np.log(model.coef_[0] / 3) / 0.01 == pytest.approx(steps.sum(), rel=64 / 58.8 - 1)


def test_partial_fits_are_a_fit():
    X, y = classes()
    params = {**IN_ORDER, "max_iter": 1, "alpha": 0.01}
    whole = SGDClassifier(**params).fit(X, y)
    parts = SGDClassifier(**params)
    for rows in np.array_split(np.arange(300), 7):
        parts.partial_fit(X[rows], y[rows], classes=[0, 1])
    same(parts, whole)
    theirs = linear_model.SGDClassifier(**params)
    for rows in np.array_split(np.arange(300), 7):
        theirs.partial_fit(X[rows], y[rows], classes=[0, 1])
    same(parts, theirs)


# ---- L1, against the formula ----


def cumulative(X, y, step, l2, l1, epochs):
    """Tsuruoka et al. 2009, figure 2, with L2; after 1, 2, 4, ... epochs it begins anew.

    A weight pays when a row has its column, before it is used; all pay at the end of an epoch.
    """
    w, b = np.zeros(X.shape[1]), 0.0
    total, paid = 0.0, np.zeros_like(w)

    def pay(columns):
        for j in columns:
            before = w[j]
            if w[j] > 0:
                w[j] = max(0, w[j] - (total + paid[j]))
            elif w[j] < 0:
                w[j] = min(0, w[j] + (total - paid[j]))
            paid[j] += w[j] - before

    for epoch in range(1, epochs + 1):
        for x, target in zip(X, y, strict=True):
            pay(np.flatnonzero(x))
            g = w @ x + b - target
            keep = 1 - step * l2  # of weights and debts alike
            w, total, paid = keep * w - step * g * x, keep * total + l1 * step, keep * paid
            b -= step * g
        pay(range(len(w)))
        if epoch & (epoch - 1) == 0:
            total, paid = 0.0, np.zeros_like(w)
    return w, b


@pytest.mark.parametrize("l2", [0.0, 0.01, 2.0])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_l1_is_the_cumulative_penalty(l2, dtype):
    X, y = numbers()
    X = X.astype(dtype).astype("f8")
    settings = Settings.check(
        loss="squared", l2=l2, l1=0.1, epochs=5, step=0.01, schedule="constant", decay=1.0,
        mode="auto", fit_intercept=True, average=False, threads=1, seed=0, shuffle=False, gain=1.0,
    )  # fmt: skip
    rows = Rows(sparse.csr_matrix(X.astype(dtype)), settings)
    target = Targets(rows, y=y.astype(dtype))
    result = solve(rows, target, np.zeros(12, dtype), 0.0)
    w, b = cumulative(X, y, 0.01, l2, 0.1, 5)
    tolerance = 1e-10 if dtype == "f8" else 1e-4
    np.testing.assert_allclose(result.w, w, rtol=tolerance, atol=tolerance)
    assert result.intercept == pytest.approx(b, rel=tolerance)


def test_positive_weights_in_the_datas_order():
    X, y = numbers()
    ours = SGDRegressor(positive=True, alpha=0.01, **IN_ORDER).fit(X, y)
    w, b = np.zeros(12), 0.0
    for x, target in zip(np.tile(X, (3, 1)), np.tile(y, 3), strict=True):
        g = w @ x + b - target
        w, b = np.maximum(0, (1 - 0.02 * 0.01) * w - 0.02 * g * x), b - 0.02 * g
    np.testing.assert_allclose(ours.coef_, w, rtol=1e-10)
    assert (ours.coef_ == 0).any()


def test_maximum_of_epochs_warns():
    X, y = classes()
    with pytest.warns(ConvergenceWarning, match="Maximum number of iteration"):
        SGDClassifier(max_iter=2, random_state=0).fit(X, y)
