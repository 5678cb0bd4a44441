"""Several classes in one model: softmax and two SVMs, with a block of weights for each column."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from fastopt.checks import check_callable
from fastopt.sparse.checkpoint import Checkpoint, kept
from fastopt.sparse.one_vs_rest import OneVsRestResult, codes_of
from fastopt.sparse.rows import MULTI_LOSSES, Rows, Settings, Targets, objective_of
from fastopt.sparse.run import on_lines
from fastopt.sparse.runner import Callback, HogwildResult, solve

MULTI_MODES = ("auto", "copies", "shared", "serial", "rounds")

__all__ = ["MULTI_LOSSES", "multiclass", "multiclass_objective", "scores", "solve_together"]


def multiclass(
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
    """Train one model of all classes by lock-free stochastic gradient descent.

    Minimises ``mean_i(loss(y_i, p_i)) + l2 / 2 * |W|^2`` with the scores ``p_i = W x_i + b``, one
    for each class; b is not penalised. With ``m_c = 1 + p_c - p_y``, the loss of a row of class y
    is

    - "multinomial": ``log(sum_c exp(p_c)) - p_y``, minus the log of the softmax;
    - "crammer_singer": ``max(0, max_{c != y} m_c)`` [1]_;
    - "weston_watkins": ``sum_{c != y} max(0, m_c)`` [2]_.

    Parameters
    ----------
    X : sparse matrix of shape (n_rows, n_columns)
        As for `fastopt.hogwild`.
    codes : array_like of int of shape (n_rows,)
        Class of each row, 0 to n_classes - 1.
    n_classes : int
        At least 2; two classes have two rows of W.
    settings : Settings
        With one of `MULTI_LOSSES`; l1, positive and aggressive are not for several classes.
    sample_weight, callback, track_objective
        As for `fastopt.hogwild`.
    checkpoint : Checkpoint, optional
        What training goes on from, and is written to.

    Returns
    -------
    OneVsRestResult
        W of shape (n_classes, n_columns) in the dtype of `X.data`, b of shape (n_classes,) in
        float64, and one result.

    Raises
    ------
    ValueError, TypeError
        Naming the argument.
    KeyboardInterrupt
        On Ctrl-C; its attribute `result` is the OneVsRestResult so far.

    References
    ----------
    .. [1] Crammer, Singer, "On the Algorithmic Implementation of Multiclass Kernel-based Vector
       Machines", 2001, https://jmlr.org/papers/v2/crammer01a.html
    .. [2] Weston, Watkins, "Support Vector Machines for Multi-Class Pattern Recognition", 1999,
       https://www.esann.org/sites/default/files/proceedings/legacy/es1999-461.pdf

    Examples
    --------
    >>> import numpy as np
    >>> from scipy import sparse
    >>> from fastopt.sparse.multiclass import MULTI_LOSSES, multiclass
    >>> from fastopt.sparse.rows import Settings
    >>> settings = Settings.check(
    ...     loss="multinomial", losses=MULTI_LOSSES, l2=1e-3, epochs=20, step="auto",
    ...     schedule="inverse_time", decay=0.9, mode="auto", fit_intercept=True, average=True,
    ...     threads=1, seed=0)
    >>> X = sparse.csr_matrix(np.eye(3, dtype="f4"))
    >>> done = multiclass(X, [0, 1, 2], 3, settings)
    >>> done.W.argmax(0).tolist(), done.results[0].status
    ([0, 1, 2], 'finished')
    """
    check_callable("callback", callback)
    others = settings.l1 or settings.positive or settings.max_norm or settings.by_column
    if settings.loss not in MULTI_LOSSES or others:
        raise ValueError(
            f"settings must have one of the losses {', '.join(map(repr, MULTI_LOSSES))}, optimizer "
            f"'sgd', and neither l1 nor positive nor max_norm; got {settings.loss!r}"
        )
    if settings.mode not in MULTI_MODES:
        raise ValueError(
            f"mode must be one of {', '.join(map(repr, MULTI_MODES))} for several classes, got "
            f"{settings.mode!r}"
        )
    rows = Rows(X, settings, sample_weight)
    target = Targets(rows, codes=codes_of(codes, n_classes, rows), classes=n_classes)
    W = np.zeros((n_classes, rows.samples.columns), rows.dtype)
    same = {"callback": callback, "track": bool(track_objective)}
    return solve_together(rows, target, W, np.zeros(n_classes), checkpoint=checkpoint, **same)


def solve_together(
    rows: Rows,
    target: Targets,
    W: np.ndarray,
    b: np.ndarray,
    *,
    each: Callable[[int], dict[str, Any]] = lambda k: {},
    checkpoint: Checkpoint | None = None,
    **same: Any,
) -> OneVsRestResult:
    """Train all classes from W and b, which become the model; from a checkpoint if there is one.

    `same` and `each(0)` are keyword arguments of `solve`, where means of models have W's shape.
    """
    target.give(rows.samples)
    rows.need_memory(width=rows.samples.width)
    out = OneVsRestResult(W, b, [])

    def keep(result: HogwildResult) -> None:
        W[:], b[:] = rows_of(result.w, W.shape), result.intercept
        result.w, result.last = W, rows_of(result.last, W.shape)
        if result.past.mean is not None:
            result.past = replace(result.past, mean=rows_of(result.past.mean, W.shape))
        out.results.append(result)

    more = each(0)
    if "past" in more and more["past"].mean is not None:
        more["past"] = replace(more["past"], mean=blocks_of(more["past"].mean, rows.samples.width))
    try:
        start = blocks_of(W, rows.samples.width), b.copy()
        keep(kept(solve, HogwildResult, rows, target, *start, checkpoint, **same, **more))
    except KeyboardInterrupt as interrupt:
        if hasattr(interrupt, "result"):
            keep(interrupt.result)
            interrupt.result = out
        raise
    return out


def blocks_of(W: np.ndarray, width: int) -> np.ndarray:
    """Return W of shape (n_classes, n_columns) as one block of `width` numbers for each column."""
    classes, columns = W.shape
    blocks = on_lines(columns * width, W.dtype)
    table = blocks.reshape(columns, width)
    table[:, :classes], table[:, classes:] = W.T, 0
    return blocks


def rows_of(blocks: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return the W of this shape that `blocks_of` has laid out."""
    classes, columns = shape
    return np.ascontiguousarray(blocks.reshape(columns, -1)[:, :classes].T)


