"""How sparse data is, in the measures of the Hogwild! paper, and what mode that suggests."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np

from fastopt import memory
from fastopt.data.csr import CSR
from fastopt.sparse.rows import choose_mode
from fastopt.threads import resolve

__all__ = ["Stats", "measure"]

HOT = 10  # columns listed
MOST_LABELS = 20  # different ones counted
AT_ONCE = 64  # rows whose neighbours are counted in one pass: a bit each
ROUNDS = 4


@dataclass(frozen=True)
class Stats:
    """Numbers about a data set; Omega, Delta and rho are those of Niu, Recht, Re and Wright (2011).

    Attributes
    ----------
    rows, columns, nnz : int
        Its size. `columns` counts all of them, `used_columns` those with a value.
    density : float
        nnz / (rows * columns).
    empty_rows, used_columns : int
        Rows without a value, columns with one.
    omega : int
        Most values of a row: the largest number of weights that a step touches.
    delta : float
        Part of the rows that have the most frequent column.
    rho : float
        Largest part of the rows that share a column with one row. Only the rows that may have it
        are counted out; `rho_exact` is False if it may be larger after all.
    rho_exact : bool
        Whether rho is certain.
    hot : list of tuple (int, float)
        The most frequent columns, and their parts of the rows.
    labels : dict
        "counts", a list of (label, rows), if there are at most 20 labels; else "min", "max",
        "mean"; "missing": rows without.
    weights : float or None
        Sum of the rows' weights, if there are any.
    mode, reason, threads
        What `fastopt.hogwild` would do, as `mode="auto"` finds it.
    """

    rows: int
    columns: int
    nnz: int
    density: float
    empty_rows: int
    used_columns: int
    omega: int
    delta: float
    rho: float
    rho_exact: bool
    hot: list[tuple[int, float]]
    labels: dict[str, Any]
    weights: float | None
    mode: str
    reason: str
    threads: int

    def as_dict(self) -> dict[str, Any]:
        """Return all of it, as JSON has it."""
        return asdict(self)


def measure(
    blocks: Callable[[], Iterable[tuple]], columns: int, threads: int | None = None
) -> Stats:
    """Return the statistics of the rows that `blocks()` yields as (X, y, weights), each time.

    Raises
    ------
    MemoryError
        If three numbers per column do not fit.
    """
    memory.need(f"statistics of {columns:,} columns", 24.0 * columns)
    degree = np.zeros(columns, np.int64)
    rows = nnz = omega = empty = 0
    labels, weights = Labels(), None
    for X, y, w in blocks():
        indices, indptr = distinct(X)
        sizes = np.diff(indptr)
        degree += np.bincount(indices, minlength=columns)
        rows += len(y)
        nnz += X.nnz
        omega = max(omega, int(sizes.max(initial=0)))
        empty += int(np.count_nonzero(sizes == 0))
        labels.add(y)
        if w is not None:
            weights = (weights or 0.0) + float(w.sum())
    largest = int(degree.max(initial=0))
    shared, exact = largest_neighbourhood(blocks, degree, rows)
    hot = np.argpartition(-degree, min(HOT, columns - 1))[:HOT]
    hot = hot[np.lexsort((hot, -degree[hot]))]
    mode, used, reason = "serial", 1, "there is nothing to train on"
    if rows and nnz:
        size = SimpleNamespace(rows=rows, columns=columns, nonzeros=nnz)
        mode, used, reason = choose_mode(size, "auto", resolve(threads))
    one = max(rows, 1)
    return Stats(
        rows, columns, nnz, nnz / (one * columns), empty, int(np.count_nonzero(degree)), omega,
        largest / one, shared / one, exact,
        [(int(k), float(degree[k] / one)) for k in hot if degree[k]], labels.summary(), weights,
        mode, reason, used,
    )  # fmt: skip


def distinct(X: CSR) -> tuple[np.ndarray, np.ndarray]:
    """Return indices and indptr with every column once per row (columns with fields may repeat)."""
    if X.fields is None or not X.nnz:
        return X.indices, X.indptr
    new = np.ones(X.nnz, bool)
    new[1:] = X.indices[1:] != X.indices[:-1]
    new[X.indptr[:-1][np.diff(X.indptr) > 0]] = True
    return X.indices[new], np.concatenate([[0], np.cumsum(new)])[X.indptr]


def per_row(
    reduce: np.ufunc, values: np.ndarray, indptr: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return `reduce` over each row's values, and which rows have any."""
    there = np.flatnonzero(np.diff(indptr))
    return reduce.reduceat(values, indptr[:-1][there]) if len(there) else values[:0], there


