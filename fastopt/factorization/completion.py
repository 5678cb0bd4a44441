"""Matrix completion with all cores: the run, epoch by epoch; needs numpy alone."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from fastopt import _core
from fastopt.checks import check_callable, flag
from fastopt.factorization.factors import FactorizationResult, FactorProgress, Model, Settings
from fastopt.factorization.ratings import Grid, Ratings
from fastopt.threads import why_serial

SLICE = 0.04  # seconds of native work between two looks at Ctrl-C and the callback
CALLBACK_EVERY = 0.05  # seconds, at least
RATINGS_PER_THREAD = 100_000  # with fewer, waiting for threads costs more than they bring

Callback = Callable[[FactorProgress], Any]


def choose_mode(settings: Settings, n: int, most: int) -> tuple[str, int, str]:
    """Return mode, threads (so many can be of use), and why."""
    threads = settings.threads
    if why := why_serial(threads):
        return "serial", 1, why
    if settings.mode == "auto":
        threads = min(threads, n // RATINGS_PER_THREAD)
        if threads < 2:
            return "serial", 1, f"{n} ratings are too few for more than one thread"
    if most == 1:
        return "serial", 1, "too few ratings, users or items for blocks that differ in both"
    threads = min(threads, most)
    if settings.mode != "auto":
        return settings.mode, threads, "asked for"
    if settings.random_state is None:
        return "shared", threads, "random_state is None: no thread waits for another"
    return "blocks", threads, "random_state is set: the same bits for any number of threads"


class Run:
    """Training, and what is worked out of the model after each epoch."""

    def __init__(
        self, grid: Grid, model: Model, settings: Settings, racy: bool, threads: int, seed: int
    ) -> None:
        s = settings
        self.grid, self.model, self.settings, self.threads = grid, model, s, threads
        self.native = _core.Factorization(
            grid.blocks, s.loss, model.padded, model.rows, model.extra, s.biases, s.adaptive,
            s.nonnegative, model.mean, model.spread, s.l2, s.l2_bias, racy, seed,
            grid.seen, grid.items,
        )  # fmt: skip
        self.n = len(grid.blocks.records)
        self.unit_seconds = 20e-9 * max(1.0, model.padded / 64) * self.n / self.native.units

    def begin(self, epoch: int) -> float:
        """Set the step of an epoch; return it."""
        s, m = self.settings, self.model
        step = s.step * s.factor(epoch) / m.unit
        mean_squares = [
            self.native.squares(a) / (max(np.count_nonzero(self.grid.degrees[a]), 1) * s.rank)
            for a in (0, 1)
        ]
        weights = [math.sqrt(squares / m.spread) / m.unit for squares in mean_squares]
        self.native.epoch(epoch, step, weights[1], weights[0])
        return step

    def advance(self, unit: int) -> int:
        """Train on the next units of the epoch; return the unit to go on with."""
        whole = self.native.round
        units = max(1, int(SLICE * self.threads / max(self.unit_seconds, 1e-9)))
        if units > whole // 3:  # between rounds threads wait for each other anyway
            units = -(-units // whole) * whole
        stop = min(unit + units, self.native.units)
        start = time.perf_counter()
        self.native.slice(unit, stop, self.threads)
        self.unit_seconds = (time.perf_counter() - start) * self.threads / (stop - unit)
        return stop

    def measure(self) -> dict[str, Any]:
        """Return the objective, the mean loss, and the like."""
        sums = self._sums(self.grid.blocks)
        penalty = sum(self.native.penalty(a, self.grid.degrees[a]) for a in (0, 1))
        total = sums["loss"] + penalty + sums["penalty"]
        found = {"objective": total / max(self.n, 1)} | self._means("", sums)
        if self.grid.held is not None:
            sums = self._sums(self.grid.held)
            found |= self._means("validation_", sums)
        return found

    def _sums(self, blocks: _core.Blocks) -> dict[str, float]:
        """Add up what the bands have, in order; Ctrl-C comes between two of them."""
        total = dict.fromkeys(("loss", "count", "right", "penalty"), 0.0)
        for band in range(blocks.bands):
            for name, value in self.native.loss(blocks, band, self.threads).items():
                total[name] += value
        return total

    def _means(self, prefix: str, sums: dict[str, float]) -> dict[str, float]:
        n = max(sums["count"], 1.0)
        means = {prefix + "loss": sums["loss"] / n}
        if self.settings.loss == "squared":
            means[prefix + "rmse"] = math.sqrt(2 * sums["loss"] / n)
        elif self.settings.loss == "bpr":
            means[prefix + "auc"] = sums["right"] / n
        return means

    def state(self) -> list[np.ndarray]:
        """Return the native side's arrays."""
        return [*self.model.rows, *self.model.extra]


