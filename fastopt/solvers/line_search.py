"""Line searches: strong Wolfe conditions by cubic interpolation, and backtracking."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from fastopt.checks import count, number
from fastopt.solvers.objective import Objective, as_point
from fastopt.solvers.vectors import Lines, Trial

#: Evaluations that one search of a solver may take.
EVALUATIONS = 40


class LineSearchResult(NamedTuple):
    """What a line search found.

    Attributes
    ----------
    step : float
        The step t; 0 where none lowers the value enough.
    x : numpy.ndarray
        The point x + t d.
    fun, jac : float, numpy.ndarray
        The value and, from `strong_wolfe`, the gradient there.
    nfev : int
        Evaluations, the start included.
    success : bool
        Whether the conditions hold.
    message : str
        Which ones hold, or why none do.
    """

    step: float
    x: np.ndarray
    fun: float
    jac: np.ndarray | None
    nfev: int
    success: bool
    message: str


class Found(NamedTuple):
    """The trial a search ended at: t = 0 for none, strong where both conditions hold."""

    trial: Trial
    strong: bool
    message: str


def search_wolfe(
    phi: Callable[[float], Trial],
    start: Trial,
    t: float,
    c1: float,
    c2: float,
    most: float = math.inf,
    evaluations: int = EVALUATIONS,
    noise: float = 0.0,
) -> Found:
    """Find a step with phi(t) <= phi(0) + c1 t phi'(0) and |phi'(t)| <= c2 |phi'(0)|.

    Algorithms 3.5 and 3.6 of Nocedal and Wright in one loop: `low` is the best step so far that
    lowers the value enough, `high` the other end of an interval that has what is looked for, once
    there is one. A trial that is not finite is an end of that kind too. A value within `noise` of
    the start counts as no higher: near a minimum, slopes are known when values are not.
    """
    low, high = start, None
    before, width = start, math.inf
    finite = False
    t = min(t, most)
    for _ in range(evaluations):
        trial = phi(t)
        if not (math.isfinite(trial.f) and math.isfinite(trial.slope)):
            high = Trial(t, math.inf, math.nan)
        else:
            finite = True
            flat = abs(trial.slope) <= c2 * abs(start.slope)
            if flat and _falls(trial, start, c1, noise):
                return Found(trial, True, "the strong Wolfe conditions hold")
            if trial.f > start.f + c1 * t * start.slope or trial.f >= low.f:
                high = trial
            else:
                if (high is None and trial.slope >= 0) or (
                    high is not None and trial.slope * (high.t - low.t) >= 0
                ):
                    high = low
                before, low = low, trial
        if high is None:
            if t >= most:
                return Found(low, False, "the longest step allowed lowers the value enough")
            t = min(most, _extrapolated(before, low))
            continue
        span = abs(high.t - low.t)
        if span <= 1e-15 * max(low.t, high.t) or span < 1e-300:
            break
        t = _inside(low, high, bisect=span > 0.66 * width)
        width = span if span <= 0.66 * width or math.isinf(width) else width
    if low.t > 0:
        return Found(low, False, "the value falls enough, the slope does not")
    if not finite:
        return Found(low, False, "no value on the line was finite")
    return Found(low, False, "no step lowers the value enough")


def _falls(trial: Trial, start: Trial, c1: float, noise: float) -> bool:
    """Whether the value falls enough, or is the start's within noise; 0 is none at all."""
    if trial.f <= start.f + c1 * trial.t * start.slope and trial.f < start.f:
        return True
    return noise > 0 and abs(trial.f - start.f) <= noise


def _cubic(a: Trial, b: Trial) -> float:
    """Return the minimizer of the cubic with the values and slopes of a and b (N&W, 3.59)."""
    if not math.isfinite(b.f - a.f):
        return math.nan
    d1 = a.slope + b.slope - 3 * (b.f - a.f) / (b.t - a.t)
    inside = d1 * d1 - a.slope * b.slope
    if not (inside >= 0):
        return math.nan
    d2 = math.copysign(math.sqrt(inside), b.t - a.t)
    below = b.slope - a.slope + 2 * d2
    return b.t - (b.t - a.t) * (b.slope + d2 - d1) / below if below != 0 else math.nan


