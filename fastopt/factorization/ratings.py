"""Ratings of matrix completion: checked where they lie, then put into blocks once."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastopt import _core, memory
from fastopt.checks import count

LOSSES = _core.FACTOR_LOSSES

MOST_ROWS = 2**32 - 2**16  # places are 32 bits
BANDS = 32  # of users and of items: more than there are threads, so that all have work
MOST_BANDS = 128
NARROWEST = 16  # rows in a band: with fewer, neighbours too often wait for each other's row
FEW_BANDS = 8  # narrower ones rather than fewer
BLOCK_RATINGS = 4096  # blocks of fewer cost more than they bring
CACHE = 192 * 1024  # bytes: a band's factors stay in the second cache
ROW_BYTES = 60  # what dealing a row to its band takes meanwhile
SAMPLE = 1 << 21  # ratings that show how often rows occur
TYPES = ("f4", "f8", "i4", "i8")


class Ratings:
    """Checked ratings and their facts; nothing of their size is copied.

    Parameters
    ----------
    X : sparse matrix or array_like of int of shape (n, 2)
        A CSR, CSC or COO matrix whose stored entries are the ratings, or pairs (user, item).
    y : array_like of shape (n,), optional
        Ratings of pairs.
    shape : (int, int), optional
        Users and items; by default of the matrix, or one more than the largest of the pairs.
    least : (int, int)
        At least so many users and items of pairs, if `shape` is not given.
    seed : int
    held : float
        Share of the ratings that is held out.
    need_y : bool
        Whether pairs must come with y.
    values : bool
        Whether ratings matter at all.
    """

    def __init__(
        self,
        X: Any,
        y: Any,
        *,
        threads: int,
        shape: Any = None,
        least: tuple[int, int] = (1, 1),
        seed: int = 0,
        held: float = 0.0,
        need_y: bool = True,
        values: bool = True,
    ) -> None:
        if is_sparse(X):
            axes, rated, self.n, self.shape = _of_matrix(X, y, shape)
        else:
            axes, rated, self.n, self.shape = _of_pairs(X, y, shape, least, need_y)
        for size in self.shape:
            if size > MOST_ROWS:
                raise ValueError(f"shape must have at most {MOST_ROWS} users and items")
        if not values:
            rated = None
        if rated is not None and not (
            rated[1].dtype.str[1:] in TYPES and rated[1].dtype.isnative and rated[1].flags.aligned
        ):  # a copy, but of what is rare
            rated = rated[0], rated[1].astype("f4" if rated[1].dtype.itemsize < 3 else "f8")
        below = min(int(held * 2.0**64), 2**64 - 1)
        self.held = held
        self.threads = threads
        self.native = _core.Ratings(*axes, rated, self.n, self.shape, seed, below, threads)
        self.facts: dict[str, Any] = self.native.facts

    def mean(self) -> float:
        """Return the mean of the ratings that are not held out."""
        return self.facts["first"] + self.facts["sum"] / max(self.facts["n"], 1)

    def spread(self, around_zero: bool) -> float:
        """Return the standard deviation, or the root mean square; 1 if all ratings are 0."""
        f, n = self.facts, max(self.facts["n"], 1)
        variance = max(f["squares"] / n - (f["sum"] / n) ** 2, 0.0)
        size = math.sqrt(variance + (self.mean() ** 2 if around_zero else 0.0))
        return size if size > 1e-12 * max(abs(f["least"]), abs(f["most"]), 1e-30) else 1.0


def is_sparse(X: Any) -> bool:
    """Return whether X is meant as a sparse matrix."""
    return hasattr(X, "format") or hasattr(X, "indptr") or hasattr(X, "row")


def _of_matrix(X: Any, y: Any, shape: Any) -> tuple[Any, Any, int, tuple[int, int]]:
    form = getattr(X, "format", "csr" if hasattr(X, "indptr") else "coo")
    if form not in ("csr", "csc", "coo"):
        raise TypeError(f"X must be in CSR, CSC or COO form, got {form!r}: use X.tocsr()")
    if y is not None:
        raise ValueError("y must be None where X is a sparse matrix: its entries are the ratings")
    if len(X.shape) != 2:
        raise ValueError(f"X must have two dimensions, got shape {X.shape}")
    size = (int(X.shape[0]), int(X.shape[1]))
    if shape is not None and _shape(shape) != size:
        raise ValueError(f"X must have the shape {tuple(shape)}, got {size}")
    if form == "coo":
        n = len(X.data)
        axes = [("X.row", _array("X.row", X.row), False), ("X.col", _array("X.col", X.col), False)]
    else:
        n = min(len(X.indices), len(X.data))
        indptr = _array("X.indptr", X.indptr)
        n = min(n, max(int(indptr[-1]), 0)) if len(indptr) else 0
        at = _array("X.indices", X.indices)[:n]
        axes = [("X.indptr", indptr, True), ("X.indices", at, False)]
        if form == "csc":
            axes.reverse()
    data = _array("X.data", X.data)
    if data.dtype.kind not in "fiub":
        raise TypeError(f"X.data must be real numbers, got {data.dtype}")
    return axes, ("X.data", data), n, size


def _array(name: str, values: Any) -> np.ndarray:
    if not isinstance(values, np.ndarray):
        raise TypeError(f"{name} must be a numpy array")
    return values


def _shape(shape: Any) -> tuple[int, int]:
    try:
        users, items = shape
    except (TypeError, ValueError):
        raise TypeError(f"shape must be (users, items), got {shape!r}") from None
    return count("shape[0]", users, 1), count("shape[1]", items, 1)


def _of_pairs(
    X: Any, y: Any, shape: Any, least: tuple[int, int], need_y: bool
) -> tuple[Any, Any, int, tuple[int, int]]:
    for name, given in (("X", X), ("y", y)):
        if isinstance(given, np.ma.MaskedArray):
            raise TypeError(f"{name} is a masked array, whose mask would not be respected")
    pairs = np.asarray(X)
    if pairs.ndim != 2 or pairs.shape[1] != 2 or pairs.dtype.kind not in "iu":
        raise ValueError(
            "X must be a sparse matrix, or integers of shape (n, 2): a user and an item each; got "
            f"shape {pairs.shape} of {pairs.dtype}"
        )
    good = pairs.dtype.isnative and pairs.flags.aligned
    if pairs.dtype.str[1:] not in ("i4", "i8") or not good:
        pairs = pairs.astype("i8")
    if y is None and need_y:
        raise ValueError("y must have the rating of each pair of X")
    values = None
    if y is not None:
        rated = np.asarray(y)
        if rated.shape != pairs.shape[:1] or rated.dtype.kind not in "fiub":
            raise ValueError(
                f"y must be one number per pair of X, shape {pairs.shape[:1]}, got shape "
                f"{rated.shape} of {rated.dtype}"
            )
        values = ("y", rated)
    if shape is None:
        if not len(pairs):
            raise ValueError("X must have at least one pair, or shape must be given")
        users, items = (int(pairs[:, a].max()) + 1 for a in (0, 1))
        size = (max(users, least[0]), max(items, least[1]))
    else:
        size = _shape(shape)
    axes = [(f"X[:, {a}]", pairs[:, a], False) for a in (0, 1)]
    return axes, values, len(pairs), size


def check_values(facts: dict[str, Any], loss: str) -> tuple[float, float]:
    """Return factor and shift that make the ratings what the loss wants, or raise."""
    if loss in ("logistic", "hinge"):
        if facts["others"] or (facts["zeros"] and facts["minus_ones"]):
            raise ValueError(f"y must be all 0 or 1, or all -1 or +1, for {loss} loss")
        return (1.0, 0.0) if facts["minus_ones"] else (2.0, -1.0)
    if loss == "bpr" and facts["n"] and facts["least"] <= 0:
        raise ValueError("y must be above 0 for BPR: every entry is something that the user likes")
    return 1.0, 0.0


class Grid:
    """Users and items in bands of equal work, and the ratings in blocks."""

    def __init__(
        self, ratings: Ratings, *, loss: str, dtype: str, rank: int, seed: int, threads: int
    ) -> None:
        factor, shift = check_values(ratings.facts, loss)
        self.shape = ratings.shape
        self.bands = bands = how_many_bands(
            ratings.n, self.shape, rank * np.dtype(dtype).itemsize, loss == "bpr"
        )
        self.widths = tuple(-(-size // bands) for size in self.shape)
        self.sizes_of_model = tuple(bands * width for width in self.widths)
        rows = sum(self.shape)
        memory.need(f"a model of {rows:,} users and items", float(rows) * (ROW_BYTES + rank * 4))
        n, itemsize = ratings.n, 8 + np.dtype(dtype).itemsize
        memory.need(f"putting {n:,} ratings into blocks", float(n) * itemsize)
        counts = [np.zeros(size, "i8") for size in self.shape]
        ratings.native.count(max(1, n // SAMPLE), *counts)
        rng = np.random.default_rng(seed)
        places, sizes = zip(*(deal(c, bands, rng) for c in counts), strict=True)
        #: Where the model has the rows of users and of items.
        self.places: tuple[np.ndarray, np.ndarray] = places
        #: How many of the `widths` places of each band are used.
        self.sizes: tuple[np.ndarray, np.ndarray] = sizes
        parts = [
            _core.Blocks(
                ratings.native, bands, self.widths, places, sizes, dtype, factor, shift, held,
                threads,
            )
            for held in ((False, True) if ratings.held else (False,))
        ]  # fmt: skip
        self.blocks, self.held = parts[0], parts[-1] if ratings.held else None
        self.degrees = tuple(np.empty(size, "i8") for size in self.sizes_of_model)
        self.blocks.degrees(*self.degrees, threads)
        self.seen = self.items = None
        if loss == "bpr":
            self.seen = np.concatenate([[0], np.cumsum(self.degrees[0])])
            self.items = np.empty(self.seen[-1], "u4")
            self.blocks.items_of(self.seen, self.items, threads)


def how_many_bands(n: int, shape: tuple[int, int], row_bytes: int, even: bool) -> int:
    """Return in how many bands users and items are cut; threads do not matter, so nor do bits."""
    fewer = min(shape)
    cache = -(-fewer * row_bytes // CACHE)
    wide = max(fewer // NARROWEST, min(FEW_BANDS, fewer // 2))
    bands = min(max(BANDS, cache), math.isqrt(n // BLOCK_RATINGS), MOST_BANDS, wide)
    return max(1, bands // 2 * 2 if even else bands)


def deal(counts: np.ndarray, bands: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return a place for every row, and how many each band has.

    Rows are dealt out like cards, the most frequent first, there and back, so that all bands have
    the same number of ratings, and frequent rows lie together.
    """
    width = -(-len(counts) // bands)
    order = np.lexsort((rng.random(len(counts), np.float32), -counts))
    turn = np.arange(len(counts), dtype=np.int64)
    lap = turn // bands
    band = turn - lap * bands
    np.subtract(bands - 1, band, out=band, where=lap % 2 == 1)
    place = np.empty(len(counts), "u4")
    place[order] = band * width + lap
    return place, np.bincount(band, minlength=bands).astype("u4")
