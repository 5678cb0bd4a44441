"""The parameters of the linear estimators: what each may be, and what goes together."""

from __future__ import annotations

import math
import warnings
from typing import Any

from fastopt.checks import count, flag, number, one_of
from fastopt.sparse import coordinate, linear_multi
from fastopt.sparse.checkpoint import Checkpoint
from fastopt.sparse.linear_dual import refuse
from fastopt.sparse.order import check_order
from fastopt.sparse.polish import check_polish

SCHEDULES = {
    "optimal": "inverse_time",
    "constant": "constant",
    "invscaling": "power",
    "adaptive": "constant",
    "pa1": "constant",
    "pa2": "constant",
    "epoch_decay": "epoch_decay",
}
PENALTIES = ("l2", "l1", "elasticnet", None)


def check(estimator: Any, partial: bool = False) -> None:
    """Raise if a parameter has a value that it may not have."""
    loss = estimator._loss()
    one_of("penalty", estimator.penalty, PENALTIES)
    one_of("learning_rate", estimator.learning_rate, tuple(SCHEDULES))
    one_of("optimizer", estimator.optimizer, ("sgd", "sdca", *coordinate.RULES))
    for name in ("fit_intercept", "shuffle", "warm_start", "early_stopping", "positive"):
        flag(name, getattr(estimator, name))
    for name in ("max_iter", "n_iter_no_change"):
        count(name, getattr(estimator, name), 1)
    for name in ("alpha", "epsilon"):
        number(name, getattr(estimator, name), 0)
    number("eta0", estimator.eta0, 0, open_below=True)
    number("power_t", estimator.power_t, -math.inf)
    if estimator.max_norm is not None:
        number("max_norm", estimator.max_norm, 0, open_below=True)
    for name in ("tol", "time_budget"):
        if getattr(estimator, name) is not None:
            number(name, getattr(estimator, name), 0)
    if estimator.target is not None:
        number("target", estimator.target, -math.inf)
    if estimator.l1_ratio is not None:
        number("l1_ratio", estimator.l1_ratio, 0, 1)
    elif estimator.penalty == "elasticnet":
        raise ValueError("l1_ratio must be set when penalty is 'elasticnet'")
    if not 0 < number("validation_fraction", estimator.validation_fraction, 0, 1) < 1:
        raise ValueError("validation_fraction must not be 0 or 1")
    if estimator.intercept_rate not in ("auto", "sklearn"):
        number("intercept_rate", estimator.intercept_rate, 0, open_below=True)
    if type(estimator.average).__name__ not in ("bool", "bool_"):
        count("average", estimator.average, 1)
    if estimator.n_jobs is not None and (count("n_jobs", estimator.n_jobs, -(1 << 62)) == 0):
        raise ValueError("n_jobs must be None or an integer other than 0, got 0")
    needed = "hinge" if estimator._kind == "SGDClassifier" else "epsilon_insensitive"
    if estimator.learning_rate in ("pa1", "pa2") and loss != estimator.loss_functions[needed][0]:
        raise ValueError(
            f"Learning rate {estimator.learning_rate!r} only works with loss {needed!r}"
        )
    path = "" if estimator.checkpoint is None else estimator.checkpoint
    Checkpoint(path, estimator.checkpoint_every)
    if estimator.optimizer == "sdca":
        refuse(estimator, loss)
    elif estimator.optimizer != "sgd" and estimator.learning_rate in ("pa1", "pa2"):
        raise ValueError(f"learning_rate {estimator.learning_rate!r} needs optimizer='sgd'")
    limits = ("positive", "max_norm", "early_stopping", "checkpoint")
    others = {name: getattr(estimator, name) for name in limits}
    others["penalty"] = estimator.penalty if estimator.penalty in ("l1", "elasticnet") else None
    others["optimizer"] = "sdca" if estimator.optimizer == "sdca" else None
    together = getattr(estimator, "multi_class", "ovr")
    others["multi_class"] = None if together == "ovr" else together
    check_polish(estimator.polish, loss, **others)
    if estimator.optimizer == "ftrl" and estimator.learning_rate not in ("optimal", "constant"):
        raise ValueError(
            "optimizer='ftrl' needs a constant step: learning_rate must be 'optimal' or "
            f"'constant', got {estimator.learning_rate!r}"
        )
    if estimator.deterministic is not None:
        flag("deterministic", estimator.deterministic)
    order = check_order(estimator.order)
    if partial and not isinstance(order, str):
        raise ValueError("order must be a name with partial_fit, which knows no epochs")
    if estimator._kind == "SGDClassifier":
        linear_multi.refuse(estimator)
    if partial and estimator.early_stopping:
        raise ValueError("early_stopping should be False with partial_fit")
    if estimator.power_t < 0:
        warnings.warn(
            "Negative values for `power_t` are deprecated: use values in [0, inf)",
            FutureWarning,
            stacklevel=5,
        )