class Best:
    """The model of the best epoch so far, and whether it was long ago."""

    def __init__(self, tol: float, patience: int) -> None:
        self.tol, self.patience, self.bad = tol, patience, 0
        self.value, self.epoch = math.inf, 0
        self.state: list[np.ndarray] = []

    def __call__(self, epoch: int, value: float, run: Run) -> bool:
        """Look at an epoch; True if there is nothing more to be hoped for."""
        self.bad = self.bad + 1 if value > self.value * (1 - self.tol) else 0
        if value < self.value:
            self.value, self.epoch = value, epoch
            if not self.state:
                self.state = [np.empty_like(x) for x in run.state()]
            for kept, now in zip(self.state, run.state(), strict=True):
                kept[:] = now
        return self.bad >= self.patience


class Training:
    """The epochs of a run, and the result they write."""

    def __init__(
        self, run: Run, result: FactorizationResult, callback: Callback | None, track: bool
    ) -> None:
        s = run.settings
        self.run, self.result, self.callback = run, result, callback
        self.track = track or s.tol is not None
        self.best = None if s.tol is None else Best(s.tol, s.patience)
        self.first = result.epochs
        self.epoch = self.done = 0  # whole epochs and ratings
        self.aside = 0.0  # seconds of objectives and callbacks
        self.start = self.called = time.perf_counter()

    def seconds(self) -> float:
        """Return the time of training alone."""
        return time.perf_counter() - self.start - self.aside

    def progress(self) -> FactorProgress:
        """Return what a callback sees."""
        now, epochs = self.seconds(), self.run.settings.epochs
        record = dict(self.result.history[-1]) if self.result.history else {}
        return FactorProgress(
            self.epoch, epochs, self.done, epochs * self.run.n, now,
            self.done / now if now else 0.0, record,
        )  # fmt: skip

    def go(self) -> None:
        """Train; Ctrl-C leaves a usable model in `interrupt.result`."""
        epochs = self.run.settings.epochs
        try:
            while self.epoch < epochs:
                if self._epoch():
                    return
        except KeyboardInterrupt as interrupt:
            self.finish("interrupted", "interrupted; the model is usable")
            interrupt.result = self.result
            raise
        self.finish("finished", f"all {epochs} epochs done")
        if self.callback is not None and self.result.status == "finished":
            self.callback(self.progress())

    def _epoch(self) -> bool:
        run, unit = self.run, 0
        step = run.begin(self.first + self.epoch)
        while unit < run.native.units:
            unit = run.advance(unit)
            self.done = self.epoch * run.n + run.n * unit // run.native.units
            if run.native.diverged:
                self.finish("diverged", "")
                return True
            if unit < run.native.units and self._call():
                return True
        self.epoch += 1
        record: dict[str, Any] = {
            "epoch": self.first + self.epoch, "seconds": self.seconds(), "ratings": self.done,
            "step": step,
        }  # fmt: skip
        self.result.history.append(record)
        if self.track:
            before = time.perf_counter()
            record |= run.measure()
            over = self.best is not None and self.best(
                record["epoch"],
                record["objective" if run.grid.held is None else "validation_loss"],
                run,
            )
            self.aside += time.perf_counter() - before
            if over:
                what = "objective" if run.grid.held is None else "validation loss"
                self.finish("finished", f"the {what} no longer improves")
                return True
        return self._call()

    def _call(self) -> bool:
        now = time.perf_counter()
        if self.callback is None or now - self.called < CALLBACK_EVERY:
            return False
        self.called = now
        stop = self.callback(self.progress()) is True
        self.aside += time.perf_counter() - now
        if stop:
            self.finish("stopped", "the callback asked to stop")
        return stop

    def finish(self, status: str, message: str) -> None:
        """Write the model and what happened into the result."""
        run, result = self.run, self.result
        result.seconds = self.seconds()
        result.status, result.message = status, message
        result.epochs, result.ratings = self.first + self.epoch, self.done
        result.best_epoch, state = result.epochs, run.state()
        if status != "diverged" and self.best is not None and self.best.state:
            result.best_epoch, state = self.best.epoch, self.best.state
        factors, biases, squares = run.model.save(state)
        result.user_factors, result.item_factors = factors
        result.user_biases, result.item_biases = biases
        result.user_squares, result.item_squares = squares
        if not all(np.isfinite([x.min(), x.max()]).all() for x in (*factors, *biases)):
            result.status = "diverged"
        if result.status == "diverged":
            result.message = (
                f"the factors grew without bound in epoch {result.epochs + 1}: give "
                f"{run.settings.names.get('step', 'a step')} below {run.settings.step:.3g}"
            )
            warnings.warn(f"factorize diverged: {result.message}", RuntimeWarning, stacklevel=5)


