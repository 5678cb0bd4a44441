"""A linear classifier on dense data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastopt import losses
from fastopt.models.linear import Linear, dense, sample_weights

OF_CLASSES = {
    "softmax": losses.softmax_cross_entropy,
    "multiclass_hinge": losses.multiclass_hinge,
    "crammer_singer": losses.crammer_singer,
}
ONE_AGAINST_REST = {
    "logistic": losses.logistic,
    "hinge": losses.hinge,
    "squared_hinge": losses.squared_hinge,
}


class LinearClassifier(Linear):
    """Classes by the scores x W + b, trained on dense data by any rule or solver.

    Parameters
    ----------
    loss : {"softmax", "multiclass_hinge", "crammer_singer", "logistic", "hinge", \
"squared_hinge"} or callable
        Of all classes together, or of each class against the rest (the last three; two classes
        have one score then). A callable is one of classes: scores, labels, ``weight=``, ``out=``
        -> value, gradient, such as `functools.partial(losses.multiclass_hinge, delta=10)`.
    penalty : {"l2", "l1", "elasticnet", None}
        On W, not on b; see `fastopt.penalties`.
    alpha : float
        Its strength, beside the mean of the losses.
    l1_ratio : float
        The part of L1 in "elasticnet".
    optimizer : str, class, callable or Optimizer, optional
        What takes steps on batches: a rule of the library by name or class; a callable that makes
        one of {"W": W, "b": b}, such as ``functools.partial(fastopt.SGD, lr=0.1, momentum=0.9)``;
        or an optimizer of such arrays, W of shape (features, scores), which are the model's then.
    lr : float or schedule, optional
        Given to the optimizer, else its own default. Alone it asks for "Adam".
    solver : str, optional
        What works on all rows at once: a method of `fastopt.minimize`. With neither `optimizer`
        nor `lr` nor `solver` it is "l-bfgs", or "owl-qn" for a penalty with L1; for losses that
        have kinks ("hinge", "multiclass_hinge", "crammer_singer", "mae", "quantile"), for
        callables and in `partial_fit` it is steps of "Adam" with lr = 0.01.
    max_iter : int, optional
        The solver's iterations, 1000 by default, or epochs: as many as visit a million rows by
        default, 20 at least and 1000 at most.
    batch_size : int
        Rows of a step.
    tol : float, optional
        The solver's.
    fit_intercept : bool
        Whether there is a b.
    initializer : str or callable, optional
        Shape -> first W: a function of `fastopt.initializers` or its name; zeros by default.
    random_state : int, optional
        Of the order of the rows, and of an initializer given by name.

    Attributes
    ----------
    classes_ : numpy.ndarray
        The labels.
    coef_, intercept_ : numpy.ndarray of shapes (scores, features) and (scores,)
        W transposed, and b.
    history_ : list of dict
        Per epoch or iteration: "epoch", "loss" (with the penalty; of an epoch, the mean of its
        batches as they were met), "seconds".
    n_iter_ : int
        Epochs or iterations done.
    result_ : OptimizeResult
        The solver's.

    Examples
    --------
    >>> import numpy as np
    >>> from fastopt import LinearClassifier
    >>> r = np.random.default_rng(0)
    >>> X = np.concatenate([r.normal(c, 1, (100, 2)) for c in ([0, 3], [3, 0], [-3, -3])])
    >>> y = np.repeat(["a", "b", "c"], 100)
    >>> model = LinearClassifier().fit(X, y)
    >>> model.predict([[0, 3], [3, 0]]).tolist(), model.score(X, y) > 0.95
    (['a', 'b'], True)
    """

    losses = OF_CLASSES | ONE_AGAINST_REST
    kinks = frozenset({"multiclass_hinge", "crammer_singer", "hinge"})
    _estimator_type = "classifier"

    def __init__(self, loss: str | Callable[..., Any] = "softmax", **options: Any) -> None:
        super().__init__(loss, **options)

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> LinearClassifier:
        """Train from the start on rows X with labels y; return the model.

        Parameters
        ----------
        X : array-like of shape (n, features)
            float32 is computed in float32, everything else in float64.
        y : array-like of shape (n,)
            Labels, of two classes or more.
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
        weight = sample_weights(sample_weight, X, relative=True)
        classes, labels = np.unique(_labels(y, X), return_inverse=True)
        self._begin(X, classes, self._chosen())
        self._fit(X, self._targets(labels, X), weight)
        return self

    def partial_fit(
        self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None
    ) -> LinearClassifier:
        """Train for one epoch on these rows, on from where the model is; return it.

        Parameters
        ----------
        X, y
            As in `fit`.
        sample_weight : array-like of shape (n,), optional
            Not negative; a row of weight 1 counts as without.
        classes : array-like, optional
            All labels there will be; needed at the first call.

        Raises
        ------
        TypeError, ValueError, FloatingPointError
            As in `fit`; also for a label that is not among the classes, and with a solver.
        """
        self._check()
        if self.solver is not None:
            raise ValueError("partial_fit takes steps on batches: it has no solver")
        X = dense(X)
        weight = sample_weights(sample_weight, X, relative=False)
        if not hasattr(self, "_weights"):
            if classes is None:
                raise ValueError("classes must be given at the first call of partial_fit")
            self._begin(X, np.unique(classes))
        y = _labels(y, X)
        labels = np.minimum(np.searchsorted(self.classes_, y), len(self.classes_) - 1)
        if not np.array_equal(self.classes_[labels], y):
            raise ValueError(f"y has labels that are not among the classes {self.classes_}")
        if X.shape[1] != len(self._weights["W"]):
            raise ValueError(f"X has {X.shape[1]} columns, not {len(self._weights['W'])}")
        X = X.astype(self._weights["W"].dtype, copy=False)
        self._epoch(X, self._targets(labels, X), weight)
        return self

    def decision_function(self, X: Any) -> np.ndarray:
        """Return the scores, of shape (n, classes), or (n,) where two classes have one."""
        scores = self._scores(X)
        return scores[:, 0] if scores.shape[1] == 1 else scores

    def predict(self, X: Any) -> np.ndarray:
        """Return the class with the largest score for each row."""
        scores = self.decision_function(X)
        best = scores > 0 if scores.ndim == 1 else np.argmax(scores, axis=1)
        return self.classes_[best.astype(np.intp)]

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return probabilities of shape (n, classes): the softmax, or each score's, normalized.

        Raises
        ------
        AttributeError
            If the loss is not "softmax" or "logistic".
        """
        if self.loss not in ("softmax", "logistic"):
            raise AttributeError(f"loss {self.loss!r} has no probabilities")
        scores = self._scores(X)
        if self.loss == "softmax":
            scores -= scores.max(axis=1, keepdims=True)
            p = np.exp(scores)
        else:
            p = np.exp(-np.logaddexp(0, -scores))
            if p.shape[1] == 1:
                return np.concatenate([np.exp(-np.logaddexp(0, scores)), p], axis=1)
        return p / p.sum(axis=1, keepdims=True)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the part of rows whose class is predicted."""
        return float(np.average(self.predict(X) == np.asarray(y), weights=sample_weight))

    @property
    def coef_(self) -> np.ndarray:
        """W transposed."""
        return self._weights["W"].T

    @property
    def intercept_(self) -> np.ndarray:
        """The offsets, zeros without."""
        W = self._weights["W"]
        return self._weights.get("b", np.zeros(W.shape[1], W.dtype))

    def _begin(self, X: np.ndarray, classes: np.ndarray, solver: str | None = None) -> None:
        if len(classes) < 2:
            raise ValueError(f"y must have two classes or more, got {classes}")
        one = isinstance(self.loss, str) and self.loss in ONE_AGAINST_REST and len(classes) == 2
        self._start(X.shape[1], 1 if one else len(classes), X.dtype, solver)
        self.classes_ = classes

    def _targets(self, labels: np.ndarray, X: np.ndarray) -> np.ndarray:
        """Return what the loss takes as targets."""
        labels = labels.reshape(-1)
        if callable(self.loss) or self.loss in OF_CLASSES:
            return labels.astype(np.int64)
        if len(self.classes_) == 2:
            return (2 * labels[:, None] - 1).astype(X.dtype)
        return np.where(labels[:, None] == np.arange(len(self.classes_)), 1, -1).astype(X.dtype)

    def _loss(self, scores: np.ndarray, y: Any, weight: Any) -> tuple[float, np.ndarray]:
        if callable(self.loss) or self.loss in OF_CLASSES:
            return super()._loss(scores, y, weight)
        columns = scores.shape[1]  # the classes' losses are added, rows are averaged
        if weight is not None:
            weight = np.repeat(weight[:, None], columns, axis=1)
        value, grad = super()._loss(scores, y, weight)
        grad *= columns
        return value * columns, grad


def _labels(y: Any, X: np.ndarray) -> np.ndarray:
    y = np.asarray(y)
    if y.shape != (len(X),):
        raise ValueError(f"y must have shape {(len(X),)}, got {y.shape}")
    if y.dtype.kind == "f" and not (np.isfinite(y) & (y == np.floor(y))).all():
        raise ValueError("y must hold classes: whole numbers or strings, not fractions or NaN")
    if y.dtype.kind == "O" and len({type(label) for label in y.tolist()}) > 1:
        raise TypeError("y must hold labels of one type")
    return y
