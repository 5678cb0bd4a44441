"""Schedules: closed forms `t -> value`, t = 0 in the first step, for any hyper-parameter.

A schedule has no state: its value depends on t alone, so resuming needs the step number only.
Any callable of one integer is a schedule; these are the common ones.

===================== ==========================================================================
falling for ever      `step`, `multi_step`, `exponential`, `inverse_time`, `inverse_scaling`,
                      `inverse_sqrt`
to an end, then there `linear`, `polynomial`, `cosine`, `one_cycle`
again and again       `warm_restarts`, `cyclic`
for momentum          `momentum_annealing`, and all others
made of others        `warmup`, `join`, `product`
===================== ==========================================================================

Examples
--------
>>> from fastopt import schedules
>>> lr = schedules.step(0.1, every=10, factor=0.5)
>>> lr(0), lr(9), lr(10), lr(25)
(0.1, 0.1, 0.05, 0.025)
>>> lr = schedules.cosine(0.1, 1000, warmup=100)
>>> lr(0), lr(50), lr(100), lr(550), lr(1000)
(0.0, 0.05, 0.1, 0.05, 0.0)
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from fastopt.checks import flag
from fastopt.schedules.curves import borders, cosine_weight, counts, mixed, numbers, powered
from fastopt.schedules.cyclic import cyclic, join, one_cycle, product, warm_restarts, warmup

__all__ = [
    "constant",
    "cosine",
    "cyclic",
    "exponential",
    "inverse_scaling",
    "inverse_sqrt",
    "inverse_time",
    "join",
    "linear",
    "momentum_annealing",
    "multi_step",
    "one_cycle",
    "polynomial",
    "product",
    "step",
    "warm_restarts",
    "warmup",
]


@dataclass(frozen=True)
class constant:
    """The same value at every step.

    Parameters
    ----------
    value : float
        The value.

    Examples
    --------
    >>> constant(0.1)(1000)
    0.1
    """

    value: float

    def __post_init__(self) -> None:
        numbers(self, "value")

    def __call__(self, t: int) -> float:
        """Return the value at step `t`."""
        return self.value


@dataclass(frozen=True)
class step:
    """`value * factor ** floor(t / every)`: step decay.

    Parameters
    ----------
    value : float
        The value at t = 0.
    every : int
        Steps between two drops, > 0.
    factor : float
        What each drop multiplies by, > 0.

    Examples
    --------
    >>> step(1.0, every=3, factor=0.5)(7)
    0.25
    """

    value: float
    every: int
    factor: float = 0.1

    def __post_init__(self) -> None:
        numbers(self, "value")
        counts(self, "every")
        numbers(self, "factor", least=0, open_below=True)

    def __call__(self, t: int) -> float:
        """Return the value at step `t`."""
        return powered(self, t // self.every)


@dataclass(frozen=True)
class multi_step:
    """`value * factor ** k`, k of the milestones being reached: step decay at given steps.

    For values of your own choice use `join`: ``join([0.1, 0.05, 0.001], [100, 150])``.

    Parameters
    ----------
    value : float
        The value at t = 0.
    milestones : sequence of int
        The steps t at which the value drops, ascending, > 0.
    factor : float
        What each drop multiplies by, > 0.

    Examples
    --------
    >>> lr = multi_step(1.0, [30, 80], factor=0.5)
    >>> lr(29), lr(30), lr(79), lr(80)
    (1.0, 0.5, 0.5, 0.25)
    """

    value: float
    milestones: Sequence[int]
    factor: float = 0.1

    def __post_init__(self) -> None:
        numbers(self, "value")
        borders(self, "milestones")
        numbers(self, "factor", least=0, open_below=True)

    def __call__(self, t: int) -> float:
        """Return the value at step `t`."""
        return powered(self, bisect_right(self.milestones, t))


@dataclass(frozen=True)
class exponential:
    """`value * factor ** (t / every)`: exponential decay.

    Parameters
    ----------
    value : float
        The value at t = 0.
    factor : float
        What `every` steps multiply by, > 0. For `value * exp(-k t)` pass `math.exp(-k)`. Above 1
        the value grows, and raises ArithmeticError where it is beyond any float.
    every : int
        Steps in which the value changes by `factor`, > 0.
    staircase : bool
        Round the exponent down: the value changes at every `every`-th step only, as in `step`.

    Examples
    --------
    >>> exponential(1.0, factor=0.5)(3)
    0.125
    >>> exponential(1.0, factor=0.25, every=10)(5)
    0.5
    """

    value: float
    factor: float
    every: int = 1
    staircase: bool = False

    def __post_init__(self) -> None:
        numbers(self, "value")
        numbers(self, "factor", least=0, open_below=True)
        counts(self, "every")
        object.__setattr__(self, "staircase", flag("exponential: staircase", self.staircase))

    def __call__(self, t: int) -> float:
        """Return the value at step `t`."""
        return powered(self, t // self.every if self.staircase else t / self.every)


@dataclass(frozen=True)
class inverse_time:
    """`value / (1 + rate * t)`: 1/t decay.

    Parameters
    ----------
    value : float
        The value at t = 0.
    rate : float
        Inverse of the number of steps after which the value has halved, >= 0.

    Examples
    --------
    >>> inverse_time(1.0, rate=0.1)(10)
    0.5
    """

    value: float
    rate: float

    def __post_init__(self) -> None:
        numbers(self, "value")
        numbers(self, "rate", least=0)

    def __call__(self, t: int) -> float:
        """Return the value at step `t`."""
        return self.value / (1 + self.rate * t)


@dataclass(frozen=True)
class inverse_scaling:
    """`value / (t + 1) ** power`: scikit-learn's `invscaling`.

    Parameters
    ----------
    value : float
        The value at t = 0.
    power : float
        The exponent, >= 0.

    Examples
    --------
    >>> inverse_scaling(1.0, power=0.5)(3)
    0.5
    """

    value: float
    power: float = 0.5

    def __post_init__(self) -> None:
        numbers(self, "value")
        numbers(self, "power", least=0)

    def __call__(self, t: int) -> float:
        """Return the value at step `t`."""
        # A negative power underflows to 0, where the division would overflow.
        return self.value * float(t + 1) ** -self.power


@dataclass(frozen=True)
class inverse_sqrt:
    """`value * min((t + 1) / warmup, sqrt(warmup / (t + 1)))`: up, then down as 1 / sqrt(t).

    Parameters
    ----------
    value : float
        The peak, at t = warmup - 1. The Transformer's schedule for width d has
        ``(d * warmup) ** -0.5``.
    warmup : int
        Steps of linear growth, > 0.

    References
    ----------
    Vaswani et al. (2017), Attention is all you need.

    Examples
    --------
    >>> lr = inverse_sqrt(1.0, warmup=4)
    >>> lr(0), lr(3), lr(15)
    (0.25, 1.0, 0.5)
    """

    value: float
    warmup: int

    def __post_init__(self) -> None:
        numbers(self, "value")
        counts(self, "warmup")

    def __call__(self, t: int) -> float:
        """Return the value at step `t`."""
        return self.value * min((t + 1) / self.warmup, math.sqrt(self.warmup / (t + 1)))


@dataclass(frozen=True)
class linear:
    """`(1 - a) * start + a * end` with `a = min(t / steps, 1)`: along a line, then constant.

    Parameters
    ----------
    start : float
        The value at t = 0.
    end : float
        The value from t = steps on, lesser or greater.
    steps : int
        Steps on the way, > 0.

    References
    ----------
    Goodfellow, Bengio and Courville (2016), Deep learning, section 8.3.1.

    Examples
    --------
    >>> lr = linear(1.0, 0.5, steps=10)
    >>> lr(0), lr(5), lr(10), lr(1000)
    (1.0, 0.75, 0.5, 0.5)
    """

    start: float
    end: float
    steps: int

    def __post_init__(self) -> None:
        numbers(self, "start", "end")
        counts(self, "steps")

    def __call__(self, t: int) -> float:
        """Return the value at step `t`."""
        if t >= self.steps:
            return self.end
        return mixed(self.start, self.end, (self.steps - t) / self.steps)


@dataclass(frozen=True)
class polynomial:
    """`end + (start - end) * (1 - t / steps) ** power`, then constant.

    Parameters
    ----------
    start : float
        The value at t = 0.
    end : float
        The value from t = steps on, lesser or greater.
    steps : int
        Steps on the way, > 0.
    power : float
        The exponent, > 0; with 1 the schedule is `linear`.

    Examples
    --------
    >>> lr = polynomial(1.0, 0.0, steps=10, power=2)
    >>> lr(0), lr(5), lr(10)
    (1.0, 0.25, 0.0)
    """

    start: float
    end: float
    steps: int
    power: float = 1.0

    def __post_init__(self) -> None:
        numbers(self, "start", "end")
        counts(self, "steps")
        numbers(self, "power", least=0, open_below=True)

    def __call__(self, t: int) -> float:
        """Return the value at step `t`."""
        if t >= self.steps:
            return self.end
        return mixed(self.start, self.end, ((self.steps - t) / self.steps) ** self.power)


@dataclass(frozen=True)
class cosine:
    """`end + (value - end) * (1 + cos(pi * a)) / 2`, `a` going from 0 to 1: half a cosine.

    Before, an optional warm-up goes along a line from 0 to `value`; afterwards, from t = steps
    on, the value is `end`. For restarts see `warm_restarts`.

    Parameters
    ----------
    value : float
        The value at t = warmup.
    steps : int
        Steps to the end, the warm-up among them, > 0.
    end : float
        The value from t = steps on.
    warmup : int
        Steps of warm-up, >= 0 and < `steps`. At t = 0 the value is 0: that step changes nothing.

    References
    ----------
    Loshchilov and Hutter (2017), SGDR: Stochastic gradient descent with warm restarts.

    Examples
    --------
    >>> lr = cosine(1.0, 110, end=0.5, warmup=10)
    >>> lr(0), lr(5), lr(10), lr(60), lr(110)
    (0.0, 0.5, 1.0, 0.75, 0.5)
    """

    value: float
    steps: int
    end: float = 0.0
    warmup: int = 0

    def __post_init__(self) -> None:
        numbers(self, "value", "end")
        counts(self, "steps")
        counts(self, "warmup", least=0)
        if self.warmup >= self.steps:
            raise ValueError(
                f"cosine: warmup must be less than steps, which is {self.steps}, "
                f"got {self.warmup!r}"
            )

    def __call__(self, t: int) -> float:
        """Return the value at step `t`."""
        if t < self.warmup:
            return self.value * (t / self.warmup)
        if t >= self.steps:
            return self.end
        part = (t - self.warmup) / (self.steps - self.warmup)
        return mixed(self.value, self.end, cosine_weight(part))


@dataclass(frozen=True)
class momentum_annealing:
    """`min(1 - 2 ** (-1 - log2(floor(t / every) + 1)), limit)`: momentum from 0.5 up.

    That is 1/2, 3/4, 5/6, 7/8, ... in turn, each for `every` steps. A line from 0.5 to 0.99 is
    ``linear(0.5, 0.99, steps)``.

    Parameters
    ----------
    limit : float
        The largest value, in [0, 1].
    every : int
        Steps between two rises, > 0.

    References
    ----------
    Sutskever, Martens, Dahl and Hinton (2013), On the importance of initialization and momentum
    in deep learning.

    Examples
    --------
    >>> momentum = momentum_annealing(0.99)
    >>> momentum(0), momentum(250), momentum(1000), momentum(100_000)
    (0.5, 0.75, 0.9, 0.99)
    """

    limit: float = 0.99
    every: int = 250

    def __post_init__(self) -> None:
        numbers(self, "limit", least=0, most=1)
        counts(self, "every")

    def __call__(self, t: int) -> float:
        """Return the value at step `t`."""
        return min(1 - 0.5 / (t // self.every + 1), self.limit)
