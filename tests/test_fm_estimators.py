"""FMClassifier and FMRegressor: scikit-learn's contract, and what they learn."""

from __future__ import annotations

import pickle
import sys

import numpy as np
import pytest

sparse = pytest.importorskip("scipy.sparse")
pytest.importorskip("sklearn", minversion="1.6")
from sklearn.base import clone  # noqa: E402
from sklearn.datasets import load_digits, make_classification  # noqa: E402
from sklearn.linear_model import LogisticRegression  # noqa: E402
from sklearn.model_selection import GridSearchCV, train_test_split  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import StandardScaler  # noqa: E402
from sklearn.utils.estimator_checks import parametrize_with_checks  # noqa: E402
from test_estimators import ORDER  # noqa: E402
from test_fm import naive  # noqa: E402

import fastopt  # noqa: E402
from fastopt.data import CSR  # noqa: E402
from fastopt.estimators import FMClassifier, FMRegressor  # noqa: E402
from fastopt.fm import models, run  # noqa: E402

BOTH = pytest.mark.parametrize("cls", [FMClassifier, FMRegressor])


@parametrize_with_checks(
    [
        FMClassifier(),
        FMClassifier("hinge", n_jobs=2, learning_rate="inverse"),
        FMRegressor(),
        FMRegressor("huber", n_jobs=1, rank=3, tol=None, max_iter=10),
    ],
    expected_failed_checks=lambda estimator: ORDER,
)
def test_scikit_learn_contract(estimator, check):
    check(estimator)


def interactions(n=3000, d=6, seed=0):
    """Labels that are the sign of a product: every column by itself says nothing."""
    X = np.random.default_rng(seed).choice([-1.0, 1.0], (n, d))
    return X, (X[:, 0] * X[:, 1] > 0).astype(int)


def ratings(users=200, items=100, share=0.3, seed=0):
    """One-hot users and items, and ratings of rank 3 with biases and a little noise."""
    r = np.random.default_rng(seed)
    p, q = r.normal(size=(users, 3)), r.normal(size=(items, 3))
    full = 3 + r.normal(size=(users, 1)) + r.normal(size=items) + p @ q.T
    pairs = np.argwhere(r.random((users, items)) < share)
    y = full[tuple(pairs.T)] + 0.1 * r.normal(size=len(pairs))
    at = np.column_stack([pairs[:, 0], users + pairs[:, 1]]).ravel()
    X = sparse.csr_matrix((np.ones(len(at)), at, np.arange(0, len(at) + 1, 2)))
    return pairs, X, y


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_interactions_that_no_linear_model_learns(need_threads, monkeypatch, n_jobs):
    monkeypatch.setattr(run, "WORK_PER_THREAD", 1)
    X, y = interactions()
    train, test, y_train, y_test = train_test_split(X, y, random_state=0)
    assert LogisticRegression().fit(train, y_train).score(test, y_test) < 0.6
    model = FMClassifier(rank=4, random_state=0, n_jobs=n_jobs).fit(train, y_train)
    assert model.score(test, y_test) == 1
    assert model.fit_report_["threads"] == n_jobs


@pytest.mark.parametrize("loss", ["hinge", "squared_hinge", "modified_huber", "squared_error"])
def test_other_losses_learn_them_too(loss):
    X, y = interactions()
    assert FMClassifier(loss, rank=4, random_state=0).fit(X, y).score(X, y) == 1


def test_one_hot_users_and_items_are_matrix_completion():
    pairs, X, y = ratings()
    r = np.random.default_rng(1)
    given = r.random(len(y)) < 0.8

    def error(p):
        return np.sqrt(np.mean((p - y[~given]) ** 2))

    factors = fastopt.MatrixFactorization(
        3, alpha=0.003, max_iter=60, tol=None, random_state=0, n_jobs=1
    ).fit(pairs[given], y[given])
    machine = FMRegressor(
        rank=3, l2_reg_w=0.003, l2_reg_V=0.003, max_iter=60, tol=None, random_state=0
    ).fit(X[given], y[given])
    theirs, mine = error(factors.predict(pairs[~given])), error(machine.predict(X[~given]))
    assert mine < 1.05 * theirs and mine < 0.2 * np.std(y)


