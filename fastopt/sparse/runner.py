"""Train linear models on sparse rows with all cores and no locks; needs numpy alone."""

from __future__ import annotations

import math
import os
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fastopt.checks import check_callable, number
from fastopt.slices import SLICE, next_slice
from fastopt.sparse.checkpoint import Checkpoint, Position
from fastopt.sparse.contention import conflicts
from fastopt.sparse.rows import Rows, Settings, Targets, column, objective_of, targets
from fastopt.sparse.run import Past, Run, auto_step
from fastopt.sparse.stopping import Watch

CALLBACK_EVERY = 0.05  # seconds, at least


@dataclass
class HogwildResult:
    """What `hogwild` returns.

    Attributes
    ----------
    w : ndarray of shape (n_columns,)
        Weights, in the dtype of `X.data`.
    intercept : float
    status : {"finished", "stopped", "interrupted", "diverged"}
    message : str
        The status in a sentence, with what to do about it.
    mode : {"serial", "copies", "shared", "rounds", "hogbatch", "rr", "aig"}
    reason : str
        Why that mode and that many threads.
    order : {"blocks", "turns", "shuffle", "sequential", "given"}
        Of the rows; "given": as the argument says. See the notes of `hogwild`.
    threads : int
        Threads really used.
    step : float
        The first step size.
    epochs, rows, nnz : int
        Whole epochs, rows and non-zeros trained on.
    seconds : float
        Time of training, without validation of the input and objectives.
    history : list of dict
        One record per epoch: epoch, seconds, rows, and objective if it was tracked.
    resumed : int
        Of these rows, those that a checkpoint brought.
    sparsity : dict
        Of the Hogwild! paper [1]_: "omega", the most non-zeros of a row; "delta", the part of the
        rows that have the most frequent column; "rho", the largest part of the rows that share a
        column with one row; the last two as estimated from "rows" of them.
    conflicts : dict
        In mode "shared" of several threads, for weights of one row in 512: how many were "watched",
        which part had been "changed" by another thread between the row's prediction and its update,
        and which part was "overwritten": written by another thread between our reading and our
        writing it, so that its change is lost. Else empty.
    last, last_intercept, past, clipped
        The last weights, what a later run goes on from, and whether derivatives were cut; for the
        estimators.

    References
    ----------
    .. [1] Niu, Recht, Re, Wright, 2011, https://arxiv.org/abs/1106.5730
    """

    w: np.ndarray
    intercept: float
    status: str = "finished"
    message: str = ""
    mode: str = ""
    reason: str = ""
    order: str = ""
    threads: int = 1
    step: float = 0.0
    epochs: int = 0
    rows: int = 0
    nnz: int = 0
    seconds: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)
    resumed: int = 0
    sparsity: dict[str, float] = field(default_factory=dict)
    conflicts: dict[str, float] = field(default_factory=dict)
    last: np.ndarray | None = field(default=None, repr=False)
    last_intercept: float = 0.0
    past: Past = field(default_factory=Past, repr=False)
    clipped: bool = False

    @property
    def rows_per_second(self) -> float:
        """Rows trained on per second."""
        return self.rows / self.seconds if self.seconds else 0.0

    @property
    def nnz_per_second(self) -> float:
        """Non-zeros trained on per second."""
        return self.nnz / self.seconds if self.seconds else 0.0


@dataclass(frozen=True)
class Progress:
    """What a callback of `hogwild` sees.

    Attributes
    ----------
    epoch, epochs : int
        Whole epochs done, and asked for.
    rows_done, rows_total : int
        A curriculum may leave rows out; they count in the total.
    seconds, nnz_per_second : float
    objective : float or None
        The objective at the end of the last whole epoch, if it is tracked.
    problem, problems : int
        Which of the one-vs-rest problems is being trained, from 0, and how many there are.
    """

    epoch: int
    epochs: int
    rows_done: int
    rows_total: int
    seconds: float
    nnz_per_second: float
    objective: float | None = None
    problem: int = 0
    problems: int = 1


Callback = Callable[[Progress], Any]


class UnscaledError(ValueError):
    """No step size fits the values of X."""


