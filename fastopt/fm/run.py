"""Factorization machines with all cores and no locks: the run, epoch by epoch."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fastopt import _core
from fastopt.factorization.factors import shrunk
from fastopt.fm.state import Settings, State
from fastopt.slices import SLICE, next_slice
from fastopt.sparse.runner import CALLBACK_EVERY, Progress
from fastopt.sparse.stopping import Watch
from fastopt.threads import why_serial

WORK_PER_THREAD = (
    1_000_000  # non-zeros times factors: with less, a thread costs more than it brings
)
CROWDED = 0.1  # share of other rows that have a column: above it, threads wait for cache lines


class Samples:
    """Checked rows in CSR form, and what is worked out of them once."""

    def __init__(self, X: Any, settings: Settings) -> None:
        self.native = _core.Samples(X.data, X.indices, X.indptr, tuple(X.shape), settings.threads)
        self.rows, self.columns = self.native.rows, self.native.columns
        self.dtype = X.data.dtype
        self.counts = np.zeros(self.columns, np.int64)
        _core.count_columns(self.native, self.counts)
        self.nonzeros = int(self.counts.sum())

    def threads(self, settings: Settings) -> tuple[int, str]:
        """Return how many threads to train with, and why."""
        threads = settings.threads
        if why := why_serial(threads):
            return 1, settings.reason or why
        threads = min(threads, self.nonzeros * settings.rank // WORK_PER_THREAD)
        if threads < 2:
            return 1, f"{self.nonzeros} non-zeros are too few for more than one thread"
        if settings.fixed:
            return threads, "asked for"
        crowd = float(np.square(self.counts / self.rows).sum()) * self.rows / max(self.nonzeros, 1)
        if crowd > CROWDED:
            return 1, (
                f"a non-zero's column is in {crowd:.0%} of all rows: threads would wait for each "
                "other's cache lines"
            )
        return threads, "rows share few columns: no thread waits for another"


@dataclass
class FMResult:
    """What training one model returns.

    Attributes
    ----------
    state : State
    status : {"finished", "stopped", "interrupted", "diverged"}
    message : str
        The status in a sentence, with what to do about it.
    threads : int
    reason : str
        Why that many.
    epochs, rows : int
        Whole epochs of this run, and rows trained on.
    best_epoch : int
        The epoch that the model is of.
    seconds : float
        Time of training, without objectives and callbacks.
    history : list of dict
        One record per epoch: epoch, seconds, rows, step; objective and validation_loss where they
        were worked out.
    """

    state: State
    status: str = "finished"
    message: str = ""
    threads: int = 1
    reason: str = ""
    epochs: int = 0
    best_epoch: int = 0
    rows: int = 0
    seconds: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)


class Training:
    """The epochs of one model, and the result they write.

    Parameters
    ----------
    samples : Samples
        With the targets of this model.
    state : State
        Where to begin; it becomes the model.
    settings : Settings
    validation : Samples, optional
        With targets: their loss judges the epochs.
    watch : Watch, optional
        Looks at the objective, or at the validation loss, after each epoch.
    track : bool
        Work out the objective even if nobody watches it.
    deadline : float, optional
        Of time.perf_counter: when to stop.
    callback : callable, optional
        Called with a `Progress` at most every 50 ms, and at the end; True stops.
    problem, problems : int
        Which model it is, of how many.
    """

    def __init__(
        self,
        samples: Samples,
        state: State,
        settings: Settings,
        *,
        validation: Samples | None = None,
        watch: Watch | None = None,
        track: bool = False,
        deadline: float | None = None,
        callback: Callable[[Progress], Any] | None = None,
        problem: int = 0,
        problems: int = 1,
    ) -> None:
        self.samples, self.state, self.settings = samples, state, settings
        self.validation, self.watch, self.track = validation, watch, track
        if watch is not None and validation is not None:
            watch.score = self._score
        self.deadline, self.callback = deadline, callback
        self.problem, self.problems = problem, problems
        threads, reason = samples.threads(settings)
        self.result = FMResult(state, threads=threads, reason=reason)
        rng = np.random.default_rng([settings.seed, problem, state.epochs])
        state.begin(samples.counts, settings.init_stdev, rng)
        self.native = state.native(samples.native, settings)
        self.batches = self.native.batches
        work = max(samples.nonzeros, samples.rows) * state.padded  # about 1 ns each
        self.slice = max(1, int(SLICE * 1e9 * threads * self.batches / work))
        self.first, self.epoch, self.done = state.epochs, 0, 0  # done: batches of this run
        self.best: State | None = None
        self.aside = 0.0  # seconds of objectives and callbacks
        self.start = self.called = time.perf_counter()

    def go(self) -> FMResult:
        """Train; Ctrl-C leaves a usable model in `interrupt.result`."""
        try:
            while self.epoch < self.settings.epochs:
                if self._epoch():
                    return self.result
        except KeyboardInterrupt as interrupt:
            interrupt.result = self._finish("interrupted", "interrupted; the model is usable")
            raise
        self._finish("finished", f"all {self.settings.epochs} epochs done")
        if self.callback is not None and self.result.status == "finished":
            self.callback(self._progress())
        return self.result

    def _epoch(self) -> bool:
        s, native, end = self.settings, self.native, (self.epoch + 1) * self.batches
        step = s.step * shrunk(s.schedule, s.decay, self.epoch)
        native.go_on_with(*self.state.units.steps(step, s), s.l2_weight, s.l2_factor)
        before = self.first * self.batches  # of earlier runs
        while self.done < end:
            count, start = min(self.slice, end - self.done), time.perf_counter()
            try:
                native.slice(before + self.done, before + self.done + count, self.result.threads)
            finally:  # Ctrl-C in a slice is raised once it is done
                self.done += count
            self.slice = next_slice(count, time.perf_counter() - start)
            if native.diverged:
                self._finish("diverged", "")
                return True
            if self.done < end and self._look():
                return True
        self.epoch += 1
        self._read()
        record = {"epoch": self.state.epochs, "seconds": self._seconds(), "rows": self._rows()}
        self.result.history.append(record | {"step": step})
        return self._measure() or self._look()

    def _read(self) -> None:
        self.state.intercept, self.state.square = self.native.intercept
        self.state.epochs = self.first + self.epoch

    def _measure(self) -> bool:
        """Work out the objective and what else is wanted; True if training is over."""
        if self.watch is None and not self.track:
            return False
        start, record = time.perf_counter(), self.result.history[-1]
        s, samples, threads = self.settings, self.samples, self.result.threads
        loss = self.native.loss(samples.native, threads)
        objective = (loss + self.state.penalty(samples.counts, s)) / samples.rows
        record["objective"] = objective
        if self.validation is not None:
            other = self.validation
            record["validation_loss"] = self.native.loss(other.native, threads) / other.rows
        if self.watch is not None:
            self.watch.after(objective, self.state.weights, self.state.intercept, record["step"])
            if self.watch.improved and self.watch.tol is not None:
                if self.best is None:
                    self.best = self.state.copy()
                self.best.keep(self.state)
        self.aside += time.perf_counter() - start
        if self.watch is not None and self.watch.reason:
            self._finish("finished", self.watch.reason)
            return True
        return False

    def _score(self, *_: Any) -> float:
        """Return the last validation loss, negative: more is better."""
        return -self.result.history[-1]["validation_loss"]

    def _look(self) -> bool:
        """Look at the clock and the callback; True if training is over."""
        now = time.perf_counter()
        if self.deadline is not None and now >= self.deadline:
            self._finish("finished", "the time budget is used up")
            return True
        if self.callback is None or now - self.called < CALLBACK_EVERY:
            return False
        self.called = now
        stop = self.callback(self._progress()) is True
        self.aside += time.perf_counter() - now
        if stop:
            self._finish("stopped", "the callback asked to stop")
        return stop

    def _seconds(self) -> float:
        return time.perf_counter() - self.start - self.aside

    def _rows(self) -> int:
        """Return how many rows were trained on; exact between epochs."""
        return self.done * self.samples.rows // self.batches

    def _progress(self) -> Progress:
        seconds, rows = self._seconds(), self._rows()
        return Progress(
            self.epoch, self.settings.epochs, rows, self.settings.epochs * self.samples.rows,
            seconds, rows * self.samples.nonzeros / self.samples.rows / max(seconds, 1e-9),
            self.result.history[-1].get("objective") if self.result.history else None,
            self.problem, self.problems,
        )  # fmt: skip

    def _finish(self, status: str, message: str) -> FMResult:
        result = self.result
        result.status, result.message = status, message
        result.seconds, result.rows, result.epochs = self._seconds(), self._rows(), self.epoch
        self._read()
        result.best_epoch = self.state.epochs
        if self.best is not None and status != "diverged":
            result.best_epoch = self.best.epochs
            self.state.keep(self.best)
            self.state.epochs = self.first + self.epoch
        if status == "diverged" or not self.state.finite():
            result.status = "diverged"
            result.message = (
                f"the model grew without bound in epoch {self.epoch + 1}: give a step below "
                f"{self.settings.step:.3g}, or scale the columns of X"
            )
        return result


def outputs(
    native: _core.Samples, states: list[State], settings: Settings, threads: int
) -> np.ndarray:
    """Return the predictions of several models, shape (n_rows, n_models)."""
    out = np.empty((len(states), native.rows))
    for state, row in zip(states, out, strict=True):
        state.native(native, settings, False).predict(native, row, threads)
    return out.T