def factorize(
    X: Any,
    y: Any = None,
    *,
    rank: int = 16,
    loss: str = "squared",
    l2: float = 0.05,
    l2_bias: float | None = None,
    biases: bool = True,
    nonnegative: bool = False,
    epochs: int = 20,
    step: float = 0.1,
    schedule: str = "inverse",
    decay: float = 0.9,
    adaptive: bool = True,
    mode: str = "auto",
    shape: tuple[int, int] | None = None,
    dtype: Any = "float32",
    threads: int | None = None,
    random_state: int | None = None,
    validation_fraction: float = 0.0,
    tol: float | None = None,
    patience: int = 5,
    start: FactorizationResult | None = None,
    callback: Callback | None = None,
    track_objective: bool = False,
) -> FactorizationResult:
    """Complete a matrix from some of its entries: prediction = mean + b_u + c_i + p_u . q_i.

    Minimises the mean over all ratings (u, i, y) of ::

        loss(y, prediction) + l2 / 2 * (|p_u|^2 + |q_i|^2) + l2_bias / 2 * (b_u^2 + c_i^2)

    so that rows are shrunk in proportion to their ratings, as in LIBMF [2]_. Trained by SGD with
    all threads, one rating after the other; no locks (Hogwild! [1]_), or the same bits for any
    number of threads.

    Parameters
    ----------
    X : sparse matrix or array_like of int of shape (n, 2)
        A CSR, CSC or COO matrix whose stored entries, explicit zeros included, are the ratings; or
        pairs (user, item) from 0 on. int32 or int64. An entry that is there twice counts twice.
    y : array_like of shape (n,), optional
        The ratings of pairs, at most 1e24 in size. Used where they lie if float32, float64, int32
        or int64. Logistic and hinge: all 0 or 1, or all -1 or +1. BPR: not needed; if given,
        above 0.
    rank : int, default 16
        Number of factors, 1 to 256.
    loss : {"squared", "absolute", "logistic", "hinge", "bpr"}
        (p - y)^2 / 2; abs(p - y); log(1 + exp(-y p)) and max(0, 1 - y p) with y in -1, +1. "bpr"
        [4]_ is for what users have: log(1 + exp(p_uj - p_ui)) with a random item j that user u does
        not have, which is shrunk as well.
    l2 : float, default 0.05
    l2_bias : float, optional
        Default: l2.
    biases : bool, default True
        Whether there are mean, b and c. The mean is that of the ratings (logistic: its log-odds;
        hinge: that of labels -1 and +1), not trained; BPR has only c.
    nonnegative : bool, default False
        Keep factors at 0 or above, by projection; biases may be negative.
    epochs : int, default 20
        At most.
    step : float, default 0.1
        In units of the ratings' spread s, their standard deviation (root mean square without
        biases; 1 for logistic, hinge and bpr): see Notes.
    schedule : {"inverse", "epoch_decay", "constant"}
        In epoch e = 0, 1, ...: step / (1 + e * (1 - decay) / decay); step * decay ** e, as in [1]_;
        step.
    decay : float in (0, 1], default 0.9
    adaptive : bool, default True
        Divide the steps of each user and item by the root of its squared derivatives so far.
    mode : {"auto", "shared", "blocks"}
        "shared": no thread waits for another. "blocks": threads wait for each other `bands` times
        per epoch; the same bits for the same `random_state` and any number of threads. "auto": the
        first if `random_state` is None.
    shape : (int, int), optional
        Users and items of pairs; default: one more than the largest.
    dtype : {"float32", "float64"}
        Of the factors.
    threads : int, optional
        Default: as many as this process may use.
    random_state : int, optional
        Of the first factors, and the order of ratings.
    validation_fraction : float, default 0
        Share of the ratings that is held out, chosen by `random_state`. For BPR they are compared
        with items that the user does not have in the others.
    tol : float, optional
        Stop when the objective (the mean loss of the ratings held out, if any) did not fall by this
        part of its lowest value in `patience` epochs in a row, and return the best epoch's model.
        Default: train for all epochs, and return the last.
    patience : int, default 5
    start : FactorizationResult, optional
        Go on from there: also its mean, spread, epochs and sums of squares. New users and items
        may come.
    callback : callable, optional
        Called with a `FactorProgress` at most every 50 ms on the calling thread, and at the end.
        If it returns True, training stops.
    track_objective : bool, default False
        Put the objective of each epoch's model into the history. It is that of above, of all
        ratings; for BPR over one random item per pair, the same ones in all epochs.

    Returns
    -------
    FactorizationResult

    Raises
    ------
    ValueError, TypeError
        Naming the argument.
    MemoryError
        If ratings or factors would not fit.
    KeyboardInterrupt
        On Ctrl-C, within 0.2 s once the ratings are in their blocks (50 ns a rating); its attribute
        `result` is the FactorizationResult so far.

    Warns
    -----
    RuntimeWarning
        If the factors grow without bound; `status` is then "diverged".

    Notes
    -----
    With g the derivative of the loss by the prediction, a rating moves ::

        p_u -= r_u (g q_i + l2 p_u)        b_u -= s r_u (g + l2_bias b_u)
        q_i -= r_i (g p_u + l2 q_i)        c_i -= s r_i (g + l2_bias c_i)

    where r_u = step / (s sqrt(1 + G_u)); G_u is the sum of the user's g^2 so far, times the mean
    square of all items' factors at the beginning of the epoch, over s^3 (not squared: step / sqrt(1
    + G_u), and over s). This is the AdaGrad of [3]_, one rate for a row, with the
    mean for the item's own square: two sums less per rating, and as good per epoch.

    The first factors are uniform, around 0 with variance v = 0.1 s / rank; without biases, from 0
    such that the mean prediction is that of the ratings, if that is above 0; else if nonnegative,
    from 0 to 2 sqrt(v). Larger ones train faster in the first epochs, and to worse models.

    Memory: 12 bytes a rating (16 in float64), 16 with BPR: the ratings in blocks that fit a cache.
    X and y themselves are not copied, but y of rarer types.

    References
    ----------
    .. [1] Niu, Recht, Re, Wright, "Hogwild!: A Lock-Free Approach to Parallelizing Stochastic
       Gradient Descent", 2011, https://arxiv.org/abs/1106.5730
    .. [2] Chin, Yuan, Yang, Zhuang, Juan, Lin, "LIBMF: A Library for Parallel Matrix Factorization
       in Shared-memory Systems", 2016
    .. [3] Chin, Zhuang, Juan, Lin, "A Learning-rate Schedule for Stochastic Gradient Methods to
       Matrix Factorization", 2015
    .. [4] Rendle, Freudenthaler, Gantner, Schmidt-Thieme, "BPR: Bayesian Personalized Ranking from
       Implicit Feedback", 2009

    Examples
    --------
    >>> import numpy as np, fastopt
    >>> pairs = np.array([[u, i] for u in range(30) for i in range(20) if (u + i) % 3])
    >>> y = np.where(pairs[:, 0] % 2 == pairs[:, 1] % 2, 5.0, 1.0)
    >>> result = fastopt.factorize(pairs, y, rank=2, l2=0.01, epochs=50, random_state=0)
    >>> result.predict([[0, 0], [0, 3]]).round().tolist()
    [5.0, 1.0]
    """
    settings = Settings.check(
        rank=rank, loss=loss, l2=l2, l2_bias=l2_bias, biases=biases, nonnegative=nonnegative,
        epochs=epochs, step=step, schedule=schedule, decay=decay, adaptive=adaptive, mode=mode,
        dtype=dtype, threads=threads, random_state=random_state,
        validation_fraction=validation_fraction, tol=tol, patience=patience,
    )  # fmt: skip
    return complete(
        X, y, settings, shape=shape, start=start, callback=callback, track=track_objective
    )


