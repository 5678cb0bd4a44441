"""Derivatives by differences, against closed forms and SciPy; what gradient checks find."""

import numpy as np
import pytest
from scipy.optimize import approx_fprime, rosen, rosen_der, rosen_hess, rosen_hess_prod
from scipy.special import expit

from fastopt.calculus import (
    assert_grad,
    check_grad,
    check_hessp,
    numerical_grad,
    numerical_hessian,
    numerical_jacobian,
)

METHODS = ("forward", "central", "complex")
TOLERANCE = {"forward": 1e-6, "central": 1e-9, "complex": 1e-14}


def smooth(x):
    """A function of complex numbers, too."""
    return (np.exp(x) * np.sin(x)).sum() + (x.ravel() * x.ravel()[0] ** 2).sum()


def smooth_grad(x):
    g = np.exp(x) * (np.sin(x) + np.cos(x)) + x.ravel()[0] ** 2
    g.flat[0] += 2 * x.ravel()[0] * x.sum()
    return g


@pytest.fixture
def rng():
    return np.random.default_rng(5)


def test_the_worked_example_of_the_lecture():
    """Losses with 0.0001 added to each weight; the table's gradients are -2.5, 0.6 and 0."""
    W = np.array([0.34, -1.11, 0.78])
    losses = {
        (0.34, -1.11, 0.78): 1.25347,
        (0.34 + 0.0001, -1.11, 0.78): 1.25322,
        (0.34, -1.11 + 0.0001, 0.78): 1.25353,
        (0.34, -1.11, 0.78 + 0.0001): 1.25347,
    }
    grad = numerical_grad(lambda w: losses[tuple(w)], W, "forward", h=0.0001)
    np.testing.assert_allclose(grad, [-2.5, 0.6, 0.0], atol=1e-8)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", [(), (1,), (4,), (2, 3)])
def test_gradient_against_the_formula(rng, method, shape):
    x = rng.normal(size=shape)
    got = numerical_grad(smooth, x, method)
    assert got.shape == shape and got.dtype == np.float64
    exact = smooth_grad(np.atleast_1d(x)).reshape(shape)
    np.testing.assert_allclose(got, exact, rtol=TOLERANCE[method], atol=TOLERANCE[method])


@pytest.mark.parametrize("method", METHODS)
def test_float32_comes_out_as_float32(rng, method):
    x = rng.normal(size=6).astype(np.float32)
    seen = set()

    def f(x):
        seen.add(x.dtype)
        return smooth(x)

    got = numerical_grad(f, x, method)
    assert got.dtype == np.float32
    assert seen <= {np.dtype(np.float32), np.dtype(np.complex64)}
    wanted = smooth_grad(x.astype(float))
    error = {"forward": 5e-3, "central": 1e-3, "complex": 1e-6}[method]
    assert np.max(np.abs(got - wanted)) < error * np.max(np.abs(wanted))


@pytest.mark.parametrize("method", METHODS)
def test_batches_of_points_give_the_same(rng, method, monkeypatch):
    monkeypatch.setattr("fastopt.calculus.differences.BATCH", 20)  # several batches
    x = rng.normal(size=(2, 3))

    def many(x):
        assert x.shape[1:] == (2, 3) and x.size <= max(20, 12)
        return (np.exp(x) * np.sin(x)).sum((1, 2)) * x[:, 0, 0]

    one = numerical_grad(lambda x: many(x[None])[0], x, method)
    np.testing.assert_allclose(numerical_grad(many, x, method, vectorized=True), one, rtol=1e-7)
    with pytest.raises(ValueError, match="vectorized: f must return"):
        numerical_grad(lambda x: 1.0, x, method, vectorized=True)


@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e8])
def test_steps_follow_the_size_of_x(scale):
    x = np.array([1.0, -3.0]) * scale
    got = numerical_grad(lambda x: (x**2).sum(), x)
    np.testing.assert_allclose(got, 2 * x, rtol=1e-7, atol=1e-12)


def test_forward_is_scipys():
    x = np.array([0.3, -0.7, 1.9])
    ours = numerical_grad(rosen, x, "forward")
    np.testing.assert_allclose(ours, approx_fprime(x, rosen), rtol=1e-5)


