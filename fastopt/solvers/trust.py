"""Trust regions: Steihaug's conjugate gradients, or the exact subproblem by eigenvalues."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from fastopt.checks import number
from fastopt.solvers.loop import State, Steps
from fastopt.solvers.newton_cg import conjugate
from fastopt.solvers.objective import Objective
from fastopt.solvers.vectors import Lines


def trust_ncg(
    objective: Objective,
    x0: np.ndarray,
    *,
    initial_trust_radius: float = 1.0,
    max_trust_radius: float = 1e10,
    eta: float = 0.15,
) -> Steps:
    """Return the states of the trust-region method with conjugate gradients."""
    return _trust(objective, x0, _Products, initial_trust_radius, max_trust_radius, eta)


def trust_exact(
    objective: Objective,
    x0: np.ndarray,
    *,
    initial_trust_radius: float = 1.0,
    max_trust_radius: float = 1e10,
    eta: float = 0.15,
) -> Steps:
    """Return the states of the trust-region method whose subproblems are solved exactly."""
    return _trust(objective, x0, _Eigen, initial_trust_radius, max_trust_radius, eta)


def _trust(
    objective: Objective, x0: np.ndarray, model_of: Any, radius: float, most: float, eta: float
) -> Steps:
    """Nocedal and Wright, Algorithm 4.1. A trial that is not finite is one that is too long."""
    radius = number("initial_trust_radius", radius, 0, open_below=True)
    most = number("max_trust_radius", most, radius)
    eta = number("eta", eta, 0, 0.25)
    lines = Lines(objective, 1)
    x = x0.copy()
    f, g, _, norm = lines.first(x)
    step, model = 0.0, None
    while True:
        if model is None:
            finite = math.isfinite(f) and math.isfinite(norm)
            model = model_of(objective, x, g) if finite else None
            if model is not None and not model.finite:
                yield State(x, f, g, norm, step)
                return "non-finite", "the Hessian is not finite"
        saddle = model is not None and model.saddle
        yield State(x, f, g, norm, step, saddle, model is not None and model.convex)
        p, border = model.solve(radius)
        predicted = model.fall(p)
        d = p.astype(x.dtype)
        trial = lines.along(x, d)(1.0)
        size = math.sqrt(float(p @ p))
        noise = 10 * objective.eps * max(abs(f), 1e-300)
        ok = math.isfinite(trial.f) and math.isfinite(trial.slope)
        fell = f - trial.f if ok else -math.inf
        if ok and abs(fell) <= noise and predicted <= noise:  # slopes are known, values are not
            ratio = 1.0 if trial.grad_norm < norm else 0.0
        else:
            ratio = fell / predicted if predicted > 0 else -math.inf
        if not ratio >= 0.25:
            radius = 0.25 * min(radius, size) if size > 0 else 0.25 * radius
        elif ratio > 0.75 and border:
            radius = min(2 * radius, most)
        step = 0.0
        if ratio > eta:
            x = lines.moved(x, 1.0, d)
            f, g, norm, step, model = trial.f, trial.g, trial.grad_norm, size, None
        elif radius <= objective.eps * 1e-3 * max(1e-10, float(np.abs(x).max())):
            why = "no value near x was finite" if not ok else "no step lowers the value"
            return ("precision" if ok else "non-finite"), f"the trust region vanished: {why}"


class _Products:
    """The quadratic model of which only products are known."""

    finite, saddle, convex = True, False, False

    def __init__(self, objective: Objective, x: np.ndarray, g: np.ndarray) -> None:
        self.g = g.astype("f8")

        def product(p: np.ndarray) -> np.ndarray:
            return objective.product(x, g, p.astype(x.dtype))

        self.product: Callable[[np.ndarray], np.ndarray] = product

    def solve(self, radius: float) -> tuple[np.ndarray, bool]:
        """Return the step, and whether it ends at the border."""
        size = math.sqrt(float(self.g @ self.g))
        return conjugate(self.product, self.g, min(0.5, math.sqrt(size)) * size, radius)

    def fall(self, p: np.ndarray) -> float:
        """Return how much the model falls."""
        return -float(self.g @ p + 0.5 * (p @ self.product(p)))


class _Eigen:
    """The quadratic model in the Hessian's eigenvectors."""

    def __init__(self, objective: Objective, x: np.ndarray, g: np.ndarray) -> None:
        h = objective.hessian(x, g)
        self.finite = bool(np.isfinite(h).all())
        if not self.finite:
            return
        self.values, self.vectors = np.linalg.eigh(h)
        self.g = self.vectors.T @ g.astype("f8")
        largest = float(np.abs(self.values).max())
        self.saddle = bool(self.values[0] < -objective.curvature_error * largest)
        self.convex = not self.saddle

    def solve(self, radius: float) -> tuple[np.ndarray, bool]:
        """Return the minimizer within the radius, and whether it lies at the border."""
        with np.errstate(over="ignore"):
            return self._solve(radius)

    def _solve(self, radius: float) -> tuple[np.ndarray, bool]:
        least, g = float(self.values[0]), self.g
        if least > 0:
            p = -g / self.values
            if p @ p <= radius**2:
                return self.vectors @ p, False
        # p(shift) = -g / (values + shift) shrinks as the shift grows from -least (Moré, Sorensen)
        low = max(0.0, -least)
        high = low + math.sqrt(float(g @ g)) / radius + 1e-300
        tiny = 1e-14 * max(1e-300, float(np.abs(self.values).max()))
        if self._size(low + tiny) < radius:  # the hard case: no shift makes it long enough
            p = self._at(low + tiny)
            if least >= -tiny:
                return self.vectors @ p, False
            p[0] += math.copysign(math.sqrt(max(0.0, radius**2 - float(p @ p))), -g[0])
            return self.vectors @ p, True
        shift = low + tiny
        for _ in range(100):  # Newton's method on 1 / radius - 1 / |p| (4.43), kept inside
            p = self._at(shift)
            size = math.sqrt(float(p @ p))
            if abs(size - radius) <= 1e-10 * radius:
                break
            low, high = (shift, high) if size > radius else (low, shift)
            bend = float(p @ (p / np.maximum(self.values + shift, 1e-300)))
            shift += size**2 / bend * (size - radius) / radius
            if not low < shift < high:
                shift = 0.5 * (low + high)
        return self.vectors @ self._at(shift), True

    def _at(self, shift: float) -> np.ndarray:
        return -self.g / np.maximum(self.values + shift, 1e-300)

    def _size(self, shift: float) -> float:
        p = self._at(shift)
        return math.sqrt(float(p @ p))

    def fall(self, p: np.ndarray) -> float:
        """Return how much the model falls."""
        q = self.vectors.T @ p
        return -float(self.g @ q + 0.5 * (q @ (self.values * q)))
