"""minimize: right minima, SciPy's interface, and no claim of success that is not true."""

import math
import signal
import threading
import time

import numpy as np
import pytest
from scipy import optimize
from scipy.optimize import rosen, rosen_der, rosen_hess, rosen_hess_prod

import fastopt
from fastopt.solvers.lbfgs import solve_lbfgs
from fastopt.solvers.minimize import METHODS

GRADIENT = [name for name in METHODS if name != "random-search"]
EXACT = ("newton", "trust-exact")  # these look at curvature
X0 = np.array([1.3, 0.7, 0.8, 1.9])  # from -1.2, ... some end in the other minimum, at 3.7


def both(x):
    return rosen(x), rosen_der(x)


def options(method, **more):
    return {"l1": 0.0, **more} if method == "owl-qn" else more


def curvature(method):
    return {"hess": rosen_hess} if method in ("newton", "newton-cg", *EXACT) else {}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("method", [m for m in GRADIENT if m != "gd"])
def test_rosenbrock(method, dtype):
    x0 = X0.astype(dtype)
    seen = set()

    def fun(x):
        seen.add(x.dtype.name)
        return both(x)

    r = fastopt.minimize(
        fun, x0, method=method, jac=True, **curvature(method), options=options(method)
    )
    assert r.success and r.reason == "converged" and r.status == 0
    assert np.abs(rosen_der(r.x.astype("f8"))).max() <= (1e-5 if dtype == "float64" else 5e-3)
    assert np.abs(r.x - 1).max() < (1e-4 if dtype == "float64" else 5e-3)
    assert r.x.dtype == r.jac.dtype == dtype and seen == {dtype}
    assert (x0 == X0.astype(dtype)).all()


@pytest.mark.parametrize("method", ["l-bfgs", "bfgs", "cg", "l-bfgs-b", "owl-qn"])
@pytest.mark.parametrize("jac", [None, "2-point", "3-point", "cs", rosen_der])
def test_where_gradients_come_from(method, jac):
    calls = {"f": 0, "g": 0}

    def fun(x):
        calls["f"] += 1
        return rosen(x)

    def gradient(x):
        calls["g"] += 1
        return jac(x)

    r = fastopt.minimize(
        fun, X0, method=method, jac=gradient if callable(jac) else jac,
        options=options(method, gtol=1e-4),
    )  # fmt: skip
    assert r.success and np.abs(r.x - 1).max() < 1e-3
    assert r.nfev == calls["f"] and (not callable(jac) or r.njev == calls["g"])


def test_differences_in_float32():
    r = fastopt.minimize(lambda x: ((x - 3) ** 2).sum(), np.zeros(3, "f4"))
    assert r.success and r.x.dtype == np.float32 and np.abs(r.x - 3).max() < 1e-2


def test_differences_stay_inside_bounds_and_domains():
    def fun(x):
        assert (x >= 0).all() and (x <= 1).all()
        return ((x - [0.3, 2.0]) ** 2).sum()

    r = fastopt.minimize(fun, [1.0, 1.0], bounds=[(0, 1), (0, 1)])
    assert r.success and np.allclose(r.x, [0.3, 1], atol=1e-5)


@pytest.mark.parametrize("method", ["newton-cg", "trust-ncg"])
def test_products_with_the_hessian(method):
    r = fastopt.minimize(both, X0, method=method, jac=True, hessp=rosen_hess_prod)
    assert r.success and r.nhev > 0 and np.abs(r.x - 1).max() < 1e-4


@pytest.mark.parametrize("method", ["newton", "newton-cg", "trust-ncg", "trust-exact"])
def test_hessians_by_differences_of_gradients(method):
    r = fastopt.minimize(both, X0, method=method, jac=True)
    assert r.success and np.abs(r.x - 1).max() < 1e-4


def test_newton_needs_one_step_on_a_quadratic():
    a = np.array([[3.0, 1], [1, 2]])
    r = fastopt.minimize(
        lambda x: (x @ a @ x / 2 - x.sum(), a @ x - 1), [9.0, -7.0], jac=True, method="newton",
        hess=lambda x: a,
    )  # fmt: skip
    assert r.nit == 1 and np.allclose(r.x, np.linalg.solve(a, [1, 1]))


def test_conjugate_gradients_need_n_steps_on_a_quadratic():
    values = np.array([1.0, 4, 9, 16, 25])
    for beta in "fr", "pr+":
        r = fastopt.minimize(
            lambda x: (x @ (values * x) / 2, values * x), np.ones(5), jac=True, method="cg",
            options={"beta": beta, "c2": 1e-3, "c1": 1e-4, "gtol": 1e-9},
        )  # fmt: skip
        assert r.success and r.nit <= 7  # 5 with exact line searches


