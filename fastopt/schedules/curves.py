"""What schedules share: their arguments, checked once, and the ways from one value to another."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

from fastopt.checks import count, number


def real(
    where: str,
    value: Any,
    least: float = -math.inf,
    most: float = math.inf,
    *,
    open_below: bool = False,
) -> float:
    """Return `value` as a float in [least, most], or (least, most]."""
    try:
        return number(where, value, least, most, open_below=open_below)
    except OverflowError:
        raise ValueError(f"{where} must be a finite number, got one beyond any float") from None


def numbers(schedule: Any, *names: str, **bounds: Any) -> None:
    """Make these fields of a frozen `schedule` floats within the bounds of `real`."""
    for name in names:
        value = real(f"{type(schedule).__name__}: {name}", getattr(schedule, name), **bounds)
        object.__setattr__(schedule, name, value)


def counts(schedule: Any, *names: str, least: int = 1) -> None:
    """Make these fields of a frozen `schedule` integers of at least `least`."""
    for name in names:
        value = count(f"{type(schedule).__name__}: {name}", getattr(schedule, name), least)
        object.__setattr__(schedule, name, value)


def borders(schedule: Any, name: str) -> None:
    """Make this field of a frozen `schedule` a tuple of ascending steps > 0."""
    where = f"{type(schedule).__name__}: {name}"
    given = getattr(schedule, name)
    if not isinstance(given, (list, tuple)):
        raise TypeError(f"{where} must be a list or tuple of steps, got {given!r}")
    steps = tuple(count(f"{where}[{k}]", step, 1) for k, step in enumerate(given))
    if any(a >= b for a, b in pairwise(steps)):
        raise ValueError(f"{where} must ascend, got {given!r}")
    object.__setattr__(schedule, name, steps)


def part(where: str, value: Any) -> Callable[[int], float] | float:
    """Return `value` if it is a schedule, or a float if it is a number."""
    if callable(value):
        return value
    try:
        return real(where, value)
    except TypeError:
        raise TypeError(
            f"{where} must be a callable t -> value or a finite number, got {value!r}"
        ) from None


def at(part: Callable[[int], float] | float, t: int) -> float:
    """Return the value of a schedule or number at step `t`."""
    return part(t) if callable(part) else part


def mixed(first: float, second: float, weight: float) -> float:
    """Return `weight * first + (1 - weight) * second`, by no rounding beyond either."""
    value = weight * first + (1 - weight) * second
    low, high = (first, second) if first <= second else (second, first)
    return low if value < low else high if value > high else value


def cosine_weight(part: float) -> float:
    """Return the weight of the start when `part` of the way along a half cosine is done."""
    return 0.5 * (1 + math.cos(math.pi * part))


def powered(schedule: Any, n: float) -> float:
    """Return `value * factor ** n` of a `schedule` with these fields: 0 where that underflows."""
    try:
        value = schedule.value * schedule.factor ** float(n)
    except OverflowError:
        value = math.inf
    if not math.isfinite(value):
        raise ArithmeticError(f"{schedule!r} has grown beyond any float: factor ** {n!r}")
    return value
