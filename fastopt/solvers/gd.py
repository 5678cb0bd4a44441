"""Gradient descent, with a fixed step or by backtracking."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from fastopt.checks import number
from fastopt.solvers.line_search import search_backtracking
from fastopt.solvers.loop import State, Steps
from fastopt.solvers.objective import Objective
from fastopt.solvers.vectors import Lines, Trial


def gd(
    objective: Objective,
    x0: np.ndarray,
    *,
    lr: float | None = None,
    c1: float = 1e-4,
    threads: int | None = None,
) -> Steps:
    """Yield the states of x -= t g; t is `lr`, or backtracked from twice the last one."""
    lr = None if lr is None else number("lr", lr, 0, open_below=True)
    c1 = number("c1", c1, 0, 1, open_below=True)
    lines = Lines(objective, threads)
    x, d = x0.copy(), lines.empty()
    f, g, square, norm = lines.first(x)
    yield State(x, f, g, norm)
    t = min(1.0, 1 / math.sqrt(square)) if square > 0 else 1.0
    while True:
        slope = lines.passes.combine(d, -1.0, g, 0.0, g, g)[0]
        phi = _whole(lines.along(x, d))
        if lr is not None:
            trial = phi(lr)
            if not (math.isfinite(trial.f) and math.isfinite(trial.slope)):
                return "non-finite", f"the step lr = {lr:g} leads to a value that is not finite"
        else:
            if not -math.inf < slope < 0:
                return "precision", f"the gradient does not descend: its slope is {slope:g}"
            start = Trial(0.0, f, slope)
            found = search_backtracking(phi, start, t, c1, noise=objective.eps * abs(f))
            trial = found.trial
            if trial.t == 0:
                return "line search", f"along the gradient {found.message}"
            t = 2 * trial.t
        x = lines.moved(x, trial.t, d)
        f, g = trial.f, trial.g
        yield State(x, f, g, trial.grad_norm, trial.t)


def _whole(phi: Callable[[float], Trial]) -> Callable[[float], Trial]:
    """Return phi with no value where there is no gradient: backtracking looks at values alone."""

    def whole(t: float) -> Trial:
        trial = phi(t)
        return trial if math.isfinite(trial.slope) else trial._replace(f=math.nan)

    return whole
