"""Several classes over the same rows: one binary problem per class, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastopt.checks import check_callable, count
from fastopt.sparse.checkpoint import Checkpoint
from fastopt.sparse.rows import OF_CLASSES, Rows, Settings, Targets
from fastopt.sparse.runner import Callback, HogwildResult, solve


@dataclass
class OneVsRestResult:
    """What `one_vs_rest` returns.

    Attributes
    ----------
    W : ndarray of shape (n_problems, n_columns)
    b : ndarray of shape (n_problems,)
        Float64. One problem for two classes (the second is positive), else one for each class.
    results : list of HogwildResult
        One per problem; its `w` is a row of `W`.
    """

    W: np.ndarray
    b: np.ndarray
    results: list[HogwildResult]


def one_vs_rest(
    X: Any,
    codes: Any,
    n_classes: int,
    settings: Settings,
    *,
    sample_weight: Any = None,
    callback: Callback | None = None,
    track_objective: bool = False,
    checkpoint: Checkpoint | None = None,
) -> OneVsRestResult:
    """Train one binary classifier per class over the same rows, one after the other.

    The target of a row is +1 where its code is the class, -1 elsewhere, worked out in C.

    Parameters
    ----------
    X : sparse matrix of shape (n_rows, n_columns)
        As for `hogwild`.
    codes : array_like of int of shape (n_rows,)
        Class of each row, 0 to n_classes - 1.
    n_classes : int
        At least 2. Two classes make one problem, with class 1 positive.
    settings : Settings
    sample_weight, callback, track_objective
        As for `hogwild`; a callback that stops ends all problems.
    checkpoint : Checkpoint, optional
        What training goes on from, and is written to.

    Returns
    -------
    OneVsRestResult

    Raises
    ------
    KeyboardInterrupt
        On Ctrl-C; its attribute `result` is the OneVsRestResult so far, zero for problems not
        begun.
    """
    check_callable("callback", callback)
    if isinstance(settings.loss, str) and settings.loss not in OF_CLASSES:
        raise ValueError(
            f"loss must be one of {', '.join(map(repr, OF_CLASSES))} for one_vs_rest, got "
            f"{settings.loss!r}"
        )
    rows = Rows(X, settings, sample_weight)
    code = codes_of(codes, n_classes, rows)
    problems = 1 if n_classes == 2 else n_classes
    W = np.zeros((problems, rows.samples.columns), rows.dtype)
    return solve_all(
        rows,
        [
            Targets(rows, codes=code, positive=k)
            for k in ([1] if problems == 1 else range(n_classes))
        ],
        W,
        np.zeros(problems),
        callback=callback,
        track=track_objective,
        checkpoint=checkpoint,
    )


def codes_of(codes: Any, n_classes: int, rows: Rows) -> np.ndarray:
    """Return the class of each row, 0 to n_classes - 1, as int64, or raise."""
    n_classes = count("n_classes", n_classes, 2)
    code = np.asarray(codes)
    if code.dtype.kind not in "iub" or code.shape != (rows.n,):
        raise ValueError(f"codes must be {rows.n} integers, one per row of X")
    code = np.ascontiguousarray(code, np.int64)
    if code.min() < 0 or code.max() >= n_classes:
        raise ValueError(f"codes must lie in 0..{n_classes - 1}")
    return code


def solve_all(
    rows: Rows,
    problems: Sequence[Targets],
    W: np.ndarray,
    b: np.ndarray,
    *,
    train: Callable[..., HogwildResult] = solve,
    each: Callable[[int], dict[str, Any]] = lambda k: {},
    checkpoint: Checkpoint | None = None,
    result: type = HogwildResult,
    **same: Any,
) -> OneVsRestResult:
    """Train every problem from its row of W and b, which become the models.

    `same` and `each(k)` are keyword arguments of `train`, for all problems and for the k-th. A
    callback that stops ends all problems, and so does Ctrl-C. A `checkpoint` brings the problems
    that are finished, each a `result`, and the one that is not. A time budget is that of all
    processes together.
    """
    rows.need_memory(len(problems))
    out = OneVsRestResult(W, b, [])

    def keep(k: int, result: HogwildResult) -> None:
        W[k], b[k] = result.w, result.intercept
        result.w = W[k]
        out.results.append(result)

    if checkpoint is not None:
        for k, done in enumerate(checkpoint.begin(rows, problems, W, b, result)):
            keep(k, done)
        same["checkpoint"] = checkpoint
        if same.get("deadline") is not None:
            same["deadline"] -= checkpoint.seconds
    for k, target in list(enumerate(problems))[len(out.results) :]:
        try:
            last = {"problem": k, "problems": len(problems)}
            keep(k, train(rows, target, W[k].copy(), float(b[k]), **same, **each(k), **last))
        except KeyboardInterrupt as interrupt:
            if hasattr(interrupt, "result"):
                keep(k, interrupt.result)
            interrupt.result = out
            raise
        if out.results[-1].status == "stopped":
            break
        if checkpoint is not None:
            checkpoint.finished(out.results[-1], last=k == len(problems) - 1)
    return out
