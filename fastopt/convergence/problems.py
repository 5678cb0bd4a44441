"""What is minimized: a function with its gradient, and the surfaces that textbooks draw."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fastopt.checks import check_callable

__all__ = ["PROBLEMS", "Problem"]


@dataclass(frozen=True, eq=False)
class Problem:
    """A function to minimize, where to start, and what is known about its minimum.

    Parameters
    ----------
    fun, grad : callable
        Point -> number, and point -> array of the point's shape.
    x0 : array of shape (n,)
        Where every method starts; float32 stays float32, all else becomes float64.
    optimum : array of shape (n,), optional
        A minimizer. Errors are then f - f(optimum); without it, norms of gradients.
    hess : callable, optional
        Point -> array of shape (n, n), for the solvers that need it.
    name, formula : str
        For titles.
    limits : ((left, right), (bottom, top)), optional
        What a picture of a function of two variables shows.
    floor : float
        A run has left a function without a minimum once f is below this.

    Raises
    ------
    TypeError, ValueError
        Naming the argument.

    Examples
    --------
    >>> import numpy as np
    >>> from fastopt.convergence import PROBLEMS, Problem
    >>> bowl = Problem(lambda x: float(x @ x), lambda x: 2 * x, np.ones(3), optimum=np.zeros(3))
    >>> bowl.minimum, list(PROBLEMS)
    (0.0, ['rosenbrock', 'beale', 'valley', 'saddle', 'monkey'])
    """

    fun: Callable[[np.ndarray], Any]
    grad: Callable[[np.ndarray], Any]
    x0: np.ndarray
    optimum: np.ndarray | None = None
    hess: Callable[[np.ndarray], Any] | None = None
    name: str = "problem"
    formula: str = ""
    limits: Sequence[tuple[float, float]] | None = None
    floor: float = -math.inf
    minimum: float | None = field(init=False)

    def __post_init__(self) -> None:
        for name in ("fun", "grad", "hess"):
            check_callable(name, getattr(self, name))
        if self.fun is None or self.grad is None:
            raise TypeError("fun and grad must be callable, got None")
        x0 = _point("x0", self.x0)
        object.__setattr__(self, "x0", x0)
        minimum = None
        if self.optimum is not None:
            optimum = _point("optimum", self.optimum)
            if optimum.shape != x0.shape:
                raise ValueError(
                    f"optimum must have the shape of x0, {x0.shape}, got {optimum.shape}"
                )
            object.__setattr__(self, "optimum", optimum)
            minimum = float(self.fun(optimum.copy()))
            if not math.isfinite(minimum):
                raise ValueError(f"fun at optimum must be finite, got {minimum}")
        object.__setattr__(self, "minimum", minimum)


def _point(name: str, value: Any) -> np.ndarray:
    """Return a private copy of a point, as float32 or float64."""
    try:
        array = np.array(value)
        array = array if array.dtype == np.float32 else array.astype(np.float64, casting="safe")
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be an array of real numbers, got {value!r}") from None
    if array.ndim != 1 or not array.size:
        raise ValueError(f"{name} must have one axis and an element, got shape {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite, got {value!r}")
    array.flags.writeable = False
    return array


# Each written for x, y or for a grid of them: pictures need both.


def rosenbrock(w: Any) -> Any:
    """Return the height of Rosenbrock's banana-shaped valley."""
    x, y = w
    return (1 - x) ** 2 + 100 * (y - x * x) ** 2


def _rosenbrock_grad(w: Any) -> np.ndarray:
    x, y = w
    across = 200 * (y - x * x)
    return np.array([2 * (x - 1) - 2 * x * across, across])


def _rosenbrock_hess(w: Any) -> np.ndarray:
    x, y = w
    return np.array([[2 - 400 * (y - 3 * x * x), -400 * x], [-400 * x, 200.0 + 0 * x]])


_BEALE = (1.5, 2.25, 2.625)


def beale(w: Any) -> Any:
    """Return the height of Beale's plain, with its cliffs at the corners."""
    x, y = w
    return sum((c - x * (1 - y**k)) ** 2 for k, c in enumerate(_BEALE, 1))


def _beale_grad(w: Any) -> np.ndarray:
    x, y = w
    g = np.zeros(2, np.result_type(x))
    for k, c in enumerate(_BEALE, 1):
        r = c - x * (1 - y**k)
        g += 2 * r * np.array([y**k - 1, k * x * y ** (k - 1)])
    return g


def _beale_hess(w: Any) -> np.ndarray:
    x, y = w
    h = np.zeros((2, 2), np.result_type(x))
    for k, c in enumerate(_BEALE, 1):
        r, slope = c - x * (1 - y**k), np.array([y**k - 1, k * x * y ** (k - 1)])
        bend = k * (k - 1) * x * y ** max(k - 2, 0)
        mixed = k * y ** (k - 1)
        h += 2 * (np.outer(slope, slope) + r * np.array([[0, mixed], [mixed, bend]]))
    return h


STEEP = 100.0  # the condition number of the valley


def valley(w: Any) -> Any:
    """Return the height of a long valley: a quadratic of condition number 100."""
    x, y = w
    return (x * x + STEEP * y * y) / 2


def saddle(w: Any) -> Any:
    """Return the height of a saddle."""
    x, y = w
    return x * x - y * y


def monkey(w: Any) -> Any:
    """Return the height of a saddle for a monkey: with room for both legs and the tail."""
    x, y = w
    return x**3 - 3 * x * y * y


PROBLEMS = {
    problem.name: problem
    for problem in (
        Problem(
            rosenbrock, _rosenbrock_grad, [-1.2, 1.0], [1.0, 1.0], _rosenbrock_hess, "rosenbrock",
            "(1 - x)² + 100 (y - x²)²", ((-2.0, 2.0), (-0.8, 2.8)),
        ),
        Problem(
            beale, _beale_grad, [1.0, 1.0], [3.0, 0.5], _beale_hess, "beale",
            "(1.5 - x + xy)² + (2.25 - x + xy²)² + (2.625 - x + xy³)²", ((-0.5, 4.5), (-2.0, 2.0)),
        ),
        Problem(
            valley, lambda w: np.array([w[0], STEEP * w[1]]), [-8.0, 1.5], [0.0, 0.0],
            lambda w: np.diag([1.0, STEEP]), "valley", "(x² + 100 y²) / 2",
            ((-10.0, 5.0), (-2.5, 2.5)),
        ),
        Problem(
            saddle, lambda w: np.array([2 * w[0], -2 * w[1]]), [1.5, 1e-3], None,
            lambda w: np.diag([2.0, -2.0]), "saddle", "x² - y²", ((-2.0, 2.0), (-2.0, 2.0)), -2.0,
        ),
        Problem(
            monkey, lambda w: np.array([3 * (w[0] ** 2 - w[1] ** 2), -6 * w[0] * w[1]]),
            [1.2, 1e-3], None,
            lambda w: 6 * np.array([[w[0], -w[1]], [-w[1], -w[0]]]),
            "monkey", "x³ - 3xy²", ((-2.0, 2.0), (-2.0, 2.0)), -4.0,
        ),
    )
}  # fmt: skip