def test_args_and_fields_are_scipys():
    seen = []
    call = dict(args=(3.0,), jac=True, tol=1e-8)
    ours = fastopt.minimize(
        lambda x, a: (((x - a) ** 2).sum(), 2 * (x - a)), [0.0, 1.0], callback=seen.append, **call
    )
    theirs = optimize.minimize(
        lambda x, a: (((x - a) ** 2).sum(), 2 * (x - a)), [0.0, 1.0], method="L-BFGS-B", **call
    )
    assert set(theirs) - {"hess_inv"} <= set(ours)
    assert np.allclose(ours.x, theirs.x) and ours["x"] is ours.x
    assert len(seen) == ours.nit == len(ours.trace) - 1
    with pytest.raises(AttributeError):
        ours.nonsense  # noqa: B018
    assert "message" in repr(ours) and "message" in dir(ours)


def test_trace():
    r = fastopt.minimize(both, X0, jac=True)
    t = r.trace
    assert t["fun"][0] == rosen(X0) and t["fun"][-1] == r.fun
    assert t["grad_norm"][0] == np.abs(rosen_der(X0)).max()
    assert t["grad_norm"][-1] == np.abs(r.jac).max() <= 1e-5
    assert t["evaluations"][0] == 1 and t["evaluations"][-1] == r.nfev
    assert (np.diff(t["evaluations"]) > 0).all() and (np.diff(t["seconds"]) > 0).all()
    assert t["step"][0] == 0 and (t["step"][1:] > 0).all()


# --- what is not finite


def barrier(x):
    """Return x - log(1 - x) - log(x), not defined outside (0, 1), whose minimum is inside."""
    with np.errstate(all="ignore"):
        f = (50 * x - np.log(1 - x) - np.log(x)).sum()
        return f, 50 + 1 / (1 - x) - 1 / x


@pytest.mark.parametrize("method", GRADIENT)
def test_an_objective_that_leaves_its_domain(method):
    x0 = np.array([0.9, 0.999])
    r = fastopt.minimize(barrier, x0, method=method, jac=True, options=options(method))
    assert math.isfinite(r.fun) and np.isfinite(r.x).all() and barrier(r.x)[0] == r.fun
    # 50 x (1 - x) + x - (1 - x) = 0
    best = np.roots([-50, 52, -1]).min()
    assert r.success and np.allclose(r.x, best, atol=1e-6)


@pytest.mark.parametrize("name", ["BFGS", "CG", "L-BFGS-B"])
def test_scipy_returns_nan_there_and_we_do_not(name):
    def fun(x):
        with np.errstate(all="ignore"):
            return (np.log(x) + x).sum(), 1 / x + 1  # falls to the border, without a minimum

    theirs = optimize.minimize(fun, np.ones(2), jac=True, method=name)
    r = fastopt.minimize(fun, np.ones(2), jac=True, method=name)
    assert not r.success and math.isfinite(r.fun) and (r.x > 0).all()
    assert fun(r.x)[0] == r.fun < 2
    if math.isfinite(theirs.fun):
        pytest.skip("this SciPy does not")


def test_torchs_lbfgs_diverges_without_a_word_and_we_do_not():
    torch = pytest.importorskip("torch")
    w = torch.ones(2, dtype=torch.float64, requires_grad=True)
    solver = torch.optim.LBFGS([w], lr=1, max_iter=100)

    def closure():
        solver.zero_grad()
        loss = -(w**4).sum() + (w**2).sum()
        loss.backward()
        return loss

    for _ in range(3):
        solver.step(closure)
    with torch.no_grad():
        assert not -1e30 < float(-(w**4).sum() + (w**2).sum()) < 1e30
    for method in GRADIENT:
        r = fastopt.minimize(
            lambda x: (float(-(x**4).sum() + x @ x), -4 * x**3 + 2 * x),
            np.ones(2), jac=True, method=method, options=options(method, maxiter=300),
        )  # fmt: skip
        assert not r.success and math.isfinite(r.fun), method
        assert r.reason == ("iterations" if method == "owl-qn" else "unbounded"), method