def _inside(low: Trial, high: Trial, bisect: bool) -> float:
    """Return a step between the two, a tenth of their distance away from both."""
    span = high.t - low.t
    if not math.isfinite(high.f):
        return low.t + (0.1 if low.t == 0 else 0.5) * span
    t = _cubic(low, high)
    if math.isnan(high.slope):  # the parabola through low and high's value
        curve = (high.f - low.f) / span - low.slope
        t = low.t - low.slope * span / (2 * curve) if curve * span > 0 else math.nan
    if bisect or math.isnan(t):
        return low.t + 0.5 * span
    least, most = sorted((low.t + 0.1 * span, high.t - 0.1 * span))
    return min(max(t, least), most)


def _extrapolated(before: Trial, low: Trial) -> float:
    """Return a longer step: the cubic's minimizer, between 1.1 and 10 times the last increase."""
    grown = low.t - before.t
    t = _cubic(before, low)
    least, most = low.t + 1.1 * grown, low.t + 9 * grown
    if math.isnan(t) or t <= low.t:
        return low.t + 4 * grown
    return min(max(t, least), most)


def search_backtracking(
    phi: Callable[[float], Trial],
    start: Trial,
    t: float,
    c1: float,
    evaluations: int = EVALUATIONS,
    noise: float = 0.0,
) -> Found:
    """Shorten t until phi(t) <= phi(0) + c1 t phi'(0): by the parabola, to a tenth or a half."""
    finite = False
    for _ in range(evaluations):
        trial = phi(t)
        if math.isfinite(trial.f):
            finite = True
            if _falls(trial, start, c1, noise):
                return Found(trial, True, "the value falls enough")
            bend = trial.f - start.f - start.slope * t
            t = min(max(-start.slope * t * t / (2 * bend), 0.1 * t), 0.5 * t) if bend > 0 else t / 2
        else:
            t *= 0.1
    if not finite:
        return Found(start, False, "no value on the line was finite")
    return Found(start, False, "no step lowers the value enough")


def strong_wolfe(
    fun: Callable[..., Any],
    x: Any,
    direction: Any,
    *,
    args: tuple[Any, ...] = (),
    jac: Any = True,
    step: float = 1.0,
    c1: float = 1e-4,
    c2: float = 0.9,
    max_step: float = math.inf,
    maxfev: int = EVALUATIONS,
) -> LineSearchResult:
    r"""Find a step along a direction that satisfies the strong Wolfe conditions.

    Parameters
    ----------
    fun : callable
        x -> (value, gradient); with `jac` as in `fastopt.minimize`, x -> value.
    x, direction : array_like of shape (n,)
        Where to start, and where to go.
    args : tuple, default ()
        What is passed on to fun and jac.
    jac : True, callable, None or str, default True
        Where the gradient comes from.
    step : float, default 1.0
        The first step to try, > 0.
    c1, c2 : float, default 1e-4, 0.9
        With 0 < c1 < c2 < 1; small c2 make an exact search.
    max_step : float, default infinity
        No longer step is tried.
    maxfev : int, default 40
        Evaluations along the line.

    Returns
    -------
    LineSearchResult
        With success False and step 0 if the direction does not descend, or nothing was found; a
        step > 0 with success False lowers the value enough, and the slope too little.

    Raises
    ------
    TypeError, ValueError
        Naming the argument.

    Notes
    -----
    :math:`f(x + td) \le f(x) + c_1 t\, g^T d` and :math:`|g(x + td)^T d| \le c_2 |g^T d|`, by
    Algorithms 3.5 and 3.6 of Nocedal and Wright (2006) with cubic interpolation. A value or slope
    that is not finite means that the step is too long.

    Examples
    --------
    >>> import numpy as np
    >>> import fastopt
    >>> def f(x):
    ...     return (x**4).sum(), 4 * x**3
    >>> found = fastopt.strong_wolfe(f, [1.0], [-4.0], c2=0.1)
    >>> found.success, found.fun < 1e-2
    (True, True)
    """
    start, phi, lines, x0, d = _line(fun, x, direction, args, jac)
    step = number("step", step, 0, open_below=True)
    c1 = number("c1", c1, 0, 1, open_below=True)
    c2 = number("c2", c2, c1, 1, open_below=True)
    if not max_step > 0:
        raise ValueError(f"max_step must be > 0, got {max_step!r}")
    maxfev = count("maxfev", maxfev, 1)
    refused = _refused(start)
    if refused:
        found = Found(start, False, refused)
    else:
        found = search_wolfe(phi, start, step, c1, c2, max_step, maxfev)
    return _result(found, lines, x0, d)


