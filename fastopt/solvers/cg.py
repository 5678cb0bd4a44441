"""Nonlinear conjugate gradients: Fletcher-Reeves and Polak-Ribiere+."""

from __future__ import annotations

import math

import numpy as np

from fastopt.checks import number, one_of
from fastopt.solvers.line_search import search_wolfe
from fastopt.solvers.loop import State, Steps
from fastopt.solvers.objective import Objective
from fastopt.solvers.vectors import Lines, Trial


def cg(
    objective: Objective,
    x0: np.ndarray,
    *,
    beta: str = "pr+",
    c1: float = 1e-4,
    c2: float = 0.1,
    threads: int | None = None,
) -> Steps:
    """Yield the states of nonlinear CG (Nocedal and Wright, Algorithm 5.4).

    beta is g'g' / g.g (fr) or max(0, g'.(g' - g) / g.g) (pr+). Where a direction does not descend
    by a thousandth of what -g would, or FR's gradients are far from orthogonal (Powell's test), it
    starts again from -g.
    """
    beta = one_of("beta", beta, ("pr+", "fr"))
    c1 = number("c1", c1, 0, 1, open_below=True)
    c2 = number("c2", c2, c1, 1, open_below=True)
    lines = Lines(objective, threads)
    x, d = x0.copy(), lines.empty()
    f, g, square, norm = lines.first(x)
    yield State(x, f, g, norm)
    slope = lines.passes.combine(d, -1.0, g, 0.0, g, g)[0]
    t, steepest = min(1.0, 1 / math.sqrt(square)), True
    while True:
        if not -math.inf < slope < 0:
            return "precision", f"no direction descends: the slope of -g is {slope:g}"
        noise = 10 * objective.eps * abs(f)
        found = search_wolfe(lines.along(x, d), Trial(0.0, f, slope), t, c1, c2, noise=noise)
        trial = found.trial
        if trial.t == 0:
            if steepest:
                return "line search", f"along the gradient {found.message}"
            slope = lines.passes.combine(d, -1.0, g, 0.0, g, g)[0]
            t, steepest = min(1.0, 1 / math.sqrt(square)), True
            continue
        x = lines.moved(x, trial.t, d)
        both, after, _ = lines.passes.dot(trial.g, g)
        factor = after / square if beta == "fr" else max(0.0, (after - both) / square)
        if beta == "fr" and abs(both) >= 0.2 * after:
            factor = 0.0
        f, g, before = trial.f, trial.g, slope
        square = after
        yield State(x, f, g, trial.grad_norm, trial.t)
        slope = lines.passes.combine(d, -1.0, g, factor, d, g)[0]
        steepest = factor == 0
        if not slope <= -1e-3 * square:
            slope, steepest = lines.passes.combine(d, -1.0, g, 0.0, g, g)[0], True
        t = trial.t * min(10.0, before / slope) if slope < 0 else trial.t
