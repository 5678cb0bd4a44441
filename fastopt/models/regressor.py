"""A linear regressor on dense data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastopt import losses
from fastopt.models.linear import Linear, dense, sample_weights


class LinearRegressor(Linear):
    """Numbers by x W + b, trained on dense data by any rule or solver.

    Parameters
    ----------
    loss : {"mse", "mae", "huber", "quantile", "poisson"} or callable
        See `fastopt.losses`; "poisson" predicts exp(x W + b). A callable: scores, targets,
        ``weight=``, ``out=`` -> value, gradient, such as
        ``functools.partial(losses.quantile, quantile=0.9)``.
    penalty, alpha, l1_ratio, optimizer, lr, solver, max_iter, batch_size, tol, fit_intercept, \
initializer, random_state
        As in `LinearClassifier`.

    Attributes
    ----------
    coef_, intercept_ : numpy.ndarray
        W and b: of shapes (features,) and () for targets of shape (n,), else (outputs, features)
        and (outputs,).
    history_, n_iter_, result_
        As in `LinearClassifier`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastopt import LinearRegressor
    >>> r = np.random.default_rng(0)
    >>> X = r.normal(size=(200, 3))
    >>> y = X @ [1.0, -2.0, 0.5] + 3
    >>> model = LinearRegressor(alpha=0).fit(X, y)
    >>> model.coef_.round(2), round(float(model.intercept_), 2)
    (array([ 1. , -2. ,  0.5]), 3.0)
    """

    losses = {
        "mse": losses.mse,
        "mae": losses.mae,
        "huber": losses.huber,
        "quantile": losses.quantile,
        "poisson": losses.poisson,
    }
    kinks = frozenset({"mae", "quantile"})
    _estimator_type = "regressor"

    def __init__(self, loss: str | Callable[..., Any] = "mse", **options: Any) -> None:
        super().__init__(loss, **options)

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> LinearRegressor:
        """Train from the start; return the model.

        Parameters
        ----------
        X : array-like of shape (n, features)
            float32 is computed in float32, everything else in float64.
        y : array-like of shape (n,) or (n, outputs)
            Finite numbers.
        sample_weight : array-like of shape (n,), optional
            Not negative.

        Raises
        ------
        TypeError, ValueError
            Naming the argument.
        FloatingPointError
            Where the loss is not finite any more.
        """
        self._check()
        X = dense(X)
        y, weight = _numbers(y, X), sample_weights(sample_weight, X, relative=True)
        self._begin(X, y, self._chosen())
        self._fit(X, y.reshape(len(X), -1), weight)
        return self

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> LinearRegressor:
        """Train for one epoch on these rows, on from where the model is; return it.

        Parameters
        ----------
        X, y
            As in `fit`.
        sample_weight : array-like of shape (n,), optional
            Not negative; a row of weight 1 counts as without.

        Raises
        ------
        TypeError, ValueError, FloatingPointError
            As in `fit`; also with a solver.
        """
        self._check()
        if self.solver is not None:
            raise ValueError("partial_fit takes steps on batches: it has no solver")
        X = dense(X, self._weights["W"].dtype if hasattr(self, "_weights") else None)
        y, weight = _numbers(y, X), sample_weights(sample_weight, X, relative=False)
        if not hasattr(self, "_weights"):
            self._begin(X, y)
        wanted = self._weights["W"].shape
        if (X.shape[1], y.reshape(len(X), -1).shape[1]) != wanted:
            raise ValueError(f"X and y must have {wanted[0]} and {wanted[1]} columns")
        self._epoch(X, y.reshape(len(X), -1), weight)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Return the predicted numbers, of shape (n,) or (n, outputs)."""
        scores = self._scores(X)
        if self.loss == "poisson":
            scores = np.exp(scores)
        return scores[:, 0] if self._flat else scores

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return R^2: 1 - squared errors / squared distances from the mean.

        Targets that are all the same score 1 where they are met exactly, else 0, as in
        scikit-learn.
        """
        y = np.asarray(y, np.float64)
        w = np.ones(len(y)) if sample_weight is None else np.asarray(sample_weight, np.float64)
        error = w @ np.square(y - self.predict(X)).reshape(len(y), -1)
        spread = w @ np.square(y - np.average(y, axis=0, weights=w)).reshape(len(y), -1)
        constant = spread == 0
        part = np.where(constant, error != 0, error / np.where(constant, 1, spread))
        return float(np.mean(1 - part))

    @property
    def coef_(self) -> np.ndarray:
        """W transposed."""
        W = self._weights["W"].T
        return W[0] if self._flat else W

    @property
    def intercept_(self) -> np.ndarray:
        """The offsets, zeros without."""
        W = self._weights["W"]
        b = self._weights.get("b", np.zeros(W.shape[1], W.dtype))
        return b[0] if self._flat else b

    def _begin(self, X: np.ndarray, y: np.ndarray, solver: str | None = None) -> None:
        self._start(X.shape[1], 1 if y.ndim == 1 else y.shape[1], X.dtype, solver)
        self._flat = y.ndim == 1

    def _loss(self, scores: np.ndarray, y: Any, weight: Any) -> tuple[float, np.ndarray]:
        if weight is not None:
            weight = np.repeat(weight[:, None], scores.shape[1], axis=1)
        return super()._loss(scores, y, weight)


def _numbers(y: Any, X: np.ndarray) -> np.ndarray:
    y = np.asarray(y)
    if y.ndim not in (1, 2) or len(y) != len(X):
        raise ValueError(f"y must have shape ({len(X)},) or ({len(X)}, outputs), got {y.shape}")
    if y.dtype.kind not in "biuf" or not np.isfinite(y).all():
        raise ValueError("y must be finite numbers")
    return y.astype(X.dtype)
