"""Newton's method with the exact Hessian, made positive definite where it is not."""

from __future__ import annotations

import math

import numpy as np

from fastopt.checks import number
from fastopt.solvers.line_search import search_wolfe
from fastopt.solvers.loop import State, Steps
from fastopt.solvers.objective import Objective
from fastopt.solvers.vectors import Lines, Trial


def newton(
    objective: Objective, x0: np.ndarray, *, c1: float = 1e-4, c2: float = 0.9, gtol: float = 1e-5
) -> Steps:
    """Yield the states of x += t p, H p = -g.

    Where H has no Cholesky factor, its eigenvalues are replaced by their magnitudes, those near 0
    by sqrt(eps) of the largest (Nocedal and Wright, section 3.4). Where the gradient is small and
    an eigenvalue negative, the step is along its eigenvector.
    """
    c1 = number("c1", c1, 0, 1, open_below=True)
    c2 = number("c2", c2, c1, 1, open_below=True)
    lines = Lines(objective, 1)
    x, d = x0.copy(), lines.empty()
    f, g, _, norm = lines.first(x)
    step = 0.0
    while True:
        finite = math.isfinite(f) and math.isfinite(norm)
        model = Factors(objective.hessian(x, g), objective.curvature_error) if finite else None
        if model is not None and not model.finite:
            yield State(x, f, g, norm, step)
            return "non-finite", "the Hessian is not finite"
        saddle = model is not None and model.least < 0
        yield State(x, f, g, norm, step, saddle, model is not None and not saddle)
        noise = 10 * objective.eps * abs(f)
        trial = Trial(0.0, f, 0.0)
        message = "the gradient vanishes, the curvature is negative"
        if not (saddle and norm <= gtol):
            d[:] = model.step(g)
            slope = lines.passes.dot(d, g)[0]
            if not -math.inf < slope < 0:
                d[:] = -g
                slope = lines.passes.dot(d, g)[0]
            if slope < 0:
                found = search_wolfe(
                    lines.along(x, d), Trial(0.0, f, slope), 1.0, c1, c2, noise=noise
                )
                trial, message = found.trial, found.message
        if trial.t == 0 and saddle:
            trial = _along_curvature(lines, x, f, model.lowest, noise)
            d[:] = model.lowest
        if trial.t == 0:
            return "line search", f"along Newton's direction {message}"
        x = lines.moved(x, trial.t, d)
        f, g, norm, step = trial.f, trial.g, trial.grad_norm, trial.t


class Factors:
    """A Hessian's factors: by Cholesky where it is positive definite, else by eigenvalues."""

    def __init__(self, h: np.ndarray, error: float) -> None:
        self.finite = bool(np.isfinite(h).all())
        self.h, self.least, self.lowest, self.values = h, 0.0, h[0], None
        if not self.finite:
            return
        try:
            factor = np.linalg.cholesky(h)
            # a factor of a matrix that is singular to rounding is one by accident
            if np.diag(factor).min() ** 2 > 1e-14 * np.abs(np.diag(h)).max():
                return
        except np.linalg.LinAlgError:
            pass
        values, self.vectors = np.linalg.eigh(h)
        largest = max(float(np.abs(values).max()), np.finfo(float).tiny)
        if values[0] < -error * largest:
            self.least, self.lowest = float(values[0]), self.vectors[:, 0]
        self.values = np.maximum(np.abs(values), 1.5e-8 * largest)

    def step(self, g: np.ndarray) -> np.ndarray:
        """Return -H^-1 g, with H's eigenvalues made positive."""
        g = g.astype("f8")
        if self.values is None:
            return -np.linalg.solve(self.h, g)
        with np.errstate(over="ignore", invalid="ignore"):  # H of 0: then -g is taken
            return -self.vectors @ ((self.vectors.T @ g) / self.values)


def _along_curvature(
    lines: Lines, x: np.ndarray, f: float, lowest: np.ndarray, noise: float
) -> Trial:
    """Return the first trial that is lower, from long to short, to both sides."""
    d = lowest.astype(x.dtype)
    phi = lines.along(x, d)
    t = max(1.0, float(np.abs(x).max()))
    for _ in range(30):
        for trial in (phi(t), phi(-t)):
            if trial.f < f - noise and math.isfinite(trial.slope):
                return trial
        t *= 0.3
    return Trial(0.0, f, 0.0)
