"""polish="lbfgs": the optimum of independent solvers, the full gradient, and what is refused."""

import numpy as np
import pytest

import fastopt
from fastopt import _core
from fastopt.sparse.polish import SMOOTH

sparse = pytest.importorskip("scipy.sparse")
optimize = pytest.importorskip("scipy.optimize")

E = 0.1  # epsilon's default


def value(loss, p, y):
    """Return the losses as hogwild's documentation has them."""
    r, m = p - y, y * p
    return {
        "logistic": lambda: np.logaddexp(0, -m),
        "squared": lambda: r**2 / 2,
        "squared_hinge": lambda: np.maximum(0, 1 - m) ** 2,
        "modified_huber": lambda: np.where(m < -1, -4 * m, np.maximum(0, 1 - m) ** 2),
        "huber": lambda: np.where(np.abs(r) <= E, r**2 / 2, E * np.abs(r) - E**2 / 2),
        "squared_epsilon_insensitive": lambda: np.maximum(0, np.abs(r) - E) ** 2,
        "poisson": lambda: np.exp(p) - y * p,
    }[loss]()


def problem(loss, n=600, d=12, dtype="f8", seed=0):
    rng = np.random.default_rng(seed)
    X = sparse.random(n, d, 0.4, format="csr", random_state=seed, dtype=np.float64)
    p = X @ rng.normal(size=d) + 0.3
    y = p + 0.5 * rng.normal(size=n)
    if loss in ("logistic", "squared_hinge", "modified_huber"):
        y = np.where(y > 0, 1.0, -1.0)
    elif loss == "poisson":
        y = rng.poisson(np.exp(0.5 * p)).astype(float)
    return X.astype(dtype), y


def objective(loss, X, y, l2, w, b, weight=1.0):
    w = w.astype(float)
    return np.mean(weight * value(loss, X.astype(float) @ w + b, y)) + l2 / 2 * w @ w


def optimum(loss, X, y, l2, weight=1.0, intercept=True):
    """Return the least objective that SciPy finds, by differences of the formulas alone."""
    full = X.toarray().astype(float)

    def f(z):
        return objective(loss, full, y, l2, z[:-1], z[-1] * intercept, weight)

    found = optimize.minimize(f, np.zeros(X.shape[1] + 1), method="BFGS", options={"gtol": 1e-7})
    return found.fun


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("loss", SMOOTH)
def test_it_is_within_a_millionth_of_the_optimum(loss, dtype, threads):
    X, y = problem(loss, dtype=dtype)
    weight = np.random.default_rng(1).uniform(0, 2, len(y))
    weight[:50] = 0
    result = fastopt.hogwild(
        X, y, loss=loss, l2=1e-3, epochs=2, sample_weight=weight, threads=threads, polish="lbfgs"
    )
    weight /= weight.mean()
    least = optimum(loss, X, y, 1e-3, weight)
    assert result.message.startswith("polished: the objective is within"), result.message
    found = objective(loss, X, y, 1e-3, result.w, result.intercept, weight)
    assert found <= least + 2e-6 * abs(least)
    assert result.history[-1]["objective"] == pytest.approx(found, rel=1e-6)
    assert result.epochs >= result.history[-1]["epoch"] > 2  # the proof takes a pass too
    assert result.w.dtype == dtype


@pytest.mark.parametrize("pointers", ["i4", "i8"])
@pytest.mark.parametrize("indices", ["i4", "i8"])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_the_full_gradient_is_that_of_differences(dtype, indices, pointers):
    X, y = problem("logistic", 1000, 7, dtype)
    rng = np.random.default_rng(2)
    w, weight = rng.normal(size=8), rng.uniform(0, 2, 1000).astype(dtype)
    arrays = X.indices.astype(indices), X.indptr.astype(pointers)
    samples = _core.Samples(X.data, *arrays, X.shape, 1)
    samples.target(y.astype(dtype), None, 0, weight)

    def f(z):
        return float(np.sum(weight * value("logistic", X.astype(float) @ z[:-1] + z[-1], y)))

    h = 1e-6
    slopes = [(f(w + h * e) - f(w - h * e)) / (2 * h) for e in np.eye(8)]
    bits = set()
    for workers, threads in ((1, 1), (3, 1), (3, 2), (3, 3)):
        out, room = np.empty(8), np.full(workers * 9, np.nan)
        total = _core.full_gradient(samples, "logistic", 0.0, w, out, room, workers, threads)
        assert total == pytest.approx(f(w), rel=1e-12)
        np.testing.assert_allclose(out, slopes, rtol=1e-6, atol=1e-6)
        bits.add((workers, out.tobytes(), total))
    assert len(bits) == 2  # of the workers, not of the threads


