"""Matrix completion as a scikit-learn estimator; needs the `sklearn` extra."""

from __future__ import annotations

from typing import Any

import numpy as np

try:
    from scipy import sparse
    from sklearn.base import BaseEstimator
    from sklearn.metrics import accuracy_score, r2_score
    from sklearn.utils.validation import check_is_fitted, check_random_state
except ImportError as error:
    raise ImportError(
        "fastopt.MatrixFactorization needs scikit-learn >= 1.6: pip install 'fastopt[sklearn]'"
    ) from error

from fastopt.checks import count, flag, one_of
from fastopt.factorization.completion import complete
from fastopt.factorization.factors import FactorizationResult, FactorProgress, Settings
from fastopt.factorization.ratings import is_sparse

LOSSES = {
    "squared_error": "squared",
    "absolute_error": "absolute",
    "log_loss": "logistic",
    "hinge": "hinge",
    "bpr": "bpr",
}
NAMES = {  # what `factorize` calls them -> what they are called here
    "rank": "n_components",
    "l2": "alpha",
    "l2_bias": "alpha_bias",
    "biases": "fit_biases",
    "nonnegative": "non_negative",
    "epochs": "max_iter",
    "step": "eta0",
    "schedule": "learning_rate",
    "threads": "n_jobs",
    "patience": "n_iter_no_change",
}


