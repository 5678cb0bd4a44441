"""One run of the native runner: its model, its slices, and the step size it begins with."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fastopt import _core
from fastopt.sparse import coordinate
from fastopt.sparse.order import checked
from fastopt.sparse.rows import (
    CURVATURES,
    LARGEST_DECAY,
    PROBE_ROWS,
    Rows,
    Settings,
    Targets,
    objective_of,
    penalty_of,
)

BATCH = 512  # rows: FO_BLOCKS * FO_ROWS of csrc/hogwild.h


@dataclass(frozen=True)
class Past:
    """What earlier runs leave: rows they trained on, and the mean of their models if there is one.

    `mean` is the mean of the models after `averaged` rows, `mean_intercept` that of the intercepts;
    `states` are of a rule for columns.
    """

    rows: float = 0.0
    mean: np.ndarray | None = None
    mean_intercept: Any = 0.0
    averaged: int = 0
    states: coordinate.States | None = None


def on_lines(size: int, dtype: np.dtype) -> np.ndarray:
    """Return numbers, not yet set, that begin on a cache line."""
    item = dtype.itemsize
    room = np.empty(size + 64 // item, dtype)
    skip = -room.ctypes.data % 64 // item
    return room[skip : skip + size]


def native(
    samples: _core.Samples,
    settings: Settings,
    gain: float,
    step: float,
    w: np.ndarray,
    intercept: Any,
    *,
    mode: str = "serial",
    order: str = "blocks",
    threads: int = 1,
    merge_rows: int = 64,
    h: np.ndarray | None = None,
    h_intercept: float = 0.0,
    average: np.ndarray | None = None,
    copies: np.ndarray | None = None,
    paid: np.ndarray | None = None,
    states: coordinate.States | None = None,
    **more: Any,
) -> _core.Hogwild:
    """Return the native run of these settings; `more` is about the average."""
    l1, l2 = settings.l1, settings.l2
    if settings.by_column:
        states = states or coordinate.begin(None, settings, step, w, intercept)
        more["coordinate"] = coordinate.native(samples, settings, states)
        l1 = l2 = 0.0  # the rule's own
    if l1 and paid is None:
        paid = np.zeros_like(w)
    return _core.Hogwild(
        samples,
        settings.loss,
        settings.shape,
        mode,
        settings.schedule,
        order,
        threads,
        gain,
        l2,
        step,
        settings.decay,
        settings.seed,
        merge_rows,
        w,
        intercept,
        h,
        h_intercept,
        average,
        copies,
        settings.l2 + settings.l1 if settings.rate is None else settings.rate,
        power=settings.power,
        l1=l1,
        positive=settings.positive,
        aggressive=settings.aggressive,
        most=settings.most if mode == "serial" and not settings.by_column else math.inf,
        paid=paid,
        max_norm=settings.max_norm or 0.0,
        square=float(np.square(w, dtype=np.float64).sum()) if settings.max_norm else 0.0,
        **more,
    )


class Judge:
    """What tells how good models are, by two samples of the rows."""

    def __init__(self, rows: Rows, target: Targets) -> None:
        self.rows = rows
        self.samples = [one for one, _ in rows.probe()]
        for one, which in rows.probe():
            target.give(one, which)
        weights = rows.weights if target.weights is None else target.weights
        which = np.concatenate([which for _, which in rows.probe()])
        self.weights = 1.0 if weights is None else weights[which]

    def __call__(self, w: np.ndarray, intercept: Any) -> float:
        """Return the sum of the objectives on both."""
        settings, threads = self.rows.settings, self.rows.threads
        return sum(objective_of(one, w, intercept, settings, threads) for one in self.samples)

    def each(self, w: np.ndarray, intercept: Any) -> np.ndarray:
        """Return what each row adds to the objective, times the number of rows."""
        settings, threads = self.rows.settings, self.rows.threads
        found = []
        for one in self.samples:
            found.append(np.empty(one.rows))
            one.losses(settings.loss, settings.shape, w, intercept, found[-1], threads)
        return self.weights * np.concatenate(found) + penalty_of(w, settings)

    def prefers(self, model: tuple[np.ndarray, Any], other: tuple[np.ndarray, Any]) -> bool:
        """Return whether the model has a lower objective than the other, by more than chance."""
        with np.errstate(invalid="ignore", over="ignore", under="ignore"):
            more = self.each(*other) - self.each(*model)
            return bool(more.mean() > more.std() / math.sqrt(len(more)))


class Run:
    """One binary problem: the model, its workers, and their slices."""

    def __init__(
        self,
        rows: Rows,
        order: str,
        step: float,
        w: np.ndarray,
        intercept: Any,
        past: Past = Past(),
        judge: Judge | None = None,
    ) -> None:
        settings, samples, threads = rows.settings, rows.samples, rows.threads
        norm = float(np.linalg.norm(w)) if settings.max_norm else 0.0
        if norm > (settings.max_norm or 0.0):
            w = w * w.dtype.type(settings.max_norm / norm)
        self.rows, self.threads, self.w, self.step, self.past = rows, threads, w, step, past
        self.judge = None if settings.plain_mean else judge
        self.given = settings.order if order == "given" else None
        self.visits: np.ndarray | None = None  # the rows of this epoch, if they are given
        self.average = w.copy() if settings.average else None
        self.paid = np.zeros_like(w) if settings.l1 and not settings.by_column else None
        # A merge walks over all columns: few enough cost little, and more of them learn faster.
        per_row = max(samples.nonzeros / samples.rows, 1)
        often = 12 if rows.mode == "serial" else 4  # alone, it only takes snapshots for the average
        if rows.mode == "rounds":  # all workers wait for a merge, and know little until then
            often = 8 / rows.workers
        merge_rows = max(512, often * samples.columns / per_row)
        merge_rows = int(min(merge_rows, max(64, samples.rows / (4 * rows.workers))))
        copies = h = None
        h_intercept = 0.0
        if rows.mode != "serial":
            h, h_intercept = rows.curvature()
            if rows.mode == "rounds":  # of 4 workers at most, who meet less often: a quarter of the
                h_intercept /= 4  # bound learns faster; with a tenth squared losses diverged
            h = h if len(w) == len(h) else np.repeat(h, samples.width)
        more: dict[str, Any] = {"origin": float(past.rows)}
        if rows.mode in ("copies", "rounds"):
            more["calm"] = rows.calm()
            padded = -(-len(w) // 32) * 32 + 32  # workers share no cache line
            models = 2 if rows.mode == "copies" else 1
            copies = on_lines(models * rows.workers * padded, rows.dtype)
        #: Batches after which a slice may end: a round's, in rounds.
        self.unit = rows.workers * max(1, merge_rows // BATCH) if rows.mode == "rounds" else 1
        plain = settings.average and settings.plain_mean
        self.every_row = plain and rows.mode == "serial" and not settings.by_column
        self.every_row &= samples.width == 1
        self.states = self.first = self.second = self.clock = None
        if settings.by_column:
            self.states = coordinate.begin(past.states, settings, step, w, intercept)
            self.first, self.second = self.states.first, self.states.second
            self.clock = self.states.clock
        if settings.plain_mean:
            more |= {"forget": 0.0, "wait": max(0, settings.average_from - 1 - int(past.rows))}
        self.lag = np.zeros_like(w) if self.every_row else None
        if self.every_row:
            more |= {"lag": self.lag, "averaged": past.averaged}
            more["average_intercept"] = past.mean_intercept
            if past.mean is not None:
                self.average[:] = past.mean
        self.native = native(
            samples,
            settings,
            rows.gain,
            step,
            w,
            intercept,
            mode=rows.mode,
            order=order,
            threads=rows.workers,
            merge_rows=merge_rows,
            h=h,
            h_intercept=h_intercept,
            average=self.average,
            copies=copies,
            paid=self.paid,
            states=self.states,
            **more,
        )
        self.batches_done = 0

    def model(self) -> tuple[np.ndarray, Any]:
        """Bring together what the workers have learned: the average, or what is better than it.

        Where gradients have little noise, an average lags behind.
        """
        intercept, average = self.native.settle()
        if self.average is None or not self.native.averaged:
            return self.w, intercept
        models = (self.w, intercept), (self.average, average)
        return models[0] if self.judge and self.judge.prefers(*models) else models[1]

    def left(self) -> Past:
        """Return what a later run needs to go on with the mean; call it last."""
        _, average = self.native.settle()
        rows, past = self.native.done()[0], self.past
        states = self.states
        if states is not None:
            t, own = self.native.seen()
            states = replace(states, t=t, own=own, clock=None)
        if self.average is None or not self.native.averaged:
            return Past(past.rows + rows, past.mean, past.mean_intercept, past.averaged, states)
        if self.every_row:
            return Past(past.rows + rows, self.average, average, self.native.rows_averaged)
        count = past.averaged + rows
        share = rows / count
        mean = self.average.copy()
        if past.mean is not None:
            mean += (1 - share) * (past.mean - mean)
        average += (1 - share) * (past.mean_intercept - average)
        return Past(past.rows + rows, mean, average, count, states)

    def _visits(self, epoch: int) -> np.ndarray:
        """Return the rows of an epoch, having told who chooses them what the model thinks."""
        n, settings = self.rows.n, self.rows.settings
        if hasattr(self.given, "update"):
            w, intercept = self.model()
            losses = np.empty(n)
            self.rows.samples.losses(
                settings.loss, settings.shape, w, intercept, losses, self.threads
            )
            self.given.update(losses)
        return checked(self.given.order(epoch, n), n)

    def give(self, visits: np.ndarray, epoch: int) -> None:
        """Let an epoch have these rows."""
        self.native.give(visits, epoch)
        self.visits = visits

    def slower(self) -> None:
        """Divide the step by 5."""
        self.step /= 5
        self.native.go_on_with(self.step)

    def advance(self, batches: int, end: int) -> int:
        """Train on the next batches, at most to the batch `end`; return how many."""
        if self.given is not None:
            epoch, within = divmod(self.batches_done, self.native.batches)
            if within == 0:
                self.give(self._visits(epoch), epoch)
            end = min(end, (epoch + 1) * self.native.batches)
        within = self.batches_done % self.native.batches
        if within + batches < self.native.batches:  # whole rounds, the last one as an epoch ends
            batches = min(-(-batches // self.unit) * self.unit, self.native.batches - within)
        elif self.unit > 1:
            batches = self.native.batches - within
        batches = max(1, min(batches, end - self.batches_done))
        try:
            self.native.slice(self.batches_done, self.batches_done + batches, self.threads)
        finally:  # Ctrl-C in a slice is raised once it is done
            self.batches_done += batches
        return batches


def auto_step(rows: Rows, target: Targets, w0: np.ndarray, intercept0: Any, judge: Judge) -> float:
    """Return the step size that a pass over a sample of the rows likes best (a few if it is small).

    The first guess is what meets a row's target, as the loss is bent: one over the mean squared
    norm of the rows, and four for the logistic one; factors of 4 from there are tried downhill,
    judged by the objective on the sample and on a second one: by the second alone, steps would be
    short where a few rows say little of the others.
    """
    settings = rows.settings
    fit, fit_rows = rows.probe()[0]
    most = LARGEST_DECAY / settings.l2 if settings.l2 and not settings.by_column else math.inf
    passes = 1 if len(fit_rows) >= PROBE_ROWS else 4 * PROBE_ROWS // len(fit_rows)

    more = {"mode": "hogbatch", "h": np.zeros_like(w0)} if rows.mode == "hogbatch" else {}

    def tried(step: float) -> float:
        w, average = w0.copy(), w0.copy()
        run = native(fit, settings, rows.gain, step, w, intercept0, average=average, **more)
        run.slice(0, run.batches * passes, 1)
        averaged = run.averaged and settings.average and not settings.plain_mean
        intercept = run.settle()[averaged]
        seen = average if averaged else w
        value = judge(seen, intercept)
        return math.inf if run.diverged or not math.isfinite(value) else value

    bend = CURVATURES.get(settings.loss, 1.0)
    step = min(1 / (bend * (rows.mean_norm + rows.mean_square)), most)
    if settings.by_column:  # their steps do not depend on the size of gradients
        step = coordinate.FIRST_STEP[settings.optimizer] / math.sqrt(rows.mean_norm or 1.0)
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