def solve(
    rows: Rows,
    target: Targets,
    w0: np.ndarray,
    intercept0: Any,
    *,
    callback: Callback | None = None,
    track: bool = False,
    watch: Watch | None = None,
    deadline: float | None = None,
    step: float | None = None,
    past: Past | None = None,
    checkpoint: Checkpoint | None = None,
    problem: int = 0,
    problems: int = 1,
) -> HogwildResult:
    """Train one problem.

    Of several classes the model is what `fastopt.sparse.multiclass` lays out. A `watch` looks at
    the model after each epoch; if its tol is not None, the model is that of the best epoch. At the
    time `deadline` (of time.perf_counter) training stops. A `step` takes the place of the automatic
    one, `past` is what earlier runs left. A `checkpoint` that has begun says where to go on, and is
    written when it is due.
    """
    settings, track = rows.settings, track or watch is not None
    past = past or Past()
    target.give(rows.samples)
    start = time.perf_counter()
    position = checkpoint.resume() if checkpoint else None
    if position is not None:
        step, w0 = position.numbers["step"], position.arrays["w"]
        start -= position.numbers["seconds"]
    step = step or settings.step or auto_step(rows, target, w0, intercept0)
    if not np.finfo(rows.dtype).tiny < step < np.finfo(rows.dtype).max:
        raise UnscaledError(
            f"X has values of a size that no step size in {rows.dtype} fits (their mean square is "
            f"{rows.mean_square:.3g}): scale the columns of X"
        )
    order = target.order()
    run = Run(rows, order, step, w0, intercept0, past)
    result = HogwildResult(
        w0,
        intercept0,
        mode=rows.mode,
        reason=rows.reason,
        order=order,
        step=step,
        threads=rows.threads,
    )
    best: tuple[np.ndarray, Any] | None = None  # the model of the best epoch
    if position is not None:
        position.into(run, watch)
        result.history, best = position.numbers["history"], position.best
        result.resumed = run.native.done()[0]
    aside = 0.0  # seconds of objectives and callbacks
    called = start
    work = max(rows.samples.nonzeros, rows.n) * rows.samples.width  # in an epoch
    batches = max(1, int(SLICE * 1e8 * run.native.batches / work))
    total = settings.epochs * rows.n

    def progress() -> Progress:
        done, nnz = run.native.done()
        seconds = time.perf_counter() - start - aside
        return Progress(
            run.batches_done // run.native.batches,
            settings.epochs,
            done,
            total,
            seconds,
            nnz / seconds if seconds else 0.0,
            result.history[-1].get("objective") if result.history else None,
            problem,
            problems,
        )

    def save() -> None:
        nonlocal aside
        before = time.perf_counter()
        checkpoint.save(Position.of(run, result.history, before - start - aside, watch, best))
        aside += time.perf_counter() - before

    def finish(status: str, message: str) -> HogwildResult:
        result.status, result.message = status, message
        if checkpoint is not None and status in ("stopped", "interrupted"):
            save()
        result.w, result.intercept = run.model()
        if status == "finished" and best is not None:
            result.w, result.intercept = best
        result.last, result.last_intercept = run.w, run.native.settle()[0]
        result.past = run.left()
        result.clipped = run.native.clipped
        result.sparsity, result.conflicts = rows.sparsity(), conflicts(*run.native.watched())
        result.rows, result.nnz = run.native.done()
        result.epochs = result.rows // rows.n
        if run.given is not None:
            result.epochs = run.batches_done // run.native.batches
        result.seconds = time.perf_counter() - start - aside
        if status != "diverged" and not (
            np.isfinite(result.w).all() and np.isfinite(result.intercept).all()
        ):
            result.status = "diverged"
        if result.status == "diverged":
            result.message = (
                f"the weights grew without bound in epoch {result.epochs + 1}: give "
                f"a step below {step:.3g}, or scale the columns of X"
            )
        return result

    per_epoch = run.native.batches
    try:
        while run.batches_done < settings.epochs * per_epoch:
            epoch = run.batches_done // per_epoch
            before = time.perf_counter()
            done = run.advance(batches, (epoch + 1 if track else settings.epochs) * per_epoch)
            now = time.perf_counter()
            batches = next_slice(done, now - before)
            if run.native.diverged:
                return finish("diverged", "")
            # A slice may hold many small epochs: theirs are shares of its time.
            for k in range(epoch + 1, run.batches_done // per_epoch + 1):
                after = (run.batches_done - k * per_epoch) / done * (now - before)
                seen = k * rows.n if run.given is None else run.native.done()[0]
                result.history.append(
                    {"epoch": k, "seconds": now - start - aside - after, "rows": seen}
                )
            if track and run.batches_done % per_epoch == 0:
                w, intercept = run.model()
                value = objective_of(rows.samples, w, intercept, settings, rows.threads)
                result.history[-1]["objective"] = value
                if watch is not None:
                    watch.after(value, w, intercept, run.step)
                    result.history[-1] |= {"score": watch.value} if watch.score else {}
                    if watch.improved and watch.tol is not None:
                        best = w.copy(), intercept
                    if watch.reason:
                        aside += time.perf_counter() - now
                        return finish("finished", watch.reason)
                    if watch.slower:
                        run.slower()
            if deadline is not None and time.perf_counter() >= deadline:
                return finish("finished", "the time budget is used up")
            if callback is not None and time.perf_counter() - called >= CALLBACK_EVERY:
                called = time.perf_counter()
                if callback(progress()) is True:
                    return finish("stopped", "the callback asked to stop")
            aside += time.perf_counter() - now
            if checkpoint is not None and checkpoint.due:
                save()
    except KeyboardInterrupt as interrupt:
        interrupt.result = finish("interrupted", "interrupted; the model is usable")
        raise
    finish("finished", f"all {settings.epochs} epochs done")
    if callback is not None and result.status == "finished":
        callback(progress())
    return result


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
        optimum. False returns the last weights.
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
    polish : {None, "lbfgs"}
        "lbfgs": go on from the trained model to the optimum, until the objective is within 1e-6 of
        its minimum; for smooth losses, without l1, positive, max_norm and checkpoint. Its passes
        over the rows count as epochs.

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
    weight of a column whose constant value is the root mean square of the non-zeros. L1 is a
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
        from fastopt.sparse.polish import check_polish, polished

        limits = {"l1": l1, "positive": positive, "max_norm": max_norm, "checkpoint": checkpoint}
        check_polish(polish, settings.loss, **limits)
        train = polished(solve)
    rows = Rows(X, settings, sample_weight)
    rows.need_memory()
    target = Targets(rows, y=targets(y, rows.n, rows.dtype, settings.loss))
    result = solve_kept(
        rows,
        target,
        start_of(w0, rows),
        number("intercept0", intercept0, -math.inf),
        begun(checkpoint, checkpoint_every),
        train,
        callback=callback,
        track=bool(track_objective),
    )
    if result.status == "diverged":
        warnings.warn(f"hogwild diverged: {result.message}", RuntimeWarning, stacklevel=2)
    return result


def begun(
    checkpoint: str | os.PathLike[str] | Checkpoint | None, every: float
) -> Checkpoint | None:
    """Return the checkpoint that an argument asks for."""
    if checkpoint is None or isinstance(checkpoint, Checkpoint):
        return checkpoint
    return Checkpoint(checkpoint, every)


def solve_kept(
    rows: Rows, target: Targets, w0: np.ndarray, intercept0: float,
    checkpoint: Checkpoint | None, train: Callable[..., HogwildResult] = solve, **options: Any,
) -> HogwildResult:  # fmt: skip
    """Train one problem as `train` does, from a checkpoint if there is one."""
    if checkpoint is None:
        return train(rows, target, w0, intercept0, **options)
    start = np.array([intercept0])
    for result in checkpoint.begin(rows, [target], w0[None, :], start, HogwildResult):
        return result
    result = train(rows, target, w0, intercept0, checkpoint=checkpoint, **options)
    if result.status != "stopped":
        checkpoint.finished(result, last=True)
    return result


def start_of(w0: Any, rows: Rows) -> np.ndarray:
    """Return a copy of the weights to start from."""
    if w0 is None:
        return np.zeros(rows.samples.columns, rows.dtype)
    return column("w0", w0, rows.samples.columns, rows.dtype, "column").copy()
