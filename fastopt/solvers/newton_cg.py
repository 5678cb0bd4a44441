"""Newton's method with conjugate gradients and Hessian-vector products, along lines."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from fastopt.checks import number
from fastopt.solvers.line_search import search_wolfe
from fastopt.solvers.loop import State, Steps
from fastopt.solvers.objective import Objective
from fastopt.solvers.vectors import Lines, Trial


def newton_cg(objective: Objective, x0: np.ndarray, *, c1: float = 1e-4, c2: float = 0.9) -> Steps:
    """Yield the states of line-search Newton-CG (Nocedal and Wright, Algorithm 7.1)."""
    c1 = number("c1", c1, 0, 1, open_below=True)
    c2 = number("c2", c2, c1, 1, open_below=True)
    lines = Lines(objective, 1)
    x, d = x0.copy(), lines.empty()
    f, g, _, norm = lines.first(x)
    yield State(x, f, g, norm)
    while True:

        def product(p: np.ndarray, x: np.ndarray = x, g: np.ndarray = g) -> np.ndarray:
            return objective.product(x, g, p.astype(x.dtype))

        size = math.sqrt(float(g.astype("f8") @ g))
        d[:] = conjugate(product, g.astype("f8"), min(0.5, math.sqrt(size)) * size)[0]
        slope = lines.passes.dot(d, g)[0]
        if not -math.inf < slope < 0:
            d[:] = -g
            slope = lines.passes.dot(d, g)[0]
        if not -math.inf < slope < 0:
            return "precision", f"no direction descends: the slope of -g is {slope:g}"
        noise = 10 * objective.eps * abs(f)
        found = search_wolfe(lines.along(x, d), Trial(0.0, f, slope), 1.0, c1, c2, noise=noise)
        trial = found.trial
        if trial.t == 0:
            return "line search", f"along Newton's direction {found.message}"
        x = lines.moved(x, trial.t, d)
        f, g = trial.f, trial.g
        yield State(x, f, g, trial.grad_norm, trial.t)


def conjugate(
    product: Callable[[np.ndarray], np.ndarray],
    g: np.ndarray,
    tolerance: float,
    radius: float = math.inf,
) -> tuple[np.ndarray, bool]:
    """Return p that nearly minimizes g.p + p.Hp / 2 within a radius, and whether it ends there.

    Steihaug's conjugate gradients (Nocedal and Wright, Algorithm 7.2). Negative curvature is
    followed to the border; without one, what there was before is returned, or -g.
    """
    p, r, d = np.zeros_like(g), g.copy(), -g
    rr = float(r @ r)
    for _ in range(20 * len(g)):
        if math.sqrt(rr) <= tolerance:
            break
        hd = product(d)
        curve = float(d @ hd)
        if not math.isfinite(curve):
            break
        if curve <= 1e-300 or curve <= 1e-14 * float(d @ d) * 1e-8:
            if math.isinf(radius):
                return (p if p.any() else d), False
            return p + to_border(p, d, radius) * d, True
        alpha = rr / curve
        ahead = p + alpha * d
        if math.sqrt(float(ahead @ ahead)) >= radius:
            return p + to_border(p, d, radius) * d, True
        p = ahead
        r = r + alpha * hd
        before, rr = rr, float(r @ r)
        d = (rr / before) * d - r
    return p, False


def to_border(p: np.ndarray, d: np.ndarray, radius: float) -> float:
    """Return the t >= 0 with |p + t d| = radius."""
    a, b, c = float(d @ d), float(p @ d), float(p @ p) - radius**2
    root = math.sqrt(max(0.0, b * b - a * c))
    return -c / (b + root) if b > 0 else (root - b) / a
