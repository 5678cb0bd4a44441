"""The order in which the runner visits rows: a name, row numbers, or a curriculum.

A checkpoint can hold an order that has a method `fingerprint`, which returns a string that says
what it is; what changes as training goes on is what its `state_dict` returns and `load_state_dict`
takes, if it has them.
"""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np

from fastopt.checks import one_of

NAMES = ("auto", "blocks", "turns", "shuffle", "sequential")


class Fixed:
    """The same rows in every epoch."""

    def __init__(self, rows: np.ndarray) -> None:
        self.rows = rows

    def order(self, epoch: int, n: int) -> np.ndarray:
        """Return the rows."""
        return self.rows

    def fingerprint(self) -> str:
        """Return what tells these rows from others."""
        return f"rows {zlib.crc32(np.ascontiguousarray(self.rows, np.int64))}"


class Kept:
    """An order of rows of which only some are trained on, numbered anew."""

    def __init__(self, source: Any, kept: np.ndarray) -> None:
        self.source, self.kept = source, kept
        self.number = np.cumsum(kept) - 1
        if hasattr(source, "update"):
            self.update = self._update
        if hasattr(source, "fingerprint"):
            self.fingerprint = lambda: f"{source.fingerprint()}, of {zlib.crc32(kept)}"
        for name in ("state_dict", "load_state_dict"):
            if hasattr(source, name):
                setattr(self, name, getattr(source, name))

    def order(self, epoch: int, n: int) -> np.ndarray:
        """Return those of the rows that are there."""
        rows = checked(self.source.order(epoch, len(self.kept)), len(self.kept))
        return self.number[rows[self.kept[rows]]]

    def _update(self, losses: np.ndarray) -> None:
        full = np.full(len(self.kept), np.inf)
        full[self.kept] = losses
        self.source.update(full)


def check_order(order: Any) -> Any:
    """Return a name, or an object with the method `order(epoch, n)`."""
    if order is None or isinstance(order, str):
        return one_of("order", order or "auto", NAMES)
    if callable(getattr(order, "order", None)):
        return order
    rows = np.asarray(order)
    if rows.dtype.kind not in "iu" or rows.ndim != 1:
        raise TypeError(
            f"order must be one of {', '.join(map(repr, NAMES))}, an array of row numbers, or have "
            f"a method order(epoch, n) as fastopt.Curriculum has; got {type(order).__name__}"
        )
    return Fixed(rows)


def checked(rows: Any, n: int) -> np.ndarray:
    """Return the rows of an epoch as contiguous int64, each from 0 to n - 1, at most n of them."""
    rows = np.asarray(rows)
    if rows.dtype.kind not in "iu" or rows.ndim != 1 or not 0 < len(rows) <= n:
        raise ValueError(
            f"order must give an array of 1 to {n} row numbers for an epoch, got shape "
            f"{rows.shape} of {rows.dtype}"
        )
    if rows.min() < 0 or rows.max() >= n:
        raise ValueError(f"order must give row numbers from 0 to {n - 1}")
    return np.ascontiguousarray(rows, np.int64)
