"""Roots and optima of functions of one variable: Newton, Halley and the secant method."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from fastopt.checks import check_callable, count, number


class RootResult(NamedTuple):
    """What `root` and `newton_optimum` return.

    Attributes
    ----------
    x : float
        The best point seen: where the function that must vanish was nearest to 0.
    fun : float
        That function there.
    nit, nfev : int
        Iterations, and evaluations of the function and its derivatives together.
    success : bool
        Whether it ended by its tolerance.
    kind : str
        "root"; of an optimum "minimum", "maximum", or "inflection" where the second derivative
        vanishes, which proves nothing.
    message : str
        Why it ended.
    trace : list of float
        All points.
    """

    x: float
    fun: float
    nit: int
    nfev: int
    success: bool
    kind: str
    message: str
    trace: list[float]


def root(
    f: Callable[..., Any],
    x0: float,
    fprime: Callable[..., Any] | None = None,
    fprime2: Callable[..., Any] | None = None,
    *,
    args: tuple[Any, ...] = (),
    x1: float | None = None,
    tol: float = 1.48e-8,
    rtol: float = 0.0,
    maxiter: int = 50,
) -> RootResult:
    r"""Find a root of a function of one variable.

    Parameters
    ----------
    f : callable
        ``f(x, *args)`` -> number.
    x0 : float
        Where to start.
    fprime, fprime2 : callable, optional
        The first and second derivative: with both Halley's method, with the first Newton's, with
        none the secant method.
    args : tuple, default ()
        What is passed on to the functions.
    x1 : float, optional
        The second point of the secant method.
    tol, rtol : float, default 1.48e-8, 0
        It ends where a step is at most tol + rtol |x|, or f is 0.
    maxiter : int, default 50
        Iterations.

    Returns
    -------
    RootResult
        success is False where it did not converge: iterations are over, a derivative is 0, or no
        shortened step leads to a finite value.

    Raises
    ------
    TypeError, ValueError
        Naming the argument.

    Notes
    -----
    Newton: :math:`x - f/f'`. Halley: the same divided by :math:`1 - f f'' / (2 f'^2)`, where that
    is positive. Secant: f' is the slope through the last two points. A step to a value that is not
    finite is halved. A small step towards a value that has not become smaller is no convergence.

    Examples
    --------
    >>> import fastopt
    >>> found = fastopt.root(lambda x: x * x - 2, 1.0, lambda x: 2 * x)
    >>> found.success, round(found.x, 12), found.nit
    (True, 1.414213562373, 5)
    """
    for name, value in (("fprime", fprime), ("fprime2", fprime2)):
        check_callable(name, value)
    if fprime2 is not None and fprime is None:
        raise ValueError("fprime2 needs fprime")
    return _solve("root", f, x0, fprime, fprime2, args, x1, tol, rtol, maxiter)


def newton_optimum(
    fprime: Callable[..., Any],
    fprime2: Callable[..., Any],
    x0: float,
    *,
    args: tuple[Any, ...] = (),
    tol: float = 1.48e-8,
    rtol: float = 0.0,
    maxiter: int = 50,
) -> RootResult:
    r"""Find an optimum of a function of one variable by Newton's method on its derivative.

    Parameters
    ----------
    fprime, fprime2 : callable
        The first and second derivative, ``fprime(x, *args)`` -> number.
    x0 : float
        Where to start.
    args : tuple, default ()
        What is passed on to the functions.
    tol, rtol : float, default 1.48e-8, 0
        It ends where a step is at most tol + rtol |x|, or the derivative is 0.
    maxiter : int, default 50
        Iterations.

    Returns
    -------
    RootResult
        With `kind`: Newton's method goes to the nearest point where the derivative vanishes, be it
        a minimum, a maximum or an inflection.

    Raises
    ------
    TypeError, ValueError
        Naming the argument.

    Notes
    -----
    :math:`x_{n+1} = x_n - f'(x_n) / f''(x_n)`.

    Examples
    --------
    The minimum of x^4 / 4 - x^3 / 3 - x, where x^3 - x^2 - 1 = 0:

    >>> import fastopt
    >>> found = fastopt.newton_optimum(lambda x: x**3 - x**2 - 1, lambda x: 3 * x**2 - 2 * x, 2.0)
    >>> found.kind, round(found.x, 6)
    ('minimum', 1.465571)
    """
    for name, value in (("fprime", fprime), ("fprime2", fprime2)):
        if not callable(value):
            raise TypeError(f"{name} must be callable, got {value!r}")
    found = _solve("root", fprime, x0, fprime2, None, args, None, tol, rtol, maxiter)
    if not found.success:
        return found
    # by the slopes on both sides: near an inflection the curvature has a sign too
    side = 1e-3 * max(1.0, abs(found.x))
    below, above = (_value("fprime", fprime(found.x + d, *args)) for d in (-side, side))
    kind = "inflection"
    if below < 0 < above or below > 0 > above:
        kind = "minimum" if above > 0 else "maximum"
    return found._replace(kind=kind, nfev=found.nfev + 2)


def _value(name: str, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must return one number, got {value!r}") from None


def _solve(
    kind: str,
    f: Callable[..., Any],
    x0: float,
    fprime: Callable[..., Any] | None,
    fprime2: Callable[..., Any] | None,
    args: tuple[Any, ...],
    x1: float | None,
    tol: float,
    rtol: float,
    maxiter: int,
) -> RootResult:
    if not callable(f):
        raise TypeError(f"f must be callable, got {f!r}")
    args = args if isinstance(args, tuple) else (args,)
    x = number("x0", x0, -math.inf)
    tol, rtol = number("tol", tol, 0), number("rtol", rtol, 0)
    maxiter = count("maxiter", maxiter, 1)
    trace, calls, values = [x], 0, {}

    def at(name: str, function: Callable[..., Any], x: float) -> float:
        nonlocal calls
        calls += 1
        try:
            return _value(name, function(x, *args))
        except (OverflowError, ZeroDivisionError):  # what Python's own numbers do instead of inf
            return math.nan

    def result(success: bool, message: str, nit: int) -> RootResult:
        best = trace[-1] if success else min(values, key=lambda k: abs(values[k]), default=x)
        return RootResult(
            best, values.get(best, math.nan), nit, calls, success, kind, message, trace
        )

    value = at("f", f, x)
    if not math.isfinite(value):
        return result(False, f"f is not finite at x0 = {x:g}", 0)
    values[x] = value
    before = None  # the secant's other point
    if fprime is None:
        other = (
            x * (1 + 1e-4) + math.copysign(1e-4, x) if x1 is None else number("x1", x1, -math.inf)
        )
        if other == x:
            raise ValueError("x1 must differ from x0")
        known = at("f", f, other)
        if not math.isfinite(known):
            return result(False, f"f is not finite at x1 = {other:g}", 0)
        values[other] = known
        before = x, value
        x, value = other, known
        if abs(known) > abs(before[1]):
            before, (x, value) = (x, value), before
        trace.append(x)
    for nit in range(1, maxiter + 1):
        if value == 0:
            return result(True, "f is 0", nit - 1)
        if before is not None:
            slope = (value - before[1]) / (x - before[0])
        else:
            slope = at("fprime", fprime, x)
        if not math.isfinite(slope) or slope == 0:
            return result(False, f"the slope at x = {x:g} is {slope:g}", nit)
        step = -value / slope
        if fprime2 is not None:
            bend = 1 - value * at("fprime2", fprime2, x) / (2 * slope * slope)
            if bend > 0 and math.isfinite(bend):
                step /= bend
        for _ in range(60):
            new = x + step
            known = at("f", f, new) if math.isfinite(new) else math.nan
            if math.isfinite(known):
                break
            step /= 2
        else:
            return result(False, f"no value near x = {x:g} is finite", nit)
        values[new] = known
        trace.append(new)
        small = abs(new - x) <= tol + rtol * abs(new)
        smaller = abs(known) <= abs(value)
        if before is not None:
            before = x, value
        x, value = new, known
        if small and smaller:
            return result(True, f"the last step was {step:.3g}", nit)
        if before is not None and x == before[0]:
            return result(False, f"two values near x = {x:g} are the same", nit)
    return result(False, f"{maxiter} iterations, as many as maxiter allows", maxiter)
