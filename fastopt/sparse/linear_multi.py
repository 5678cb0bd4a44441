"""The classifier's `multi_class`: one model of all classes in place of one against the rest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC

from fastopt.checks import one_of
from fastopt.sparse.multiclass import scores

#: What `multi_class` may be -> the loss that it is the extension of.
EXTENDS = {"multinomial": "log_loss", "crammer_singer": "hinge", "weston_watkins": "hinge"}
#: scikit-learn's parameters that mean the same there.
SAME = ("fit_intercept", "max_iter", "tol", "class_weight", "random_state", "verbose")


def refuse(estimator: Any) -> None:
    """Raise if `multi_class` is not known, or does not go with another parameter."""
    kind = one_of("multi_class", estimator.multi_class, ("ovr", *EXTENDS))
    if kind == "ovr":
        return
    if estimator.loss != EXTENDS[kind]:
        raise ValueError(
            f"multi_class={kind!r} needs loss={EXTENDS[kind]!r}, got {estimator.loss!r}"
        )
    if estimator.penalty not in ("l2", None):
        raise ValueError(
            f"multi_class={kind!r} needs penalty='l2' or None, got {estimator.penalty!r}"
        )
    for name, bad in (("positive", (True,)), ("learning_rate", ("pa1", "pa2"))):
        if getattr(estimator, name) in bad:
            raise ValueError(f"multi_class={kind!r} cannot do {name}={bad[0]!r}: use 'ovr'")
    if estimator.max_norm is not None:
        raise ValueError(f"multi_class={kind!r} has no max_norm: use 'ovr'")
    if estimator.optimizer != "sgd":
        raise ValueError(f"multi_class={kind!r} needs optimizer='sgd', got {estimator.optimizer!r}")


def judge(
    X: Any, codes: np.ndarray, weight: np.ndarray | None
) -> Callable[[np.ndarray, np.ndarray], float]:
    """Return what gives the accuracy of a model on rows held out."""

    def score(blocks: np.ndarray, b: np.ndarray) -> float:
        return float(np.average(scores(X, blocks, b).argmax(1) == codes, weights=weight))

    return score


def counterpart(estimator: Any) -> LogisticRegression | LinearSVC:
    """Return scikit-learn's estimator of the same predictions, not yet fitted."""
    theirs = LogisticRegression()
    if estimator.multi_class != "multinomial":
        theirs = LinearSVC(multi_class="crammer_singer")
    mine = {name: getattr(estimator, name) for name in SAME}
    return theirs.set_params(**{name: value for name, value in mine.items() if value is not None})
