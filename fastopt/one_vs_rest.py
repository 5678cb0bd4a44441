"""Several classes over the same rows: one binary problem per class, one after the other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastopt.checks import check_callable, count
from fastopt.rows import OF_CLASSES, Rows, Settings, Targets
from fastopt.runner import Callback, HogwildResult, solve


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
    on_epoch: Callable[[], Callable[[int, float], bool]] | None = None,
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
    on_epoch : callable, optional
        Makes for each problem the function of (epoch, objective) that says when to stop it.

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
    n_classes = count("n_classes", n_classes, 2)
    if settings.loss not in OF_CLASSES:
        raise ValueError(
            f"loss must be one of {', '.join(map(repr, OF_CLASSES))} for one_vs_rest, got "
            f"{settings.loss!r}"
        )
    rows = Rows(X, settings, sample_weight)
    code = np.asarray(codes)
    if code.dtype.kind not in "iub" or code.shape != (rows.n,):
        raise ValueError(f"codes must be {rows.n} integers, one per row of X")
    code = np.ascontiguousarray(code, np.int64)
    if code.min() < 0 or code.max() >= n_classes:
        raise ValueError(f"codes must lie in 0..{n_classes - 1}")
    problems = 1 if n_classes == 2 else n_classes
    rows.need_memory(problems)
    W = np.zeros((problems, rows.samples.columns), rows.dtype)
    b = np.zeros(problems)
    out = OneVsRestResult(W, b, [])

    def keep(k: int, result: HogwildResult) -> None:
        W[k], b[k] = result.w, result.intercept
        result.w = W[k]
        out.results.append(result)

    for k in range(problems):
        positive = 1 if n_classes == 2 else k
        try:
            keep(
                k,
                solve(
                    rows,
                    Targets(rows, codes=code, positive=positive),
                    np.zeros(W.shape[1], rows.dtype),
                    0.0,
                    callback=callback,
                    track=track_objective,
                    on_epoch=on_epoch() if on_epoch else None,
                    problem=k,
                    problems=problems,
                ),
            )
        except KeyboardInterrupt as interrupt:
            if hasattr(interrupt, "result"):
                keep(k, interrupt.result)
            interrupt.result = out
            raise
        if out.results[-1].status == "stopped":
            break
    return out
