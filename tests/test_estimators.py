"""The estimators: scikit-learn's contract, and that they learn what scikit-learn's own learn."""

from __future__ import annotations

import inspect
import pickle
import sys

import numpy as np
import pytest

sparse = pytest.importorskip("scipy.sparse")
pytest.importorskip("sklearn", minversion="1.6")
from sklearn import linear_model  # noqa: E402
from sklearn.base import clone  # noqa: E402
from sklearn.datasets import load_digits, make_classification  # noqa: E402
from sklearn.model_selection import train_test_split  # noqa: E402
from sklearn.preprocessing import StandardScaler  # noqa: E402
from sklearn.utils.estimator_checks import parametrize_with_checks  # noqa: E402

import fastopt  # noqa: E402
from fastopt.estimators import SGDClassifier, SGDRegressor  # noqa: E402
from fastopt.sparse import linear_sgd, runner  # noqa: E402

# scikit-learn's own SGDClassifier fails these two: a repeated row is not one row of weight 2 to
# an algorithm that walks over rows in a random order.
ORDER = dict.fromkeys(
    (
        "check_sample_weight_equivalence_on_dense_data",
        "check_sample_weight_equivalence_on_sparse_data",
    ),
    "depends on the order of rows",
)


@parametrize_with_checks(
    [
        SGDClassifier(),
        SGDClassifier(loss="log_loss", average=True),
        SGDClassifier(learning_rate="constant", n_jobs=1, tol=None, max_iter=20),
        SGDClassifier("modified_huber", penalty="l1", n_jobs=2),
        SGDClassifier("log_loss", multi_class="multinomial", average=True),
        SGDClassifier(multi_class="crammer_singer", n_jobs=2),
        SGDClassifier(multi_class="weston_watkins", learning_rate="constant", n_jobs=1),
        SGDRegressor(),
        SGDRegressor("huber", learning_rate="optimal", average=10, n_jobs=2),
        SGDRegressor("epsilon_insensitive", learning_rate="pa1", penalty="elasticnet"),
    ],
    expected_failed_checks=lambda estimator: ORDER,
)
def test_scikit_learn_contract(estimator, check):
    check(estimator)


def digits():
    X, y = load_digits(return_X_y=True)
    return train_test_split(StandardScaler().fit_transform(X), y, random_state=0)


@pytest.mark.parametrize("cls", [SGDClassifier, SGDRegressor])
def test_names_and_defaults_are_scikit_learns(cls):
    theirs = inspect.signature(getattr(linear_model, cls.__name__)).parameters
    mine = inspect.signature(cls).parameters
    own = {"intercept_rate", "positive", "time_budget", "optimizer", "target"}
    own |= {"checkpoint", "checkpoint_every", "order", "deterministic", "max_norm", "polish"}
    assert set(mine) - set(theirs) == own | (
        {"n_jobs", "quantile"} if cls is SGDRegressor else {"multi_class"}
    )
    for name, parameter in theirs.items():
        same = name == "eta0" or mine[name].default == parameter.default  # eta0 was 0 before 1.8
        assert same and mine[name].kind == parameter.kind, name
    fit = inspect.signature(getattr(linear_model, cls.__name__).fit).parameters
    assert list(inspect.signature(cls.fit).parameters) == [*fit, "validation"]


@pytest.mark.parametrize("loss", ["hinge", "log_loss"])
@pytest.mark.parametrize("n_jobs", [1, 2])
def test_as_good_as_scikit_learns(loss, n_jobs):
    train, test, y_train, y_test = digits()
    same = {"loss": loss, "random_state": 0, "alpha": 1e-3}
    mine = SGDClassifier(n_jobs=n_jobs, average=True, **same).fit(train, y_train)
    theirs = linear_model.SGDClassifier(**same).fit(train, y_train)
    assert mine.score(test, y_test) >= theirs.score(test, y_test) - 0.01
    assert mine.coef_.shape == theirs.coef_.shape == (10, 64)
    assert mine.intercept_.shape == (10,)
    np.testing.assert_array_equal(mine.classes_, theirs.classes_)


