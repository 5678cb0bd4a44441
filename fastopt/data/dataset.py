"""A data set: rows that are read block by block, again and again."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastopt.checks import count, number
from fastopt.data import cache as cache_module
from fastopt.data import sparsity
from fastopt.data.cache import Cache
from fastopt.data.csr import CSR, DataError
from fastopt.data.stores import Arrays, Files, Part, join, shares

__all__ = ["Dataset"]

Rows = tuple[CSR, np.ndarray, "np.ndarray | None"]
BLOCK_ENTRIES = 1 << 20  # stored values of a block, if the number of rows is left open
LEAST_BLOCK, MOST_BLOCK = 1 << 10, 1 << 18  # rows of it
STRATUM = 4096  # rows of which a part is held out


@dataclass(frozen=True)
class Keep:
    """A random choice among `rows` rows: in every run of 4,096, `fraction` of them, or the rest."""

    fraction: float
    seed: int
    depth: int  # of splits of splits, which are to be independent
    rows: int
    held: bool

    def mask(self, first: int, count: int) -> np.ndarray:
        """Return which of the rows from `first` on are chosen."""
        found = np.zeros(count, bool)
        for k in range(first // STRATUM, -(-(first + count) // STRATUM)):
            start = k * STRATUM
            size = min(STRATUM, self.rows - start)
            a, b = (int(row * self.fraction + 0.5) for row in (start, start + size))
            chosen = np.random.default_rng([self.seed, self.depth, k]).permutation(size)[: b - a]
            at = chosen + (start - first)
            found[at[(at >= 0) & (at < count)]] = True
        return found == self.held


class Dataset:
    """Rows that can be read again and again, block by block; what `open_data` returns.

    Nothing is read before it is needed. Iterating over it is `blocks()`. It can be pickled: files
    and caches by their path, arrays with what they hold.

    Attributes
    ----------
    n_rows, n_features, nnz : int
        Number of rows, columns and stored values.
    shape : tuple of int
        (n_rows, n_features).
    dtype : numpy.dtype
        Type of the values.
    format : str
        The format, "arrays" for arrays.
    zero_based : bool
        Whether columns count from 0 in the source.
    reading : dict
        How the source is read, as JSON has it.
    """

    def __init__(
        self, store: Any, *, block_rows: int | None, cache: str | None,
        keeps: tuple[Keep, ...] = (), base: int = 0,
    ):  # fmt: skip
        self._store, self._block_rows, self._cache = store, block_rows, cache
        self._keeps, self._base = keeps, base

    def _ready(self) -> Any:
        """Return what rows are read from, with a cache if there is to be one."""
        if self._cache is not None and isinstance(self._store, Files):
            self._store = cached(self._store, self._cache)
        return self._store

    def _known(self) -> Any:
        """Return the same, with the number of rows and columns."""
        store = self._ready()
        if isinstance(store, Files) and not (store.rows is not None and store.reading.settled):
            if not store.lasting:
                raise ValueError(
                    f"{store.paths[0]} can be read only once: use to_csr(), or give n_features and "
                    "zero_based"
                )
            store.first_pass()
        return store

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        store = self._known()
        if not self._keeps:
            return store.rows
        return sum(int(mask.sum()) for mask in self._masks(store))

    def _masks(self, store: Any) -> Iterator[np.ndarray]:
        parts = store.parts if isinstance(store, Files) else [Part("", 0, None, 0, store.rows)]
        for part in parts:
            for start in range(0, part.rows, 1 << 20):
                first = self._base + part.first + start
                yield self._mask(first, min(1 << 20, part.rows - start))

    def _mask(self, first: int, count: int) -> np.ndarray:
        mask = np.ones(count, bool)
        for keep in self._keeps:
            mask &= keep.mask(first, count)
        return mask

    @property
    def n_features(self) -> int:
        """Number of columns."""
        store = self._ready()
        settled = not isinstance(store, Files) or store.reading.settled
        return (store if settled else self._known()).n_features

    @property
    def nnz(self) -> int:
        """Number of stored values."""
        store = self._known()
        if not self._keeps and store.entries is not None:
            return store.entries
        return sum(X.nnz for X, _, _ in self.blocks())

    @property
    def shape(self) -> tuple[int, int]:
        """(n_rows, n_features)."""
        return self.n_rows, self.n_features

    @property
    def dtype(self) -> np.dtype:
        """Type of the values."""
        return np.dtype(self._store.dtype)

    @property
    def format(self) -> str:
        """The format of the source."""
        return self.reading["format"]

    @property
    def reading(self) -> dict[str, Any]:
        """How the source is read: format, dtype, n_features, zero_based, hash_bits, schema."""
        store = self._store
        if isinstance(store, Arrays):
            return {"format": "arrays"}
        return store.reading.key() if isinstance(store, Files) else store.about["reading"]

    @property
    def zero_based(self) -> bool:
        """Whether columns count from 0 in the source."""
        store = self._ready()
        if isinstance(store, Files):
            return (store if store.reading.settled else self._known()).reading.zero_based
        return True if isinstance(store, Arrays) else store.about["zero_based"]

    def __repr__(self) -> str:
        store = self._store
        what = "arrays" if isinstance(store, Arrays) else getattr(store, "path", None)
        if what is None:
            more = f" and {len(store.paths) - 1} more" if len(store.paths) > 1 else ""
            what = f"{store.paths[0]}{more}"
        size = "not read yet"
        if store.rows is not None and not self._keeps:
            size = f"{store.rows:,} rows × {store.n_features:,} columns"
        elif store.rows is not None:
            size = f"a part of {store.rows:,} rows × {store.n_features:,} columns"
        return f"<fastopt.Dataset of {what}: {size}>"

    def __iter__(self) -> Iterator[Rows]:
        return self.blocks()

    def blocks(self, seed: int | None = None, epoch: int = 0) -> Iterator[Rows]:
        """Yield the rows, a block at a time.

        Parameters
        ----------
        seed : int, default None
            Shuffles the order of the blocks; None keeps the order of the data.
        epoch : int, default 0
            Number of the pass: each has an order of its own.

        Yields
        ------
        X : CSR of shape (rows of the block, n_features)
            From a cache or from CSR arrays, `data` and `indices` are views.
        y : ndarray of float64
            Labels; NaN where the source has none.
        weights : ndarray of float64, or None
            Weights of the rows, where the source has any.

        Raises
        ------
        DataError
            At the first malformed line, or where a cache is damaged.
        """
        random = None
        if seed is not None:
            random = np.random.default_rng([count("seed", seed, 0), count("epoch", epoch, 0)])
        store = self._ready()
        if isinstance(store, Files):
            if random is not None or self._keeps or not store.reading.settled:
                store = self._known()
            parts = list(store.parts)
        else:
            rows = self._block_rows
            if rows is None and store.rows:
                rows = int(BLOCK_ENTRIES * store.rows / max(1, store.entries))
                rows = min(MOST_BLOCK, max(LEAST_BLOCK, rows))
            starts = range(0, store.rows, rows or 1)
            parts = [Part("", at, min(at + rows, store.rows), at) for at in starts]
        if random is not None:
            parts = [parts[k] for k in random.permutation(len(parts))]
        for part in parts:
            row = self._base + (part.first or 0)
            blocks = (
                store.read(part, self._block_rows)
                if isinstance(store, Files)
                else [store.take(part.start, part.stop)]
            )
            for X, y, weights in blocks:
                if self._keeps:
                    mask = self._mask(row, len(y))
                    row += len(y)
                    chosen = np.flatnonzero(mask)
                    if not len(chosen):
                        continue
                    if len(chosen) < len(y):
                        X, y = X.take(chosen), y[chosen]
                        weights = None if weights is None else weights[chosen]
                yield X, y, weights

    def to_csr(self) -> Rows:
        """Return all rows as one matrix, labels, and weights or None.

        From a cache the matrix is mapped into memory, whatever its size, so that training on it
        reads from the disk what the memory does not hold; else everything is loaded.
        """
        store = self._ready()
        if self._keeps:
            return join(list(self.blocks()), self.n_features, str(self.dtype))
        return store.whole() if isinstance(store, Files) else store.take(0, store.rows)

    def split(self, fraction: float = 0.1, seed: int = 0) -> tuple[Dataset, Dataset]:
        """Return two data sets: the rows without a random part, and that part.

        In every run of 4,096 rows `fraction` of them are chosen; the same rows whatever the blocks,
        the cache and the machine. Blocks of the two are copies.

        Parameters
        ----------
        fraction : float, default 0.1
            Size of the part, between 0 and 1; it has round(fraction * n_rows) rows.
        seed : int, default 0
            Chooses the rows.
        """
        fraction = number("fraction", fraction, 0, 1)
        seed = count("seed", seed, 0)
        rows = self._base + self._known().rows
        parts = []
        for held in (False, True):
            keep = Keep(fraction, seed, len(self._keeps), rows, held)
            parts.append(self._with(self._store, keeps=(*self._keeps, keep), base=self._base))
        return parts[0], parts[1]

    def _with(self, store: Any, *, keeps: tuple[Keep, ...], base: int) -> Dataset:
        cache = self._cache if isinstance(store, Files) else None
        return Dataset(store, block_rows=self._block_rows, cache=cache, keeps=keeps, base=base)

    def shards(self, n: int) -> list[Dataset]:
        """Return n data sets that have the rows between them, to be read anywhere.

        They are small when they are pickled: a path and rows of the cache, or with `cache=False` a
        path and bytes of text or row groups of a Parquet file, whole files if these are compressed.
        `describe()` says which. Some are empty if there is less to share out.

        Parameters
        ----------
        n : int
            How many.
        """
        n = count("n", n, 1)
        store = self._ready()
        if isinstance(store, Files):
            if self._keeps or not store.reading.settled:
                store = self._known()
            files = store.cut(n, bool(self._keeps))
            made = [self._with(part, keeps=self._keeps, base=self._base) for part in files]
            for shard in made:
                shard._cache = None
            return made
        return [
            self._with(store.part(a, b), keeps=self._keeps, base=self._base + a)
            for a, b in shares(store.rows, n)
        ]

    def describe(self) -> list[dict[str, Any]]:
        """Return what the rows are read from, as it is now: of each part its path and range.

        The range is called "bytes" in text, "row_groups" in Parquet files and "rows" in caches and
        arrays; in files as a whole there is none.
        """
        store = self._store
        if isinstance(store, Cache):
            return [{"path": store.path, "rows": (store.first, store.stop)}]
        if isinstance(store, Arrays):
            return [{"path": None, "rows": (self._base, self._base + store.rows)}]
        what = "row_groups" if store.reading.format == "parquet" else "bytes"
        return [
            {"path": part.path, **({what: (part.start, part.stop)} if part.stop else {})}
            for part in store.parts
        ]

    def stats(self, threads: int | None = None) -> sparsity.Stats:
        """Return rows, columns, density, Omega, Delta and rho; see `fastopt.sparsity.Stats`.

        Takes one to five passes over the data, and memory for three numbers per column.

        Parameters
        ----------
        threads : int, default None
            For how many threads a mode is suggested; None is the default of the package.
        """
        return sparsity.measure(self.blocks, self.n_features, threads)


def cached(files: Files, path: str) -> Cache:
    """Return the cache of some files, which is written if it is not there or not up to date."""
    stamps, key = files.stamps(), files.reading.key()
    try:
        found = Cache(path, files.threads)
        if found.about.get("sources") == stamps and found.about.get("reading") == key:
            return found
    except FileNotFoundError:
        pass
    except DataError as error:
        if "damaged" in error.problem:
            warnings.warn(f"{error}; written anew now", RuntimeWarning, stacklevel=4)
    try:
        with cache_module.writing(path, files.dtype) as writer:
            files.first_pass(writer.add)
            if files.stamps() != stamps:
                raise DataError(files.paths[0], 0, 0, "the data has changed while it was read")
            about = {"sources": stamps, "reading": key, "zero_based": files.reading.zero_based}
            writer.finish(files.n_features, files.shift, about)
    except PermissionError as error:
        advice = "give cache= another path, or False"
        raise PermissionError(error.errno, f"cache: {error.strerror}; {advice}", path) from None
    found = Cache(path, files.threads)
    if found.about.get("reading") != key or found.about.get("sources") != stamps:
        problem = "another process writes this cache with other options; give each its own cache="
        raise DataError(path, 0, 0, problem)
    return found
