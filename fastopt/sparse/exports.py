"""Linear models in the formats of other programs."""

from __future__ import annotations

import csv
import io
import json
import os
from typing import Any

import numpy as np

from fastopt.files import replacing
from fastopt.sparse.models import LinearModel

__all__ = ["FORMATS", "format_of", "write"]

FORMATS = {".csv": "csv", ".json": "json", ".joblib": "sklearn", ".pkl": "sklearn",
           ".model": "liblinear"}  # fmt: skip
#: Names of LIBLINEAR's solvers for our losses; only what they predict matters.
SOLVERS = {"logistic": "L2R_LR", "hinge": "L2R_L1LOSS_SVC_DUAL", "squared": "L2R_L2LOSS_SVR"}
#: scikit-learn's names of our losses.
THEIR_LOSSES = {"logistic": "log_loss", "hinge": "hinge", "squared": "squared_error"}


def format_of(path: str) -> str:
    """Return the format that a name asks for.

    Examples
    --------
    >>> format_of("a9a.model")
    'liblinear'
    """
    ending = os.path.splitext(path)[1].lower()
    if ending not in FORMATS:
        raise ValueError(
            f"OUT: {path} does not say which format: end it in {', '.join(FORMATS)}, or give --to"
        )
    return FORMATS[ending]


def write(path: str, model: LinearModel, to: str) -> bool:
    """Write a model in a format of `FORMATS`, atomically.

    Parameters
    ----------
    path : str
    model : LinearModel
    to : {"csv", "json", "sklearn", "liblinear"}

    Returns
    -------
    bool
        Whether LIBLINEAR's feature k + 1 is column k, not column k + 1.

    Raises
    ------
    ValueError
        If the format cannot hold the model.
    ImportError
        If "sklearn" needs scikit-learn, which is not there.
    """
    shifted = False
    if to == "liblinear":
        text, shifted = liblinear(model)
        content = text.encode()
    elif to == "json":
        content = json.dumps(as_dict(model)).encode()
    elif to == "csv":
        content = table(model).encode()
    else:
        content = pickled(model)
    with replacing(path) as file:
        file.write(content)
    return shifted


def as_dict(model: LinearModel) -> dict[str, Any]:
    """Return a model as JSON has it."""
    return {
        "weights": model.W.tolist(),
        "intercepts": model.b.tolist(),
        "classes": None if model.classes is None else model.classes.tolist(),
        "settings": model.settings,
    }


def outputs(model: LinearModel) -> list[str]:
    """Return names for the outputs: the class that each stands for."""
    if model.classes is None:
        return ["weight"]
    return [str(c) for c in (model.classes[1:] if len(model.b) == 1 else model.classes)]


def table(model: LinearModel) -> str:
    """Return a model as CSV: the intercepts, then every column with a weight that is not 0."""
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    names = (model.settings.get("reading") or {}).get("numbers") or []
    lines.writerow(["column", "name", *outputs(model)])
    lines.writerow(["", "intercept", *map(repr, model.b.tolist())])
    for j in np.flatnonzero(model.W.any(axis=0)).tolist():
        name = names[j] if j < len(names) else ""
        lines.writerow([j, name, *map(str, model.W[:, j])])
    return text.getvalue()


def liblinear(model: LinearModel) -> tuple[str, bool]:
    """Return a model as LIBLINEAR's `save_model` writes it, and whether columns are shifted.

    With one output, the label named first is that of positive outputs. The intercept is the
    weight of a last feature that is always 1 (its `bias`).
    """
    loss = model.settings.get("loss")
    if loss not in SOLVERS:
        raise ValueError(f"LIBLINEAR has no loss {loss!r}")
    W = model.W
    shifted = bool(W[:, 0].any())
    if not shifted and W.shape[1] > 1:  # column 0 is of no use: 1 is LIBLINEAR's first
        W = W[:, 1:]
    lines = [f"solver_type {SOLVERS[loss]}", f"nr_class {max(2, len(model.b))}"]
    if model.classes is not None:
        whole = model.classes.dtype.kind in "iu" and np.abs(model.classes).max() < 2**31
        if not whole:
            raise ValueError("LIBLINEAR's labels are whole numbers; those of this model are not")
        labels = model.classes[::-1] if len(model.b) == 1 else model.classes
        lines.append("label " + " ".join(map(str, labels.tolist())))
    lines += [f"nr_feature {W.shape[1]}", "bias 1", "w"]
    weights = np.vstack([W.T, model.b[None, :]]).astype(np.float64)
    lines += [" ".join(f"{w:.17g}" for w in row) + " " for row in weights.tolist()]
    return "\n".join(lines) + "\n", shifted


def pickled(model: LinearModel) -> bytes:
    """Return scikit-learn's own estimator with this model, as joblib writes it."""
    try:
        import joblib
        from sklearn.linear_model import SGDClassifier, SGDRegressor
    except ImportError as error:
        raise ImportError("--to sklearn needs scikit-learn: pip install 'fastopt[sklearn]'") from (
            error
        )
    loss = model.settings.get("loss")
    if loss not in THEIR_LOSSES:
        raise ValueError(f"scikit-learn's SGD has no loss {loss!r}")
    options = {"loss": THEIR_LOSSES[loss], "alpha": model.settings.get("l2", 0.0001)}
    if model.classes is None:
        made = SGDRegressor(**options)
        made.coef_ = model.W[0].copy()
    else:
        made = SGDClassifier(**options)
        made.coef_, made.classes_ = model.W.copy(), model.classes.copy()
    made.intercept_ = model.b.copy()
    made.n_features_in_, made.t_ = model.n_features, 1.0
    file = io.BytesIO()
    joblib.dump(made, file)
    return file.getvalue()
