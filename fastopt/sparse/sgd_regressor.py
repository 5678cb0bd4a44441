"""scikit-learn's SGDRegressor on top of the lock-free runner."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.metrics import r2_score
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import validate_data

from fastopt.checks import number
from fastopt.data import Dataset
from fastopt.sparse import datasets
from fastopt.sparse.callbacks import CallbackSupportMixin, with_callbacks
from fastopt.sparse.datasets import unpacked
from fastopt.sparse.linear_inputs import FLOATS, pair
from fastopt.sparse.linear_sgd import LOSSES, NUMBERS, LinearSGD, can_go_on


class SGDRegressor(CallbackSupportMixin, RegressorMixin, LinearSGD, BaseEstimator):
    """Linear regressor trained by lock-free SGD with all threads inside one fit.

    Minimises ``mean_i(weight_i * loss(y_i, x_i . w + b)) + penalty``. Names and defaults are
    scikit-learn's where shared.

    Parameters
    ----------
    loss : str or compiled function, default "squared_error"
        "squared_error", "huber", "epsilon_insensitive", "squared_epsilon_insensitive"; and
        "quantile", "poisson" (the mean is exp(x . w + b), which is what `predict` returns), which
        scikit-learn's has not. Formulas: `fastopt.hogwild`; there too, compiled functions of your
        own.
    penalty : {"l2", "l1", "elasticnet", None}, default "l2"
        alpha / 2 * |w|^2; alpha * |w|_1; 1 - l1_ratio of the one and l1_ratio of the other; none.
        L1 makes coefficients exactly 0 (not with `average`), and trains on one thread.
    alpha : float, default 1e-4
    l1_ratio : float or None, default 0.15
    fit_intercept : bool, default True
        The intercept is not penalised.
    max_iter : int, default 1000
        Epochs at most.
    tol : float or None, default 1e-3
        Stop when the exact objective, worked out after each epoch, was not below its best by
        `tol` for `n_iter_no_change` epochs in a row (or the validation score not above its best),
        and take the best epoch. None: train for `max_iter` epochs and take the last.
    shuffle : bool, default True
        Permute blocks of 64 rows in each epoch; if y is sorted, the rows of 8 blocks take turns.
    verbose : int, default 0
        Above 0, show epochs, speed, objective and its curve: in a line that is redrawn on a
        terminal and in a notebook, elsewhere in a line every second.
    epsilon : float, default 0.1
        Of huber and the epsilon-insensitive losses.
    random_state : int, RandomState instance or None, default None
        Of the order of rows.
    learning_rate : str, default "invscaling"
        "optimal": eta / (1 + eta * alpha * t) with an eta that is tried out on samples of the rows;
        "constant": eta0; "invscaling": eta0 / t^power_t; "adaptive": eta0, divided by 5 where `tol`
        would stop, until it is below 1e-6; "epoch_decay": eta0 * 0.9^epoch; "pa1", "pa2": the
        passive-aggressive steps of epsilon_insensitive, at most eta0 long, or damped by it.
        Steps are the mean of the formula over 64 rows.
    eta0 : float, default 0.01
    power_t : float, default 0.25
    early_stopping : bool, default False
        Hold out rows, and judge epochs by the score on them: accuracy of each class against the
        rest, or R squared.
    validation_fraction : float, default 0.1
    n_iter_no_change : int, default 5
    warm_start : bool, default False
        fit begins with the coefficients that are there.
    average : bool or int, default False
        Use the mean of the models after all rows, or after those from the average-th row on. With
        True and learning_rate="optimal", fit takes a mean of snapshots of which later ones count
        more: closer to the optimum, and free of cost; or the last model, where that has the lower
        objective on a sample of the rows. Several threads take snapshots too, unweighted.
    n_jobs : int or None, default None
        Threads inside one fit; -1: as many as this process may use. None: 1 if `random_state` is
        given and `deterministic` is not True, which makes the bits reproducible, else -1.
    quantile : float, default 0.5
        Of the quantile loss, in [0, 1].
    intercept_rate : float, "auto" or "sklearn", default "auto"
        The intercept's step in steps of the coefficients. "auto": 1, and with
        learning_rate="optimal" the mean square of X's non-zeros, as if it were a column of their
        size, or more where alpha and the number of rows are large. "sklearn": as scikit-learn's
        own, 1 for dense X and 0.01 for sparse X.
    positive : bool, default False
        Keep all coefficients at 0 or above; trains on one thread.
    time_budget : float or None, default None
        Seconds of training after which fit stops.
    target : float or None, default None
        Stop once the objective is at or below it.
    optimizer : {"sgd", "adagrad", "adam", "ftrl", "sdca"}, default "sgd"
        "adagrad", "adam" and "ftrl" have a learning rate for each coefficient, as `hogwild` says:
        "optimal" is then a constant eta that is tried out, and the only learning rate of "ftrl" but
        "constant"; "ftrl" alone has an L1 penalty. Their states are kept for `partial_fit`, and
        with warm_start for `fit`. "sdca" goes on to the optimum by dual coordinate ascent,
        `fastopt.sdca`: fit stops when the objective is proven to be within `tol` times its value of
        the minimum. Needs penalty "l2" and alpha > 0; `learning_rate`, `eta0`, `power_t` and
        `n_iter_no_change` have no meaning.
    max_norm : float or None, default None
        Bound of the norm of each row of `coef_`; trains on one thread, with penalty "l2" or None.
    checkpoint : path or None, default None
        A file that holds the whole training. If it is there, fit goes on from it, wherever in an
        epoch that is, and refuses one of other data or parameters; else fit begins it. After the
        end it holds the model, which the same fit then returns at once. `partial_fit` ignores it.
    checkpoint_every : float, default 60
        Seconds between two writes of it: what is lost if the process is killed.
    order : str, array_like of int, object or None, default None
        Of the rows in each epoch, in place of what `shuffle` says: a name, row numbers of X or a
        curriculum, as for `fastopt.hogwild`.
    deterministic : bool or None, default None
        The same bits for any `n_jobs`, on several threads; together with a `random_state`, in every
        fit. None: if `random_state` is given and `n_jobs` is more than one thread.
    polish : {None, "lbfgs", "newton"}, default None
        fit goes on from the trained model to the optimum, until the objective is within 1e-6 of its
        minimum: in few steps by Newton's method for at most 2,000 features, by L-BFGS for any
        number. For smooth losses, penalty "l2" or None; `partial_fit` leaves it out.

    Attributes
    ----------
    coef_ : ndarray of shape (n_features,)
        In the dtype of X, float32 or float64.
    intercept_ : ndarray of shape (1,)
    n_iter_ : int
        Epochs.
    t_ : float
        Rows trained on, plus 1.
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features_in_,)
        If X had names of strings.
    fit_report_ : dict
        threads, mode and reason; order of the rows, steps, seconds, rows_per_second,
        nnz_per_second; stop, one sentence per problem; seconds_to, per problem the seconds to the
        lowest objective + 10, 1 and 0.1 % (as 0.1, 0.01, 0.001), where `history_` has objectives;
        resumed, the rows that a checkpoint brought; omega, delta, rho and conflicts, as of
        `HogwildResult`.
    history_ : list of dict
        One record per epoch: problem, epoch, seconds, rows; objective, exact, if `tol`, `target` or
        `verbose` need it; score on rows held out.

    Notes
    -----
    As for `SGDClassifier`. The default learning rate is scikit-learn's; "optimal" needs no tuning.

    Examples
    --------
    >>> import numpy as np
    >>> from fastopt.estimators import SGDRegressor
    >>> X = np.random.default_rng(0).normal(size=(1000, 2))
    >>> model = SGDRegressor(learning_rate="optimal", alpha=0, random_state=0)
    >>> model = model.fit(X, X @ [1, 2] + 3)
    >>> model.coef_.round(2).tolist(), model.intercept_.round(2).tolist()
    ([1.0, 2.0], [3.0])
    """

    _kind = "SGDRegressor"
    loss_functions = {
        **{name: LOSSES[name] for name in NUMBERS},
        "quantile": ("quantile", 0.5),
        "poisson": ("poisson",),
    }

    def __init__(
        self,
        loss: Any = "squared_error",
        *,
        penalty: str | None = "l2",
        alpha: float = 0.0001,
        l1_ratio: float | None = 0.15,
        fit_intercept: bool = True,
        max_iter: int = 1000,
        tol: float | None = 1e-3,
        shuffle: bool = True,
        verbose: int = 0,
        epsilon: float = 0.1,
        random_state: Any = None,
        learning_rate: str = "invscaling",
        eta0: float = 0.01,
        power_t: float = 0.25,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 5,
        warm_start: bool = False,
        average: bool | int = False,
        n_jobs: int | None = None,
        quantile: float = 0.5,
        intercept_rate: float | str = "auto",
        positive: bool = False,
        time_budget: float | None = None,
        target: float | None = None,
        optimizer: str = "sgd",
        checkpoint: Any = None,
        checkpoint_every: float = 60.0,
        order: Any = None,
        deterministic: bool | None = None,
        max_norm: float | None = None,
        polish: str | None = None,
    ) -> None:
        self.loss = loss
        self.penalty = penalty
        self.alpha = alpha
        self.l1_ratio = l1_ratio
        self.fit_intercept = fit_intercept
        self.max_iter = max_iter
        self.tol = tol
        self.shuffle = shuffle
        self.verbose = verbose
        self.epsilon = epsilon
        self.random_state = random_state
        self.learning_rate = learning_rate
        self.eta0 = eta0
        self.power_t = power_t
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.warm_start = warm_start
        self.average = average
        self.n_jobs = n_jobs
        self.quantile = quantile
        self.intercept_rate = intercept_rate
        self.positive = positive
        self.time_budget = time_budget
        self.target = target
        self.optimizer = optimizer
        self.checkpoint = checkpoint
        self.checkpoint_every = checkpoint_every
        self.order = order
        self.deterministic = deterministic
        self.max_norm = max_norm
        self.polish = polish

    def _check(self, partial: bool = False) -> None:
        super()._check(partial)
        number("quantile", self.quantile, 0, 1)

    def _problems(self, y: np.ndarray) -> list[tuple[dict[str, Any], None]]:
        return [({"y": y}, None)]

    def _mean(self, p: np.ndarray) -> np.ndarray:
        return np.exp(p) if self.loss == "poisson" else p

    def _targets(self, X: Any, y: Any, reset: bool, name: str = "y") -> tuple[Any, np.ndarray]:
        X, y = validate_data(
            self, X, y, accept_sparse="csr", dtype=FLOATS, y_numeric=True, reset=reset
        )
        if self.loss == "poisson" and (y < 0).any():
            raise ValueError(f"{name} must not be negative for loss='poisson'")
        return X, np.ascontiguousarray(y, X.dtype)

    @with_callbacks
    def fit(
        self,
        X: Any,
        y: Any = None,
        coef_init: Any = None,
        intercept_init: Any = None,
        sample_weight: Any = None,
        *,
        validation: Any = None,
    ) -> SGDRegressor:
        """Train from scratch, or from what is given.

        Parameters
        ----------
        X : array_like, sparse matrix or Dataset of shape (n_samples, n_features)
            A data set of `open_data` has its labels and weights in itself; from its cache rows are
            read as training comes to them, so that it may be larger than memory.
        y : array_like of shape (n_samples,)
            Numbers.
        coef_init, intercept_init : array_like, optional
            Where to begin; of the shapes of `coef_` and `intercept_`.
        sample_weight : array_like of shape (n_samples,), optional
            Factors of the losses.
        validation : (X, y) or Dataset, optional
            Rows whose score judges the epochs, in place of some of X.

        Returns
        -------
        self
        """
        self._check()
        X, y, sample_weight = unpacked(X, y, sample_weight)
        X, y = self._targets(X, y, reset=True)
        if validation is not None:
            if isinstance(validation, Dataset):
                validation = unpacked(validation, None)[:2]
            validation = self._targets(*pair(validation), reset=False, name="validation")
        W, b = self._start((1, X.shape[1]), X.dtype, coef_init, intercept_init)
        self._learn(X, y, W, b, sample_weight, validation=validation)
        return self

    @available_if(can_go_on)
    def partial_fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> SGDRegressor:
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
        X, y, sample_weight = unpacked(X, y, sample_weight)
        first = getattr(self, "coef_", None) is None
        X, y = self._targets(X, y, reset=first)
        if first:
            W, b = self._start((1, X.shape[1]), X.dtype, None, None)
        else:
            W, b = self._resume()
            X, y = X.astype(W.dtype, copy=False), y.astype(W.dtype)
        self._learn(X, y, W, b, sample_weight, partial=True)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Return the prediction for each row, shape (n_samples,)."""
        return self._mean(self._scores(X).ravel())

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Return the R squared of `predict` on these rows; a data set has its own y and weights."""
        if isinstance(X, Dataset):
            return datasets.score(r2_score, self.predict, X, y, sample_weight)
        return super().score(X, y, sample_weight)
