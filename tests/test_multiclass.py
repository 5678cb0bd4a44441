"""One model of several classes: derivatives, updates in the data's order, optima, estimators."""

from __future__ import annotations

import functools
import pickle

import numpy as np
import pytest

sparse = pytest.importorskip("scipy.sparse")
pytest.importorskip("sklearn")
from scipy.optimize import minimize  # noqa: E402
from scipy.special import logsumexp, softmax  # noqa: E402
from sklearn.base import clone  # noqa: E402
from sklearn.datasets import load_digits, load_iris, make_classification  # noqa: E402
from sklearn.linear_model import LogisticRegression  # noqa: E402
from sklearn.svm import LinearSVC  # noqa: E402

from fastopt import _core  # noqa: E402
from fastopt.estimators import SGDClassifier  # noqa: E402
from fastopt.sparse.models import LinearModel, load, save  # noqa: E402
from fastopt.sparse.multiclass import (  # noqa: E402
    MULTI_LOSSES,
    blocks_of,
    multiclass,
    multiclass_objective,
    rows_of,
)
from fastopt.sparse.rows import Settings  # noqa: E402

OF = {"multinomial": "log_loss", "crammer_singer": "hinge", "weston_watkins": "hinge"}
IN_ORDER = {"shuffle": False, "tol": None, "max_iter": 3, "eta0": 0.05, "learning_rate": "constant"}


def settings(loss, **more):
    given = {
        "l2": 1e-3, "epochs": 30, "step": "auto", "schedule": "inverse_time", "decay": 0.9,
        "mode": "auto", "fit_intercept": True, "average": True, "threads": 1, "seed": 0,
    }  # fmt: skip
    return Settings.check(loss=loss, losses=MULTI_LOSSES, **{**given, **more})


def rows(n=300, d=12, k=4, seed=0, dtype="f8"):
    r = np.random.default_rng(seed)
    X = r.normal(size=(n, d))
    X[np.abs(X) < 0.6] = 0
    y = (X @ r.normal(size=(d, k)) + r.gumbel(size=(n, k))).argmax(1)
    y[:k] = np.arange(k)
    return X.astype(dtype), y


def value(loss, p, y):
    """Return the published losses, on scores p of one row of class y."""
    if loss == "multinomial":
        return logsumexp(p) - p[y]
    margins = 1 + np.delete(p, y) - p[y]
    return max(0, margins.max()) if loss == "crammer_singer" else np.maximum(0, margins).sum()


def derivative(loss, p, y):
    g = np.zeros(len(p))
    if loss == "multinomial":
        g = softmax(p)
        g[y] -= 1
        return g
    margins = 1 + p - p[y]
    margins[y] = -np.inf
    if loss == "crammer_singer":
        if margins.max() > 0:
            g[margins.argmax()], g[y] = 1, -1
        return g
    g[margins > 0] = 1
    g[y] = -g.sum()
    return g


def objective(loss, X, y, W, b, l2):
    losses = [value(loss, p, c) for p, c in zip(X @ W.T + b, y, strict=True)]
    return np.mean(losses) + l2 / 2 * (W**2).sum()


@pytest.mark.parametrize("loss", MULTI_LOSSES)
@pytest.mark.parametrize("k", [2, 3, 8, 20])
def test_derivatives(loss, k):
    r = np.random.default_rng(k)
    for _ in range(20):
        p, y = r.normal(size=k) * 2, int(r.integers(k))
        g = np.empty(k)
        assert _core.multi_at(loss, p, y, g) == pytest.approx(value(loss, p, y), rel=1e-13)
        steps = 1e-6 * np.eye(k)
        slopes = [(value(loss, p + e, y) - value(loss, p - e, y)) / 2e-6 for e in steps]
        np.testing.assert_allclose(g, slopes, atol=1e-8)
        assert abs(g.sum()) < 1e-14


@pytest.mark.parametrize("loss", MULTI_LOSSES)
def test_scores_of_any_size(loss):
    g = np.empty(3)
    for size in (1e3, 1e200):
        p = np.array([size, 0.0, -size])
        assert _core.multi_at(loss, p, 0, g) == 0 and not g.any()
        far = {"multinomial": 2 * size, "crammer_singer": 2 * size, "weston_watkins": 3 * size}
        assert _core.multi_at(loss, p, 2, g) == pytest.approx(far[loss], rel=2e-3)
        assert np.isfinite(g).all() and g[2] < 0


