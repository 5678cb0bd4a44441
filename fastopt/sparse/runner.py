"""Train linear models on sparse rows with all cores and no locks; needs numpy alone."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fastopt.slices import SLICE, held_interrupts, next_slice
from fastopt.sparse.checkpoint import Checkpoint, Position
from fastopt.sparse.contention import conflicts
from fastopt.sparse.rows import Rows, Targets, objective_of
from fastopt.sparse.run import Judge, Past, Run, auto_step
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
LEVELS = (0.1, 0.01, 0.001)  # above the lowest objective


def seconds_to(history: list[dict[str, Any]]) -> dict[float, float]:
    """Return after how many seconds the objective was within each of `LEVELS` of its lowest.

    Empty where no epoch's objective is known.

    Examples
    --------
    >>> from fastopt.sparse.runner import seconds_to
    >>> values = [2.0, 1.05, 1.005, 1.0]
    >>> seconds_to([{"seconds": k + 1.0, "objective": v} for k, v in enumerate(values)])
    {0.1: 2.0, 0.01: 3.0, 0.001: 4.0}
    """
    known = [(h["seconds"], h["objective"]) for h in history if "objective" in h]
    known = [(seconds, value) for seconds, value in known if math.isfinite(value)]
    if not known:
        return {}
    least = min(value for _, value in known)
    return {
        level: next(s for s, value in known if value <= least + level * abs(least))
        for level in LEVELS
    }


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
    averages = settings.average and not settings.plain_mean
    given = step or settings.step
    judge = Judge(rows, target) if averages or not given else None
    step = given or auto_step(rows, target, w0, intercept0, judge)
    if not np.finfo(rows.dtype).tiny < step < np.finfo(rows.dtype).max:
        raise UnscaledError(
            f"X has values of a size that no step size in {rows.dtype} fits (their mean square is "
            f"{rows.mean_square:.3g}): scale the columns of X"
        )
    order = target.order()
    run = Run(rows, order, step, w0, intercept0, past, judge)
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
            with held_interrupts():  # an epoch that is trained is judged as well
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
