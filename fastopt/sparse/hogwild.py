"""`hogwild`: train one linear model on sparse rows with all cores and no locks."""

from __future__ import annotations

import math
import os
import warnings
from typing import Any

import numpy as np

from fastopt.checks import check_callable, number
from fastopt.sparse.checkpoint import Checkpoint, begun, kept
from fastopt.sparse.polish import check_polish, polished
from fastopt.sparse.rows import Rows, Settings, Targets, column, targets
from fastopt.sparse.runner import Callback, HogwildResult, solve


def hogwild(
    X: Any,
    y: Any,
    *,
    loss: Any = "logistic",
    l2: float = 1e-4,
    l1: float = 0.0,
    positive: bool = False,
    epochs: int = 20,
    step: float | str = "auto",
    schedule: str | None = None,
    decay: float = 0.9,
    mode: str = "auto",
    order: Any = "auto",
    deterministic: bool = False,
    fit_intercept: bool = True,
    average: bool = True,
    sample_weight: Any = None,
    w0: Any = None,
    intercept0: float = 0.0,
    threads: int | None = None,
    seed: int = 0,
    epsilon: float = 0.1,
    quantile: float = 0.5,
    callback: Callback | None = None,
    track_objective: bool = False,
    checkpoint: str | os.PathLike[str] | Checkpoint | None = None,
    checkpoint_every: float = 60.0,
    optimizer: str = "sgd",
    max_norm: float | None = None,
    polish: str | None = None,
) -> HogwildResult:
    """Train a linear model by lock-free parallel stochastic gradient descent.

    Minimises ``mean_i(loss(y_i, x_i . w + b)) + l2 / 2 * |w|^2 + l1 * |w|_1``; b is not penalised.
    X is used in place: nothing of its size is copied.

    Parameters
    ----------
    X : sparse matrix of shape (n_rows, n_columns)
        Anything with `data` (float32 or float64, finite), `indices` and `indptr` (int32 or
        int64, each) and `shape` in CSR form. Checked once, before training.
    y : array_like of shape (n_rows,)
        -1 or +1 for the losses of classes, finite numbers for the others, not negative for
        poisson.
    loss : str or compiled function
        Of classes: "logistic" log(1 + exp(-y p)); "hinge" max(0, 1 - y p); "squared_hinge" its
        square; "modified_huber" the same, -4 y p where y p < -1; "perceptron" max(0, -y p). Of
        numbers, r = p - y: "squared" r^2 / 2; "huber" the same, e |r| - e^2 / 2 where |r| > e;
        "epsilon_insensitive" max(0, |r| - e); "squared_epsilon_insensitive" its square;
        "quantile" q max(0, -r) + (1 - q) max(0, r); "poisson" exp(p) - y p, the mean being exp(p).
        Your own: ``double (double p, double y, double *derivative)``, which returns the loss and
        writes its derivative by p, as numba.cfunc, scipy.LowLevelCallable, ctypes or cffi function
        pointer or PyCapsule. It is called from all threads, without the GIL.
    l2 : float, default 1e-4
        As scikit-learn's `alpha`.
    l1 : float, default 0
        Makes weights exactly 0 if `average` is False; on one thread.
    positive : bool, default False
        Keep all weights at 0 or above; on one thread.
    epochs : int, default 20
        Passes over the rows. 0 returns the start.
    step : "auto" or float
        The first step size, at most 0.1 / l2 unless the mode is "serial". "auto" tries a few on
        samples of the rows.
    schedule : {"inverse_time", "constant", "epoch_decay", "power"}, optional
        Default "inverse_time", and "constant" unless `optimizer` is "sgd". In this order:
        step / (1 + step * (l2 + l1) * t) at row t; step; step * decay ** epoch; step / sqrt(t).
    decay : float in (0, 1], default 0.9
    mode : {"auto", "copies", "shared", "serial", "rounds", "hogbatch", "rr", "aig"}
        How threads share the weights: "copies" merges private ones every few thousand rows,
        "shared" writes one vector component by component, the paper's Hogwild! [1]_, "serial" uses
        one thread, "rounds" is what `deterministic` means. For study: "hogbatch" writes to one
        vector once in 16 rows [4]_; "rr" and "aig" are the paper's round-robin, threads writing
        one after the other, and its locks on the weights of a row.
    order : str, array_like of int or object, default "auto"
        Of the rows in each epoch. "blocks": blocks of 64 rows in random order; "turns": the same,
        the rows of 8 blocks taking turns; "auto": one of these, see the notes; "shuffle": single
        rows in random order; "sequential": as they are. An array of at most n_rows row numbers,
        such as a permutation; or an object with a method `order(epoch, n)` that returns one, such
        as `fastopt.Curriculum` and `fastopt.SelfPaced`.
    deterministic : bool, default False
        The same bits for any number of threads: a number of workers that depends on X alone train
        private copies, and are merged in a fixed order. On one thread where there is too little
        to share. Needs mode "auto", "rounds" or "serial".
    fit_intercept : bool, default True
    average : bool, default True
        Return the mean of snapshots of the weights, later ones counting more [2]_: closer to the
        optimum where rows contradict each other. Where they do not, it lags behind: the last
        weights are returned if they are better on a sample of some thousand rows, by more than
        chance. False returns the last weights.
    sample_weight : array_like of shape (n_rows,), optional
        Weights of the rows in the mean of the losses; only their ratios matter.
    w0 : array_like of shape (n_columns,), optional
        Where to start, default 0; not changed.
    intercept0 : float, default 0
    threads : int, optional
        Default: as many as this process may use. One thread gives the same bits for the same
        `seed`; more threads do not, but with `deterministic`.
    seed : int, default 0
        Of the order of rows.
    epsilon : float, default 0.1
        e of the losses that have one, >= 0.
    quantile : float, default 0.5
        q of the quantile loss, in [0, 1].
    callback : callable, optional
        Called with a `Progress` at most every 50 ms on the calling thread, and at the end. If it
        returns True, training stops.
    track_objective : bool, default False
        Put the exact objective of each epoch's model into the history.
    checkpoint : path, optional
        A file that holds the whole training. If it is there, training goes on from it, wherever in
        an epoch that is; else it is begun. After the end it holds the result, which the same call
        then returns at once. Nothing deletes it.
    checkpoint_every : float, default 60
        Seconds between two writes of it: what is lost if the process is killed.
    optimizer : {"sgd", "adagrad", "adam", "ftrl"}, default "sgd"
        The others have a learning rate for each column [5]_ [6]_ [7]_: see the notes.
    max_norm : float, optional
        Bound of |w|: after each row w goes to the nearest point of the ball, max_norm / |w| * w if
        it is outside; on one thread.
    polish : {None, "lbfgs", "newton"}
        Go on from the trained model to the optimum, until the objective is within 1e-6 of its
        minimum; for smooth losses, without l1, positive, max_norm and checkpoint. Passes over the
        rows count as epochs. "lbfgs" is for any X, "newton" for one of at most 2,000 columns, which
        it solves in few passes.

    Returns
    -------
    HogwildResult

    Raises
    ------
    ValueError, TypeError
        Naming the argument. Also if the checkpoint is damaged, or of other data or settings.
    OSError
        If the checkpoint cannot be read, or not be written at the beginning.
    KeyboardInterrupt
        On Ctrl-C, within 0.2 s; its attribute `result` is the HogwildResult so far.

    Warns
    -----
    RuntimeWarning
        If the weights grow without bound; `status` is then "diverged". If a checkpoint cannot be
        written later on, as on a full disk: training goes on, and the last one stays.

    Notes
    -----
    By default blocks of 64 rows are permuted in each epoch; the order within a block is the data's,
    which is up to three times quicker than a fully random one. Where neighbours have the same label
    more often than by chance, as in a sorted file, the rows of 8 blocks take turns. Rows are never
    copied, whatever the order; an epoch is as long as its order. The intercept is trained as the
    weight of a column whose constant value is the root mean square of the non-zeros; with automatic
    steps also of more, up to the rows' norm, where it would learn later than they: where l2 times
    the number of rows is large. L1 is a
    penalty that accumulates [3]_, from the beginning of each epoch, and is complete at its end.

    A rule with a rate for each column moves the columns that a row has by the formula of the dense
    rule, :class:`Adagrad` (eps 1e-10), :class:`Adam` (betas 0.9 and 0.999, eps 1e-8) or
    :class:`FTRL` (beta 1), lr or alpha being `step`. A row whose derivative is 0 moves nothing.
    For AdaGrad and Adam, L2 shrinks every weight at every row by exp(-l2 * step / (root + eps)),
    root being the root of the column's sum or average of squares; what a weight has missed is made
    up for when a row has it. Adam is lazy: averages move where a row has the column, and the bias
    correction counts all rows, as in torch.optim.SparseAdam. In FTRL-proximal the penalties after
    t rows are t * l1 and t * l2, so that they are the objective's; weights are exactly 0 under L1
    if `average` is False, on any number of threads. The intercept is a column of ones. Mode
    "shared" shares weights and states component by component, "auto" is one thread. L1 is for ftrl
    alone, `positive` for sgd.

    References
    ----------
    .. [1] Niu, Recht, Re, Wright, "Hogwild!: A Lock-Free Approach to Parallelizing Stochastic
       Gradient Descent", 2011, https://arxiv.org/abs/1106.5730
    .. [2] Shamir, Zhang, "Stochastic Gradient Descent for Non-smooth Optimization", 2013,
       https://arxiv.org/abs/1212.1824
    .. [3] Tsuruoka, Tsujii, Ananiadou, "Stochastic Gradient Descent Training for L1-regularized
       Log-linear Models with Cumulative Penalty", 2009, https://aclanthology.org/P09-1054
    .. [4] Sallinen, Satish, Smelyanskiy, Sury, Re, "High Performance Parallel Stochastic Gradient
       Descent in Shared Memory", IPDPS 2016
    .. [5] Duchi, Hazan, Singer, "Adaptive Subgradient Methods for Online Learning and Stochastic
       Optimization", 2011, https://jmlr.org/papers/v12/duchi11a.html
    .. [6] Kingma, Ba, "Adam: A Method for Stochastic Optimization", 2015,
       https://arxiv.org/abs/1412.6980
    .. [7] McMahan et al., "Ad Click Prediction: a View from the Trenches", 2013, Algorithm 1,
       https://doi.org/10.1145/2487575.2488200

    Examples
    --------
    >>> import numpy as np, types, fastopt
    >>> X = types.SimpleNamespace(data=np.ones(4, "f4"), indices=np.array([0, 1, 0, 1]),
    ...                           indptr=np.array([0, 1, 2, 3, 4]), shape=(4, 2))
    >>> result = fastopt.hogwild(X, [1, -1, 1, -1], epochs=5)
    >>> np.sign(result.w).tolist(), result.status
    ([1.0, -1.0], 'finished')
    """
    settings = Settings.check(
        loss=loss,
        l2=l2,
        l1=l1,
        positive=positive,
        epochs=epochs,
        step=step,
        schedule=schedule,
        decay=decay,
        mode=mode,
        order=order,
        deterministic=deterministic,
        fit_intercept=fit_intercept,
        average=average,
        threads=threads,
        seed=seed,
        epsilon=epsilon,
        quantile=quantile,
        optimizer=optimizer,
        max_norm=max_norm,
    )
    check_callable("callback", callback)
    train = solve
    if polish is not None:
        limits = {"l1": l1, "positive": positive, "max_norm": max_norm, "checkpoint": checkpoint}
        check_polish(polish, settings.loss, **limits)
        train = polished(solve, polish)
    rows = Rows(X, settings, sample_weight)
    rows.need_memory()
    target = Targets(rows, y=targets(y, rows.n, rows.dtype, settings.loss))
    result = kept(
        train,
        HogwildResult,
        rows,
        target,
        start_of(w0, rows),
        number("intercept0", intercept0, -math.inf),
        begun(checkpoint, checkpoint_every),
        callback=callback,
        track=bool(track_objective),
    )
    if result.status == "diverged":
        warnings.warn(f"hogwild diverged: {result.message}", RuntimeWarning, stacklevel=2)
    return result


def start_of(w0: Any, rows: Rows) -> np.ndarray:
    """Return a copy of the weights to start from."""
    if w0 is None:
        return np.zeros(rows.samples.columns, rows.dtype)
    return column("w0", w0, rows.samples.columns, rows.dtype, "column").copy()
