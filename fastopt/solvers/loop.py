"""The loop around every solver: when it ends, why, what is traced, and what comes back.

A solver is a generator of `State`s, the start first; where it cannot go on it returns a reason and
a sentence. The arrays that it yields are not written again: the best state is kept, not copied, and
Ctrl-C finds a whole point.
"""

from __future__ import annotations

import inspect
import math
import time
from collections.abc import Callable, Generator
from typing import Any, NamedTuple

import numpy as np

from fastopt.solvers.objective import Objective
from fastopt.solvers.result import STATUS, TRACE, OptimizeResult


class State(NamedTuple):
    """Where a solver is: grad_norm is the largest component of what must vanish at a minimum."""

    x: np.ndarray
    f: float
    g: np.ndarray
    grad_norm: float
    step: float = 0.0
    saddle: bool = False  # the gradient may be small, but the curvature is negative
    curvature: bool = False  # it is not: the second-order condition was checked
    extra: dict[str, Any] | None = None


Steps = Generator[State, None, tuple[str, str]]

#: Iterations without a new least value or gradient before the end of the precision is stated.
PATIENCE = 50


def drive(
    steps: Steps,
    objective: Objective,
    x0: np.ndarray,
    *,
    gtol: float,
    ftol: float,
    maxiter: int,
    maxfev: float,
    callback: Callable[..., Any] | None,
) -> OptimizeResult:
    """Run a solver to its end."""
    began = time.perf_counter()
    rows: list[tuple[float, float, float, float, int]] = []
    best = state = None
    tell = teller(callback)
    end = _Endings(objective, gtol, ftol, maxiter, maxfev)
    try:
        while True:
            try:
                new = next(steps)
            except StopIteration as finished:
                reason = finished.value
                break
            state = new
            if best is None or not state.f > best.f:
                best = state
            seconds = time.perf_counter() - began
            rows.append((state.f, state.grad_norm, state.step, seconds, objective.nfev))
            reason = end.of(state)
            if tell is not None and len(rows) > 1 and tell(state.x, state.f):
                reason = reason if reason[0] == "converged" else _by_callback(len(rows) - 1)
            if reason[0]:
                break
    except KeyboardInterrupt:
        if state is None:
            raise
        reason = "interrupted", f"interrupted after {len(rows) - 1} iterations"
    finally:
        steps.close()
    if reason[0] != "converged" and best is not None and math.isfinite(best.f):
        state = best
    x = state.x.copy() if state is not None else x0
    g = state.g.copy() if state is not None else np.full_like(x0, math.nan)
    return OptimizeResult(
        x=x,
        fun=state.f if state is not None else math.nan,
        jac=g,
        nit=max(0, len(rows) - 1),
        nfev=objective.nfev,
        njev=objective.njev,
        nhev=objective.nhev,
        success=reason[0] == "converged",
        status=STATUS[reason[0]],
        reason=reason[0],
        message=reason[1],
        trace=np.array(rows, TRACE),
        **((state.extra if state is not None else None) or {}),
    )


class _Endings:
    """Looks at each state for a reason to end."""

    def __init__(
        self, objective: Objective, gtol: float, ftol: float, maxiter: int, maxfev: float
    ) -> None:
        self.objective, self.gtol, self.ftol = objective, gtol, ftol
        self.maxiter, self.maxfev = maxiter, maxfev
        self.nit, self.since = -1, 0
        self.first = self.before = self.least_f = self.least_g = math.inf

    def of(self, state: State) -> tuple[str, str]:
        """Return the reason and the sentence, both empty to go on."""
        self.nit += 1
        f, norm, eps = state.f, state.grad_norm, self.objective.eps
        if not (math.isfinite(f) and math.isfinite(norm)):
            what = "the value" if not math.isfinite(f) else "the gradient"
            return "non-finite", f"{what} is not finite at {'x0' if self.nit == 0 else 'x'}"
        if self.nit == 0:
            self.first = max(1.0, abs(f))
        if norm <= self.gtol and not state.saddle:
            return "converged", self._small(norm, state.curvature)
        if f < -self.first / eps**2:
            return "unbounded", f"the function falls without bound: {f:.3g}"
        fell = self.before - f
        if self.nit > 0 and self.ftol > 0 and state.step > 0:
            if 0 <= fell <= self.ftol * max(abs(f), abs(self.before), 1.0):
                return "converged", f"the last step lowered the value by {fell:.3g}, within ftol"
        self.before = f
        if self.nit >= self.maxiter:
            return "iterations", f"{self.nit} iterations, as many as maxiter allows"
        if self.objective.nfev >= self.maxfev:
            return "evaluations", f"{self.objective.nfev} evaluations, as many as maxfev allows"
        self.since += 1
        if f < self.least_f - eps * abs(f) or norm < 0.99 * self.least_g:
            self.since = 0
        self.least_f, self.least_g = min(f, self.least_f), min(norm, self.least_g)
        if self.since >= PATIENCE:
            return "precision", (
                f"{PATIENCE} iterations lowered neither the value nor the gradient, {norm:.3g}: "
                "flat, noisy, or at the end of its precision"
            )
        return "", ""

    def _small(self, norm: float, curvature: bool) -> str:
        where = "x0" if self.nit == 0 else "x"
        text = f"the gradient's largest component is {norm:.3g}, within gtol = {self.gtol:g}"
        if curvature:
            return text + "; the Hessian has no negative eigenvalue"
        if self.nit == 0:
            return text + f", at {where} already: a stationary point, which need not be a minimum"
        return text


def _by_callback(nit: int) -> tuple[str, str]:
    return "callback", f"stopped by the callback after {nit} iterations"


def teller(callback: Callable[..., Any] | None) -> Callable[[np.ndarray, float], bool] | None:
    """Return a call with a point and its value that says whether to stop.

    SciPy's two kinds of callbacks are told by the parameter's name.
    """
    if callback is None:
        return None
    try:
        names = list(inspect.signature(callback).parameters)
    except (TypeError, ValueError):
        names = []

    def tell(x: np.ndarray, f: float) -> bool:
        try:
            if names == ["intermediate_result"]:
                return callback(intermediate_result=OptimizeResult(x=x.copy(), fun=f)) is True
            return callback(x.copy()) is True
        except StopIteration:
            return True

    return tell
