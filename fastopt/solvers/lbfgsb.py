"""L-BFGS-B: limited memory with bounds, by the generalized Cauchy point and its free variables."""

from __future__ import annotations

import math

import numpy as np

from fastopt.checks import count, number
from fastopt.solvers.lbfgs import lbfgs
from fastopt.solvers.line_search import search_wolfe
from fastopt.solvers.loop import State, Steps
from fastopt.solvers.objective import Objective
from fastopt.solvers.vectors import Lines, Trial


def lbfgsb(
    objective: Objective, x0: np.ndarray, *, memory: int = 10, c1: float = 1e-4, c2: float = 0.9
) -> Steps:
    """Yield the states of L-BFGS-B (Byrd, Lu, Nocedal and Zhu, 1995).

    What must vanish is the projected gradient, x - clip(x - g). The arithmetic between evaluations
    is in float64.
    """
    memory = count("memory", memory, 1)
    c1 = number("c1", c1, 0, 1, open_below=True)
    c2 = number("c2", c2, c1, 1, open_below=True)
    if objective.bounds is None or np.isinf(objective.bounds).all():
        # the same steps, without a matrix that may be singular
        return (yield from lbfgs(objective, x0, memory=memory, c1=c1, c2=c2))
    low, high = objective.bounds
    lines = Lines(objective, 1)
    x = x0.copy()
    f, g, _, norm = lines.first(x)
    yield State(x, f, g, _projected(x, g, low, high, norm))
    model = _Model(objective.n, memory, objective.eps)
    while True:
        target = model.minimizer(x.astype("f8"), g.astype("f8"), low, high)
        d = (target - x).astype(x.dtype)
        slope = lines.passes.dot(d, g)[0]
        if not -math.inf < slope < 0:
            if model.pairs:
                model.clear()
                continue
            return "precision", f"no direction descends: the slope is {slope:g}"
        size = math.sqrt(float(d.astype("f8") @ d))
        most = _longest(x, d, low, high)
        first = 1.0 if model.pairs else min(1.0, 1 / size)
        found = search_wolfe(
            _within(lines, x, d, low, high), Trial(0.0, f, slope), min(first, most), c1, c2,
            max(most, 1.0), noise=10 * objective.eps * abs(f),
        )  # fmt: skip
        trial = found.trial
        if trial.t == 0:
            if model.pairs:
                model.clear()
                continue
            return "line search", f"along the projected gradient {found.message}"
        moved = np.clip(lines.moved(x, trial.t, d), low, high).astype(x.dtype)
        model.add(moved.astype("f8") - x, trial.g.astype("f8") - g)
        x, f, g = moved, trial.f, trial.g
        yield State(x, f, g, _projected(x, g, low, high, trial.grad_norm), trial.t)


def _projected(
    x: np.ndarray, g: np.ndarray, low: np.ndarray, high: np.ndarray, norm: float
) -> float:
    """Return the largest component of x - clip(x - g); not finite where g is not."""
    if not math.isfinite(norm):
        return norm
    return float(np.abs(np.where(g > 0, np.minimum(g, x - low), np.maximum(g, x - high))).max())


def _longest(x: np.ndarray, d: np.ndarray, low: np.ndarray, high: np.ndarray) -> float:
    """Return the longest step that stays within the bounds."""
    room = np.where(d > 0, high - x, np.where(d < 0, low - x, np.inf))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return float(np.where(d != 0, room / d, np.inf).min())


def _within(
    lines: Lines, x: np.ndarray, d: np.ndarray, low: np.ndarray, high: np.ndarray
) -> object:
    """Return t -> Trial, where rounding does not lead out of the bounds."""
    objective = lines.objective

    def phi(t: float) -> Trial:
        point = np.clip(lines.moved(x, t, d), low, high).astype(x.dtype)
        if not np.isfinite(point).all():
            return Trial(t, math.inf, math.nan)
        f, given = objective(point)
        g = lines.empty()
        slope, _, norm = lines.passes.receive(g, given, d)
        return Trial(t, f, slope, g, norm)

    return phi


