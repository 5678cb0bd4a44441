"""One method on one problem: every step written down, with the clock stopped meanwhile."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastopt.convergence.problems import Problem
from fastopt.convergence.rates import Rate, rate_of
from fastopt.rules.adaptive import Rprop
from fastopt.rules.wrappers import SAM

__all__ = ["History"]


@dataclass(frozen=True, eq=False)
class History:
    """What a method did; arrays have one element for x0 and one for each step.

    Attributes
    ----------
    method : str
        The label.
    lr : float
        The learning rate in the first step; nan for a solver.
    status : {"converged", "steps", "left", "diverged", "stopped"}
        The norm of the gradient came down to `tol`; all steps were taken; f fell below the
        problem's floor; f or the gradient was not finite, of which only finite points are kept;
        or the solver stopped before.
    message : str
        What a solver said.
    f, grad_norm : numpy.ndarray of shape (steps + 1,)
        Value, and 2-norm of the gradient.
    errors : numpy.ndarray of shape (steps + 1,)
        f - f(optimum), nowhere below 0; the norms of the gradient where no optimum is known.
    seconds : numpy.ndarray of shape (steps + 1,)
        Time until then, without that of writing down.
    evaluations : numpy.ndarray of shape (steps + 1,)
        Calls of fun, grad and hess until then that the method asked for.
    x : numpy.ndarray of shape (n,)
        The last point.
    points : numpy.ndarray of shape (steps + 1, 2) or None
        All points, of functions of two variables.
    rate : Rate
        What `rate_of` says of `errors`.
    """

    method: str
    lr: float
    status: str
    message: str
    f: np.ndarray
    grad_norm: np.ndarray
    errors: np.ndarray
    seconds: np.ndarray
    evaluations: np.ndarray
    x: np.ndarray
    points: np.ndarray | None
    rate: Rate

    @property
    def steps(self) -> int:
        """Steps taken."""
        return len(self.f) - 1


class Done(Exception):
    """Enough steps are written down."""


class Recorder:
    """Hands a problem's functions to a method, counts its calls, and writes its steps down."""

    def __init__(self, problem: Problem, tol: float, steps: int) -> None:
        self.problem, self.tol, self.steps = problem, tol, steps
        self.rows: list[tuple[float, float, float, int]] = []
        self.points: list[np.ndarray] = []
        self.calls, self.idle, self.status = 0, 0.0, ""
        self.start = time.perf_counter()

    def counted(self, function: Callable[[np.ndarray], Any]) -> Callable[[np.ndarray], Any]:
        """Return the function, its calls counted."""

        def call(x: np.ndarray) -> Any:
            self.calls += 1
            return function(x)

        return call

    def gradient(self, x: np.ndarray) -> np.ndarray:
        """Return the gradient at `x`, of its shape and type, which count as asked for."""
        self.calls += 1
        return self._gradient(x)

    def _gradient(self, x: np.ndarray) -> np.ndarray:
        g = np.asarray(self.problem.grad(x.ravel()))
        if g.shape != self.problem.x0.shape:
            raise ValueError(
                f"grad must return the shape of x0, {self.problem.x0.shape}, got {g.shape}"
            )
        return np.array(g, x.dtype).reshape(x.shape)

    def write(self, x: np.ndarray) -> None:
        """Write down that the method is at `x`; raises Done if the run is over."""
        now = time.perf_counter()
        x = np.array(x, self.problem.x0.dtype).ravel()
        value = float(self.problem.fun(x))
        norm = float(np.linalg.norm(self._gradient(x).astype(np.float64)))
        if not (math.isfinite(value) and math.isfinite(norm) and np.isfinite(x).all()):
            if not self.rows:
                raise ValueError("fun and grad must be finite at x0")
            self.status = "diverged"
            raise Done
        self.rows.append((value, norm, now - self.start - self.idle, self.calls))
        if x.size == 2 or not self.points:
            self.points.append(x)
        else:
            self.points[0] = x
        self.status = (
            "converged" if norm <= self.tol
            else "left" if value < self.problem.floor
            else "steps" if len(self.rows) > self.steps
            else ""
        )  # fmt: skip
        if self.status:
            raise Done
        self.idle += time.perf_counter() - now

    def history(self, method: str, lr: float, message: str) -> History:
        """Return what is written down."""
        f, norm, seconds, calls = (np.array(column) for column in zip(*self.rows, strict=True))
        least = self.problem.minimum
        diverged = self.status in ("diverged", "left")
        if least is None:
            errors, floor = norm, 0.0
        else:
            errors = np.maximum(f - least, 0.0)
            floor = 4 * float(np.finfo(self.problem.x0.dtype).eps) * abs(least)
        rate = rate_of(np.append(errors, math.inf) if diverged else errors, floor)
        points = np.array(self.points) if self.problem.x0.size == 2 else None
        return History(method, lr, self.status or "stopped", message, f, norm, errors, seconds,
                       calls.astype(int), self.points[-1], points, rate)  # fmt: skip


def run_rule(recorder: Recorder, opt: Any, w: np.ndarray) -> None:
    """Take steps of an optimizer that moves `w`, until enough are written down."""
    recorder.write(w)
    told = isinstance(opt, Rprop) and opt.param_groups[0]["variant"] == "iplus"
    while True:
        if told:
            opt.loss = float(recorder.counted(recorder.problem.fun)(w.ravel()))
        if isinstance(opt, SAM):
            opt.minimize_step(lambda: recorder.gradient(w))
        else:
            opt.step(recorder.gradient(w))
        if not hasattr(opt, "eval"):
            recorder.write(w)
            continue
        point = w.copy()
        opt.eval()  # a schedule-free rule's result is an average beside the point
        average = w.copy()
        opt.train()
        w[...] = point  # there and back has rounded it
        recorder.write(average)


def run_solver(recorder: Recorder, method: str, options: dict[str, Any]) -> str:
    """Run a solver of `fastopt.minimize`, and return its message."""
    from fastopt import minimize

    problem = recorder.problem
    settings: dict[str, Any] = {"maxiter": recorder.steps}
    if method == "random-search":
        if problem.limits is None:
            raise ValueError("methods: random-search needs the limits of a Problem to draw from")
        settings = {"n": recorder.steps, "seed": 0}
    elif method == "owl-qn":
        settings["l1"] = 0.0  # its penalty is not the problem's
    recorder.write(problem.x0)
    found = minimize(
        recorder.counted(problem.fun),
        problem.x0.copy(),
        method=method,
        jac=recorder.gradient,
        hess=None if problem.hess is None else recorder.counted(problem.hess),
        bounds=problem.limits if method == "random-search" else None,
        tol=recorder.tol / math.sqrt(problem.x0.size),  # of the largest component, not of the norm
        callback=lambda xk: recorder.write(xk),
        options={**settings, **options},
    )
    if not np.array_equal(found.x, recorder.points[-1]):
        recorder.write(found.x)
    return str(found.message)
