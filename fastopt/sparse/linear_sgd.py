"""What the classifier and the regressor share: their parameters' meaning, training, exports."""

from __future__ import annotations

import math
import os
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import sparse
from sklearn import linear_model
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import ShuffleSplit, StratifiedShuffleSplit
from sklearn.utils.extmath import safe_sparse_dot
from sklearn.utils.validation import check_is_fitted, check_random_state, validate_data

from fastopt.data import Dataset
from fastopt.progress import Live
from fastopt.sparse import coordinate, linear_multi
from fastopt.sparse.callbacks import told_of
from fastopt.sparse.checkpoint import Checkpoint, about, of_rows
from fastopt.sparse.datasets import by_blocks
from fastopt.sparse.dual import DualResult, team
from fastopt.sparse.linear_checks import SCHEDULES, check
from fastopt.sparse.linear_dual import ascend
from fastopt.sparse.linear_inputs import FLOATS, as_rows, product, weights_of
from fastopt.sparse.multiclass import solve_together
from fastopt.sparse.one_vs_rest import OneVsRestResult, solve_all
from fastopt.sparse.order import Kept, check_order
from fastopt.sparse.polish import polished
from fastopt.sparse.rows import LARGEST_DECAY, MULTI_LOSSES, Rows, Settings, Targets
from fastopt.sparse.run import Past
from fastopt.sparse.runner import HogwildResult, UnscaledError, seconds_to, solve
from fastopt.sparse.stopping import Watch
from fastopt.sparse.user_loss import loss_of
from fastopt.threads import resolve

#: scikit-learn's name -> the runner's, and the loss's own number by default.
LOSSES = {
    "hinge": ("hinge", 1.0),
    "log_loss": ("logistic",),
    "modified_huber": ("modified_huber",),
    "squared_hinge": ("squared_hinge", 1.0),
    "perceptron": ("perceptron", 0.0),
    "squared_error": ("squared",),
    "huber": ("huber", 0.1),
    "epsilon_insensitive": ("epsilon_insensitive", 0.1),
    "squared_epsilon_insensitive": ("squared_epsilon_insensitive", 0.1),
}
UNBOUNDED = ("squared_error", "squared_hinge", "squared_epsilon_insensitive", "poisson")
MOST = 1e12  # a derivative beyond it is cut, as in scikit-learn's own


def can_go_on(estimator: Any) -> bool:
    """Raise where `partial_fit` has no meaning."""
    if estimator.optimizer == "sdca":
        raise AttributeError(
            "partial_fit needs optimizer='sgd': 'sdca' trains on all rows together"
        )
    return True


