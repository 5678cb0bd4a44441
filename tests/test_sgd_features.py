"""What surrounds the updates: optima with penalties, weights, stopping, exports, other tools."""

from __future__ import annotations

import pickle
import time

import numpy as np
import pytest
from fastopt._core import openmp

import fastopt
from fastopt.sparse import evaluation
from fastopt.sparse.runner import seconds_to

sparse = pytest.importorskip("scipy.sparse")
linear_model = pytest.importorskip("sklearn.linear_model")
from sklearn.base import clone  # noqa: E402
from sklearn.calibration import CalibratedClassifierCV  # noqa: E402
from sklearn.model_selection import GridSearchCV, StratifiedShuffleSplit  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import StandardScaler  # noqa: E402

from fastopt.estimators import SGDClassifier, SGDRegressor  # noqa: E402


def numbers(n=4000, d=40, seed=0, noise=0.3):
    """Sparse rows; 3 of 4 columns have nothing to do with y."""
    r = np.random.default_rng(seed)
    X = sparse.random(n, d, 0.3, format="csr", random_state=r)
    true = np.where(np.arange(d) % 4, 0, r.normal(size=d))
    return X, X @ true + noise * r.normal(size=n) + 0.5


def labels(**more):
    X, y = numbers(**more)
    return X, np.where(y > np.median(y), "yes", "no")


# ---- optima ----


@pytest.mark.parametrize("l1_ratio", [0.3, 0.9, 1.0])
def test_l1_optimum_of_a_regression(l1_ratio):
    """Coordinate descent minimises the same function: |r|^2 / (2 n) + the same penalty."""
    X, y = numbers()
    alpha = 0.01
    best = linear_model.ElasticNet(alpha=alpha, l1_ratio=l1_ratio, tol=1e-10, max_iter=10_000)
    best.fit(X, y)

    def objective(w, b):
        r = X @ w + b - y
        penalty = l1_ratio * np.abs(w).sum() + (1 - l1_ratio) / 2 * (w @ w)
        return np.mean(r**2) / 2 + alpha * penalty

    least = objective(best.coef_, best.intercept_)
    model = SGDRegressor(
        penalty="elasticnet", l1_ratio=l1_ratio, alpha=alpha, learning_rate="optimal",
        max_iter=200, tol=None, random_state=0,
    ).fit(X, y)  # fmt: skip
    assert least * (1 - 1e-9) <= objective(model.coef_, model.intercept_[0]) <= least * 1.001
    np.testing.assert_array_equal(model.coef_ == 0, best.coef_ == 0)
    assert 5 < np.count_nonzero(model.coef_) < 30


@pytest.mark.parametrize("loss", ["log_loss", "squared_hinge"])
@pytest.mark.parametrize("penalty", ["l1", "elasticnet"])
def test_l1_optimum_of_a_classification(loss, penalty):
    X, y = labels()
    sign, alpha, share = np.where(y == "yes", 1, -1), 0.004, 1.0 if penalty == "l1" else 0.6

    def objective(w, b):
        p = sign * (X @ w + b)
        value = np.logaddexp(0, -p) if loss == "log_loss" else np.maximum(0, 1 - p) ** 2
        return np.mean(value) + alpha * (share * np.abs(w).sum() + (1 - share) / 2 * (w @ w))

    w, b = proximal(X, sign, loss, alpha * share, alpha * (1 - share))
    model = SGDClassifier(
        loss, penalty=penalty, l1_ratio=0.6, alpha=alpha, max_iter=200, tol=None, random_state=0
    ).fit(X, y)
    got, least = objective(model.coef_[0], model.intercept_[0]), objective(w, b)
    assert least * (1 - 1e-9) <= got <= least * 1.001
    wrong = (model.coef_[0] == 0) != (w == 0)
    assert wrong.sum() <= 1 and 2 < np.count_nonzero(w) < 35


