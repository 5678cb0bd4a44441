"""Random search: the best of n random points, what every other search has to beat."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastopt.checks import check_callable, count, flag

__all__ = ["RandomSearchResult", "random_search"]


@dataclass(frozen=True, eq=False)
class RandomSearchResult:
    """What `random_search` found, with the names of SciPy's results.

    Attributes
    ----------
    x : array, dict or what the sampler returned
        The best point, the first of equals; None if no value was finite.
    fun : float
        Its value; nan if there is none.
    nfev, nit : int
        Points evaluated.
    success : bool
        Whether there is a best point.
    message : str
        Why it ended, or why there is none.
    history : numpy.ndarray of shape (nfev,)
        The best value after each evaluation; nan as long as none was finite.
    """

    x: Any
    fun: float
    nfev: int
    nit: int
    success: bool
    message: str
    history: np.ndarray


def random_search(
    fun: Callable[[Any], float],
    bounds_or_sampler: Any,
    n: int,
    seed: int | np.random.Generator | None = None,
    *,
    maximize: bool = False,
    callback: Callable[[RandomSearchResult], Any] | None = None,
) -> RandomSearchResult:
    r"""Evaluate a function at n independent random points and return the best.

    Parameters
    ----------
    fun : callable
        Point -> number; a value that is not finite never wins. An error in it, Ctrl-C included,
        goes to the caller.
    bounds_or_sampler : sequence of (low, high), mapping name -> (low, high), or callable
        Points are vectors uniform in [low, high), or dicts of such numbers by name; where a third
        item is "log", the logarithm is uniform, which takes low > 0. A callable is given the
        generator and returns a point.
    n : int
        Points, >= 1.
    seed : int or numpy.random.Generator, optional
        The same seed gives the same points; the first of them do not depend on n.
    maximize : bool
        Look for the largest value instead of the least.
    callback : callable, optional
        Called after each evaluation with the result so far; ends the search by returning True.

    Returns
    -------
    RandomSearchResult
        With x, fun, nfev, nit, success, message, history.

    Raises
    ------
    TypeError, ValueError
        Naming the argument or the bound.

    Notes
    -----
    :math:`x^* = \arg\min_{i \le n} f(x_i),\; x_i \sim U` (Bergstra and Bengio, 2012). Of n points,
    one lies in the best part p of the volume with probability :math:`1 - (1 - p)^n`: 59 points
    find the best 5 % with probability 0.95, in any dimension.

    Examples
    --------
    >>> from fastopt.search import random_search
    >>> found = random_search(lambda x: (x**2).sum(), [(-1, 1), (-1, 1)], n=200, seed=0)
    >>> found.success, found.nfev, found.fun < 0.05
    (True, 200, True)
    """
    if not callable(fun):
        raise TypeError(f"fun must be callable, got {fun!r}")
    n = count("n", n, 1)
    maximize = flag("maximize", maximize)
    check_callable("callback", callback)
    sample = _sampler(bounds_or_sampler)
    try:
        rng = np.random.default_rng(seed)
    except (TypeError, ValueError) as error:
        raise type(error)(f"seed: {error}") from None

    best, best_x, nfev, seen = math.nan, None, 0, 0
    history = np.full(n, math.nan)

    def result(message: str) -> RandomSearchResult:
        if not seen:
            message = f"none of {nfev} values was finite"
        so_far = history[:nfev]
        so_far.flags.writeable = False
        # the search's own point is copied, so that a callback cannot change it
        return RandomSearchResult(
            copy.deepcopy(best_x), best, nfev, nfev, seen > 0, message, so_far
        )

    for k in range(n):
        x = sample(rng)
        kept = copy.deepcopy(x)  # fun may write into its argument
        value = _value(fun(x), kept)
        nfev = k + 1
        if math.isfinite(value):
            seen += 1
            if seen == 1 or (value > best if maximize else value < best):
                best, best_x = value, kept
        history[k] = best
        if callback is not None and callback(result("searching")) is True and nfev < n:
            return result(f"stopped by the callback after {nfev} of {n} points")
    return result(f"evaluated {n} points")


def _value(value: Any, x: Any) -> float:
    """Return what the function returned as a float, or raise naming the point."""
    try:
        if isinstance(value, (str, bytes)) or np.iscomplexobj(value) or np.size(value) != 1:
            raise TypeError
        return float(value.item() if isinstance(value, np.ndarray) else value)
    except (TypeError, ValueError):
        raise TypeError(f"fun must return one number, got {value!r} at {x!r}") from None


def _sampler(given: Any) -> Callable[[np.random.Generator], Any]:
    """Return a function that draws a point."""
    if callable(given):
        return given
    if isinstance(given, (str, bytes)) or not isinstance(given, (Mapping, Sequence, np.ndarray)):
        raise TypeError(
            "bounds must be a sequence of (low, high), a mapping name -> (low, high), or a "
            f"callable, got {given!r}"
        )
    names = list(given) if isinstance(given, Mapping) else list(range(len(given)))
    if not names:
        raise ValueError("bounds is empty: pass at least one (low, high)")
    checked = [_bound(name, given[name]) for name in names]
    low, high = (np.array([bound[k] for bound in checked]) for k in (0, 1))
    log = np.array([bound[2] for bound in checked])
    first, last = low.copy(), high.copy()
    first[log], last[log] = np.log(low[log]), np.log(high[log])

    def sample(rng: np.random.Generator) -> Any:
        u = rng.random(len(names))
        x = first * (1 - u) + last * u  # high - low might overflow
        x[log] = np.exp(x[log])
        x = np.clip(x, low, high)
        if isinstance(given, Mapping):
            return dict(zip(names, x.tolist(), strict=True))
        return x

    return sample


def _bound(name: Any, bound: Any) -> tuple[float, float, bool]:
    """Return low, high and whether the logarithm is uniform."""
    who = f"bounds of {name!r}"
    try:
        low, high, *scale = bound
        if isinstance(bound, (str, bytes)) or scale not in ([], ["log"]):
            raise TypeError
        low, high = float(low), float(high)
    except (TypeError, ValueError):
        raise TypeError(f"{who} must be (low, high) or (low, high, 'log'), got {bound!r}") from None
    if not (math.isfinite(low) and math.isfinite(high) and low <= high):
        raise ValueError(f"{who} must be finite with low <= high, got {bound!r}")
    if scale and low <= 0:
        raise ValueError(f"{who}: 'log' takes low > 0, got {bound!r}")
    return low, high, bool(scale)
