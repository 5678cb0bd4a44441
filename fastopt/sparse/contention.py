"""How much threads meet: the measures of the Hogwild! paper from a sample, and what was watched."""

from __future__ import annotations

import numpy as np

ROWS, FEW = 1024, 256  # that are looked at, at most and at least
ELEMENTS = 1 << 15  # of theirs, about: more would take longer than a pass over small data
CANDIDATES = 64  # rows whose neighbours are counted: a bit each


def estimate(indices: np.ndarray, ends: np.ndarray, longest: int) -> dict[str, float]:
    """Return Omega, Delta and rho (Niu, Recht, Re and Wright 2011) of a sample of rows.

    Parameters
    ----------
    indices, ends : ndarray
        Columns of the sampled rows, and row pointers.
    longest : int
        The most non-zeros of any row, sampled or not.

    Returns
    -------
    dict
        "omega" is `longest`. "delta": part of the sample that has the most frequent column. "rho":
        the largest part of it that shares a column with one row, of the 64 rows whose columns are
        the most frequent. "rows": the size of the sample.

    Examples
    --------
    >>> estimate(np.array([0, 1, 1, 2]), np.array([0, 2, 3, 4]), 2)
    {'omega': 2, 'delta': 0.666..., 'rho': 0.666..., 'rows': 3}
    """
    rows = len(ends) - 1
    found = {"omega": longest, "delta": 0.0, "rho": 0.0, "rows": rows}
    if not len(indices):
        return found
    if int(indices.max()) >= 16 * len(indices):  # numbered anew, or the tables would be large
        indices = np.unique(indices, return_inverse=True)[1].reshape(-1)
    indices = indices.astype(np.intp, copy=False)  # once, not at each use
    there = np.flatnonzero(np.diff(ends))
    starts = ends[there]
    degree = np.bincount(indices)
    bounds = np.add.reduceat(degree[indices], starts)
    most = np.argsort(-bounds, kind="stable")[:CANDIDATES]
    mask = np.zeros(len(degree), np.uint64)
    bits = np.left_shift(np.uint64(1), np.arange(len(most), dtype=np.uint64))
    columns = np.concatenate([indices[ends[there[k]] : ends[there[k] + 1]] for k in most])
    np.bitwise_or.at(mask, columns, np.repeat(bits, np.diff(ends)[there[most]]))
    met = np.bitwise_or.reduceat(mask[indices], starts)
    shared = int(np.unpackbits(met.view(np.uint8)).reshape(len(met), 64).sum(axis=0).max())
    return {**found, "delta": min(1.0, int(degree.max()) / rows), "rho": shared / rows}


def conflicts(watched: int, changed: int, overwritten: int) -> dict[str, float]:
    """Return what `HogwildResult.conflicts` says."""
    if not watched:
        return {}
    return {"watched": watched, "changed": changed / watched, "overwritten": overwritten / watched}
