"""Data sets of `open_data` in place of arrays: what the estimators make of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import sparse

from fastopt.data import CSR, Dataset
from fastopt.data.builder import INT32_MAX


def matrix(X: CSR) -> sparse.csr_matrix:
    """Return rows as SciPy's matrix, which holds the same values and columns, not copies."""
    made = sparse.csr_matrix(X.shape, dtype=X.data.dtype)
    made.data, made.indices, made.indptr = X.data, X.indices, X.indptr
    if X.indices.dtype == np.int32 and X.nnz <= INT32_MAX:
        made.indptr = X.indptr.astype(np.int32)  # or SciPy would convert the indices
    return made


def unpacked(X: Any, y: Any, sample_weight: Any = None, name: str = "y") -> tuple[Any, Any, Any]:
    """Return X, y and weights, which a data set has in itself.

    From a cache the rows are mapped into memory: those that it does not hold are read when training
    comes to them.
    """
    if isinstance(X, CSR):
        return matrix(X), y, sample_weight
    if not isinstance(X, Dataset):
        return X, y, sample_weight
    if y is not None:
        raise ValueError(f"{name} must be None where X is a data set, which has its own labels")
    rows, labels, weights = X.to_csr()
    check_labels(labels, X)
    if sample_weight is not None and weights is not None:
        raise ValueError("sample_weight must be None where the data set has weights of its own")
    return matrix(rows), labels, weights if sample_weight is None else sample_weight


def check_labels(labels: np.ndarray, X: Dataset) -> None:
    """Raise if a row has no label."""
    if np.isnan(labels).any():
        row = int(np.isnan(labels).argmax()) + 1
        raise ValueError(
            f"X: row {row:,} of {X!r} has no label; in tables, label= names the column"
        )


def by_blocks(
    X: Dataset, predict: Callable[[Any], np.ndarray]
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Return predictions, labels and weights of all rows, in memory of one block and of these."""
    found, labels, weights = [], [], []
    for rows, y, w in X.blocks():
        if rows.shape[0]:
            found.append(predict(matrix(CSR(rows.data, rows.indices, rows.indptr,
                                            (rows.shape[0], X.n_features)))))  # fmt: skip
            labels.append(y)
            weights.append(w)
    if not found:
        raise ValueError(f"X: {X!r} has no rows")
    joined = None if any(w is None for w in weights) else np.concatenate(weights)
    return np.concatenate(found), np.concatenate(labels), joined


def score(
    metric: Callable[..., float],
    predict: Callable[[Any], np.ndarray],
    X: Dataset,
    y: Any,
    sample_weight: Any,
) -> float:
    """Return how good the predictions for a data set are."""
    if y is not None or sample_weight is not None:
        raise ValueError("y and sample_weight must be None where X is a data set with its own")
    found, labels, weights = by_blocks(X, predict)
    check_labels(labels, X)
    return float(metric(labels, found, sample_weight=weights))
