"""Factorization machines for classes, as a scikit-learn estimator."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.model_selection import StratifiedShuffleSplit
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import _check_partial_fit_first_call, check_classification_targets
from sklearn.utils.validation import validate_data

from fastopt.fm.machines import Machine, log_odds
from fastopt.sparse.linear_inputs import FLOATS, pair
from fastopt.sparse.linear_sgd import LOSSES
from fastopt.sparse.models import LinearModel


def _can_say(estimator: Any) -> bool:
    if estimator.loss != "log_loss":
        raise AttributeError(f"probability estimates are not available for loss={estimator.loss!r}")
    return True


class FMClassifier(ClassifierMixin, Machine, BaseEstimator):
    """Factorization machine for classes, trained by lock-free SGD with all threads inside one fit.

    The decision function of a row x is, with `rank` factors v_j for each column [1]_, ::

        p(x) = w_0 + sum_j w_j x_j + sum_{j < k} (v_j . v_k) x_j x_k

    Minimises the mean over all rows of ``weight * loss(y, p)``, y being -1 or +1, and of the
    penalty of their non-zeros, the sum of ``l2_reg_w / 2 * w_j^2 + l2_reg_V / 2 * |v_j|^2`` over
    the columns that a row has. Several classes are trained one against the rest.

    Parameters
    ----------
    loss : str, default "log_loss"
        "log_loss", "hinge", "squared_hinge", "modified_huber", "perceptron"; of -1 and +1 as
        numbers "squared_error", "huber", "epsilon_insensitive", "squared_epsilon_insensitive".
        Formulas: `fastopt.hogwild`.
    rank : int, default 16
        Factors of each column, 1 to 256.
    l2_reg_w, l2_reg_V : float, default 1e-4, 1e-3
        L2 penalties of weights and factors.
    init_stdev : float, default 0.01
        Standard deviation of the first factors. Columns that no row has stay at 0.
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
        The step of weights and factors.
    decay : float in (0, 1], default 0.9
    shuffle : bool, default True
        Take rows in random order, another one in each epoch.
    epsilon : float, default 0.1
        Of huber and the epsilon-insensitive losses.
    class_weight : dict, "balanced" or None, default None
        Factors of the classes' losses.
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
    classes_ : ndarray of shape (n_classes,)
    coef_ : ndarray of shape (n_problems, n_features)
        The weights, in the dtype of X; one problem for two classes, else one for each class.
    factors_ : ndarray of shape (n_problems, n_features, rank)
    intercept_ : ndarray of shape (n_problems,)
    n_iter_ : int
        Epochs.
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features_in_,)
        If X had names of strings.
    fit_report_ : dict
        threads and reason; stop, one sentence per problem; best_epoch, seconds, rows_per_second.
    history_ : list of dict
        One record per epoch: problem, epoch, seconds, rows, step; objective, exact, and
        validation_loss where `tol`, held-out rows or `verbose` need them.

    Notes
    -----
    CSR matrices are used in place. Threads write one model without locks [2]_. On Ctrl-C the
    estimator keeps what it has learned. If the model grows without bound, fit raises ValueError.
    Predictions use the model that was trained, whatever is done to `coef_`, `factors_` and
    `intercept_`, which are copies.

    References
    ----------
    .. [1] Rendle, "Factorization Machines", 2010
    .. [2] Niu, Recht, Re, Wright, "Hogwild!: A Lock-Free Approach to Parallelizing Stochastic
       Gradient Descent", 2011, https://arxiv.org/abs/1106.5730

    Examples
    --------
    >>> import numpy as np
    >>> from fastopt.estimators import FMClassifier
    >>> X = np.random.default_rng(0).choice([-1.0, 1.0], (2000, 5))
    >>> y = X[:, 0] * X[:, 1] > 0  # no linear model learns this
    >>> model = FMClassifier(rank=2, random_state=0).fit(X, y)
    >>> model.score(X, y)
    1.0
    """

    losses = LOSSES
    splitter = StratifiedShuffleSplit

    def __init__(
        self,
        loss: str = "log_loss",
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
        class_weight: Any = None,
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
        self.class_weight = class_weight
        self.warm_start = warm_start
        self.time_budget = time_budget
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose

    def _check(self, partial: bool = False) -> None:
        super()._check(partial)
        weight = self.class_weight
        if weight is not None and not isinstance(weight, dict) and weight != "balanced":
            raise ValueError(f"class_weight must be a dict, 'balanced' or None, got {weight!r}")
        if partial and weight == "balanced":
            raise ValueError("class_weight 'balanced' is not supported for partial_fit")

    def _problems(self, y: np.ndarray) -> list[tuple[dict[str, Any], np.ndarray | None]]:
        """Return the targets of each problem, y being codes, and the weights of the classes."""
        positives = [1] if len(self.classes_) == 2 else range(len(self.classes_))
        of = self._class_weight
        if of is None:
            return [({"codes": y, "positive": k}, None) for k in positives]
        if len(positives) == 1:
            return [({"codes": y, "positive": 1}, of[y])]
        return [({"codes": y, "positive": k}, np.where(y == k, of[k], 1)) for k in positives]

    def _facts(self, target: dict[str, Any], weight: np.ndarray | None) -> tuple[float, float]:
        """Return where the intercept begins, and the spread of the targets."""
        if self.loss != "log_loss":
            return 0.0, 0.0
        right = target["codes"] == target["positive"]
        return log_odds(float(np.average(right, weights=weight)), len(right)), 0.0

    def _begin(self, classes: np.ndarray, y: np.ndarray) -> None:
        self.classes_ = classes
        self._class_weight = None
        if self.class_weight is not None:
            self._class_weight = compute_class_weight(self.class_weight, classes=classes, y=y)

    def _codes(self, y: Any, name: str = "y") -> np.ndarray:
        codes = np.searchsorted(self.classes_, y).clip(0, len(self.classes_) - 1)
        if not np.array_equal(self.classes_[codes], y):
            raise ValueError(f"{name} has labels that are not among the classes {self.classes_}")
        return codes.astype(np.int64)

    def fit(
        self, X: Any, y: Any, sample_weight: Any = None, *, validation: Any = None
    ) -> FMClassifier:
        """Train, from scratch unless `warm_start`.

        Parameters
        ----------
        X : array_like or sparse matrix of shape (n_samples, n_features)
        y : array_like of shape (n_samples,)
            Class labels.
        sample_weight : array_like of shape (n_samples,), optional
            Factors of the losses.
        validation : (X, y), optional
            Rows whose mean loss judges the epochs, in place of some of X.

        Returns
        -------
        self
        """
        self._check()
        X, y = validate_data(self, X, y, accept_sparse="csr", dtype=FLOATS)
        check_classification_targets(y)
        classes = np.unique(y)
        if len(classes) < 2:
            raise ValueError(f"y must have at least two classes, got one class: {classes}")
        if self.warm_start and not np.array_equal(getattr(self, "classes_", classes), classes):
            raise ValueError(f"warm_start needs the same classes, {self.classes_}, got {classes}")
        self._begin(classes, y)
        if validation is not None:
            Z, labels = validate_data(
                self, *pair(validation), accept_sparse="csr", dtype=FLOATS, reset=False
            )
            validation = Z, self._codes(labels, "validation")
        self._learn(X, self._codes(y), sample_weight, validation=validation)
        return self

    def partial_fit(
        self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None
    ) -> FMClassifier:
        """Train for one pass over these rows, going on from the last call.

        Parameters
        ----------
        X, y, sample_weight
            As for `fit`.
        classes : array_like of shape (n_classes,), optional
            All classes there will ever be; needed in the first call.

        Returns
        -------
        self
        """
        self._check(partial=True)
        first = not hasattr(self, "classes_")
        X, y = validate_data(self, X, y, accept_sparse="csr", dtype=FLOATS, reset=first)
        check_classification_targets(y)
        _check_partial_fit_first_call(self, classes)
        if len(self.classes_) < 2:
            raise ValueError(f"classes must be at least two, got {self.classes_}")
        self._begin(self.classes_, y)
        self._learn(X, self._codes(y), sample_weight, partial=True)
        return self

    def _show(self, W: np.ndarray, V: np.ndarray, b: np.ndarray) -> None:
        self.coef_, self.factors_, self.intercept_ = W, V, b

    @property
    def _meaning(self) -> LinearModel:
        """What says what outputs mean, whatever the model."""
        loss = LOSSES[self.loss][0]
        return LinearModel(np.empty((1, 0)), np.empty(1), self.classes_, {"loss": loss})

    def decision_function(self, X: Any) -> np.ndarray:
        """Return p(x): shape (n_samples,) for two classes, else (n_samples, n_classes)."""
        scores = self._outputs(X)
        return scores.ravel() if scores.shape[1] == 1 else scores

    def predict(self, X: Any) -> np.ndarray:
        """Return the class of each row, shape (n_samples,)."""
        scores = self._outputs(X)
        return self._meaning.label(scores)

    @available_if(_can_say)
    def predict_proba(self, X: Any) -> np.ndarray:
        """Return probabilities of shape (n_samples, n_classes); for log_loss.

        With more than two classes, the probabilities of the one-vs-rest models are divided by their
        sum.
        """
        scores = self._outputs(X)
        return self._meaning.probability(scores)

    @available_if(_can_say)
    def predict_log_proba(self, X: Any) -> np.ndarray:
        """Return the logarithm of `predict_proba`."""
        with np.errstate(divide="ignore"):
            return np.log(self.predict_proba(X))
