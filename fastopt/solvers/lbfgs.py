"""L-BFGS: the two-loop recursion, in O(memory n) time and memory."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from fastopt.checks import count, number
from fastopt.solvers.history import History
from fastopt.solvers.line_search import search_wolfe
from fastopt.solvers.loop import State, Steps, drive
from fastopt.solvers.objective import Objective
from fastopt.solvers.result import OptimizeResult
from fastopt.solvers.vectors import Lines, Trial


def lbfgs(
    objective: Objective,
    x0: np.ndarray,
    *,
    memory: int = 10,
    c1: float = 1e-4,
    c2: float = 0.9,
    threads: int | None = None,
) -> Steps:
    """Yield the states of L-BFGS (Nocedal and Wright, Algorithm 7.5)."""
    memory = count("memory", memory, 1)
    c1 = number("c1", c1, 0, 1, open_below=True)
    c2 = number("c2", c2, c1, 1, open_below=True)
    lines = Lines(objective, threads)
    x, d = x0.copy(), lines.empty()
    f, g, square, norm = lines.first(x)
    yield State(x, f, g, norm)
    history = History(lines, memory)
    while True:
        slope = history.direct(d, g)
        if not -math.inf < slope < 0 and history.order:
            history.clear()
            continue
        if not -math.inf < slope < 0:
            return "precision", f"no direction descends: the slope of -g is {slope:g}"
        first = 1.0 if history.order else min(1.0, 1 / math.sqrt(square))
        noise = 10 * objective.eps * abs(f)
        found = search_wolfe(lines.along(x, d), Trial(0.0, f, slope), first, c1, c2, noise=noise)
        trial = found.trial
        if trial.t == 0:
            if history.order:  # from the gradient alone, before giving up
                history.clear()
                square = lines.passes.dot(g, g)[1]
                continue
            return "line search", f"along the gradient {found.message}"
        x = history.move(x, trial.t, d, trial.g, g)
        f, g = trial.f, trial.g
        square = 1.0 if history.order else lines.passes.dot(g, g)[1]
        yield State(x, f, g, trial.grad_norm, trial.t)


def solve_lbfgs(
    value_and_gradient: Callable[[np.ndarray], tuple[float, np.ndarray]],
    x0: np.ndarray,
    *,
    gtol: float = 1e-5,
    ftol: float = 0.0,
    maxiter: int = 15_000,
    memory: int = 10,
    threads: int | None = None,
    callback: Callable[..., Any] | None = None,
) -> OptimizeResult:
    """Minimize by L-BFGS for the other modules: x0 is checked already and stays as it is."""
    objective = Objective(value_and_gradient, x0, jac=True)
    steps = lbfgs(objective, x0, memory=memory, threads=threads)
    return drive(
        steps,
        objective,
        x0,
        gtol=gtol,
        ftol=ftol,
        maxiter=maxiter,
        maxfev=math.inf,
        callback=callback,
    )
