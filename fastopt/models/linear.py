"""What the linear models share: scores, the objective, and how it is minimized."""

from __future__ import annotations

import functools
import inspect
import itertools
import math
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

import fastopt
from fastopt import initializers, penalties
from fastopt.checks import count, flag, number, one_of
from fastopt.minibatches import batches

Loss = Callable[..., tuple[float, np.ndarray]]
INITIALIZERS = tuple(name for name in initializers.__all__ if name != "constant")


class Linear:
    """Scores X W + b; subclasses say what the targets are."""

    losses: dict[str, Loss]
    kinks: frozenset[str]  # the losses that solvers for smooth functions do not suit
    _estimator_type: str

    def __init__(
        self,
        loss: str | Loss,
        *,
        penalty: str | None = "l2",
        alpha: float = 1e-4,
        l1_ratio: float = 0.15,
        optimizer: Any = None,
        lr: Any = None,
        solver: str | None = None,
        max_iter: int | None = None,
        batch_size: int = 128,
        tol: float | None = None,
        fit_intercept: bool = True,
        initializer: str | Callable[..., Any] | None = None,
        random_state: int | None = None,
    ) -> None:
        self.loss, self.penalty, self.alpha, self.l1_ratio = loss, penalty, alpha, l1_ratio
        self.optimizer, self.lr, self.solver, self.tol = optimizer, lr, solver, tol
        self.max_iter, self.batch_size = max_iter, batch_size
        self.fit_intercept, self.initializer = fit_intercept, initializer
        self.random_state = random_state

    def _check(self) -> None:
        """Refuse wrong parameters before anything is done."""
        if not callable(self.loss):
            one_of("loss", self.loss, tuple(self.losses))
        one_of("penalty", self.penalty, ("l2", "l1", "elasticnet", None))
        number("alpha", self.alpha, 0)
        number("l1_ratio", self.l1_ratio, 0, 1)
        flag("fit_intercept", self.fit_intercept)
        if self.max_iter is not None:
            count("max_iter", self.max_iter, 1)
        count("batch_size", self.batch_size, 1)
        if isinstance(self.initializer, str):
            one_of("initializer", self.initializer, INITIALIZERS)
        if self.solver is None:
            return
        solver = self._chosen()
        if self.optimizer is not None or self.lr is not None:
            given = "optimizer" if self.optimizer is not None else "lr"
            raise ValueError(f"solver {self.solver!r} takes no {given}: give one or the other")
        if self.penalty in ("l1", "elasticnet") and solver not in ("owl-qn", "random-search"):
            raise ValueError(
                f"solver {self.solver!r} takes no penalty {self.penalty!r}, which has kinks: "
                "'owl-qn' does, and so do optimizers"
            )

    def _chosen(self) -> str | None:
        """Return the solver: where nothing is asked for, the one that suits the objective."""
        if self.solver is not None:
            from fastopt.solvers.minimize import method_name  # late, as few models need it

            return method_name(self.solver)
        if self.optimizer is not None or self.lr is not None:
            return None
        if callable(self.loss) or self.loss in self.kinks:
            return None
        return "owl-qn" if self.penalty in ("l1", "elasticnet") else "l-bfgs"

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the constructor's parameters by name."""
        return {name: getattr(self, name) for name in _parameters()}

    def set_params(self, **params: Any) -> Any:
        """Set parameters of the constructor by name; return the model."""
        known = _parameters()
        for name in params:
            if name not in known:
                raise ValueError(f"no parameter is named {name!r}: {', '.join(known)}")
        for name, value in params.items():
            setattr(self, name, value)
        return self

    def __repr__(self) -> str:
        defaults = inspect.signature(Linear.__init__).parameters
        shown = [repr(self.loss)]
        for name in _parameters()[1:]:
            value, default = getattr(self, name), defaults[name].default
            if value is not default and (type(value) is not type(default) or value != default):
                shown.append(f"{name}={value!r}")
        return f"{type(self).__name__}({', '.join(shown)})"

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import ClassifierTags, RegressorTags, Tags, TargetTags

        return Tags(
            estimator_type=self._estimator_type,
            target_tags=TargetTags(required=True),
            classifier_tags=ClassifierTags() if self._estimator_type == "classifier" else None,
            regressor_tags=RegressorTags() if self._estimator_type == "regressor" else None,
        )

    def _scores(self, X: Any) -> np.ndarray:
        """Return X W + b of shape (n, outputs)."""
        if not hasattr(self, "_weights"):
            raise ValueError(f"this {type(self).__name__} is not fitted: call fit first")
        W = self._weights["W"]
        X = dense(X, W.dtype)
        if X.shape[1] != W.shape[0]:
            raise ValueError(f"X has {X.shape[1]} columns, the model was fitted on {W.shape[0]}")
        scores = X @ W
        if "b" in self._weights:
            scores += self._weights["b"]
        return scores

    def _start(self, features: int, outputs: int, dtype: Any, solver: str | None) -> None:
        """Make weights and, without a solver, an optimizer of them."""
        shape = (features, outputs)
        if isinstance(self.optimizer, fastopt.Optimizer):
            groups = self.optimizer.param_groups
            weights = {name: a for group in groups for name, a in group["params"].items()}
            wanted = {"W": shape, "b": (outputs,)} if self.fit_intercept else {"W": shape}
            if {name: a.shape for name, a in weights.items()} != wanted:
                got = {name: a.shape for name, a in weights.items()}
                raise ValueError(f"optimizer must be one of arrays {wanted}, got {got}")
            self._optimizer = self.optimizer
        else:
            make = self.initializer
            if isinstance(make, str):
                make = functools.partial(getattr(initializers, make), **self._seeded(make))
            W = np.zeros(shape, dtype) if make is None else np.array(make(shape), dtype)
            if W.shape != shape:
                raise ValueError(f"initializer must return shape {shape}, got {W.shape}")
            weights = {"W": W}
            if self.fit_intercept:
                weights["b"] = np.zeros(outputs, dtype)
            self._optimizer = None if solver else self._made(weights)
        self._weights, self.history_, self.n_iter_ = weights, [], 0

    def _seeded(self, initializer: str) -> dict[str, Any]:
        return {} if initializer == "zeros" else {"seed": self.random_state}

    def _made(self, weights: dict[str, np.ndarray]) -> Any:
        """Return an optimizer of the weights from a name, a class, or a function of them."""
        make = "Adam" if self.optimizer is None else self.optimizer
        if isinstance(make, str):
            registry = fastopt.Optimizer.registry
            make = registry[one_of("optimizer", make, tuple(sorted(registry)))]
        elif not callable(make):
            raise TypeError(f"optimizer must be a name, a class or an optimizer, got {make!r}")
        lr = 0.01 if self.lr is self.optimizer is None else self.lr
        return make(weights) if lr is None else make(weights, lr=lr)

    def _value(
        self, weights: dict[str, np.ndarray], X: np.ndarray, y: Any, weight: Any, smooth: bool
    ) -> tuple[float, dict[str, np.ndarray]]:
        """Return the mean loss plus the penalty, and the gradients; `smooth`: without L1."""
        scores = X @ weights["W"]
        if "b" in weights:
            scores += weights["b"]
        value, of_scores = self._loss(scores, y, weight)
        if weight is not None:  # the loss is a mean by weights, a batch counts by its own
            share = float(weight.mean())
            value, of_scores = value * share, np.multiply(of_scores, share, out=of_scores)
        grads = {"W": X.T @ of_scores}
        if "b" in weights:
            grads["b"] = of_scores.sum(axis=0)
        l1, l2 = self._strengths()
        if l2 or (l1 and not smooth):
            strength = l2 if smooth else l1 + l2
            ratio = 0.0 if smooth else l1 / strength
            value += penalties.elastic_net(weights["W"], strength, ratio, grad=grads["W"])[0]
        return value, grads

    def _strengths(self) -> tuple[float, float]:
        ratio = {"l2": 0.0, "l1": 1.0, "elasticnet": self.l1_ratio, None: 0.0}[self.penalty]
        alpha = 0.0 if self.penalty is None else self.alpha
        return alpha * ratio, alpha * (1 - ratio)

    def _loss(self, scores: np.ndarray, y: Any, weight: Any) -> tuple[float, np.ndarray]:
        """Return the loss of scores, whose array the gradient may take."""
        call = self.loss if callable(self.loss) else self.losses[self.loss]
        return call(scores, y, weight=weight, out=scores)

    def _fit(self, X: np.ndarray, y: Any, weight: Any) -> None:
        solver = self._chosen()
        if solver is not None:
            self._solve(X, y, weight, solver)
            return
        epochs = self.max_iter or min(max(20, math.ceil(1e6 / len(X))), 1000)
        for _ in range(epochs):
            self._epoch(X, y, weight)
        if self.max_iter is None:
            first, before, last = (self.history_[-k]["loss"] for k in (epochs, epochs // 10, 1))
            if before - last > 0.03 * (first - last):  # a tenth would be no slowing down at all
                warnings.warn(
                    f"the loss was still falling after {epochs} epochs ({before:.3g} to {last:.3g} "
                    "in the last tenth of them): give a larger lr, or more epochs as max_iter",
                    RuntimeWarning,
                    stacklevel=3,
                )

    def _epoch(self, X: np.ndarray, y: Any, weight: Any) -> None:
        """Take a step for each batch of one random order of the rows."""
        begin, total, rows = time.perf_counter(), 0.0, 0
        if self._optimizer is None:  # a solver was here before
            self._optimizer = self._made(self._weights)
        data = {"X": X, "y": y} | ({} if weight is None else {"weight": weight})
        rounds = batches(data, min(self.batch_size, len(X)), seed=self.random_state)
        rounds.epoch = self.n_iter_
        for batch in rounds:
            w = batch.get("weight")
            if w is not None and not w.any():
                continue
            value, grads = self._value(self._weights, batch["X"], batch["y"], w, smooth=False)
            if not math.isfinite(value):
                raise FloatingPointError(
                    f"the loss is {value} in epoch {self.n_iter_ + 1}: try a smaller lr"
                )
            self._optimizer.step(grads)
            total, rows = total + value * len(batch["X"]), rows + len(batch["X"])
        self.n_iter_ += 1
        seconds = time.perf_counter() - begin
        self.history_.append({"epoch": self.n_iter_, "loss": total / rows, "seconds": seconds})

    def _solve(self, X: np.ndarray, y: Any, weight: Any, solver: str) -> None:
        """Minimize over all rows at once."""
        from fastopt import minimize  # loaded late: it is needed here alone

        names, arrays = list(self._weights), list(self._weights.values())
        ends = np.cumsum([0] + [a.size for a in arrays])
        smooth = solver == "owl-qn"
        begin = time.perf_counter()

        def split(flat: np.ndarray) -> dict[str, np.ndarray]:
            parts = (flat[i:j] for i, j in itertools.pairwise(ends))
            return {n: p.reshape(a.shape) for n, a, p in zip(names, arrays, parts, strict=True)}

        def fun(flat: np.ndarray) -> tuple[float, np.ndarray]:
            value, grads = self._value(split(flat), X, y, weight, smooth)
            return value, np.concatenate([grads[name].ravel() for name in names])

        def follow(intermediate_result: Any) -> None:
            seconds = time.perf_counter() - begin
            row = {"epoch": len(self.history_) + 1, "loss": float(intermediate_result.fun)}
            self.history_.append(row | {"seconds": seconds})

        options: dict[str, Any] = {"maxiter": self.max_iter or 1000}
        if smooth:
            l1 = np.zeros(ends[-1])
            l1[: ends[1]] = self._strengths()[0]
            options["l1"] = l1
        start = np.concatenate([a.ravel() for a in arrays])
        self.result_ = minimize(
            fun, start, jac=True, method=solver, tol=self.tol, callback=follow, options=options
        )
        if not self.result_.success:
            warnings.warn(f"{solver}: {self.result_.message}", RuntimeWarning, stacklevel=4)
        for name, part in split(self.result_.x).items():
            self._weights[name][...] = part
        self.n_iter_ = int(self.result_.nit)


def _parameters() -> list[str]:
    return [name for name in inspect.signature(Linear.__init__).parameters if name != "self"]


def dense(X: Any, dtype: Any = None) -> np.ndarray:
    """Return X as a matrix of floats; float32 stays so unless `dtype` says otherwise."""
    if hasattr(X, "indptr"):
        raise TypeError("X must be dense; for sparse rows see fastopt.SGDClassifier and hogwild")
    array = np.asarray(X)
    if array.ndim != 2:
        raise ValueError(f"X must have shape (n, features), got {array.shape}")
    if array.dtype.kind not in "biuf":
        raise TypeError(f"X must be numbers, got {array.dtype}")
    if dtype is None:
        dtype = np.float32 if array.dtype == np.float32 else np.float64
    array = np.ascontiguousarray(array, dtype)
    if not np.isfinite(array).all():
        raise ValueError("X must be finite")
    return array


def sample_weights(weight: Any, X: np.ndarray, *, relative: bool) -> np.ndarray | None:
    """Return weights of rows as an array of the type of X; `relative`: their mean is made 1."""
    if weight is None:
        return None
    array = np.array(weight, X.dtype)
    if array.shape != (len(X),):
        raise ValueError(f"sample_weight must have shape {(len(X),)}, got {array.shape}")
    if not (np.isfinite(array).all() and (array >= 0).all() and array.any()):
        raise ValueError("sample_weight must be finite, not negative, and not all 0")
    return array / array.mean(dtype=np.float64).astype(X.dtype) if relative else array
