"""Matrix completion with all cores, in bands of users and items; needs numpy alone."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fastopt import _core, memory
from fastopt.checks import count, flag, number, one_of
from fastopt.factorization.ratings import LOSSES, Grid, Ratings, is_sparse
from fastopt.threads import resolve

SCHEDULES = ("inverse", "epoch_decay", "constant")
MODES = ("auto", "shared", "blocks")
START = 0.1  # variance of the first factors, times the rank and over the spread
LARGEST_DECAY = 0.5  # of a step times l2


@dataclass
class FactorizationResult:
    """What `factorize` returns: the model, what happened, and what is needed to go on.

    Attributes
    ----------
    user_factors, item_factors : ndarray of shape (n_users, rank), (n_items, rank)
        0 where a user or item had no ratings, except with loss "bpr".
    user_biases, item_biases : ndarray of shape (n_users,), (n_items,)
        0 where there are none.
    mean : float
        Added to all predictions.
    loss : str
    spread : float
        Standard deviation of the ratings (root mean square without biases), 1 for other losses
        than squared and absolute.
    user_squares, item_squares : ndarray of shape (n_users,), (n_items,)
        What steps are divided by the root of.
    status : {"finished", "stopped", "interrupted", "diverged"}
    message : str
        The status in a sentence, with what to do about it.
    mode : {"serial", "shared", "blocks"}
    reason : str
        Why that mode and that many threads.
    threads : int
    bands : int
        Into how many bands users and items were cut.
    epochs : int
        Whole epochs, earlier runs' included.
    best_epoch : int
        The epoch that the model is of.
    ratings : int
        Ratings trained on in this run.
    seconds : float
        Time of training, without the preparation of the ratings, objectives and callbacks.
    prepared : float
        Seconds of that preparation.
    history : list of dict
        One record per epoch: epoch, seconds, ratings, step. If tracked also objective and loss
        (the mean of the losses), rmse for squared, auc for bpr (share of the pairs in the right
        order); if ratings are held out, validation_loss and so on.
    """

    user_factors: np.ndarray
    item_factors: np.ndarray
    user_biases: np.ndarray
    item_biases: np.ndarray
    mean: float
    loss: str
    spread: float
    user_squares: np.ndarray
    item_squares: np.ndarray
    status: str = "finished"
    message: str = ""
    mode: str = ""
    reason: str = ""
    threads: int = 1
    bands: int = 1
    epochs: int = 0
    best_epoch: int = 0
    ratings: int = 0
    seconds: float = 0.0
    prepared: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)

    @property
    def ratings_per_second(self) -> float:
        """Ratings trained on per second."""
        return self.ratings / self.seconds if self.seconds else 0.0

    def predict(self, X: Any, threads: int | None = None) -> np.ndarray:
        """Return mean + b_u + c_i + p_u . q_i of each pair, summed in float64.

        Parameters
        ----------
        X : sparse matrix or array_like of int of shape (n, 2)
            Pairs (user, item), or a CSR, CSC or COO matrix whose stored entries are the pairs;
            their values do not matter.
        threads : int, optional

        Returns
        -------
        ndarray of shape (n,)
            In the order of the pairs, or of `X.data`.
        """
        pairs = Ratings(
            X, None, threads=resolve(threads), shape=self.shape, need_y=False, values=False
        )
        out = np.empty(pairs.n)
        pairs.native.predict(
            np.ascontiguousarray(self.user_factors),
            np.ascontiguousarray(self.item_factors),
            self.user_biases.astype("f8"),
            self.item_biases.astype("f8"),
            self.mean,
            out,
            pairs.threads,
        )
        return out

    def rmse(self, X: Any, y: Any = None, threads: int | None = None) -> float:
        """Return the root of the mean squared difference of predictions and ratings.

        Parameters
        ----------
        X : sparse matrix or array_like of int of shape (n, 2)
            As for `predict`.
        y : array_like of shape (n,), optional
            The ratings of pairs; None if X is a matrix, whose entries are the ratings.
        threads : int, optional
        """
        p = self.predict(X, threads)
        if is_sparse(X):
            if y is not None:
                raise ValueError("y must be None where X is a sparse matrix")
            y = X.data
        y = np.asarray(y, np.float64)
        if y.shape != p.shape or not len(p):
            raise ValueError(f"y must be one number per pair of X, {p.shape}, got {y.shape}")
        return float(np.sqrt(np.mean((p - y) ** 2)))

    @classmethod
    def empty(cls, settings: Settings, mean: float, spread: float) -> FactorizationResult:
        """Return a result whose arrays are still to come."""
        factors, rows = np.empty((0, settings.rank), settings.dtype), np.empty(0, settings.dtype)
        return cls(factors, factors, rows, rows, mean, settings.loss, spread, rows, rows)

    @property
    def shape(self) -> tuple[int, int]:
        """Users and items."""
        return len(self.user_factors), len(self.item_factors)

    def fits(self, settings: Settings, shape: tuple[int, int]) -> None:
        """Raise unless training with these settings and ratings can go on from here."""
        for name, mine, wanted in (
            ("rank", self.user_factors.shape[1], settings.rank),
            ("loss", self.loss, settings.loss),
        ):
            if mine != wanted:
                name = settings.names.get(name, name)
                raise ValueError(f"{name} must be that of the start, {mine!r}, got {wanted!r}")
        if self.shape[0] > shape[0] or self.shape[1] > shape[1]:
            raise ValueError(
                f"X must have at least the {self.shape} users and items of the start, got {shape}"
            )


@dataclass(frozen=True)
class FactorProgress:
    """What a callback of `factorize` sees.

    Attributes
    ----------
    epoch, epochs : int
        Whole epochs done, and asked for.
    ratings_done, ratings_total : int
    seconds, ratings_per_second : float
    record : dict
        The last record of the history; empty in the first epoch.
    """

    epoch: int
    epochs: int
    ratings_done: int
    ratings_total: int
    seconds: float
    ratings_per_second: float
    record: dict[str, Any]


@dataclass(frozen=True)
class Settings:
    """Checked arguments of a run, apart from the data."""

    rank: int
    loss: str
    l2: float
    l2_bias: float
    biases: bool
    nonnegative: bool
    epochs: int
    step: float
    schedule: str
    decay: float
    adaptive: bool
    mode: str
    dtype: str
    threads: int
    random_state: int | None
    validation_fraction: float
    tol: float | None
    patience: int
    names: dict[str, str]  # what the caller calls them, where that is something else

    @classmethod
    def check(cls, names: dict[str, str] | None = None, **given: Any) -> Settings:
        """Return the settings, or raise naming the argument and what it may be."""
        names, g = names or {}, given

        def called(name: str) -> tuple[str, Any]:
            return names.get(name, name), g[name]

        name, rank = called("rank")
        if count(name, rank, 1) > 256:
            raise ValueError(f"{name} must be from 1 to 256, got {rank}")
        l2 = number(*called("l2"), 0)
        try:
            dtype = np.dtype(g["dtype"]).str[1:]
        except TypeError:
            dtype = ""
        if dtype not in ("f4", "f8"):
            raise ValueError(f"dtype must be 'float32' or 'float64', got {g['dtype']!r}")
        name, fraction = called("validation_fraction")
        if number(name, fraction, 0, 1) == 1:
            raise ValueError(f"{name} must be below 1")
        seed, tol, threads = g["random_state"], g["tol"], g["threads"]
        return cls(
            rank=count(*called("rank"), 1),
            loss=one_of("loss", g["loss"], LOSSES),
            l2=l2,
            l2_bias=l2 if g["l2_bias"] is None else number(*called("l2_bias"), 0),
            biases=flag(*called("biases")),
            nonnegative=flag(*called("nonnegative")),
            epochs=count(*called("epochs"), 0),
            step=number(*called("step"), 0, open_below=True),
            schedule=one_of(*called("schedule"), SCHEDULES),
            decay=number(*called("decay"), 0, 1, open_below=True),
            adaptive=flag(*called("adaptive")),
            mode=one_of("mode", g["mode"], MODES),
            dtype=dtype,
            threads=resolve(None if threads is None else count(*called("threads"), 1)),
            random_state=None if seed is None else count("random_state", seed, 0) % (1 << 64),
            validation_fraction=float(fraction),
            tol=None if tol is None else number("tol", tol, 0),
            patience=count(*called("patience"), 1),
            names=names,
        )

    def factor(self, epoch: int) -> float:
        """Return what the step is multiplied by in an epoch."""
        return shrunk(self.schedule, self.decay, epoch)


class Model:
    """The factors as the native side has them: in the order of places, padded to whole lines."""

    def __init__(
        self,
        grid: Grid,
        settings: Settings,
        ratings: Ratings,
        seed: int,
        start: FactorizationResult | None,
    ) -> None:
        line = _core.LINE_BYTES // np.dtype(settings.dtype).itemsize
        self.grid, self.settings = grid, settings
        self.padded = -(-settings.rank // line) * line
        size = sum(grid.sizes_of_model) * (self.padded + 2) * np.dtype(settings.dtype).itemsize
        memory.need("the factors", 2.0 * size)
        self.rows = [aligned(n * self.padded, settings.dtype) for n in grid.sizes_of_model]
        self.extra = [aligned(n * 2, settings.dtype) for n in grid.sizes_of_model]
        if start is not None:
            self.mean, self.spread = start.mean, start.spread
        else:
            self.mean, self.spread = self._facts(ratings)
        #: What derivatives are measured in.
        self.unit = self.spread if settings.loss == "squared" else 1.0
        self._begin(np.random.default_rng(seed), ratings.mean())
        if start is not None:
            self.load(start)

    def check_step(self) -> None:
        """Raise if a step would shrink factors or biases by half."""
        s, step = self.settings, self.settings.step / self.unit
        for name, l2, size in (("l2", s.l2, step), ("l2_bias", s.l2_bias, step * self.spread)):
            if size * l2 > LARGEST_DECAY:
                raise ValueError(
                    f"{s.names.get(name, name)} must be at most {LARGEST_DECAY / size:.3g} with "
                    f"{s.names.get('step', 'step')}={s.step} and ratings of this spread, got {l2}"
                )

    def _facts(self, ratings: Ratings) -> tuple[float, float]:
        """Return what is added to predictions, and the spread of what is left."""
        s, mean = self.settings, ratings.mean()
        rated = s.loss in ("squared", "absolute")
        spread = ratings.spread(not s.biases) if rated else 1.0
        if not s.biases or s.loss == "bpr":
            return 0.0, spread
        if s.loss == "logistic":  # the log-odds; one more of each, so that all alike is finite
            n = ratings.facts["n"]
            ones = n * ((mean + 1) / 2 if ratings.facts["minus_ones"] else mean)
            return math.log((ones + 1) / (n - ones + 1)), spread
        if s.loss == "hinge" and not ratings.facts["minus_ones"]:
            return 2 * mean - 1, spread
        return mean, spread

    def _begin(self, rng: np.random.Generator, mean: float) -> None:
        """Fill in uniform random factors; rows without ratings have none, for BPR all have."""
        s = self.settings
        size = START * self.spread / s.rank  # variance of a factor
        low, high = -math.sqrt(3 * size), math.sqrt(3 * size)
        if s.loss in ("squared", "absolute") and not s.biases and mean > 0:
            low, high = 0.0, 2 * math.sqrt(mean / s.rank)  # the products' mean is the ratings'
        elif s.nonnegative:
            low, high = 0.0, 2 * math.sqrt(size)
        for rows, extra, degrees in zip(self.rows, self.extra, self.grid.degrees, strict=True):
            rows[:] = 0
            extra[0::2], extra[1::2] = 0, 1
            table = rows.reshape(-1, self.padded)
            for first in range(0, len(table), 1 << 16):  # in pieces: no second model
                part = table[first : first + (1 << 16), : s.rank]
                part[:] = rng.random(part.shape, np.float32) * (high - low) + low
                if s.loss != "bpr":
                    part[degrees[first : first + (1 << 16)] == 0] = 0

    def load(self, start: FactorizationResult) -> None:
        """Take over what an earlier run has learned; rows that had no ratings start anew."""
        s = self.settings
        for a, (factors, biases, squares) in enumerate(
            (
                (start.user_factors, start.user_biases, start.user_squares),
                (start.item_factors, start.item_biases, start.item_squares),
            )
        ):
            learned = np.flatnonzero(factors.any(axis=1) | (biases != 0))
            place = self.grid.places[a][learned]
            known = np.maximum(factors[learned], 0) if s.nonnegative else factors[learned]
            self.rows[a].reshape(-1, self.padded)[place, : s.rank] = known
            self.extra[a].reshape(-1, 2)[place, 0] = biases[learned]
            self.extra[a].reshape(-1, 2)[place, 1] = squares[learned]

    def save(self, state: list[np.ndarray]) -> tuple[list[Any], list[Any], list[Any]]:
        """Return factors, biases and squares, each of users and items, in the user's order."""
        factors, biases, squares = [], [], []
        for rows, extra, place in zip(state[:2], state[2:], self.grid.places, strict=True):
            factors.append(rows.reshape(-1, self.padded)[place, : self.settings.rank])
            biases.append(extra[0::2][place])
            squares.append(extra[1::2][place])
        return factors, biases, squares


def shrunk(schedule: str, decay: float, epoch: int) -> float:
    """Return what a schedule multiplies the step by in an epoch."""
    if schedule == "epoch_decay":
        return decay**epoch
    if schedule == "inverse":
        return 1 / (1 + epoch * (1 - decay) / decay)
    return 1.0


def aligned(n: int, dtype: Any) -> np.ndarray:
    """Return n numbers that start at a line of the cache."""
    itemsize = np.dtype(dtype).itemsize
    room = np.empty(n + _core.LINE_BYTES // itemsize, dtype)
    skip = -room.ctypes.data % _core.LINE_BYTES // itemsize
    return room[skip : skip + n]
