"""MatrixFactorization: scikit-learn's contract where it applies, and what it adds to factorize."""

from __future__ import annotations

import pickle
import re
import sys
from pathlib import Path

import numpy as np
import pytest

sparse = pytest.importorskip("scipy.sparse")
pytest.importorskip("sklearn", minversion="1.6")
from sklearn.base import clone  # noqa: E402
from sklearn.exceptions import NotFittedError  # noqa: E402
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score  # noqa: E402
from sklearn.utils import estimator_checks  # noqa: E402
from test_factor import make  # noqa: E402

import fastopt  # noqa: E402
from fastopt import factorize  # noqa: E402
from fastopt.factorization import completion  # noqa: E402
from fastopt.factorization.matrix_factorization import NAMES, MatrixFactorization  # noqa: E402


def matrix(loss="squared", **more):
    X, y = make(loss=loss, **more)
    shape = (more.get("users", 60), more.get("items", 40))
    return sparse.csr_matrix((np.ones(len(X)) if y is None else y, X.T), shape)


# Most of scikit-learn's checks fit dense tables of features, which are no ratings. These do not.
@pytest.mark.parametrize(
    "check",
    [
        "check_parameters_default_constructible",
        "check_no_attributes_set_in_init",
        "check_get_params_invariance",
        "check_set_params",
        "check_estimator_cloneable",
        "check_estimator_repr",
        "check_estimator_tags_renamed",
        "check_valid_tag_types",
        "check_mixin_order",
    ],
)
def test_scikit_learn_contract(check):
    getattr(estimator_checks, check)("MatrixFactorization", MatrixFactorization())


def test_fit_leaves_parameters_and_data_alone():
    X = matrix()
    copy = X.copy()
    model = MatrixFactorization(3, random_state=0)
    before = dict(model.get_params())
    assert model.fit(X) is model and model.get_params() == before
    public = {name for name in vars(model) if not name.startswith("_")} - set(before)
    assert public and all(name.endswith("_") for name in public)
    assert (X != copy).nnz == 0
    with pytest.raises(NotFittedError):
        clone(model).predict(X)
    with pytest.raises(NotFittedError):
        MatrixFactorization().recommend(0)


@pytest.mark.parametrize("loss", ["squared_error", "absolute_error", "log_loss", "hinge", "bpr"])
def test_it_is_factorize(loss):
    name = {"squared_error": "squared", "absolute_error": "absolute", "log_loss": "logistic"}
    X = matrix(name.get(loss, loss))
    model = MatrixFactorization(
        5, loss=loss, alpha=0.1, alpha_bias=0.02, max_iter=6, tol=None, eta0=0.1, decay=0.8,
        learning_rate="inverse", adaptive=False, dtype="float64", n_jobs=1, random_state=3,
    ).fit(X)  # fmt: skip
    result = factorize(
        X, rank=5, loss=name.get(loss, loss), l2=0.1, l2_bias=0.02, epochs=6, step=0.1, decay=0.8,
        schedule="inverse", adaptive=False, dtype="f8", threads=1, random_state=3,
    )  # fmt: skip
    np.testing.assert_array_equal(model.user_factors_, result.user_factors)
    np.testing.assert_array_equal(model.item_factors_, result.item_factors)
    np.testing.assert_array_equal(model.user_biases_, result.user_biases)
    np.testing.assert_array_equal(model.item_biases_, result.item_biases)
    assert model.mean_ == result.mean and model.n_iter_ == 6
    assert (model.n_users_, model.n_items_, model.n_features_in_) == (60, 40, 40)
    np.testing.assert_array_equal(model.decision_function(X), result.predict(X))


