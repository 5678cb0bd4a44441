"""Train linear models on sparse rows with all cores and no locks; needs numpy alone."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fastopt import _core
from fastopt.checks import check_callable, number
from fastopt.rows import LARGEST_DECAY, Rows, Settings, Targets, column, objective_of, targets

CALLBACK_EVERY = 0.05  # seconds, at least
SLICE = 0.025  # seconds of native work between two looks at Ctrl-C and the callback


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
    mode : {"serial", "copies", "shared"}
    reason : str
        Why that mode and that many threads.
    order : {"blocks", "turns", "sequential"}
        Of the rows; see the notes of `hogwild`.
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


class Run:
    """One binary problem: the model, its workers, and their slices."""

    def __init__(
        self, rows: Rows, order: str, step: float, w: np.ndarray, intercept: float
    ) -> None:
        settings, samples, threads = rows.settings, rows.samples, rows.threads
        self.rows, self.threads, self.w = rows, threads, w
        self.average = w.copy() if settings.average else None
        # A merge walks over all columns: few enough cost little, and more of them learn faster.
        per_row = max(samples.nonzeros / samples.rows, 1)
        often = 12 if rows.mode == "serial" else 4  # alone, it only takes snapshots for the average
        merge_rows = max(512, often * samples.columns / per_row)
        merge_rows = int(min(merge_rows, max(64, samples.rows / (4 * threads))))
        copies = h = None
        h_intercept = 0.0
        if rows.mode != "serial":
            h, h_intercept = rows.curvature()
        if rows.mode == "copies":
            padded = -(-samples.columns // 32) * 32 + 32  # workers share no cache line
            copies = np.empty(2 * threads * padded, rows.dtype)
        self.native = _core.Hogwild(
            samples,
            settings.loss,
            settings.shape,
            rows.mode,
            settings.schedule,
            order,
            threads,
            rows.gain,
            settings.l2,
            step,
            settings.decay,
            settings.seed,
            merge_rows,
            w,
            intercept,
            h,
            h_intercept,
            self.average,
            copies,
        )
        self.batches_done = 0

    def model(self) -> tuple[np.ndarray, float]:
        """Bring together what the workers have learned."""
        intercept, average = self.native.settle()
        if self.average is not None and self.native.averaged:
            return self.average, average
        return self.w, intercept

    def advance(self, batches: int, end: int) -> int:
        """Train on the next batches, at most to the batch `end`; return how many."""
        batches = max(1, min(batches, end - self.batches_done))
        self.native.slice(self.batches_done, self.batches_done + batches, self.threads)
        self.batches_done += batches
        return batches


def auto_step(rows: Rows, target: Targets, w0: np.ndarray, intercept0: float) -> float:
    """Return the step size that one pass over a sample of the rows likes best.

    The first guess is one over the mean squared norm of the rows; factors of 4 from there are
    tried downhill, judged by the objective on a second sample.
    """
    settings = rows.settings
    (fit, fit_rows), (test, test_rows) = rows.probe()
    target.give(fit, fit_rows)
    target.give(test, test_rows)
    most = LARGEST_DECAY / settings.l2 if settings.l2 else math.inf

    def tried(step: float) -> float:
        w, average = w0.copy(), w0.copy()
        run = _core.Hogwild(
            fit,
            settings.loss,
            settings.shape,
            "serial",
            settings.schedule,
            "blocks",
            1,
            rows.gain,
            settings.l2,
            step,
            settings.decay,
            settings.seed,
            64,
            w,
            intercept0,
            None,
            0.0,
            average,
            None,
        )
        run.slice(0, run.batches, 1)
        intercept = run.settle()[run.averaged and settings.average]
        seen = average if run.averaged and settings.average else w
        value = objective_of(test, seen, intercept, settings, 1)
        return math.inf if run.diverged or not math.isfinite(value) else value

    step = min(1 / (rows.mean_norm + rows.mean_square), most)
    best = tried(step)
    for factor in (0.25, 4.0):
        moved = False
        while 1e-30 < step * factor <= most:
            value = tried(step * factor)
            if not (value < best or math.isinf(best)):
                break
            step, best, moved = step * factor, value, True
        if moved:
            break
    return step


def solve(
    rows: Rows,
    target: Targets,
    w0: np.ndarray,
    intercept0: float,
    *,
    callback: Callback | None = None,
    track: bool = False,
    on_epoch: Callable[[int, float], bool] | None = None,
    problem: int = 0,
    problems: int = 1,
) -> HogwildResult:
    """Train one binary problem.

    If `on_epoch(epoch, objective)` is given, True from it stops the training, and the model is that
    of the epoch with the lowest objective.
    """
    settings, track = rows.settings, track or on_epoch is not None
    target.give(rows.samples)
    start = time.perf_counter()
    step = settings.step or auto_step(rows, target, w0, intercept0)
    if not np.finfo(rows.dtype).tiny < step < np.finfo(rows.dtype).max:
        raise ValueError(
            f"X has values of a size that no step size in {rows.dtype} fits (their mean square is "
            f"{rows.mean_square:.3g}): scale the columns of X"
        )
    order = target.order()
    run = Run(rows, order, step, w0, intercept0)
    result = HogwildResult(
        w0,
        intercept0,
        mode=rows.mode,
        reason=rows.reason,
        order=order,
        step=step,
        threads=rows.threads,
    )
    best = (math.inf, w0, intercept0)  # of the epochs that on_epoch judges
    aside = 0.0  # seconds of objectives and callbacks
    called = start
    batches = max(1, int(SLICE * 1e8 * run.native.batches / max(rows.samples.nonzeros, rows.n)))
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

    def finish(status: str, message: str) -> HogwildResult:
        result.status, result.message = status, message
        result.w, result.intercept = run.model()
        if status == "finished" and best[0] < math.inf:
            result.w, result.intercept = best[1:]
        result.rows, result.nnz = run.native.done()
        result.epochs = result.rows // rows.n
        result.seconds = time.perf_counter() - start - aside
        if status != "diverged" and not (
            np.isfinite(result.w).all() and math.isfinite(result.intercept)
        ):
            result.status = "diverged"
        if result.status == "diverged":
            result.message = (
                f"the weights grew without bound in epoch {result.epochs + 1}: give "
                f"a step below {step:.3g}, or scale the columns of X"
            )
            warnings.warn(f"hogwild diverged: {result.message}", RuntimeWarning, stacklevel=4)
        return result

    per_epoch = run.native.batches
    try:
        while run.batches_done < settings.epochs * per_epoch:
            epoch = run.batches_done // per_epoch
            before = time.perf_counter()
            done = run.advance(batches, (epoch + 1 if track else settings.epochs) * per_epoch)
            now = time.perf_counter()
            batches = max(1, int(done * min(4.0, SLICE / max(now - before, 1e-9))))
            if run.native.diverged:
                return finish("diverged", "")
            # A slice may hold many small epochs: theirs are shares of its time.
            for k in range(epoch + 1, run.batches_done // per_epoch + 1):
                after = (run.batches_done - k * per_epoch) / done * (now - before)
                result.history.append(
                    {"epoch": k, "seconds": now - start - aside - after, "rows": k * rows.n}
                )
            if track and run.batches_done % per_epoch == 0:
                w, intercept = run.model()
                value = objective_of(rows.samples, w, intercept, settings, rows.threads)
                result.history[-1]["objective"] = value
                if on_epoch is not None and value < best[0]:
                    best = value, w.copy(), intercept
                if on_epoch is not None and on_epoch(epoch + 1, value):
                    aside += time.perf_counter() - now
                    return finish("finished", "the objective no longer improves")
            if callback is not None and time.perf_counter() - called >= CALLBACK_EVERY:
                called = time.perf_counter()
                if callback(progress()) is True:
                    return finish("stopped", "the callback asked to stop")
            aside += time.perf_counter() - now
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
    loss: str = "logistic",
    l2: float = 1e-4,
    epochs: int = 20,
    step: float | str = "auto",
    schedule: str = "inverse_time",
    decay: float = 0.9,
    mode: str = "auto",
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
) -> HogwildResult:
    """Train a linear model by lock-free parallel stochastic gradient descent.

    Minimises ``mean_i(loss(y_i, x_i . w + b)) + l2 / 2 * |w|^2``; b is not penalised. X is used in
    place: nothing of its size is copied.

    Parameters
    ----------
    X : sparse matrix of shape (n_rows, n_columns)
        Anything with `data` (float32 or float64, finite), `indices` and `indptr` (int32 or
        int64, each) and `shape` in CSR form. Checked once, before training.
    y : array_like of shape (n_rows,)
        -1 or +1 for the losses of classes, finite numbers for the others, not negative for
        poisson.
    loss : str
        Of classes: "logistic" log(1 + exp(-y p)); "hinge" max(0, 1 - y p); "squared_hinge" its
        square; "modified_huber" the same, -4 y p where y p < -1; "perceptron" max(0, -y p). Of
        numbers, r = p - y: "squared" r^2 / 2; "huber" the same, e |r| - e^2 / 2 where |r| > e;
        "epsilon_insensitive" max(0, |r| - e); "squared_epsilon_insensitive" its square;
        "quantile" q max(0, -r) + (1 - q) max(0, r); "poisson" exp(p) - y p, the mean being exp(p).
    l2 : float, default 1e-4
        As scikit-learn's `alpha`.
    epochs : int, default 20
        Passes over the rows. 0 returns the start.
    step : "auto" or float
        The first step size, at most 0.1 / l2. "auto" tries a few on samples of the rows.
    schedule : {"inverse_time", "constant", "epoch_decay"}
        step / (1 + step * l2 * t) at row t; step; or step * decay ** epoch.
    decay : float in (0, 1], default 0.9
    mode : {"auto", "copies", "shared", "serial"}
        How threads share the weights: "copies" merges private ones every few thousand rows,
        "shared" writes one vector component by component [1]_, "serial" uses one thread.
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
        `seed`; more threads do not.
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

    Returns
    -------
    HogwildResult

    Raises
    ------
    ValueError, TypeError
        Naming the argument.
    KeyboardInterrupt
        On Ctrl-C, within 0.2 s; its attribute `result` is the HogwildResult so far.

    Warns
    -----
    RuntimeWarning
        If the weights grow without bound; `status` is then "diverged".

    Notes
    -----
    Blocks of 64 rows are permuted in each epoch; the order within a block is the data's, which is
    three times quicker than a fully random one. Where neighbours have the same label more often
    than by chance, as in a sorted file, the rows of 8 blocks take turns. The intercept is trained
    as the weight of a column whose constant value is the root mean square of the non-zeros.

    References
    ----------
    .. [1] Niu, Recht, Re, Wright, "Hogwild!: A Lock-Free Approach to Parallelizing Stochastic
       Gradient Descent", 2011, https://arxiv.org/abs/1106.5730
    .. [2] Shamir, Zhang, "Stochastic Gradient Descent for Non-smooth Optimization", 2013,
       https://arxiv.org/abs/1212.1824

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
        epochs=epochs,
        step=step,
        schedule=schedule,
        decay=decay,
        mode=mode,
        fit_intercept=fit_intercept,
        average=average,
        threads=threads,
        seed=seed,
        epsilon=epsilon,
        quantile=quantile,
    )
    check_callable("callback", callback)
    rows = Rows(X, settings, sample_weight)
    rows.need_memory()
    target = Targets(rows, y=targets(y, rows.n, rows.dtype, loss))
    start = start_of(w0, rows)
    return solve(
        rows,
        target,
        start,
        number("intercept0", intercept0, -math.inf),
        callback=callback,
        track=bool(track_objective),
    )


def start_of(w0: Any, rows: Rows) -> np.ndarray:
    """Return a copy of the weights to start from."""
    if w0 is None:
        return np.zeros(rows.samples.columns, rows.dtype)
    return column("w0", w0, rows.samples.columns, rows.dtype, "column").copy()
