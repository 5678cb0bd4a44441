"""A function with its derivatives as the solvers see it: counted, checked, in one dtype."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from fastopt.checks import check_callable

DIFFERENCES = ("2-point", "3-point", "cs")


def as_point(name: str, x: Any) -> np.ndarray:
    """Return a point as an array of its own, float32 or float64, of one dimension."""
    try:
        point = np.asarray(x)
        if point.dtype.kind not in "biuf" or point.dtype.itemsize > 8:
            raise TypeError
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be an array of real numbers, got {x!r}") from None
    point = np.array(point, np.float32 if point.dtype == np.float32 else np.float64, order="C")
    if point.ndim > 1 or point.size == 0:
        raise ValueError(f"{name} must have shape (n,), n >= 1, got {point.shape}")
    if not np.isfinite(point).all():
        raise ValueError(f"{name} must be finite, got {x!r}")
    return point.reshape(-1)


class Objective:
    """Value, gradient, Hessian and Hessian-vector products, or differences in their place.

    The points that it is given are given away: the user's functions may write into them.
    """

    def __init__(
        self,
        fun: Callable[..., Any],
        x0: np.ndarray,
        args: tuple[Any, ...] = (),
        jac: Any = None,
        hess: Any = None,
        hessp: Any = None,
        bounds: tuple[np.ndarray, np.ndarray] | None = None,
    ) -> None:
        if not callable(fun):
            raise TypeError(f"fun must be callable, got {fun!r}")
        self.both = jac is True
        if jac is None or jac is False:
            # the error of a forward difference, 3e-4 in float32, is above any useful tolerance
            jac = "2-point" if x0.dtype == np.float64 else "3-point"
        if not self.both and not callable(jac) and jac not in DIFFERENCES:
            raise ValueError(
                f"jac must be True, callable, None or one of {DIFFERENCES}, got {jac!r}"
            )
        check_callable("hess", hess)
        check_callable("hessp", hessp)
        self.fun, self.args, self.jac, self.hess, self.hessp = fun, args, jac, hess, hessp
        self.dtype, self.n, self.bounds = x0.dtype, x0.size, bounds
        self.eps = float(np.finfo(x0.dtype).eps)
        self.nfev = self.njev = self.nhev = 0

    @property
    def differences(self) -> bool:
        """Whether gradients are differences of values."""
        return isinstance(self.jac, str)

    @property
    def curvature_error(self) -> float:
        """How much of the largest eigenvalue of a Hessian may be its error."""
        return self.eps ** (0.5 if self.hess is not None else 1 / 3)

    def __call__(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        """Return the value and the gradient; a gradient of NaN where the value is not finite."""
        if self.both:
            self.nfev += 1
            self.njev += 1
            found = self.fun(x, *self.args)
            if not (isinstance(found, (tuple, list)) and len(found) == 2):
                raise TypeError(f"jac=True: fun must return (value, gradient), got {found!r}")
            return _number(found[0]), self._gradient(found[1])
        f = self.value(x if self.differences else x.copy())
        if not math.isfinite(f):
            return f, np.full(self.n, math.nan, self.dtype)
        self.njev += 1
        if self.differences:
            return f, self._difference(x, f)
        return f, self._gradient(self.jac(x, *self.args))

    def value(self, x: np.ndarray) -> float:
        """Return the value alone."""
        self.nfev += 1
        if self.both:
            self.njev += 1
            return _number(self.fun(x, *self.args)[0])
        return _number(self.fun(x.copy() if self.differences else x, *self.args))

    def hessian(self, x: np.ndarray, g: np.ndarray) -> np.ndarray:
        """Return the Hessian in float64, or None where it is not finite."""
        self.nhev += 1
        if self.hess is not None:
            h = np.asarray(self.hess(x.copy(), *self.args), np.float64)
            if h.shape != (self.n, self.n) and h.size != 1:
                raise ValueError(f"hess must return shape ({self.n}, {self.n}), got {h.shape}")
            h = h.reshape(self.n, self.n)
        elif self.hessp is not None:
            h = np.stack([self.product(x, g, e) for e in np.eye(self.n, dtype=self.dtype)])
        else:
            h = np.stack([self._slope_change(x, g, e) for e in np.eye(self.n, dtype=self.dtype)])
        return (h + h.T) / 2

    def product(self, x: np.ndarray, g: np.ndarray, p: np.ndarray) -> np.ndarray:
        """Return the Hessian times p; g is the gradient at x."""
        if self.hessp is None and self.hess is None:
            self.nhev += 1
            return self._slope_change(x, g, p)
        if self.hessp is None:
            return self.hessian(x, g) @ p
        self.nhev += 1
        found = np.asarray(self.hessp(x.copy(), p.copy(), *self.args), np.float64)
        if found.shape != (self.n,) and found.size != 1:
            raise ValueError(f"hessp must return shape ({self.n},), got {found.shape}")
        return found.reshape(self.n)

    def _slope_change(self, x: np.ndarray, g: np.ndarray, p: np.ndarray) -> np.ndarray:
        """Return the central difference of gradients along p over the step."""
        size = float(np.abs(p).max(initial=0))
        if size == 0:
            return np.zeros(self.n)
        root = self.eps ** (0.25 if self.differences else 1 / 3)
        h = self.dtype.type(root * max(1.0, float(np.abs(x).max(initial=0))) / size)
        ahead, behind = x + h * p, x - h * p
        return (self(ahead)[1].astype("f8") - self(behind)[1]) / (2 * float(h))

    def _gradient(self, found: Any) -> np.ndarray:
        g = np.asarray(found)
        if np.iscomplexobj(g):
            raise TypeError("the gradient must be real")
        if g.shape != (self.n,) and not (self.n == 1 and g.size == 1):
            raise ValueError(f"the gradient must have shape ({self.n},), got {g.shape}")
        return np.ascontiguousarray(g.reshape(self.n), self.dtype)

    def _difference(self, x: np.ndarray, f: float) -> np.ndarray:
        if self.jac == "cs":
            return self._complex_step(x)
        g = np.empty(self.n, self.dtype)
        central = self.jac == "3-point"
        scale = self.eps ** (1 / 3 if central else 1 / 2)
        for k in range(self.n):
            at = float(x[k])
            h = scale * max(1.0, abs(at)) * (1 if at >= 0 else -1)
            ahead, behind = self._moved(x, k, at + h), self._moved(x, k, at - h)
            if ahead is None and behind is None:  # the bounds let it be nothing else
                g[k] = 0
                continue
            points = [ahead, behind] if central or ahead is None else [ahead]
            ends = [
                (p, v) for p in points if p is not None and math.isfinite(v := self._at(x, k, p))
            ]
            if not central and not ends and behind is not None:  # the other side may be inside
                v = self._at(x, k, behind)
                ends = [(behind, v)] if math.isfinite(v) else []
            x[k] = at
            if len(ends) == 2:
                g[k] = (ends[0][1] - ends[1][1]) / (ends[0][0] - ends[1][0])
            else:
                g[k] = (ends[0][1] - f) / (ends[0][0] - at) if ends else math.nan
        return g

    def _moved(self, x: np.ndarray, k: int, to: float) -> float | None:
        """Return the coordinate as the dtype has it, within the bounds; None if it is x's."""
        to = float(self.dtype.type(to))
        if self.bounds is not None:
            to = min(max(to, float(self.bounds[0][k])), float(self.bounds[1][k]))
        return to if to != float(x[k]) else None

    def _at(self, x: np.ndarray, k: int, to: float) -> float:
        kept, x[k] = x[k], to
        v = self.value(x)
        x[k] = kept
        return v

    def _complex_step(self, x: np.ndarray) -> np.ndarray:
        g = np.empty(self.n, self.dtype)
        h = 1e-20
        for k in range(self.n):
            z = x.astype(np.complex128)
            z[k] += 1j * h
            self.nfev += 1
            value = np.asarray(self.fun(z, *self.args))
            if not np.iscomplexobj(value) or value.size != 1:
                raise TypeError("jac='cs': fun must return a complex number for complex x")
            g[k] = value.reshape(()).imag / h
        return g


def _number(value: Any) -> float:
    """Return what the function returned as a float."""
    try:
        if isinstance(value, (str, bytes)) or np.iscomplexobj(value) or np.size(value) != 1:
            raise TypeError
        return float(value if isinstance(value, float) else np.asarray(value).reshape(()))
    except (TypeError, ValueError):
        raise TypeError(f"fun must return one number, got {value!r}") from None
