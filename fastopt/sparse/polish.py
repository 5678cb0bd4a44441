"""From a good model to the optimum: L-BFGS or Newton's steps on all rows, for smooth losses.

With l2 > 0 the objective is strongly convex in the weights: it is at most |g|^2 / (2 l2) above its
minimum, g being its gradient. What an intercept, which has no penalty, may still bring is estimated
from the curvature along it.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from fastopt import _core, memory
from fastopt.checks import one_of
from fastopt.solvers.lbfgs import lbfgs
from fastopt.solvers.loop import State, Steps
from fastopt.solvers.newton import Factors
from fastopt.solvers.objective import Objective
from fastopt.sparse.rows import Rows, Targets
from fastopt.sparse.runner import CALLBACK_EVERY, HogwildResult, Progress

POLISHES = (None, "lbfgs", "newton")
SMOOTH = (
    *("logistic", "squared", "squared_hinge", "modified_huber", "huber"),
    *("squared_epsilon_insensitive", "poisson"),
)
WITHIN = 1e-6  # of the objective: how far above its minimum it may stay
ITERATIONS = 1000
NEWTON_COLUMNS = 2000  # at most: the matrix has their square, its factors take their cube
LEAST_BEND = 0.25  # rows that are bent less than that times the most bent ones share their turns,
MANY_ROWS = 50  # where there are so many for a column
WORKERS = 4  # that add up, where the number of threads may change no bit
EPSILON = float(np.finfo(float).eps)
PAIRS = 1e8  # of a row's columns, between two looks at Ctrl-C


def check_polish(polish: Any, loss: Any, **others: Any) -> None:
    """Raise if it cannot find the optimum of what is asked for; `others` must all be false."""
    if one_of("polish", polish, POLISHES) is None:
        return
    if isinstance(loss, str) and loss not in SMOOTH:
        raise ValueError(
            f"polish={polish!r} needs a smooth loss, one of {', '.join(map(repr, SMOOTH))} or a "
            f"function of your own, got {loss!r}: optimizer='sdca' finds the optimum of the others"
        )
    for name, value in others.items():
        if value:
            raise ValueError(f"polish={polish!r} cannot do {name}={value!r}")


def polished(train: Callable[..., HogwildResult], how: str) -> Callable[..., HogwildResult]:
    """Return what trains as `train` does, and then polishes what came out."""

    @functools.wraps(train)
    def both(rows: Rows, target: Targets, *start: Any, **options: Any) -> HogwildResult:
        columns = rows.samples.columns
        if how == "newton" and columns > NEWTON_COLUMNS:
            raise ValueError(
                f"polish='newton' is for at most {NEWTON_COLUMNS:,} columns, X has {columns:,}: "
                "polish='lbfgs' takes any number"
            )
        result = train(rows, target, *start, **options)
        if result.status == "finished":
            polish(rows, target, result, how, options)
        return result

    return both


class _Sum:
    """The objective at (w, c), the intercept being sqrt(gain) * c, with its gradient."""

    def __init__(self, rows: Rows, threads: int, workers: int, intercept: float) -> None:
        self.rows, self.threads, self.workers = rows, threads, workers
        size = rows.samples.columns + 1
        self.root = math.sqrt(rows.gain)
        self.fixed = 0.0 if self.root else intercept
        self.point, self.found = np.empty(size), np.empty(size)
        self.room = np.empty(workers * (size + 1))
        self.matrices: np.ndarray | None = None
        self.calls = 0

    def __call__(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        settings, samples, g = self.rows.settings, self.rows.samples, self.found
        loss, shape = settings.loss, settings.shape
        self.calls += 1
        self.point[:] = x
        self.point[-1] = self.intercept(x)
        total = _core.full_gradient(
            samples, loss, shape, self.point, g, self.room, self.workers, self.threads
        )
        g /= self.rows.n
        g[:-1] += settings.l2 * x[:-1]
        g[-1] *= self.root
        return total / self.rows.n + settings.l2 / 2 * float(x[:-1] @ x[:-1]), g.copy()

    def hessian(self, x: np.ndarray, least: float = 0.0) -> np.ndarray:
        """Return the matrix of second derivatives at x, or about that: see csrc/gradient.inc."""
        settings, samples, size, n = self.rows.settings, self.rows.samples, len(x), self.rows.n
        loss, shape = settings.loss, settings.shape
        if self.matrices is None:
            self.matrices = np.empty((self.workers, size, size))
        self.calls += 1
        self.matrices[:] = 0
        self.point[:] = x
        self.point[-1] = self.intercept(x)
        some = max(1, int(self.threads * PAIRS / max(1, samples.nonzeros / n) ** 2))
        for low in range(0, n, some):
            high = min(low + some, n)
            _core.hessian(
                *(samples, loss, shape, self.point, self.root, least, low, high),
                *(self.matrices, self.threads),
            )
        h = self.matrices.sum(axis=0)
        h /= n
        lacking = np.maximum(h[:-1, -1], 0)  # or steps along rare columns were huge
        h[:, -1] = h[-1]
        h.flat[: -1 : size + 1] += lacking + settings.l2
        if not self.root:
            h[-1, -1] = 1.0  # the intercept stays as it is
        return h

    def within(self, x: np.ndarray, g: np.ndarray) -> float:
        """Return how far above its minimum the objective is at x, g being its gradient there.

        At most |g|^2 / (2 l2) for the weights; for the intercept, which has no penalty, about what
        a parabola with the curvature there has.
        """
        square = float(g[:-1] @ g[:-1])
        bound = square / (2 * self.rows.settings.l2) if square else 0.0
        slope = float(g[-1])
        if slope and bound < math.inf:
            ahead = x.copy()
            ahead[-1] += 1e-3 * max(1.0, abs(float(x[-1])), 1 / self.root)
            curvature = (float(self(ahead)[1][-1]) - slope) / float(ahead[-1] - x[-1])
            bound += slope**2 / (2 * curvature) if curvature > 0 else math.inf
        return bound

    def intercept(self, x: np.ndarray) -> float:
        return self.fixed + self.root * float(x[-1])


def newton(total: _Sum, x: np.ndarray) -> Steps:
    """Yield the states of Newton's steps, each halved until it lowers the objective."""
    f, g = total(x)
    step = 1.0
    many = total.rows.n >= MANY_ROWS * len(x)
    while True:
        yield State(x, f, g, float(np.abs(g).max()), step)
        h, d = total.hessian(x, LEAST_BEND if many and step >= 0.25 else 0.0), -g
        if not _core.cholesky_solve(h, d):  # h is singular, or has a maximum
            factors = Factors(total.hessian(x), EPSILON**0.5)
            d = factors.step(g) if factors.finite else -g
        slope, step = float(d @ g), 1.0
        if not slope < 0:
            d, slope = -g, -float(g @ g)
        while True:
            ahead = x + step * d
            value, gradient = total(ahead)
            flatter = gradient @ gradient < 0.5 * (g @ g)
            if value <= f + 1e-4 * step * slope and (value < f or flatter):
                break
            if flatter and value <= f + 10 * EPSILON * abs(f):  # as good as f can tell
                break
            step /= 2
            if step * np.abs(d).max() <= EPSILON * np.abs(x).max() or step < 1e-30:
                return "precision", "no step lowers the objective"
        x, f, g = ahead, value, gradient