@pytest.mark.parametrize("form", ["csr", "csc", "coo", "lil", "dok"])
def test_predictions_have_the_pattern_of_the_matrix(form):
    X = matrix()
    model = MatrixFactorization(3, random_state=0).fit(X)
    u, i = X.nonzero()
    products = (model.user_factors_[u].astype("f8") * model.item_factors_[i]).sum(1)
    wanted = model.mean_ + model.user_biases_[u].astype("f8") + model.item_biases_[i] + products
    Z = X.asformat(form)
    p = model.predict(Z)
    assert sparse.issparse(p) and p.nnz == X.nnz and p.shape == X.shape
    np.testing.assert_allclose(p.toarray()[u, i], wanted, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(model.predict(np.stack([u, i], 1)), wanted, rtol=1e-12, atol=1e-12)
    assert model.score(Z) == pytest.approx(model.score(np.stack([u, i], 1), X.data))


def test_score_is_r2_or_accuracy():
    X, y = make()
    model = MatrixFactorization(3, random_state=0).fit(X, y)
    p = model.predict(X)
    assert model.n_features_in_ == 2
    assert model.score(X, y) == pytest.approx(
        1 - ((p - y) ** 2).sum() / ((y - y.mean()) ** 2).sum()
    )
    X, y = make(loss="hinge")
    model = MatrixFactorization(3, loss="hinge", random_state=0).fit(X, y > 0)
    p = model.predict(X)
    np.testing.assert_array_equal(p, model.decision_function(X))
    assert model.score(X, y) == model.score(X, y > 0) == ((p > 0) == (y > 0)).mean() > 0.75
    X, y = make(loss="logistic")
    model = MatrixFactorization(3, loss="log_loss", random_state=0).fit(X, y > 0)
    p, margin = model.predict(X), model.decision_function(X)
    np.testing.assert_allclose(p, 1 / (1 + np.exp(-margin)))
    assert model.score(X, y) == model.score(X, y > 0) == ((p > 0.5) == (y > 0)).mean() > 0.75
    with pytest.raises(ValueError, match="y must have shape"):
        model.score(X, y[1:])


def test_auc_and_recommendations():
    r = np.random.default_rng(0)
    taste = r.normal(size=(300, 2)) @ r.normal(size=(2, 80))
    has = taste > np.quantile(taste, 0.75, axis=1, keepdims=True)
    held = has & (r.random(has.shape) < 0.2)
    train, test = sparse.csr_matrix(has & ~held), sparse.csr_matrix(held)
    model = MatrixFactorization(4, loss="bpr", alpha=0.02, random_state=0).fit(train.astype(int))
    scores = model.user_factors_ @ model.item_factors_.T + model.item_biases_
    areas = []
    for u in np.flatnonzero(held.any(1)):
        others = scores[u][~has[u]]
        areas.append((scores[u][held[u]][:, None] > others).mean())
    assert model.score(test, filter_seen=train) == pytest.approx(np.mean(areas), abs=1e-6)
    assert np.mean(areas) > 0.9
    assert model.score(np.argwhere(held), filter_seen=train) == pytest.approx(
        np.mean(areas), abs=1e-6
    )

    items, best = model.recommend(7, n=5)
    assert items.tolist() == np.argsort(-scores[7])[:5].tolist()
    np.testing.assert_allclose(best, scores[7][items], rtol=1e-5)
    many, _ = model.recommend([7, 3], n=20, filter_seen=train)
    assert many.shape == (2, 20) and not (has & ~held)[7, many[0]].any()
    assert held[7, many[0]].sum() >= 0.5 * held[7].sum()
    everything, best = model.recommend(7, n=90, filter_seen=train)
    left = int((~(has & ~held))[7].sum())
    assert (everything[left:] == -1).all() and (best[left:] == -np.inf).all()
    assert len(set(everything[:left])) == left and (everything[:left] >= 0).all()


def test_report_history_and_early_stopping():
    X = matrix(users=300, items=100, share=0.3)
    model = MatrixFactorization(
        8, max_iter=200, early_stopping=True, validation_fraction=0.2, n_iter_no_change=2,
        random_state=0, n_jobs=2,
    ).fit(X)  # fmt: skip
    report = model.fit_report_
    assert report["stop"] == "the validation loss no longer improves" and model.n_iter_ < 200
    assert report["mode"] in ("serial", "blocks") and report["reason"] and report["threads"] >= 1
    assert len(report["objective"]) == len(model.history_) == model.n_iter_
    assert report["best_epoch"] == 1 + np.argmin([r["validation_loss"] for r in model.history_])
    assert report["ratings_per_second"] > 0 and report["seconds"] > 0
    assert report["prepare_seconds"] > 0
    plain = MatrixFactorization(8, max_iter=3, tol=None, random_state=0).fit(X)
    assert plain.n_iter_ == 3 and plain.fit_report_["stop"] == "all 3 epochs done"
    assert plain.fit_report_["objective"] == []


def test_warm_start_and_partial_fit():
    X = matrix()
    same = {"tol": None, "random_state": 0, "n_components": 4}
    once = MatrixFactorization(max_iter=4, **same).fit(X)
    twice = MatrixFactorization(max_iter=2, warm_start=True, **same).fit(X).fit(X)
    np.testing.assert_allclose(twice.user_factors_, once.user_factors_, rtol=1e-5, atol=1e-6)
    assert twice.n_iter_ == 2 and twice.history_[-1]["epoch"] == 4
    cold = MatrixFactorization(max_iter=2, **same).fit(X).fit(X)
    np.testing.assert_array_equal(
        cold.user_factors_, MatrixFactorization(max_iter=2, **same).fit(X).user_factors_
    )

    pairs, y = make()
    stream = MatrixFactorization(4, random_state=0)
    order = np.random.default_rng(0).permutation(len(y))
    for _ in range(15):
        for part in np.array_split(order, 3):
            assert stream.partial_fit(pairs[part], y[part]) is stream
    assert stream.score(pairs, y) > 0.8
    steps = {round(r["step"], 12) for r in stream.history_}
    assert len(steps) == 1 and (stream.n_users_, stream.n_items_) == (60, 40)
    stream.partial_fit(np.array([[63, 45]]), [1.0])
    assert (stream.n_users_, stream.n_items_) == (64, 46)
    with pytest.raises(ValueError, match="X must have at least the"):
        stream.partial_fit(X)
    with pytest.raises(ValueError, match="loss must be that of the last fit, got 'hinge'"):
        stream.set_params(loss="hinge").partial_fit(pairs, y > 0)


def test_pickle_and_clone():
    X = matrix()
    model = MatrixFactorization(3, random_state=0).fit(X)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict(X).data, model.predict(X).data)
    assert again.fit_report_ == model.fit_report_
    np.testing.assert_array_equal(clone(model).fit(X).user_factors_, model.user_factors_)
    assert (
        len(pickle.dumps(model))
        < 3 * model.user_factors_.nbytes + 3 * model.item_factors_.nbytes + 20_000
    )