def test_mappings(rng):
    p = {"W": rng.normal(size=(2, 2)), "b": rng.normal(size=2).astype(np.float32)}
    got = numerical_grad(lambda p: (p["W"] ** 2).sum() + p["b"] @ p["b"], p)
    assert list(got) == ["W", "b"] and got["b"].dtype == np.float32
    np.testing.assert_allclose(got["W"], 2 * p["W"], rtol=1e-8)
    np.testing.assert_allclose(got["b"], 2 * p["b"], rtol=1e-2)


class Stop(BaseException):
    pass


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("calls", [1, 2, 5, 10**9])
@pytest.mark.parametrize(
    "what",
    [
        lambda f, x, m: numerical_grad(f, x, m),
        lambda f, x, m: numerical_hessian(f, x),
        lambda f, x, m: check_grad(f, lambda x: 2 * x, x),
    ],
)
def test_x_is_restored_to_the_bit(rng, method, calls, what):
    base = rng.normal(size=(6, 4))
    base[0, 0] = -0.0
    x = base[::2, ::-1]  # not contiguous
    before, left = base.tobytes(), [calls]

    def f(x):
        left[0] -= 1
        if not left[0]:
            raise Stop
        return (x * x).sum()

    try:
        what(f, x, method)
    except Stop:
        assert calls < 10**9
    assert base.tobytes() == before


def test_a_function_may_hold_the_array_itself(rng):
    x = rng.normal(size=3)
    np.testing.assert_allclose(numerical_grad(lambda _: x @ x, x), 2 * x, rtol=1e-8)
    fixed = x.copy()
    fixed.flags.writeable = False
    np.testing.assert_allclose(numerical_grad(lambda y: y @ y, fixed), 2 * x, rtol=1e-8)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("vectorized", [False, True])
def test_jacobian(rng, method, vectorized):
    A, x = rng.normal(size=(3, 4)), rng.normal(size=4)

    def f(x):
        return np.sin(x @ A.T)

    wanted = np.cos(A @ x)[:, None] * A
    got = numerical_jacobian(f, x, method, vectorized=vectorized)
    np.testing.assert_allclose(got, wanted, atol=1e-7)
    square = numerical_jacobian(lambda x: x[..., None] * x[..., None, :], x.reshape(4))
    assert square.shape == (4, 4, 4)


def test_hessian():
    x = np.array([0.4, -1.3, 0.9, 2.0])
    exact = rosen_hess(x)
    np.testing.assert_allclose(numerical_hessian(rosen, x), exact, atol=1e-2)
    by_gradient = numerical_hessian(rosen, x, grad=rosen_der)
    np.testing.assert_allclose(by_gradient, exact, atol=1e-5)
    assert np.array_equal(by_gradient, by_gradient.T)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.sum, np.array([1j])), "float32 or float64"),
        ((np.sum, np.array([np.nan])), "finite"),
        ((np.sum, np.ones(2), "middle"), "method must be one of"),
        ((np.sum, np.ones(2), "central", -1.0), "h must be"),
        ((np.sum, np.ones(2), "central", 1e-20), "does not change x"),
        ((lambda x: x, np.ones(2)), "one real number"),
        ((lambda x: float(abs(x).sum()), np.ones(2), "complex"), "drops the imaginary"),
        ((lambda x: x.sort() or x[0], np.array([2.0, 1.0])), "changed its argument"),
        ((None, np.ones(2)), "callable"),
        ((np.sum, {}), "no arrays"),
    ],
)
def test_what_is_refused(arguments, message):
    with pytest.raises((TypeError, ValueError), match=message):
        numerical_grad(*arguments)


def test_arrays_that_share_memory_are_refused():
    x = np.ones(4)
    with pytest.raises(ValueError, match="a and b share memory"):
        numerical_grad(lambda p: p["a"].sum(), {"a": x, "b": x[1:3]})


# ---- checks -------------------------------------------------------------------------------------


def network(rng, dtype):
    """Two layers with a ReLU, the loss a mean over ten samples."""
    X = rng.normal(size=(10, 4)).astype(dtype)
    p = {"W1": rng.normal(size=(4, 5)).astype(dtype), "W2": rng.normal(size=(5, 5)).astype(dtype)}

    def f(p):
        return np.square(np.maximum(X @ p["W1"], 0) @ p["W2"]).sum() / 20

    def g(p):
        z = X @ p["W1"]
        a = np.maximum(z, 0)
        d = a @ p["W2"] / 10
        return {"W1": X.T @ ((d @ p["W2"].T) * (z > 0)), "W2": a.T @ d}

    return f, g, p


def scaled(g, factor, *names):
    return lambda p: {k: v * (factor if k in names else 1) for k, v in g(p).items()}


