"""Weighted graphs, seeds and costs for graph cuts: what is taken, checked once; needs numpy."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from fastopt import _core
from fastopt.checks import count, number

MOST_LABELS = _core.MOST_LABELS
#: Half of the neighbours of a pixel (rows down, columns right) and their distance.
NEIGHBOURS = {
    4: [(0, 1, 1.0), (1, 0, 1.0)],
    8: [(0, 1, 1.0), (1, 0, 1.0), (1, 1, math.sqrt(2)), (1, -1, math.sqrt(2))],
}


def image_graph(
    image: Any, *, sigma: float | None = None, connectivity: int = 4
) -> tuple[np.ndarray, np.ndarray]:
    """Return the edges between neighbouring pixels, heavy where the pixels are alike.

    Parameters
    ----------
    image : array_like of shape (height, width) or (height, width, channels)
        Finite numbers; uint8 is taken as it is, without dividing by 255.
    sigma : float, optional
        Of the weight exp(-|I_u - I_v|^2 / (2 sigma^2)) [1]_. By default the root mean square of
        the differences between neighbours, as in [2]_.
    connectivity : {4, 8}, default 4
        8 has diagonal neighbours too, their weights divided by sqrt(2).

    Returns
    -------
    edges : ndarray of shape (m, 2), int32 (int64 for more than 2^31 pixels)
        Pixel (i, j) is node i * width + j. Edges of a pixel lie together.
    weights : ndarray of shape (m,)
        float32 if the image is, else float64.

    Raises
    ------
    ValueError, TypeError
        Naming the argument.

    References
    ----------
    .. [1] Boykov, Jolly, "Interactive graph cuts for optimal boundary and region segmentation of
       objects in N-D images", 2001
    .. [2] Rother, Kolmogorov, Blake, "GrabCut", 2004

    Examples
    --------
    >>> import numpy as np, fastopt
    >>> edges, weights = fastopt.image_graph(np.array([[0.0, 0.0, 1.0]]), sigma=1.0)
    >>> edges.tolist(), weights.round(3).tolist()
    ([[0, 1], [1, 2]], [1.0, 0.607])
    """
    pixels = np.asarray(image)
    if pixels.dtype.kind not in "fiub" or pixels.ndim not in (2, 3) or 0 in pixels.shape:
        raise ValueError(
            "image must be numbers of shape (height, width) or (height, width, channels), got "
            f"shape {pixels.shape} of {pixels.dtype}"
        )
    if connectivity not in NEIGHBOURS:
        raise ValueError(f"connectivity must be one of 4, 8, got {connectivity!r}")
    dtype = np.dtype("f4" if pixels.dtype == np.float32 else "f8")
    pixels = pixels.astype(dtype).reshape(*pixels.shape[:2], -1)
    if not np.isfinite(pixels).all():
        raise ValueError("image must be finite")
    height, width = pixels.shape[:2]
    nodes = np.arange(height * width, dtype="i4" if height * width < 2**31 else "i8")
    nodes = nodes.reshape(height, width)
    ends, squares, distances = [], [], []
    for down, right, distance in NEIGHBOURS[connectivity]:
        here = np.s_[: height - down, max(0, -right) : width - max(0, right)]
        there = np.s_[down:, max(0, right) : width - max(0, -right)]
        ends.append(np.stack([nodes[here].ravel(), nodes[there].ravel()], axis=1))
        squares.append(np.square(pixels[here] - pixels[there], dtype="f8").sum(axis=2).ravel())
        distances.append(np.full(len(ends[-1]), distance))
    edges, square = np.concatenate(ends), np.concatenate(squares)
    if sigma is None:
        sigma = math.sqrt(square.mean()) if square.size and square.any() else 1.0
    else:
        sigma = number("sigma", sigma, 0, open_below=True)
    weights = np.exp(-square / (2 * sigma**2)) / np.concatenate(distances)
    order = np.argsort(edges[:, 0], kind="stable")
    return edges[order], weights[order].astype(dtype)


def edges_of(edges: Any, weights: Any) -> tuple[np.ndarray, np.ndarray, int | None]:
    """Return pairs of nodes, a weight for each, and the number of nodes if it is known."""
    if hasattr(edges, "tocoo"):
        if weights is not None:
            raise ValueError("weights must be None where edges is a sparse matrix, which has them")
        return from_matrix(edges)
    ends = np.asarray(edges)
    if ends.dtype.kind not in "iu" or ends.ndim != 2 or ends.shape[1] != 2:
        raise ValueError(
            "edges must be integers of shape (m, 2) or a sparse matrix, got shape "
            f"{ends.shape} of {ends.dtype}"
        )
    if not len(ends):
        raise ValueError("edges must be at least one, got an empty graph")
    if ends.dtype not in (np.int32, np.int64) or not ends.dtype.isnative:
        if ends.dtype.kind == "u" and ends.max() > np.iinfo(np.int64).max:
            raise ValueError(f"edges must have nodes below 2^63, got {ends.max()}")
        ends = ends.astype(np.int64)
    return np.ascontiguousarray(ends), weights_of(weights, len(ends)), None


def weights_of(weights: Any, size: int) -> np.ndarray:
    """Return one weight per edge; C checks their values."""
    if weights is None:
        return np.ones(size)
    values = np.asarray(weights)
    if values.dtype.kind not in "fiub" or values.shape != (size,):
        raise ValueError(
            f"weights must be one number per edge, shape ({size},), got shape {values.shape} of "
            f"{values.dtype}"
        )
    return np.ascontiguousarray(values, dtype="f4" if values.dtype == np.float32 else "f8")


def from_matrix(matrix: Any) -> tuple[np.ndarray, np.ndarray, int]:
    """Return the upper triangle of a symmetric adjacency matrix."""
    if len(matrix.shape) != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"edges must be a square matrix, got shape {matrix.shape}")
    coo = matrix.tocsr().tocoo()  # adds duplicates up
    row, column, data = np.asarray(coo.row), np.asarray(coo.col), np.asarray(coo.data)
    if (data[row == column] != 0).any():
        node = int(row[(row == column) & (data != 0)][0])
        raise ValueError(f"edges must join two different nodes; the matrix has {node}, {node}")
    sides = []
    for u, v in ((row, column), (column, row)):
        keep = (u < v) & (data != 0)
        order = np.lexsort((v[keep], u[keep]))
        sides.append([a[keep][order] for a in (u, v, data)])
    if not all(np.array_equal(a, b, equal_nan=True) for a, b in zip(*sides, strict=True)):
        raise ValueError("edges must be a symmetric matrix: use A + A.T, or np.maximum of both")
    u, v, weights = sides[0]
    if not len(u):
        raise ValueError("edges must be at least one, got an empty graph")
    return np.stack([u, v], axis=1), weights_of(weights, len(u)), int(matrix.shape[0])


class Problem:
    """A checked problem: the graph in C, which nodes are free, and what labels cost them."""

    def __init__(
        self,
        edges: Any,
        weights: Any,
        seeds: Any,
        costs: Any,
        n_nodes: int | None,
        n_labels: int | None,
    ) -> None:
        ends, self.weights, nodes = edges_of(edges, weights)
        self.dtype = self.weights.dtype
        if seeds is None and costs is None:
            raise ValueError("seeds or costs must be given: without them all nodes are alike")
        costs = None if costs is None else costs_of(costs)
        known = {
            "n_nodes": None if n_nodes is None else count("n_nodes", n_nodes, 1),
            "the matrix": nodes,
            "costs": None if costs is None else len(costs),
            "seeds": None if seeds is None or isinstance(seeds, Mapping) else np.size(seeds),
        }
        sizes = {name: size for name, size in known.items() if size is not None}
        if len(set(sizes.values())) > 1:
            told = ", ".join(f"{name}: {size}" for name, size in sizes.items())
            raise ValueError(f"seeds, costs and n_nodes must agree on the number of nodes; {told}")
        self.n = sizes.popitem()[1] if sizes else max(0, int(ends.max())) + 1
        self.seeds = seeds_of(seeds, self.n)
        self.labels = labels_of(n_labels, costs, self.seeds)
        self.width = 1 if self.labels == 2 else self.labels
        self.ends = ends.reshape(-1)
        self.edges = _core.Graph(self.ends, self.weights, self.n, self.width)
        self.m = len(ends)
        self.free = self.seeds < 0
        #: What a node pays for its shares, and what all pay whatever they are.
        self.costs, self.constant = costs, 0.0
        self.linear: np.ndarray | None = costs
        if costs is not None and self.width == 1:
            self.linear = np.ascontiguousarray(costs[:, 1:] - costs[:, :1])
            self.constant = float(costs[:, 0].sum())
        self.trivial = self.bound(None)

    def start(self) -> np.ndarray:
        """Return shares: those of the seeds, and equal ones elsewhere."""
        x = np.full((self.n, self.width), 1 / self.labels, self.dtype)
        seeded = np.flatnonzero(~self.free)
        if self.width == 1:
            x[seeded, 0] = self.seeds[seeded]
        else:
            x[seeded] = 0
            x[seeded, self.seeds[seeded]] = 1
        return x

    def objective(self, x: np.ndarray) -> float:
        """Return the value of shares x of shape (n, width)."""
        linear = 0.0 if self.linear is None else float((self.linear * x).sum())
        return self.edges.variation(x.reshape(-1)) + linear + self.constant

    def value(self, labels: np.ndarray) -> float:
        """Return the cut's weight plus the labels' costs."""
        chosen = 0.0
        if self.costs is not None:
            chosen = float(self.costs[np.arange(self.n), labels].sum())
        return self.edges.cut(labels) + chosen

    def bound(self, outflow: np.ndarray | None) -> float:
        """Return the lower bound that a flow proves: each node alone takes what is best for it."""
        price = np.zeros((self.n, self.width)) if outflow is None else outflow
        if self.linear is not None:
            price = price + self.linear
        seeded = np.flatnonzero(~self.free)
        if self.width == 1:
            total = np.minimum(price[self.free, 0], 0).sum()
            total += (price[seeded, 0] * self.seeds[seeded]).sum()
        else:
            total = price[self.free].min(axis=1).sum() if self.free.any() else 0.0
            total += price[seeded, self.seeds[seeded]].sum()
        return float(total) + self.constant


def costs_of(costs: Any) -> np.ndarray:
    """Return what each label costs each node, in float64."""
    values = np.asarray(costs)
    if values.dtype.kind not in "fiub" or values.ndim != 2 or not len(values):
        raise ValueError(
            f"costs must be numbers of shape (n_nodes, n_labels), got shape {values.shape} of "
            f"{values.dtype}"
        )
    values = np.ascontiguousarray(values, dtype="f8")
    if not (np.abs(values) <= 1e15).all():
        raise ValueError("costs must be in [-1e15, 1e15]: make a label certain with seeds")
    return values


def seeds_of(seeds: Any, nodes: int) -> np.ndarray:
    """Return a label per node, -1 where it is free."""
    given = np.full(nodes, -1, np.int32)
    if seeds is None:
        return given
    if not isinstance(seeds, Mapping):
        values = np.asarray(seeds)
        if values.dtype.kind not in "iu" or values.ndim != 1:
            raise ValueError(
                "seeds must be an integer per node, -1 for none, or a mapping from label to nodes, "
                f"got shape {values.shape} of {values.dtype}"
            )
        wrong = np.flatnonzero((values < -1) | (values >= MOST_LABELS))
        if len(wrong):
            raise ValueError(
                f"seeds must be labels in 0..{MOST_LABELS - 1} or -1; node {wrong[0]} has "
                f"{values[wrong[0]]}"
            )
        return values.astype(np.int32)
    for label, where in seeds.items():
        label = count("seeds: a label", label, 0)
        if label >= MOST_LABELS:
            raise ValueError(f"seeds must be labels in 0..{MOST_LABELS - 1}, got {label}")
        at = np.atleast_1d(np.asarray(where))
        if at.size == 0:
            continue
        if at.dtype.kind not in "iu" or at.ndim != 1 or at.min() < 0 or at.max() >= nodes:
            raise ValueError(f"seeds must be nodes in 0..{nodes - 1}; those of {label} are not")
        conflict = at[(given[at] >= 0) & (given[at] != label)]
        if len(conflict):
            raise ValueError(
                f"seeds must give a node one label; node {conflict[0]} has "
                f"{given[conflict[0]]} and {label}"
            )
        given[at] = label
    return given


def labels_of(n_labels: int | None, costs: np.ndarray | None, seeds: np.ndarray) -> int:
    """Return the number of labels."""
    seen = int(seeds.max(initial=-1)) + 1
    if n_labels is not None:
        labels = count("n_labels", n_labels, 2)
        if costs is not None and costs.shape[1] != labels:
            raise ValueError(f"costs must have n_labels = {labels} columns, got {costs.shape[1]}")
    else:
        labels = max(2, seen) if costs is None else costs.shape[1]
    if not 2 <= labels <= MOST_LABELS:
        raise ValueError(f"n_labels must be from 2 to {MOST_LABELS}, got {labels}")
    if seen > labels:
        raise ValueError(f"seeds must be labels in 0..{labels - 1} or -1, got {seen - 1}")
    return labels
