"""A line through a point, evaluated: the compiled passes around each evaluation."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from fastopt._core import Vectors
from fastopt.solvers.objective import Objective
from fastopt.threads import resolve


class Trial(NamedTuple):
    """What was found at step t of a line; the gradient and its largest component, if any."""

    t: float
    f: float
    slope: float
    g: Any = None
    grad_norm: float = math.nan


class Lines:
    """The vectors of one solver, and lines through its points."""

    def __init__(self, objective: Objective, threads: int | None = None) -> None:
        self.objective = objective
        self.passes = Vectors(objective.n, objective.dtype.name, resolve(threads))

    def empty(self, *rows: int) -> np.ndarray:
        """Return a vector, or rows of them."""
        return np.empty((*rows, self.objective.n), self.objective.dtype)

    def first(self, x0: np.ndarray) -> tuple[float, np.ndarray, float, float]:
        """Return value, gradient, g.g and the largest |g| at the start."""
        f, given = self.objective(x0.copy())
        g = self.empty()
        _, square, norm = self.passes.receive(g, given, given)
        return f, g, square, norm

    def moved(self, x: np.ndarray, t: float, d: np.ndarray) -> np.ndarray:
        """Return the point of a trial: x + t d."""
        point = self.empty()
        self.passes.combine(point, 1.0, x, t, d, point)
        return point

    def along(self, x: np.ndarray, d: np.ndarray) -> Callable[[float], Trial]:
        """Return t -> Trial at x + t d; not finite where the point is not."""

        def phi(t: float) -> Trial:
            point = self.empty()
            if not math.isfinite(self.passes.combine(point, 1.0, x, t, d, point)[1]):
                return Trial(t, math.inf, math.nan)
            f, given = self.objective(point)
            g = self.empty()
            slope, _, norm = self.passes.receive(g, given, d)
            return Trial(t, f, slope, g, norm)

        return phi
