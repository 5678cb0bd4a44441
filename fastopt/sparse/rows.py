"""The sparse side's input: rows in CSR form and the settings of a run, checked once."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastopt import _core, memory
from fastopt.checks import count, flag, number, one_of
from fastopt.sparse import contention, coordinate
from fastopt.sparse.order import check_order
from fastopt.sparse.user_loss import loss_of
from fastopt.threads import resolve, why_serial

LOSSES, SCHEDULES = _core.LOSSES, _core.SCHEDULES
#: Losses over all scores of a row, for a model of several classes.
MULTI_LOSSES = _core.MULTI_LOSSES
#: Losses of two classes, whose targets are -1 and +1.
OF_CLASSES = ("hinge", "logistic", "squared_hinge", "modified_huber", "perceptron")
#: The largest second derivative of a loss, 1 where it is not given or the loss is a user's.
CURVATURES = {
    "multinomial": 0.25,
    "logistic": 0.25,
    "squared_hinge": 2.0,
    "modified_huber": 2.0,
    "squared_epsilon_insensitive": 2.0,
}
MODES = ("auto", *_core.MODES)

CALM = 0.025  # what part of its way to a row's target a step may take to count as short
INTERCEPT = 0.002  # how far a row's derivative moves the intercept after an epoch, at least
LARGEST_DECAY = 0.1  # of l2 * step: more would shrink the weights to nothing within a block
WORKERS, ROUND_ROWS = 4, 4096  # in rounds, whatever the threads: at most so many, with so many rows
ROWS_PER_WORKER = 2048  # with fewer rows, a thread costs more than it brings
CURVATURE_ROWS = 2048  # rows that show how often columns occur, and how large values are
PROBE_ROWS = 1024  # at least so many rows try step sizes, and as many judge them


def column(name: str, values: Any, size: int, dtype: np.dtype, per: str = "row") -> np.ndarray:
    """Return one finite number per row (or column) of X, contiguous and of `dtype`."""
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


def targets(y: Any, rows: int, dtype: np.dtype, loss: str | _core.UserLoss) -> np.ndarray:
    """Return the targets: -1 or +1 if the loss is one of classes."""
    target = column("y", y, rows, dtype)
    if loss in OF_CLASSES and not (np.abs(target) == 1).all():
        raise ValueError(f"y must be -1 or +1 for loss={loss!r}")
    if loss == "poisson" and (target < 0).any():
        raise ValueError("y must not be negative for loss='poisson'")
    return target


def weights_of(
    sample_weight: Any, rows: int, dtype: np.dtype, relative: bool = True
) -> np.ndarray | None:
    """Return the weights; if `relative`, of mean 1: the objective is their weighted mean."""
    if sample_weight is None:
        return None
    weight = column("sample_weight", sample_weight, rows, np.dtype("f8"))
    if (weight < 0).any() or not weight.sum() > 0:
        raise ValueError("sample_weight must not be negative, and not all zero")
    return (weight * (rows / weight.sum()) if relative else weight).astype(dtype)


@dataclass(frozen=True)
class Settings:
    """Checked arguments of a run, apart from the data; `step` is None for "auto".

    The last ones are the estimators': `rate` of the schedule "inverse_time" (default l2 + l1),
    `power` of "power", `gain` of the intercept's step (default: as `hogwild`'s notes say),
    `aggressive` 1 or 2 for PA-I or PA-II, `plain_mean` for an average of all rows' models from the
    row `average_from` on, `most` for derivatives on one thread, and `relative` weights. `order` is
    a name, or has a method `order`.
    """

    loss: str | _core.UserLoss
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
    epsilon: float = 0.1
    quantile: float = 0.5
    l1: float = 0.0
    positive: bool = False
    rate: float | None = None
    power: float = 0.5
    gain: float | None = None
    aggressive: int = 0
    plain_mean: bool = False
    average_from: int = 0
    most: float = math.inf
    relative: bool = True
    order: Any = "auto"
    deterministic: bool = False
    optimizer: str = "sgd"
    max_norm: float | None = None

    @property
    def by_column(self) -> bool:
        """Whether the rule has a learning rate for each column."""
        return self.optimizer != "sgd"

    @property
    def serial(self) -> str:
        """What it is that one thread alone can do, or ""."""
        if self.by_column:
            return ""
        asked = {
            "an L1 penalty": self.l1 > 0,
            "positive weights": self.positive,
            "a bound on the norm": self.max_norm is not None,
            "a passive-aggressive step": self.aggressive > 0,
            "a shrinkage that large": self.step is not None and self.step * self.l2 > LARGEST_DECAY,
        }
        return next((name for name, wanted in asked.items() if wanted), "")

    @property
    def shape(self) -> float:
        """The loss's own number."""
        return self.quantile if self.loss == "quantile" else self.epsilon

    @classmethod
    def check(
        cls,
        *,
        loss: Any,
        l2: float,
        epochs: int,
        step: float | str,
        schedule: str | None,
        decay: float,
        mode: str,
        fit_intercept: bool,
        average: bool,
        threads: int | None,
        seed: int,
        shuffle: bool = True,
        epsilon: float = 0.1,
        quantile: float = 0.5,
        l1: float = 0.0,
        positive: bool = False,
        order: Any = "auto",
        deterministic: bool = False,
        optimizer: str = "sgd",
        max_norm: float | None = None,
        losses: tuple[str, ...] = LOSSES,
        **of_estimators: Any,
    ) -> Settings:
        """Return the settings, or raise naming the argument and what it may be."""
        if flag("deterministic", deterministic) and mode not in ("auto", "rounds", "serial"):
            raise ValueError(
                f"mode must be 'auto', 'rounds' or 'serial' with deterministic=True, got {mode!r}"
            )
        l2 = number("l2", l2, 0)
        if isinstance(step, str) and step != "auto":
            raise ValueError(f"step must be 'auto' or a positive number, got {step!r}")
        by_column = one_of("optimizer", optimizer, ("sgd", *coordinate.RULES)) != "sgd"
        if schedule is None:
            schedule = "constant" if by_column else "inverse_time"
        if by_column:
            coordinate.check(optimizer, schedule, mode, l1, positive, order)
        if max_norm is not None:
            max_norm = number("max_norm", max_norm, 0, open_below=True)
            if by_column or l1 or positive:
                raise ValueError("max_norm needs optimizer 'sgd', l1=0 and positive=False")
        most = LARGEST_DECAY / l2 if l2 and mode != "serial" and not by_column else math.inf
        return cls(
            loss=loss_of(loss, losses),
            l2=l2,
            epochs=count("epochs", epochs, 0),
            step=None if isinstance(step, str) else number("step", step, 0, most, open_below=True),
            schedule=one_of("schedule", schedule, SCHEDULES),
            decay=number("decay", decay, 0, 1, open_below=True),
            mode="rounds" if deterministic and mode == "auto" else one_of("mode", mode, MODES),
            fit_intercept=flag("fit_intercept", fit_intercept),
            average=flag("average", average),
            threads=resolve(None if threads is None else count("threads", threads, 1)),
            seed=count("seed", seed, 0) % (1 << 64),
            shuffle=flag("shuffle", shuffle),
            epsilon=number("epsilon", epsilon, 0),
            quantile=number("quantile", quantile, 0, 1),
            l1=number("l1", l1, 0),
            positive=flag("positive", positive),
            order=check_order(order),
            deterministic=bool(deterministic),
            optimizer=optimizer,
            max_norm=max_norm,
            **of_estimators,
        )


