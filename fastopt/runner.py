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
from fastopt.threads import resolve

LOSSES = ("logistic", "hinge", "squared")
SCHEDULES = ("inverse_time", "constant", "epoch_decay")
MODES = ("auto", "copies", "shared", "serial")

CALLBACK_EVERY = 0.05  # seconds, at least
SLICE = 0.025  # seconds of native work between two looks at Ctrl-C and the callback
LARGEST_DECAY = 0.1  # of l2 * step: more would shrink the weights to nothing within a block
ROWS_PER_WORKER = 2048  # with fewer rows, a thread costs more than it brings
CURVATURE_ROWS = 2048  # rows that show how often columns occur
PROBE_ROWS = 1024  # at least so many rows try step sizes, and as many judge them


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
# Gives samples of the rows (all of them for None) their targets and weights.
SetTarget = Callable[[_core.Samples, "np.ndarray | None"], None]


def _one_of(name: str, value: Any, allowed: tuple[str, ...]) -> str:
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}, got {value!r}")
    return value


def _number(
    name: str, value: Any, least: float, most: float = math.inf, *, open_below: bool = False
) -> float:
    """Return a finite number in [least, most], or (least, most]."""
    bounds = f"in {'(' if open_below else '['}{least:g}, {most:g}{']' if most < math.inf else ')'}"
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be a number {bounds}, got {value!r}") from None
    if not (least <= number <= most) or (open_below and number == least) or math.isinf(number):
        raise ValueError(f"{name} must be a number {bounds}, got {value!r}")
    return number


def _count(name: str, value: Any, least: int) -> int:
    try:
        count = value.__index__()
    except AttributeError:
        raise TypeError(f"{name} must be an integer, got {value!r}") from None
    if count < least:
        raise ValueError(f"{name} must be at least {least}, got {value!r}")
    return count


def _column(name: str, values: Any, size: int, dtype: np.dtype, per: str = "row") -> np.ndarray:
    column = np.asarray(values)
    if column.dtype.kind not in "fiub" or column.shape != (size,):
        raise ValueError(
            f"{name} must be one number per {per} of X, shape ({size},), got shape "
            f"{column.shape} of {column.dtype}"
        )
    column = np.ascontiguousarray(column, dtype=dtype)
    if not np.isfinite(column).all():
        raise ValueError(f"{name} must be finite in {dtype}")
    return column


def _targets(y: Any, rows: int, dtype: np.dtype, loss: str) -> np.ndarray:
    target = _column("y", y, rows, dtype)
    if loss != "squared" and not (np.abs(target) == 1).all():
        raise ValueError(f"y must be -1 or +1 for loss={loss!r}")
    return target


def _weights(sample_weight: Any, rows: int, dtype: np.dtype) -> np.ndarray | None:
    """Return the weights scaled to mean 1, so that the objective is their weighted mean."""
    if sample_weight is None:
        return None
    weight = _column("sample_weight", sample_weight, rows, np.dtype("f8"))
    if (weight < 0).any() or not weight.sum() > 0:
        raise ValueError("sample_weight must not be negative, and not all zero")
    return (weight * (rows / weight.sum())).astype(dtype)


@dataclass(frozen=True)
class Settings:
    """Checked arguments of a run, apart from the data; `step` is None for "auto"."""

    loss: str
    l2: float
    epochs: int
    step: float | None
    schedule: str
    decay: float
    mode: str
    fit_intercept: bool
    average: bool
    threads: int
    seed: int
    shuffle: bool = True

    @classmethod
    def check(
        cls,
        *,
        loss: str,
        l2: float,
        epochs: int,
        step: float | str,
        schedule: str,
        decay: float,
        mode: str,
        fit_intercept: bool,
        average: bool,
        threads: int | None,
        seed: int,
        shuffle: bool = True,
    ) -> Settings:
        """Return the settings, or raise naming the argument and what it may be."""
        l2 = _number("l2", l2, 0)
        if isinstance(step, str) and step != "auto":
            raise ValueError(f"step must be 'auto' or a positive number, got {step!r}")
        most = LARGEST_DECAY / l2 if l2 else math.inf
        return cls(
            loss=_one_of("loss", loss, LOSSES),
            l2=l2,
            epochs=_count("epochs", epochs, 0),
            step=None if isinstance(step, str) else _number("step", step, 0, most, open_below=True),
            schedule=_one_of("schedule", schedule, SCHEDULES),
            decay=_number("decay", decay, 0, 1, open_below=True),
            mode=_one_of("mode", mode, MODES),
            fit_intercept=bool(fit_intercept),
            average=bool(average),
            threads=resolve(None if threads is None else _count("threads", threads, 1)),
            seed=_count("seed", seed, 0) % (1 << 64),
            shuffle=bool(shuffle),
        )


