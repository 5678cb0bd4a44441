"""What a data set is read from: arrays in memory, or files of text and of tables."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastopt._core import Samples
from fastopt.data import parquet
from fastopt.data.builder import INT32_MAX
from fastopt.data.csr import CSR, DataError
from fastopt.data.reading import Reading
from fastopt.data.sources import Source, is_pipe, is_url, open_binary, stamp
from fastopt.threads import resolve

__all__ = ["Arrays", "Files", "Part"]

Rows = tuple[CSR, np.ndarray, "np.ndarray | None"]


@dataclass(frozen=True)
class Part:
    """A part of a data set.

    Attributes
    ----------
    path : str
        The file; "" for rows in memory or in the cache.
    start, stop : int
        Bytes of text, row groups of a Parquet file, or rows; `stop` is None for all the rest.
    first, rows : int or None
        The number of its first row in the data set, and of its rows, if they are known.
    """

    path: str
    start: int = 0
    stop: int | None = None
    first: int | None = None
    rows: int | None = None


class Arrays:
    """Rows in memory, checked; a dense array is turned into sparse rows where it is read."""

    def __init__(
        self, X: Any, y: Any, weights: Any, dtype: str, n_features: int | None, threads: int | None
    ):
        self.threads = resolve(threads)
        with np.errstate(over="ignore"):  # infinities are refused below
            X, self.dense = matrix(X, dtype)
        rows, columns = X.shape
        if n_features is not None and n_features < columns:
            raise ValueError(
                f"n_features must be at least {columns}, X's columns; got {n_features}"
            )
        self.n_features = n_features or max(1, columns)
        if not self.dense:
            X = CSR(X.data, X.indices, X.indptr, (rows, self.n_features), X.fields)
            if rows:
                Samples(X.data, X.indices, X.indptr, X.shape, self.threads)
        else:
            with np.errstate(over="ignore"):
                finite = np.isfinite(X.astype(dtype, copy=False)).all()
            if not finite:
                raise ValueError(f"X must be finite, also in {dtype}, which dtype= chooses")
        self.X, self.dtype, self.rows = X, dtype, rows
        self.y = numbers("y", y, rows)
        self.weights = numbers("sample_weight", weights, rows)
        if self.weights is not None and (self.weights < 0).any():
            raise ValueError("sample_weight must not be negative")
        if self.y is None:
            self.y = np.full(rows, np.nan)

    @property
    def entries(self) -> int:
        """Number of stored values."""
        if self.dense:
            return int(np.count_nonzero(self.X))
        return int(self.X.indptr[-1] - self.X.indptr[0])

    def part(self, start: int, stop: int) -> Arrays:
        """Return a range of the rows."""
        part = object.__new__(Arrays)
        part.__dict__.update(self.__dict__)
        part.X = self.X[start:stop] if self.dense else self.X.rows(start, stop)
        part.y = self.y[start:stop]
        part.weights = None if self.weights is None else self.weights[start:stop]
        part.rows = stop - start
        return part

    def take(self, start: int, stop: int) -> Rows:
        """Return some rows; they are views of the arrays unless these are dense."""
        X = sparse(self.X[start:stop], self) if self.dense else self.X.rows(start, stop)
        return X, self.y[start:stop], None if self.weights is None else self.weights[start:stop]


def matrix(X: Any, dtype: str) -> tuple[Any, bool]:
    """Return X as CSR or as a dense array of floating-point numbers, and whether it is dense."""
    if hasattr(X, "tocsr") and getattr(X, "format", "csr") != "csr":
        X = X.tocsr()
    if all(hasattr(X, name) for name in ("data", "indices", "indptr", "shape")):
        index = np.asarray(X.indices)
        if index.dtype not in (np.int32, np.int64):
            raise TypeError(f"X.indices must be int32 or int64, got {index.dtype}")
        return CSR(
            np.ascontiguousarray(X.data, dtype),
            np.ascontiguousarray(index),
            np.ascontiguousarray(X.indptr, np.int64),
            tuple(X.shape),
            getattr(X, "fields", None),
        ), False
    X = np.asarray(X)
    if X.ndim != 2 or X.dtype.kind not in "fiub":
        raise TypeError(
            f"X must be a sparse matrix or an array of numbers in two dimensions, got {X.ndim} of "
            f"{X.dtype}"
        )
    return X, True


def sparse(X: np.ndarray, store: Arrays) -> CSR:
    """Return the rows of a dense array without its zeros."""
    X = X.astype(store.dtype)
    there = X != 0
    indptr = np.concatenate([[0], np.cumsum(there.sum(axis=1), dtype=np.int64)])
    index = np.int32 if store.n_features <= INT32_MAX else np.int64
    indices = np.nonzero(there)[1].astype(index)
    return CSR(X[there], indices, indptr, (len(X), store.n_features))


def numbers(name: str, values: Any, rows: int) -> np.ndarray | None:
    """Return one float64 per row."""
    if values is None:
        return None
    values = np.asarray(values)
    if values.dtype.kind not in "fiub" or values.shape != (rows,):
        raise ValueError(
            f"{name} must be one number per row of X, shape ({rows},), got shape {values.shape} of "
            f"{values.dtype}"
        )
    values = np.ascontiguousarray(values, np.float64)
    if not np.isfinite(values).all():
        raise ValueError(f"{name} must be finite")
    return values


class Files:
    """Rows of text or tables, parsed anew whenever they are read.

    Attributes
    ----------
    reading : Reading
        How they are read; settled once that is known.
    parts : list of Part
        The files, or parts of them.
    entries : int or None
        The number of stored values, once it is known.
    """

    def __init__(
        self, paths: Sequence[str], reading: Reading, threads: int | None,
        on_progress: Callable[[int, int | None], Any] | None = None,
    ):  # fmt: skip
        self.paths, self.reading, self.threads = list(paths), reading, threads
        self.on_progress = on_progress
        self.entries: int | None = None
        self.parts = [Part(path) for path in paths]
        self.shift = 0  # what is to be added to the indices of the first pass
        self.seen: dict[str, list[Any]] = {}  # stamps of the files when they were first read

    def __getstate__(self) -> dict[str, Any]:
        paths = [path if is_url(path) else os.path.abspath(path) for path in self.paths]
        whole = dict(zip(self.paths, paths, strict=True))
        parts = [dataclasses.replace(part, path=whole[part.path]) for part in self.parts]
        # elsewhere, a copy has other times
        seen = {whole[path]: [found[1]] for path, found in self.seen.items()}
        changed = {"paths": paths, "parts": parts, "seen": seen, "on_progress": None}
        return {**self.__dict__, **changed}

    @property
    def lasting(self) -> bool:
        """Whether it can be read again: no pipe."""
        return not any(map(is_pipe, self.paths))

    @property
    def rows(self) -> int | None:
        """Number of rows, if it is known."""
        rows = [part.rows for part in self.parts]
        return None if None in rows else sum(rows)

    @property
    def n_features(self) -> int:
        """Number of columns; the reading must be settled."""
        return self.reading.n_features

    @property
    def dtype(self) -> str:
        """Type of the values."""
        return self.reading.dtype

    def stamps(self) -> list[list[Any]]:
        """Return what tells whether the files are the same as before."""
        return [stamp(path) for path in self.paths]

    def check(self, path: str) -> None:
        """Refuse a file that has changed since it was first read: its parts may begin within lines.

        Raises
        ------
        DataError
            If it has.
        """
        if is_pipe(path):
            return
        now = stamp(path)
        if not is_url(path):
            now = now[:3]  # the last one changes with rights and links, too
        known = self.seen.get(path)
        if known is None or known == [now[1]]:
            self.seen[path] = now
        elif known != now:
            problem = "the file has changed since it was first read; open the data set anew"
            raise DataError(path, 0, 0, problem)

    @contextlib.contextmanager
    def source(
        self, part: Part, report: Callable[[int, int | None], Any] | None
    ) -> Iterator[Source]:
        """Yield the text of a part, which is the same at the end as at the beginning."""
        self.check(part.path)
        with Source(part.path, report, part.start, part.stop) as opened:
            yield opened
        self.check(part.path)

    def first_pass(self, sink: Callable[[CSR, np.ndarray, Any], None] | None = None) -> None:
        """Parse everything once: hand the rows to `sink`, settle the reading, and find the parts.

        Where the first column's number is not known yet, `shift` is to be added to the indices of
        all rows in the end, and X.shape[1] means nothing before.
        """
        parts: list[Part] = []
        row = entries = 0
        for part, X, y, weights in self.provisional():
            if sink:
                sink(X, y, weights)
            if part:
                parts.append(dataclasses.replace(part, first=row, rows=0))
            parts[-1] = dataclasses.replace(parts[-1], rows=parts[-1].rows + len(y))
            row += len(y)
            entries += X.nnz
        self.entries, self.parts = entries, parts

    def provisional(self) -> Iterator[tuple]:
        """Yield (part, X, y, weights); no part where a block belongs to the last one."""
        if self.reading.format == "parquet":
            for part in self.parts:
                for k in group_range(part):
                    group = Part(part.path, k, k + 1)
                    for block in self.read(group, None):
                        yield (group, *block)
                        group = None
            return
        builder = self.reading.builder(self.threads)
        done = Progress(self.paths, self.on_progress)
        for part in self.parts:
            with self.source(part, done.of(part.path)) as opened:
                builder.open(opened.name, at_start=part.start == 0)
                start = 0
                for _ in opened.stream(builder):
                    if opened.local and opened.size and not opened.packed:
                        end = min(part.start + builder.bytes, part.stop or opened.size)
                        found = Part(part.path, part.start + start, end)
                        start = builder.bytes
                    else:
                        found = part if start == 0 else None
                    if builder.rows:
                        X, y, _, weights = builder.block(0, builder.rows, copy=False)
                        yield found, X, y, weights
                        start = builder.bytes
                        builder.drop(builder.rows)
        zero_based, n_features, self.shift = builder.settled()
        self.reading = self.reading.settle(n_features, zero_based)

    def read(self, part: Part, block_rows: int | None) -> Iterator[Rows]:
        """Yield the rows of a part."""
        if self.reading.format == "parquet":
            self.check(part.path)
            yield from parquet.blocks(
                part.path, self.reading.schema, self.dtype, group_range(part), block_rows
            )
            self.check(part.path)
            return
        builder = self.reading.builder(self.threads)
        with self.source(part, None) as opened:
            builder.open(opened.name, at_start=part.start == 0)
            for X, y, _, weights in opened.blocks(builder, block_rows):
                yield X, y, weights

    def whole(self) -> Rows:
        """Return all rows, in memory."""
        if self.reading.format == "parquet":
            blocks = [block for part in self.parts for block in self.read(part, None)]
            return join(blocks, self.n_features, self.reading.dtype)
        builder = self.reading.builder(self.threads)
        done = Progress(self.paths, self.on_progress)
        for part in self.parts:
            with self.source(part, done.of(part.path)) as opened:
                builder.open(opened.name, at_start=part.start == 0)
                opened.read(builder)
        if not self.reading.settled:
            zero_based, n_features, _ = builder.settled()
            self.reading = self.reading.settle(n_features, zero_based)
        X, y, _, weights = builder.finish()
        return dataclasses.replace(X, shape=(X.shape[0], self.n_features)), y, weights

    def of(self, parts: Sequence[Part]) -> Files:
        """Return some of its parts."""
        found = object.__new__(Files)
        found.__dict__.update(self.__dict__)
        found.parts, found.entries = list(parts), None
        return found

    def cut(self, n: int, numbered: bool) -> list[Files]:
        """Return n parts of about equal size, of whole rows; some may be empty.

        Where rows must stay `numbered`, the parts that are known are not cut again.
        """
        parts = self.parts
        if self.reading.format == "parquet" and not numbered:
            parts = [Part(part.path, k, k + 1) for part in parts for k in group_range(part)]
        sizes = [None if self.reading.format == "parquet" else size_of(part) for part in parts]
        if numbered or None in sizes:  # cannot be cut
            return [self.of(parts[a:b]) for a, b in shares(len(parts), n)]
        ends = np.cumsum([0, *sizes])
        shards: list[list[Part]] = [[] for _ in range(n)]
        for k, part in enumerate(parts):
            end = part.start + sizes[k]
            wanted = [int(ends[-1]) * i // n - int(ends[k]) + part.start for i in range(1, n)]
            inner = [at for at in wanted if part.start < at < end]
            quoted = self.reading.schema is not None
            cuts = [part.start, *line_starts(part.path, part.start, inner, quoted), end]
            shard = sum(at <= part.start for at in wanted)
            for a, b in itertools.pairwise(cuts):
                if a < b:
                    shards[shard].append(Part(part.path, a, b))
                shard += 1
        return [self.of(parts) for parts in shards]


class Progress:
    """Reports the bytes read from all files together."""

    def __init__(self, paths: Sequence[str], report: Callable[[int, int | None], Any] | None):
        self.report, self.done = report, dict.fromkeys(paths, 0)
        sizes = [os.path.getsize(p) for p in paths if not is_url(p) and os.path.isfile(p)]
        self.total = sum(sizes) if len(sizes) == len(paths) else None

    def of(self, path: str) -> Callable[[int, int | None], Any] | None:
        """Return what reports the progress in one of the files."""
        if self.report is None:
            return None

        def report(done: int, size: int | None) -> None:
            self.done[path] = done
            self.report(sum(self.done.values()), self.total)

        return report


def group_range(part: Part) -> range:
    """Return the numbers of a part's row groups."""
    stop = len(parquet.group_rows(part.path)) if part.stop is None else part.stop
    return range(part.start, stop)


