"""optimizer="sdca" of the estimators: optima of scikit-learn's solvers, and what it refuses."""

import numpy as np
import pytest

sklearn = pytest.importorskip("sklearn")
from scipy import sparse  # noqa: E402
from sklearn.base import clone  # noqa: E402
from sklearn.datasets import make_blobs  # noqa: E402
from sklearn.linear_model import LogisticRegression, Ridge  # noqa: E402
from sklearn.utils.estimator_checks import parametrize_with_checks  # noqa: E402

from fastopt import SGDClassifier, SGDRegressor  # noqa: E402


def rows(n=400, d=12, classes=2, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d)) * (rng.random((n, d)) < 0.5)
    scores = X @ rng.standard_normal((d, classes)) + rng.standard_normal((n, classes))
    return X, scores.argmax(1)


@pytest.mark.parametrize("container", [np.asarray, sparse.csr_matrix, sparse.csc_matrix])
@pytest.mark.parametrize("classes", [2, 4])
def test_logistic_regression_of_scikit_learn(classes, container):
    X, y = rows(classes=classes)
    weight = np.random.default_rng(1).integers(0, 3, len(y)).astype(float)
    model = SGDClassifier("log_loss", optimizer="sdca", alpha=0.01, tol=1e-10, max_iter=20_000)
    model.fit(container(X), y, sample_weight=weight)
    for k, coef in enumerate(model.coef_):
        positive = y == (1 if classes == 2 else k)
        peer = LogisticRegression(C=1 / (0.01 * len(y[weight > 0])), tol=1e-10, max_iter=10_000)
        peer.fit(X, positive, sample_weight=weight)
        np.testing.assert_allclose(coef, peer.coef_[0], atol=1e-4)
        np.testing.assert_allclose(model.intercept_[k], peer.intercept_[0], atol=1e-4)
    assert all("within" in words for words in model.fit_report_["stop"])
    assert model.history_[-1]["gap"] <= 1e-10 * model.history_[-1]["objective"]


def test_ridge_of_scikit_learn():
    X, y = rows()
    y = X @ np.arange(12.0) + y
    model = SGDRegressor(optimizer="sdca", alpha=0.1, tol=1e-12, max_iter=20_000).fit(X, y)
    peer = Ridge(alpha=0.1 * len(y), tol=1e-12).fit(X, y)
    np.testing.assert_allclose(model.coef_, peer.coef_, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(model.intercept_, peer.intercept_, rtol=1e-4, atol=1e-5)


def test_class_weights_target_and_budget():
    X, y = rows()
    common = {"optimizer": "sdca", "alpha": 0.01, "max_iter": 20_000, "random_state": 0}
    weighted = SGDClassifier(**common, tol=1e-9, class_weight={0: 1, 1: 3}).fit(X, y)
    same = SGDClassifier(**common, tol=1e-9).fit(X, y, sample_weight=np.where(y == 1, 3, 1))
    np.testing.assert_array_equal(weighted.coef_, same.coef_)
    model = SGDClassifier(**common, tol=None, target=0.9).fit(X, y)
    assert model.history_[-1]["objective"] <= 0.9 and "target 0.9" in model.fit_report_["stop"][0]
    model = SGDClassifier(optimizer="sdca", alpha=1e-9, tol=None, max_iter=10**7, time_budget=0.1)
    assert "time budget" in model.fit(X, y).fit_report_["stop"][0]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"optimizer": "newton"}, "optimizer must be one of 'sgd', 'sdca', 'adagrad'"),
        ({"loss": "perceptron"}, "has no loss 'perceptron'"),
        ({"penalty": "l1"}, "needs penalty='l2' and alpha > 0, got 'l1'"),
        ({"alpha": 0.0}, "needs penalty='l2' and alpha > 0, got 'l2' and 0.0"),
        ({"early_stopping": True}, "cannot do early_stopping"),
        ({"warm_start": True}, "cannot do warm_start"),
        ({"positive": True}, "cannot do positive"),
        ({"average": 10}, "cannot do average"),
    ],
)
def test_what_it_cannot_do_is_said(options, words):
    X, y = rows()
    model = SGDClassifier(**{"optimizer": "sdca", **options})
    with pytest.raises(ValueError, match=words):
        model.fit(X, y)
    assert not hasattr(model, "coef_")


def test_starts_and_parts_are_refused():
    X, y = rows()
    model = SGDClassifier(optimizer="sdca")
    assert not hasattr(model, "partial_fit") and hasattr(SGDClassifier(), "partial_fit")
    with pytest.raises(AttributeError, match="partial_fit"):
        clone(model).partial_fit(X, y, classes=[0, 1])
    with pytest.raises(ValueError, match="takes no coef_init"):
        clone(model).fit(X, y, coef_init=np.ones((1, 12)))
    with pytest.raises(ValueError, match="takes no coef_init, intercept_init and validation"):
        clone(model).fit(X, y, validation=(X, y))


@pytest.mark.parametrize("intercept", [False, True])
@pytest.mark.parametrize("loss", ["hinge", "log_loss"])
def test_rows_that_are_long_beside_the_penalty(loss, intercept):
    """A row alone could move the weights far: Newton's steps must not swing, nor the intercept."""
    X, y = make_blobs(300, random_state=0)
    X = X / X.std()
    model = SGDClassifier(
        loss, optimizer="sdca", alpha=1e-4, tol=1e-4, max_iter=100_000, fit_intercept=intercept
    )
    model.fit(X, y)
    assert all("within" in words for words in model.fit_report_["stop"])
    if loss == "log_loss":
        for k, coef in enumerate(model.coef_):
            peer = LogisticRegression(
                C=1 / (1e-4 * 300), tol=1e-8, max_iter=10_000, fit_intercept=intercept
            )
            theirs = peer.fit(X, y == k).coef_[0]
            np.testing.assert_allclose(coef, theirs, rtol=0.05, atol=0.05)


@parametrize_with_checks(
    [SGDClassifier("log_loss", optimizer="sdca"), SGDRegressor(optimizer="sdca", alpha=1e-3)],
    expected_failed_checks=lambda estimator: dict.fromkeys(
        (
            "check_sample_weight_equivalence_on_dense_data",
            "check_sample_weight_equivalence_on_sparse_data",
        ),
        "equal to tol, not to the last bit",
    ),
)
def test_scikit_learn_contract(estimator, check):
    check(estimator)
