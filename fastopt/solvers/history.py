"""The pairs of L-BFGS: how x and the gradient moved in the last steps."""

from __future__ import annotations

import math

import numpy as np

from fastopt.solvers.vectors import Lines


class History:
    """The last pairs (s, y), and the inverse Hessian they stand for times a vector.

    The two loops of Nocedal and Wright, Algorithm 7.4, from gamma = s.y / y.y (7.20): O(memory n)
    time and memory.
    """

    def __init__(self, lines: Lines, memory: int) -> None:
        self.passes, self.eps = lines.passes, lines.objective.eps
        self.s, self.y = lines.empty(memory + 1), lines.empty(memory + 1)
        self.rho = [0.0] * (memory + 1)
        self.order: list[int] = []  # rows, the oldest first; one row is free for the next pair
        self.gamma, self.newest = 1.0, math.nan

    def clear(self) -> None:
        """Forget all pairs."""
        self.order = []

    def move(
        self, x: np.ndarray, t: float, d: np.ndarray, after: np.ndarray, before: np.ndarray
    ) -> np.ndarray:
        """Return x + t d, and keep the pair if its curvature is positive."""
        moved = np.empty_like(x)
        row = next(k for k in range(len(self.rho)) if k not in self.order)
        sy, yy, ss, newest = self.passes.pair(
            moved, self.s[row], self.y[row], x, t, d, after, before
        )
        if sy > self.eps * math.sqrt(ss * yy) and sy / yy > 0 and math.isfinite(1 / sy):
            self.order = [*self.order, row][-(len(self.rho) - 1) :]
            self.rho[row], self.gamma, self.newest = 1 / sy, sy / yy, newest
        else:
            self.toward(after)
        return moved

    def toward(self, g: np.ndarray) -> None:
        """Let the next direction be that of another g than the last move's."""
        if self.order:
            self.newest = self.passes.dot(self.s[self.order[-1]], g)[0]

    def direct(self, d: np.ndarray, g: np.ndarray) -> float:
        """Write -H g to d, where g is the `after` of the last move; return d.g."""
        if not self.order:
            return self.passes.combine(d, -1.0, g, 0.0, g, g)[0]
        return self.passes.two_loop(
            d, g, self.s, self.y, self.order, self.rho, self.gamma, self.newest
        )[0]