class Rows:
    """Checked rows in CSR form, with what is worked out once for all problems over them."""

    def __init__(self, X: Any, settings: Settings, sample_weight: Any = None) -> None:
        for name in ("data", "indices", "indptr", "shape"):
            if not hasattr(X, name):
                raise TypeError(
                    "X must be a sparse matrix in CSR form, with data, indices, "
                    f"indptr and shape; {type(X).__name__} has no {name}"
                )
        if getattr(X, "format", "csr") != "csr":
            raise TypeError(f"X must be in CSR form, got {X.format!r}: use X.tocsr()")
        if len(X.shape) != 2:
            raise ValueError(f"X must have two dimensions, got shape {X.shape}")
        self.X, self.settings = X, settings
        self.dtype = X.data.dtype
        self.samples = _core.Samples(X.data, X.indices, X.indptr, tuple(X.shape), settings.threads)
        self.n = self.samples.rows
        self.weights = _weights(sample_weight, self.n, self.dtype)
        self.mode, self.threads, self.reason = _choose_mode(
            self.samples, settings.mode, settings.threads
        )
        stride = max(1, self.samples.nonzeros >> 16)
        x = np.asarray(X.data)[: self.samples.nonzeros : stride]
        squares = float(np.square(x, dtype=np.float64).sum())
        #: The mean square of the non-zeros. The intercept is trained as one more column, of the
        #: size of the others: one of ones next to small values would take all the noise.
        self.mean_square = squares / np.count_nonzero(x) if squares > 0 else 1.0
        #: The mean squared norm of the rows.
        self.mean_norm = squares / max(x.size, 1) * self.samples.nonzeros / self.n
        self.gain = self.mean_square if settings.fit_intercept else 0.0
        self._curvature: tuple[np.ndarray, float] | None = None
        self._probe: list[tuple[_core.Samples, np.ndarray]] | None = None

    def targets(self, y: np.ndarray) -> SetTarget:
        """Return the function that gives samples their targets y."""

        def set_target(samples: _core.Samples, which: np.ndarray | None) -> None:
            samples.target(y if which is None else y[which], None, 0, self._weights_of(which))

        return set_target

    def codes(self, codes: np.ndarray, positive: int) -> SetTarget:
        """Return the function that gives samples +1 where the code is `positive`, else -1."""

        def set_target(samples: _core.Samples, which: np.ndarray | None) -> None:
            samples.target(
                None, codes if which is None else codes[which], positive, self._weights_of(which)
            )

        return set_target

    def _weights_of(self, which: np.ndarray | None) -> np.ndarray | None:
        return self.weights if which is None or self.weights is None else self.weights[which]

    def curvature(self) -> tuple[np.ndarray, float]:
        """Return a bound on the loss's curvature per column, and of the intercept.

        Of the bound |x_ij| * |x_i|_1 a third is taken: it measured best from 2 to 64 workers.
        """
        if self._curvature is None:
            stride = max(1, self.n // CURVATURE_ROWS)
            h = np.zeros(self.samples.columns, self.dtype)
            of_intercept = self.samples.curvature(stride, math.sqrt(self.gain), h)
            factor = (0.25 if self.settings.loss == "logistic" else 1.0) / 3 / -(-self.n // stride)
            h *= factor
            h += self.settings.l2
            self._curvature = h, of_intercept * factor
        return self._curvature

    def probe(self) -> list[tuple[_core.Samples, np.ndarray]]:
        """Return two small samples of the rows, to try step sizes on: (rows in C, which rows)."""
        if self._probe is None:
            rng = np.random.default_rng(self.settings.seed)
            size = min(2 * max(PROBE_ROWS, self.n // 64), self.n)
            chosen = rng.choice(self.n, size, replace=False)
            halves = (chosen, chosen) if self.n < 64 else np.array_split(chosen, 2)
            indptr = np.asarray(self.X.indptr)
            self._probe = []
            for which in halves:
                counts = (indptr[which + 1] - indptr[which]).astype(np.int64)
                ends = np.concatenate([[0], np.cumsum(counts)])
                at = np.repeat(indptr[which] - ends[:-1], counts) + np.arange(ends[-1])
                small = _core.Samples(
                    np.asarray(self.X.data)[at],
                    np.asarray(self.X.indices)[at],
                    ends,
                    (len(which), self.samples.columns),
                    1,
                )
                self._probe.append((small, which))
        return self._probe


def _choose_mode(samples: _core.Samples, mode: str, threads: int) -> tuple[str, int, str]:
    """Return mode, threads, and why."""
    if mode == "serial":
        return "serial", 1, "asked for"
    if _core.openmp() == "none":
        return "serial", 1, "built without OpenMP"
    if _core.forked():
        return "serial", 1, "child of a process that used threads"
    if threads == 1:
        return "serial", 1, "one thread"
    if mode != "auto":
        return mode, threads, "asked for"
    useful = min(threads, samples.rows // ROWS_PER_WORKER)
    if useful < 2:
        return "serial", 1, f"{samples.rows} rows are too few for more than one thread"
    # A merge walks over all columns; it must stay small beside what a worker does in an epoch.
    if 8 * samples.columns * useful > samples.nonzeros:
        return (
            "shared",
            useful,
            (
                f"{samples.columns} columns are too many to merge private "
                f"copies with {samples.nonzeros} non-zeros"
            ),
        )
    return (
        "copies",
        useful,
        (
            f"private copies of {samples.columns} columns cost less than "
            "sharing cache lines at every row"
        ),
    )


class _Run:
    """One binary problem: the model, its workers, and their slices."""

    def __init__(self, rows: Rows, step: float, w: np.ndarray, intercept: float) -> None:
        settings, samples, threads = rows.settings, rows.samples, rows.threads
        self.rows, self.threads, self.w = rows, threads, w
        self.average = w.copy() if settings.average else None
        # A merge walks over all columns: few enough cost little, and more of them learn faster.
        per_row = max(samples.nonzeros / samples.rows, 1)
        merge_rows = max(512, 4 * samples.columns / per_row)
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
            rows.mode,
            settings.schedule,
            settings.shuffle,
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
        self.blocks_done = 0

    def model(self) -> tuple[np.ndarray, float]:
        """Bring together what the workers have learned."""
        intercept, average = self.native.settle()
        if self.average is not None and self.native.averaged:
            return self.average, average
        return self.w, intercept

    def advance(self, blocks: int, end: int) -> int:
        """Train on the next blocks, at most to the block `end`; return how many."""
        blocks = max(1, min(blocks, end - self.blocks_done))
        self.native.slice(self.blocks_done, self.blocks_done + blocks, self.threads)
        self.blocks_done += blocks
        return blocks


def _objective(
    samples: _core.Samples, w: np.ndarray, intercept: float, loss: str, l2: float, threads: int
) -> float:
    norm = float(np.square(w, dtype=np.float64).sum())
    return (
        samples.loss(_core.LOSSES.index(loss), w, intercept, threads) / samples.rows + l2 / 2 * norm
    )


def _auto_step(rows: Rows, set_target: SetTarget, w0: np.ndarray, intercept0: float) -> float:
    """Return the step size that one pass over a sample of the rows likes best.

    The first guess is one over the mean squared norm of the rows; factors of 4 from there are
    tried downhill, judged by the objective on a second sample.
    """
    settings = rows.settings
    (fit, fit_rows), (test, test_rows) = rows.probe()
    set_target(fit, fit_rows)
    set_target(test, test_rows)
    most = LARGEST_DECAY / settings.l2 if settings.l2 else math.inf

    def tried(step: float) -> float:
        w, average = w0.copy(), w0.copy()
        run = _core.Hogwild(
            fit,
            settings.loss,
            "serial",
            settings.schedule,
            True,
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
        run.slice(0, run.blocks, 1)
        intercept = run.settle()[run.averaged]
        seen = average if run.averaged else w
        value = _objective(test, seen, intercept, settings.loss, settings.l2, 1)
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


def _solve(
    rows: Rows,
    set_target: SetTarget,
    w0: np.ndarray,
    intercept0: float,
    *,
    callback: Callback | None = None,
    track: bool = False,
    on_epoch: Callable[[int, float], bool] | None = None,
    problem: int = 0,
    problems: int = 1,
) -> HogwildResult:
    """Train one binary problem; `on_epoch(epoch, objective)` returning True stops it."""
    settings, track = rows.settings, track or on_epoch is not None
    set_target(rows.samples, None)
    start = time.perf_counter()
    step = settings.step or _auto_step(rows, set_target, w0, intercept0)
    run = _Run(rows, step, w0, intercept0)
    result = HogwildResult(
        w0, intercept0, mode=rows.mode, reason=rows.reason, step=step, threads=rows.threads
    )
    aside = 0.0  # seconds of objectives and callbacks
    called = start
    blocks = max(1, int(SLICE * 1e8 * run.native.blocks / max(rows.samples.nonzeros, rows.n)))
    total = settings.epochs * rows.n

    def progress() -> Progress:
        done, nnz = run.native.done()
        seconds = time.perf_counter() - start - aside
        return Progress(
            run.blocks_done // run.native.blocks,
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

    per_epoch = run.native.blocks
    try:
        while run.blocks_done < settings.epochs * per_epoch:
            epoch = run.blocks_done // per_epoch
            before = time.perf_counter()
            done = run.advance(blocks, (epoch + 1 if track else settings.epochs) * per_epoch)
            now = time.perf_counter()
            blocks = max(1, int(done * min(4.0, SLICE / max(now - before, 1e-9))))
            if run.native.diverged:
                return finish("diverged", "")
            # A slice may hold many small epochs: theirs are shares of its time.
            for k in range(epoch + 1, run.blocks_done // per_epoch + 1):
                after = (run.blocks_done - k * per_epoch) / done * (now - before)
                result.history.append(
                    {"epoch": k, "seconds": now - start - aside - after, "rows": k * rows.n}
                )
            if track and run.blocks_done % per_epoch == 0:
                w, intercept = run.model()
                value = _objective(
                    rows.samples, w, intercept, settings.loss, settings.l2, rows.threads
                )
                result.history[-1]["objective"] = value
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
        -1 or +1 for hinge and logistic, any finite number for squared.
    loss : {"logistic", "hinge", "squared"}
        log(1 + exp(-y p)), max(0, 1 - y p), (p - y)^2 / 2.
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
    Rows are taken in blocks of 64 that are permuted in each epoch; the order within a block is
    the data's, which is three times quicker than a fully random one. The intercept is trained as
    the weight of a column whose constant value is the root mean square of the non-zeros.

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
    )
    _callable("callback", callback)
    rows = Rows(X, settings, sample_weight)
    target = _targets(y, rows.n, rows.dtype, loss)
    start = _start(w0, rows)
    return _solve(
        rows,
        rows.targets(target),
        start,
        _number("intercept0", intercept0, -math.inf),
        callback=callback,
        track=bool(track_objective),
    )


@dataclass
class OneVsRestResult:
    """What `one_vs_rest` returns.

    Attributes
    ----------
    W : ndarray of shape (n_problems, n_columns)
    b : ndarray of shape (n_problems,)
        Float64. One problem for two classes (the second is positive), else one for each class.
    results : list of HogwildResult
        One per problem; its `w` is a row of `W`.
    """

    W: np.ndarray
    b: np.ndarray
    results: list[HogwildResult]


def one_vs_rest(
    X: Any,
    codes: Any,
    n_classes: int,
    settings: Settings,
    *,
    sample_weight: Any = None,
    callback: Callback | None = None,
    track_objective: bool = False,
    on_epoch: Callable[[], Callable[[int, float], bool]] | None = None,
) -> OneVsRestResult:
    """Train one binary classifier per class over the same rows, one after the other.

    The target of a row is +1 where its code is the class, -1 elsewhere, worked out in C.

    Parameters
    ----------
    X : sparse matrix of shape (n_rows, n_columns)
        As for `hogwild`.
    codes : array_like of int of shape (n_rows,)
        Class of each row, 0 to n_classes - 1.
    n_classes : int
        At least 2. Two classes make one problem, with class 1 positive.
    settings : Settings
    sample_weight, callback, track_objective
        As for `hogwild`; a callback that stops ends all problems.
    on_epoch : callable, optional
        Makes for each problem the function of (epoch, objective) that says when to stop it.

    Returns
    -------
    OneVsRestResult

    Raises
    ------
    KeyboardInterrupt
        On Ctrl-C; its attribute `result` is the OneVsRestResult so far, zero for problems not
        begun.
    """
    _callable("callback", callback)
    n_classes = _count("n_classes", n_classes, 2)
    if settings.loss == "squared":
        raise ValueError("loss must be 'logistic' or 'hinge' for one_vs_rest, got 'squared'")
    rows = Rows(X, settings, sample_weight)
    code = np.asarray(codes)
    if code.dtype.kind not in "iub" or code.shape != (rows.n,):
        raise ValueError(f"codes must be {rows.n} integers, one per row of X")
    code = np.ascontiguousarray(code, np.int64)
    if code.min() < 0 or code.max() >= n_classes:
        raise ValueError(f"codes must lie in 0..{n_classes - 1}")
    problems = 1 if n_classes == 2 else n_classes
    W = np.zeros((problems, rows.samples.columns), rows.dtype)
    b = np.zeros(problems)
    out = OneVsRestResult(W, b, [])

    def keep(k: int, result: HogwildResult) -> None:
        W[k], b[k] = result.w, result.intercept
        result.w = W[k]
        out.results.append(result)

    for k in range(problems):
        positive = 1 if n_classes == 2 else k
        try:
            keep(
                k,
                _solve(
                    rows,
                    rows.codes(code, positive),
                    np.zeros(W.shape[1], rows.dtype),
                    0.0,
                    callback=callback,
                    track=track_objective,
                    on_epoch=on_epoch() if on_epoch else None,
                    problem=k,
                    problems=problems,
                ),
            )
        except KeyboardInterrupt as interrupt:
            if hasattr(interrupt, "result"):
                keep(k, interrupt.result)
            interrupt.result = out
            raise
        if out.results[-1].status == "stopped":
            break
    return out


def objective(
    X: Any,
    y: Any,
    w: Any,
    intercept: float = 0.0,
    *,
    loss: str = "logistic",
    l2: float = 0.0,
    sample_weight: Any = None,
    threads: int | None = None,
) -> float:
    """Return ``mean_i(loss(y_i, x_i . w + intercept)) + l2 / 2 * |w|^2``, summed in float64.

    The bits do not depend on `threads`. Parameters are those of `hogwild`.
    """
    rows = Rows(X, _evaluation(loss, l2, threads), sample_weight)
    rows.targets(_targets(y, rows.n, rows.dtype, loss))(rows.samples, None)
    w = _column("w", w, rows.samples.columns, rows.dtype, "column")
    return _objective(
        rows.samples, w, float(intercept), loss, rows.settings.l2, rows.settings.threads
    )


def margins(X: Any, W: Any, b: Any, *, threads: int | None = None) -> np.ndarray:
    """Return ``X @ W.T + b``, in float64.

    Parameters
    ----------
    X : sparse matrix of shape (n_rows, n_columns)
        As for `hogwild`.
    W : array_like of shape (n_columns,) or (n_problems, n_columns)
    b : float or array_like of shape (n_problems,)
    threads : int, optional

    Returns
    -------
    ndarray of shape (n_rows,) or (n_rows, n_problems)
    """
    rows = Rows(X, _evaluation("squared", 0.0, threads))
    W = np.asarray(W)
    models = np.atleast_2d(W)
    shifts = np.atleast_1d(np.asarray(b, np.float64))
    if W.ndim not in (1, 2) or shifts.shape != models.shape[:1]:
        raise ValueError(
            f"W and b must be of shapes (n_problems, n_columns) and (n_problems,), "
            f"got {W.shape} and {np.shape(b)}"
        )
    out = np.empty((len(models), rows.n))
    for model, shift, row in zip(models, shifts, out, strict=True):
        rows.samples.margins(
            _column("W", model, rows.samples.columns, rows.dtype, "column"),
            float(shift),
            row,
            rows.settings.threads,
        )
    return out[0] if W.ndim == 1 else out.T


def _evaluation(loss: str, l2: float, threads: int | None) -> Settings:
    return Settings.check(
        loss=loss,
        l2=l2,
        epochs=0,
        step="auto",
        schedule="constant",
        decay=1.0,
        mode="auto",
        fit_intercept=True,
        average=False,
        threads=threads,
        seed=0,
    )


def _callable(name: str, value: Any) -> None:
    if value is not None and not callable(value):
        raise TypeError(f"{name} must be callable or None, got {value!r}")


def _start(w0: Any, rows: Rows) -> np.ndarray:
    if w0 is None:
        return np.zeros(rows.samples.columns, rows.dtype)
    return _column("w0", w0, rows.samples.columns, rows.dtype, "column").copy()