@pytest.mark.parametrize("loss", MULTI_LOSSES)
@pytest.mark.parametrize("k", [3, 7, 16, 33])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_every_update_in_order(loss, k, dtype):
    """Rows in the data's order: the formula, row by row, in NumPy."""
    X, y = rows(k=k, dtype=dtype)
    r = np.random.default_rng(1)
    weight, alpha, step = r.integers(0, 3, len(y)) * 0.5, 0.01, 0.05
    W, b = np.zeros((k, X.shape[1])), np.zeros(k)
    for _ in range(3):
        for x, c, factor in zip(X.astype("f8"), y, weight, strict=True):
            if factor == 0:
                continue
            g = factor * derivative(loss, W @ x + b, c)
            W = (1 - step * alpha) * W - step * np.outer(g, x)
            b = b - step * g
    model = SGDClassifier(OF[loss], multi_class=loss, alpha=alpha, **IN_ORDER)
    for form in (np.asarray, sparse.csr_matrix):
        model.fit(form(X), y, sample_weight=weight)
        assert model.coef_.dtype == dtype and model.coef_.shape == W.shape
        rtol = 1e-10 if dtype == "f8" else 3e-4
        if dtype == "f8" or loss == "multinomial":  # a float32 may fall on the other side of a kink
            np.testing.assert_allclose(model.coef_, W, rtol=rtol, atol=rtol)
            np.testing.assert_allclose(model.intercept_, b, rtol=rtol, atol=rtol)
    settled = settings(loss, l2=alpha)
    whole = multiclass_objective(
        sparse.csr_matrix(X), y, model.coef_, model.intercept_, settled, weight
    )
    scores = X @ model.coef_.T + model.intercept_
    losses = [value(loss, p, c) for p, c in zip(scores, y, strict=True)]
    mean = np.average(losses, weights=weight) + alpha / 2 * (model.coef_.astype("f8") ** 2).sum()
    assert whole == pytest.approx(mean, rel=1e-6 if dtype == "f4" else 1e-12)


def digits():
    X, y = load_digits(return_X_y=True)
    return X[:1000] / 16, y[:1000]


def iris():
    X, y = load_iris(return_X_y=True)
    return (X - X.mean(0)) / X.std(0), y


def made():
    X, y = make_classification(1000, 40, n_informative=15, n_classes=5, random_state=0)
    return X / 4, y


@functools.cache
def softmax_optimum(data, l2=1e-3):
    """Return scikit-learn's model and its objective."""
    X, y = data()
    best = LogisticRegression(C=1 / (len(y) * l2), tol=1e-4, max_iter=1000).fit(X, y)
    return best, objective("multinomial", X, y, best.coef_, best.intercept_, l2)


@pytest.mark.parametrize(("data", "within"), [(digits, 0.01), (iris, 0.005), (made, 0.001)])
def test_the_softmax_optimum(data, within):
    X, y = data()
    l2, least = 1e-3, softmax_optimum(data)[1]
    for threads in (1, 2):
        how = settings("multinomial", threads=threads, epochs=100)
        found = multiclass(sparse.csr_matrix(X), y, y.max() + 1, how)
        reached = objective("multinomial", X, y, found.W, found.b, l2)
        assert least * (1 - 1e-4) < reached < least * (1 + within)


@pytest.mark.parametrize(("data", "within"), [(digits, 0.01), (iris, 0.001), (made, 0.005)])
def test_the_crammer_singer_optimum(data, within):
    """LIBLINEAR's intercept is penalised: compared without one."""
    X, y = data()
    l2 = 1e-2
    C = 1 / (len(y) * l2)
    best = LinearSVC(
        multi_class="crammer_singer", C=C, fit_intercept=False, tol=1e-4, max_iter=20000
    )
    best.fit(X, y)
    least = objective("crammer_singer", X, y, best.coef_, 0, l2)
    more = {"l2": l2, "fit_intercept": False, "epochs": 400}
    found = multiclass(sparse.csr_matrix(X), y, y.max() + 1, settings("crammer_singer", **more))
    assert not found.b.any()
    reached = objective("crammer_singer", X, y, found.W, 0, l2)
    assert least * (1 - 1e-4) < reached < least * (1 + within)


