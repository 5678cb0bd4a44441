"""Linear models to the optimum by dual coordinate ascent: no step size, a proof of how near."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastopt import _core, memory
from fastopt.checks import check_callable, number, one_of
from fastopt.slices import held_interrupts, next_slice
from fastopt.sparse.checkpoint import Checkpoint, Position, begun, kept
from fastopt.sparse.rows import Rows, Settings, Targets, targets
from fastopt.sparse.runner import CALLBACK_EVERY, Callback, HogwildResult, Progress

__all__ = ["DualResult", "sdca"]

#: A loss's dual: classes, logistic, low, high, curve, epsilon (csrc/dual.h); of the loss's number.
LOSSES: dict[str, Callable[[float], tuple[bool, bool, float, float, float, float]]] = {
    "hinge": lambda e: (True, False, 0.0, 1.0, 0.0, 0.0),
    "squared_hinge": lambda e: (True, False, 0.0, math.inf, 0.5, 0.0),
    "modified_huber": lambda e: (True, False, 0.0, 4.0, 0.5, 0.0),
    "logistic": lambda e: (True, True, 0.0, 1.0, 0.0, 0.0),
    "squared": lambda e: (False, False, -math.inf, math.inf, 1.0, 0.0),
    "huber": lambda e: (False, False, -e, e, 1.0, 0.0),
    "epsilon_insensitive": lambda e: (False, False, -1.0, 1.0, 0.0, e),
    "squared_epsilon_insensitive": lambda e: (False, False, -math.inf, math.inf, 0.5, e),
    "quantile": lambda q: (False, False, q - 1.0, q, 0.0, 0.0),
}
SIDE = 0.01  # of the targets' spread: how far to look along the intercept at first, at least
TURN = 0.02  # how far a row's turn moves the intercept, in margins: 0.005 and 0.08 learn slower
SHARE = 0.3  # of a non-zero's square, at least: 1 learns later, 0.1 swings on dense rows
NEAR = 0.2  # of the tolerance: to which the intercept is the best one
ROUNDS = 8  # in an epoch, at least: workers that seldom see each other's changes get stuck


@dataclass
class DualResult(HogwildResult):
    """What `sdca` returns: what `HogwildResult` has, the gap, and the dual's variables.

    Attributes
    ----------
    objective : float
        Of w and intercept; nan if they were not measured because training was cut short.
    gap : float
        The objective is at most this much above its minimum. inf if not measured.
    beta : ndarray of shape (n_rows,)
        The dual variables: w is ``X.T @ beta / (l2 * n_rows)``.
    """

    objective: float = math.nan
    gap: float = math.inf
    beta: np.ndarray | None = None


def sdca(
    X: Any,
    y: Any,
    *,
    loss: str = "hinge",
    l2: float = 1e-4,
    epochs: int = 1000,
    tol: float = 1e-3,
    fit_intercept: bool = True,
    sample_weight: Any = None,
    threads: int | None = None,
    shuffle: bool = True,
    seed: int = 0,
    epsilon: float = 0.1,
    quantile: float = 0.5,
    time_budget: float | None = None,
    callback: Callback | None = None,
    track_objective: bool = False,
    checkpoint: str | os.PathLike[str] | Checkpoint | None = None,
    checkpoint_every: float = 60.0,
) -> DualResult:
    """Train a linear model to within `tol` of the optimum by stochastic dual coordinate ascent.

    Minimises ``mean_i(loss(y_i, x_i . w + b)) + l2 / 2 * |w|^2``, as `hogwild` does, but stops
    when it can prove that the objective is within `tol` of its minimum. X is used in place.

    Parameters
    ----------
    X : sparse matrix of shape (n_rows, n_columns)
        As for `hogwild`.
    y : array_like of shape (n_rows,)
        -1 or +1 for the losses of classes, finite numbers for the others.
    loss : {"hinge", "squared_hinge", "modified_huber", "logistic", "squared", "huber", \
"epsilon_insensitive", "squared_epsilon_insensitive", "quantile"}
        See `hogwild`.
    l2 : float, default 1e-4
        > 0: the dual needs it.
    epochs : int, default 1000
        Passes over the rows that are not at rest (see Notes), at most.
    tol : float, default 1e-3
        Stop when the duality gap is at most `tol` times the objective; 0 trains for all epochs.
    fit_intercept : bool, default True
        The intercept is not penalised.
    sample_weight : array_like of shape (n_rows,), optional
        Weights of the rows in the mean of the losses; only their ratios matter. Rows of weight 0
        are left out.
    threads : int, optional
        Default: as many as this process may use, if there are enough rows. The same bits for the
        same `seed` and number of threads.
    shuffle : bool, default True
        Permute blocks of 64 rows, and the rows in them, in each epoch.
    seed : int, default 0
    epsilon, quantile : float
        As for `hogwild`.
    time_budget : float, optional
        Seconds, > 0, after which training stops at the end of a round.
    callback : callable, optional
        Called with a `Progress` at most every 50 ms; if it returns True, training stops.
    track_objective : bool, default False
        Put the objective and the gap of each epoch into the history, not only of those after which
        they were worked out.
    checkpoint, checkpoint_every
        As for `hogwild`; it goes on to the same bits. `tol` must be the same too, and so must the
        number of threads, unless there are rows for one only.

    Returns
    -------
    DualResult

    Raises
    ------
    ValueError, TypeError
        Naming the argument. Also if the checkpoint is damaged, or of other data or settings.
    OSError
        If the checkpoint cannot be read, or not be written at the beginning.
    KeyboardInterrupt
        On Ctrl-C, within 0.2 s; its attribute `result` is the DualResult so far.

    Notes
    -----
    Every row has a dual variable; a turn finds the best value of one, the others staying as they
    are (Hsieh et al., 2008, for the hinge losses; Shalev-Shwartz and Zhang, 2013). The optimum of
    the logistic turn is found by Newton's method. Each thread walks rows of its own on a copy of
    the weights; their changes are added up after some thousand rows, and shortened by a line
    search on the dual where the sum would go too far. The intercept is the multiplier of the
    constraint that the dual variables sum to 0 (method of multipliers); the result's is the one
    that is best for its weights. Rows whose variable has not changed in three visits or more, most
    of them at a bound, are left out of one, two, four or eight epochs before they are looked at
    again; the gap is always that of all rows.

    In float32 the gap ends near 1e-6 of the objective, which is its rounding.

    Examples
    --------
    >>> import numpy as np, types, fastopt
    >>> X = types.SimpleNamespace(data=np.array([-2.0, -1.0, 1.0, 2.0]), shape=(4, 1),
    ...                           indices=np.zeros(4, "i4"), indptr=np.arange(5))
    >>> result = fastopt.sdca(X, [-1, -1, 1, 1], l2=0.1, tol=1e-6)
    >>> result.w.round(4).tolist(), result.gap <= 1e-6 * result.objective, result.status
    ([1.0], True, 'finished')
    """
    if not isinstance(loss, str):
        raise ValueError("sdca takes no loss of your own, for it needs its dual: use hogwild")
    one_of("loss", loss, tuple(LOSSES))
    settings = Settings.check(
        loss=loss,
        l2=number("l2", l2, 0, open_below=True),
        epochs=epochs,
        step="auto",
        schedule="constant",
        decay=0.9,
        mode="auto",
        fit_intercept=fit_intercept,
        average=False,
        threads=threads,
        seed=seed,
        shuffle=shuffle,
        epsilon=epsilon,
        quantile=quantile,
    )
    tol = number("tol", tol, 0)
    if time_budget is not None:
        time_budget = number("time_budget", time_budget, 0, open_below=True)
    check_callable("callback", callback)
    rows = Rows(X, settings, sample_weight)
    y = targets(y, rows.n, rows.dtype, loss)
    target = Targets(rows, y=y)
    target.give(rows.samples)
    spread = float(np.std(y, dtype=np.float64))
    file = begun(checkpoint, checkpoint_every)
    if file is not None:
        file.stopping |= {"optimizer": "sdca", "workers": team(rows)[0], "tol": tol}

    def train(*problem: Any, **options: Any) -> DualResult:
        return ascend(
            rows, tol, callback=callback, track=bool(track_objective), spread=spread, **options
        )

    start = np.zeros(rows.samples.columns, rows.dtype)
    deadline = None if time_budget is None else time.perf_counter() + time_budget
    return kept(train, DualResult, rows, target, start, 0.0, file, deadline=deadline)


def team(rows: Rows) -> tuple[int, int, str]:
    """Return how many workers, the blocks of 64 rows in a round, and why."""
    samples, workers = rows.samples, rows.threads
    per_block = 64 * max(samples.nonzeros / samples.rows, 1)
    if workers > 1:
        # merging reads and writes all columns a few times, and threads meet: both stay near a tenth
        stretch = math.ceil(max(4 * samples.columns, 20_000) / per_block)
        if samples.rows / workers / 64 >= ROUNDS * stretch:
            return workers, stretch, f"private copies of {samples.columns} columns"
        return 1, 4096, f"merging {samples.columns} columns would cost more than threads bring"
    return 1, max(64, int(2e6 / per_block)), rows.reason


def gain_of(rows: Rows, spread: float) -> float:
    """Return the square of the intercept's column: it takes part as one more column of this value.

    The betas of few rows with a weak penalty are large; then it is of the size of the others.
    """
    if not rows.settings.fit_intercept:
        return 0.0
    classes, _, _, _, curve, _ = LOSSES[rows.settings.loss](rows.settings.shape)
    unit = 1.0 if classes or curve > 0 else spread or 1.0  # margins for a beta of 1
    return max(SHARE * rows.mean_square, TURN * unit * rows.settings.l2 * rows.n)


def lowest(slope: Callable[[float], float], start: float, side: float, enough: float) -> float:
    """Return where a convex function is lowest, to within `enough` of it, by its slope.

    From `start` in growing steps until the slope has the other sign, or is so small that ten more
    steps would gain little; then between the last two points: where a line through their slopes is
    0, or in the middle where that comes to little.
    """
    a, at_a = start, slope(start)
    b, at_b = a, at_a
    farthest = 1e6 * side
    while at_b * at_a > 0 and abs(at_b) * 10 * side > enough and abs(b - start) < farthest:
        a, at_a = b, at_b
        b = b - math.copysign(side, at_b)
        side *= 2
        at_b = slope(b)
    if at_b * at_a >= 0:
        return b if abs(at_b) <= abs(at_a) else a
    for turn in range(60):
        width = abs(b - a)
        if min(abs(at_a), abs(at_b)) * width <= enough or width <= 1e-9 * (1 + abs(a)):
            break
        part = at_a / (at_a - at_b) if turn % 3 != 2 else 0.5
        c = a + min(max(part, 0.05), 0.95) * (b - a)
        at_c = slope(c)
        if at_c * at_a > 0:
            a, at_a = c, at_c
        else:
            b, at_b = c, at_c
        if at_c == 0:
            break
    return a if abs(at_a) < abs(at_b) else b


def ascend(
    rows: Rows,
    tol: float,
    *,
    deadline: float | None = None,
    callback: Callback | None = None,
    track: bool = False,
    target: float = -math.inf,
    spread: float = 1.0,
    problem: int = 0,
    problems: int = 1,
    checkpoint: Checkpoint | None = None,
) -> DualResult:
    """Train on rows that have their targets; also stop at an objective of at most `target`.

    `spread` is the standard deviation of the targets, about. A `checkpoint` that has begun says
    where to go on, and is written when it is due.
    """
    settings, samples, n = rows.settings, rows.samples, rows.n
    workers, stretch, reason = team(rows)
    gain = gain_of(rows, spread)
    columns = -(-samples.columns // 64) * 64
    size = 3 * n + (workers * columns if workers > 1 else 0)
    memory.need(
        f"training on {samples.columns:,} columns and {n:,} rows",
        float(size + 2 * samples.columns) * rows.dtype.itemsize + 16.0 * n,
    )
    w, room = np.zeros(samples.columns, rows.dtype), np.zeros(size, rows.dtype)
    start = time.perf_counter()
    position = checkpoint.resume() if checkpoint else None
    if position is not None:
        w[:], room[:n] = position.arrays["w"], position.arrays["beta"]
        start -= position.numbers["seconds"]
    run = _core.Ascent(
        samples,
        LOSSES[settings.loss](settings.shape),
        settings.l2,
        gain,
        workers,
        settings.shuffle,
        settings.seed,
        stretch,
        w,
        position.numbers["native"]["intercept"] if position else 0.0,
        room,
    )
    result = DualResult(
        w,
        0.0,
        mode="copies" if workers > 1 else "serial",
        reason=reason,
        order="blocks" if settings.shuffle else "sequential",
        threads=workers,
        beta=room[:n],
    )
    if position is not None:
        run.restore(position.numbers["native"], position.arrays["rest"])
        result.history = position.numbers["history"]
        result.objective, result.gap = position.numbers["proof"]
        result.resumed = run.done()[0]
    margins = np.empty(n)
    aside, called, rounds = 0.0, start, 1
    measured = 0 if position is None else position.numbers["measured"]
    # how the gap compares to that of the rows as they were met
    scale = 0.5 if position is None else position.numbers.get("scale", 0.5)

    def elapsed() -> float:
        return time.perf_counter() - start - aside

    def measure(always: bool = True) -> None:
        """Work out the objective, and the gap: for sure, if `always` or if it may be enough."""
        norm = float(np.square(w, dtype=np.float64).sum())
        samples.margins(w, 0.0, margins, workers)
        result.intercept = b = best_intercept(settings.l2 / 2 * norm)
        gap, loss = run.measure(margins, b, workers)
        result.objective = loss / n + settings.l2 / 2 * norm
        # what the betas' sum is short of, times how far the intercept is from its optimum, at least
        far = abs(move()) + abs(b - run.intercept)
        result.gap = max(gap, 0.0) / n + far * abs(run.imbalance) / n
        if gain and (always or result.gap <= tol * result.objective):
            result.gap = max(result.gap, proven(b))

    def proven(b: float) -> float:
        """Return the gap to the dual at betas that do sum to 0: no model is lower than that.

        These are the betas, shifted as far as their bounds let them; their weights are w', and the
        gap is what margins and betas make of it, and l2 / 2 |w' - w|^2.
        """
        betas = np.empty(n)
        mean = run.imbalance / n
        little = 1e-3 * max(tol, 1e-6) * result.objective / (abs(b) + 1e-30)
        shift = lowest(lambda d: -run.shifted(d, betas) / n, mean, abs(mean), little * abs(mean))
        rest = run.shifted(shift, betas)
        moved = run.exchange(betas, np.zeros_like(w))
        gap, _ = run.measure(margins, b, workers)
        run.exchange(betas)
        return max(gap, 0.0) / n + settings.l2 / 2 * moved + abs(b * rest) / n

    def move() -> float:
        """Return how far the multiplier is from where the betas' sum would take it."""
        return gain / (settings.l2 * n) * run.imbalance

    def best_intercept(scale: float) -> float:
        """Return the intercept that is best for the margins, to some tol of `scale`."""
        if not gain or not run.done()[0]:
            return run.intercept
        return lowest(
            lambda b: samples.slope(settings.loss, settings.shape, margins, b, workers) / n,
            run.intercept,
            max(abs(move()), SIDE * (spread or 1.0)),
            NEAR * max(tol, 1e-6) * scale,
        )

    def save() -> None:
        nonlocal aside
        before = time.perf_counter()
        numbers = {
            "native": run.state(),
            "seconds": elapsed(),
            "history": result.history,
            "proof": [result.objective, result.gap],
            "measured": measured,
            "scale": scale,
        }
        rest = np.frombuffer(run.rest(), np.uint8)
        checkpoint.save(Position(numbers, {"w": w, "beta": room[:n], "rest": rest}))
        aside += time.perf_counter() - before

    def finish(status: str, message: str) -> DualResult:
        result.status, result.message = status, message
        result.epochs = run.epoch
        result.rows, result.nnz = run.done()
        result.seconds = elapsed()
        return result

    def stop(message: str, status: str = "stopped") -> DualResult:
        """Finish early; what is measured for the result does not change how a file goes on."""
        if checkpoint is not None:
            save()
        if status == "stopped":
            measure()
        else:  # at once
            result.intercept, result.objective, result.gap = run.intercept, math.nan, math.inf
        return finish(status, message)

    def progress() -> Progress:
        done, nnz = run.done()
        seconds = elapsed()
        value = None if math.isnan(result.objective) else result.objective
        rate = nnz / seconds if seconds else 0.0
        total = settings.epochs * n
        return Progress(
            run.epoch, settings.epochs, done, total, seconds, rate, value, problem, problems
        )

    def enough() -> str:
        """Say why the model at the end of an epoch is good enough, if it is."""
        nonlocal measured, scale
        done = run.done()[0]
        waited = (done - measured) / n  # where most rows rest, epochs cost less than this does
        near = math.isnan(result.objective) or run.met_gap / n * scale <= tol * result.objective
        known = (near and waited >= 0.5) or waited >= 4
        if track or target > -math.inf or (tol > 0 and known):
            measured = done
            measure(always=track)
            scale = min(2.0, max(0.5, result.gap * n / max(run.met_gap, 1e-300)))
            result.history[-1] |= {"objective": result.objective, "gap": result.gap}
            if tol > 0 and result.gap <= tol * result.objective:
                return f"the objective is within {result.gap:.3g} of its minimum"
            if result.objective <= target:
                return f"the objective has reached the target {target:g}"
        return ""

    try:
        while run.epoch < settings.epochs:
            with held_interrupts():  # an epoch that is trained is judged as well
                before = time.perf_counter()
                ended = run.slice(rounds, workers)
                now = time.perf_counter()
                rounds = min(next_slice(rounds, now - before), 1 << 30)
                if ended:
                    record = {"epoch": run.epoch, "seconds": now - start - aside}
                    result.history.append(record | {"rows": run.done()[0]})
                    words = enough()
                    if track:
                        aside += time.perf_counter() - now
                    if words:
                        return finish("finished", words)
            if deadline is not None and time.perf_counter() >= deadline + aside:
                return stop("the time budget is used up")
            if callback is not None and time.perf_counter() - called >= CALLBACK_EVERY:
                called = time.perf_counter()
                if callback(progress()) is True:
                    return stop("the callback asked to stop")
            if checkpoint is not None and checkpoint.due:
                save()
    except KeyboardInterrupt as interrupt:
        interrupt.result = stop("interrupted; the model is usable", "interrupted")
        raise
    measure()
    finish("finished", f"all {settings.epochs} epochs done; the gap is {result.gap:.3g}")
    if callback is not None:
        callback(progress())
    return result