def scores(X: Any, blocks: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return ``X @ W.T + b`` of shape (n_rows, n_classes) for a W that `blocks_of` laid out."""
    return np.asarray(X @ blocks.reshape(X.shape[1], -1)[:, : len(b)]) + b


def multiclass_objective(
    X: Any, codes: Any, W: np.ndarray, b: Any, settings: Settings, sample_weight: Any = None
) -> float:
    """Return what `multiclass` minimises, summed in float64.

    The bits do not depend on the settings' threads. Parameters are those of `multiclass`.

    Examples
    --------
    >>> import numpy as np
    >>> from scipy import sparse
    >>> from fastopt.sparse.multiclass import MULTI_LOSSES, multiclass_objective
    >>> from fastopt.sparse.rows import Settings
    >>> settings = Settings.check(
    ...     loss="weston_watkins", losses=MULTI_LOSSES, l2=0.0, epochs=1, step="auto",
    ...     schedule="constant", decay=0.9, mode="auto", fit_intercept=True, average=True,
    ...     threads=1, seed=0)
    >>> X = sparse.csr_matrix(np.eye(3))
    >>> multiclass_objective(X, [0, 1, 2], np.zeros((3, 3)), np.zeros(3), settings)
    2.0
    """
    W, b = np.asarray(W), np.ascontiguousarray(b, np.float64)
    rows = Rows(X, settings, sample_weight)
    if W.ndim != 2 or W.shape[1] != rows.samples.columns or b.shape != W.shape[:1]:
        raise ValueError(
            f"W and b must be of shapes (n_classes, {rows.samples.columns}) and (n_classes,), "
            f"got {W.shape} and {b.shape}"
        )
    codes = codes_of(codes, len(W), rows)
    Targets(rows, codes=codes, classes=len(W)).give(rows.samples)
    blocks = blocks_of(W.astype(rows.dtype, copy=False), rows.samples.width)
    return objective_of(rows.samples, blocks, b, settings, settings.threads)
