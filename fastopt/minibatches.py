"""Minibatches: rows of arrays in a new order for each epoch, no more copied than a batch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from fastopt.checks import count, flag

__all__ = ["Batches", "batches"]


class Batches:
    """What `batches` returns: each loop over it is an epoch, `len` of it the number of batches.

    Attributes
    ----------
    epoch : int
        The epoch that the next loop is, from 0; it may be set, to go on from where a run ended.
    n : int
        Rows of the data.
    """

    def __init__(
        self,
        data: Any,
        batch_size: int,
        shuffle: bool,
        seed: Any,
        drop_last: bool,
        replacement: bool,
        weights: Any,
        order: Any,
    ) -> None:
        self.data, self.batch_size = data, count("batch_size", batch_size, 1)
        self.shuffle, self.drop_last = flag("shuffle", shuffle), flag("drop_last", drop_last)
        self.replacement, self.order = flag("replacement", replacement), order
        self.n, self.epoch = _rows(data), 0
        self.weights = None if weights is None else _shares(weights, self.n)
        if order is not None and (replacement or weights is not None):
            raise ValueError("order: give no replacement and no weights with it")
        if order is not None and not callable(getattr(order, "order", None)):
            raise TypeError("order must have a method order(epoch, n)")
        if weights is not None and not replacement:
            raise ValueError("weights are those of a sample with replacement=True")
        if replacement and not shuffle:
            raise ValueError("replacement: a sample has no order, leave shuffle=True")
        self.entropy = np.random.SeedSequence(seed).entropy

    def indices(self, epoch: int) -> np.ndarray | None:
        """Return the rows of an epoch in their order, None where it is that of the data."""
        if self.order is not None:
            return _within(self.order.order(epoch, self.n), self.n)
        if not self.shuffle:
            return None
        rng = np.random.default_rng(np.random.SeedSequence(self.entropy, spawn_key=(epoch,)))
        if self.weights is not None:
            return rng.choice(self.n, self.n, p=self.weights)
        return rng.integers(0, self.n, self.n) if self.replacement else rng.permutation(self.n)

    def __len__(self) -> int:
        rows = self.n
        if self.order is not None:
            rows = len(self.indices(self.epoch))
        whole, rest = divmod(rows, self.batch_size)
        return whole + (rest > 0 and not self.drop_last)

    def __iter__(self) -> Iterator[Any]:
        indices, self.epoch = self.indices(self.epoch), self.epoch + 1
        rows = self.n if indices is None else len(indices)
        for start in range(0, rows, self.batch_size):
            stop = min(start + self.batch_size, rows)
            if self.drop_last and stop - start < self.batch_size:
                return
            if indices is None:
                yield _taken(self.data, slice(start, stop))
            else:
                yield _taken(self.data, indices[start:stop])


def batches(
    data: Any,
    batch_size: int,
    *,
    shuffle: bool = True,
    seed: int | None = None,
    drop_last: bool = False,
    replacement: bool = False,
    weights: Any = None,
    order: Any = None,
) -> Batches:
    """Return batches of rows; each loop over them is an epoch in a new order.

    Parameters
    ----------
    data : array, CSR, SciPy's csr, or tuple, list or mapping of such
        All with the same number of rows. Batches have the same structure.
    batch_size : int
        Rows in a batch, >= 1; the last one of an epoch may have less.
    shuffle : bool
        A new permutation for each epoch. Without, batches are views where they can be.
    seed : int, optional
        The same seed gives the same batches; epoch k has the same ones whether or not those before
        it were looked at.
    drop_last : bool
        Leave out a last batch that is not full.
    replacement : bool
        Draw n rows with replacement instead of a permutation.
    weights : array-like of shape (n,), optional
        How often each row is drawn with replacement, relative to the others.
    order : object, optional
        Its method `order(epoch, n)` returns the rows of each epoch in their order, not always all
        of them, such as a curriculum's.

    Returns
    -------
    Batches
        An iterable with a length; `epoch` counts the loops.

    Raises
    ------
    TypeError, ValueError
        Naming the argument.

    Examples
    --------
    >>> import numpy as np
    >>> import fastopt
    >>> X, y = np.arange(10.0).reshape(5, 2), np.arange(5)
    >>> rounds = fastopt.batches((X, y), 2, seed=0)
    >>> len(rounds), [len(y) for X, y in rounds]
    (3, [2, 2, 1])
    >>> sorted(np.concatenate([y for X, y in rounds]).tolist()), rounds.epoch
    ([0, 1, 2, 3, 4], 2)
    """
    return Batches(data, batch_size, shuffle, seed, drop_last, replacement, weights, order)


def _parts(data: Any) -> list[tuple[str, Any]]:
    """Return the arrays of data with what they are called in messages."""
    if isinstance(data, Mapping):
        return [(f"data[{name!r}]", part) for name, part in data.items()]
    if isinstance(data, (tuple, list)):
        return [(f"data[{k}]", part) for k, part in enumerate(data)]
    return [("data", data)]


def _rows(data: Any) -> int:
    """Return the number of rows, the same for all arrays."""
    parts, rows = _parts(data), []
    if not parts:
        raise ValueError("data has no arrays")
    for name, part in parts:
        shape = getattr(part, "shape", None)
        if not shape or not (hasattr(part, "__getitem__") or hasattr(part, "take")):
            raise TypeError(f"{name} must be an array or a sparse matrix with rows, got {part!r}")
        rows.append(int(shape[0]))
        if rows[-1] != rows[0]:
            raise ValueError(f"{name} has {rows[-1]} rows, {parts[0][0]} has {rows[0]}")
    return rows[0]


def _taken(data: Any, rows: slice | np.ndarray) -> Any:
    """Return some rows of each array, in the same structure."""
    if isinstance(data, Mapping):
        return {name: _taken(part, rows) for name, part in data.items()}
    if isinstance(data, (tuple, list)):
        return tuple(_taken(part, rows) for part in data)
    if hasattr(data, "indptr") and hasattr(data, "rows"):  # fastopt.CSR
        return data.rows(rows.start, rows.stop) if isinstance(rows, slice) else data.take(rows)
    return data[rows]


def _shares(weights: Any, n: int) -> np.ndarray:
    """Return the probability of each row."""
    shares = np.asarray(weights, np.float64)
    if shares.shape != (n,):
        raise ValueError(f"weights must have shape {(n,)}, got {shares.shape}")
    total = shares.sum()
    if not (shares >= 0).all() or not 0 < total < np.inf:
        raise ValueError("weights must be finite, not negative, and not all 0")
    return shares / total


def _within(indices: Any, n: int) -> np.ndarray:
    """Return what `order` returned, checked."""
    found = np.asarray(indices)
    if found.ndim != 1 or (found.dtype.kind not in "iu" and found.size):
        raise TypeError(f"order must return a vector of integers, got {indices!r}")
    if found.size and not (0 <= found.min() and found.max() < n):
        raise ValueError(f"order must return numbers in [0, {n})")
    return found.astype(np.intp, copy=False)