def test_as_good_as_matrix_completion_on_jester(data_dir):
    z = np.load(data_dir / "jester.npz")
    known = z["train_user"] < 3000
    pairs = np.stack([z["train_user"], z["train_item"]], axis=1)[known]
    y = z["train_rating"][known]
    test = z["test_user"] < 3000
    others = np.stack([z["test_user"], z["test_item"]], axis=1)[test]

    def one_hot(pairs):
        at = (pairs + np.array([0, 3000])).astype("i4").ravel()
        data = np.ones(len(at), "f4")
        return sparse.csr_matrix((data, at, np.arange(0, len(at) + 1, 2)), (len(pairs), 3100))

    def error(p):
        return np.sqrt(np.mean((p - z["test_rating"][test]) ** 2))

    factors = fastopt.MatrixFactorization(
        16, alpha=0.2, alpha_bias=0.05, max_iter=20, tol=None, random_state=0, n_jobs=1
    ).fit(pairs, y)
    machine = FMRegressor(
        l2_reg_w=0.05, l2_reg_V=0.2, learning_rate="inverse", max_iter=20, tol=None, random_state=0
    ).fit(one_hot(pairs), y)
    assert error(machine.predict(one_hot(others))) < 1.01 * error(factors.predict(others))


def test_several_classes():
    X, y = load_digits(return_X_y=True)
    train, test, y_train, y_test = train_test_split(X, y, random_state=0)
    model = make_pipeline(StandardScaler(), FMClassifier(rank=4, random_state=0, max_iter=20))
    model.fit(train, y_train)
    assert model.score(test, y_test) > 0.97
    machine = model[-1]
    assert machine.coef_.shape == (10, 64) and machine.factors_.shape == (10, 64, 4)
    assert machine.intercept_.shape == (10,)
    p = model.predict_proba(test)
    np.testing.assert_allclose(p.sum(1), 1)
    np.testing.assert_array_equal(p.argmax(1), model.predict(test))
    with np.errstate(divide="ignore"):
        np.testing.assert_allclose(model.predict_log_proba(test), np.log(p))
    scores = model.decision_function(test)
    Z = model[0].transform(test)
    for k in range(10):
        wanted = naive(Z, machine.intercept_[k], machine.coef_[k], machine.factors_[k])
        np.testing.assert_allclose(scores[:, k], wanted, rtol=1e-9, atol=1e-9)


def test_two_classes_and_probabilities():
    X, y = interactions()
    names = np.array(["no", "yes"])[y]
    model = FMClassifier(rank=2, random_state=0, max_iter=3).fit(X, names)
    scores = model.decision_function(X)
    assert scores.shape == (3000,) and model.coef_.shape == (1, 6)
    np.testing.assert_allclose(
        scores, naive(X, model.intercept_[0], model.coef_[0], model.factors_[0]), atol=1e-9
    )
    np.testing.assert_array_equal(model.predict(X), np.where(scores > 0, "yes", "no"))
    np.testing.assert_allclose(model.predict_proba(X)[:, 1], 1 / (1 + np.exp(-scores)))
    assert not hasattr(FMClassifier("hinge"), "predict_proba")


