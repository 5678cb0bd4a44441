"""scikit-learn's SGDClassifier on top of the lock-free runner."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.metrics import accuracy_score
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import _check_partial_fit_first_call, check_classification_targets
from sklearn.utils.validation import validate_data

from fastopt.data import Dataset
from fastopt.sparse import datasets
from fastopt.sparse.callbacks import CallbackSupportMixin, with_callbacks
from fastopt.sparse.datasets import unpacked
from fastopt.sparse.linear_inputs import FLOATS, pair
from fastopt.sparse.linear_sgd import LinearSGD, can_go_on


def _can_say(estimator: Any) -> bool:
    if estimator.loss not in ("log_loss", "modified_huber"):
        raise AttributeError(f"probability estimates are not available for loss={estimator.loss!r}")
    return True


class SGDClassifier(CallbackSupportMixin, ClassifierMixin, LinearSGD, BaseEstimator):
    """Linear classifier trained by lock-free SGD with all threads inside one fit.

    Minimises ``mean_i(weight_i * loss(y_i, x_i . w + b)) + penalty``; several classes are trained
    one against the rest, or with `multi_class` in one model. Names and defaults are scikit-learn's
    where shared.

    Parameters
    ----------
    loss : str or compiled function, default "hinge"
        "hinge", "log_loss", "modified_huber", "squared_hinge", "perceptron"; of -1 and +1 as
        numbers "squared_error", "huber", "epsilon_insensitive", "squared_epsilon_insensitive".
        Formulas: `fastopt.hogwild`; there too, compiled functions of your own.
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
    n_jobs : int or None, default None
        Threads inside one fit; -1: as many as this process may use. None: 1 if `random_state` is
        given and `deterministic` is not True, which makes the bits reproducible, else -1.
    random_state : int, RandomState instance or None, default None
        Of the order of rows.
    learning_rate : str, default "optimal"
        "optimal": eta / (1 + eta * alpha * t) with an eta that is tried out on samples of the rows;
        "constant": eta0; "invscaling": eta0 / t^power_t; "adaptive": eta0, divided by 5 where `tol`
        would stop, until it is below 1e-6; "epoch_decay": eta0 * 0.9^epoch; "pa1", "pa2": the
        passive-aggressive steps of the hinge, at most eta0 long, or damped by it.
        Steps are the mean of the formula over 64 rows.
    eta0 : float, default 0.01
    power_t : float, default 0.5
    early_stopping : bool, default False
        Hold out rows, and judge epochs by the score on them: accuracy of each class against the
        rest, or R squared.
    validation_fraction : float, default 0.1
    n_iter_no_change : int, default 5
    class_weight : dict, "balanced" or None, default None
        Weight of each class, multiplied with `sample_weight`; with several classes only the rows of
        a problem's own class are weighted, as in scikit-learn.
    warm_start : bool, default False
        fit begins with the coefficients that are there.
    average : bool or int, default False
        Use the mean of the models after all rows, or after those from the average-th row on. With
        True and learning_rate="optimal", fit takes a mean of snapshots of which later ones count
        more: closer to the optimum, and free of cost; or the last model, where that has the lower
        objective on a sample of the rows. Several threads take snapshots too, unweighted.
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
    multi_class : str, default "ovr"
        Of more than two classes: "ovr" trains each against the rest; "multinomial" the softmax,
        for loss "log_loss"; "crammer_singer" and "weston_watkins" the multi-class SVMs that count
        the worst other class and all of them, for loss "hinge" (formulas:
        `fastopt.sparse.multiclass.multiclass`). These are for penalty "l2" or None and
        optimizer "sgd". Two classes are the binary problem whatever is given here.
    polish : {None, "lbfgs", "newton"}, default None
        fit goes on from the trained model to the optimum, until the objective is within 1e-6 of its
        minimum: in few steps by Newton's method for at most 2,000 features, by L-BFGS for any
        number. For smooth losses, penalty "l2" or None; `partial_fit` leaves it out.

    Attributes
    ----------
    coef_ : ndarray of shape (1, n_features) or (n_classes, n_features)
        One row for two classes. In the dtype of X, float32 or float64.
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
    CSR with float32 or float64 is used in place. Other sparse formats are converted to CSR, and
    dense arrays are wrapped as CSR with all their elements, or converted if less than 3 in 4 are
    not 0: the same model, whatever the container. Rows of weight 0 count nowhere.

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

    _kind = "SGDClassifier"

    def __init__(
        self,
        loss: Any = "hinge",
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
        n_jobs: int | None = None,
        random_state: Any = None,
        learning_rate: str = "optimal",
        eta0: float = 0.01,
        power_t: float = 0.5,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 5,
        class_weight: Any = None,
        warm_start: bool = False,
        average: bool | int = False,
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
        multi_class: str = "ovr",
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
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.learning_rate = learning_rate
        self.eta0 = eta0
        self.power_t = power_t
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.class_weight = class_weight
        self.warm_start = warm_start
        self.average = average
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
        self.multi_class = multi_class
        self.polish = polish

    def _check(self, partial: bool = False) -> None:
        super()._check(partial)
        weight = self.class_weight
        if weight is not None and not isinstance(weight, dict) and weight != "balanced":
            raise ValueError(f"class_weight must be a dict, 'balanced' or None, got {weight!r}")
        if partial and weight == "balanced":
            raise ValueError(
                "class_weight 'balanced' is not supported for partial_fit. In order to use "
                "'balanced' weights, use compute_class_weight('balanced', classes=classes, y=y). "
                "In place of y you can use a large enough sample of the full training set target "
                "to properly estimate the class frequency distributions. Pass the resulting "
                "weights as the class_weight parameter."
            )

    def _problems(self, y: np.ndarray) -> list[tuple[dict[str, Any], np.ndarray | None]]:
        """Return the targets of each problem, y being codes, and the weights of the classes."""
        weight = self._class_weight
        if self._together:
            target = {"codes": y, "classes": len(self.classes_)}
            return [(target, None if weight is None else weight[y])]
        if len(self.classes_) == 2:
            return [({"codes": y, "positive": 1}, None if weight is None else weight[y])]
        return [
            (
                {"codes": y, "positive": k},
                None if weight is None else np.where(y == k, weight[k], 1),
            )
            for k in range(len(self.classes_))
        ]

    @property
    def _together(self) -> bool:
        return self.multi_class != "ovr" and len(self.classes_) > 2

    def _codes(self, y: Any, name: str = "y") -> np.ndarray:
        codes = np.searchsorted(self.classes_, y).clip(0, len(self.classes_) - 1)
        if not np.array_equal(self.classes_[codes], y):
            raise ValueError(f"{name} has labels that are not among the classes {self.classes_}")
        return codes.astype(np.int64)

    def _weigh(self, y: np.ndarray) -> None:
        self._class_weight = None
        if self.class_weight is not None:
            self._class_weight = compute_class_weight(self.class_weight, classes=self.classes_, y=y)

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
    ) -> SGDClassifier:
        """Train from scratch, or from what is given.

        Parameters
        ----------
        X : array_like, sparse matrix or Dataset of shape (n_samples, n_features)
            A data set of `open_data` has its labels and weights in itself; from its cache rows are
            read as training comes to them, so that it may be larger than memory.
        y : array_like of shape (n_samples,)
            Class labels.
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
        X, y = validate_data(self, X, y, accept_sparse="csr", dtype=FLOATS)
        check_classification_targets(y)
        classes = np.unique(y)
        if len(classes) < 2:
            raise ValueError(f"y must have at least two classes, got one class: {classes}")
        same = np.array_equal(getattr(self, "classes_", classes), classes)
        if self.warm_start and not same:
            raise ValueError(f"warm_start needs the same classes, {self.classes_}, got {classes}")
        self.classes_ = classes
        self._weigh(y)
        if validation is not None:
            if isinstance(validation, Dataset):
                validation = unpacked(validation, None)[:2]
            Z, labels = validate_data(
                self, *pair(validation), accept_sparse="csr", dtype=FLOATS, reset=False
            )
            validation = Z, self._codes(labels, "validation")
        shape = (1 if len(classes) == 2 else len(classes), X.shape[1])
        W, b = self._start(shape, X.dtype, coef_init, intercept_init)
        self._learn(X, self._codes(y), W, b, sample_weight, validation=validation)
        return self

    @available_if(can_go_on)
    def partial_fit(
        self, X: Any, y: Any = None, classes: Any = None, sample_weight: Any = None
    ) -> SGDClassifier:
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
        X, y, sample_weight = unpacked(X, y, sample_weight)
        first = not hasattr(self, "classes_")
        X, y = validate_data(self, X, y, accept_sparse="csr", dtype=FLOATS, reset=first)
        check_classification_targets(y)
        _check_partial_fit_first_call(self, classes)
        if len(self.classes_) < 2:
            raise ValueError(f"classes must be at least two, got {self.classes_}")
        self._weigh(y)
        codes = self._codes(y)
        if getattr(self, "coef_", None) is None:
            shape = (1 if len(self.classes_) == 2 else len(self.classes_), X.shape[1])
            W, b = self._start(shape, X.dtype, None, None)
        else:
            W, b = self._resume()
            X = X.astype(W.dtype, copy=False)
        self._learn(X, codes, W, b, sample_weight, partial=True)
        return self

    def decision_function(self, X: Any) -> np.ndarray:
        """Return signed distances: (n_samples,) for two classes, else (n_samples, n_classes)."""
        scores = self._scores(X)
        return scores.ravel() if scores.shape[1] == 1 else scores

    def predict(self, X: Any) -> np.ndarray:
        """Return the class of each row, shape (n_samples,)."""
        scores = self.decision_function(X)
        return self.classes_[(scores > 0).astype(int) if scores.ndim == 1 else scores.argmax(1)]

    @available_if(_can_say)
    def predict_proba(self, X: Any) -> np.ndarray:
        """Return probabilities of shape (n_samples, n_classes); for log_loss and modified_huber.

        With more than two classes, the probabilities of the one-vs-rest classifiers are divided
        by their sum; with multi_class="multinomial", they are the softmax of the scores. Of
        modified_huber they are (clip(decision_function, -1, 1) + 1) / 2 [1]_.

        References
        ----------
        .. [1] Zhang, "Covering Number Bounds of Certain Regularized Linear Function Classes", 2002,
           appendix B, https://jmlr.org/papers/v2/zhang02c.html
        """
        scores = self.decision_function(X)
        if self._together:
            return softmax(scores, axis=1)
        if self.loss == "log_loss":
            positive = np.exp(-np.logaddexp(0, -scores))
        else:
            positive = (np.clip(scores, -1, 1) + 1) / 2
        if scores.ndim == 1:
            return np.stack([1 - positive, positive], axis=1)
        total = positive.sum(axis=1, keepdims=True)
        return np.where(total > 0, positive / np.where(total > 0, total, 1), 1 / positive.shape[1])

    @available_if(_can_say)
    def predict_log_proba(self, X: Any) -> np.ndarray:
        """Return the logarithm of `predict_proba`."""
        return np.log(self.predict_proba(X))

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Return the accuracy of `predict` on these rows; a data set has its own y and weights."""
        if isinstance(X, Dataset):
            return datasets.score(accuracy_score, self.predict, X, y, sample_weight)
        return super().score(X, y, sample_weight)