def dual_bound(X, y, l2):
    """Return the optimum of Weston and Watkins's dual, by L-BFGS over its box.

    min_W mean_i sum_{c != y_i} max(0, 1 + (w_c - w_y) x_i) + l2 / 2 |W|^2
    = max_{0 <= a_ic <= 1/n} sum a - |W(a)|^2 l2 / 2,  l2 W(a) = sum_ic a_ic (e_{y_i} - e_c) x_i'.
    """
    n, k = len(y), y.max() + 1
    own = np.eye(k)[y]

    def negative(flat):
        a = flat.reshape(n, k) * (1 - own)
        W = ((own * a.sum(1, keepdims=True) - a).T @ X) / l2
        P = X @ W.T
        slope = 1 + P - (P * own).sum(1, keepdims=True)
        return l2 / 2 * (W**2).sum() - a.sum(), (-slope * (1 - own)).ravel()

    options = {"maxiter": 5000, "maxfun": 20000, "ftol": 1e-14, "gtol": 1e-9}
    start = np.zeros(n * k)
    done = minimize(negative, start, jac=True, bounds=[(0, 1 / n)] * (n * k), options=options)
    return -done.fun


def test_the_weston_watkins_optimum():
    X, y = iris()
    l2 = 1e-2
    least = dual_bound(X, y, l2)
    more = {"l2": l2, "fit_intercept": False, "epochs": 1000}
    found = multiclass(sparse.csr_matrix(X), y, 3, settings("weston_watkins", **more))
    reached = objective("weston_watkins", X, y, found.W, 0, l2)
    assert least * (1 - 1e-6) < reached < least * 1.001


@pytest.mark.parametrize("loss", MULTI_LOSSES)
@pytest.mark.parametrize("mode", ["copies", "shared"])
def test_threads_are_as_good(loss, mode):
    X, y = rows(20000, 50, 6, dtype="f4")
    S = sparse.csr_matrix(X)
    one, two = (
        multiclass(S, y, 6, settings(loss, threads=t, mode=m, epochs=10))
        for t, m in ((1, "serial"), (2, mode))
    )
    values = [multiclass_objective(S, y, r.W, r.b, settings(loss)) for r in (one, two)]
    assert two.results[0].threads in (1, 2) and values[1] < values[0] * 1.01


def test_the_mode_is_chosen_by_what_merges_cost():
    how = settings("multinomial", threads=2, epochs=1)
    narrow = sparse.random(5000, 50, 0.2, "csr", random_state=0)
    columns = np.random.default_rng(0).integers(0, 50000, 50000)
    wide = sparse.csr_matrix((np.ones(50000), columns, np.arange(0, 50001, 10)), (5000, 50000))
    y = np.arange(5000) % 3
    found = multiclass(narrow, y, 3, how).results[0]
    assert found.mode == "copies" or found.threads == 1
    found = multiclass(wide, y, 3, how).results[0]
    assert (found.mode, found.threads) == ("serial", 1)
    assert any(word in found.reason for word in ("blocks of 50000 columns", "thread", "OpenMP"))


def test_one_thread_gives_the_same_bits():
    X, y = rows(3000)
    kinds = ({}, {"average": False}, {"schedule": "constant", "step": 0.01}, {"mode": "serial"})
    for more in kinds:
        one, two = (
            multiclass(sparse.csr_matrix(X), y, 4, settings("multinomial", **more))
            for _ in range(2)
        )
        np.testing.assert_array_equal(one.W, two.W)
        np.testing.assert_array_equal(one.b, two.b)
    seen = multiclass(sparse.csr_matrix(X), y, 4, settings("multinomial"), track_objective=True)
    np.testing.assert_array_equal(
        seen.W, multiclass(sparse.csr_matrix(X), y, 4, settings("multinomial")).W
    )


@pytest.mark.parametrize("isa", ["base", "avx2", "avx512"])
def test_every_instruction_set_gives_the_same_bits(isa):
    import fastopt

    before = fastopt.get_isa()
    X, y = rows(500, k=20, dtype="f4")
    want = multiclass(sparse.csr_matrix(X), y, 20, settings("multinomial", epochs=3)).W
    try:
        fastopt.set_isa(isa)
    except ValueError:
        pytest.skip(f"no {isa} here")
    try:
        found = multiclass(sparse.csr_matrix(X), y, 20, settings("multinomial", epochs=3)).W
    finally:
        fastopt.set_isa(before)
    np.testing.assert_array_equal(found, want)


