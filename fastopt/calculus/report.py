"""What a gradient check found: a row per number compared, worst first, and one line."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class GradRow:
    """One number of a gradient, compared.

    Attributes
    ----------
    label : str
        Such as "W[0, 2]", or "W along direction 3".
    analytic, numeric : float
        The derivative as given, and by differences.
    error : float
        Their distance, relative to the larger of the two.
    excess : float
        Their distance as a multiple of the tolerance: the row is wrong above 1.
    status : str
        "ok", "wrong", "kink" (f has a kink here, and the derivative given lies between those of
        its two sides) or "noise" (differences of f are too noisy to tell).
    note : str
        What a kink looks like, else empty.
    parameter, index : int
        Which array, and which element of it in C's order; -1 for a direction.
    """

    label: str
    analytic: float
    numeric: float
    error: float
    excess: float
    status: str
    note: str
    parameter: int
    index: int


@dataclass(frozen=True, eq=False)
class GradReport:
    """The result of `check_grad` or `check_hessp`; it is true where nothing is wrong.

    Attributes
    ----------
    ok : bool
        No row is wrong or too noisy to tell.
    diagnosis : str
        One line that says what is wrong.
    rows : tuple of GradRow
        Worst first.
    noise : float
        The error of a value of f that was found or assumed, relative to its size.
    step : float
        The step of the differences for numbers near 1.
    nfev : int
        Calls of f.
    shapes : dict
        Name -> shape of the arrays.
    """

    ok: bool
    diagnosis: str
    rows: tuple[GradRow, ...]
    noise: float
    step: float
    nfev: int
    shapes: dict[str, tuple[int, ...]]

    def __bool__(self) -> bool:
        return self.ok

    @property
    def kinks(self) -> tuple[str, ...]:
        """Labels of the rows where f has a kink."""
        return tuple(row.label for row in self.rows if row.status == "kink")

    @property
    def max_error(self) -> float:
        """The largest relative error of the rows that are not at a kink."""
        return max((row.error for row in self.rows if row.status != "kink"), default=0.0)

    @property
    def errors(self) -> dict[str, np.ndarray]:
        """Relative errors by name, nan where a component was not looked at."""
        found = {name: np.full(shape, math.nan) for name, shape in self.shapes.items()}
        arrays = list(found.values())
        for row in self.rows:
            if row.index >= 0:
                arrays[row.parameter].flat[row.index] = row.error
        return found

    def table(self, most: int = 10) -> str:
        """Return the worst rows as text, and those at kinks."""
        shown = self.rows[:most]
        width = max([len(row.label) for row in shown] + [len("component")])
        head = f"{'component':<{width}}  {'analytic':>13}  {'numeric':>13}  {'error':>8}  status"
        lines = [
            f"{row.label:<{width}}  {row.analytic:>13.6g}  {row.numeric:>13.6g}  {row.error:>8.1e}"
            f"  {row.status}{': ' * bool(row.note)}{row.note}"
            for row in shown
        ]
        more = len(self.rows) - len(shown)
        return "\n".join([head, *lines, *([f"... and {more} more"] if more else [])])

    def __str__(self) -> str:
        return f"{self.diagnosis}\n{self.table()}"


def diagnose(
    rows: Sequence[GradRow], names: Sequence[str], values: Sequence[np.ndarray], rtol: float
) -> str:
    """Return one line about the rows; `values` are the arrays the derivative is taken at."""
    wrong = [row for row in rows if row.status == "wrong"]
    noisy = sum(row.status == "noise" for row in rows)
    kinks = sum(row.status == "kink" for row in rows)
    if not wrong:
        if noisy:
            return f"not checked: f is too noisy for {noisy} of {len(rows)} comparisons"
        at = f"; {kinks} at kinks, not failed" if kinks else ""
        return f"ok: {len(rows)} compared{at}"
    bad = sorted({row.parameter for row in wrong})
    where = ", ".join(names[k] for k in bad)
    only = f"only {where} {'is' if len(bad) == 1 else 'are'} wrong: " * (len(bad) < len(names))
    parts = [row for row in rows if row.parameter in bad and row.index >= 0]
    parts = [row for row in parts if row.status in ("ok", "wrong")]
    if not math.isfinite(sum(row.analytic for row in wrong)):
        return f"{only}the gradient is not finite, at {wrong[0].label} first"
    if not math.isfinite(sum(row.numeric for row in wrong)):
        return f"{only}f is not finite near x, at {wrong[0].label} first"
    x = np.array([float(values[row.parameter].flat[row.index]) for row in parts])
    a = np.array([row.analytic for row in parts])
    n = np.array([row.numeric for row in parts])
    if not any(row.index >= 0 for row in wrong):
        found = "the components looked at are right, but not the rest: see the directions"
    else:
        found = _factor(a, n, rtol) or _added(a, n, x, rtol) or _moved(parts, values, rtol)
    count = sum(row.index >= 0 for row in wrong)
    found = found or f"{count} of {len(parts)} components wrong, worst {wrong[0].label}"
    return only + found


def _factor(a: np.ndarray, n: np.ndarray, rtol: float) -> str:
    """Say whether a is a multiple of n."""
    if not a.any():
        return "the gradient is zero everywhere"
    if len(a) < 2 or not n.any():
        ratio = a[0] / n[0] if len(a) == 1 and n[0] else math.nan
    else:
        ratio = float(a @ n / (n @ n))
    if not math.isfinite(ratio) or not _close(a, ratio * n, 10 * rtol):
        return ""
    if abs(ratio - 1) <= 10 * rtol:  # a few components are wrong by little, the others are right
        return ""
    for plain, text in ((-1.0, "sign flipped"), (2.0, "factor 2 everywhere")):
        if math.isclose(ratio, plain, rel_tol=10 * rtol):
            return text
    for sign, flipped in ((1, ""), (-1, ", and sign flipped")):
        for value, text in ((sign * ratio, "sum instead of"), (sign / ratio, "mean instead of")):
            count = round(value)
            if count >= 3 and math.isclose(value, count, rel_tol=max(10 * rtol, 1e-4)):
                other = "mean" if text[0] == "s" else "sum"
                factor = f"{count}" if text[0] == "s" else f"1/{count}"
                return f"factor {factor} everywhere: {text} {other} over {count}?{flipped}"
    return f"factor {ratio:.6g} everywhere"


def _added(a: np.ndarray, n: np.ndarray, x: np.ndarray, rtol: float) -> str:
    """Say whether n - a is a constant, or a multiple of x or of its signs."""
    missing = n - a
    slack = 10 * rtol * float(np.max(np.abs(n)) + np.max(np.abs(a)))
    for term, text in ((x, "x"), (np.sign(x), "sign(x)"), (np.ones_like(x), "")):
        if len(x) < 2 or not term.any():
            continue
        c = float(missing @ term / (term @ term))
        if np.all(np.abs(missing - c * term) <= slack) and abs(c) * np.max(np.abs(term)) > slack:
            if text and c > 0:
                return f"missing regularization term {c:.5g} * {text}"
            if text:
                return f"superfluous regularization term {-c:.5g} * {text}"
            return f"a constant is missing: {c:.5g}"
    return ""


def _moved(rows: Sequence[GradRow], values: Sequence[np.ndarray], rtol: float) -> str:
    """Say whether the gradient of a square matrix is transposed."""
    for k in {row.parameter for row in rows}:
        shape = values[k].shape
        own = sorted((row for row in rows if row.parameter == k), key=lambda row: row.index)
        if len(shape) != 2 or shape[0] != shape[1] or len(own) != values[k].size:
            return ""
        a, n = (np.array(v) for v in zip(*((r.analytic, r.numeric) for r in own), strict=True))
        if not _close(a, n.reshape(shape).T.ravel(), 10 * rtol):
            return ""
    return "transposed"


def _close(a: np.ndarray, b: np.ndarray, rtol: float) -> bool:
    return bool(np.all(np.abs(a - b) <= rtol * max(float(np.max(np.abs(b))), 1e-300)))


def relative(a: float, n: float) -> float:
    """Return the distance of two numbers relative to the larger one."""
    if a == n:
        return 0.0
    return abs(a - n) / max(abs(a), abs(n)) if math.isfinite(a - n) else math.inf


def worst_first(rows: list[Any]) -> tuple[Any, ...]:
    """Return rows in the order of a report."""
    order = {"wrong": 0, "noise": 1, "kink": 2, "ok": 3}
    return tuple(sorted(rows, key=lambda row: (order[row.status], -row.excess, -row.error)))