WRONG = {
    "factor 2 everywhere": lambda f, g: (f, scaled(g, 2, "W1", "W2")),
    "sign flipped": lambda f, g: (f, scaled(g, -1, "W1", "W2")),
    "only W2 is wrong: factor 2 everywhere": lambda f, g: (f, scaled(g, 2, "W2")),
    "only W1 is wrong: sign flipped": lambda f, g: (f, scaled(g, -1, "W1")),
    "factor 10 everywhere: sum instead of mean over 10?": lambda f, g: (
        f,
        scaled(g, 10, "W1", "W2"),
    ),
    "factor 1/10 everywhere: mean instead of sum over 10?": lambda f, g: (
        f,
        scaled(g, 0.1, "W1", "W2"),
    ),
    "only W2 is wrong: missing regularization term 0.5 * x": lambda f, g: (
        lambda p: f(p) + 0.25 * (p["W2"] ** 2).sum(),
        g,
    ),
    "only W2 is wrong: missing regularization term 0.5 * sign(x)": (
        lambda f, g: (lambda p: f(p) + 0.5 * np.abs(p["W2"]).sum(), g)
    ),
    "only W2 is wrong: transposed": lambda f, g: (f, lambda p: g(p) | {"W2": g(p)["W2"].T}),
    "only W1 is wrong: the gradient is zero everywhere": lambda f, g: (f, scaled(g, 0, "W1")),
    "only W1 is wrong: the gradient is not finite, at W1[0, 0] first": lambda f, g: (
        f,
        scaled(g, np.nan, "W1"),
    ),
}


@pytest.mark.parametrize("components", [2000, 10])
@pytest.mark.parametrize("line", list(WRONG))
def test_diagnosis(rng, line, components):
    f, g, p = network(rng, np.float64)
    bad_f, bad_g = WRONG[line](f, g)
    report = check_grad(bad_f, bad_g, p, components=components)
    assert not report
    if "not finite" not in line or components == 2000:
        assert report.diagnosis == line
    if line.startswith("only"):
        assert report.rows[0].label.startswith(line[5:7])
    with pytest.raises(AssertionError, match="component"):
        assert_grad(bad_f, bad_g, p, components=components)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("components", [2000, 10])
@pytest.mark.parametrize("seed", range(4))
def test_right_gradients_pass(dtype, components, seed):
    f, g, p = network(np.random.default_rng(seed), dtype)
    report = check_grad(f, g, p, components=components)
    assert report and report.diagnosis.startswith("ok")
    if components == 2000:
        assert report.max_error == max(np.nanmax(e) for e in report.errors.values())


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_diagnosis_in_both_precisions(rng, dtype):
    f, g, p = network(rng, dtype)
    report = check_grad(f, scaled(g, 2, "W2"), p)
    assert report.diagnosis == "only W2 is wrong: factor 2 everywhere"


def test_one_wrong_component_is_the_first_row(rng):
    x = rng.normal(size=(3, 4))

    def g(x):
        g = 3 * x**2
        g[1, 2] *= 1.001
        return g

    report = check_grad(lambda x: (x**3).sum(), g, x)
    assert report.rows[0].label == "x[1, 2]" and report.rows[0].status == "wrong"
    assert report.rows[1].status == "ok"
    assert report.diagnosis == "1 of 12 components wrong, worst x[1, 2]"
    assert report.rows[0].error == pytest.approx(0.001, rel=0.01)
    assert "x[1, 2]" in str(report).splitlines()[2]
    assert np.nanargmax(report.errors["x"]) == 6


@pytest.mark.parametrize(
    ("f", "g", "kind"),
    [
        (lambda x: np.abs(x).sum(), np.sign, "absolute value"),
        (lambda x: np.maximum(x, 0).sum(), lambda x: (x > 0) * 1.0, "hinge or ReLU"),
        (lambda x: np.maximum(x, 0).sum(), lambda x: (x >= 0) * 1.0, "hinge or ReLU"),
        (lambda x: np.maximum(0, 1 - (x + 1)).sum(), lambda x: (x < 0) * -1.0, "hinge or ReLU"),
    ],
)
@pytest.mark.parametrize("near", [0.0, 1e-9, -1e-9])
def test_kinks_are_named_and_not_failed(f, g, kind, near):
    report = check_grad(f, g, np.array([near, 1.5, -0.7]))
    assert report and report.kinks == ("x[0]",)
    (row,) = (row for row in report.rows if row.status == "kink")
    assert near or kind in row.note
    assert "1 at kinks" in report.diagnosis


