"""The estimators' `optimizer="sdca"`: dual coordinate ascent in place of SGD."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastopt.sparse import dual
from fastopt.sparse.one_vs_rest import OneVsRestResult
from fastopt.sparse.rows import Rows, Targets
from fastopt.sparse.runner import Callback


def refuse(estimator: Any, loss: str) -> None:
    """Raise if a parameter asks for what dual coordinate ascent cannot do."""
    if loss not in dual.LOSSES:
        raise ValueError(f"optimizer='sdca' has no loss {estimator.loss!r}: use optimizer='sgd'")
    if estimator.penalty != "l2" or not estimator.alpha > 0:
        raise ValueError(
            f"optimizer='sdca' needs penalty='l2' and alpha > 0, got {estimator.penalty!r} and "
            f"{estimator.alpha!r}"
        )
    for name in ("early_stopping", "warm_start", "positive", "average"):
        if getattr(estimator, name):
            raise ValueError(f"optimizer='sdca' cannot do {name}: use optimizer='sgd'")


def ascend_all(
    rows: Rows,
    problems: Sequence[Targets],
    W: np.ndarray,
    b: np.ndarray,
    *,
    tol: float | None,
    target: float | None,
    deadline: float | None,
    callback: Callback | None,
) -> OneVsRestResult:
    """Train every problem from 0; its model becomes its row of W and b."""
    out = OneVsRestResult(W, b, [])

    def keep(k: int, result: dual.DualResult) -> None:
        W[k], b[k] = result.w, result.intercept
        result.w, result.beta, result.last = W[k], None, W[k]
        result.last_intercept = result.intercept
        out.results.append(result)

    for k, one in enumerate(problems):
        one.give(rows.samples)
        left = None if deadline is None else max(deadline - time.perf_counter(), 1e-9)
        goal = -math.inf if target is None else target
        try:
            keep(k, dual.ascend(rows, tol or 0.0, left, callback, False, goal, k, len(problems)))
        except KeyboardInterrupt as interrupt:
            if hasattr(interrupt, "result"):
                keep(k, interrupt.result)
            interrupt.result = out
            raise
        if out.results[-1].status == "stopped":
            break
    return out
