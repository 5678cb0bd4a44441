"""scikit-learn's estimators on top of the lock-free runner; needs the `sklearn` extra."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

try:
    from scipy import sparse
    from sklearn.base import BaseEstimator, ClassifierMixin
    from sklearn.utils.extmath import safe_sparse_dot
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import (
        _check_sample_weight,
        check_is_fitted,
        check_random_state,
        validate_data,
    )
except ImportError as error:
    raise ImportError(
        "fastopt.SGDClassifier needs scikit-learn >= 1.6: pip install 'fastopt[sklearn]'"
    ) from error

from fastopt.one_vs_rest import OneVsRestResult, one_vs_rest
from fastopt.rows import LARGEST_DECAY, Settings
from fastopt.runner import Progress

LOSSES = {"hinge": "hinge", "log_loss": "logistic"}
SCHEDULES = {"optimal": "inverse_time", "constant": "constant", "epoch_decay": "epoch_decay"}


class _Stop:
    """scikit-learn's rule: stop after some epochs that did not improve the objective by tol."""

    def __init__(self, tol: float, patience: int) -> None:
        self.tol, self.patience, self.best, self.bad = tol, patience, math.inf, 0

    def __call__(self, epoch: int, objective: float) -> bool:
        self.bad = self.bad + 1 if objective > self.best - self.tol else 0
        self.best = min(self.best, objective)
        return self.bad >= self.patience