@BOTH
@pytest.mark.parametrize("form", ["csr", "csc", "coo", "csr, int64", "with zeros", "twice"])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_containers_agree(cls, form, dtype):
    X, y = make_classification(400, random_state=1)
    X[np.abs(X) < 0.1] = 0  # dense enough to be trained on as it is
    X = X.astype(dtype)
    other = sparse.csr_matrix(X)
    if form == "csr, int64":
        other.indices, other.indptr = other.indices.astype("i8"), other.indptr.astype("i8")
    elif form == "with zeros":
        other = sparse.csr_matrix(np.ones_like(X))
        other.data[:] = X.ravel()
    elif form == "twice":  # an element in two parts is one element
        half = sparse.csr_matrix(X / 2)
        at = np.repeat(np.arange(half.nnz), 2)
        other = sparse.csr_matrix((half.data[at], half.indices[at], 2 * half.indptr), X.shape)
    else:
        other = other.asformat(form)
    model, same = (cls(rank=3, random_state=0, max_iter=3).fit(data, y) for data in (X, other))
    assert model.coef_.dtype == same.factors_.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(model.coef_, same.coef_)
    np.testing.assert_array_equal(model.factors_, same.factors_)
    np.testing.assert_array_equal(model.predict(other), same.predict(X))


@BOTH
def test_same_seed_same_bits_and_pickles(cls):
    X, y = interactions(1000)
    one, two = (cls(rank=3, random_state=7, max_iter=5).fit(X, y) for _ in range(2))
    np.testing.assert_array_equal(one.factors_, two.factors_)
    again = pickle.loads(pickle.dumps(one))
    np.testing.assert_array_equal(again.predict(X), clone(one).fit(X, y).predict(X))
    again.set_params(warm_start=True, max_iter=1).fit(X, y)
    two.set_params(warm_start=True, max_iter=1).fit(X, y)
    np.testing.assert_array_equal(again.factors_, two.factors_)


@BOTH
def test_weights(cls):
    X, y = interactions(600)
    r = np.random.default_rng(0)
    zero = r.random(600) < 0.3
    weight = np.where(zero, 0.0, 1.0)
    same = {"rank": 3, "random_state": 0, "max_iter": 4, "tol": None}
    weighted = cls(**same).fit(X, y, sample_weight=weight)
    without = cls(**same).fit(X[~zero], y[~zero])
    np.testing.assert_array_equal(weighted.factors_, without.factors_)
    halved = cls(**same).fit(X, y, sample_weight=np.full(600, 0.5))
    assert (halved.factors_ != cls(**same).fit(X, y).factors_).any()
    with pytest.raises(ValueError, match="must not be all zero"):
        cls(**same).fit(X, y, sample_weight=np.zeros(600))
    with pytest.raises(ValueError, match="must not be negative"):
        cls(**same).fit(X, y, sample_weight=np.full(600, -1.0))


def test_class_weights_are_sample_weights():
    X, y = make_classification(500, weights=[0.8], random_state=0)
    same = {"rank": 3, "random_state": 0, "max_iter": 4, "tol": None}
    of_classes = FMClassifier(class_weight={0: 1, 1: 4}, **same).fit(X, y)
    of_rows = FMClassifier(**same).fit(X, y, sample_weight=np.where(y == 1, 4.0, 1.0))
    np.testing.assert_allclose(of_classes.factors_, of_rows.factors_, rtol=1e-6)
    balanced = FMClassifier(class_weight="balanced", **same).fit(X, y)
    plain = FMClassifier(**same).fit(X, y)
    assert balanced.predict(X).mean() > plain.predict(X).mean()


def test_partial_fit_goes_on():
    X, y = interactions(2000)
    model = FMClassifier(rank=3, random_state=0)
    for _ in range(8):
        for part in (slice(0, 1000), slice(1000, 2000)):
            model.partial_fit(X[part], y[part], classes=[0, 1])
    assert model.score(X, y) == 1
    three = FMClassifier(rank=3).partial_fit(X, y, classes=[0, 1, 2])
    assert three.decision_function(X).shape == (2000, 3) and set(three.predict(X)) <= {0, 1}
    with pytest.raises(ValueError, match="not supported for partial_fit"):
        FMClassifier(class_weight="balanced").partial_fit(X, y, classes=[0, 1])
    _, Z, rated = ratings()
    numbers = FMRegressor(rank=3, l2_reg_V=1e-3, random_state=0)
    for _ in range(30):
        numbers.partial_fit(Z, rated)
    assert numbers.score(Z, rated) > 0.95
    with pytest.raises(ValueError, match="rank must be that of the last fit"):
        numbers.set_params(rank=4).partial_fit(Z, rated)
    with pytest.raises(ValueError, match="early_stopping should be False"):
        FMRegressor(early_stopping=True).partial_fit(Z, rated)


