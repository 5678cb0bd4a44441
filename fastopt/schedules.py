"""Schedules: closed forms `t -> value`, t = 0 in the first step, for any hyper-parameter.

A schedule has no state: its value depends on t alone, so resuming needs the step number only.
Any callable of one integer is a schedule; these are the common ones.

Examples
--------
>>> from fastopt import schedules
>>> lr = schedules.step(0.1, every=10, factor=0.5)
>>> lr(0), lr(9), lr(10), lr(25)
(0.1, 0.1, 0.05, 0.025)
"""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["constant", "exponential", "inverse_time", "step"]


def _finite(where: str, **values: float) -> None:
    for name, value in values.items():
        if isinstance(value, (bool, str)) or not math.isfinite(value):
            raise ValueError(f"{where}: {name} must be a finite number, got {value!r}")


def _positive(where: str, **values: float) -> None:
    _finite(where, **values)
    for name, value in values.items():
        if value <= 0:
            raise ValueError(f"{where}: {name} must be > 0, got {value!r}")


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
        _finite("constant", value=self.value)

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
        _finite("step", value=self.value)
        _positive("step", every=self.every, factor=self.factor)

    def __call__(self, t: int) -> float:
        """Return the value at step `t`."""
        return float(self.value * self.factor ** (t // self.every))


@dataclass(frozen=True)
class exponential:
    """`value * factor ** t`: exponential decay.

    Parameters
    ----------
    value : float
        The value at t = 0.
    factor : float
        What each step multiplies by, > 0. For `value * exp(-k t)` pass `math.exp(-k)`.

    Examples
    --------
    >>> exponential(1.0, factor=0.5)(3)
    0.125
    """

    value: float
    factor: float

    def __post_init__(self) -> None:
        _finite("exponential", value=self.value)
        _positive("exponential", factor=self.factor)

    def __call__(self, t: int) -> float:
        """Return the value at step `t`."""
        return float(self.value * self.factor**t)


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
        _finite("inverse_time", value=self.value, rate=self.rate)
        if self.rate < 0:
            raise ValueError(f"inverse_time: rate must be >= 0, got {self.rate!r}")

    def __call__(self, t: int) -> float:
        """Return the value at step `t`."""
        return self.value / (1 + self.rate * t)