def test_sorted_rows_take_turns():
    X, y = digits()
    at = np.argsort(y, kind="stable")
    found = multiclass(sparse.csr_matrix(X[at]), y[at], 10, settings("multinomial"))
    assert found.results[0].order == "turns"
    assert (
        multiclass(sparse.csr_matrix(X), y, 10, settings("multinomial")).results[0].order
        == "blocks"
    )


@pytest.mark.parametrize("k", [1, 3, 4, 5, 8, 9, 17])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_blocks(k, dtype):
    W = np.random.default_rng(0).normal(size=(k, 7)).astype(dtype)
    S = sparse.csr_matrix(np.eye(7, dtype=dtype))
    samples = _core.Samples(S.data, S.indices, S.indptr, S.shape, 1)
    samples.target(None, np.zeros(7, np.int64), 0, None, k)
    blocks = blocks_of(W, samples.width)
    assert blocks.ctypes.data % 64 == 0 and samples.width >= k
    assert samples.width * W.itemsize % 64 == 0 or samples.width in (4, 8)
    np.testing.assert_array_equal(rows_of(blocks, W.shape), W)
    np.testing.assert_array_equal(blocks.reshape(7, -1)[:, k:], 0)


# ---- the estimator ----


def test_the_estimator_reaches_the_optimum():
    X, y = digits()
    names = np.array([f"digit {c}" for c in range(10)])[y]
    l2, (best, least) = 1e-3, softmax_optimum(digits)
    model = SGDClassifier(
        "log_loss", multi_class="multinomial", alpha=l2, average=True, tol=1e-6, random_state=0
    ).fit(X, names)
    reached = objective("multinomial", X, y, model.coef_, model.intercept_, l2)
    assert reached < least * 1.01
    assert model.history_[-1]["objective"] > least and model.history_[0]["problem"] == 0
    assert len(model.fit_report_["stop"]) == 1 and model.n_iter_ == len(model.history_)
    assert np.abs(model.predict_proba(X) - best.predict_proba(X)).mean() < 0.002
    np.testing.assert_allclose(model.predict_proba(X), softmax(model.decision_function(X), 1))
    assert (model.predict(X) == names[:10][best.predict(X)]).mean() > 0.99
    assert model.classes_.tolist() == sorted(set(names))


@pytest.mark.parametrize("loss", MULTI_LOSSES)
def test_scikit_learns_own(loss):
    X, y = iris()
    model = SGDClassifier(OF[loss], multi_class=loss, random_state=0, max_iter=50).fit(X, y)
    theirs = model.to_sklearn()
    assert type(theirs).__module__.startswith("sklearn.")
    np.testing.assert_allclose(theirs.decision_function(X), model.decision_function(X))
    np.testing.assert_array_equal(theirs.predict(X), model.predict(X))
    if loss == "multinomial":
        np.testing.assert_allclose(theirs.predict_proba(X), model.predict_proba(X))
    else:
        assert not hasattr(model, "predict_proba")
    clone(theirs).set_params(max_iter=5000).fit(X, y)  # with parameters that it knows


@pytest.mark.parametrize("loss", MULTI_LOSSES)
def test_two_classes_are_the_binary_problem(loss):
    X, y = rows(k=2)
    one, two = (
        SGDClassifier(OF[loss], multi_class=kind, random_state=0, tol=None, max_iter=3).fit(X, y)
        for kind in ("ovr", loss)
    )
    np.testing.assert_array_equal(one.coef_, two.coef_)
    assert two.coef_.shape == (1, 12) and two.decision_function(X).shape == (300,)


def test_class_weights_multiply_all_rows():
    X, y = rows()
    weight = {0: 0.5, 1: 2.0, 2: 0.0, 3: 1.0}
    same = {**IN_ORDER, "multi_class": "multinomial", "alpha": 0}
    one = SGDClassifier("log_loss", class_weight=weight, **same).fit(X, y)
    two = SGDClassifier("log_loss", **same).fit(X, y, sample_weight=[weight[c] for c in y])
    np.testing.assert_allclose(one.coef_, two.coef_, rtol=1e-12)
    np.testing.assert_allclose(one.intercept_, two.intercept_, rtol=1e-12)