@pytest.mark.parametrize("method", GRADIENT)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_not_finite_from_the_start_is_no_success(method, bad):
    for value, gradient in ((bad, 0.0), (1.0, bad)):
        r = fastopt.minimize(
            lambda x, v=value, g=gradient: (v, np.full(2, g)), [1.0, 2.0], jac=True, method=method,
            options=options(method),
        )  # fmt: skip
        assert not r.success and r.reason == "non-finite" and "x0" in r.message
        assert (r.x == [1, 2]).all()


@pytest.mark.parametrize("method", GRADIENT)
def test_a_gradient_that_is_not_finite_is_a_step_too_long(method):
    def fun(x):  # finite values, but no gradient beyond 1
        g = 2 * (x - 0.9)
        return float(((x - 0.9) ** 2).sum()), np.where(x > 1, math.nan, g)

    r = fastopt.minimize(fun, [-8.0, 0.0], jac=True, method=method, options=options(method))
    assert r.success and np.allclose(r.x, 0.9, atol=1e-5)


@pytest.mark.parametrize("method", ["newton", "trust-exact"])
def test_a_hessian_that_is_not_finite(method):
    r = fastopt.minimize(
        both, X0, jac=True, method=method, hess=lambda x: np.full((4, 4), math.nan)
    )
    assert not r.success and r.reason == "non-finite" and "Hessian" in r.message


def test_overflow_in_float32_points():
    r = fastopt.minimize(lambda x: (float(-x.sum()), -np.ones_like(x)), np.ones(2, "f4"), jac=True)
    assert not r.success and r.reason in ("unbounded", "line search") and np.isfinite(r.x).all()


# --- stationary points, noise, wrong gradients


@pytest.mark.parametrize("method", GRADIENT)
def test_a_stationary_start(method):
    def saddle(x):
        return x[0] ** 2 - x[1] ** 2 + x[1] ** 4, np.array([2 * x[0], -2 * x[1] + 4 * x[1] ** 3])

    def hess(x):
        return np.diag([2, -2 + 12 * x[1] ** 2])

    more = {"hess": hess} if method in EXACT else {}
    r = fastopt.minimize(
        saddle, [0.0, 0.0], jac=True, method=method, options=options(method), **more
    )
    if method in EXACT:  # the minima are at x[1] = +-sqrt(1/2)
        assert r.success and np.isclose(r.fun, -0.25) and "no negative eigenvalue" in r.message
    else:
        assert r.nit == 0 and "stationary point, which need not be a minimum" in r.message


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("method", EXACT)
def test_a_singular_minimum_is_no_saddle(method, dtype):
    """(x0 + x1)^4 + x0^2: the Hessian at the minimum has an eigenvalue of 0."""

    def fun(x):
        t = x[0] + x[1]
        return t**4 + x[0] ** 2, np.array([4 * t**3 + 2 * x[0], 4 * t**3])

    r = fastopt.minimize(fun, np.array([1, 1], dtype), jac=True, method=method)
    assert r.success and r.fun < 1e-5


@pytest.mark.parametrize("method", GRADIENT)
def test_a_constant_function(method):
    r = fastopt.minimize(
        lambda x: (3.0, np.zeros(2)), [1.0, 2.0], jac=True, method=method, options=options(method)
    )
    assert r.nit == 0 and r.fun == 3 and "0" in r.message


@pytest.mark.parametrize("method", GRADIENT)
def test_a_gradient_of_the_wrong_sign_is_no_success(method):
    r = fastopt.minimize(
        lambda x: (x @ x, -2 * x), [1.0, 2.0], jac=True, method=method,
        options=options(method, maxiter=300),
    )  # fmt: skip
    assert not r.success and r.reason in ("line search", "precision", "non-finite")
    assert r.fun <= 5 and r.message


@pytest.mark.parametrize("method", GRADIENT)
def test_a_flat_function_with_a_gradient_ends(method):
    r = fastopt.minimize(
        lambda x: (1.0, np.ones(2)), [1.0, 2.0], jac=True, method=method,
        options=options(method, maxiter=2000),
    )  # fmt: skip
    assert not r.success and r.fun == 1 and r.nit < 200


@pytest.mark.parametrize("method", GRADIENT)
def test_noise_ends_and_is_no_success(method):
    noise = np.random.default_rng(0)

    def fun(x):
        return x @ x + 1e-3 * noise.random(), 2 * x + 1e-3 * noise.standard_normal(2)

    r = fastopt.minimize(
        fun, [3.0, -2.0], jac=True, method=method, options=options(method, gtol=1e-9, maxiter=2000)
    )
    assert not r.success and r.fun < 0.1 and r.nit < 2000