def test_binary():
    X, y = make_classification(3000, random_state=0)
    names = np.array(["no", "yes"])[y]
    model = SGDClassifier("log_loss", random_state=0, n_jobs=1).fit(X, names)
    assert model.coef_.shape == (1, 20) and model.intercept_.shape == (1,)
    scores = model.decision_function(X)
    assert scores.shape == (3000,)
    np.testing.assert_allclose(scores, X @ model.coef_[0] + model.intercept_[0])
    np.testing.assert_array_equal(model.predict(X), np.where(scores > 0, "yes", "no"))
    p = model.predict_proba(X)
    np.testing.assert_allclose(p[:, 1], 1 / (1 + np.exp(-scores)))
    np.testing.assert_allclose(p.sum(1), 1)
    np.testing.assert_allclose(model.predict_log_proba(X), np.log(p))


def test_probabilities_of_many_classes():
    train, test, y_train, _ = digits()
    model = SGDClassifier(loss="log_loss", average=True, random_state=0).fit(train, y_train)
    p = model.predict_proba(test)
    np.testing.assert_allclose(p.sum(1), 1)
    np.testing.assert_array_equal(model.classes_[p.argmax(1)], model.predict(test))
    assert not hasattr(SGDClassifier(loss="hinge"), "predict_proba")


@pytest.mark.parametrize("form", ["csr", "csc", "coo", "lil"])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_containers_agree(form, dtype):
    X, y = make_classification(500, random_state=1)
    X[np.abs(X) < 0.5] = 0
    X = X.astype(dtype)
    same = {"random_state": 0, "n_jobs": 1, "learning_rate": "constant"}
    plain = SGDClassifier(**same).fit(X, y)
    other = SGDClassifier(**same).fit(sparse.coo_matrix(X).asformat(form), y)
    assert plain.coef_.dtype == other.coef_.dtype == np.dtype(dtype)
    tolerance = 1e-9 if dtype == "f8" else 1e-3
    np.testing.assert_allclose(plain.coef_, other.coef_, rtol=tolerance, atol=tolerance)


def test_csr_is_used_in_place(monkeypatch):
    X, y = make_classification(500, random_state=1)
    X = sparse.csr_matrix(X.astype("f4"))
    seen = []
    real = linear_sgd.Rows
    monkeypatch.setattr(linear_sgd, "Rows", lambda X, *a: seen.append(X) or real(X, *a))
    SGDClassifier().fit(X, y)
    assert np.shares_memory(seen[0].data, X.data) and np.shares_memory(seen[0].indices, X.indices)


def test_same_seed_same_bits():
    train, _, y_train, _ = digits()
    one, two = (SGDClassifier(random_state=7, n_jobs=1).fit(train, y_train) for _ in range(2))
    np.testing.assert_array_equal(one.coef_, two.coef_)
    again = pickle.loads(pickle.dumps(one))
    np.testing.assert_array_equal(
        again.predict(train), clone(one).fit(train, y_train).predict(train)
    )


def test_report_and_stop():
    X, y = make_classification(3000, random_state=0)
    model = SGDClassifier(random_state=0, n_jobs=1, average=True).fit(X, y)
    report = model.fit_report_
    assert model.n_iter_ < 1000 and report["stop"] == ["the objective no longer improves"]
    objectives = [record["objective"] for record in model.history_]
    assert len(objectives) == model.n_iter_
    best = np.minimum.accumulate(objectives)
    assert (np.array(objectives[-5:]) > best[-6:-1] - 1e-3).all()
    assert model.t_ == 1 + 3000 * model.n_iter_
    assert (report["threads"], report["mode"]) == (1, "serial") and report["reason"]
    assert report["rows_per_second"] > 0 and report["nnz_per_second"] > 0 and report["seconds"] > 0
    exact = SGDClassifier(random_state=0, tol=None, max_iter=7).fit(X, y)
    assert exact.n_iter_ == 7 and exact.fit_report_["stop"] == ["all 7 epochs done"]