def test_partial_fit_goes_on():
    X, y = rows()
    same = {**IN_ORDER, "multi_class": "multinomial"}
    whole = SGDClassifier("log_loss", **same | {"max_iter": 1}).fit(X, y)
    parts = SGDClassifier("log_loss", **same)
    for at in (slice(64), slice(64, 200), slice(200, None)):
        parts.partial_fit(X[at], y[at], classes=np.arange(4))
    np.testing.assert_allclose(parts.coef_, whole.coef_, rtol=1e-10)
    np.testing.assert_allclose(parts.intercept_, whole.intercept_, rtol=1e-10)
    assert parts.t_ == whole.t_ == 301


@pytest.mark.parametrize("average", [True, 100])
def test_averages(average):
    X, y = rows(5000, 20, 5)
    model = SGDClassifier("log_loss", multi_class="multinomial", average=average, tol=None,
                          max_iter=5, random_state=0).fit(X, y)  # fmt: skip
    assert model._average_coef.shape == model._standard_coef.shape == (5, 20)
    assert np.abs(model._average_coef - model._standard_coef).max() > 0
    before = model.coef_.copy()
    model.partial_fit(X, y)
    assert 0 < np.abs(model.coef_ - before).max() < 0.5


def test_warm_start_and_initial_coefficients():
    X, y = digits()
    model = SGDClassifier("log_loss", multi_class="multinomial", warm_start=True, random_state=0,
                          tol=None, max_iter=30, average=True, alpha=1e-3)  # fmt: skip
    first = model.fit(X, y).coef_.copy()
    model.set_params(max_iter=1).fit(X, y)
    cold = clone(model).set_params(warm_start=False).fit(X, y)
    given = clone(cold).fit(X, y, coef_init=first, intercept_init=np.zeros(10))
    value = {
        name: objective("multinomial", X, y, m.coef_, m.intercept_, 1e-3)
        for name, m in (("warm", model), ("cold", cold), ("given", given))
    }
    assert value["warm"] < value["cold"] and value["given"] < value["cold"]


def test_early_stopping_target_and_budget():
    X, y = digits()
    kind = {"multi_class": "multinomial", "random_state": 0}
    model = SGDClassifier("log_loss", early_stopping=True, average=True, **kind).fit(X, y)
    assert model.fit_report_["stop"] == ["the validation score no longer improves"]
    assert model.history_[-1]["score"] > 0.9
    model = SGDClassifier("log_loss", target=0.15, tol=None, **kind).fit(X, y)
    assert model.fit_report_["stop"] == ["the objective has reached the target 0.15"]
    assert model.history_[-1]["objective"] <= 0.15 < model.history_[0]["objective"]
    model = SGDClassifier("log_loss", time_budget=0.0, tol=None, **kind).fit(X, y)
    assert model.fit_report_["stop"] == ["the time budget is used up"]
    model.fit(X[:800], y[:800], validation=(X[800:], y[800:]))


@pytest.mark.parametrize("learning_rate", ["constant", "invscaling", "adaptive", "epoch_decay"])
@pytest.mark.parametrize("loss", MULTI_LOSSES)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_learning_rates(learning_rate, loss):
    X, y = digits()
    model = SGDClassifier(
        OF[loss], multi_class=loss, learning_rate=learning_rate, eta0=0.1, max_iter=30,
        random_state=0,
    ).fit(X, y)  # fmt: skip
    assert model.score(X, y) > 0.93


@pytest.mark.parametrize("form", ["csr", "csc", "coo"])
def test_containers_pickles_and_sparse_coefficients(form):
    X, y = rows()
    same = {"multi_class": "crammer_singer", "random_state": 0}
    model = SGDClassifier(**same).fit(X, y)
    other = SGDClassifier(**same).fit(sparse.coo_matrix(X).asformat(form), y)
    np.testing.assert_array_equal(model.coef_, other.coef_)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.decision_function(X), model.decision_function(X))
    np.testing.assert_allclose(again.sparsify().decision_function(X), model.decision_function(X))
    again.partial_fit(X, y)