class LinearSGD:
    """Parameters, training and exports of both estimators; they say what the targets are."""

    loss_functions: dict[str, tuple[Any, ...]] = LOSSES
    _together = False  # whether one model is of all classes

    def __sklearn_clone__(self) -> Any:
        if isinstance(self.loss, str):
            return super().__sklearn_clone__()
        plain = type(self)(
            **{**self.get_params(deep=False), "loss": next(iter(self.loss_functions))}
        )
        plain.__dict__.update({k: v for k, v in vars(self).items() if k == "_metadata_request"})
        twin = plain.__sklearn_clone__()
        twin.loss = self.loss  # a function of this process cannot be copied, and need not be
        return twin

    def __getstate__(self) -> Any:
        if not isinstance(self.loss, str):
            raise TypeError(
                "loss is a compiled function of this process, which cannot be saved: "
                "set_params(loss=...) to a name before, which leaves the predictions as they are, "
                "and give it again afterwards"
            )
        return super().__getstate__()

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    def _check(self, partial: bool = False) -> None:
        check(self, partial)

    def _loss(self) -> Any:
        """Return the runner's loss: a name, or a compiled function."""
        loss = loss_of(self.loss, tuple(self.loss_functions))
        return self.loss_functions[loss][0] if isinstance(loss, str) else loss

    def _draws(self, partial: bool) -> Any:
        """Return `random_state`; where it is None, a checkpoint brings that of its training."""
        if partial or self.checkpoint is None or self.random_state is not None:
            return self.random_state
        if os.path.exists(self.checkpoint):
            return about(self.checkpoint).get("random_state")
        return int(np.random.default_rng().integers(2**31))

    def _saved(
        self, rows: Rows, state: Any, validation: tuple[Any, np.ndarray] | None
    ) -> Checkpoint | None:
        """Return the checkpoint, with what decides when training stops."""
        if self.checkpoint is None:
            return None
        stopping = {
            "tol": self.tol,
            "target": self.target,
            "n_iter_no_change": self.n_iter_no_change,
            "early_stopping": self.early_stopping,
            "learning_rate": self.learning_rate,
            "validation": None if validation is None else of_rows(*validation),
        }
        if self.optimizer == "sdca":
            stopping |= {"optimizer": "sdca", "workers": team(rows)[0]}
        note = {"estimator": self._kind}
        if isinstance(state, (int, np.integer)):
            note["random_state"] = int(state)
        return Checkpoint(self.checkpoint, self.checkpoint_every, note, stopping)

    def _settings(
        self, epochs: int, partial: bool, was_sparse: bool, state: Any, kept: np.ndarray
    ) -> tuple[Settings, str]:
        """Return the runner's settings, and why that many threads."""
        order = check_order(self.order)
        if not isinstance(order, str) and not kept.all():
            order = Kept(order, kept)
        optimal = self.learning_rate == "optimal"
        share = {"l2": 0.0, "l1": 1.0, "elasticnet": self.l1_ratio, None: 0.0}[self.penalty]
        alpha = float(self.alpha)
        l2 = 0.0 if self.penalty is None else alpha * (1 - share)
        by_column = self.optimizer in coordinate.RULES
        large = not optimal and not by_column and self.eta0 * l2 > LARGEST_DECAY
        threads, why = None, ""
        if self.n_jobs is not None:
            threads = self.n_jobs if self.n_jobs > 0 else max(1, resolve(None) + 1 + self.n_jobs)
        elif self.random_state is not None and not self.deterministic:
            threads, why = 1, "random_state is given: one thread trains to the same bits every time"
        deterministic = self.deterministic
        if deterministic is None:
            deterministic = self.random_state is not None and (threads or 1) > 1
        if large:
            why = "alpha * eta0 is so large that one thread alone can shrink the weights"
        rates = {"auto": None if optimal else 1.0, "sklearn": 0.01 if was_sparse else 1.0}
        settings = Settings.check(
            loss=self.multi_class if self._together else self._loss(),
            **({"losses": MULTI_LOSSES} if self._together else {}),
            l2=l2,
            l1=alpha * share,
            epochs=epochs,
            step="auto" if optimal else float(self.eta0),
            schedule=None if by_column and optimal else SCHEDULES[self.learning_rate],
            decay=0.9,
            mode="serial" if large else "auto",
            fit_intercept=self.fit_intercept,
            average=bool(self.average),
            threads=threads,
            seed=int(check_random_state(state).randint(2**31)),
            shuffle=self.shuffle,
            order=order,
            deterministic=deterministic and not large,
            epsilon=float(self.epsilon),
            quantile=float(getattr(self, "quantile", 0.5)),
            positive=self.positive,
            rate=alpha,
            power=float(self.power_t),
            gain=rates.get(self.intercept_rate, self.intercept_rate),
            aggressive={"pa1": 1, "pa2": 2}.get(self.learning_rate, 0),
            plain_mean=partial or not optimal or self.average is not True,
            average_from=int(self.average),
            most=math.inf if optimal or self.loss not in UNBOUNDED else MOST,
            relative=False,
            optimizer=self.optimizer if by_column else "sgd",
            max_norm=self.max_norm,
        )
        return settings, why

    # ---- training ----

    def _start(
        self, shape: tuple[int, int], dtype: Any, coef: Any, intercept: Any
    ) -> tuple[np.ndarray, np.ndarray]:
        """Begin from zero, from what is given, or with warm_start from what is there."""
        if self.warm_start and getattr(self, "coef_", None) is not None:
            coef = self.densify().coef_ if coef is None else coef
            intercept = self.intercept_ if intercept is None else intercept
        W, b = np.zeros(shape, dtype), np.zeros(shape[0])
        for name, given, ours in (("coef_init", coef, W), ("intercept_init", intercept, b)):
            if given is not None:
                given = np.asarray(given, dtype)
                if given.shape != ours.shape and (shape[0] > 1 or given.size != ours.size):
                    raise ValueError(
                        f"Provided {name} does not match dataset: it must have shape {ours.shape}, "
                        f"got {given.shape}"
                    )
                ours[:] = given.reshape(ours.shape)
        self.t_ = 1.0
        states = getattr(self, "_states", None) if self.warm_start else None
        self._forget()
        if states is not None and states[0] is not None and len(states[0].first) == shape[1]:
            self._states = states
        return W, b

    def _forget(self) -> None:
        for name in (
            *("_steps", "_states", "_averaged", "_average_coef", "_average_intercept"),
            *("_standard_coef", "_standard_intercept"),
        ):
            self.__dict__.pop(name, None)

    def _resume(self) -> tuple[np.ndarray, np.ndarray]:
        """Go on from where the last call ended."""
        self.densify()
        coef = getattr(self, "_standard_coef", self.coef_)
        intercept = getattr(self, "_standard_intercept", self.intercept_)
        return np.array(np.atleast_2d(coef), order="C"), np.array(intercept, np.float64)

    def _past(self, k: int) -> Past:
        rows = self.t_ - 1
        states = getattr(self, "_states", None)
        states = states[k] if states else None
        averaged = getattr(self, "_averaged", ())
        if not self.average or k >= len(averaged) or not averaged[k]:
            return Past(rows, states=states)
        which = slice(None) if self._together else k
        mean = np.atleast_2d(self._average_coef)[which]
        mean_intercept = np.asarray(self._average_intercept, np.float64)[which]
        return Past(rows, mean, mean_intercept, self._averaged[k], states)

    def _learn(
        self,
        X: Any,
        y: np.ndarray,
        W: np.ndarray,
        b: np.ndarray,
        sample_weight: Any,
        *,
        partial: bool = False,
        validation: tuple[Any, np.ndarray] | None = None,
    ) -> None:
        """Train every problem from its row of W and b.

        `_problems(y)` gives for each what makes its `Targets`, and weights to multiply with.
        """
        told = None
        if not partial:
            labels = self.classes_[y] if self._kind == "SGDClassifier" else y
            told = told_of(self, X, labels, sample_weight, W, b)
        weight = weights_of(sample_weight, X)
        train = np.ones(X.shape[0], bool)
        judge, state = None, self._draws(partial)
        if validation is not None:
            judge = self._judge(*validation, None)
        elif self.early_stopping:
            held = self._held_out(y, weight, state)
            judge = self._judge(X[held], y[held], None if weight is None else weight[held])
            train[held] = False
        if weight is not None:
            train &= weight > 0  # such rows count nowhere
            if not train.any():
                raise ValueError("sample_weight must not be all zero in the rows to train on")
        if not train.all():
            X, y, weight = X[train], y[train], None if weight is None else weight[train]
        epochs = 1 if partial else self.max_iter
        settings, why = self._settings(epochs, partial, sparse.issparse(X), state, train)
        rows = Rows(as_rows(X), settings)
        problems = [
            Targets(rows, **target, weights=product(weight, more, rows.dtype))
            for target, more in self._problems(y)
        ]
        deadline = None if self.time_budget is None else time.perf_counter() + self.time_budget
        watched = not partial and (self.tol is not None or self.target is not None or judge or told)

        def each(k: int) -> dict[str, Any]:
            more: dict[str, Any] = {"past": self._past(k)}
            if self.learning_rate == "optimal":
                states = more["past"].states
                if len(getattr(self, "_steps", ())) == len(problems):
                    more["step"] = self._steps[k]
                elif states is not None and states.rule == self.optimizer:
                    more["step"] = states.step  # warm_start
            if watched:
                more["watch"] = Watch(
                    self.tol,
                    self.n_iter_no_change,
                    adaptive=self.learning_rate == "adaptive",
                    score=None if judge is None else judge(k),
                    target=self.target,
                    tell=None if told is None else told.begin(k),
                )
            return more

        live = Live() if self.verbose else None

        def train() -> OneVsRestResult:
            if self.optimizer == "sdca":
                if W.any() or b.any() or validation is not None:
                    raise ValueError(
                        "optimizer='sdca' takes no coef_init, intercept_init and validation"
                    )
                return solve_all(
                    rows,
                    problems,
                    W,
                    b,
                    train=ascend,
                    result=DualResult,
                    tol=self.tol,
                    target=self.target,
                    deadline=deadline,
                    callback=live,
                    checkpoint=self._saved(rows, state, validation),
                )
            one = self._together
            return (solve_together if one else solve_all)(
                rows,
                problems[0] if one else problems,
                W,
                b,
                each=each,
                **({"train": polished(solve, self.polish)} if self.polish and not partial else {}),
                callback=live,
                track=bool(self.verbose) and not partial,
                deadline=deadline,
                checkpoint=None if partial else self._saved(rows, state, validation),
            )

        try:
            done = train()
        except KeyboardInterrupt as interrupt:
            if isinstance(getattr(interrupt, "result", None), OneVsRestResult):
                self._keep(interrupt.result, why)
            raise
        except UnscaledError as error:
            raise ValueError(_overflow(1, str(error))) from None
        finally:
            if live is not None:
                live.close()
        bad = next((r for r in done.results if r.status == "diverged"), None)
        if bad is not None:
            for name in ("coef_", "intercept_"):
                self.__dict__.pop(name, None)
            raise ValueError(_overflow(bad.epochs + 1, f"fit diverged: {bad.message}"))
        self._keep(done, why)
        if told is not None:
            told.end()
        if any(r.clipped for r in done.results):
            warnings.warn(
                f"derivatives beyond {MOST:g} were cut: the model is of no use. Scale the "
                "columns of X with StandardScaler or MinMaxScaler, or take a smaller eta0",
                RuntimeWarning,
                stacklevel=3,
            )
        to_the_end = any(r.message.startswith("all") for r in done.results)
        if to_the_end and not partial and self.tol is not None:
            warnings.warn(
                "Maximum number of iteration reached before convergence. Consider increasing "
                "max_iter to improve the fit.",
                ConvergenceWarning,
                stacklevel=3,
            )

    def _held_out(self, y: np.ndarray, weight: np.ndarray | None, state: Any) -> np.ndarray:
        """Return the rows to hold out, chosen as scikit-learn's own are."""
        share = self.validation_fraction
        splitter = StratifiedShuffleSplit if self._kind == "SGDClassifier" else ShuffleSplit
        split = splitter(test_size=share, random_state=state)
        train, held = next(split.split(np.zeros((len(y), 1)), y))
        if weight is not None and not weight[held].any():
            raise ValueError(
                "The sample weights for validation set are all zero, consider using a different "
                "random state."
            )
        if len(train) == 0 or len(held) == 0:
            raise ValueError(
                f"validation_fraction={share!r} of {len(y)} rows leaves {len(train)} to train on "
                f"and {len(held)} to validate: change it, or disable early_stopping"
            )
        return held

    def _judge(
        self, X: Any, y: np.ndarray, weight: np.ndarray | None
    ) -> Callable[[int], Callable[[np.ndarray, float], float]]:
        """Return what gives for each problem the score of a model on rows held out."""
        problems = self._problems(y)
        if self._together:
            return lambda k: linear_multi.judge(X, y, weight)

        def of_problem(k: int) -> Callable[[np.ndarray, float], float]:
            target = problems[k][0]
            truth = target["y"] if "y" in target else target["codes"] == target["positive"]

            def score(w: np.ndarray, intercept: float) -> float:
                p = np.asarray(safe_sparse_dot(X, w)) + intercept
                if "codes" in target:
                    return float(np.average((p > 0) == truth, weights=weight))
                error = np.average((self._mean(p) - truth) ** 2, weights=weight)
                mean = np.average(truth, weights=weight)
                spread = np.average((truth - mean) ** 2, weights=weight)
                return float(1 - error / spread) if spread > 0 else float(-error)

            return score

        return of_problem

    def _keep(self, done: OneVsRestResult, why: str) -> None:
        """Show the models of all problems, and keep what partial_fit needs to go on."""
        results, W = done.results, done.W
        b = done.b.astype(W.dtype)
        problems = 1 if self._together else len(W)
        self._forget()
        self._show("", W, b)
        if self.average:
            last, mean = W.copy(), np.zeros_like(W)
            last_b, mean_b = b.copy(), np.zeros_like(b)
            for k, r in enumerate(results):
                which = slice(None) if self._together else k
                last[which], last_b[which] = r.last, r.last_intercept
                if r.past.mean is not None:
                    mean[which], mean_b[which] = r.past.mean, r.past.mean_intercept
            self._show("_standard", last, last_b)
            self._show("_average", mean, mean_b)
            self._averaged = [r.past.averaged for r in results] + [0] * (problems - len(results))
        self.n_iter_ = max((r.epochs for r in results), default=0)
        self.t_ += max((r.rows for r in results), default=0)
        if len(results) == problems:
            self._steps = [r.step for r in results]
            if self.optimizer in coordinate.RULES:
                self._states = [r.past.states for r in results]
        seconds = sum(r.seconds for r in results)
        first = results[0] if results else HogwildResult(W, 0.0)
        self.fit_report_ = {
            "threads": first.threads,
            "mode": first.mode,
            "reason": why or first.reason,
            "order": first.order,
            "steps": [r.step for r in results],
            "seconds": seconds,
            "rows_per_second": sum(r.rows for r in results) / seconds if seconds else 0.0,
            "nnz_per_second": sum(r.nnz for r in results) / seconds if seconds else 0.0,
            "stop": [r.message for r in results],
            "seconds_to": [seconds_to(r.history) for r in results],
            "resumed": sum(getattr(r, "resumed", 0) for r in results),
            **getattr(first, "sparsity", {}),
            "conflicts": getattr(first, "conflicts", {}),
        }
        self.history_ = [
            {"problem": k, **record} for k, r in enumerate(results) for record in r.history
        ]

    def _show(self, kind: str, W: np.ndarray, b: np.ndarray) -> None:
        names = (f"{kind}_coef", f"{kind}_intercept") if kind else ("coef_", "intercept_")
        setattr(self, names[0], W if self._kind == "SGDClassifier" else W[0])
        setattr(self, names[1], b)

    def _scores(self, X: Any) -> np.ndarray:
        """Return the margins of shape (n_rows, n_problems)."""
        check_is_fitted(self, "coef_")
        if isinstance(X, Dataset):
            if X.n_features != self.n_features_in_:
                raise ValueError(
                    f"X has {X.n_features} features, but {self._kind} is expecting "
                    f"{self.n_features_in_}: give open_data n_features={self.n_features_in_}"
                )
            return by_blocks(X, self._scores)[0]
        X = validate_data(self, X, accept_sparse="csr", dtype=FLOATS, reset=False)
        coef = self.coef_ if sparse.issparse(self.coef_) else np.atleast_2d(self.coef_)
        return safe_sparse_dot(X, coef.T, dense_output=True) + self.intercept_

    # ---- exports ----

    def densify(self) -> Any:
        """Make `coef_` a NumPy array, as it is after fit; return self."""
        check_is_fitted(self, "coef_")
        if sparse.issparse(self.coef_):
            coef = self.coef_.toarray()
            self.coef_ = coef if self._kind == "SGDClassifier" else coef.ravel()
        return self

    def sparsify(self) -> Any:
        """Make `coef_` a sparse matrix, which saves memory where most of it is 0; return self."""
        check_is_fitted(self, "coef_")
        self.coef_ = sparse.csr_matrix(self.coef_)
        return self

    def to_sklearn(self) -> Any:
        """Return scikit-learn's own estimator, fitted, with the same predictions.

        Parameters that it does not have are left out, and `learning_rate="epoch_decay"` becomes
        "constant". Of one model of several classes it is a LogisticRegression ("multinomial"), or
        a LinearSVC.

        Raises
        ------
        ValueError
            If scikit-learn's has no such loss.
        """
        check_is_fitted(self, "coef_")
        if not isinstance(self.loss, str) or self.loss not in LOSSES:
            raise ValueError(f"scikit-learn's {self._kind} has no loss {self.loss!r}")
        if self._together:
            theirs = linear_multi.counterpart(self)
        else:
            theirs = getattr(linear_model, self._kind)()
            mine = self.get_params()
            params = {name: mine[name] for name in theirs.get_params() if name in mine}
            if self.learning_rate == "epoch_decay":
                params["learning_rate"] = "constant"
            theirs.set_params(**params)
        for name in (
            *("coef_", "intercept_", "classes_", "t_", "n_iter_", "n_features_in_"),
            *("feature_names_in_", "_standard_coef", "_standard_intercept"),
            *("_average_coef", "_average_intercept"),
        ):
            if hasattr(self, name):
                value = getattr(self, name)
                setattr(theirs, name, value.copy() if hasattr(value, "copy") else value)
        return theirs


#: Losses of the regressor that scikit-learn has.
NUMBERS = ("squared_error", "huber", "epsilon_insensitive", "squared_epsilon_insensitive")


def _overflow(epoch: int, message: str) -> str:
    return (
        f"Floating-point under-/overflow occurred at epoch #{epoch}. Scaling input data with "
        f"StandardScaler or MinMaxScaler might help. {message}"
    )
