"""Random search with the results of the other solvers."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from fastopt.search import random_search
from fastopt.solvers.objective import Objective
from fastopt.solvers.result import STATUS, TRACE, OptimizeResult


def random(
    objective: Objective,
    x0: np.ndarray,
    callback: Callable[[np.ndarray, float], bool] | None,
    *,
    n: int = 1000,
    seed: int | np.random.Generator | None = None,
) -> OptimizeResult:
    """Return the best of x0 and of n - 1 points between the bounds, all of which must be finite."""
    if objective.bounds is None:
        raise ValueError("method 'random-search' needs bounds")
    low, high = objective.bounds
    began = time.perf_counter()
    rows: list[tuple[float, float, float, float, int]] = []
    best_x, best_f = x0.copy(), math.inf

    def value(x: np.ndarray) -> float:
        nonlocal best_x, best_f
        point = x0.copy() if not rows else x.astype(x0.dtype)
        f = objective.value(point.copy())
        if math.isfinite(f) and f < best_f:
            best_x, best_f = point, f
        rows.append((best_f, math.nan, math.nan, time.perf_counter() - began, objective.nfev))
        return f

    def stop(_: Any) -> bool:
        return callback is not None and callback(best_x.copy(), best_f)

    try:
        found = random_search(value, np.stack([low, high], 1), n, seed, callback=stop)
        reason, message = "budget", f"{found.message}; nothing says that the best is a minimum"
        if "callback" in found.message:
            reason = "callback"
    except KeyboardInterrupt:
        reason, message = "interrupted", f"interrupted after {len(rows)} points"
    if not math.isfinite(best_f):
        reason, message = "non-finite", f"none of {len(rows)} values was finite"
    return OptimizeResult(
        x=best_x,
        fun=best_f if math.isfinite(best_f) else math.nan,
        jac=np.full_like(x0, math.nan),
        nit=len(rows),
        nfev=objective.nfev,
        njev=objective.njev,
        nhev=0,
        success=False,
        status=STATUS[reason],
        reason=reason,
        message=message,
        trace=np.array(rows, TRACE),
    )
