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
SOLVERS = {
    "logistic": "L2R_LR",
    "hinge": "L2R_L1LOSS_SVC_DUAL",
    "squared": "L2R_L2LOSS_SVR",
    "crammer_singer": "MCSVM_CS",
    "weston_watkins": "MCSVM_CS",
}
#: scikit-learn's names of our losses of one class against the rest.
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
        from sklearn import linear_model, svm
    except ImportError as error:
        raise ImportError("--to sklearn needs scikit-learn: pip install 'fastopt[sklearn]'") from (
            error
        )
    loss, l2 = model.settings.get("loss"), model.settings.get("l2", 0.0001)
    W, b = model.W.copy(), model.b.copy()
    if loss == "multinomial":
        made = linear_model.LogisticRegression()
        if len(b) == 2:  # theirs has one output for two classes: how much more the second has
            W, b = W[1:] - W[:1], b[1:] - b[:1]
    elif loss in ("crammer_singer", "weston_watkins"):
        made = svm.LinearSVC(multi_class="crammer_singer")
    elif loss in THEIR_LOSSES:
        kind = "SGDRegressor" if model.classes is None else "SGDClassifier"
        made = getattr(linear_model, kind)(loss=THEIR_LOSSES[loss], alpha=l2)
        made.t_ = 1.0
    else:
        raise ValueError(f"scikit-learn has no loss {loss!r}")
    made.coef_ = W[0] if model.classes is None else W
    if model.classes is not None:
        made.classes_ = model.classes.copy()
    made.intercept_, made.n_features_in_ = b, model.n_features
    file = io.BytesIO()
    joblib.dump(made, file)
    return file.getvalue()
