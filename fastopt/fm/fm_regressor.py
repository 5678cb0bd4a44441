"""Factorization machines for numbers, as a scikit-learn estimator."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.model_selection import ShuffleSplit
from sklearn.utils.validation import validate_data

from fastopt.fm.machines import Machine
from fastopt.sparse.linear_inputs import FLOATS, pair
from fastopt.sparse.sgd_regressor import SGDRegressor


class FMRegressor(RegressorMixin, Machine, BaseEstimator):
    """Factorization machine for numbers, trained by lock-free SGD with all threads inside one fit.

    The prediction of a row x is, with `rank` factors v_j for each column [1]_, ::

        p(x) = w_0 + sum_j w_j x_j + sum_{j < k} (v_j . v_k) x_j x_k

    Minimises the mean over all rows of ``weight * loss(y, p)``, and of the penalty of their
    non-zeros, the sum of ``l2_reg_w / 2 * w_j^2 + l2_reg_V / 2 * |v_j|^2`` over the columns that a
    row has.

    Parameters
    ----------
    loss : str, default "squared_error"
        "squared_error", "huber", "epsilon_insensitive", "squared_epsilon_insensitive", "quantile",
        "poisson" (the mean is exp(p), which is what `predict` returns). Formulas:
        `fastopt.hogwild`.
    rank : int, default 16
        Factors of each column, 1 to 256.
    l2_reg_w, l2_reg_V : float, default 1e-4, 1e-3
        L2 penalties of weights and factors.
    init_stdev : float, default 0.01
        Standard deviation of the first factors, in roots of y's standard deviation.
        Columns that no row has stay at 0.
    fit_intercept : bool, default True
        The intercept is not penalised.
    max_iter : int, default 100
        Epochs at most.
    tol : float or None, default 1e-4
        Stop when the exact objective (with rows held out, their mean loss), worked out after each
        epoch, was not below its best by `tol` for `n_iter_no_change` epochs in a row, and take the
        best epoch. None: train for `max_iter` epochs and take the last.
    n_iter_no_change : int, default 5
    early_stopping : bool, default False
        Hold out `validation_fraction` of the rows in `fit`, which also takes rows of your own.
    validation_fraction : float, default 0.1
    optimizer : {"adagrad", "sgd"}, default "adagrad"
        "adagrad": each number's step is divided by the root of the sum of its squared derivatives.
    learning_rate : {"constant", "inverse", "epoch_decay"}, default "constant"
        In epoch e = 0, 1, ...: eta0; eta0 / (1 + e * (1 - decay) / decay); eta0 * decay ** e.
    eta0 : float, default 0.1
        The step, in units of y's standard deviation (poisson: 1).
    decay : float in (0, 1], default 0.9
    shuffle : bool, default True
        Take rows in random order, another one in each epoch.
    epsilon : float, default 0.1
        Of huber and the epsilon-insensitive losses.
    quantile : float, default 0.5
        Of the quantile loss, in [0, 1].
    warm_start : bool, default False
        fit goes on from the model that is there, and its sums of squares.
    time_budget : float or None, default None
        Seconds of training after which fit stops.
    n_jobs : int or None, default None
        Threads inside one fit; -1: as many as this process may use. None: 1 if `random_state` is
        given, which makes the bits reproducible, else as many as are of use.
    random_state : int, RandomState instance or None, default None
        Of the first factors, and the order of rows.
    verbose : int, default 0
        Above 0, show the state and the curve of the objective in one line.

    Attributes
    ----------
    coef_ : ndarray of shape (n_features,)
        The weights, in the dtype of X.
    factors_ : ndarray of shape (n_features, rank)
    intercept_ : ndarray of shape (1,)
    n_iter_, n_features_in_, feature_names_in_, fit_report_, history_
        As for `FMClassifier`.

    Notes
    -----
    As for `FMClassifier`. The intercept begins at the mean of y.

    References
    ----------
    .. [1] Rendle, "Factorization Machines", 2010

    Examples
    --------
    >>> import numpy as np
    >>> from fastopt.estimators import FMRegressor
    >>> X = np.random.default_rng(0).normal(size=(2000, 4))
    >>> y = X[:, 0] * X[:, 1] - 2 * X[:, 2]
    >>> model = FMRegressor(rank=2, l2_reg_V=1e-5, random_state=0).fit(X, y)
    >>> model.score(X, y) > 0.99
    True
    """

    losses = SGDRegressor.loss_functions
    splitter = ShuffleSplit

    def __init__(
        self,
        loss: str = "squared_error",
        *,
        rank: int = 16,
        l2_reg_w: float = 1e-4,
        l2_reg_V: float = 1e-3,
        init_stdev: float = 0.01,
        fit_intercept: bool = True,
        max_iter: int = 100,
        tol: float | None = 1e-4,
        n_iter_no_change: int = 5,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        optimizer: str = "adagrad",
        learning_rate: str = "constant",
        eta0: float = 0.1,
        decay: float = 0.9,
        shuffle: bool = True,
        epsilon: float = 0.1,
        quantile: float = 0.5,
        warm_start: bool = False,
        time_budget: float | None = None,
        n_jobs: int | None = None,
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.loss = loss
        self.rank = rank
        self.l2_reg_w = l2_reg_w
        self.l2_reg_V = l2_reg_V
        self.init_stdev = init_stdev
        self.fit_intercept = fit_intercept
        self.max_iter = max_iter
        self.tol = tol
        self.n_iter_no_change = n_iter_no_change
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.eta0 = eta0
        self.decay = decay
        self.shuffle = shuffle
        self.epsilon = epsilon
        self.quantile = quantile
        self.warm_start = warm_start
        self.time_budget = time_budget
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose

    def _problems(self, y: np.ndarray) -> list[tuple[dict[str, Any], None]]:
        return [({"y": y}, None)]

    def _facts(self, target: dict[str, Any], weight: np.ndarray | None) -> tuple[float, float]:
        """Return where the intercept begins, and the spread of the targets."""
        y = target["y"].astype(np.float64)
        mean = float(np.average(y, weights=weight))
        if self.loss == "poisson":
            return math.log(mean) if mean > 0 else 0.0, 0.0
        return mean, math.sqrt(float(np.average((y - mean) ** 2, weights=weight)))

    def _targets(self, X: Any, y: Any, reset: bool, name: str = "y") -> tuple[Any, np.ndarray]:
        X, y = validate_data(
            self, X, y, accept_sparse="csr", dtype=FLOATS, y_numeric=True, reset=reset
        )
        if self.loss == "poisson" and (y < 0).any():
            raise ValueError(f"{name} must not be negative for loss='poisson'")
        return X, y

    def fit(
        self, X: Any, y: Any, sample_weight: Any = None, *, validation: Any = None
    ) -> FMRegressor:
        """Train, from scratch unless `warm_start`.

        Parameters
        ----------
        X : array_like or sparse matrix of shape (n_samples, n_features)
        y : array_like of shape (n_samples,)
            Numbers.
        sample_weight : array_like of shape (n_samples,), optional
            Factors of the losses.
        validation : (X, y), optional
            Rows whose mean loss judges the epochs, in place of some of X.

        Returns
        -------
        self
        """
        self._check()
        X, y = self._targets(X, y, reset=True)
        if validation is not None:
            validation = self._targets(*pair(validation), reset=False, name="validation")
        self._learn(X, y, sample_weight, validation=validation)
        return self

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> FMRegressor:
        """Train for one pass over these rows, going on from the last call.

        Parameters
        ----------
        X, y, sample_weight
            As for `fit`.

        Returns
        -------
        self
        """
        self._check(partial=True)
        X, y = self._targets(X, y, reset="_states" not in self.__dict__)
        self._learn(X, y, sample_weight, partial=True)
        return self

    def _show(self, W: np.ndarray, V: np.ndarray, b: np.ndarray) -> None:
        self.coef_, self.factors_, self.intercept_ = W[0], V[0], b

    def predict(self, X: Any) -> np.ndarray:
        """Return the prediction for each row, shape (n_samples,)."""
        p = self._outputs(X).ravel()
        return np.exp(p) if self.loss == "poisson" else p