def backtracking(
    fun: Callable[..., Any],
    x: Any,
    direction: Any,
    *,
    args: tuple[Any, ...] = (),
    jac: Any = True,
    step: float = 1.0,
    c1: float = 1e-4,
    maxfev: int = EVALUATIONS,
) -> LineSearchResult:
    r"""Shorten a step along a direction until the value falls enough (Armijo's condition).

    Parameters
    ----------
    fun : callable
        x -> (value, gradient); with `jac` as in `fastopt.minimize`, x -> value.
    x, direction : array_like of shape (n,)
        Where to start, and where to go.
    args : tuple, default ()
        What is passed on to fun and jac.
    jac : True, callable, None or str, default True
        Where the gradient at x comes from; on the line only values are looked at.
    step : float, default 1.0
        The first step to try, > 0.
    c1 : float, default 1e-4
        In (0, 1].
    maxfev : int, default 40
        Evaluations along the line.

    Returns
    -------
    LineSearchResult
        With success False and step 0 if the direction does not descend, or nothing was found.

    Raises
    ------
    TypeError, ValueError
        Naming the argument.

    Notes
    -----
    The first :math:`t` with :math:`f(x + td) \le f(x) + c_1 t\, g^T d`, each the minimizer of the
    parabola through what is known, within a tenth and a half of the one before. A value that is
    not finite means that the step is too long.

    Examples
    --------
    >>> import numpy as np
    >>> import fastopt
    >>> found = fastopt.backtracking(lambda x: (x @ x, 2 * x), np.ones(2), -8 * np.ones(2))
    >>> found.success, found.step, found.x.tolist()
    (True, 0.125, [0.0, 0.0])
    """
    start, _, lines, x0, d = _line(fun, x, direction, args, jac)
    step = number("step", step, 0, open_below=True)
    c1 = number("c1", c1, 0, 1, open_below=True)
    maxfev = count("maxfev", maxfev, 1)
    refused = _refused(start)

    def values(t: float) -> Trial:
        return Trial(t, lines.objective.value(x0 + lines.objective.dtype.type(t) * d), math.nan)

    if refused:
        found = Found(start, False, refused)
    else:
        found = search_backtracking(values, start, step, c1, maxfev)
    return _result(found, lines, x0, d)


def _line(fun: Any, x: Any, direction: Any, args: tuple[Any, ...], jac: Any) -> tuple[Any, ...]:
    x0, d = as_point("x", x), as_point("direction", direction)
    if d.shape != x0.shape:
        raise ValueError(f"direction must have shape {x0.shape}, got {d.shape}")
    d = d.astype(x0.dtype)
    objective = Objective(fun, x0, args if isinstance(args, tuple) else (args,), jac)
    lines = Lines(objective, 1)
    f, g, _, norm = lines.first(x0)
    start = Trial(0.0, f, lines.passes.dot(g, d)[0], g, norm)
    return start, lines.along(x0, d), lines, x0, d


def _refused(start: Trial) -> str:
    if not (math.isfinite(start.f) and math.isfinite(start.slope)):
        return "the value or the slope at x is not finite"
    return (
        "" if start.slope < 0 else f"the direction does not descend: its slope is {start.slope:g}"
    )


def _result(found: Found, lines: Lines, x0: np.ndarray, d: np.ndarray) -> LineSearchResult:
    trial = found.trial
    x = x0 + x0.dtype.type(trial.t) * d if trial.t > 0 else x0
    return LineSearchResult(
        trial.t, x, trial.f, trial.g, lines.objective.nfev, found.strong, found.message
    )