def test_random_state():
    X = matrix()
    a, b = (MatrixFactorization(3, random_state=np.random.RandomState(1)).fit(X) for _ in range(2))
    np.testing.assert_array_equal(a.user_factors_, b.user_factors_)
    a, b = (MatrixFactorization(3).fit(X) for _ in range(2))
    assert not np.array_equal(a.user_factors_, b.user_factors_)


def test_searches_and_cross_validation():
    X, y = make(200, 100, 0.4, noise=0.1)
    split = KFold(3, shuffle=True, random_state=0)
    model = MatrixFactorization(random_state=0, shape=(200, 100))
    search = GridSearchCV(model, {"n_components": [1, 3], "alpha": [0.02, 3.0]}, cv=split).fit(X, y)
    assert search.best_params_["alpha"] == 0.02 and search.best_score_ > 0.7
    assert cross_val_score(model.set_params(n_components=3), X, y, cv=split).min() > 0.6


def test_verbose_prints(capsys):
    MatrixFactorization(verbose=1, max_iter=3).fit(matrix())
    out = capsys.readouterr().out
    assert "epoch 3/3" in out and "M ratings/s, objective" in out


BAD = [
    ({"n_components": 0}, "n_components must be at least 1"),
    ({"n_components": 300}, "n_components must be from 1 to 256"),
    ({"loss": "huber"}, "loss must be one of 'squared_error', 'absolute_error'"),
    ({"loss": "squared"}, "loss must be one of"),
    ({"alpha": -1}, "alpha must be a number"),
    ({"alpha": 100.0}, "alpha must be at most .* with eta0="),
    ({"alpha_bias": -1}, "alpha_bias must be a number"),
    ({"fit_biases": 1}, "fit_biases must be True or False"),
    ({"non_negative": 1}, "non_negative must be True or False"),
    ({"max_iter": 0}, "max_iter must be at least 1"),
    ({"tol": -1}, "tol must be a number"),
    ({"n_iter_no_change": 0}, "n_iter_no_change must be at least 1"),
    ({"early_stopping": 1}, "early_stopping must be True or False"),
    ({"early_stopping": True, "validation_fraction": 2}, "validation_fraction must be"),
    ({"learning_rate": "optimal"}, "learning_rate must be one of 'inverse'"),
    ({"eta0": 0}, "eta0 must be a number"),
    ({"decay": 2}, "decay must be a number"),
    ({"adaptive": 1}, "adaptive must be True or False"),
    ({"dtype": "int32"}, "dtype must be"),
    ({"warm_start": 1}, "warm_start must be True or False"),
    ({"n_jobs": 0}, "n_jobs must be at least 1"),
    ({"random_state": -1}, "random_state must be at least 0"),
]


