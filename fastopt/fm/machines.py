"""What the two factorization machines share: their parameters' meaning, training, attributes."""

from __future__ import annotations

import math
import time
import warnings
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.utils.validation import check_is_fitted, check_random_state, validate_data

from fastopt import _core
from fastopt.checks import count, flag, number, one_of
from fastopt.factorization.factors import SCHEDULES
from fastopt.fm.models import FMModel
from fastopt.fm.run import FMResult, Samples, Training, outputs
from fastopt.fm.state import Settings, State, Units
from fastopt.progress import Live
from fastopt.sparse.linear_inputs import FLOATS, as_rows, product, weights_of
from fastopt.sparse.stopping import Watch
from fastopt.threads import resolve

MOST_RANK = 256


class Machine:
    """Parameters, training and predictions of both estimators; they say what the targets are."""

    losses: dict[str, tuple[Any, ...]]
    splitter: type

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    def _check(self, partial: bool = False) -> None:
        """Raise if a parameter has a value that it may not have."""
        one_of("loss", self.loss, tuple(self.losses))
        one_of("optimizer", self.optimizer, ("adagrad", "sgd"))
        one_of("learning_rate", self.learning_rate, SCHEDULES)
        for name in ("fit_intercept", "shuffle", "warm_start", "early_stopping"):
            flag(name, getattr(self, name))
        for name in ("rank", "max_iter", "n_iter_no_change"):
            count(name, getattr(self, name), 1)
        if self.rank > MOST_RANK:
            raise ValueError(f"rank must be from 1 to {MOST_RANK}, got {self.rank}")
        for name in ("l2_reg_w", "l2_reg_V", "init_stdev", "epsilon"):
            number(name, getattr(self, name), 0)
        number("eta0", self.eta0, 0, open_below=True)
        number("decay", self.decay, 0, 1, open_below=True)
        number("quantile", getattr(self, "quantile", 0.5), 0, 1)
        for name in ("tol", "time_budget"):
            if getattr(self, name) is not None:
                number(name, getattr(self, name), 0)
        if not 0 < number("validation_fraction", self.validation_fraction, 0, 1) < 1:
            raise ValueError("validation_fraction must not be 0 or 1")
        if self.n_jobs is not None and count("n_jobs", self.n_jobs, -(1 << 62)) == 0:
            raise ValueError("n_jobs must be None or an integer other than 0, got 0")
        if partial and self.early_stopping:
            raise ValueError("early_stopping should be False with partial_fit")

    def _threads(self) -> int:
        """Return how many threads the parameters ask for, or allow."""
        if self.n_jobs is None:
            return resolve(None)
        return self.n_jobs if self.n_jobs > 0 else max(1, resolve(None) + 1 + self.n_jobs)

    def _settings(self, partial: bool = False) -> Settings:
        same = self.n_jobs is None and self.random_state is not None
        loss = self.losses[self.loss][0]
        return Settings(
            loss=loss,
            shape=float(getattr(self, "quantile", 0.5) if loss == "quantile" else self.epsilon),
            rank=int(self.rank),
            l2_weight=float(self.l2_reg_w),
            l2_factor=float(self.l2_reg_V),
            init_stdev=float(self.init_stdev),
            adaptive=self.optimizer == "adagrad",
            fit_intercept=bool(self.fit_intercept),
            epochs=1 if partial else int(self.max_iter),
            step=float(self.eta0),
            schedule="constant" if partial else self.learning_rate,
            decay=float(self.decay),
            shuffle=bool(self.shuffle),
            seed=int(check_random_state(self.random_state).randint(2**31)),
            threads=1 if same else self._threads(),
            fixed=self.n_jobs is not None,
            reason="random_state is given: one thread trains to the same bits every time"
            if same
            else "",
        )

    # ---- training ----

    def _learn(
        self,
        X: Any,
        y: np.ndarray,
        sample_weight: Any,
        *,
        partial: bool = False,
        validation: tuple[Any, np.ndarray] | None = None,
    ) -> None:
        """Train one model for each of the `_problems(y)`: what makes its targets, and weights."""
        old = self.__dict__.get("_states") if partial or self.warm_start else None
        X = whole(X if old is None else X.astype(old[0].dtype, copy=False))
        weight = weights_of(sample_weight, X)
        train, held = self._split(X, y, weight, validation)
        if not train.all():
            X, y, weight = X[train], y[train], None if weight is None else weight[train]
        settings = self._settings(partial)
        samples = Samples(as_rows(X), settings)
        problems = self._problems(y)
        states = self._begin_with(old, settings, samples, problems, weight)
        judge = None if held is None else Samples(as_rows(held[0]), settings)
        judged = None if held is None else self._problems(held[1])
        deadline = None if self.time_budget is None else time.perf_counter() + self.time_budget
        watched = not partial and (self.tol is not None or judge is not None)
        live = Live() if self.verbose else None
        results: list[FMResult] = []
        try:
            for k, (target, more) in enumerate(problems):
                give(samples, target, product(weight, more, samples.dtype))
                if judge is not None:
                    give(judge, judged[k][0], product(held[2], judged[k][1], samples.dtype))
                training = Training(
                    samples, states[k], settings,
                    validation=judge, deadline=deadline, track=bool(self.verbose),
                    watch=Watch(self.tol, self.n_iter_no_change) if watched else None,
                    callback=live, problem=k, problems=len(problems),
                )  # fmt: skip
                results.append(training.go())
        except KeyboardInterrupt as interrupt:
            if isinstance(getattr(interrupt, "result", None), FMResult):
                self._keep(states, settings, [*results, interrupt.result])
            raise
        finally:
            if live is not None:
                live.close()
        bad = next((r for r in results if r.status == "diverged"), None)
        if bad is not None:
            for name in ("_states", "coef_", "factors_", "intercept_"):
                self.__dict__.pop(name, None)
            raise ValueError(f"fit diverged: {bad.message}")
        self._keep(states, settings, results)
        reached = results[0].history[-1].get("objective", 0.0) if results[0].history else 0.0
        if self.loss == "squared_error" and reached > np.average(
            np.square(y - np.average(y, weights=weight)), weights=weight
        ):
            warnings.warn(
                "the model is worse than the mean of y: scale the columns of X with StandardScaler "
                "or MaxAbsScaler, or take a smaller eta0",
                RuntimeWarning,
                stacklevel=3,
            )

    def _split(
        self, X: Any, y: np.ndarray, weight: Any, validation: tuple[Any, np.ndarray] | None
    ) -> tuple[np.ndarray, tuple[Any, np.ndarray, Any] | None]:
        """Return which rows to train on, and the rows, targets and weights to judge by."""
        train, held = np.ones(X.shape[0], bool), None
        if validation is not None:
            held = whole(validation[0].astype(X.dtype, copy=False)), validation[1], None
        elif self.early_stopping:
            split = self.splitter(
                test_size=self.validation_fraction, random_state=self.random_state
            )
            which = next(split.split(np.zeros((len(y), 1)), y))[1]
            held = X[which], y[which], None if weight is None else weight[which]
            train[which] = False
        if held is not None and held[2] is not None and not held[2].any():
            raise ValueError(
                "sample_weight must not be all zero in the rows held out: take another random_state"
            )
        if weight is not None:
            train &= weight > 0  # such rows count nowhere
            if not train.any():
                raise ValueError("sample_weight must not be all zero in the rows to train on")
        return train, held

    def _begin_with(
        self,
        old: list[State] | None,
        settings: Settings,
        samples: Samples,
        problems: list[Any],
        weight: Any,
    ) -> list[State]:
        """Return copies of the models that are there, or new ones."""
        if old is not None:
            for name, mine, wanted in (
                ("rank", old[0].rank, settings.rank),
                ("optimizer", old[0].adaptive, settings.adaptive),
                ("X", old[0].columns, samples.columns),
            ):
                if mine != wanted:
                    raise ValueError(f"{name} must be that of the last fit")
            return [state.copy() for state in old]
        states = []
        for target, more in problems:
            mean, spread = self._facts(target, product(weight, more, np.dtype("f8")))
            units = Units.of(settings, spread)
            state = State(samples.columns, settings.rank, settings.adaptive, samples.dtype, units)
            state.intercept = mean if settings.fit_intercept else 0.0
            states.append(state)
        return states

    def _keep(self, states: list[State], settings: Settings, results: list[FMResult]) -> None:
        self._states, self._trained = states, settings
        self._show(
            np.stack([s.weights for s in states]),
            np.stack([s.factors for s in states]),
            np.array([s.intercept for s in states], states[0].dtype),
        )
        seconds, rows = sum(r.seconds for r in results), sum(r.rows for r in results)
        self.n_iter_ = max(r.epochs for r in results)
        self.fit_report_ = {
            "threads": results[0].threads,
            "reason": results[0].reason,
            "stop": [r.message for r in results],
            "best_epoch": [r.best_epoch for r in results],
            "seconds": seconds,
            "rows_per_second": rows / seconds if seconds else 0.0,
        }
        self.history_ = [
            {"problem": k, **each} for k, r in enumerate(results) for each in r.history
        ]

    def _outputs(self, X: Any) -> np.ndarray:
        """Return the predictions of shape (n_rows, n_models)."""
        check_is_fitted(self, "_states")
        X = validate_data(self, X, accept_sparse="csr", dtype=FLOATS, reset=False)
        if X.shape[0] == 0:
            return np.empty((0, len(self._states)))
        X = as_rows(whole(X.astype(self._states[0].dtype, copy=False)))
        threads = self._threads()
        samples = _core.Samples(X.data, X.indices, X.indptr, tuple(X.shape), threads)
        return outputs(samples, self._states, self._trained, threads)

    def to_model(self) -> FMModel:
        """Return the model alone: NumPy predicts with it, `fastopt.fm.models.save` writes it."""
        check_is_fitted(self, "_states")
        return FMModel(
            np.stack([s.weights for s in self._states]),
            np.array([s.intercept for s in self._states]),
            getattr(self, "classes_", None),
            {"loss": self._trained.loss, "rank": self._trained.rank},
            V=np.stack([s.factors for s in self._states]),
        )


def whole(X: Any) -> Any:
    """Return X with each column at most once in a row: x_j times itself is no interaction."""
    if sparse.issparse(X) and not X.has_canonical_format:
        X = X.copy()
        X.sum_duplicates()
    return X


def give(samples: Samples, target: dict[str, Any], weights: np.ndarray | None) -> None:
    """Set what is to be learned of the rows."""
    y = target.get("y")
    y = None if y is None else np.ascontiguousarray(y, samples.dtype)
    samples.native.target(y, target.get("codes"), target.get("positive", 0), weights)


def log_odds(share: float, rows: float) -> float:
    """Return the log-odds of a share of some rows; one more of each, so that all is finite."""
    return math.log((share * rows + 1) / ((1 - share) * rows + 1))
