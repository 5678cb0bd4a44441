"""The rate of convergence of a sequence, estimated by a rule that is stated."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastopt.checks import number

__all__ = ["Rate", "rate_of"]

STEEPEST = 4.0  # power of n: what falls faster is accelerating, or linear with an offset
FEWEST = 8  # errors that a fit needs
TAIL = 4  # errors that show an order above 1,
FALL = 1e-6  # if together they fall to this part: oscillation falls fast for a step or two only
QUADRATIC, SUPERLINEAR = 1.75, 1.2  # orders from which on these words are used
STALLED = 0.01  # a later half that falls by less than this part has stopped


@dataclass(frozen=True)
class Rate:
    """How fast errors fall.

    Attributes
    ----------
    kind : str
        "quadratic", "superlinear", "linear", "sublinear", "exact", "stalled", "diverging" or
        "too short to tell".
    value : float
        The order of a quadratic or superlinear rate, the factor per step of a linear one, the
        power p of a sublinear one, O(1/nᵖ), the steps of an exact one; else nan.

    Examples
    --------
    >>> str(Rate("linear", 0.5)), str(Rate("sublinear", 1.02)), str(Rate("exact", 1))
    ('linear, x 0.5 a step', 'O(1/n^1.02)', 'exact after 1 step')
    """

    kind: str
    value: float = math.nan

    def __str__(self) -> str:
        if self.kind in ("quadratic", "superlinear"):
            return f"{self.kind}, order {self.value:.2g}"
        if self.kind == "linear":
            return f"linear, x {self.value:.4g} a step"
        if self.kind == "sublinear":
            return f"O(1/n^{self.value:.3g})"
        if self.kind == "exact":
            return f"exact after {self.value:g} step{'s' if self.value != 1 else ''}"
        return self.kind


def rate_of(errors: Any, floor: float = 0.0) -> Rate:
    r"""Estimate the rate at which errors converge to 0.

    Parameters
    ----------
    errors : array of shape (n + 1,)
        :math:`e_0, ..., e_n \ge 0`, such as f - f(optimum) after each step.
    floor : float
        What rounding makes of 0: errors at or below it, and all after the first of them, are left
        out.

    Returns
    -------
    Rate
        Its `kind`, `value`, and words from `str`.

    Raises
    ------
    TypeError, ValueError
        If errors are not a sequence of numbers that are not negative.

    Notes
    -----
    The rule, of which the first line that fits decides:

    1. *diverging*: an error is not finite, or all errors of the last quarter are above the first.
    2. *exact*: the floor is reached, in fewer than 4 steps.
    3. *quadratic* or *superlinear*: over the last four errors the factors
       :math:`r_k = e_{k+1}/e_k` fall, the errors fall to less than a millionth, and the order is at
       least 1.75, or 1.2: the slope of a straight line through the points
       :math:`(\log e_k, \log e_{k+1})`, or :math:`\log r_{n-1} / \log r_{n-2}`, whichever is
       larger, as the first step of the four may still have been a damped one.
    4. *too short to tell*: fewer than 8 errors are left.
    5. Else errors are replaced by the largest at or after each step, so that oscillation does not
       count, the last tenth of these is left out, and of the later half straight lines are fitted
       through :math:`(k, \log e_k)` and :math:`(\log (k + 1), \log e_k)`. *stalled*: :math:`e`
       falls by less than 1 %. *linear* or *sublinear*: the line with the smaller squared
       residuals; its slope is the logarithm of the factor, or -p in :math:`O(1/n^p)`. With p
       above 4, which no method is known for, it is *linear*.

    Examples
    --------
    >>> import numpy as np
    >>> from fastopt.convergence import rate_of
    >>> str(rate_of(0.9 ** np.arange(50))), str(rate_of(1 / np.arange(1, 50)))
    ('linear, x 0.9 a step', 'O(1/n^1)')
    >>> str(rate_of(0.5 ** 2.0 ** np.arange(7)))
    'quadratic, order 2'
    """
    try:
        e = np.asarray(errors, dtype=np.float64)
    except (TypeError, ValueError):
        raise TypeError(f"errors must be a sequence of numbers, got {errors!r}") from None
    if e.ndim != 1:
        raise ValueError(f"errors must have one axis, got shape {e.shape}")
    floor = number("floor", floor, 0)
    if (e < 0).any():
        k = int(np.argmax(e < 0))
        raise ValueError(f"errors must not be negative, got {e[k]} at {k}")
    if not np.isfinite(e).all() or (len(e) > 2 and e[-max(1, len(e) // 4) :].min() > e[0]):
        return Rate("diverging")
    below = np.flatnonzero(e <= floor)
    if below.size and below[0] < TAIL:
        return Rate("exact", float(below[0]))
    e = e[: below[0]] if below.size else e
    order = _order(e)
    if order >= SUPERLINEAR:
        return Rate("quadratic" if order >= QUADRATIC else "superlinear", order)
    if len(e) < FEWEST:
        return Rate("too short to tell")
    envelope = np.maximum.accumulate(e[::-1])[::-1]
    stop = len(e) - len(e) // 10
    start = stop // 2
    k = np.arange(start, stop, dtype=np.float64)
    log = np.log(envelope[start:stop])
    if log[0] - log[-1] < -math.log1p(-STALLED):
        return Rate("stalled")
    straight, curved = _line(k, log), _line(np.log(k + 1), log)
    if straight[1] <= curved[1] or curved[0] < -STEEPEST:
        return Rate("linear", math.exp(straight[0]))
    return Rate("sublinear", -curved[0])


def _order(e: np.ndarray) -> float:
    """Return the order that the last errors show; 1 if their factors do not fall."""
    if len(e) < TAIL:
        return 1.0
    log = np.log(e[-TAIL:])
    falls = np.diff(log)
    if not (np.diff(falls) < 0).all() or log[-1] - log[0] > math.log(FALL):
        return 1.0
    return max(_line(log[:-1], log[1:])[0], (log[-1] - log[-2]) / (log[-2] - log[-3]))


def _line(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Return slope and squared residuals of the straight line through points."""
    dx, dy = x - x.mean(), y - y.mean()
    slope = float(dx @ dy / (dx @ dx))
    return slope, float(np.sum((dy - slope * dx) ** 2))
