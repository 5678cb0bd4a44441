"""What the estimators of sparse rows make of the X and weights that they are given."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse
from sklearn.utils.validation import _check_sample_weight

DENSE = 0.75  # with fewer non-zeros a dense array is trained on as a sparse one
FLOATS = [np.float64, np.float32]


def weights_of(sample_weight: Any, X: Any) -> np.ndarray | None:
    """Return sample_weight as checked numbers, one per row of X, or None."""
    if sample_weight is None:
        return None
    given = np.asarray(sample_weight)
    if given.shape == (X.shape[0],) and not given.any():
        return np.zeros(given.shape)  # who trains says what is wrong with it
    weight = _check_sample_weight(sample_weight, X, dtype=np.float64)
    if (weight < 0).any():
        raise ValueError("sample_weight must not be negative")
    return weight


def product(weight: Any, more: Any, dtype: np.dtype) -> np.ndarray | None:
    """Return the product of two weights of rows, either of which may be None."""
    if weight is None and more is None:
        return None
    product = np.multiply(1.0 if weight is None else weight, 1.0 if more is None else more)
    return np.ascontiguousarray(product, dtype)


def pair(validation: Any) -> tuple[Any, Any]:
    """Return validation as X and y."""
    if not isinstance(validation, (tuple, list)) or len(validation) != 2:
        raise ValueError("validation must be a pair (X, y)")
    return validation[0], validation[1]


def as_rows(X: Any) -> Any:
    """Return X as CSR: a sparse one as it is, a dense one wrapped, or converted if mostly 0."""
    if sparse.issparse(X):
        return X
    n, d = X.shape
    if np.count_nonzero(X) < DENSE * X.size:
        return sparse.csr_matrix(X)
    X = np.ascontiguousarray(X)
    rows = sparse.csr_matrix((n, d), dtype=X.dtype)
    rows.data = X.reshape(-1)
    rows.indices = np.tile(np.arange(d, dtype=np.int32), n)
    rows.indptr = np.arange(n + 1, dtype=np.int64) * d
    return rows
