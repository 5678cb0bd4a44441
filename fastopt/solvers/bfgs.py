"""BFGS with the inverse Hessian as a matrix."""

from __future__ import annotations

import math

import numpy as np

from fastopt.checks import number
from fastopt.solvers.line_search import search_wolfe
from fastopt.solvers.loop import State, Steps
from fastopt.solvers.objective import Objective
from fastopt.solvers.vectors import Lines, Trial


def bfgs(objective: Objective, x0: np.ndarray, *, c1: float = 1e-4, c2: float = 0.9) -> Steps:
    """Yield the states of BFGS (Nocedal and Wright, Algorithm 6.1, update 6.17).

    The first matrix is the identity, scaled by s.y / y.y before its first update (6.20). It is in
    float64 whatever x is. Where its direction does not descend, it starts again.
    """
    c1 = number("c1", c1, 0, 1, open_below=True)
    c2 = number("c2", c2, c1, 1, open_below=True)
    lines = Lines(objective, 1)
    x, d, h = x0.copy(), lines.empty(), None
    f, g, square, norm = lines.first(x)
    identity = np.eye(objective.n)
    yield State(x, f, g, norm, extra={"hess_inv": identity})
    while True:
        d[:] = -g if h is None else -(h @ g)
        slope = lines.passes.dot(d, g)[0]
        if not -math.inf < slope < 0:
            if h is None:
                return "precision", f"no direction descends: the slope of -g is {slope:g}"
            h, square = None, lines.passes.dot(g, g)[1]
            continue
        first = min(1.0, 1 / math.sqrt(square)) if h is None else 1.0
        found = search_wolfe(
            lines.along(x, d), Trial(0.0, f, slope), first, c1, c2,
            noise=10 * objective.eps * abs(f),
        )  # fmt: skip
        trial = found.trial
        if trial.t == 0:
            if h is None:
                return "line search", f"along the gradient {found.message}"
            h, square = None, lines.passes.dot(g, g)[1]
            continue
        moved = lines.moved(x, trial.t, d)
        s, y = (moved - x).astype("f8"), trial.g.astype("f8") - g
        sy, yy = float(s @ y), float(y @ y)
        if sy > objective.eps * math.sqrt(float(s @ s) * yy):
            if h is None:
                h = identity * (sy / yy)
            hy = h @ y
            h = h + (np.outer(s, s) * ((sy + y @ hy) / sy) - np.outer(hy, s) - np.outer(s, hy)) / sy
        elif h is None:
            square = lines.passes.dot(trial.g, trial.g)[1]
        x, f, g = moved, trial.f, trial.g
        extra = {"hess_inv": identity if h is None else h}
        yield State(x, f, g, trial.grad_norm, trial.t, extra=extra)