@pytest.mark.parametrize(
    "gradient", [np.ones(3), np.ones((2, 1)), np.ones((1, 2)), 1.0, np.ones((2, 2))]
)
@pytest.mark.parametrize("split", [True, False])
def test_wrong_shapes_of_gradients_are_named(gradient, split):
    fun, jac = (lambda x: (1.0, gradient)), True
    if split:
        fun, jac = (lambda x: 1.0), (lambda x: gradient)
    with pytest.raises(ValueError, match=r"gradient must have shape \(2,\), got"):
        fastopt.minimize(fun, [1.0, 2.0], jac=jac)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (dict(x0=[[1.0, 2.0]]), ValueError, "x0 must have shape"),
        (dict(x0=[]), ValueError, "x0 must have shape"),
        (dict(x0=[math.nan]), ValueError, "x0 must be finite"),
        (dict(x0=[1j]), TypeError, "x0 must be an array of real"),
        (dict(x0="a"), TypeError, "x0 must be an array of real"),
        (dict(fun=3), TypeError, "fun must be callable"),
        (dict(method="bgfs"), ValueError, "did you mean 'bfgs'"),
        (dict(jac="4-point"), ValueError, "jac must be"),
        (dict(hess=3, method="newton"), TypeError, "hess must be callable"),
        (dict(method="cg", bounds=[(0, 1)]), ValueError, "has no bounds"),
        (dict(bounds=[(0, 1), (0, 1)]), ValueError, "bounds must be 1 pairs"),
        (dict(bounds=[(2, 1)]), ValueError, "low <= high"),
        (dict(bounds=3), TypeError, "bounds must be"),
        (dict(tol=-1.0), ValueError, "tol"),
        (dict(callback=3), TypeError, "callback must be callable"),
        (dict(options={"gtool": 1}), ValueError, "no option 'gtool': it has c1, c2, ftol, gtol"),
        (dict(options={"maxiter": -1}), ValueError, "maxiter"),
        (dict(options={"memory": 0}), ValueError, "memory"),
        (dict(options={"c1": 0.5, "c2": 0.4}), ValueError, "c2"),
        (dict(options=3), TypeError, "options must be a dict"),
        (dict(method="owl-qn", options={"l1": -1.0}), ValueError, "l1 must be finite"),
        (dict(method="owl-qn", options={"l1": [1, 2]}), ValueError, "l1 must be a number"),
        (dict(method="random-search"), ValueError, "needs bounds"),
        (dict(fun=lambda x: "a"), TypeError, "fun must return one number"),
        (dict(fun=lambda x: x[[0, 0]]), TypeError, "fun must return one number"),
        (dict(fun=lambda x: 1j), TypeError, "fun must return one number"),
        (dict(fun=lambda x: 1.0, jac=True), TypeError, r"must return \(value, gradient\)"),
    ],
)
def test_wrong_arguments_are_named(call, error, words):
    with pytest.raises(error, match=words):
        fastopt.minimize(**{"fun": lambda x: float((x * x).sum()), "x0": [1.0], **call})


# --- endings


@pytest.mark.parametrize("method", list(METHODS))
@pytest.mark.parametrize("how", ["true", "stop", "intermediate"])
def test_callbacks_stop(method, how):
    seen = []

    def plain(x):
        seen.append(x)
        x[:] = 7  # a copy
        if how == "stop" and len(seen) == 3:
            raise StopIteration
        return len(seen) == 3

    def named(intermediate_result):
        seen.append(intermediate_result.fun)
        if len(seen) == 3:
            raise StopIteration

    bounds = [(-2, 2)] * 4 if method == "random-search" else None
    r = fastopt.minimize(
        both, X0, jac=True, method=method, bounds=bounds, options=options(method),
        callback=named if how == "intermediate" else plain,
    )  # fmt: skip
    assert r.nit == len(seen) == 3 and r.reason == "callback" and not r.success and r.status == 99
    assert rosen(r.x) == r.fun <= rosen(X0) and (how != "intermediate" or seen[-1] == r.fun)


@pytest.mark.parametrize("method", list(METHODS))
def test_an_interrupt_returns_the_best_point(method):
    values = []

    def fun(x):
        if len(values) == 12:
            raise KeyboardInterrupt
        values.append(rosen(x))
        return values[-1], rosen_der(x)

    bounds = [(-2, 2)] * 4 if method == "random-search" else None
    r = fastopt.minimize(fun, X0, jac=True, method=method, bounds=bounds, options=options(method))
    assert r.reason == "interrupted" and not r.success and rosen(r.x) == r.fun <= rosen(X0)
    if method == "random-search":
        assert r.fun == min(values)