def largest_neighbourhood(
    blocks: Callable[[], Iterable[tuple]], degree: np.ndarray, rows: int
) -> tuple[int, bool]:
    """Return how many rows share a column with one, at most, and whether that is certain.

    A row has no more neighbours than its columns' degrees add up to. Rows are counted out from the
    largest such bound on, until no other can have more.
    """
    best = int(degree.max(initial=0))  # of any row with this column
    if best in (0, rows):
        return best, True
    keep = AT_ONCE * ROUNDS
    found: list[tuple[int, int, bytes]] = []  # bound, tie-breaker, columns
    number = 0
    for X, _, _ in blocks():
        indices, indptr = distinct(X)
        bounds, there = per_row(np.add, degree[indices], indptr)
        least = found[0][0] if len(found) > keep else best
        for k in np.flatnonzero(bounds > least).tolist():
            number += 1
            columns = indices[indptr[there[k]] : indptr[there[k] + 1]].astype(np.int64)
            entry = (int(bounds[k]), -number, columns.tobytes())
            if len(found) <= keep:
                heapq.heappush(found, entry)
            elif entry > found[0]:
                heapq.heapreplace(found, entry)
    # one more than can be counted: what its bound leaves open
    found.sort(reverse=True)
    mask = np.zeros(len(degree), np.uint64)
    for start in range(0, min(keep, len(found)), AT_ONCE):
        if found[start][0] <= best:
            return best, True
        chosen = found[start : min(start + AT_ONCE, keep)]
        mask[:] = 0
        for bit, (_, _, columns) in enumerate(chosen):
            mask[np.frombuffer(columns, np.int64)] |= np.uint64(1 << bit)
        counts = np.zeros(len(chosen), np.int64)
        for X, _, _ in blocks():
            met, _ = per_row(np.bitwise_or, mask[X.indices], X.indptr)
            for bit in range(len(chosen)):
                counts[bit] += np.count_nonzero(met & np.uint64(1 << bit))
        best = max(best, int(counts.max()))
        if best == rows:
            return best, True
    return best, len(found) <= keep or found[keep][0] <= best


class Labels:
    """Counts labels while there are few, and their range and mean."""

    def __init__(self) -> None:
        self.counts: dict[float, int] | None = {}
        self.n, self.missing, self.total = 0, 0, 0.0
        self.least, self.most = np.inf, -np.inf

    def add(self, y: np.ndarray) -> None:
        """Count some labels."""
        known = y[~np.isnan(y)]
        self.missing += len(y) - len(known)
        if not len(known):
            return
        self.n += len(known)
        self.total += float(known.sum())
        self.least = min(self.least, float(known.min()))
        self.most = max(self.most, float(known.max()))
        if self.counts is not None:
            for label, count in zip(*np.unique(known, return_counts=True), strict=True):
                self.counts[float(label)] = self.counts.get(float(label), 0) + int(count)
            if len(self.counts) > MOST_LABELS:
                self.counts = None

    def summary(self) -> dict[str, Any]:
        """Return what `Stats.labels` says."""
        found: dict[str, Any] = {"missing": self.missing}
        if self.counts is not None:
            found["counts"] = sorted(self.counts.items())
        if self.n:
            found |= {"min": self.least, "max": self.most, "mean": self.total / self.n}
        return found