class SGDClassifier(ClassifierMixin, BaseEstimator):
    """Linear classifier trained by lock-free SGD with all threads inside one fit.

    Minimises ``mean_i(loss(y_i, x_i . w + b)) + alpha / 2 * |w|^2``; several classes are trained
    one against the rest. Names and defaults are scikit-learn's where shared.

    Parameters
    ----------
    loss : {"hinge", "log_loss"}, default "hinge"
    penalty : {"l2"}, default "l2"
    alpha : float, default 1e-4
    fit_intercept : bool, default True
        The intercept is not penalised.
    max_iter : int, default 1000
        Epochs at most.
    tol : float or None, default 1e-3
        Stop when the exact objective, worked out after each epoch, was not below its best by
        `tol` for `n_iter_no_change` epochs in a row, and take the epoch with the lowest. None:
        train for `max_iter` epochs and take the last.
    shuffle : bool, default True
        Permute blocks of 64 rows in each epoch; if y is sorted, the rows of 8 blocks take turns.
    verbose : int, default 0
        Above 0, print the state at most every 50 ms.
    n_jobs : int or None, default None
        Threads inside one fit; None and -1: as many as this process may use. 1 gives the same
        bits for the same `random_state`.
    random_state : int, RandomState instance or None, default None
        Of the order of rows.
    learning_rate : {"optimal", "constant", "epoch_decay"}, default "optimal"
        eta0 / (1 + eta0 * alpha * t) with an eta0 that is tried out on samples of the rows;
        eta0; eta0 * 0.9 ** epoch.
    eta0 : float, default 0.01
        First step of "constant" and "epoch_decay", at most 0.1 / alpha.
    n_iter_no_change : int, default 5
    average : bool, default False
        Use the mean of snapshots of the weights, later ones counting more: closer to the optimum
        and free of cost.

    Attributes
    ----------
    coef_ : ndarray of shape (1, n_features) or (n_classes, n_features)
        In the dtype of X, float32 or float64.
    intercept_ : ndarray of shape (1,) or (n_classes,)
    classes_ : ndarray of shape (n_classes,)
    n_iter_ : int
        Epochs of the class that took most.
    t_ : float
        Rows trained on, plus 1.
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features_in_,)
        If X had names of strings.
    fit_report_ : dict
        threads, mode and reason; seconds, rows_per_second, nnz_per_second; stop, one sentence
        per problem; history, per problem one record per epoch.

    Notes
    -----
    CSR with float32 or float64 is used in place. Other sparse formats are converted to CSR, and
    dense arrays are wrapped as CSR with all their elements.

    On Ctrl-C the classifier keeps what it has learned and KeyboardInterrupt is raised again. If
    the weights grow without bound, fit raises ValueError.

    Examples
    --------
    >>> import numpy as np
    >>> from fastopt.estimators import SGDClassifier
    >>> X, y = np.array([[-2.0, 1], [-1, 1], [1, 1], [2, 1]]), np.array(["a", "a", "b", "b"])
    >>> SGDClassifier(random_state=0).fit(X, y).predict([[-3, 1], [3, 1]]).tolist()
    ['a', 'b']
    """

    def __init__(
        self,
        loss: str = "hinge",
        *,
        penalty: str = "l2",
        alpha: float = 1e-4,
        fit_intercept: bool = True,
        max_iter: int = 1000,
        tol: float | None = 1e-3,
        shuffle: bool = True,
        verbose: int = 0,
        n_jobs: int | None = None,
        random_state: Any = None,
        learning_rate: str = "optimal",
        eta0: float = 0.01,
        n_iter_no_change: int = 5,
        average: bool = False,
    ) -> None:
        self.loss = loss
        self.penalty = penalty
        self.alpha = alpha
        self.fit_intercept = fit_intercept
        self.max_iter = max_iter
        self.tol = tol
        self.shuffle = shuffle
        self.verbose = verbose
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.learning_rate = learning_rate
        self.eta0 = eta0
        self.n_iter_no_change = n_iter_no_change
        self.average = average

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    def _settings(self) -> Settings:
        for name, value, allowed in (
            ("loss", self.loss, LOSSES),
            ("penalty", self.penalty, ["l2"]),
            ("learning_rate", self.learning_rate, SCHEDULES),
        ):
            if value not in allowed:
                raise ValueError(
                    f"{name} must be one of {', '.join(map(repr, allowed))}, got {value!r}"
                )
        for name, value in (
            ("max_iter", self.max_iter),
            ("n_iter_no_change", self.n_iter_no_change),
        ):
            if not isinstance(value, (int, np.integer)) or value < 1:
                raise ValueError(f"{name} must be an integer of at least 1, got {value!r}")
        if self.tol is not None and not self.tol >= 0:
            raise ValueError(f"tol must be None or at least 0, got {self.tol!r}")
        if self.n_jobs is not None and (
            not isinstance(self.n_jobs, (int, np.integer)) or self.n_jobs < -1 or self.n_jobs == 0
        ):
            raise ValueError(f"n_jobs must be None, -1 or at least 1, got {self.n_jobs!r}")
        if not 0 <= self.alpha < math.inf:
            raise ValueError(f"alpha must be at least 0, got {self.alpha!r}")
        optimal = self.learning_rate == "optimal"
        if not optimal and not (
            0 < self.eta0 < math.inf and self.eta0 * self.alpha <= LARGEST_DECAY
        ):
            raise ValueError(f"eta0 must lie in (0, {LARGEST_DECAY} / alpha], got {self.eta0!r}")
        return Settings.check(
            loss=LOSSES[self.loss],
            l2=self.alpha,
            epochs=self.max_iter,
            step="auto" if optimal else self.eta0,
            schedule=SCHEDULES[self.learning_rate],
            decay=0.9,
            mode="auto",
            fit_intercept=self.fit_intercept,
            average=self.average,
            threads=None if self.n_jobs in (None, -1) else self.n_jobs,
            seed=int(check_random_state(self.random_state).randint(2**31)),
            shuffle=self.shuffle,
        )

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> SGDClassifier:
        """Train from scratch.

        Parameters
        ----------
        X : array_like or sparse matrix of shape (n_samples, n_features)
        y : array_like of shape (n_samples,)
            Class labels.
        sample_weight : array_like of shape (n_samples,), optional
            Weights in the mean of the losses; only their ratios matter.

        Returns
        -------
        self
        """
        settings = self._settings()
        X, y = validate_data(self, X, y, accept_sparse="csr", dtype=[np.float64, np.float32])
        if not sparse.issparse(X):
            X = _all_elements(X)
        check_classification_targets(y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"y must have at least two classes, got one class: {self.classes_}")
        if sample_weight is not None:
            sample_weight = _check_sample_weight(sample_weight, X, dtype=np.float64)
        try:
            done = one_vs_rest(
                X,
                codes.astype(np.int64),
                len(self.classes_),
                settings,
                sample_weight=sample_weight,
                callback=_print if self.verbose else None,
                on_epoch=None
                if self.tol is None
                else lambda: _Stop(self.tol, self.n_iter_no_change),
            )
        except KeyboardInterrupt as interrupt:
            if isinstance(getattr(interrupt, "result", None), OneVsRestResult):
                self._keep(interrupt.result)
            raise
        self._keep(done)
        if any(r.status == "diverged" for r in done.results):
            message = next(r.message for r in done.results if r.status == "diverged")
            del self.coef_, self.intercept_
            raise ValueError(f"fit diverged: {message}")
        return self

    def _keep(self, done: OneVsRestResult) -> None:
        self.coef_, self.intercept_ = done.W, done.b.astype(done.W.dtype)
        self.n_iter_ = max((r.epochs for r in done.results), default=0)
        self.t_ = 1.0 + sum(r.rows for r in done.results)
        seconds = sum(r.seconds for r in done.results)
        first = done.results[0] if done.results else None
        self.fit_report_ = {
            "threads": first.threads if first else 0,
            "mode": first.mode if first else "",
            "reason": first.reason if first else "",
            "seconds": seconds,
            "rows_per_second": sum(r.rows for r in done.results) / seconds if seconds else 0.0,
            "nnz_per_second": sum(r.nnz for r in done.results) / seconds if seconds else 0.0,
            "stop": [r.message for r in done.results],
            "history": [r.history for r in done.results],
        }

    def decision_function(self, X: Any) -> np.ndarray:
        """Return signed distances: (n_samples,) for two classes, else (n_samples, n_classes)."""
        check_is_fitted(self, "coef_")
        X = validate_data(self, X, accept_sparse="csr", dtype=[np.float64, np.float32], reset=False)
        scores = np.asarray(safe_sparse_dot(X, self.coef_.T)) + self.intercept_
        return scores.ravel() if scores.shape[1] == 1 else scores

    def predict(self, X: Any) -> np.ndarray:
        """Return the class of each row, shape (n_samples,)."""
        scores = self.decision_function(X)
        return self.classes_[(scores > 0).astype(int) if scores.ndim == 1 else scores.argmax(1)]

    def _probable(self) -> None:
        if self.loss != "log_loss":
            raise AttributeError(f"predict_proba needs loss='log_loss', got {self.loss!r}")

    @property
    def predict_proba(self) -> Any:
        """Return probabilities of shape (n_samples, n_classes); only for log_loss.

        With more than two classes, the probabilities of the one-vs-rest classifiers are divided
        by their sum.
        """
        self._probable()
        return self._predict_proba

    def _predict_proba(self, X: Any) -> np.ndarray:
        scores = self.decision_function(X)
        positive = np.exp(-np.logaddexp(0, -scores))
        if scores.ndim == 1:
            return np.stack([1 - positive, positive], axis=1)
        total = positive.sum(axis=1, keepdims=True)
        return np.where(total > 0, positive / np.where(total > 0, total, 1), 1 / positive.shape[1])

    @property
    def predict_log_proba(self) -> Any:
        """Return the logarithm of `predict_proba`."""
        self._probable()
        return lambda X: np.log(self._predict_proba(X))


def _all_elements(X: np.ndarray) -> Any:
    """Return a dense array as CSR with all its elements, which are not copied if contiguous."""
    n, d = X.shape
    X = np.ascontiguousarray(X)
    rows = sparse.csr_matrix((n, d), dtype=X.dtype)
    rows.data = X.reshape(-1)
    rows.indices = np.tile(np.arange(d, dtype=np.int32), n)
    rows.indptr = np.arange(n + 1, dtype=np.int64) * d
    return rows


def _print(p: Progress) -> None:
    objective = "" if p.objective is None else f", objective {p.objective:.6g}"
    print(
        f"problem {p.problem + 1}/{p.problems}, epoch {p.epoch}/{p.epochs}, "
        f"{p.nnz_per_second / 1e6:.0f} M non-zeros/s{objective}"
    )