@pytest.mark.parametrize(("bad", "message"), BAD)
def test_bad_parameters_are_named(bad, message):
    model = MatrixFactorization(**bad)
    with pytest.raises((ValueError, TypeError), match=message):
        model.fit(matrix())
    assert not hasattr(model, "user_factors_")


def test_bad_calls_are_named():
    X = matrix()
    model = MatrixFactorization(3, random_state=0).fit(X)
    for bad, message in (
        (lambda: model.predict([[60, 0]]), r"X\[:, 0\] must lie in 0\.\.59; entry 0 is 60"),
        (lambda: model.predict(X[:50]), r"X must have the shape \(60, 40\), got \(50, 40\)"),
        (lambda: model.recommend(60), r"users must lie in 0\.\.59"),
        (lambda: model.recommend(0.5), "users must be an integer or integers"),
        (lambda: model.recommend(0, n=0), "n must be at least 1"),
        (lambda: model.recommend(0, filter_seen=X[:50]), r"filter_seen must have shape \(60, 40\)"),
        (
            lambda: model.recommend(0, filter_seen=[[0, 40]]),
            "filter_seen must have users and items",
        ),
        (
            lambda: model.recommend(0, filter_seen=[[-1, 0]]),
            "filter_seen must have users and items",
        ),
        (lambda: model.score(X, filter_seen=X), "filter_seen must be None for loss="),
        (lambda: model.fit(X, np.ones(60)), "y must be None where X is a sparse matrix"),
    ):
        with pytest.raises(ValueError, match=message):
            bad()
    assert set(NAMES.values()) <= set(model.get_params())


def test_divergence_raises():
    model = MatrixFactorization(eta0=1e6, alpha=0.0, adaptive=False)
    with (
        pytest.warns(RuntimeWarning, match="diverged"),
        pytest.raises(ValueError, match=r"fit diverged: .* eta0 below 1e\+06"),
    ):
        model.fit(matrix())
    assert not hasattr(model, "user_factors_")


def test_interrupt_keeps_the_model(monkeypatch):
    real, calls = completion.Run.measure, []

    def interrupted(self):
        calls.append(1)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return real(self)

    monkeypatch.setattr(completion.Run, "measure", interrupted)
    X, model = matrix(), MatrixFactorization(3, random_state=0)
    with pytest.raises(KeyboardInterrupt):
        model.fit(X)
    assert model.fit_report_["stop"] == "interrupted; the model is usable"
    assert model.score(X) > 0.3


def test_without_scikit_learn_the_extra_is_named(monkeypatch):
    monkeypatch.delitem(sys.modules, "fastopt.factorization.matrix_factorization")
    monkeypatch.setitem(sys.modules, "sklearn.base", None)
    with pytest.raises(ImportError, match=r"pip install 'fastopt\[sklearn\]'"):
        _ = fastopt.MatrixFactorization


def test_the_jester_example(data_dir, monkeypatch, capsys):
    """It runs as it stands, with the error it says, below LIBMF's best at this rank, 4.0091."""
    page = Path(__file__).parents[1] / "docs" / "matrix_completion.md"
    if not page.exists():
        pytest.skip("docs/ is in the source tree only")
    (block,) = re.findall(r"```py\n(.*?)```", page.read_text(), re.DOTALL)
    (said,) = re.findall(r"# RMSE (\S+)", block)
    monkeypatch.chdir(data_dir)
    names = {}
    exec(compile(block, page.name, "exec"), names)
    error = float(capsys.readouterr().out.removeprefix("RMSE "))
    assert error == pytest.approx(float(said), abs=0.002) and error < 4.0091
    rated = set(names["train"][names["train"][:, 0] == 7, 1].tolist())
    known, (jokes, scores) = len(rated), (names["jokes"], names["scores"])
    assert not rated & set(jokes[scores > -np.inf].tolist()) and known > 0


def test_top_level_name():
    assert fastopt.MatrixFactorization.__name__ == "MatrixFactorization"
    assert "MatrixFactorization" in dir(fastopt)