def proximal(X, sign, loss, l1, l2):
    """FISTA (Beck and Teboulle 2009) on all rows, until nothing changes."""
    Z = np.c_[X.toarray(), np.ones(X.shape[0])]
    bound = np.linalg.norm(Z, 2) ** 2 / len(Z) * (0.25 if loss == "log_loss" else 2) + l2
    w = v = np.zeros(Z.shape[1])
    t = 1.0
    for _ in range(20_000):
        p = sign * (Z @ v)
        g = -sign / (1 + np.exp(p)) if loss == "log_loss" else -2 * sign * np.maximum(0, 1 - p)
        g = Z.T @ g / len(Z)
        g[:-1] += l2 * v[:-1]
        new = v - g / bound
        new[:-1] = np.sign(new[:-1]) * np.maximum(0, np.abs(new[:-1]) - l1 / bound)
        after = (1 + np.sqrt(1 + 4 * t * t)) / 2
        v, w, t, moved = new + (t - 1) / after * (new - w), new, after, np.abs(new - w).max()
        if moved < 1e-12:
            break
    return w[:-1], w[-1]


def test_positive_optimum():
    X, y = numbers()
    best = linear_model.ElasticNet(
        alpha=0.005, l1_ratio=1e-9, positive=True, tol=1e-10, max_iter=20_000
    ).fit(X, y)
    model = SGDRegressor(
        alpha=0.005, positive=True, learning_rate="optimal", max_iter=200, tol=None, random_state=0
    ).fit(X, y)
    np.testing.assert_allclose(model.coef_, best.coef_, atol=0.02)
    assert (model.coef_ >= 0).all() and (model.coef_ == 0).any()


def test_poisson_and_quantile_optima():
    X, y = numbers()
    counts = np.random.default_rng(1).poisson(np.exp(0.5 * y))
    best = linear_model.PoissonRegressor(alpha=0.01, tol=1e-10, max_iter=1000).fit(X, counts)
    model = SGDRegressor(
        "poisson", alpha=0.01, learning_rate="optimal", average=True, max_iter=100, tol=None,
        random_state=0,
    ).fit(X, counts)  # fmt: skip
    np.testing.assert_allclose(model.coef_, best.coef_, atol=0.01)
    np.testing.assert_allclose(model.predict(X), best.predict(X), rtol=0.03)
    for q in (0.2, 0.5, 0.9):
        model = SGDRegressor(
            "quantile", quantile=q, alpha=1e-4, learning_rate="optimal", average=True,
            max_iter=100, tol=None, random_state=0,
        ).fit(X, y)  # fmt: skip
        assert np.mean(model.predict(X) > y) == pytest.approx(q, abs=0.02)


def test_hogwild_takes_l1_and_positive():
    X, y = numbers()
    result = fastopt.hogwild(
        X, y, loss="squared", l2=0.0, l1=0.01, epochs=100, average=False, threads=2
    )
    assert result.mode == "serial"
    assert ("built without OpenMP" if openmp() == "none" else "L1") in result.reason
    best = linear_model.Lasso(alpha=0.01, tol=1e-10).fit(X, y)
    np.testing.assert_array_equal(result.w == 0, best.coef_ == 0)
    np.testing.assert_allclose(result.w, best.coef_, atol=0.02)
    assert (fastopt.hogwild(X, y, loss="squared", positive=True, average=False).w >= 0).all()


# ---- weights, containers, calls ----


@pytest.mark.parametrize("cls", [SGDClassifier, SGDRegressor])
def test_rows_of_weight_0_count_nowhere(cls):
    X, y = numbers(n=900)
    y = y > 0.5 if cls is SGDClassifier else y
    weight = np.random.default_rng(0).random(900)
    weight[::3] = 0
    one = cls(random_state=0).fit(X, y, sample_weight=weight)
    two = cls(random_state=0).fit(X[weight > 0], y[weight > 0], sample_weight=weight[weight > 0])
    np.testing.assert_array_equal(one.coef_, two.coef_)
    assert one.t_ == two.t_ and one.intercept_ == two.intercept_
    with pytest.raises(ValueError, match="sample_weight must not be"):
        cls().fit(X, y, sample_weight=-weight)
    with pytest.raises(ValueError, match="must not be all zero"):
        cls().fit(X, y, sample_weight=np.zeros(900))
    before = one.coef_.copy(), one.t_
    one.partial_fit(X[:2], y[:2], sample_weight=[1e-300, 0])
    np.testing.assert_allclose(one.coef_, before[0], rtol=1e-3)
    assert one.t_ == before[1] + 1