def test_new_columns_of_a_later_part_begin_at_random():
    X, y = interactions(1000)
    hidden = X.copy()
    hidden[:, 0] = 0
    model = FMClassifier(rank=3, random_state=0).partial_fit(hidden, y, classes=[0, 1])
    assert not model.factors_[0, 0].any() and model.factors_[0, 1].all()
    model.partial_fit(X, y)
    assert model.factors_[0, 0].all()


@BOTH
def test_early_stopping_and_rows_of_ones_own(cls):
    X, y = make_classification(800, flip_y=0.2, random_state=0)
    same = {"rank": 8, "l2_reg_V": 0.0, "random_state": 0, "max_iter": 200}
    model = cls(early_stopping=True, tol=0, n_iter_no_change=3, **same).fit(X, y)
    losses = [record["validation_loss"] for record in model.history_]
    best = int(np.argmin(losses))
    assert model.fit_report_["best_epoch"] == [best + 1] and model.n_iter_ == best + 4 < 200
    assert model.fit_report_["stop"] == ["the validation score no longer improves"]
    given = cls(tol=0, n_iter_no_change=3, **same).fit(
        X[:600], y[:600], validation=(X[600:], y[600:])
    )
    assert given.n_iter_ < 200
    wanted = min(record["validation_loss"] for record in given.history_)
    if cls is FMRegressor:
        assert np.mean((given.predict(X[600:]) - y[600:]) ** 2) / 2 == pytest.approx(wanted)
    else:
        p = given.predict_proba(X[600:])[np.arange(200), y[600:]]
        assert -np.log(p).mean() == pytest.approx(wanted)


def test_grid_search():
    X, y = interactions(600)
    search = GridSearchCV(FMClassifier(random_state=0, max_iter=10), {"rank": [1, 4]}, cv=3)
    assert search.fit(sparse.csr_matrix(X), y).best_score_ > 0.95


def test_units_make_steps_fit_any_scale():
    """Temperatures in another unit are as easy: the same model, to rounding, in that unit."""
    _, X, y = ratings()
    same = {"rank": 3, "random_state": 0, "max_iter": 10, "tol": None, "l2_reg_w": 0}
    one = FMRegressor(l2_reg_V=0, **same).fit(X, y)
    other = FMRegressor(l2_reg_V=0, **same).fit(X, 1024 * y)
    np.testing.assert_allclose(other.predict(X), 1024 * one.predict(X), rtol=1e-6)
    r = np.random.default_rng(0)
    Z = r.normal(size=(2000, 4))
    counts = r.poisson(np.exp(0.5 * Z[:, 0] * Z[:, 1] + 0.3))
    poisson = FMRegressor("poisson", rank=2, random_state=0).fit(Z, counts)
    wanted = 0.5 * Z[:, 0] * Z[:, 1] + 0.3
    assert np.sqrt(np.mean((np.log(poisson.predict(Z)) - wanted) ** 2)) < 0.1


@BOTH
@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"loss": "l3"}, "loss must be one of"),
        ({"optimizer": "adam"}, "optimizer must be one of 'adagrad', 'sgd', got 'adam'"),
        ({"learning_rate": "fast"}, "learning_rate must be one of"),
        ({"rank": 0}, "rank must be at least 1"),
        ({"rank": 257}, "rank must be from 1 to 256, got 257"),
        ({"l2_reg_w": -1}, "l2_reg_w must be a number in"),
        ({"l2_reg_V": -1}, "l2_reg_V must be a number in"),
        ({"init_stdev": -1}, "init_stdev must be a number in"),
        ({"eta0": 0}, "eta0 must be a number in"),
        ({"decay": 0}, "decay must be a number in"),
        ({"max_iter": 0}, "max_iter must be at least 1"),
        ({"n_iter_no_change": 0}, "n_iter_no_change must be at least 1"),
        ({"validation_fraction": 1.0}, "validation_fraction must not be 0 or 1"),
        ({"tol": -1}, "tol must be a number in"),
        ({"time_budget": -1}, "time_budget must be a number in"),
        ({"n_jobs": 0}, "n_jobs must be None or"),
    ],
)
def test_bad_parameters_are_named(cls, bad, message):
    X, y = interactions(50)
    with pytest.raises(ValueError, match=message):
        cls(**bad).fit(X, y)


