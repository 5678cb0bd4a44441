"""The estimators' `optimizer="sdca"`: dual coordinate ascent in place of SGD."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastopt.sparse import dual
from fastopt.sparse.checkpoint import Checkpoint
from fastopt.sparse.rows import Rows, Targets
from fastopt.sparse.runner import Callback


def refuse(estimator: Any, loss: Any) -> None:
    """Raise if a parameter asks for what dual coordinate ascent cannot do."""
    if not isinstance(loss, str):
        raise ValueError(
            "optimizer='sdca' takes no loss of your own, for it needs its dual: use optimizer='sgd'"
        )
    if loss not in dual.LOSSES:
        raise ValueError(f"optimizer='sdca' has no loss {estimator.loss!r}: use optimizer='sgd'")
    if estimator.penalty != "l2" or not estimator.alpha > 0:
        raise ValueError(
            f"optimizer='sdca' needs penalty='l2' and alpha > 0, got {estimator.penalty!r} and "
            f"{estimator.alpha!r}"
        )
    if estimator.order is not None:
        raise ValueError("optimizer='sdca' has an order of its own: use optimizer='sgd'")
    refused = ("early_stopping", "warm_start", "positive", "average", "max_norm")
    for name in refused:
        if getattr(estimator, name):
            raise ValueError(f"optimizer='sdca' cannot do {name}: use optimizer='sgd'")


def ascend(
    rows: Rows,
    targets: Targets,
    w0: np.ndarray,
    intercept0: float,
    *,
    tol: float | None,
    target: float | None,
    deadline: float | None,
    callback: Callback | None,
    problem: int,
    problems: int,
    checkpoint: Checkpoint | None = None,
) -> dual.DualResult:
    """Train one problem of `solve_all`, from 0 whatever the model is."""
    targets.give(rows.samples)
    goal = -math.inf if target is None else target
    spread = 1.0 if targets.y is None else float(np.std(targets.y, dtype=np.float64))
    result = dual.ascend(
        rows,
        tol or 0.0,
        deadline=deadline,
        callback=callback,
        target=goal,
        spread=spread,
        problem=problem,
        problems=problems,
        checkpoint=checkpoint,
    )
    result.beta = None  # as many numbers as rows, which nobody asks for here
    return result