def test_the_estimators_reach_scikit_learns_optimum():
    linear_model = pytest.importorskip("sklearn.linear_model")
    X, y = problem("logistic", 1500, 30)
    labels = (y > 0).astype(int) + (np.asarray(X.sum(1)).ravel() > 2.5)
    alpha = 1e-3
    ours = fastopt.SGDClassifier("log_loss", alpha=alpha, polish="lbfgs", random_state=0)
    ours.fit(X, labels)
    for k in range(3):
        peer = linear_model.LogisticRegression(C=1 / (alpha * 1500), tol=1e-10, max_iter=10_000)
        peer.fit(X, labels == k)
        np.testing.assert_allclose(ours.coef_[k], peer.coef_[0], atol=2e-2)
        signs = np.where(labels == k, 1.0, -1.0)
        theirs = objective("logistic", X, signs, alpha, peer.coef_[0], peer.intercept_[0])
        mine = objective("logistic", X, signs, alpha, ours.coef_[k], ours.intercept_[k])
        assert mine <= theirs * (1 + 1.1e-6)
    X, y = problem("squared", 1500, 30)
    ours = fastopt.SGDRegressor(alpha=alpha, polish="lbfgs", random_state=0).fit(X, y)
    peer = linear_model.Ridge(alpha=alpha * 1500, tol=1e-12).fit(X.toarray(), y)
    np.testing.assert_allclose(ours.coef_, peer.coef_, atol=2e-2)
    assert all("polished" in words for words in ours.fit_report_["stop"])


def test_a_fixed_intercept_a_target_and_no_penalty():
    X, y = problem("logistic")
    kept = fastopt.hogwild(
        X, y, l2=1e-3, epochs=1, fit_intercept=False, intercept0=0.7, polish="lbfgs"
    )
    assert kept.intercept == 0.7

    def f(w):
        return objective("logistic", X, y, 1e-3, w, 0.7)

    least = optimize.minimize(f, np.zeros(12), method="BFGS", options={"gtol": 1e-7}).fun
    assert f(kept.w) <= least * (1 + 2e-6)
    none = fastopt.hogwild(X, y, l2=0.0, epochs=1, polish="lbfgs")
    assert none.message == "polished: the gradient has vanished"
    assert objective("logistic", X, y, 0, none.w, none.intercept) <= optimum(
        "logistic", X, y, 0
    ) * (1 + 1e-6)
    model = fastopt.SGDClassifier("log_loss", alpha=1e-3, max_iter=1, tol=None, polish="lbfgs")
    reached = model.set_params(target=0.55, random_state=0).fit(X, y).fit_report_["stop"][0]
    assert "the target 0.55" in reached


def test_callbacks_and_ctrl_c_leave_a_model(monkeypatch):
    X, y = problem("logistic")
    monkeypatch.setattr("fastopt.sparse.polish.CALLBACK_EVERY", 0.0)
    calls = []

    def few(progress):
        calls.append(progress)
        return len(calls) > 3

    result = fastopt.hogwild(X, y, l2=1e-6, epochs=1, polish="lbfgs", callback=few)
    assert result.status == "stopped" and np.isfinite(result.w).all()
    assert calls[-1].objective == result.history[-1]["objective"]

    def interrupt(progress):
        if progress.epoch > 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        fastopt.hogwild(X, y, l2=1e-6, epochs=1, polish="lbfgs", callback=interrupt)
    result = caught.value.result
    assert result.status == "interrupted" and result.w.any()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"polish": "newton"}, "polish must be one of None, 'lbfgs'"),
        ({"loss": "hinge"}, "needs a smooth loss"),
        ({"l1": 0.1}, "cannot do l1=0.1"),
        ({"positive": True}, "cannot do positive=True"),
        ({"max_norm": 2.0}, "cannot do max_norm=2.0"),
        ({"checkpoint": "here"}, "cannot do checkpoint"),
    ],
)
def test_what_it_cannot_do_is_named(change, words):
    X, y = problem("logistic", 20)
    with pytest.raises(ValueError, match=words):
        fastopt.hogwild(X, y, **({"polish": "lbfgs"} | change))


def test_estimators_name_what_it_cannot_do():
    X, y = problem("logistic", 20)
    for change in (
        {"penalty": "l1"},
        {"early_stopping": True},
        {"optimizer": "sdca"},
        {"multi_class": "multinomial"},
    ):
        model = fastopt.SGDClassifier("log_loss", polish="lbfgs", **change)
        with pytest.raises(ValueError, match=f"polish='lbfgs' cannot do {next(iter(change))}"):
            model.fit(X, y)
    model = fastopt.SGDClassifier("log_loss", polish="lbfgs")
    assert model.partial_fit(X, y, classes=[-1, 1]).history_
