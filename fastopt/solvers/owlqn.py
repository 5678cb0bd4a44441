"""OWL-QN: L-BFGS for a smooth function plus an L1 penalty."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastopt.checks import count, number
from fastopt.solvers.history import History
from fastopt.solvers.line_search import search_backtracking
from fastopt.solvers.loop import State, Steps
from fastopt.solvers.objective import Objective
from fastopt.solvers.vectors import Lines, Trial


def owl_qn(
    objective: Objective,
    x0: np.ndarray,
    *,
    l1: Any = 1.0,
    memory: int = 10,
    c1: float = 1e-4,
    threads: int | None = None,
) -> Steps:
    """Yield the states of fun(x) + sum(l1 |x|) (Andrew and Gao, 2007).

    The direction is L-BFGS's for the pseudo-gradient, without the components that climb; the line
    stays in one orthant. What must vanish, and what is returned as `jac`, is the pseudo-gradient.
    """
    memory = count("memory", memory, 1)
    c1 = number("c1", c1, 0, 1, open_below=True)
    weight = _weights(l1, objective)
    penalised = np.broadcast_to(weight > 0, x0.shape)
    lines = Lines(objective, threads)
    x = x0.copy()
    smooth, g, _, _ = lines.first(x)
    f = smooth + _penalty(weight, x)
    pseudo = _pseudo_gradient(x, g, weight)
    yield State(x, f, pseudo, _largest(pseudo))
    history, d = History(lines, memory), lines.empty()
    while True:
        history.toward(pseudo)
        history.direct(d, pseudo)
        np.copyto(d, 0, where=(d * pseudo >= 0) & penalised)
        slope = lines.passes.dot(d, pseudo)[0]
        if not -math.inf < slope < 0:
            if not history.order:
                return "precision", f"no direction descends: the slope is {slope:g}"
            history.clear()
            continue
        orthant = np.where(x != 0, np.sign(x), -np.sign(pseudo)).astype(x.dtype)
        kept: list[Any] = [None, None, None]

        def phi(
            t: float,
            x: np.ndarray = x,
            orthant: np.ndarray = orthant,
            pseudo: np.ndarray = pseudo,
            slope: float = slope,
            kept: list[Any] = kept,
        ) -> Trial:
            point = lines.moved(x, t, d)
            np.copyto(point, 0, where=(point * orthant <= 0) & penalised)
            if not np.isfinite(point).all():
                return Trial(t, math.inf, math.nan)
            value, given = objective(point.copy())
            kept[:] = point, value, given.copy()
            # the projection bends the line: Armijo's condition is about where it has come to
            fall = lines.passes.dot(pseudo, point - x)[0]
            allowed = c1 * fall - c1 * t * slope
            total = value + _penalty(weight, point) - allowed
            return Trial(t, total if np.isfinite(given).all() else math.nan, math.nan)

        first = 1.0 if history.order else min(1.0, 1 / math.sqrt(-slope))
        noise = 10 * objective.eps * abs(f)
        found = search_backtracking(phi, Trial(0.0, f, slope), first, c1, noise=noise)
        if found.trial.t == 0 or not (kept[0] != x).any():
            if history.order:
                history.clear()
                continue
            return "line search", f"along the pseudo-gradient {found.message}"
        point, smooth, after = kept
        # the pair is of where the projection has come to
        history.move(x, 1.0, point - x, after, g)
        x, g = point, after
        f = smooth + _penalty(weight, x)
        pseudo = _pseudo_gradient(x, g, weight)
        yield State(x, f, pseudo, _largest(pseudo), found.trial.t)


def _weights(l1: Any, objective: Objective) -> np.ndarray:
    """Return one weight for all or one each, checked."""
    weight = np.asarray(l1, np.float64)
    if weight.shape not in ((), (objective.n,)):
        raise ValueError(f"l1 must be a number or have shape ({objective.n},), got {weight.shape}")
    if not (np.isfinite(weight).all() and (weight >= 0).all()):
        raise ValueError("l1 must be finite and >= 0")
    return weight.astype(objective.dtype)


def _penalty(weight: np.ndarray, x: np.ndarray) -> float:
    return float((weight * np.abs(x)).sum(dtype=np.float64))


def _largest(g: np.ndarray) -> float:
    return float(np.abs(g).max(initial=0))


def _pseudo_gradient(x: np.ndarray, g: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return the element of the subdifferential that is nearest to 0."""
    at_zero = np.sign(g) * np.maximum(np.abs(g) - weight, 0)
    return np.where(x != 0, g + weight * np.sign(x), at_zero).astype(x.dtype)
