"""What a linear model does on sparse rows: its exact objective, and its margins."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastopt.sparse.rows import Rows, Settings, Targets, column, objective_of, targets


def objective(
    X: Any,
    y: Any,
    w: Any,
    intercept: float = 0.0,
    *,
    loss: Any = "logistic",
    l2: float = 0.0,
    sample_weight: Any = None,
    threads: int | None = None,
    epsilon: float = 0.1,
    quantile: float = 0.5,
) -> float:
    """Return ``mean_i(loss(y_i, x_i . w + intercept)) + l2 / 2 * |w|^2``, summed in float64.

    The bits do not depend on `threads`. Parameters are those of `hogwild`.
    """
    rows = Rows(X, evaluation(loss, l2, threads, epsilon, quantile), sample_weight)
    Targets(rows, y=targets(y, rows.n, rows.dtype, rows.settings.loss)).give(rows.samples)
    w = column("w", w, rows.samples.columns, rows.dtype, "column")
    return objective_of(rows.samples, w, float(intercept), rows.settings, rows.settings.threads)


def margins(X: Any, W: Any, b: Any, *, threads: int | None = None) -> np.ndarray:
    """Return ``X @ W.T + b``, in float64.

    Parameters
    ----------
    X : sparse matrix of shape (n_rows, n_columns)
        As for `hogwild`.
    W : array_like of shape (n_columns,) or (n_problems, n_columns)
    b : float or array_like of shape (n_problems,)
    threads : int, optional

    Returns
    -------
    ndarray of shape (n_rows,) or (n_rows, n_problems)
    """
    rows = Rows(X, evaluation("squared", 0.0, threads))
    W = np.asarray(W)
    models = np.atleast_2d(W)
    shifts = np.atleast_1d(np.asarray(b, np.float64))
    if W.ndim not in (1, 2) or shifts.shape != models.shape[:1]:
        raise ValueError(
            f"W and b must be of shapes (n_problems, n_columns) and (n_problems,), "
            f"got {W.shape} and {np.shape(b)}"
        )
    out = np.empty((len(models), rows.n))
    for model, shift, row in zip(models, shifts, out, strict=True):
        rows.samples.margins(
            column("W", model, rows.samples.columns, rows.dtype, "column"),
            float(shift),
            row,
            rows.settings.threads,
        )
    return out[0] if W.ndim == 1 else out.T


def evaluation(
    loss: Any, l2: float, threads: int | None, epsilon: float = 0.1, quantile: float = 0.5
) -> Settings:
    """Return settings for passes over rows that train nothing."""
    return Settings.check(
        loss=loss,
        l2=l2,
        epochs=0,
        step="auto",
        schedule="constant",
        decay=1.0,
        mode="auto",
        fit_intercept=True,
        average=False,
        threads=threads,
        seed=0,
        epsilon=epsilon,
        quantile=quantile,
    )
