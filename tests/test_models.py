"""Linear models against scikit-learn's optimum, normal equations, and themselves over rules."""

import functools

import numpy as np
import pytest

import fastopt
from fastopt import initializers, losses
from fastopt.models import LinearClassifier, LinearRegressor

linear = pytest.importorskip("sklearn.linear_model")
solvers = pytest.mark.skipif(
    not hasattr(fastopt, "minimize"), reason="this fastopt has no minimize"
)


@pytest.fixture(scope="module")
def three():
    r = np.random.default_rng(0)
    X = np.concatenate([r.normal(c, 1.5, (80, 4)) for c in ([0, 2, 0, 1], [2, 0, 1, 0], [-1] * 4)])
    return X, np.repeat(["u", "v", "w"], 80)


def polished(model, X, y, **fit):
    """Fit by full batches with a falling step, near the optimum."""
    model.set_params(batch_size=len(X), max_iter=1500)
    model.set_params(lr=fastopt.schedules.cosine(0.1, 1500))
    return model.fit(X, y, **fit)


@pytest.mark.parametrize("weighted", [False, True])
def test_softmax_regression_is_scikit_learns(three, weighted):
    X, y = three
    w = np.random.default_rng(1).random(len(X)) if weighted else None
    mass = len(X) if w is None else w.sum()
    theirs = linear.LogisticRegression(C=1 / (0.01 * mass), tol=1e-10, max_iter=5000)
    theirs.fit(X, y, sample_weight=w)
    ours = polished(LinearClassifier(alpha=0.01), X, y, sample_weight=w)
    np.testing.assert_allclose(ours.coef_, theirs.coef_, atol=1e-4)
    np.testing.assert_allclose(
        ours.intercept_ - ours.intercept_.mean(),
        theirs.intercept_ - theirs.intercept_.mean(),
        atol=1e-3,
    )
    np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), atol=1e-3)
    assert np.array_equal(ours.predict(X), theirs.predict(X))
    assert ours.score(X, y) == theirs.score(X, y)


def test_two_classes_and_one_against_the_rest(three):
    X, y = three
    two = y != "w"
    theirs = linear.LogisticRegression(C=1 / (0.01 * two.sum()), tol=1e-10).fit(X[two], y[two])
    ours = polished(LinearClassifier("logistic", alpha=0.01), X[two], y[two])
    np.testing.assert_allclose(ours.coef_, theirs.coef_, atol=1e-4)
    np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), atol=1e-4)
    assert ours.decision_function(X).shape == (len(X),)
    rest = polished(LinearClassifier("logistic", alpha=0.01), X, y)
    for k, name in enumerate("uvw"):  # each against the rest by itself
        own = linear.LogisticRegression(C=1 / (0.01 * len(X)), tol=1e-10).fit(X, y == name)
        np.testing.assert_allclose(rest.coef_[k], own.coef_[0], atol=1e-3)
    np.testing.assert_allclose(rest.predict_proba(X).sum(axis=1), 1)


@pytest.mark.parametrize("loss", list(LinearClassifier.losses))
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_every_loss_separates(three, loss, dtype):
    X, y = three
    model = LinearClassifier(loss, lr=0.02, max_iter=20, random_state=0).fit(X.astype(dtype), y)
    assert model.score(X, y) > 0.8 and model.coef_.dtype == np.dtype(dtype)
    assert len(model.history_) == model.n_iter_ == 20
    assert model.history_[-1]["loss"] < model.history_[0]["loss"]
    if loss not in ("softmax", "logistic"):
        with pytest.raises(AttributeError, match="no probabilities"):
            model.predict_proba(X)


