"""root and newton_optimum: the formulas, SciPy's roots, and honest endings."""

import itertools
import math

import numpy as np
import pytest
from scipy.optimize import newton

import fastopt

CASES = [
    (lambda x: x * x - 2, lambda x: 2 * x, lambda x: 2.0, 1.0),
    (lambda x: math.cos(x) - x, lambda x: -math.sin(x) - 1, lambda x: -math.cos(x), 0.5),
    (lambda x: math.exp(x) - 5, math.exp, math.exp, 1.0),
    (lambda x: x**3 - 2 * x - 5, lambda x: 3 * x * x - 2, lambda x: 6 * x, 2.0),
]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("order", [0, 1, 2])
def test_scipys_roots_and_iterations(case, order):
    f, first, second, x0 = case
    derivatives = {"fprime": first} if order else {}
    if order == 2:
        derivatives["fprime2"] = second
    r = fastopt.root(f, x0, **derivatives)
    theirs, info = newton(f, x0, full_output=True, **derivatives)
    assert r.success and abs(r.x - theirs) < 1e-12 and abs(r.fun) < 1e-12
    assert abs(r.nit - info.iterations) <= 1 and r.kind == "root"


def test_newton_halley_and_secant_are_their_formulas():
    f, first, second, x = CASES[3]
    r = fastopt.root(f, x, first, maxiter=3, tol=0)
    h = fastopt.root(f, x, first, second, maxiter=2, tol=0)
    s = fastopt.root(f, 2.5, x1=2.2, maxiter=3, tol=0)
    a = x
    for k in range(3):
        a = a - f(a) / first(a)
        assert np.isclose(r.trace[k + 1], a, rtol=1e-14)
    a = x
    for k in range(2):
        a = a - 2 * f(a) * first(a) / (2 * first(a) ** 2 - f(a) * second(a))
        assert np.isclose(h.trace[k + 1], a, rtol=1e-14)
    a, b = 2.5, 2.2
    for k in range(3):
        a, b = b, b - f(b) * (b - a) / (f(b) - f(a))
        assert np.isclose(s.trace[k + 2], b, rtol=1e-14)


def test_convergence_is_quadratic_and_cubic():
    true = math.sqrt(2)
    for order, more in (2, {}), (3, {"fprime2": lambda x: 2.0}):
        r = fastopt.root(lambda x: x * x - 2, 3.0, lambda x: 2 * x, tol=1e-14, **more)
        errors = [abs(x - true) for x in r.trace if 1e-14 < abs(x - true) < 0.5]
        rates = [math.log(b / a) for a, b in itertools.pairwise(errors)]
        if len(errors) > 2:
            assert rates[-1] / rates[-2] > 0.8 * order


def test_endings_that_are_no_success():
    r = fastopt.root(lambda x: x * x + 1, 0.5, lambda x: 2 * x)
    assert not r.success and "iterations" in r.message and r.fun >= 1
    r = fastopt.root(lambda x: x * x + 1, 0.0, lambda x: 2 * x)
    assert not r.success and "slope" in r.message and r.x == 0
    r = fastopt.root(lambda x: math.nan, 0.0, lambda x: 1.0)
    assert not r.success and "not finite" in r.message
    r = fastopt.root(lambda x: 1.0, 0.0)
    assert not r.success and "slope" in r.message
    # cube root: Newton's steps grow for ever
    r = fastopt.root(np.cbrt, 1.0, lambda x: abs(x) ** (-2 / 3) / 3)
    assert not r.success and abs(r.fun) <= 1


def test_a_step_out_of_the_domain_is_shortened():
    r = fastopt.root(lambda x: math.log(x) if x > 0 else math.nan, 5.0, lambda x: 1 / x)
    assert r.success and abs(r.x - 1) < 1e-12
    r = fastopt.root(lambda x: math.exp(x) - 1e-3, 1000.0, math.exp)
    assert not r.success  # exp(1000) is no number


@pytest.mark.parametrize(
    ("first", "second", "x0", "x", "kind"),
    [
        (lambda x: 2 * (x - 3), lambda x: 2.0, 0.0, 3.0, "minimum"),
        (lambda x: -2 * (x - 3), lambda x: -2.0, 0.0, 3.0, "maximum"),
        (lambda x: 3 * x * x, lambda x: 6 * x, 1.0, 0.0, None),
        (lambda x: 4 * x**3 - 6 * x * x, lambda x: 12 * x * x - 12 * x, 2.0, 1.5, "minimum"),
    ],
)
def test_optima(first, second, x0, x, kind):
    r = fastopt.newton_optimum(first, second, x0)
    assert r.success and abs(r.x - x) < 1e-6 and (kind is None or r.kind == kind)
    flat = fastopt.newton_optimum(lambda x: 3 * x * x, lambda x: 6 * x, 0.0)
    assert flat.kind == "inflection" and flat.nit == 0


def test_args_and_wrong_arguments():
    assert fastopt.root(lambda x, a: x * x - a, 1.0, lambda x, a: 2 * x, args=(9.0,)).x == 3
    for call, error, words in [
        (dict(f=3), TypeError, "f must be callable"),
        (dict(fprime=3), TypeError, "fprime must be callable"),
        (dict(fprime2=abs), ValueError, "fprime2 needs fprime"),
        (dict(x0=math.nan), ValueError, "x0"),
        (dict(x1=1.0), ValueError, "x1 must differ"),
        (dict(maxiter=0), ValueError, "maxiter"),
        (dict(tol=-1), ValueError, "tol"),
        (dict(f=lambda x: "a"), TypeError, "f must return one number"),
    ]:
        with pytest.raises(error, match=words):
            fastopt.root(**{"f": abs, "x0": 1.0, **call})
    with pytest.raises(TypeError, match="fprime2 must be callable"):
        fastopt.newton_optimum(abs, None, 1.0)