def test_bad_data_is_named():
    X, y = interactions(50)
    with pytest.raises(ValueError, match="at least two classes"):
        FMClassifier().fit(X, np.ones(50))
    with pytest.raises(ValueError, match="class_weight must be a dict"):
        FMClassifier(class_weight="even").fit(X, y)
    with pytest.raises(ValueError, match="validation has labels that are not among the classes"):
        FMClassifier().fit(X, y, validation=(X, y + 5))
    with pytest.raises(ValueError, match="y must not be negative for loss='poisson'"):
        FMRegressor("poisson").fit(X, y - 1.0)
    Z = sparse.csr_matrix(X)
    Z.indices[3] = 99
    with pytest.raises(ValueError, match="indices"):
        FMRegressor().fit(Z, y)


@BOTH
def test_divergence_raises(cls):
    X, y = interactions(500)
    with pytest.raises(ValueError, match=r"fit diverged: the model grew without bound in epoch"):
        cls("squared_error", optimizer="sgd", eta0=1e3).fit(X, y)


def test_interrupt_keeps_the_model(monkeypatch):
    X, y = load_digits(return_X_y=True)
    real, calls = run.Training._measure, []

    def interrupted(self):
        calls.append(1)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return real(self)

    monkeypatch.setattr(run.Training, "_measure", interrupted)
    model = FMClassifier(rank=2, random_state=0, max_iter=3)
    with pytest.raises(KeyboardInterrupt):
        model.fit(X / 16, y)
    assert model.coef_[0].any() and model.coef_[1].any() and not model.coef_[2].any()
    assert model.predict(X / 16).shape == y.shape


def test_report_verbose_and_time_budget(capsys):
    X, y = interactions(500)
    model = FMRegressor(verbose=1, max_iter=3, tol=None, random_state=0).fit(X, y)
    assert "epoch 3/3" in capsys.readouterr().out
    report = model.fit_report_
    assert report["threads"] == 1 and "random_state is given" in report["reason"]
    assert report["stop"] == ["all 3 epochs done"] and report["rows_per_second"] > 0
    assert [record["epoch"] for record in model.history_] == [1, 2, 3]
    model = FMRegressor(time_budget=0.05, max_iter=10**9, tol=None).fit(X, y)
    assert model.fit_report_["stop"] == ["the time budget is used up"]


@BOTH
def test_to_model_predicts_the_same(cls, tmp_path):
    X, y = load_digits(return_X_y=True)
    Z = sparse.csr_matrix(X / 16)
    model = cls(rank=3, random_state=0, max_iter=2).fit(Z, y)
    models.save(tmp_path / "m.npz", model.to_model())
    again = models.load(tmp_path / "m.npz")
    rows = CSR(Z.data, Z.indices, Z.indptr, Z.shape)
    np.testing.assert_allclose(again.predict(rows), model.predict(Z), rtol=1e-12)


def test_names_at_the_top(monkeypatch):
    assert fastopt.FMClassifier is FMClassifier and fastopt.FMRegressor is FMRegressor
    assert {"FMClassifier", "FMRegressor"} <= set(dir(fastopt))
    monkeypatch.delitem(sys.modules, "fastopt.estimators")
    monkeypatch.delitem(sys.modules, "fastopt.fm.fm_classifier")
    monkeypatch.setitem(sys.modules, "sklearn.base", None)
    with pytest.raises(ImportError, match=r"pip install 'fastopt\[sklearn\]'"):
        _ = fastopt.FMClassifier