@pytest.mark.skipif(not hasattr(signal, "raise_signal"), reason="needs signals")
def test_an_interrupt_between_the_passes_of_a_large_problem():
    scale = np.linspace(1, 1e5, 500_000)
    ended = []
    threading.Timer(
        0.5, lambda: ended.append(time.process_time()) or signal.raise_signal(2)
    ).start()
    r = fastopt.minimize(
        lambda x: (float(x @ (scale * x)) / 2, scale * x), np.ones(len(scale)), jac=True,
        options={"gtol": 0.0},
    )  # fmt: skip
    assert time.process_time() - ended[0] < 1.0
    assert r.reason == "interrupted" and np.isclose(r.x @ (scale * r.x) / 2, r.fun)


def test_other_errors_go_to_the_caller():
    with pytest.raises(ZeroDivisionError):
        fastopt.minimize(lambda x: 1 / 0, [1.0])


def test_budgets():
    r = fastopt.minimize(both, X0, jac=True, options={"maxiter": 3})
    assert r.nit == 3 and r.reason == "iterations" and not r.success and r.status == 1
    r = fastopt.minimize(both, X0, jac=True, options={"maxiter": 0})
    assert r.nit == 0 and (r.x == X0).all()
    r = fastopt.minimize(both, X0, jac=True, options={"maxfev": 10})
    assert r.reason == "evaluations" and 10 <= r.nfev < 20 and not r.success
    r = fastopt.minimize(both, X0, jac=True, options={"ftol": 1e-2})
    assert r.success and "ftol" in r.message and np.abs(r.jac).max() > 1e-5


def test_functions_may_spoil_what_they_are_given_and_reuse_what_they_return():
    g = np.empty(4)

    def fun(x):
        f = rosen(x)
        g[:] = rosen_der(x)
        x[:] = math.nan
        return f, g

    for method in GRADIENT:
        clean = fastopt.minimize(
            both, X0, jac=True, method=method, options=options(method, maxiter=30)
        )
        r = fastopt.minimize(fun, X0, jac=True, method=method, options=options(method, maxiter=30))
        assert (r.x == clean.x).all() and r.nfev == clean.nfev, method


# --- bounds and L1


@pytest.mark.parametrize("seed", range(4))
def test_bounds_against_scipy(seed):
    rng = np.random.default_rng(seed)
    n = 20
    low = rng.uniform(-1, 1, n)
    high = low + rng.uniform(0, 1, n)
    high[:3] = low[:3]  # fixed
    bounds = [(a, b) for a, b in zip(low, high, strict=True)]
    bounds[4], bounds[5] = (None, None), (None, high[5])
    r = fastopt.minimize(both, np.zeros(n), jac=True, bounds=bounds, tol=1e-7)
    best = optimize.minimize(
        both, np.clip(0, low, high), jac=True, bounds=bounds, method="L-BFGS-B",
        options=dict(ftol=0, gtol=1e-9),
    )  # fmt: skip
    assert r.success and np.isclose(r.fun, best.fun, rtol=1e-9)
    assert (r.x >= [-np.inf if a is None else a for a, _ in bounds]).all()
    assert (r.x <= [np.inf if b is None else b for _, b in bounds]).all()
    same = fastopt.minimize(both, np.zeros(n), jac=True, bounds=optimize.Bounds(low, high))
    assert same.success


def test_bounds_of_float32_are_never_crossed():
    edge = 0.1  # above its float32
    r = fastopt.minimize(
        lambda x: (float(x @ x), 2 * x), np.ones(3, "f4"), jac=True, bounds=[(edge, 2)] * 3
    )
    assert r.success and (r.x.astype("f8") >= edge).all() and r.x.dtype == np.float32


def test_owl_qn_is_the_soft_threshold():
    """min |x - a|^2 / 2 + sum(l |x|) is a moved by l towards 0."""
    a, weight = np.array([3.0, -0.5, 0.2, -4.0]), np.array([1.0, 1.0, 0.0, 0.5])
    r = fastopt.minimize(
        lambda x: (((x - a) ** 2).sum() / 2, x - a), np.zeros(4), jac=True, method="owl-qn",
        options={"l1": weight, "gtol": 1e-9},
    )  # fmt: skip
    expected = np.sign(a) * np.maximum(np.abs(a) - weight, 0)
    assert r.success and np.allclose(r.x, expected, atol=1e-8) and r.x[1] == 0
    assert np.isclose(r.fun, ((r.x - a) ** 2).sum() / 2 + (weight * np.abs(r.x)).sum())