def test_no_subgradient_fails_at_a_kink_too():
    report = check_grad(lambda x: np.abs(x).sum(), lambda x: np.sign(x) + 2 * (x == 0), np.zeros(2))
    assert not report and "not between" in report.rows[0].note


@pytest.mark.parametrize("curvature", [1.0, 1e3, 1e6])
def test_curvature_is_no_kink(curvature):
    x = np.array([1e-4, 0.0, -0.3])
    report = check_grad(lambda x: curvature * (x**2).sum(), lambda x: 2 * curvature * x, x)
    assert report and not report.kinks


@pytest.mark.parametrize("x", [[1.0, 1.0, 1.0], [-1.2, 1.0, 1.0], [100.0, -50.0, 3.0]])
def test_optima_and_steep_places(x):
    assert_grad(rosen, rosen_der, np.array(x))


def test_noise_is_told_and_does_not_pass_as_right(rng):
    x = rng.normal(size=4)
    report = check_grad(lambda x: (x**2).sum() + rng.normal(), lambda x: 2 * x, x)
    assert not report and "too noisy" in report.diagnosis
    assert report.noise > 0.01


def test_a_function_that_computes_in_float32_inside(rng):
    x = rng.normal(size=8)
    f = lambda x: float(np.square(x.astype("f4")).sum(dtype="f4"))  # noqa: E731
    report = check_grad(f, lambda x: 2 * x, x)
    assert report and 1e-9 < report.noise < 1e-6
    assert check_grad(f, lambda x: 4 * x, x).diagnosis == "factor 2 everywhere"


def test_large_x_takes_few_calls(rng):
    x = rng.normal(size=20_000)
    good = check_grad(lambda x: np.sin(x).sum(), np.cos, x)
    assert good and good.nfev < 500
    part = check_grad(lambda x: np.sin(x).sum(), lambda x: np.cos(x) * (np.arange(x.size) > 9e3), x)
    assert not part and any("direction" in row.label for row in part.rows[:20])


def test_reports_repeat_themselves(rng):
    f, g, p = network(rng, np.float64)
    one, two = (check_grad(f, scaled(g, 1.1, "W1"), p, components=9, seed=3) for _ in range(2))
    assert one.rows == two.rows
    assert check_grad(f, g, p, components=9, seed=4).rows != one.rows


def test_forms_of_the_gradient(rng):
    x = rng.normal(size=3)
    assert check_grad(lambda x: ((x**2).sum(), 2 * x), True, x)
    assert check_grad(lambda x: (x**2).sum(), 2 * x, x)
    buffer = np.empty(3)
    assert check_grad(lambda x: np.multiply(2, x, out=buffer) @ x / 2, lambda x: 2 * x, x)
    for bad, message in (
        (np.ones(2), "shape"),
        ({"x": x}, "structure"),
        (lambda x: x.__imul__(2), "changed"),
    ):
        with pytest.raises(ValueError, match=message):
            check_grad(lambda x: (x**2).sum(), bad, x)
    with pytest.raises(ValueError, match="finite at x"):
        check_grad(lambda x: np.nan, x, x)


def test_logistic_regression_in_both_precisions(rng):
    for dtype in ("f4", "f8"):
        X, y = rng.normal(size=(30, 5)).astype(dtype), np.sign(rng.normal(size=30)).astype(dtype)
        assert_grad(
            lambda w, X=X, y=y: np.logaddexp(0, -y * (X @ w)).mean(),
            lambda w, X=X, y=y: -(X.T @ (y * expit(-y * (X @ w)))) / 30,
            rng.normal(size=5).astype(dtype),
        )


def test_hessian_vector_products(rng):
    x = rng.normal(size=5)
    assert check_hessp(rosen_der, rosen_hess_prod, x)
    half = check_hessp(rosen_der, lambda x, v: rosen_hess_prod(x, v) / 2, x)
    assert not half and half.diagnosis == "factor 0.5 everywhere"
    A = rng.normal(size=(5, 5))
    skew = check_hessp(lambda x: (A + A.T) @ x, lambda x, v: (A + A) @ v, x)
    assert not skew and "not symmetric" in skew.diagnosis
    assert check_hessp(rosen_der, rosen_hess_prod, x.astype("f4"))
    with pytest.raises(ValueError, match="hessp must return shape"):
        check_hessp(rosen_der, lambda x, v: v[:2], x)