def test_verbose_prints(capsys):
    X, y = make_classification(500, random_state=0)
    SGDClassifier(verbose=1, max_iter=3, tol=None).fit(X, y)
    assert "epoch 3/3" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"loss": "poisson"}, "loss must be one of 'hinge', 'log_loss', 'modified_huber'"),
        ({"penalty": "l3"}, "penalty must be one of 'l2', 'l1', 'elasticnet', None, got 'l3'"),
        ({"learning_rate": "fast"}, "learning_rate must be one of 'optimal', 'constant'"),
        ({"learning_rate": "pa1", "loss": "log_loss"}, "'pa1' only works with loss 'hinge'"),
        ({"max_iter": 0}, "max_iter must be at least 1"),
        ({"tol": -1}, "tol must be a number in"),
        ({"n_jobs": 0}, "n_jobs must be None or"),
        ({"alpha": -1}, "alpha must be a number in"),
        ({"l1_ratio": 2}, "l1_ratio must be a number in"),
        ({"penalty": "elasticnet", "l1_ratio": None}, "l1_ratio must be set"),
        ({"eta0": 0, "learning_rate": "constant"}, "eta0 must be a number in"),
        ({"n_iter_no_change": 0}, "n_iter_no_change must be at least 1"),
        ({"validation_fraction": 1.0}, "validation_fraction must not be 0 or 1"),
        ({"class_weight": "even"}, "class_weight must be a dict, 'balanced' or None"),
        ({"average": 0}, "average must be at least 1"),
        ({"intercept_rate": -1}, "intercept_rate must be a number in"),
        ({"time_budget": -1}, "time_budget must be a number in"),
    ],
)
def test_bad_parameters_are_named(bad, message):
    X, y = make_classification(100, random_state=0)
    with pytest.raises(ValueError, match=message):
        SGDClassifier(**bad).fit(X, y)


def test_divergence_raises():
    X, y = make_classification(2000, random_state=0)
    model = SGDClassifier("hinge", learning_rate="constant", eta0=1e35, alpha=0, tol=None)
    with pytest.raises(ValueError, match=r"overflow occurred at epoch #1\. .*diverged"):
        model.fit(X, y)
    assert not hasattr(model, "coef_")


def test_interrupt_keeps_the_model(monkeypatch):
    train, _, y_train, _ = digits()
    calls = []

    def interrupted(samples, *arguments):
        calls.append(1)
        if len(calls) == 30:
            raise KeyboardInterrupt
        return objective(samples, *arguments)

    objective = runner.objective_of
    monkeypatch.setattr(runner, "objective_of", interrupted)
    model = SGDClassifier(learning_rate="constant", tol=0, n_iter_no_change=20)
    with pytest.raises(KeyboardInterrupt):
        model.fit(train, y_train)
    assert model.coef_.shape == (10, 64) and model.coef_[0].any() and not model.coef_[9].any()
    assert model.predict(train).shape == y_train.shape


def test_without_scikit_learn_the_extra_is_named(monkeypatch):
    monkeypatch.delitem(sys.modules, "fastopt.estimators")
    for name in ("sgd_classifier", "sgd_regressor", "linear_sgd"):
        monkeypatch.delitem(sys.modules, f"fastopt.sparse.{name}")
    monkeypatch.setitem(sys.modules, "sklearn.base", None)
    with pytest.raises(ImportError, match=r"pip install 'fastopt\[sklearn\]'"):
        _ = fastopt.SGDClassifier


def test_top_level_name():
    assert fastopt.SGDClassifier is SGDClassifier and fastopt.SGDRegressor is SGDRegressor