def test_a_saved_model_says_the_same(tmp_path):
    X, y = digits()
    model = SGDClassifier("log_loss", multi_class="multinomial", random_state=0).fit(X, y)
    kept = LinearModel(model.coef_, model.intercept_, model.classes_, {"loss": "multinomial"})
    save(tmp_path / "m.npz", kept)
    again = load(tmp_path / "m.npz")
    decision = X @ again.W.T + again.b
    np.testing.assert_allclose(again.probability(decision), model.predict_proba(X))
    np.testing.assert_array_equal(again.label(decision), model.predict(X))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"multi_class": "softmax"}, "multi_class must be one of 'ovr', 'multinomial', 'crammer"),
        ({"multi_class": "multinomial"}, "'multinomial' needs loss='log_loss', got 'hinge'"),
        ({"multi_class": "weston_watkins", "loss": "log_loss"}, "needs loss='hinge', got 'log"),
        ({"penalty": "l1"}, "'crammer_singer' needs penalty='l2' or None, got 'l1'"),
        ({"penalty": "elasticnet"}, "needs penalty='l2' or None, got 'elasticnet'"),
        ({"positive": True}, "'crammer_singer' cannot do positive=True"),
        ({"learning_rate": "pa1"}, "'crammer_singer' cannot do learning_rate='pa1'"),
        ({"max_norm": 1.0}, "'crammer_singer' has no max_norm"),
        ({"optimizer": "adam"}, "needs optimizer='sgd', got 'adam'"),
        ({"optimizer": "sdca"}, "needs optimizer='sgd', got 'sdca'"),
    ],
)
def test_bad_parameters_are_named(bad, message):
    X, y = rows()
    with pytest.raises(ValueError, match=message):
        SGDClassifier(**{"multi_class": "crammer_singer", **bad}).fit(X, y)


def test_bad_input_is_named():
    X, y = rows()
    S = sparse.csr_matrix(X)
    within = "codes must lie in 0..3"
    wrong = [(y + 1, within), (y - 1, within), (y[:-1], "codes must be 300 integers")]
    for codes, message in [*wrong, (y * 1.0, "codes must be 300 integers")]:
        with pytest.raises(ValueError, match=message):
            multiclass(S, codes, 4, settings("multinomial"))
    with pytest.raises(ValueError, match="n_classes must be at least 2"):
        multiclass(S, y * 0, 1, settings("multinomial"))
    with pytest.raises(ValueError, match="loss must be one of 'multinomial', 'crammer_singer'"):
        settings("hinge")
    for wrong in ({"l1": 1e-3}, {"positive": True}):
        with pytest.raises(ValueError, match="neither l1 nor positive"):
            multiclass(S, y, 4, settings("multinomial", **wrong))
    with pytest.raises(ValueError, match="W and b must be of shapes"):
        multiclass_objective(S, y, np.zeros((4, 3)), np.zeros(4), settings("multinomial"))
    with pytest.raises(ValueError, match="scores and derivative must be float64"):
        _core.multi_at("multinomial", np.zeros(3), 3, np.zeros(3))


def test_divergence_raises():
    X, y = rows(2000)
    model = SGDClassifier(multi_class="weston_watkins", learning_rate="constant", eta0=1e35,
                          alpha=0, tol=None)  # fmt: skip
    with pytest.raises(ValueError, match="overflow occurred at epoch #1"):
        model.fit(X, y)
    assert not hasattr(model, "coef_")


def test_an_interrupt_keeps_the_model(monkeypatch):
    from fastopt.sparse import runner

    X, y = digits()
    calls = []
    real = runner.objective_of

    def interrupted(*arguments):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(runner, "objective_of", interrupted)
    model = SGDClassifier(multi_class="crammer_singer", learning_rate="constant", eta0=0.1)
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, y)
    assert model.coef_.shape == (10, 64) and model.score(X, y) > 0.8