def test_least_squares_are_the_normal_equations():
    r = np.random.default_rng(0)
    X, Y = r.normal(size=(100, 3)), r.normal(size=(100, 2))
    Z = np.c_[X, np.ones(100)]
    wanted = np.linalg.solve(Z.T @ Z / 50 + np.diag([0.1] * 3 + [0]), Z.T @ Y[:, 0] / 50)
    ours = polished(LinearRegressor(alpha=0.1), X, Y[:, 0])
    np.testing.assert_allclose([*ours.coef_, ours.intercept_], wanted, atol=1e-5)
    both = polished(LinearRegressor(alpha=0.05), X, Y)  # the mean is over two outputs
    np.testing.assert_allclose(both.coef_[0], wanted[:3], atol=1e-5)
    assert both.predict(X).shape == (100, 2)
    theirs = linear.Ridge(alpha=5).fit(X, Y[:, 0])
    assert ours.score(X, Y[:, 0]) == pytest.approx(theirs.score(X, Y[:, 0]), abs=1e-6)


def test_poisson_and_quantile_regression():
    r = np.random.default_rng(0)
    X = r.normal(size=(300, 2))
    y = r.poisson(np.exp(X @ [0.5, -0.3] + 0.2))
    theirs = linear.PoissonRegressor(alpha=0.01, tol=1e-10).fit(X, y)
    ours = polished(LinearRegressor("poisson", alpha=0.01), X, y)
    np.testing.assert_allclose(ours.coef_, theirs.coef_, atol=1e-4)
    np.testing.assert_allclose(ours.predict(X), theirs.predict(X), rtol=1e-3)
    loss = functools.partial(losses.quantile, quantile=0.9)
    upper = polished(LinearRegressor(loss, alpha=0), X, X[:, 0] + r.normal(size=300))
    assert np.mean(X[:, 0] + r.normal(size=300) < upper.predict(X)) == pytest.approx(0.9, abs=0.05)


@pytest.mark.parametrize(
    "optimizer",
    [
        "SGD",
        "Lion",
        fastopt.Adagrad,
        functools.partial(fastopt.SGD, momentum=0.9, nesterov=True),
        functools.partial(fastopt.AdamW, weight_decay=0.01, clip_norm=1.0),
    ],
)
def test_any_rule_trains(three, optimizer):
    X, y = three
    model = LinearClassifier(optimizer=optimizer, lr=0.02, max_iter=20, random_state=0).fit(X, y)
    assert model.score(X, y) > 0.8


def test_an_optimizer_of_ones_own_arrays(three):
    X, y = three
    arrays = {"W": np.zeros((4, 3)), "b": np.zeros(3)}
    opt = fastopt.RMSprop(arrays, lr=0.01)
    model = LinearClassifier(optimizer=opt, random_state=0, max_iter=3).fit(X, y)
    assert opt.t == 6 and np.shares_memory(model.coef_, arrays["W"])
    with pytest.raises(ValueError, match="optimizer must be one of arrays"):
        LinearClassifier(optimizer=opt).fit(X[:, :2], y)


def test_weights_are_repetitions_in_batches_too(three):
    """The expected step of a weighted sample is that of its rows repeated."""
    X, y = three
    w = np.repeat([1.0, 5.0], 120)
    again = np.repeat(np.arange(240), w.astype(int))
    model = LinearClassifier(alpha=0.1, optimizer="SGD", batch_size=8, max_iter=300)
    model.set_params(lr=fastopt.schedules.cosine(0.05, 9000), random_state=0)
    weighted = model.fit(X, y, sample_weight=w).coef_.copy()
    repeated = polished(LinearClassifier(alpha=0.1), X[again], y[again]).coef_
    np.testing.assert_allclose(weighted, repeated, atol=0.01)