class MatrixFactorization(BaseEstimator):
    """Completes a matrix of users and items from some of its entries, with all threads.

    The prediction for user u and item i is ``mean_ + b_u + c_i + p_u . q_i``. Minimises the mean
    over all ratings of ::

        loss(y, prediction) + alpha / 2 * (|p_u|^2 + |q_i|^2) + alpha_bias / 2 * (b_u^2 + c_i^2)

    by `fastopt.factorize`, which says more about the algorithm.

    Parameters
    ----------
    n_components : int, default 16
        Number of factors, 1 to 256.
    loss : {"squared_error", "absolute_error", "log_loss", "hinge", "bpr"}
        (p - y)^2 / 2; abs(p - y); log(1 + exp(-y p)) and max(0, 1 - y p), y being -1 or +1, for
        ratings that are all 0 or 1, or all -1 or +1; or, for implicit feedback,
        log(1 + exp(p_uj - p_ui)) with random items j that user u does not have.
    alpha : float, default 0.05
    alpha_bias : float or None, default None
        None: alpha.
    fit_biases : bool, default True
        Whether there are mean, b and c.
    non_negative : bool, default False
        Keep the factors at 0 or above.
    max_iter : int, default 50
        Epochs at most.
    tol : float or None, default 1e-3
        Stop when the exact objective (with `early_stopping`, the loss of the ratings held out) did
        not fall by this part of its lowest value for `n_iter_no_change` epochs in a row, and take
        the epoch with the lowest. None: train for `max_iter` epochs and take the last.
    n_iter_no_change : int, default 5
    early_stopping : bool, default False
        Hold out `validation_fraction` of the ratings in `fit`.
    validation_fraction : float, default 0.1
    learning_rate : {"inverse", "epoch_decay", "constant"}, default "inverse"
        In epoch e = 0, 1, ...: eta0 / (1 + e * (1 - decay) / decay); eta0 * decay ** e; eta0.
    eta0 : float, default 0.1
        First step, in units of the ratings' spread.
    decay : float in (0, 1], default 0.9
    adaptive : bool, default True
        Divide the steps of each user and item by the root of its squared derivatives so far.
    shape : (int, int) or None, default None
        Users and items of pairs; None: one more than the largest in `fit`. Give it where some pairs
        are predicted only, as in cross-validation.
    dtype : {"float32", "float64"}, default "float32"
    warm_start : bool, default False
        Whether `fit` goes on from the last one.
    n_jobs : int or None, default None
        Threads inside one fit; None and -1: as many as this process may use.
    random_state : int, RandomState instance or None, default None
        None: threads do not wait for each other, and no two fits are alike. Otherwise the same
        bits for any number of threads.
    verbose : int, default 0
        Above 0, print the state at most every 50 ms.

    Attributes
    ----------
    user_factors_, item_factors_ : ndarray of shape (n_users, n_components), (n_items, n_components)
    user_biases_, item_biases_ : ndarray of shape (n_users,), (n_items,)
    mean_ : float
    n_users_, n_items_ : int
    n_features_in_ : int
        n_items_ if X was a matrix, 2 if it was pairs.
    n_iter_ : int
        Epochs of the last fit.
    history_ : list of dict
        One record per epoch; see `FactorizationResult.history`.
    fit_report_ : dict
        threads, mode ("serial", "shared" or "blocks") and reason; stop, a sentence; best_epoch;
        objective of each epoch, if it was worked out; seconds, prepare_seconds,
        ratings_per_second.

    Notes
    -----
    X is a CSR, CSC or COO matrix whose stored entries, explicit zeros included, are the ratings, or
    an array of pairs (user, item) with their ratings in y. Neither is copied; the ratings are
    put into blocks once, 12 bytes each (16 in float64), 4 more for BPR. An entry that is there
    twice counts twice. Predictions for users and items without ratings have no factors.

    On Ctrl-C the estimator keeps what it has learned and KeyboardInterrupt is raised again. If
    factors grow without bound, fit raises ValueError.

    Examples
    --------
    >>> import numpy as np
    >>> from fastopt.factorization.matrix_factorization import MatrixFactorization
    >>> pairs = np.array([[u, i] for u in range(30) for i in range(20) if (u + i) % 3])
    >>> y = np.where(pairs[:, 0] % 2 == pairs[:, 1] % 2, 5.0, 1.0)
    >>> model = MatrixFactorization(2, alpha=0.01, max_iter=50, random_state=0).fit(pairs, y)
    >>> model.predict([[0, 0], [0, 3]]).round().tolist()
    [5.0, 1.0]
    """

    def __init__(
        self,
        n_components: int = 16,
        *,
        loss: str = "squared_error",
        alpha: float = 0.05,
        alpha_bias: float | None = None,
        fit_biases: bool = True,
        non_negative: bool = False,
        max_iter: int = 50,
        tol: float | None = 1e-3,
        n_iter_no_change: int = 5,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        learning_rate: str = "inverse",
        eta0: float = 0.1,
        decay: float = 0.9,
        adaptive: bool = True,
        shape: tuple[int, int] | None = None,
        dtype: Any = "float32",
        warm_start: bool = False,
        n_jobs: int | None = None,
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.n_components = n_components
        self.loss = loss
        self.alpha = alpha
        self.alpha_bias = alpha_bias
        self.fit_biases = fit_biases
        self.non_negative = non_negative
        self.max_iter = max_iter
        self.tol = tol
        self.n_iter_no_change = n_iter_no_change
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.learning_rate = learning_rate
        self.eta0 = eta0
        self.decay = decay
        self.adaptive = adaptive
        self.shape = shape
        self.dtype = dtype
        self.warm_start = warm_start
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.target_tags.required = False
        return tags

    def fit(self, X: Any, y: Any = None) -> MatrixFactorization:
        """Train, from scratch unless `warm_start`.

        Parameters
        ----------
        X : sparse matrix of shape (n_users, n_items), or array_like of int of shape (n, 2)
        y : array_like of shape (n,), optional
            The ratings of pairs; None if X is a matrix.

        Returns
        -------
        self
        """
        count("max_iter", self.max_iter, 1)
        flag("warm_start", self.warm_start)
        held = self.validation_fraction if flag("early_stopping", self.early_stopping) else 0.0
        return self._train(
            X, y, self.__dict__.get("_result") if self.warm_start else None,
            epochs=self.max_iter, tol=self.tol, schedule=self.learning_rate,
            validation_fraction=held,
        )  # fmt: skip

    def partial_fit(self, X: Any, y: Any = None) -> MatrixFactorization:
        """Go through some ratings once, with the step eta0; new users and items may come.

        Parameters
        ----------
        X, y
            As for `fit`. A matrix must have at least the users and items so far.

        Returns
        -------
        self
        """
        return self._train(
            X, y, self.__dict__.get("_result"),
            epochs=1, tol=None, schedule="constant", validation_fraction=0.0,
        )  # fmt: skip

    def _train(
        self, X: Any, y: Any, start: FactorizationResult | None, **more: Any
    ) -> MatrixFactorization:
        if not isinstance(self.loss, str) or self.loss not in LOSSES:
            one_of("loss", self.loss, tuple(LOSSES))
        seed = self.random_state
        if seed is not None and not isinstance(seed, (int, np.integer)):
            seed = int(check_random_state(seed).randint(2**31))
        settings = Settings.check(
            NAMES, rank=self.n_components, loss=LOSSES[self.loss], l2=self.alpha,
            l2_bias=self.alpha_bias, biases=self.fit_biases, nonnegative=self.non_negative,
            step=self.eta0, decay=self.decay, adaptive=self.adaptive, mode="auto",
            dtype=self.dtype, threads=None if self.n_jobs in (None, -1) else self.n_jobs,
            random_state=seed, patience=self.n_iter_no_change, **more,
        )  # fmt: skip
        if start is not None and start.loss != settings.loss:
            raise ValueError(f"loss must be that of the last fit, got {self.loss!r}")
        X = _whole(X)
        try:
            result = complete(
                X, y, settings, shape=None if is_sparse(X) else self.shape, start=start,
                callback=_print if self.verbose else None,
            )  # fmt: skip
        except KeyboardInterrupt as interrupt:
            if isinstance(getattr(interrupt, "result", None), FactorizationResult):
                self._keep(interrupt.result, X)
            raise
        if result.status == "diverged":
            raise ValueError(f"fit diverged: {result.message}")
        self._keep(result, X)
        return self

    def _keep(self, result: FactorizationResult, X: Any) -> None:
        self._result = result
        self.user_factors_, self.item_factors_ = result.user_factors, result.item_factors
        self.user_biases_, self.item_biases_ = result.user_biases, result.item_biases
        self.mean_ = result.mean
        self.n_users_, self.n_items_ = result.shape
        self.n_features_in_ = self.n_items_ if is_sparse(X) else 2
        self.n_iter_ = len(result.history)
        self.history_ = result.history
        self.fit_report_ = {
            "threads": result.threads,
            "mode": result.mode,
            "reason": result.reason,
            "stop": result.message,
            "best_epoch": result.best_epoch,
            "objective": [r["objective"] for r in result.history if "objective" in r],
            "seconds": result.seconds,
            "prepare_seconds": result.prepared,
            "ratings_per_second": result.ratings_per_second,
        }

    def decision_function(self, X: Any) -> np.ndarray:
        """Return mean + b_u + c_i + p_u . q_i of pairs, or of a matrix's stored entries.

        Parameters
        ----------
        X : sparse matrix of shape (n_users, n_items), or array_like of int of shape (n, 2)

        Returns
        -------
        ndarray of shape (n,)
            In the order of the pairs, or of ``X.data``.
        """
        check_is_fitted(self)
        return self._result.predict(_whole(X), None if self.n_jobs in (None, -1) else self.n_jobs)

    def predict(self, X: Any) -> Any:
        """Return predicted ratings; probabilities of 1 for log_loss, above 0 for 1 with hinge.

        Parameters
        ----------
        X : sparse matrix of shape (n_users, n_items), or array_like of int of shape (n, 2)

        Returns
        -------
        ndarray of shape (n,) for pairs; a sparse matrix for a matrix
            The matrix has the stored entries of X, with predictions as their values.
        """
        p = self.decision_function(X)
        if self.loss == "log_loss":
            p = np.exp(-np.logaddexp(0, -p))
        if not is_sparse(X):
            return p
        X = _whole(X)
        if X.format == "coo":
            return type(X)((p, (X.row, X.col)), shape=X.shape)
        return type(X)((p, X.indices, X.indptr), shape=X.shape)

    def score(self, X: Any, y: Any = None, *, filter_seen: Any = None) -> float:
        """Return how good the predictions are; more is better.

        Parameters
        ----------
        X : sparse matrix of shape (n_users, n_items), or array_like of int of shape (n, 2)
        y : array_like of shape (n,), optional
            The ratings of pairs.
        filter_seen : sparse matrix of shape (n_users, n_items), optional
            For bpr: entries that do not count, such as those trained on.

        Returns
        -------
        float
            R^2 for squared_error and absolute_error, the share of right labels for log_loss and
            hinge. For bpr the mean over the users in X of their AUC: the share of pairs of an item
            in X and one that is neither in X nor in `filter_seen` that have the right order.
        """
        check_is_fitted(self)
        if self.loss == "bpr":
            return self._auc(X, filter_seen)
        if filter_seen is not None:
            raise ValueError(f"filter_seen must be None for loss={self.loss!r}")
        y = _whole(X).data if is_sparse(X) else np.asarray(y)
        p = self.decision_function(X)
        if p.shape != y.shape:
            raise ValueError(f"y must have shape {p.shape}, got {y.shape}")
        if self.loss in ("log_loss", "hinge"):
            return float(accuracy_score(y > 0, p > 0))
        return float(r2_score(y, p))

    def _auc(self, X: Any, filter_seen: Any) -> float:
        having, seen = self._table("X", X), self._table("filter_seen", filter_seen)
        areas = []
        for u in np.flatnonzero(np.diff(having.indptr)):
            ordered = np.zeros(self.n_items_, bool)
            mine = np.zeros(self.n_items_, bool)
            mine[having.indices[having.indptr[u] : having.indptr[u + 1]]] = True
            ordered[seen.indices[seen.indptr[u] : seen.indptr[u + 1]]] = True
            scores = self._scores(np.array([u]))[0]
            others = np.sort(scores[~(mine | ordered)])
            if len(others):
                below = np.searchsorted(others, scores[mine], "left").mean()
                upto = np.searchsorted(others, scores[mine], "right").mean()
                areas.append((below + upto) / (2 * len(others)))
        if not areas:
            raise ValueError("X must have a user who does not have all items")
        return float(np.mean(areas))

    def _table(self, name: str, X: Any) -> Any:
        """Return a matrix or pairs as CSR of the model's shape."""
        shape = (self.n_users_, self.n_items_)
        if X is None:
            return sparse.csr_matrix(shape)
        if not is_sparse(X):
            pairs = np.asarray(X)
            if pairs.ndim != 2 or pairs.shape[1] != 2 or pairs.dtype.kind not in "iu":
                raise ValueError(f"{name} must be a sparse matrix or pairs of integers")
            if len(pairs) and (pairs.min() < 0 or (pairs.max(axis=0) >= shape).any()):
                raise ValueError(f"{name} must have users and items within {shape}")
            X = sparse.coo_matrix((np.ones(len(pairs), bool), pairs.T), shape=shape)
        X = sparse.csr_matrix(X)
        if X.shape != shape:
            raise ValueError(f"{name} must have shape {shape}, got {X.shape}")
        return X

    def _scores(self, users: np.ndarray) -> np.ndarray:
        r = self._result
        scores = r.user_factors[users] @ r.item_factors.T
        return scores + r.item_biases + (r.user_biases[users, None] + r.mean)

    def recommend(
        self, users: Any, n: int = 10, *, filter_seen: Any = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the items with the highest predictions.

        Parameters
        ----------
        users : int or array_like of int of shape (m,)
        n : int, default 10
            Items for each user.
        filter_seen : sparse matrix of shape (n_users, n_items) or pairs, optional
            Entries that are left out, such as those trained on.

        Returns
        -------
        items, scores : ndarray of shape (n,) or (m, n)
            Best first. Where a user has fewer items left, -1 and -inf.
        """
        check_is_fitted(self)
        count("n", n, 1)
        which = np.atleast_1d(np.asarray(users))
        if which.ndim != 1 or which.dtype.kind not in "iu":
            raise ValueError(f"users must be an integer or integers, got {users!r}")
        if ((which < 0) | (which >= self.n_users_)).any():
            raise ValueError(f"users must lie in 0..{self.n_users_ - 1}")
        seen = None if filter_seen is None else self._table("filter_seen", filter_seen)
        items = np.full((len(which), n), -1)
        scores = np.full((len(which), n), -np.inf)
        for k, u in enumerate(which):
            score = self._scores(np.array([u]))[0].astype(np.float64)
            if seen is not None:
                score[seen.indices[seen.indptr[u] : seen.indptr[u + 1]]] = -np.inf
            m = min(n, self.n_items_)
            best = np.argpartition(-score, m - 1)[:m]
            best = best[np.lexsort((best, -score[best]))]
            best = best[score[best] > -np.inf]
            items[k, : len(best)], scores[k, : len(best)] = best, score[best]
        return (items, scores) if np.ndim(users) else (items[0], scores[0])


def _whole(X: Any) -> Any:
    """Return sparse matrices of other forms as CSR."""
    if sparse.issparse(X) and X.format not in ("csr", "csc", "coo"):
        return X.tocsr()
    return X


def _print(p: FactorProgress) -> None:
    objective = f", objective {p.record['objective']:.6g}" if "objective" in p.record else ""
    print(f"epoch {p.epoch}/{p.epochs}, {p.ratings_per_second / 1e6:.1f} M ratings/s{objective}")