def complete(
    X: Any,
    y: Any,
    settings: Settings,
    *,
    shape: Any = None,
    start: FactorizationResult | None = None,
    callback: Callback | None = None,
    track: bool = False,
) -> FactorizationResult:
    """Train with checked settings; see `factorize`."""
    s = settings
    check_callable("callback", callback)
    track = flag("track_objective", track)
    if start is not None and not isinstance(start, FactorizationResult):
        raise TypeError(f"start must be a FactorizationResult or None, got {start!r}")
    begun = time.perf_counter()
    seed = s.random_state
    if seed is None:
        seed = int(np.random.SeedSequence().generate_state(1, np.uint64)[0])
    ratings = Ratings(
        X, y, threads=s.threads, shape=shape, least=start.shape if start else (1, 1), seed=seed,
        held=s.validation_fraction, need_y=s.loss != "bpr",
    )  # fmt: skip
    if ratings.facts["n"] == 0:
        raise ValueError("X must have at least one rating that is not held out")
    if s.validation_fraction and not ratings.facts["held"]:
        raise ValueError(
            f"{s.names.get('validation_fraction', 'validation_fraction')} must be 0 or hold out at "
            f"least one rating: {s.validation_fraction} of {ratings.n} held out none"
        )
    if start is not None:
        start.fits(s, ratings.shape)
    grid = Grid(ratings, loss=s.loss, dtype=s.dtype, rank=s.rank, seed=seed, threads=s.threads)
    model = Model(grid, s, ratings, seed, start)
    model.check_step()
    most = max(1, grid.bands // 2) if s.loss == "bpr" else grid.bands  # units in a round
    mode, threads, reason = choose_mode(s, ratings.n, most)
    run = Run(grid, model, s, mode == "shared", threads, seed)
    result = FactorizationResult.empty(s, model.mean, model.spread)
    result.mode, result.reason, result.threads = mode, reason, threads
    result.bands, result.epochs = grid.bands, 0 if start is None else start.epochs
    result.prepared = time.perf_counter() - begun
    Training(run, result, callback, track).go()
    return result