def test_epochs_are_partial_fits_and_seeds_repeat(three):
    X, y = three
    whole = LinearClassifier(optimizer="Adam", lr=0.01, max_iter=3, random_state=5).fit(X, y)
    parts = LinearClassifier(random_state=5)
    for _ in range(3):
        parts.partial_fit(X, y, classes=["w", "u", "v"])
    assert np.array_equal(whole.coef_, parts.coef_)
    assert np.array_equal(whole.coef_, whole.fit(X, y).coef_)
    assert not np.array_equal(parts.coef_, whole.set_params(random_state=6).fit(X, y).coef_)
    one = LinearRegressor(random_state=0).partial_fit(X, X[:, 0]).partial_fit(X, X[:, 0])
    assert np.array_equal(
        one.coef_, LinearRegressor(lr=0.01, random_state=0, max_iter=2).fit(X, X[:, 0]).coef_
    )


def test_initializers_and_no_intercept(three):
    X, y = three
    start = functools.partial(initializers.small_random, scale=10.0, seed=0)
    model = LinearClassifier(initializer=start, fit_intercept=False, max_iter=1, lr=1e-9)
    W = model.fit(X, y).coef_.T
    np.testing.assert_allclose(W, start((4, 3)), atol=1e-6)
    assert not model.intercept_.any()


