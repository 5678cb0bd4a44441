"""A factorization machine as the native side has it, where it begins, and what its steps are."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fastopt import _core, memory
from fastopt.factorization.factors import aligned

#: Losses whose targets have a unit.
OF_NUMBERS = (
    "squared", "huber", "quantile", "epsilon_insensitive", "squared_epsilon_insensitive",
)  # fmt: skip
PIECE = 1 << 16  # columns that are worked on at once: no second model


@dataclass(frozen=True)
class Settings:
    """Checked arguments of a run, apart from the data.

    `step` is in `Units`; the objective is the mean over all rows of the loss and, for each of its
    non-zeros, of l2_weight / 2 * w^2 + l2_factor / 2 * |v|^2. `threads` are `fixed` if they were
    asked for.
    """

    loss: str
    shape: float
    rank: int
    l2_weight: float
    l2_factor: float
    init_stdev: float
    adaptive: bool
    fit_intercept: bool
    epochs: int
    step: float
    schedule: str
    decay: float
    shuffle: bool
    seed: int
    threads: int
    fixed: bool
    reason: str = ""


@dataclass(frozen=True)
class Units:
    """What predictions and the loss's derivatives are measured in.

    With p of a prediction and d of a derivative, weights have the unit p, factors sqrt(p), and the
    derivatives by them d and d * sqrt(p).
    """

    prediction: float = 1.0
    derivative: float = 1.0

    @classmethod
    def of(cls, settings: Settings, spread: float) -> Units:
        """Return the units for targets of this standard deviation."""
        if settings.loss not in OF_NUMBERS or not (spread > 0 and math.isfinite(spread)):
            return cls()
        if settings.loss == "huber":
            return cls(spread, min(spread, settings.shape or spread))
        return cls(spread, spread if settings.loss.startswith("squared") else 1.0)

    @property
    def factor(self) -> float:
        """The unit of factors."""
        return math.sqrt(self.prediction)

    def steps(self, step: float, settings: Settings) -> tuple[float, float, float]:
        """Return the steps of intercept, weights and factors."""
        of_weights, of_factors = step * self.prediction, step * self.factor
        if not settings.adaptive:
            of_weights /= self.derivative
            of_factors /= self.derivative * self.factor
        return of_weights if settings.fit_intercept else 0.0, of_weights, of_factors

    @property
    def squares(self) -> tuple[float, float]:
        """Where the sums of squares of weights and factors begin."""
        return self.derivative**2, self.derivative**2 * self.prediction


@dataclass
class State:
    """One model: arrays of the native side, the intercept, and what is needed to go on.

    Attributes
    ----------
    rows : ndarray, flat
        Each column's factors, padded to lines of the cache, and if `adaptive` as many sums of
        squares.
    extra : ndarray, flat
        Each column's weight, and that weight's sum of squares.
    intercept, square : float
        And that of the intercept.
    epochs : int
        Trained for so far: the order of rows goes on from there.
    """

    columns: int
    rank: int
    adaptive: bool
    dtype: Any
    units: Units = Units()
    intercept: float = 0.0
    square: float = 0.0
    epochs: int = 0
    rows: np.ndarray = field(init=False, repr=False)
    extra: np.ndarray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        size = self.columns * (self.stride + 2.0) * np.dtype(self.dtype).itemsize
        memory.need(f"a factorization machine of {self.columns:,} columns", 2 * size)
        self.rows = aligned(self.columns * self.stride, self.dtype)
        self.extra = aligned(self.columns * 2, self.dtype)
        of_weights, of_factors = self.units.squares
        self.square = of_weights
        tiny = float(np.finfo(self.dtype).tiny)
        of_weights, of_factors = max(of_weights, tiny), max(of_factors, tiny)
        self.extra[0::2], self.extra[1::2] = 0, of_weights
        table = self.rows.reshape(self.columns, -1)
        table[:, : self.padded], table[:, self.padded :] = 0, of_factors

    @property
    def padded(self) -> int:
        """Factors of a column in memory."""
        line = _core.LINE_BYTES // np.dtype(self.dtype).itemsize
        return -(-self.rank // line) * line

    @property
    def stride(self) -> int:
        """Numbers of a column in `rows`."""
        return self.padded * (1 + self.adaptive)

    @property
    def weights(self) -> np.ndarray:
        """The weights, shape (columns,); a view."""
        return self.extra[0::2]

    @property
    def factors(self) -> np.ndarray:
        """The factors, shape (columns, rank); a view."""
        return self.rows.reshape(self.columns, self.stride)[:, : self.rank]

    def begin(self, counts: np.ndarray, stdev: float, rng: np.random.Generator) -> None:
        """Give columns that occur and have nothing yet normal random factors; others stay at 0."""
        stdev *= self.units.factor
        for first in range(0, self.columns, PIECE):
            part = self.factors[first : first + PIECE]
            drawn = rng.standard_normal(part.shape, self.dtype) * np.dtype(self.dtype).type(stdev)
            new = (counts[first : first + PIECE] > 0) & ~part.any(axis=1)
            new &= self.weights[first : first + PIECE] == 0
            part[new] = drawn[new]

    def penalty(self, counts: np.ndarray, settings: Settings) -> float:
        """Return the sum of counts * (l2_weight / 2 * w^2 + l2_factor / 2 * |v|^2)."""
        total = 0.0
        for first in range(0, self.columns, PIECE):
            part = slice(first, first + PIECE)
            v = self.factors[part].astype("f8")
            w = self.weights[part].astype("f8")
            each = settings.l2_factor * np.einsum("jf,jf->j", v, v) + settings.l2_weight * w * w
            total += float(counts[part] @ each) / 2
        return total

    def native(
        self, samples: _core.Samples, settings: Settings, trains: bool = True
    ) -> _core.FactorizationMachine:
        """Return the model on the native side, over these rows."""
        return _core.FactorizationMachine(
            samples, settings.loss, settings.shape, self.padded, self.rows, self.extra,
            self.adaptive, self.intercept, self.square, settings.shuffle, settings.seed, trains,
        )  # fmt: skip

    def keep(self, other: State) -> None:
        """Become a copy of another state of the same shape."""
        self.rows[:], self.extra[:] = other.rows, other.extra
        self.intercept, self.square, self.epochs = other.intercept, other.square, other.epochs

    def copy(self) -> State:
        """Return a copy."""
        new = State(self.columns, self.rank, self.adaptive, self.dtype, self.units)
        new.keep(self)
        return new

    def finite(self) -> bool:
        """Whether all numbers are finite."""
        sizes = [x for a in (self.rows, self.extra) for x in (a.min(), a.max())]
        return bool(np.isfinite([*sizes, self.intercept]).all())
