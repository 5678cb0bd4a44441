"""One derivative by differences, with its tolerance, and kinks told from curvature."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from fastopt.calculus.point import Point
from fastopt.calculus.report import GradRow, relative

SHRINK = 4.0  # from one step to the next shorter one


def noise_level(
    point: Point, f: Callable[[Any], float], middle: float, rng: np.random.Generator
) -> float:
    """Return the error of a value of f: at least its rounding, more if f is noisy.

    The table of differences of Moré and Wild (2011): the differences of a smooth function vanish
    with their order, those of noise of size s grow like s sqrt((2k)! / k!^2).
    """
    again = abs(point.call(f) - middle)
    directions = [rng.choice([-1.0, 1.0], a.shape) for a in point.saved]
    found = []
    for sign in (1.0, -1.0):  # a kink at x is at the end of both
        length = 16 * point.eps
        values = _along(point, f, middle, directions, sign * length)
        # steps: where f was computed in a lower precision
        while len(set(values)) < 5 and 1000 * length < point.eps ** (1 / 3):
            length *= 1000
            values = _along(point, f, middle, directions, sign * length)
        table = np.diff(values, n=6)
        scale = math.factorial(6) ** 2 / math.factorial(12)
        found.append(math.sqrt(scale * float(np.mean(table**2))))
    finite = [value for value in found if math.isfinite(value)]
    return max(point.eps * abs(middle), again, min(finite, default=0.0))


def _along(
    point: Point,
    f: Callable[[Any], float],
    middle: float,
    directions: list[np.ndarray],
    length: float,
) -> list[float]:
    """Return f at x and at eight points of a line from there."""
    values = [middle]
    for j in range(1, 9):
        for array, saved, v in zip(point.arrays, point.saved, directions, strict=True):
            array[...] = saved + (np.maximum(1.0, np.abs(saved)) * v * (j * length))
        values.append(point.call(f))
    for array, saved in zip(point.arrays, point.saved, strict=True):
        array[...] = saved
    return values


class Probe:
    """Derivatives of f along components and directions."""

    def __init__(
        self,
        point: Point,
        f: Callable[[Any], float],
        middle: float,
        noise: float,
        step: float,
        fixed: bool,
        rtol: float,
        atol: float,
    ) -> None:
        self.point, self.f, self.middle, self.noise = point, f, middle, noise
        self.step, self.fixed, self.rtol, self.atol = step, fixed, rtol, atol

    def row(self, label: str, k: int, i: int, v: np.ndarray | None, grad: np.ndarray) -> GradRow:
        """Return the comparison at component i of array k, or along the direction v."""
        saved = self.point.saved[k]
        if v is None:
            size = 1.0 if self.fixed else max(1.0, abs(float(saved.flat[i])))
            analytic = float(grad.flat[i])
        else:
            length = math.sqrt(v.size)
            size = length if self.fixed else max(length, float(np.linalg.norm(saved)))
            analytic = float(np.sum(grad * v)) / length
        h = self.step * size
        slopes = [self._slopes(k, i, v, h, grad)]
        analytic = slopes[0][2] if v is not None else analytic
        numeric = slopes[0][3]
        bend = abs(slopes[0][1] - slopes[0][0])
        excess = self._excess(analytic, numeric, h, bend)
        floor = 8 * self.noise / h
        if excess > 1 or bend > 1e-3 * max(abs(numeric), abs(analytic)) + floor:
            for j in (1, 2):
                slopes.append(self._slopes(k, i, v, h / SHRINK**j, grad))
        status, note = "ok" if excess <= 1 else "wrong", ""
        if len(slopes) > 1:
            kink = self._kink(slopes, h)
            short = h / SHRINK**2
            if kink:
                left, right = slopes[2][:2]
                slack = self.rtol * max(abs(left), abs(right)) + self.atol + 4 * self.noise / short
                between = min(left, right) - slack <= analytic <= max(left, right) + slack
                status = "kink" if between else "wrong"
                note = _kind(left, right) + ("" if between else ", the derivative is not between")
                excess = 0.0 if between else max(excess, 2.0)
            elif excess > 1:
                numeric, excess = self._better(slopes, h, analytic)
                status = "ok" if excess <= 1 else "wrong"
        visible = max(abs(analytic), abs(numeric))
        noisy = self.noise > 100 * self.point.eps * abs(self.middle)
        if status != "kink" and noisy and 4 * self.noise / h > 0.1 * visible:
            status = "noise"
        error = relative(analytic, numeric)
        return GradRow(label, analytic, numeric, error, excess, status, note, k, i)

    def _slopes(
        self, k: int, i: int, v: np.ndarray | None, h: float, grad: np.ndarray
    ) -> tuple[float, float, float, float]:
        """Return the slope to the left, to the right, and both: as g has it and of f."""
        array, saved = self.point.arrays[k], self.point.saved[k]
        values, lengths, rises = [], [], []
        for sign in (-1.0, 1.0):
            if v is None:
                lengths.append(self.point.move(k, i, sign * h))
                rises.append(lengths[-1] * float(grad.flat[i]))
            else:
                array[...] = saved + (sign * h / math.sqrt(v.size) * v).astype(saved.dtype)
                moved = array.astype(np.float64) - saved  # rounding left no exact direction
                lengths.append(sign * float(np.linalg.norm(moved)))
                rises.append(float(np.sum(moved * grad)))
            values.append(self.point.call(self.f))
        if v is None:
            self.point.move(k, i, 0.0)
        else:
            array[...] = saved
        with np.errstate(invalid="ignore"):
            left = (values[0] - self.middle) / lengths[0] if lengths[0] else math.nan
            right = (values[1] - self.middle) / lengths[1] if lengths[1] else math.nan
            both = lengths[1] - lengths[0]
            if not both > 0:
                return left, right, math.nan, math.nan
            return left, right, (rises[1] - rises[0]) / both, (values[1] - values[0]) / both

    def _excess(self, analytic: float, numeric: float, h: float, bend: float) -> float:
        """Return the distance as a multiple of what is allowed.

        `bend`, by how much the slope changes over the step, is what is left at an optimum.
        """
        allowed = self.rtol * max(abs(analytic), abs(numeric), bend)
        allowed += self.atol + 4 * self.noise / h
        if not math.isfinite(analytic - numeric):
            return math.inf
        return abs(analytic - numeric) / max(allowed, 1e-300)

    def _kink(self, slopes: list[tuple[float, float, float, float]], h: float) -> bool:
        """Whether the slopes of the two sides stay apart: curvature's shrink with the step."""
        jumps = [abs(right - left) for left, right, _, _ in slopes]
        size = max(abs(slopes[2][0]), abs(slopes[2][1]))
        floor = 8 * self.noise / (h / SHRINK**2) + 1e-3 * size
        return math.isfinite(sum(jumps)) and jumps[2] > floor and jumps[2] > 0.5 * jumps[0]

    def _better(
        self, slopes: list[tuple[float, float, float, float]], h: float, analytic: float
    ) -> tuple[float, float]:
        """Return the estimate nearest to the gradient among shorter steps, and its excess."""
        numeric = [slope[3] for slope in slopes]
        bends = [abs(slope[1] - slope[0]) for slope in slopes]
        found = [(n, h / SHRINK**j, bends[j]) for j, n in enumerate(numeric)]
        for j in (1, 2):  # the error of order h^2 taken out
            better = numeric[j] + (numeric[j] - numeric[j - 1]) / (SHRINK**2 - 1)
            found.append((better, h / SHRINK**j, bends[j]))
        best = min(found, key=lambda one: self._excess(analytic, *one))
        return best[0], self._excess(analytic, *best)


def _kind(left: float, right: float) -> str:
    """Say what a kink looks like."""
    size = max(abs(left), abs(right))
    text = f"slopes {left:.3g} and {right:.3g}"
    if abs(left + right) < 0.01 * size:
        return text + ": like an absolute value"
    if min(abs(left), abs(right)) < 0.01 * size:
        return text + ": like a hinge or ReLU"
    return text