def test_class_weights_are_sample_weights():
    X, y = labels(n=900)
    one = SGDClassifier(random_state=0, class_weight={"no": 3, "yes": 0.5}).fit(X, y)
    two = SGDClassifier(random_state=0).fit(X, y, sample_weight=np.where(y == "no", 3, 0.5))
    np.testing.assert_array_equal(one.coef_, two.coef_)


@pytest.mark.parametrize("params", [
    {}, {"loss": "log_loss", "average": True}, {"penalty": "l1", "alpha": 1e-3},
    {"learning_rate": "invscaling", "average": 100}, {"early_stopping": True},
])  # fmt: skip
def test_all_containers_give_the_same_model(params):
    X, y = labels(n=5000)
    models = [
        SGDClassifier(random_state=0, **params).fit(Z, y)
        for Z in (X, X.tocsc(), X.toarray(), np.asfortranarray(X.toarray()), sparse.csr_array(X))
    ]
    for model in models[1:]:
        np.testing.assert_allclose(model.coef_, models[0].coef_, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(model.intercept_, models[0].intercept_, rtol=1e-9, atol=1e-9)
        assert model.n_iter_ == models[0].n_iter_


def test_dense_rows_and_their_csr():
    r = np.random.default_rng(0)
    X = r.normal(size=(5000, 30))
    X[r.random(X.shape) < 0.1] = 0  # few enough to stay a dense array
    y = X @ r.normal(size=30) > 0
    one, two = (SGDClassifier(random_state=0).fit(Z, y) for Z in (X, sparse.csr_matrix(X)))
    np.testing.assert_allclose(one.coef_, two.coef_, rtol=1e-8)


def test_warm_start_begins_where_it_was():
    X, y = labels()
    cold = SGDClassifier(random_state=0, max_iter=1, tol=None, warm_start=True).fit(X, y)
    first = cold.coef_.copy()
    cold.set_params(eta0=1e-12, learning_rate="constant").fit(X, y)
    np.testing.assert_allclose(cold.coef_, first, rtol=1e-6)
    with pytest.raises(ValueError, match="warm_start needs the same classes"):
        cold.fit(X, np.where(y == "yes", "a", "b"))


def test_partial_fit():
    X, y = labels()
    model = SGDClassifier(random_state=0)
    with pytest.raises(ValueError, match="classes must be passed on the first call"):
        model.partial_fit(X, y)
    for rows in np.array_split(np.arange(4000), 20):
        model.partial_fit(X[rows], y[rows], classes=["no", "yes"])
    assert model.t_ == 4001 and model.n_iter_ == 1
    assert model.score(X, y) > SGDClassifier(random_state=0).fit(X, y).score(X, y) - 0.02
    with pytest.raises(ValueError, match="labels that are not among the classes"):
        model.partial_fit(X[:2], ["no", "maybe"])
    model.sparsify().partial_fit(X, y)  # sparse coefficients go on too
    assert isinstance(model.coef_, np.ndarray)


# ---- stopping ----


@pytest.mark.parametrize("cls", [SGDClassifier, SGDRegressor])
def test_early_stopping_takes_the_epoch_with_the_best_score(cls):
    X, y = numbers(n=1000, d=200, noise=2.0)
    y = (y > 0.5).astype(int) if cls is SGDClassifier else y
    params = {"random_state": 3, "alpha": 1e-6, "n_iter_no_change": 10, "learning_rate": "optimal"}
    model = cls(early_stopping=True, validation_fraction=0.3, **params).fit(X, y)
    scores = [record["score"] for record in model.history_]
    assert model.n_iter_ == len(scores) < 1000
    assert model.fit_report_["stop"] == ["the validation score no longer improves"]
    if cls is SGDClassifier:
        split = StratifiedShuffleSplit(test_size=0.3, random_state=3)
        train, held = next(split.split(X, y))
        assert model.score(X[held], y[held]) == pytest.approx(max(scores))
        rows = np.sort(train)
        given = cls(**params).fit(X[rows], y[rows], validation=(X[held], y[held]))
        np.testing.assert_array_equal(given.coef_, model.coef_)


def test_time_budget():
    X, y = numbers(n=20_000)
    start = time.perf_counter()
    model = SGDRegressor(time_budget=0.2, max_iter=10**7, tol=None).fit(X, y)
    assert model.fit_report_["stop"] == ["the time budget is used up"]
    assert 0.15 < time.perf_counter() - start < 5 and np.isfinite(model.coef_).all()
    assert model.n_iter_ < 10**7


def test_target():
    X, y = labels()
    model = SGDClassifier("log_loss", target=0.45, random_state=0, max_iter=500, tol=None)
    model.fit(X, y)
    sign = np.where(y == "yes", 1.0, -1.0)
    got = evaluation.objective(X, sign, model.coef_[0], model.intercept_[0], l2=1e-4)
    assert got == pytest.approx(model.history_[-1]["objective"], rel=1e-9) and got <= 0.45
    assert "reached the target 0.45" in model.fit_report_["stop"][0]
    assert all(record["objective"] > 0.45 for record in model.history_[:-1])


def test_the_report_says_when_levels_were_reached():
    """Against the history, for each problem; without objectives there is nothing to say."""
    X, score = numbers()
    y = np.digitize(score, np.quantile(score, [0.3, 0.6]))
    model = SGDClassifier(random_state=0, max_iter=30, tol=1e-9).fit(X, y)
    assert len(model.fit_report_["seconds_to"]) == 3
    for k, found in enumerate(model.fit_report_["seconds_to"]):
        mine = [h for h in model.history_ if h["problem"] == k]
        least = min(h["objective"] for h in mine)
        for level in (0.1, 0.01, 0.001):
            reached = [h["seconds"] for h in mine if h["objective"] <= (1 + level) * least]
            assert found[level] == min(reached)
    assert SGDClassifier(max_iter=2, tol=None).fit(X, y).fit_report_["seconds_to"] == [{}] * 3
    history = [
        {"seconds": s, "objective": v} for s, v in ((1.0, np.nan), (2.0, 3.0), (3.0, np.inf))
    ]
    assert seconds_to(history) == dict.fromkeys((0.1, 0.01, 0.001), 2.0)
    assert seconds_to(history[:1]) == {}


def test_threads_and_why():
    X, y = labels(n=10_000)
    report = SGDClassifier(random_state=0, max_iter=2, tol=None).fit(X, y).fit_report_
    assert report["threads"] == 1 and "random_state is given" in report["reason"]
    if fastopt._core.openmp() != "none" and fastopt.get_num_threads() > 1:
        for mode, params in (
            ("copies", {}),
            ("copies", {"n_jobs": 2}),
            ("rounds", {"random_state": 0, "n_jobs": -1}),
            ("copies", {"random_state": 0, "n_jobs": -1, "deterministic": False}),
        ):
            report = SGDClassifier(max_iter=2, tol=None, **params).fit(X, y).fit_report_
            assert report["threads"] >= 2 and report["mode"] == mode, params
        report = SGDClassifier(penalty="l1", max_iter=2, tol=None).fit(X, y).fit_report_
        assert report["threads"] == 1 and "L1" in report["reason"]


# ---- exports and scikit-learn's tools ----


@pytest.mark.parametrize("average", [False, True, 100])
@pytest.mark.parametrize("k", [2, 3])
def test_to_sklearn(average, k):
    X, y = numbers()
    y = np.digitize(y, np.quantile(y, np.arange(1, k) / k))
    mine = SGDClassifier("log_loss", random_state=0, average=average, time_budget=9).fit(X, y)
    theirs = mine.to_sklearn()
    assert type(theirs) is linear_model.SGDClassifier and theirs.average == average
    np.testing.assert_array_equal(theirs.predict(X), mine.predict(X))
    np.testing.assert_allclose(theirs.predict_proba(X), mine.predict_proba(X))
    before = mine.coef_.copy()
    theirs.partial_fit(X, y)
    np.testing.assert_array_equal(mine.coef_, before)  # a copy
    for loss in ("squared_error", "huber"):
        mine = SGDRegressor(loss, random_state=0, average=average).fit(X, y)
        np.testing.assert_allclose(mine.to_sklearn().predict(X), mine.predict(X))
    with pytest.raises(ValueError, match="no loss 'poisson'"):
        SGDRegressor("poisson", max_iter=2, tol=None).fit(X, y).to_sklearn()


def test_modified_huber_probabilities_are_scikit_learns():
    X, y = numbers(n=500)
    for k in (2, 3):
        codes = np.digitize(y, np.quantile(y, np.arange(1, k) / k))
        mine = SGDClassifier("modified_huber", random_state=0).fit(X, codes)
        theirs = mine.to_sklearn()
        far = np.r_[X.toarray(), 100 * X.toarray(), np.zeros((1, 40))]
        np.testing.assert_allclose(mine.predict_proba(far), theirs.predict_proba(far))


def test_sparsify_and_pickle():
    X, y = labels()
    model = SGDClassifier(penalty="l1", alpha=0.01, random_state=0).fit(X, y)
    predicted, dense = model.predict(X), model.coef_.copy()
    assert model.sparsify() is model and sparse.issparse(model.coef_)
    assert model.coef_.nnz < 30
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict(X), predicted)
    np.testing.assert_array_equal(again.densify().coef_, dense)
    regressor = SGDRegressor(penalty="l1", alpha=0.01, random_state=0).fit(*numbers())
    shape = regressor.coef_.shape
    predicted = regressor.predict(X)
    np.testing.assert_allclose(regressor.sparsify().predict(X), predicted)
    assert regressor.densify().coef_.shape == shape
    new = clone(model)
    assert not hasattr(new, "coef_") and new.get_params() == model.get_params()