@pytest.mark.slow
def test_news20(data_dir):
    """Twenty classes of real text, against LIBLINEAR's and L-BFGS's optima."""
    z = np.load(data_dir / "news20.npz")
    shape = (len(z["train_y"]), int(z["n_features"]))
    X = sparse.csr_matrix((z["train_data"], z["train_indices"], z["train_indptr"]), shape)
    y = z["train_y"].astype(np.int64)
    y -= y.min()
    X, y = X[:4000], y[:4000]
    l2, few = 1e-3, {"l2": 1e-3, "fit_intercept": False, "epochs": 50}
    best = LinearSVC(
        multi_class="crammer_singer", C=1 / (len(y) * l2), fit_intercept=False, tol=1e-3
    ).fit(X, y)
    least = objective("crammer_singer", X, y, best.coef_, 0, l2)
    found = multiclass(X, y, 20, settings("crammer_singer", **few))
    assert objective("crammer_singer", X, y, found.W, 0, l2) < least * 1.01
    smooth = LogisticRegression(C=1 / (len(y) * l2), fit_intercept=False, tol=1e-4).fit(X, y)
    least = objective("multinomial", X, y, smooth.coef_, 0, l2)
    found = multiclass(X, y, 20, settings("multinomial", **few))
    assert objective("multinomial", X, y, found.W, 0, l2) < least * 1.001


@pytest.mark.parametrize("loss", MULTI_LOSSES)
def test_the_command_line(loss, tmp_path, capsys):
    pytest.importorskip("typer")
    from sklearn.datasets import dump_svmlight_file

    from fastopt.cli import main

    X, y = iris()
    dump_svmlight_file(X, y, str(tmp_path / "iris.svm"))
    model, data = str(tmp_path / "m.npz"), str(tmp_path / "iris.svm")
    options = ["--loss", loss, "--threads", "1", "--test", data, "--out", model, "--epochs", "50"]
    assert main(["train", data, *options]) == 0
    kept = load(model)
    assert kept.W.shape == (3, 4) and kept.settings["loss"] == loss
    capsys.readouterr()
    assert main(["predict", model, data, *(["--proba"] if loss == "multinomial" else [])]) == 0
    found = np.array([line.split() for line in capsys.readouterr().out.splitlines()], float)
    decision = X @ kept.W.T + kept.b
    np.testing.assert_array_equal(found[:, 0], decision.argmax(1))
    assert (found[:, 0] == y).mean() > 0.9
    if loss == "multinomial":
        np.testing.assert_allclose(found[:, 1:], softmax(decision, axis=1), atol=1e-3)
    else:
        assert main(["predict", model, data, "--proba"]) == 2


def test_callbacks_see_all_classes():
    """Epochs are the tasks of one model, and each of them shows a whole one."""
    callback = pytest.importorskip("sklearn.callback")
    X, y = iris()
    monitor = callback.ScoringMonitor(scoring="accuracy")
    model = SGDClassifier("log_loss", multi_class="multinomial", max_iter=3, tol=None,
                          random_state=0).set_callbacks(monitor)  # fmt: skip
    model.fit(X, y)
    seen = monitor.get_logs().data
    assert [row["task_name"] for row in seen] == ["fit", "epoch", "epoch", "epoch"]


@pytest.mark.parametrize("loss", MULTI_LOSSES)
def test_rounds_give_the_same_bits_for_any_threads(loss):
    X, y = rows(20000, 30, 5)
    kind = {"multi_class": loss, "random_state": 0, "tol": None, "max_iter": 5, "average": True}
    found = [SGDClassifier(OF[loss], n_jobs=n, **kind).fit(X, y) for n in (2, 3, 4)]
    for model in found:
        np.testing.assert_array_equal(model.coef_, found[0].coef_)
        np.testing.assert_array_equal(model.intercept_, found[0].intercept_)
    one = SGDClassifier(OF[loss], n_jobs=1, **kind).fit(X, y)
    last = [model.history_[-1]["objective"] if model.history_[-1].get("objective") else
            multiclass_objective(sparse.csr_matrix(X), y, model.coef_, model.intercept_,
                                 settings(loss, l2=1e-4)) for model in (one, found[0])]  # fmt: skip
    assert found[0].fit_report_["mode"] == "rounds" and last[1] < last[0] * 1.02


def test_modes_for_study_are_refused():
    X, y = rows()
    for mode in ("hogbatch", "rr", "aig"):
        with pytest.raises(ValueError, match="mode must be one of 'auto', 'copies'"):
            multiclass(sparse.csr_matrix(X), y, 4, settings("multinomial", mode=mode))