def test_what_is_refused(three):
    X, y = three
    for model, arguments, message in (
        (LinearClassifier("mse"), (X, y), "loss must be one of"),
        (LinearClassifier(penalty="l3"), (X, y), "penalty"),
        (LinearClassifier(alpha=-1), (X, y), "alpha"),
        (LinearClassifier(optimizer="adam"), (X, y), "optimizer must be one of.*mean 'Adam'"),
        (
            LinearClassifier(initializer="he"),
            (X, y),
            "initializer must be one of.*mean 'zeros'|he_",
        ),
        (LinearClassifier(solver="lbfgs"), (X, y), "method must be one of.*mean 'l-bfgs'"),
        (LinearClassifier(solver="l-bfgs", lr=0.1), (X, y), "takes no lr"),
        (LinearClassifier(solver="l-bfgs", penalty="l1"), (X, y), "owl-qn"),
        (LinearClassifier(), (X, y[:5]), "y must have shape"),
        (LinearClassifier(), (X, np.zeros(len(X))), "two classes"),
        (LinearClassifier(), (X[0], y), "X must have shape"),
        (LinearClassifier(), (X * np.nan, y), "finite"),
        (LinearClassifier(), (X, y, np.zeros(len(X))), "sample_weight"),
        (LinearRegressor(), (X, y), "finite numbers"),
        (LinearRegressor(), (fastopt.CSR(X[0], X[0], X[0], (1, 4)), y), "dense"),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            model.fit(*arguments)
    with pytest.raises(ValueError, match="not fitted"):
        LinearClassifier().predict(X)
    with pytest.raises(ValueError, match="not among the classes"):
        LinearClassifier().partial_fit(X, y, classes=["u", "v"])
    with pytest.raises(ValueError, match="columns"):
        LinearClassifier().fit(X, y).predict(X[:, :2])
    with pytest.raises(FloatingPointError, match="smaller lr"):
        LinearRegressor(optimizer="SGD", lr=1e3, max_iter=200).fit(X, X[:, 0])


def test_scikit_learn_can_clone_and_search(three):
    from sklearn.base import clone
    from sklearn.model_selection import cross_val_score

    model = LinearClassifier("hinge", lr=0.1, alpha=0.3)
    assert clone(model).get_params() == model.get_params()
    assert repr(model) == "LinearClassifier('hinge', alpha=0.3, lr=0.1)"
    X, y = three
    ours = cross_val_score(LinearClassifier(alpha=0.01), X, y)
    theirs = cross_val_score(linear.LogisticRegression(C=1 / (0.01 * 192)), X, y)
    np.testing.assert_allclose(ours, theirs, atol=0.03)  # folds keep the classes' shares
    number = (y == "u").astype(float)
    np.testing.assert_allclose(
        cross_val_score(LinearRegressor(alpha=0), X, number),
        cross_val_score(linear.LinearRegression(), X, number),
        atol=1e-6,
    )
    with pytest.raises(ValueError, match="no parameter is named"):
        model.set_params(strength=1)


@solvers
def test_solvers_find_the_same_optimum(three):
    X, y = three
    theirs = linear.LogisticRegression(C=1 / (0.01 * len(X)), tol=1e-10, max_iter=5000).fit(X, y)
    ours = LinearClassifier(alpha=0.01, solver="l-bfgs", max_iter=1000, tol=1e-8).fit(X, y)
    np.testing.assert_allclose(ours.coef_, theirs.coef_, atol=1e-5)
    assert ours.result_.success and len(ours.history_) == ours.n_iter_
    with pytest.warns(RuntimeWarning, match="l-bfgs"):
        LinearClassifier(solver="l-bfgs", max_iter=1).fit(X, y)


@solvers
def test_owl_qn_is_the_lasso(three):
    X, _ = three
    y = X @ [1.0, 0.0, 0.0, -2.0] + np.random.default_rng(0).normal(size=len(X)) + 1
    theirs = linear.Lasso(alpha=0.4, tol=1e-12).fit(X, y)  # half the squares
    ours = LinearRegressor(penalty="l1", alpha=0.8, solver="owl-qn", max_iter=5000, tol=1e-9)
    ours.fit(X, y)
    np.testing.assert_allclose(ours.coef_, theirs.coef_, atol=1e-6)
    assert ours.intercept_ == pytest.approx(theirs.intercept_, abs=1e-6)
    assert np.array_equal(ours.coef_ == 0, theirs.coef_ == 0)


def test_without_choices_the_optimum_is_found(three):
    """As scikit-learn's models do: nobody has to know a learning rate."""
    X, y = three
    theirs = linear.LogisticRegression(C=1 / (0.01 * len(X)), tol=1e-10, max_iter=5000).fit(X, y)
    ours = LinearClassifier(alpha=0.01).fit(X, y)
    np.testing.assert_allclose(ours.coef_, theirs.coef_, atol=1e-4)
    far = 1e4 * X[:, 0] + 1e6
    plain = LinearRegressor(alpha=0).fit(X, far)
    np.testing.assert_allclose(plain.predict(X), far, rtol=1e-6)
    lasso = LinearRegressor(penalty="l1", alpha=0.8).fit(X, X[:, 0])
    theirs = linear.Lasso(alpha=0.4, tol=1e-12).fit(X, X[:, 0])
    np.testing.assert_allclose(lasso.coef_, theirs.coef_, atol=1e-4)
    steps = LinearRegressor("mae", alpha=0, random_state=0).fit(X, X[:, 0])  # it has kinks
    np.testing.assert_allclose(steps.predict(X), X[:, 0], atol=0.1)
    with pytest.warns(RuntimeWarning, match="still falling"):
        LinearRegressor("mae", random_state=0).fit(X, far)
    after = LinearClassifier(alpha=0.01, random_state=0).fit(X, y).partial_fit(X, y)
    assert after.n_iter_ == ours.n_iter_ + 1 and after.score(X, y) > 0.8


def test_an_initializer_by_name_is_seeded(three):
    X, y = three
    model = LinearClassifier(initializer="he_normal", random_state=3, max_iter=1, lr=1e-12)
    W = initializers.he_normal((4, 3), seed=3)
    np.testing.assert_allclose(model.fit(X, y).coef_.T, W, atol=1e-9)


@pytest.mark.filterwarnings("ignore")
def test_score_of_constant_targets_is_scikit_learns():
    from sklearn.metrics import r2_score

    X = np.random.default_rng(0).normal(size=(30, 2))
    for y in (np.full(30, 2.0), np.c_[np.full(30, 2.0), X[:, 0]]):
        model = LinearRegressor(solver="l-bfgs", max_iter=1, alpha=1.0).fit(X, y + X[:, :1].sum())
        assert model.score(X, y) == pytest.approx(r2_score(y, model.predict(X)))
