"""Schedules that go up and down, and schedules made of others."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fastopt.checks import flag, one_of
from fastopt.schedules.curves import at, borders, cosine_weight, counts, mixed, numbers, part


@dataclass(frozen=True)
class warm_restarts:
    """Half a cosine from `value` to `end`, again and again: SGDR.

    In period n = 0, 1, ..., of ``every * growth ** n`` steps, it is
    `end + (value - end) * factor ** n * (1 + cos(pi * a)) / 2`, `a` going from 0 to 1.

    Parameters
    ----------
    value : float
        The value at t = 0.
    every : int
        Steps of the first period, > 0.
    growth : int
        How many times longer each period is than the one before, >= 1.
    end : float
        What each period falls to; the last step before a restart is one step short of it.
    factor : float
        What each restart multiplies the height above `end` by, in (0, 1].

    References
    ----------
    Loshchilov and Hutter (2017), SGDR: Stochastic gradient descent with warm restarts.

    Examples
    --------
    >>> lr = warm_restarts(1.0, every=10, growth=2, factor=0.5)
    >>> lr(0), lr(5), lr(10), lr(20), lr(30), lr(50)
    (1.0, 0.5, 0.5, 0.25, 0.25, 0.125)
    """

    value: float
    every: int
    growth: int = 1
    end: float = 0.0
    factor: float = 1.0

    def __post_init__(self) -> None:
        numbers(self, "value")
        counts(self, "every", "growth")
        numbers(self, "end")
        numbers(self, "factor", least=0, most=1, open_below=True)

    def __call__(self, t: int) -> float:
        """Return the value at step `t`."""
        n = whole = t // self.every
        length = self.every
        if self.growth > 1:
            # n periods take every * (growth**n - 1) / (growth - 1) steps. A logarithm may miss n
            # by one where t is at a restart, so integers decide.
            reached = whole * (self.growth - 1) + 1
            n = int(math.log(reached, self.growth))
            n -= self.growth**n > reached
            n += self.growth ** (n + 1) <= reached
            whole = (self.growth**n - 1) // (self.growth - 1)
            length *= self.growth**n
        done = (t - self.every * whole) / length
        return mixed(self.value, self.end, self.factor**n * cosine_weight(done))


@dataclass(frozen=True)
class one_cycle:
    """From `start` up to `peak`, down to `end`, and constant afterwards: the 1cycle policy.

    The peak is at t = rise * steps - 1 and the end at t = steps - 1, as in torch's OneCycleLR.
    Momentum goes the other way, down to its "peak" and up again:
    ``momentum=one_cycle(0.85, steps, start=0.95, end=0.95)``.

    Parameters
    ----------
    peak : float
        The value at the peak.
    steps : int
        Steps of the cycle, > 1.
    start : float, optional
        The value at t = 0; by default ``peak / 25``.
    end : float, optional
        The value from the last step on; by default ``start / 10_000``.
    rise : float
        The part of the steps up to the peak, in (0, 1) and more than one step.
    anneal : {"cosine", "linear"}
        The way from one value to the next.
    three_phase : bool
        Go from the peak back to `start` in as many steps as up, and only then to `end`; `rise`
        is 0.5 at most then.

    References
    ----------
    Smith and Topin (2018), Super-convergence: Very fast training of neural networks using large
    learning rates.

    Examples
    --------
    >>> lr = one_cycle(1.0, 101, start=0.5, end=0.0, rise=51 / 101)
    >>> lr(0), lr(25), lr(50), lr(75), lr(100)
    (0.5, 0.75, 1.0, 0.5, 0.0)
    """

    peak: float
    steps: int
    start: float | None = None
    end: float | None = None
    rise: float = 0.3
    anneal: str = "cosine"
    three_phase: bool = False

    def __post_init__(self) -> None:
        numbers(self, "peak")
        counts(self, "steps", least=2)
        if self.start is None:
            object.__setattr__(self, "start", self.peak / 25)
        numbers(self, "start")
        if self.end is None:
            object.__setattr__(self, "end", self.start / 10_000)
        numbers(self, "end", "rise")
        one_of("one_cycle: anneal", self.anneal, ("cosine", "linear"))
        three = flag("one_cycle: three_phase", self.three_phase)
        object.__setattr__(self, "three_phase", three)
        if self.rise >= 1 or self.rise * self.steps <= 1 or (three and self.rise > 0.5):
            raise ValueError(
                f"one_cycle: rise must be more than 1 / steps = {1 / self.steps:g} and "
                f"{'at most 0.5 with three_phase' if three else 'less than 1'}, got {self.rise!r}"
            )

    def __call__(self, t: int) -> float:
        """Return the value at step `t`."""
        top, last = self.rise * self.steps - 1, self.steps - 1
        if t >= last:
            return self.end
        if t < top:
            return self._way(self.start, self.peak, t / top)
        if not self.three_phase:
            return self._way(self.peak, self.end, (t - top) / (last - top))
        if t < 2 * top:
            return self._way(self.peak, self.start, (t - top) / top)
        return self._way(self.start, self.end, (t - 2 * top) / (last - 2 * top))

    def _way(self, first: float, second: float, done: float) -> float:
        return mixed(first, second, cosine_weight(done) if self.anneal == "cosine" else 1 - done)


@dataclass(frozen=True)
class cyclic:
    """From `start` to `peak` and back along lines, again and again: cyclical learning rates.

    Momentum goes the other way, with a `peak` below its `start`.

    Parameters
    ----------
    start : float
        The value at t = 0.
    peak : float
        The value after `up` steps of the first cycle.
    up : int
        Steps from start to peak, > 0.
    down : int, optional
        Steps from peak to start, > 0; by default `up`.
    mode : {"triangular", "triangular2", "exp_range"}
        What the way from start to peak is multiplied by: 1, 0.5 ** (number of the cycle, from 0),
        or factor ** t.
    factor : float
        For "exp_range", in (0, 1].

    References
    ----------
    Smith (2017), Cyclical learning rates for training neural networks.

    Examples
    --------
    >>> lr = cyclic(0.0, 1.0, up=4, mode="triangular2")
    >>> lr(0), lr(2), lr(4), lr(6), lr(8), lr(12)
    (0.0, 0.5, 1.0, 0.5, 0.0, 0.5)
    """

    start: float
    peak: float
    up: int
    down: int | None = None
    mode: str = "triangular"
    factor: float = 1.0

    def __post_init__(self) -> None:
        numbers(self, "start", "peak")
        counts(self, "up")
        if self.down is None:
            object.__setattr__(self, "down", self.up)
        counts(self, "down")
        one_of("cyclic: mode", self.mode, ("triangular", "triangular2", "exp_range"))
        numbers(self, "factor", least=0, most=1, open_below=True)
        if self.factor != 1 and self.mode != "exp_range":
            raise ValueError(
                f"cyclic: factor must be 1 with mode {self.mode!r}, got {self.factor!r}"
            )

    def __call__(self, t: int) -> float:
        """Return the value at step `t`."""
        cycle, done = divmod(t, self.up + self.down)
        height = done / self.up if done < self.up else 1 - (done - self.up) / self.down
        if self.mode == "triangular2":
            height *= 0.5**cycle
        elif self.mode == "exp_range":
            height *= self.factor**t
        return mixed(self.peak, self.start, height)


@dataclass(frozen=True)
class warmup:
    """Along a line from `start` to the first value of `schedule`, then `schedule` from its t = 0.

    Thus it lasts `steps` longer than `schedule` alone. A warm-up that multiplies a schedule which
    runs meanwhile is ``product(linear(0.0, 1.0, steps), schedule)``.

    Parameters
    ----------
    schedule : callable or float
        What follows.
    steps : int
        Steps of warm-up, >= 0.
    start : float
        The value at t = 0; with 0, a learning rate's first step changes nothing.

    References
    ----------
    Goyal et al. (2017), Accurate, large minibatch SGD: Training ImageNet in 1 hour.

    Examples
    --------
    >>> from fastopt.schedules import step
    >>> lr = warmup(step(1.0, every=10), 4)
    >>> lr(0), lr(3), lr(4), lr(13), lr(14)
    (0.0, 0.75, 1.0, 1.0, 0.1)
    """

    schedule: Callable[[int], float] | float
    steps: int
    start: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "schedule", part("warmup: schedule", self.schedule))
        counts(self, "steps", least=0)
        numbers(self, "start")

    def __call__(self, t: int) -> float:
        """Return the value at step `t`."""
        if t < self.steps:
            return mixed(at(self.schedule, 0), self.start, t / self.steps)
        return at(self.schedule, t - self.steps)


@dataclass(frozen=True)
class join:
    """One schedule after the other, each from its t = 0.

    Parameters
    ----------
    schedules : sequence of callable or float
        The parts in turn.
    boundaries : sequence of int
        The steps t at which the second part begins, the third, ...: ascending, > 0.

    Examples
    --------
    >>> from fastopt.schedules import linear
    >>> lr = join([1.0, linear(1.0, 0.0, 10), 0.25], [100, 105])
    >>> lr(99), lr(100), lr(104), lr(105)
    (1.0, 1.0, 0.6, 0.25)
    """

    schedules: Sequence[Callable[[int], float] | float]
    boundaries: Sequence[int]

    def __post_init__(self) -> None:
        if not isinstance(self.schedules, (list, tuple)):
            raise TypeError(
                f"join: schedules must be a list or tuple of schedules, got {self.schedules!r}"
            )
        parts = tuple(part(f"join: schedules[{k}]", one) for k, one in enumerate(self.schedules))
        object.__setattr__(self, "schedules", parts)
        borders(self, "boundaries")
        if len(parts) != len(self.boundaries) + 1:
            raise ValueError(
                f"join: boundaries must be one less than schedules, of which there are "
                f"{len(parts)}, got {self.boundaries!r}"
            )

    def __call__(self, t: int) -> float:
        """Return the value at step `t`."""
        k = bisect_right(self.boundaries, t)
        return at(self.schedules[k], t - self.boundaries[k - 1] if k else t)


@dataclass(frozen=True, init=False)
class product:
    """The product of schedules, all at the same t.

    Parameters
    ----------
    *schedules : callable or float
        The factors, at least one.

    Examples
    --------
    >>> from fastopt.schedules import linear
    >>> product(0.5, linear(0.0, 1.0, 10))(5)
    0.25
    """

    schedules: tuple[Callable[[int], float] | float, ...]

    def __init__(self, *schedules: Callable[[int], float] | float) -> None:
        if not schedules:
            raise TypeError("product: schedules must be at least one, got none")
        parts = tuple(part(f"product: schedules[{k}]", one) for k, one in enumerate(schedules))
        object.__setattr__(self, "schedules", parts)

    def __call__(self, t: int) -> float:
        """Return the value at step `t`."""
        return math.prod(at(one, t) for one in self.schedules)

    def __repr__(self) -> str:
        return f"product({', '.join(map(repr, self.schedules))})"