def shares(count: int, n: int) -> list[tuple[int, int]]:
    """Return n ranges that make up 0 to count - 1."""
    return [(count * k // n, count * (k + 1) // n) for k in range(n)]


def size_of(part: Part) -> int | None:
    """Return the bytes of plain text that can be cut, None for what is compressed or endless."""
    if part.stop is not None:
        return part.stop - part.start
    with Source(part.path) as opened:
        next(iter(opened.unpacked()), None)
        return None if opened.packed else opened.size


def line_starts(path: str, start: int, places: Sequence[int], quoted: bool) -> list[int]:
    """Return where the next record begins at or behind each of some increasing places.

    In a table, newlines inside quotes end none, which takes a look at all bytes from `start` on,
    where a record begins.
    """
    found, block = [], 1 << 20
    if not places:
        return found
    with open_binary(path) as file:
        if not quoted:
            for at in places:
                file.seek(at - 1)
                file.readline()
                found.append(file.tell())
            return found
        file.seek(start)
        done, quotes, left = start, 0, list(places)
        while left and (piece := file.read(block)):
            counted = 0
            while left and left[0] - 1 < done + len(piece):
                end = piece.find(b"\n", max(left[0] - 1 - done, counted))
                while end >= 0:
                    quotes += piece.count(b'"', counted, end)
                    counted = end
                    if quotes % 2 == 0:
                        break
                    end = piece.find(b"\n", end + 1)
                if end < 0:
                    break  # in the next piece
                found.append(done + end + 1)
                left.pop(0)
            quotes += piece.count(b'"', counted)
            done += len(piece)
        found += [done] * len(left)
    return found


def join(blocks: Sequence[Rows], n_features: int, dtype: str) -> Rows:
    """Return blocks of rows as one."""
    index = np.result_type(np.int32, *(X.indices.dtype for X, _, _ in blocks))
    counts = [np.diff(X.indptr) for X, _, _ in blocks]
    indptr = np.concatenate([[0], np.cumsum(np.concatenate([np.empty(0, np.int64), *counts]))])
    fields = [X.fields for X, _, _ in blocks]
    X = CSR(
        np.concatenate([np.empty(0, dtype), *(X.data for X, _, _ in blocks)]),
        np.concatenate([np.empty(0, index), *(X.indices for X, _, _ in blocks)]),
        indptr.astype(np.int64),
        (len(indptr) - 1, n_features),
        np.concatenate(fields) if fields and all(f is not None for f in fields) else None,
    )
    y = np.concatenate([np.empty(0), *(y for _, y, _ in blocks)])
    weights = None
    if any(w is not None for _, _, w in blocks):
        weights = np.concatenate([np.ones(len(y)) if w is None else w for _, y, w in blocks])
    return X, y, weights