def test_scikit_learns_tools():
    X, y = labels()
    Z = X.toarray()
    search = GridSearchCV(
        make_pipeline(StandardScaler(), SGDClassifier(random_state=0)),
        {"sgdclassifier__alpha": [1e-4, 1.0], "sgdclassifier__penalty": ["l2", "elasticnet"]},
        cv=3,
    ).fit(Z, y)
    assert search.best_score_ > 0.8 and search.best_params_["sgdclassifier__alpha"] == 1e-4
    calibrated = CalibratedClassifierCV(SGDClassifier(random_state=0), cv=3).fit(X, y)
    p = calibrated.predict_proba(X)[:, 1]
    for low in (0.1, 0.4, 0.7):  # of rows said to be "yes" with p, about that share is
        chosen = (p >= low) & (p < low + 0.2)
        assert np.mean(y[chosen] == "yes") == pytest.approx(p[chosen].mean(), abs=0.08)


@pytest.mark.parametrize("average", [True, 20_000])
def test_averages_of_several_threads_go_on(average):
    """Of several threads the average is one of snapshots; it is the same to what threads may do."""
    X, y = numbers(n=20_000)
    params = {"alpha": 1e-3, "learning_rate": "constant", "eta0": 0.05, "average": average}
    fits = {"max_iter": 4, "tol": None, "random_state": 0}
    one, two = (SGDRegressor(n_jobs=k, **params, **fits).fit(X, y) for k in (1, 2))
    np.testing.assert_allclose(two.coef_, one.coef_, atol=0.1)
    best = linear_model.Ridge(alpha=20_000 * 1e-3, solver="sparse_cg", tol=1e-12).fit(X, y)
    for _ in range(4):
        two.partial_fit(X, y)
    assert np.abs(two.coef_ - best.coef_).max() < np.abs(two._standard_coef - best.coef_).max()
    assert two._averaged[0] >= 7 * 20_000 - (0 if average is True else 20_000)
