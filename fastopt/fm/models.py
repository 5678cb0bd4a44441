"""Factorization machines: the weights and factors alone, and the file they are kept in."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

import numpy as np

from fastopt import _core
from fastopt.data import CSR
from fastopt.files import load_npz, save_npz
from fastopt.fm.run import outputs
from fastopt.fm.state import Settings, State
from fastopt.sparse.models import LinearModel, known_columns
from fastopt.threads import resolve

__all__ = ["FMModel", "load", "save"]

KIND, VERSION = "fastopt factorization machine", 1


@dataclass(frozen=True)
class FMModel(LinearModel):
    """A trained factorization machine; it predicts and labels as `LinearModel` does.

    Attributes
    ----------
    W : numpy.ndarray, shape (n_outputs, n_features)
        The weights. One output for two classes and for regression, else one per class.
    b : numpy.ndarray of float64, shape (n_outputs,)
        The intercepts.
    classes : numpy.ndarray, shape (n_classes,), or None
    settings : dict
        ``settings["loss"]`` is always there.
    V : numpy.ndarray, shape (n_outputs, n_features, rank)
        The factors.

    Examples
    --------
    >>> import numpy as np
    >>> from fastopt.fm.models import FMModel
    >>> from fastopt.data import CSR
    >>> model = FMModel(np.zeros((1, 2)), np.zeros(1), None, {"loss": "squared"},
    ...                 V=np.array([[[2.0], [3.0]]]))
    >>> rows = CSR(np.ones(3), np.array([0, 1, 1]), np.array([0, 2, 3]), (2, 2))
    >>> model.predict(rows).tolist()  # 2 * 3 where both columns are there
    [6.0, 0.0]
    """

    V: np.ndarray = field(default_factory=lambda: np.empty((0, 0, 0)), kw_only=True)

    def decision(self, X: CSR) -> np.ndarray:
        """Return the predictions before any label; columns past the model's own count nothing.

        Parameters
        ----------
        X : CSR, shape (n_rows, any)
            No column twice in a row.

        Returns
        -------
        numpy.ndarray of float64, shape (n_rows, n_outputs)
        """
        if X.shape[0] == 0:
            return np.empty((0, len(self.b)))
        X = known_columns(X, self.n_features, self.W.dtype)
        threads, states = resolve(None), []
        for w, b, v in zip(self.W, self.b, self.V, strict=True):
            state = State(self.n_features, v.shape[1], False, self.W.dtype)
            state.weights[:], state.factors[:], state.intercept = w, v, float(b)
            states.append(state)
        samples = _core.Samples(X.data, X.indices, X.indptr, X.shape, threads)
        settings = Settings(
            self.settings["loss"], 0.1, self.V.shape[2], 0.0, 0.0, 0.0, False, True, 0, 1.0,
            "constant", 1.0, False, 0, threads, True,
        )  # fmt: skip
        return outputs(samples, states, settings, threads)


def save(path: str | os.PathLike[str], model: FMModel) -> None:
    """Write `model` to an npz file, atomically.

    Raises
    ------
    OSError
        If the file cannot be written; a file that was there before is untouched.
    """
    arrays = {"W": model.W, "b": model.b, "V": model.V}
    if model.classes is not None:
        arrays["classes"] = model.classes
    save_npz(path, KIND, VERSION, {"settings": model.settings}, arrays)


def load(path: str | os.PathLike[str]) -> FMModel:
    """Read a model that `save` wrote.

    Raises
    ------
    OSError
        If the file cannot be opened.
    ValueError
        If the file is damaged or does not hold a factorization machine; the message names the file.
    """
    meta, arrays = load_npz(path, KIND, VERSION)
    W, b, V = (arrays.get(name) for name in ("W", "b", "V"))
    if (
        W is None or b is None or V is None or W.ndim != 2 or V.ndim != 3
        or b.shape != W.shape[:1] or V.shape[:2] != W.shape or not V.size
        or W.dtype not in ("f4", "f8") or V.dtype != W.dtype or b.dtype.kind != "f"
        or not isinstance(meta.get("settings"), dict)
        or meta["settings"].get("loss") not in _core.LOSSES
    ):  # fmt: skip
        raise ValueError(f"{os.fspath(path)}: its arrays do not make a factorization machine")
    return FMModel(W, b, arrays.get("classes"), meta["settings"], V=V)