def polish(
    rows: Rows, target: Targets, result: HogwildResult, how: str, options: dict[str, Any]
) -> None:
    """Take the model of `result` to the optimum, in place; `options` are those of `solve`."""
    samples, l2 = rows.samples, rows.settings.l2
    most = max(1, rows.n // 4096)
    threads = min(rows.settings.threads, most)
    workers = min(WORKERS, most) if rows.settings.deterministic else threads
    vectors = workers + 26 + (workers + 4) * (samples.columns if how == "newton" else 0)
    memory.need(f"polishing {samples.columns:,} weights", 8.0 * vectors * samples.columns)
    target.give(samples)
    total = _Sum(rows, threads, workers, result.intercept)
    x = np.append(result.w, 0).astype(np.float64)
    x[-1] = result.intercept / total.root if total.root else 0
    begun, called = time.perf_counter(), time.perf_counter()
    before = result.epochs, result.rows, result.nnz, result.seconds
    watch, callback = options.get("watch"), options.get("callback")
    goal = -math.inf if watch is None or watch.target is None else watch.target
    deadline = options.get("deadline") or math.inf
    best, first, trained = None, math.inf, len(result.history)

    def count() -> float:
        epochs, seen, nonzeros, seconds = before
        result.epochs, result.rows = epochs + total.calls, seen + total.calls * rows.n
        result.nnz = nonzeros + total.calls * samples.nonzeros
        now = time.perf_counter()
        result.seconds = seconds + now - begun
        return now

    def enough(state: Any) -> str:
        """Say why to stop, or nothing."""
        nonlocal called, first
        value, square, now = float(state.f), float(state.g @ state.g), count()
        record = {"epoch": result.epochs, "seconds": result.seconds, "rows": result.rows}
        result.history.append(record | {"objective": value})
        first = square if math.isinf(first) else first
        if l2 > 0 and square - state.g[-1] ** 2 <= 2 * l2 * WITHIN * abs(value):
            left = total.within(state.x, state.g)
            if left <= WITHIN * abs(value):
                return f"the objective is within {left:.2g} of its minimum"
        if l2 == 0 and square <= WITHIN**2 * first:
            return "the gradient has vanished"
        if value <= goal:
            return f"the objective has reached the target {goal:g}"
        if now >= deadline:
            return "the time budget is used up"
        if callback is not None and now - called >= CALLBACK_EVERY:
            called = now
            rate = result.nnz / result.seconds if result.seconds else 0.0
            known = (result.epochs, result.epochs, result.rows, result.rows, result.seconds, rate)
            which = options.get("problem", 0), options.get("problems", 1)
            if callback(Progress(*known, value, *which)) is True:
                result.status = "stopped"
                return "the callback asked to stop"
        return ""

    def finish(words: str) -> None:
        count()
        result.message = words
        if best is not None:
            result.w, result.intercept = best.x[:-1].astype(rows.dtype), total.intercept(best.x)
            result.last, result.last_intercept = result.w, result.intercept

    words = ""
    if how == "newton":
        steps = newton(total, x)
    else:
        steps = lbfgs(Objective(total, x, jac=True), x, threads=threads)
    try:
        for state in steps:
            if best is None or state.f <= best.f:
                best = state
            words = enough(state)
            if words or len(result.history) - trained > ITERATIONS:
                break
    except KeyboardInterrupt as interrupt:
        result.status = "interrupted"
        finish("interrupted; the model is usable")
        interrupt.result = result
        raise
    finish(f"polished: {words or 'it came to the end of its precision or iterations'}")
