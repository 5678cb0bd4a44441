"""Checks of single arguments; every message names the argument and what it may be."""

from __future__ import annotations

import difflib
import math
import operator
from typing import Any


def one_of(name: str, value: Any, allowed: tuple[str, ...]) -> str:
    """Return `value` if it is among `allowed`."""
    if value not in allowed:
        known = {str(choice).lower(): choice for choice in allowed if choice is not None}
        near = difflib.get_close_matches(value.lower(), known, 1) if isinstance(value, str) else ()
        hint = f"; did you mean {known[near[0]]!r}?" if near else ""
        choices = ", ".join(map(repr, allowed))
        raise ValueError(f"{name} must be one of {choices}, got {value!r}{hint}")
    return value


def number(
    name: str, value: Any, least: float, most: float = math.inf, *, open_below: bool = False
) -> float:
    """Return a finite number in [least, most], or (least, most]."""
    left = "(" if open_below or math.isinf(least) else "["
    bounds = f"in {left}{least:g}, {most:g}{']' if most < math.inf else ')'}"
    try:
        number = float(value)
        if isinstance(value, (bool, str)):
            raise TypeError
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be a number {bounds}, got {value!r}") from None
    if not (least <= number <= most) or (open_below and number == least) or math.isinf(number):
        raise ValueError(f"{name} must be a number {bounds}, got {value!r}")
    return number


def count(name: str, value: Any, least: int) -> int:
    """Return an integer of at least `least`."""
    try:
        count = operator.index(value)
        if isinstance(value, bool):
            raise TypeError
    except TypeError:
        raise TypeError(f"{name} must be an integer, got {value!r}") from None
    if count < least:
        raise ValueError(f"{name} must be at least {least}, got {value!r}")
    return count


def check_callable(name: str, value: Any) -> None:
    """Refuse what is neither None nor callable."""
    if value is not None and not callable(value):
        raise TypeError(f"{name} must be callable or None, got {value!r}")


def flag(name: str, value: Any) -> bool:
    """Return True or False, NumPy's included."""
    if type(value).__name__ not in ("bool", "bool_"):
        raise TypeError(f"{name} must be True or False, got {value!r}")
    return bool(value)