class Rows:
    """Checked rows in CSR form, with what is worked out once for all problems over them."""

    def __init__(self, X: Any, settings: Settings, sample_weight: Any = None) -> None:
        for name in ("data", "indices", "indptr", "shape"):
            if not hasattr(X, name):
                raise TypeError(
                    "X must be a sparse matrix in CSR form, with data, indices, "
                    f"indptr and shape; {type(X).__name__} has no {name}: use "
                    "scipy.sparse.csr_matrix(X)"
                )
        if getattr(X, "format", "csr") != "csr":
            raise TypeError(f"X must be in CSR form, got {X.format!r}: use X.tocsr()")
        if len(X.shape) != 2:
            raise ValueError(f"X must have two dimensions, got shape {X.shape}")
        for name in ("data", "indices", "indptr"):
            if not isinstance(getattr(X, name), np.ndarray):
                raise TypeError(f"X.{name} must be a numpy array")
        self.X, self.settings = X, settings
        self.dtype = X.data.dtype
        self.samples = _core.Samples(X.data, X.indices, X.indptr, tuple(X.shape), settings.threads)
        self.n = self.samples.rows
        self.weights = weights_of(sample_weight, self.n, self.dtype, settings.relative)
        self.mode, self.threads, self.reason = choose_mode(
            self.samples, settings.mode, settings.threads, settings.serial, settings.by_column
        )
        # Cache lines of blocks cost more to share than a thread brings, and more to merge.
        wide = 16 * self.samples.columns * self.threads > self.samples.nonzeros
        if settings.loss in MULTI_LOSSES and settings.mode == "auto" and self.threads > 1 and wide:
            self.mode, self.threads = "serial", 1
            self.reason = (
                f"blocks of {self.samples.columns} columns are too many to merge private copies "
                f"with {self.samples.nonzeros} non-zeros"
            )
        self.workers = self.threads
        if self.mode == "rounds":
            self.workers = workers_of(self.samples)
            self.threads = min(self.threads, self.workers)
        picked = np.arange(0, self.n, max(1, self.n // CURVATURE_ROWS))
        x = self._copied(picked)[0]
        with np.errstate(over="ignore", under="ignore"):
            squares = float(np.square(x, dtype=np.float64).sum())
        #: The mean square of the non-zeros. The intercept is trained as one more column, of the
        #: size of the others: one of ones next to small values would take all the noise.
        self.mean_square = squares / int(np.count_nonzero(x)) if squares > 0 else 1.0
        #: The mean squared norm of the rows.
        self.mean_norm = squares / len(picked)
        gain = self.mean_square if settings.gain is None else settings.gain
        if settings.gain is None and settings.step is None:
            # L2 bounds automatic steps; for small X to below what the intercept needs
            first = 1 / (self.mean_norm + self.mean_square) if self.mean_norm else 0.0
            gain *= max(1.0, first * settings.l2 / LARGEST_DECAY)
            # later steps are 1 / (l2 * rows), of which the intercept needs that much; a row's own
            # weights take up its square norm
            least = min(INTERCEPT * settings.l2 * self.n, self.mean_norm)
            gain = max(gain, least)
        if settings.by_column:  # whose steps are of the size of a weight
            gain = min(1.0, self.mean_square) if settings.step is None else 1.0
        self.gain = gain if settings.fit_intercept else 0.0
        self._curvature: tuple[np.ndarray, float] | None = None
        self._sparsity: dict[str, float] = {}
        self._probe: list[tuple[_core.Samples, np.ndarray]] | None = None

    def need_memory(self, problems: int = 1, width: int = 1) -> None:
        """Raise if the models do not fit: one per problem, and what training one takes.

        `width` is how many weights a model has for each column.
        """
        vectors = problems + 4  # the average, the best epoch, two to try steps
        vectors += (self.settings.l1 > 0) + self.settings.plain_mean
        vectors += 8 * self.settings.by_column  # states, and those of trying steps
        copies = {"copies": 2 * self.workers, "rounds": self.workers}.get(self.mode, 0)
        vectors += copies + (self.mode != "serial")
        size = float(vectors) * self.samples.columns * width * self.dtype.itemsize
        memory.need(f"training on {self.samples.columns:,} columns", size)

    def curvature(self) -> tuple[np.ndarray, float]:
        """Return a bound on the loss's curvature per column, and of the intercept.

        Of the bound |x_ij| * |x_i|_1 a tenth is taken: it measured best from 2 to 64 workers, and
        a thirtieth let sparse text diverge. The intercept's is its own, without other columns that
        move with it: it is merged so often that these stand still.
        """
        if self._curvature is None:
            stride = max(1, self.n // CURVATURE_ROWS)
            h = np.zeros(self.samples.columns, self.dtype)
            bend = CURVATURES.get(self.settings.loss, 1.0)
            self.samples.curvature(stride, math.sqrt(self.gain), h)
            h *= bend / 10 / -(-self.n // stride)
            h += self.settings.l2
            self._curvature = h, bend * self.gain
        return self._curvature

    def calm(self) -> float:
        """Return up to which length steps may be longer than the schedule's: see hogwild.c.

        So short that noise does not matter: with a tenth of a row's way w8a and a9a stood still.
        """
        bend = CURVATURES.get(self.settings.loss, 1.0) * self.mean_norm
        return CALM / bend if bend > 0 else 0.0

    def _copied(self, which: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return data, indices and row pointers of a matrix of these rows."""
        indptr = np.asarray(self.X.indptr)
        ends = np.zeros(len(which) + 1, np.int64)
        np.cumsum(indptr[which + 1] - indptr[which], out=ends[1:])
        data, indices = (np.empty(ends[-1], a.dtype) for a in (self.X.data, self.X.indices))
        self.samples.copy_rows(which.astype(np.int64, copy=False), ends, data, indices)
        return data, indices, ends

    def sparsity(self) -> dict[str, float]:
        """Return Omega, and Delta and rho as estimated from some rows."""
        if not self._sparsity:
            few = max(contention.FEW, contention.ELEMENTS * self.n // max(1, self.samples.nonzeros))
            picked = np.arange(0, self.n, -(-self.n // min(contention.ROWS, few)))
            _, indices, ends = self._copied(picked)
            longest = int(np.diff(np.asarray(self.X.indptr)).max())
            self._sparsity = contention.estimate(indices, ends, longest)
        return dict(self._sparsity)

    def probe(self) -> list[tuple[_core.Samples, np.ndarray]]:
        """Return two small samples of the rows, to try step sizes on: (rows in C, which rows)."""
        if self._probe is None:
            rng = np.random.default_rng(self.settings.seed)
            heavy = None  # the others teach nothing
            if self.weights is not None and not self.weights.all():
                heavy = np.flatnonzero(self.weights)
            n = self.n if heavy is None else len(heavy)
            size = min(2 * max(PROBE_ROWS, n // 64), n)
            chosen = rng.choice(n if heavy is None else heavy, size, replace=False)
            halves = (chosen, chosen) if n < 64 else np.array_split(chosen, 2)
            self._probe = []
            for which in halves:
                shape = len(which), self.samples.columns
                small = _core.Samples(*self._copied(which), shape, 1)
                self._probe.append((small, which))
        return self._probe


@dataclass(frozen=True)
class Targets:
    """What is to be learned of some rows: numbers y, or +1 where a code is `positive`, else -1.

    With `classes`, the code itself, by a model of so many classes.
    """

    rows: Rows
    y: np.ndarray | None = None
    codes: np.ndarray | None = None
    positive: int = 0
    classes: int = 0
    weights: np.ndarray | None = None  # in place of the rows' own

    def give(self, samples: _core.Samples, which: np.ndarray | None = None) -> None:
        """Give samples of the rows, by default all of them, their targets and weights."""
        given = [self.y, self.codes, self.rows.weights if self.weights is None else self.weights]
        y, codes, weights = (a if a is None or which is None else a[which] for a in given)
        samples.target(y, codes, self.positive, weights, self.classes)

    def order(self) -> str:
        """Return the order of rows: "turns" if neighbours have the same label more than by chance.

        64 rows of one class after the other would teach the model that class and no other.
        """
        order = self.rows.settings.order
        if order != "auto":
            return order if isinstance(order, str) else "given"
        if not self.rows.settings.shuffle:
            return "sequential"
        if self.classes:
            label = self.codes
            shares = np.bincount(label) / len(label)
        else:
            label = self.codes == self.positive if self.y is None else self.y > np.mean(self.y)
            share = np.count_nonzero(label) / len(label)
            shares = np.array([share, 1 - share])
        changes = np.count_nonzero(label[1:] != label[:-1])
        by_chance = (1 - np.square(shares).sum()) * (len(label) - 1)
        return "turns" if changes < 0.5 * by_chance else "blocks"


def choose_mode(
    samples: _core.Samples, mode: str, threads: int, serial: str = "", by_column: bool = False
) -> tuple[str, int, str]:
    """Return mode, threads, and why."""
    if mode == "serial":
        return "serial", 1, "asked for"
    if serial and (threads > 1 or mode == "rounds"):
        return "serial", 1, f"{serial} is for one thread"
    if mode == "rounds" and by_column:
        return "serial", 1, "the same bits for any threads; a rate for each column needs one then"
    if mode == "rounds":
        return choose_rounds(samples, threads)
    if mode == "hogbatch":  # which has a meaning on one thread
        return mode, 1 if why_serial(threads) else threads, "asked for"
    if why := why_serial(threads):
        return "serial", 1, why
    if mode != "auto":
        return mode, threads, "asked for"
    useful = min(threads, samples.rows // ROWS_PER_WORKER)
    if useful < 2:
        return "serial", 1, f"{samples.rows} rows are too few for more than one thread"
    if by_column:
        return "serial", 1, "a rate for each column: ask for mode 'shared' to use more threads"
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


def workers_of(samples: _core.Samples) -> int:
    """Return how many workers train in rounds: a number that depends on the rows alone."""
    affordable = samples.nonzeros // (8 * samples.columns)  # as for copies: merges stay small
    most = int(min(WORKERS, samples.rows // ROUND_ROWS, affordable))
    return 1 << (most.bit_length() - 1) if most else 1  # threads divide a power of two evenly


def choose_rounds(samples: _core.Samples, threads: int) -> tuple[str, int, str]:
    """Return mode, threads and why, the mode being the same for any number of threads."""
    workers = workers_of(samples)
    if workers < 2:
        what = "rows are too few" if samples.rows < 2 * ROUND_ROWS else "non-zeros are too few"
        return "serial", 1, f"the same bits for any threads; {what} to share, so it is one"
    return "rounds", threads, f"the same bits for any threads: {workers} workers merge in rounds"


def penalty_of(w: np.ndarray, settings: Settings) -> float:
    """Return what L2 and L1 add to the objective, in float64."""
    with np.errstate(over="ignore", under="ignore"):
        penalty = settings.l2 / 2 * float(np.square(w, dtype=np.float64).sum())
        penalty += settings.l1 * float(np.abs(w).sum(dtype=np.float64)) if settings.l1 else 0.0
    return penalty


def objective_of(
    samples: _core.Samples, w: np.ndarray, intercept: Any, settings: Settings, threads: int
) -> float:
    """Return the mean loss of all rows plus the penalty, in float64."""
    penalty = penalty_of(w, settings)
    loss = samples.loss(settings.loss, settings.shape, w, intercept, threads)
    return loss / samples.rows + penalty
