"""The line searches alone: their conditions hold, or they say what does not."""

import math

import numpy as np
import pytest

import fastopt

FUNCTIONS = {
    "quartic": (lambda x: ((x - 1) ** 4, 4 * (x - 1) ** 3), 0.0),
    "long valley": (lambda x: (math.cosh(x / 50), math.sinh(x / 50) / 50), -100.0),
    "waves": (lambda x: (x * x / 100 + math.sin(x), x / 50 + math.cos(x)), -8.0),
    "log": (
        lambda x: (x - math.log(x), 1 - 1 / x) if x > 0 else (math.nan, math.nan),
        9.0,
    ),
    # Moré and Thuente's functions 1 and 2 (1994, section 5)
    "mt1": (lambda x: (-x / (x * x + 2), (x * x - 2) / (x * x + 2) ** 2), 0.0),
    "mt2": (
        lambda x: ((x + 0.004) ** 5 - 2 * (x + 0.004) ** 4,
                   5 * (x + 0.004) ** 4 - 8 * (x + 0.004) ** 3),
        0.0,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("step", [1e-3, 0.1, 1.0, 10.0, 1000.0])
@pytest.mark.parametrize("c2", [0.9, 0.1, 1e-3])
def test_strong_wolfe(name, step, c2):
    if name == "mt2" and c2 < 0.1:
        pytest.skip("slopes of 5e-10 where values are known to 1e-16: no value tells steps apart")
    function, x0 = FUNCTIONS[name]
    seen = []

    def fun(x):
        seen.append(x[0])
        f, g = function(float(x[0]))
        return f, np.array([g])

    f0, g0 = function(x0)
    d = -math.copysign(1.0, g0)
    r = fastopt.strong_wolfe(fun, [x0], [d], step=step, c1=1e-4, c2=c2)
    assert r.success, r.message
    f, g = function(x0 + r.step * d)
    assert f <= f0 + 1e-4 * r.step * g0 * d and abs(g * d) <= c2 * abs(g0 * d)
    assert r.fun == f and r.jac[0] == g and r.x[0] == x0 + r.step * d and r.nfev == len(seen)
    assert len(seen) <= 20


@pytest.mark.parametrize("search", [fastopt.strong_wolfe, fastopt.backtracking])
def test_what_is_no_descent_is_named(search):
    for d in [1.0, 0.0], [0.0, 0.0]:
        r = search(lambda x: (x @ x, 2 * x), [1.0, 0.0], d)
        assert not r.success and r.step == 0 and "does not descend" in r.message
        assert r.nfev == 1 and r.fun == 1
    r = search(lambda x: (math.nan, 2 * x), [1.0, 0.0], [-1.0, 0.0])
    assert not r.success and "not finite" in r.message


@pytest.mark.parametrize("search", [fastopt.strong_wolfe, fastopt.backtracking])
def test_a_wall_close_by(search):
    def fun(x):
        ok = x[0] <= 1e-9
        return (-x[0], np.array([-1.0])) if ok else (math.nan, np.array([math.nan]))

    r = search(fun, [0.0], [1.0])
    assert 0 < r.step <= 1e-9 and r.fun < 0
    assert r.success == (search is fastopt.backtracking)  # the slope is -1 everywhere


def test_nothing_finite_on_the_line():
    def fun(x):
        return (0.0, np.array([-1.0])) if x[0] == 0 else (math.inf, np.array([0.0]))

    for search in fastopt.strong_wolfe, fastopt.backtracking:
        r = search(fun, [0.0], [1.0])
        assert not r.success and r.step == 0 and r.message == "no value on the line was finite"


def test_a_wrong_gradient():
    for search in fastopt.strong_wolfe, fastopt.backtracking:
        r = search(lambda x: (x @ x, -2 * x), [1.0], [1.0])
        assert not r.success and r.step == 0 and "no step lowers" in r.message


def test_the_longest_step():
    r = fastopt.strong_wolfe(lambda x: (float(-x[0]), -np.ones(1)), [0.0], [1.0], max_step=5.0)
    assert not r.success and r.step == 5 and "longest step" in r.message


def test_backtracking_is_the_parabola():
    """|x|^2 from 1 along -4: f(1) = 9 > 1 - 8e-4, the parabola's minimum is at 1/4."""
    r = fastopt.backtracking(lambda x: (x @ x, 2 * x), [1.0], [-4.0])
    assert r.success and r.step == 0.25 and r.nfev == 3 and r.jac is None


def test_dtypes_and_differences():
    for dtype in "f4", "f8":
        r = fastopt.strong_wolfe(
            lambda x: float(((x - 3) ** 2).sum()), np.zeros(2, dtype), [1, 1], jac=None
        )
        assert r.success and r.x.dtype == dtype


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (dict(direction=[1.0]), "direction must have shape"),
        (dict(step=0.0), "step"),
        (dict(c1=0.5, c2=0.4), "c2"),
        (dict(max_step=0.0), "max_step"),
        (dict(maxfev=0), "maxfev"),
        (dict(x=[math.nan, 1]), "x must be finite"),
    ],
)
def test_wrong_arguments_are_named(call, words):
    given = {"fun": lambda x: (x @ x, 2 * x), "x": [1.0, 1.0], "direction": [-1.0, -1.0], **call}
    with pytest.raises(ValueError, match=words):
        fastopt.strong_wolfe(**given)
