"""What a first try met: unscaled columns, wrong containers, other options between calls."""

import warnings

import numpy as np
import pytest

import fastopt

sparse = pytest.importorskip("scipy.sparse")
optimize = pytest.importorskip("scipy.optimize")
sklearn_data = pytest.importorskip("sklearn.datasets")


def objective(loss, X, y, l2, w, b):
    m = y * (X @ w + b)
    values = {"logistic": np.logaddexp(0, -m), "squared_hinge": np.maximum(0, 1 - m) ** 2}
    return values[loss].mean() + l2 / 2 * w @ w


@pytest.mark.parametrize("scale", [1.0, 1e-2, 1e-4])
@pytest.mark.parametrize("loss", ["logistic", "squared_hinge"])
def test_small_columns_and_unequal_classes(loss, scale):
    """The intercept is learned at any scale, and nothing claims to be nearer than it is."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(2000, 4)) * scale, np.where(rng.random(2000) < 0.9, 1.0, -1.0)
    l2, rows = 1e-2, sparse.csr_matrix(X)
    found = [
        optimize.minimize(
            lambda z: objective(loss, X, y, l2, z[:4], z[4]), np.zeros(5), method=method,
            options={"maxiter": 4000},
        ).fun
        for method in ("BFGS", "Nelder-Mead")
    ]  # fmt: skip
    least = min(found)
    dual = fastopt.sdca(rows, y, loss=loss, l2=l2, threads=1)
    assert objective(loss, X, y, l2, dual.w, dual.intercept) - least <= dual.gap + 1e-7
    polished = fastopt.hogwild(rows, y, loss=loss, l2=l2, epochs=2, threads=1, polish="lbfgs")
    assert "is within" in polished.message
    left = objective(loss, X, y, l2, polished.w, polished.intercept) - least
    assert left <= 1.1e-6 * least
    plain = fastopt.hogwild(rows, y, loss=loss, l2=l2, epochs=20, threads=1)
    assert objective(loss, X, y, l2, plain.w, plain.intercept) <= 1.03 * least


def test_few_rows_with_large_norms_do_not_keep_logistic_turns_in_a_cycle():
    X, labels = sklearn_data.load_breast_cancer(return_X_y=True)
    X = (X - X.mean(0)) / X.std(0)
    y = np.where(labels > 0, 1.0, -1.0)
    result = fastopt.sdca(sparse.csr_matrix(X), y, loss="logistic", l2=1e-4, threads=1)
    assert result.message.startswith("the objective is within")
    least = optimize.minimize(
        lambda z: objective("logistic", X, y, 1e-4, z[:-1], z[-1]), np.zeros(31), method="L-BFGS-B",
        options={"maxiter": 5000, "maxfun": 10**6},
    ).fun  # fmt: skip
    assert result.objective <= least + result.gap + 1e-6


def test_the_librarys_own_rows_fit_the_estimators():
    X, y = sklearn_data.load_digits(return_X_y=True)
    S = sparse.csr_matrix(X / 16)
    rows = fastopt.CSR(S.data, S.indices, S.indptr, S.shape)
    model = fastopt.SGDClassifier(random_state=0)
    given = model.fit(rows, y).coef_.copy()
    np.testing.assert_array_equal(given, model.fit(S, y).coef_)
    for estimator in (model, fastopt.FMClassifier(rank=2, max_iter=2, random_state=0)):
        with pytest.raises(ValueError, match=r"validation must be a pair \(X, y\)"):
            estimator.fit(S, y, validation=S)


def test_another_kind_of_model_between_two_partial_fits():
    X, y = sklearn_data.load_digits(return_X_y=True)
    model = fastopt.SGDClassifier("log_loss", multi_class="multinomial", random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(X / 16, y).set_params(multi_class="ovr").partial_fit(X / 16, y)
    assert model.score(X / 16, y) > 0.8


def test_labels_of_a_dense_classifier_are_classes():
    X = np.random.default_rng(0).normal(size=(30, 2))
    for y in (X[:, 0], np.where(X[:, 0] > 0, np.nan, 1.0)):
        with pytest.raises(ValueError, match="y must hold classes"):
            fastopt.LinearClassifier().fit(X, y)
    with pytest.raises(TypeError, match="labels of one type"):
        fastopt.LinearClassifier().fit(X, np.array(["a"] * 29 + [None], object))


def test_one_component_that_is_a_little_wrong_is_no_factor():
    x = np.random.default_rng(0).normal(size=20)

    def slopes(x):
        g = 2 * x
        g[3] *= 1.001
        return g

    report = fastopt.check_grad(lambda x: x @ x, slopes, x)
    assert not report.ok and report.diagnosis == "1 of 20 components wrong, worst x[3]"


def test_an_inflection_is_no_minimum():
    found = fastopt.newton_optimum(lambda x: 3 * x**2, lambda x: 6 * x, 1.0)
    assert found.kind == "inflection"
    assert fastopt.newton_optimum(lambda x: 4 * x**3, lambda x: 12 * x**2, 1.0).kind == "minimum"


def test_a_problem_that_begins_outside_its_domain():
    with pytest.raises(ValueError, match="fun and grad must be finite at x0"):
        fastopt.compare((lambda x: np.nan, lambda x: x, np.ones(3)), ["SGD"], steps=5, lr=0.1)


def test_a_machine_that_is_worse_than_the_mean_says_so():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(600, 6))
    y = 10 * (X[:, 0] * X[:, 1] - X[:, 2]) + 5
    with pytest.warns(RuntimeWarning, match="scale the columns of X"):
        fastopt.FMRegressor(random_state=0).fit(X * 1e3, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        fastopt.FMRegressor(random_state=0).fit(X, y)


@pytest.mark.parametrize("scale", [1.0, 1e-2, 1e-4])
@pytest.mark.parametrize("optimizer", ["sgd", "adagrad", "adam", "ftrl"])
def test_estimators_learn_the_intercept_at_any_scale(optimizer, scale):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(2000, 4)) * scale, rng.random(2000) < 0.9
    model = fastopt.SGDClassifier("log_loss", optimizer=optimizer, random_state=0).fit(X, y)
    p = np.where(y, 1, -1) * model.decision_function(X)
    share = y.mean()
    constant = -share * np.log(share) - (1 - share) * np.log(1 - share)
    assert np.logaddexp(0, -p).mean() <= 1.05 * constant