class _Model:
    """The compact form of the limited-memory matrix, B = theta I - W M W'."""

    def __init__(self, n: int, memory: int, eps: float) -> None:
        self.n, self.memory, self.eps = n, memory, eps
        self.clear()

    def clear(self) -> None:
        """Return to B = I."""
        self.pairs: list[tuple[np.ndarray, np.ndarray]] = []
        self.theta, self.w, self.m = 1.0, np.zeros((self.n, 0)), np.zeros((0, 0))

    def add(self, s: np.ndarray, y: np.ndarray) -> None:
        """Take in how x and the gradient moved, if the curvature is positive."""
        sy, yy = float(s @ y), float(y @ y)
        if not sy > self.eps * math.sqrt(float(s @ s) * yy):
            return
        self.pairs = [*self.pairs, (s, y)][-self.memory :]
        self.theta = yy / sy
        big_s = np.stack([s for s, _ in self.pairs], axis=1)
        big_y = np.stack([y for _, y in self.pairs], axis=1)
        products = big_s.T @ big_y
        lower = np.tril(products, -1)
        middle = np.block(
            [[-np.diag(np.diag(products)), lower.T], [lower, self.theta * (big_s.T @ big_s)]]
        )
        try:
            self.m = np.linalg.inv(middle)
        except np.linalg.LinAlgError:
            self.clear()
            return
        self.w = np.hstack([big_y, self.theta * big_s])

    def minimizer(
        self, x: np.ndarray, g: np.ndarray, low: np.ndarray, high: np.ndarray
    ) -> np.ndarray:
        """Return where the model is least: along the projected path, then with what is free."""
        cauchy, c = self._cauchy(x, g, low, high)
        free = (cauchy > low) & (cauchy < high)
        if not self.pairs or not free.any():
            return cauchy
        r = (g + self.theta * (cauchy - x) - self.w @ (self.m @ c))[free]
        w = self.w[free]
        v = self.m @ (w.T @ r)
        inner = np.eye(len(v)) - self.m @ (w.T @ w) / self.theta
        try:
            v = np.linalg.solve(inner, v)
        except np.linalg.LinAlgError:
            return cauchy
        step = -r / self.theta - w @ v / self.theta**2
        if not np.isfinite(step).all():
            return cauchy
        target = cauchy.copy()
        target[free] = np.clip(cauchy[free] + step, low[free], high[free])
        if g @ (target - x) < 0:  # the projected step (Morales and Nocedal, 2011)
            return target
        t = min(1.0, _longest(cauchy[free], step, low[free], high[free]))
        target[free] = np.clip(cauchy[free] + t * step, low[free], high[free])
        return target

    def _cauchy(
        self, x: np.ndarray, g: np.ndarray, low: np.ndarray, high: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the first minimizer along x - t g, bent at the bounds, and W' (it - x)."""
        bound = np.where(g < 0, high, low)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            reach = np.where(g != 0, (x - bound) / g, np.inf)
        d = np.where(reach > 0, -g, 0.0)
        p = self.w.T @ d
        c = np.zeros_like(p)
        cauchy = x.copy()
        first = -float(d @ d)
        second = -self.theta * first - float(p @ self.m @ p)
        least_second = self.eps * -self.theta * first
        if first == 0:
            return cauchy, c
        wanted = -first / max(second, least_second)
        at = 0.0
        corners = np.flatnonzero((reach > 0) & np.isfinite(reach))
        for b in corners[np.argsort(reach[corners], kind="stable")]:
            ahead = float(reach[b]) - at
            if wanted < ahead:
                break
            cauchy[b] = bound[b]
            z, gb, wb = cauchy[b] - x[b], float(g[b]), self.w[b]
            c = c + ahead * p
            first += ahead * second + gb**2 + self.theta * gb * z - gb * float(wb @ self.m @ c)
            second += (
                -self.theta * gb**2
                - 2 * gb * float(wb @ self.m @ p)
                - gb**2 * float(wb @ self.m @ wb)
            )
            p = p + gb * wb
            d[b] = 0.0
            wanted = -first / max(second, least_second)
            at = float(reach[b])
            if first >= 0:
                wanted = 0.0
                break
        wanted = max(wanted, 0.0)
        moving = d != 0
        cauchy[moving] = np.clip(x + (at + wanted) * d, low, high)[moving]
        return cauchy, c + wanted * p