def test_owl_qn_without_l1_is_a_solver():
    r = fastopt.minimize(both, X0, jac=True, method="owl-qn", options={"l1": 0})
    assert r.success and np.abs(r.x - 1).max() < 1e-4


@pytest.mark.slow
def test_owl_qn_has_the_optimum_of_liblinear(data_dir):
    from scipy import sparse
    from sklearn.linear_model import LogisticRegression

    z = np.load(data_dir / "news20.npz")
    rows = 500
    X = sparse.csr_matrix(
        (z["train_data"].astype("f8"), z["train_indices"], z["train_indptr"]),
        (len(z["train_y"]), int(z["n_features"])),
    )[:rows]
    y = np.where(z["train_y"][:rows] < 10, 1.0, -1.0)
    transposed, c = X.T.tocsr(), 10.0

    def fun(w):
        m = y * (X @ w)
        return c * np.logaddexp(0, -m).sum(), -c * (transposed @ (y / (1 + np.exp(m))))

    r = fastopt.minimize(
        fun, np.zeros(X.shape[1]), jac=True, method="owl-qn", options={"l1": 1.0, "gtol": 1e-4}
    )
    model = LogisticRegression(
        l1_ratio=1.0, C=c, solver="liblinear", fit_intercept=False, tol=1e-6, max_iter=5000
    ).fit(X, y)
    w = model.coef_.ravel()
    theirs = fun(w)[0] + np.abs(w).sum()
    assert r.success and r.fun <= theirs * (1 + 1e-8)
    assert abs((r.x != 0).sum() - (w != 0).sum()) <= 3


# --- the rest


def test_random_search_claims_no_success():
    r = fastopt.minimize(
        rosen, [1.5, 1.5], method="random-search", bounds=[(-2, 2)] * 2,
        options={"n": 300, "seed": 0},
    )  # fmt: skip
    assert not r.success and r.nfev == r.nit == 300 and r.reason == "budget"
    assert rosen(r.x) == r.fun < rosen([1.5, 1.5]) and (np.diff(r.trace["fun"]) <= 0).all()


def test_gd_with_a_fixed_step_is_its_formula_and_keeps_the_best():
    x, scale = np.array([1.0, -2.0]), np.array([1.0, 5.0])

    def fun(x):
        return float(x @ (scale * x)) / 2, scale * x

    r = fastopt.minimize(fun, x, jac=True, method="gd", options={"lr": 0.1, "maxiter": 5})
    assert np.allclose(r.x, x * (1 - 0.1 * scale) ** 5)
    r = fastopt.minimize(fun, x, jac=True, method="gd", options={"lr": 0.5, "maxiter": 9})
    assert not r.success and r.fun <= r.trace["fun"].min()  # 1 - 0.5 * 5 = -1.5


def test_the_plain_function_for_estimators():
    r = solve_lbfgs(both, X0, gtol=1e-7)
    same = fastopt.minimize(both, X0, jac=True, tol=1e-7)
    assert r.success and (r.x == same.x).all() and r.nfev == same.nfev


def test_bfgs_returns_the_inverse_hessian():
    a = np.array([[3.0, 1], [1, 2]])
    r = fastopt.minimize(
        lambda x: (x @ a @ x / 2, a @ x), [9.0, -7.0], jac=True, method="BFGS", tol=1e-10
    )
    assert np.allclose(r.hess_inv, np.linalg.inv(a), rtol=1e-2)


def test_one_variable_and_integers():
    for method in GRADIENT:
        r = fastopt.minimize(lambda x: (x[0] - 2) ** 2, 5, method=method, options=options(method))
        assert r.success and r.x.shape == (1,) and abs(r.x[0] - 2) < 1e-5, method


@pytest.mark.parametrize("method", ["l-bfgs", "cg", "gd", "owl-qn"])
def test_threads_change_no_bit(method):
    scale = np.linspace(1, 50, 200_000)

    def fun(x):
        return float((scale * x * x).sum() / 2), scale * x

    runs = [
        fastopt.minimize(
            fun, np.ones(len(scale)), jac=True, method=method,
            options=options(method, threads=threads, maxiter=6),
        )
        for threads in (1, 2, 3)
    ]  # fmt: skip
    assert len({r.x.tobytes() for r in runs}) == 1
