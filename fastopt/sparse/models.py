"""Linear models: the weights, what the outputs mean, and the file they are kept in."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fastopt.data import CSR
from fastopt.files import load_npz, save_npz
from fastopt.sparse.evaluation import margins

__all__ = ["LinearModel", "beyond", "classes_of", "known_columns", "load", "save"]

KIND, VERSION = "fastopt linear model", 1
PROBABLE = ("logistic", "multinomial")  #: losses of models that say probabilities


@dataclass(frozen=True)
class LinearModel:
    """A trained linear model.

    Attributes
    ----------
    W : numpy.ndarray, shape (n_outputs, n_features)
        The weights. One output for two classes and for regression, else one per class.
    b : numpy.ndarray of float64, shape (n_outputs,)
        The intercepts.
    classes : numpy.ndarray, shape (n_classes,), or None
        The labels in the order of the outputs; with one output, the second is the positive one.
        None: the output is the prediction (regression).
    settings : dict
        How the model was trained; what JSON can hold. ``settings["loss"]`` is always there.
    """

    W: np.ndarray
    b: np.ndarray
    classes: np.ndarray | None
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def n_features(self) -> int:
        """Return the number of columns that the model has weights for."""
        return self.W.shape[1]

    def decision(self, X: CSR) -> np.ndarray:
        """Return ``X @ W.T + b``, summed in double; columns past the model's own count nothing.

        Parameters
        ----------
        X : CSR, shape (n_rows, any)
            The rows. Fewer columns than the model's are fine; `beyond` counts what is ignored.

        Returns
        -------
        numpy.ndarray of float64, shape (n_rows, n_outputs)
        """
        if X.shape[0] == 0:
            return np.empty((0, len(self.b)))
        return margins(known_columns(X, self.n_features, self.W.dtype), self.W, self.b)

    def predict(self, X: CSR) -> np.ndarray:
        """Return the predicted label of each row, or the predicted number for regression.

        Returns
        -------
        numpy.ndarray, shape (n_rows,)
        """
        return self.label(self.decision(X))

    def label(self, decision: np.ndarray) -> np.ndarray:
        """Return the labels (or numbers) that the outputs `decision` stand for."""
        if self.classes is None:
            return decision[:, 0]
        if decision.shape[1] == 1:
            return self.classes[(decision[:, 0] > 0).astype(np.intp)]
        return self.classes[decision.argmax(axis=1)]

    def probability(self, decision: np.ndarray) -> np.ndarray:
        """Return each class's probability given the outputs `decision` of a logistic model.

        With several classes, the one-against-the-rest probabilities divided by their sum; of a
        multinomial model, the softmax of the outputs.

        Returns
        -------
        numpy.ndarray of float64, shape (n_rows, n_classes)

        Raises
        ------
        ValueError
            If the model was not trained with the logistic or the multinomial loss.
        """
        loss = self.settings.get("loss")
        if self.classes is None or loss not in PROBABLE:
            raise ValueError(
                f"probabilities need a model trained with --loss logistic or multinomial, this one "
                f"has {loss!r}"
            )
        if loss == "multinomial":
            p = np.exp(decision - decision.max(axis=1, keepdims=True))
            return p / p.sum(axis=1, keepdims=True)
        p = 0.5 * (1.0 + np.tanh(0.5 * decision))  # 1 / (1 + exp(-x)) that cannot overflow
        if p.shape[1] == 1:
            return np.hstack([1.0 - p, p])
        total = p.sum(axis=1, keepdims=True)
        return np.where(total > 0, p / np.where(total > 0, total, 1), 1 / p.shape[1])


def known_columns(X: CSR, n_features: int, dtype: np.dtype) -> CSR:
    """Return rows of so many columns, without what is past them, in this dtype."""
    indices, data, indptr = X.indices, X.data, X.indptr
    if X.shape[1] > n_features:
        known = indices < n_features
        indptr = np.concatenate([[0], np.cumsum(known)])[indptr]
        indices, data = indices[known], data[known]
    return CSR(data.astype(dtype, copy=False), indices, indptr, (X.shape[0], n_features))


def beyond(X: CSR, n_features: int) -> tuple[int, int]:
    """Return how many columns, and how many values, of `X` are past the first `n_features` columns.

    Returns
    -------
    columns, values : int
    """
    if X.shape[1] <= n_features:
        return 0, 0
    found = X.indices[X.indices >= n_features]
    return len(np.unique(found)), len(found)


def save(path: str | os.PathLike[str], model: LinearModel) -> None:
    """Write `model` to an npz file, atomically.

    Raises
    ------
    OSError
        If the file cannot be written; a file that was there before is untouched.
    """
    arrays = {"W": model.W, "b": model.b}
    if model.classes is not None:
        arrays["classes"] = model.classes
    save_npz(path, KIND, VERSION, {"settings": model.settings}, arrays)


def load(path: str | os.PathLike[str]) -> LinearModel:
    """Read a model that `save` wrote.

    Raises
    ------
    OSError
        If the file cannot be opened.
    ValueError
        If the file is damaged or does not hold a linear model of this format; the message names
        the file.
    """
    meta, arrays = load_npz(path, KIND, VERSION)
    W, b, classes = (arrays.get(name) for name in ("W", "b", "classes"))
    if (
        W is None or b is None or W.ndim != 2 or b.shape != (W.shape[0],) or len(b) == 0
        or W.dtype.kind != "f" or b.dtype.kind != "f"
        or not isinstance(meta.get("settings"), dict)
        or (classes is None and len(b) != 1)
        or (classes is not None and classes.shape != (2 if len(b) == 1 else len(b),))
    ):  # fmt: skip
        raise ValueError(f"{os.fspath(path)}: its arrays do not make a linear model")
    return LinearModel(W, b, classes, meta["settings"])


def classes_of(y: Sequence[float] | np.ndarray) -> np.ndarray:
    """Return the distinct labels of `y`, sorted; as integers where all of them are whole.

    Raises
    ------
    ValueError
        If the labels cannot be classes: not finite, fewer than two, more than 1,000, or more than
        two that are not whole numbers.

    Examples
    --------
    >>> classes_of([1.0, -1.0, 1.0])
    array([-1,  1])
    >>> classes_of([0.5, 1.5, 2.5])
    Traceback (most recent call last):
        ...
    ValueError: labels: 3 different ones that are not whole numbers (0.5, ...) cannot be classes; \
for regression use --loss squared
    """
    labels = np.unique(y)
    if labels.dtype.kind == "f":
        if not np.isfinite(labels).all():
            raise ValueError("labels: must be finite numbers, got NaN or infinity")
        whole = labels == np.round(labels)
        if whole.all() and (np.abs(labels) < 2**53).all():
            labels = labels.astype(np.int64)
        elif len(labels) > 2:
            raise ValueError(
                f"labels: {len(labels):,} different ones that are not whole numbers "
                f"({labels[~whole][0]:g}, ...) cannot be classes; for regression use --loss squared"
            )
    if len(labels) < 2:
        raise ValueError(
            f"labels: a classifier needs at least 2 different ones, got {labels.tolist()}"
        )
    if len(labels) > 1000:
        raise ValueError(
            f"labels: {len(labels):,} different whole numbers are more than the 1,000 classes that "
            "a classifier may have; for regression use --loss squared"
        )
    return labels
