"""polish: the optimum of independent solvers, full derivatives, and what is refused."""

import itertools

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


@pytest.mark.parametrize("polish", ["lbfgs", "newton"])
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("loss", SMOOTH)
def test_it_is_within_a_millionth_of_the_optimum(loss, dtype, threads, polish):
    X, y = problem(loss, dtype=dtype)
    weight = np.random.default_rng(1).uniform(0, 2, len(y))
    weight[:50] = 0
    result = fastopt.hogwild(
        X, y, loss=loss, l2=1e-3, epochs=2, sample_weight=weight, threads=threads, polish=polish
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


def bend(loss, p, y):
    """Return the losses' second derivatives."""
    r, m = p - y, y * p
    return {
        "logistic": lambda: 1 / (2 + np.exp(m) + np.exp(-m)),
        "squared": lambda: np.ones(len(y)),
        "squared_hinge": lambda: 2.0 * (m < 1),
        "modified_huber": lambda: 2.0 * (np.abs(m) < 1),
        "huber": lambda: 1.0 * (np.abs(r) < E),
        "squared_epsilon_insensitive": lambda: 2.0 * (np.abs(r) > E),
        "poisson": lambda: np.exp(p),
    }[loss]()


@pytest.mark.parametrize("pointers", ["i4", "i8"])
@pytest.mark.parametrize("indices", ["i4", "i8"])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("loss", SMOOTH)
def test_the_hessian_is_that_of_the_formulas(loss, dtype, indices, pointers):
    X, y = problem(loss, 500, 7, dtype)
    rng = np.random.default_rng(2)
    w, weight = rng.normal(size=8), rng.uniform(0, 2, 500).astype(dtype)
    weight[:20] = 0
    # a row may have its columns in any order, and twice
    order = np.concatenate([rng.permutation(np.arange(a, b)) for a, b in pairs(X.indptr)])
    twice = X.indices[order].copy()
    for a, b in pairs(X.indptr):
        twice[a:b][: (b - a) // 2] = twice[a] if b > a else 0
    arrays = twice.astype(indices), X.indptr.astype(pointers)
    samples = _core.Samples(X.data, *arrays, X.shape, 1)
    samples.target(y.astype(dtype), None, 0, weight)
    full = np.zeros((500, 8))
    for i, (a, b) in enumerate(pairs(X.indptr)):
        np.add.at(full[i], twice[a:b], X.data[a:b])
    root, shape = 0.7, E
    full[:, 7] = root
    p = full[:, :7] @ w[:7] + w[7]
    expected = (full.T * (weight * bend(loss, p, y.astype(dtype).astype(float)))) @ full
    for workers, threads in ((1, 1), (3, 2)):
        room = np.zeros((workers, 8, 8))
        for low, high in ((0, 0), (0, 123), (123, 500)):
            _core.hessian(samples, loss, shape, w, root, 0.0, low, high, room, threads)
        found = room.sum(axis=0)
        found[:, -1] = found[-1]
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-4)
    with pytest.raises(ValueError, match="rows must be within 0 and 500"):
        _core.hessian(samples, loss, shape, w, root, 0.0, 0, 501, room, 1)
    with pytest.raises(ValueError, match="room a matrix of 8"):
        _core.hessian(samples, loss, shape, w, root, 0.0, 0, 500, np.zeros((1, 8, 7)), 1)


@pytest.mark.parametrize("loss", SMOOTH)
def test_one_row_stands_for_many_that_are_bent_little(loss):
    X, y = problem(loss, 500, 7)
    weight = np.random.default_rng(2).uniform(0, 2, 500)
    w, root = np.linspace(-1, 0.9, 8), 0.7
    samples = _core.Samples(X.data, X.indices, X.indptr, X.shape, 1)
    samples.target(y, None, 0, weight)
    full = np.hstack([X.toarray(), np.full((500, 1), root)])
    bends = weight * bend(loss, X @ w[:7] + w[7], y)
    expected = np.einsum("ij,ij,i->j", full, full, bends)
    thin = np.zeros((1, 8, 8))
    _core.hessian(samples, loss, E, w, root, 0.5, 0, 500, thin, 1)
    np.testing.assert_allclose(thin[0, 7, 7], expected[7], rtol=1e-6)
    diagonal = np.diag(thin[0])[:7] + thin[0, :7, 7]
    np.testing.assert_allclose(diagonal, expected[:7], rtol=1e-6, atol=1e-6)


def pairs(indptr):
    return list(itertools.pairwise(indptr))


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 8, 9, 16, 31, 100, 301])
def test_cholesky_solves_what_numpy_solves(n):
    rng = np.random.default_rng(n)
    a = rng.normal(size=(n, n + 3))
    a = a @ a.T + 1e-3 * np.eye(n)
    b = rng.normal(size=n)
    lower, x = np.tril(a) + np.triu(np.full((n, n), np.nan), 1), b.copy()
    assert _core.cholesky_solve(lower, x)
    np.testing.assert_allclose(np.tril(lower), np.linalg.cholesky(a), atol=1e-9 * n)
    np.testing.assert_allclose(x, np.linalg.solve(a, b), rtol=1e-6, atol=1e-6)
    a[n // 2, n // 2] = -1.0
    assert not _core.cholesky_solve(a, x)
    singular = np.ones((n + 1, n + 1))
    assert not _core.cholesky_solve(singular, np.ones(n + 1))
    with pytest.raises(ValueError, match="a must have shape"):
        _core.cholesky_solve(np.ones((n, n + 1)), np.ones(n))


@pytest.fixture
def isas():
    before = _core.get_isa()
    yield _core.isa_available()
    _core.set_isa(before)


@pytest.mark.parametrize("loss", SMOOTH)
def test_every_instruction_set_gives_the_same_bits(loss, isas):
    X, y = problem(loss, 700, 9, "f4")
    samples = _core.Samples(X.data, X.indices, X.indptr, X.shape, 1)
    samples.target(y.astype("f4"), None, 0, None)
    w, out, room = np.linspace(-1, 1, 10), np.empty(10), np.empty(11)
    bits = set()
    for isa in isas:
        _core.set_isa(isa)
        total = _core.full_gradient(samples, loss, E, w, out, room, 1, 1)
        h, x = np.zeros((1, 10, 10)), out.copy()
        _core.hessian(samples, loss, E, w, 1.0, 0.25, 0, 700, h, 1)
        kept = h.tobytes()
        assert _core.cholesky_solve(h[0] + np.eye(10), x)
        bits.add((total, out.tobytes(), kept, x.tobytes()))
    assert len(bits) == 1


@pytest.mark.parametrize("loss", ["logistic", "poisson"])
def test_losses_at_far_margins_are_their_limits(loss):
    p = np.array([-1e308, -800.0, -40.0, -1e-9, 0.0, 1e-9, 0.5, 40.0, 700.0, 705.0])
    X = sparse.diags(p, format="csr")
    y = np.where(np.arange(10) % 3, 1.0, -1.0) if loss == "logistic" else np.arange(10.0)
    samples = _core.Samples(X.data, X.indices, X.indptr, X.shape, 1)
    samples.target(y, None, 0, None)
    losses, slopes = np.empty(10), np.empty(11)
    samples.losses(loss, 0.0, np.ones(10), 0.0, losses, 1)
    np.testing.assert_allclose(losses, value(loss, p, y), rtol=1e-14)
    _core.full_gradient(samples, loss, 0.0, np.append(np.ones(10), 0), slopes, np.empty(12), 1, 1)
    with np.errstate(over="ignore"):
        expected = p * (-y / (1 + np.exp(y * p)) if loss == "logistic" else np.exp(p) - y)
    np.testing.assert_allclose(slopes[:10], expected, rtol=1e-13, atol=1e-300)


def test_newton_takes_few_steps_where_columns_are_correlated_or_there_is_no_penalty():
    rng = np.random.default_rng(0)
    base = rng.normal(size=(800, 3))
    full = np.hstack([base, base @ rng.normal(size=(3, 5)) + 1e-3 * rng.normal(size=(800, 5))])
    X, y = sparse.csr_matrix(full), np.sign(base[:, 0] + 0.5 * rng.normal(size=800))
    least = optimum("logistic", X, y, 1e-4)
    result = fastopt.hogwild(X, y, l2=1e-4, epochs=1, polish="newton")
    assert "is within" in result.message and len(result.history) <= 12
    assert objective("logistic", X, y, 1e-4, result.w, result.intercept) <= least * (1 + 2e-6)
    both = sparse.hstack([X, X]).tocsr()  # singular without a penalty
    none = fastopt.hogwild(both, y, l2=0.0, epochs=1, polish="newton")
    assert none.message == "polished: the gradient has vanished"
    free = optimum("logistic", X, y, 0)
    assert objective("logistic", both, y, 0, none.w, none.intercept) <= free * (1 + 1e-5)
    fixed = fastopt.hogwild(
        X, y, l2=1e-3, epochs=1, fit_intercept=False, intercept0=0.7, polish="newton"
    )
    assert fixed.intercept == 0.7 and "is within" in fixed.message


@pytest.mark.parametrize("l2", [1e-12, 1e-9, 1.0])
def test_newton_proves_the_optimum_of_any_penalty(l2):
    X, y = problem("logistic", 3000)
    rare = sparse.random(3000, 5, 0.003, format="csr", random_state=1)  # nine rows a column
    X = sparse.hstack([X, rare]).tocsr()
    result = fastopt.hogwild(X, y, l2=l2, epochs=1, polish="newton")
    assert result.message.startswith("polished: the objective is within"), result.message
    least = optimum("logistic", X, y, l2)
    assert objective("logistic", X, y, l2, result.w, result.intercept) <= least * (1 + 2e-6)


def test_newton_with_more_columns_than_rows_and_from_the_optimum_itself():
    X, y = problem("logistic", 150, 200)
    result = fastopt.hogwild(X, y, l2=1e-3, epochs=1, polish="newton")
    assert "is within" in result.message and len(result.history) <= 15
    X, y = problem("logistic", 3000)
    for l2 in (0.0, 1e-3):
        first = fastopt.hogwild(X, y, l2=l2, epochs=1, polish="newton")
        how = {"w0": first.w, "intercept0": first.intercept, "epochs": 0, "polish": "newton"}
        again = fastopt.hogwild(X, y, l2=l2, **how)
        assert again.epochs < 100 and again.message.startswith("polished: ")
        np.testing.assert_allclose(again.w, first.w, atol=1e-3)


@pytest.mark.parametrize("polish", ["lbfgs", "newton"])
def test_deterministic_polishing_has_the_same_bits_for_any_threads(polish):
    X, y = problem("logistic", 20_000)
    one, two, three = (
        fastopt.hogwild(X, y, epochs=1, deterministic=True, threads=k, polish=polish)
        for k in (1, 2, 3)
    )
    np.testing.assert_array_equal(one.w, two.w)
    np.testing.assert_array_equal(one.w, three.w)
    assert one.intercept == two.intercept == three.intercept


def test_a_hessian_in_many_parts_is_the_same(monkeypatch):
    X, y = problem("logistic", 5000)
    whole = fastopt.hogwild(X, y, epochs=1, threads=1, polish="newton")
    monkeypatch.setattr("fastopt.sparse.polish.PAIRS", 30_000.0)
    parts = fastopt.hogwild(X, y, epochs=1, threads=1, polish="newton")
    assert len(parts.history) <= len(whole.history) + 1
    np.testing.assert_allclose(parts.w, whole.w, atol=1e-4)


def test_newton_names_how_many_columns_it_takes():
    X = sparse.random(50, 2001, 0.1, format="csr", random_state=0)
    with pytest.raises(ValueError, match=r"at most 2,000 columns, X has 2,001: polish='lbfgs'"):
        fastopt.hogwild(X, np.ones(50), loss="squared", epochs=1, polish="newton")
    with pytest.raises(ValueError, match="at most 2,000 columns"):
        fastopt.SGDRegressor(polish="newton").fit(X, np.arange(50.0))


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
        ({"polish": "bfgs"}, "polish must be one of None, 'lbfgs', 'newton'"),
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
