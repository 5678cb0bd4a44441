"""Graph cuts: against maximum flows, all labelings, the formulas, and what is refused."""

from __future__ import annotations

import itertools
import pickle
import signal
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from scipy.sparse.csgraph import maximum_flow

import fastopt
from fastopt import _core
from fastopt.graphcut import cuts, rounding
from fastopt.graphcut.graphs import Problem


def random_graph(n, m, seed, top=20):
    """Random edges, each pair once, with integer weights, and a few seeds of two labels."""
    r = np.random.default_rng(seed)
    pairs = np.array(list(itertools.combinations(range(n), 2)))
    edges = pairs[np.sort(r.choice(len(pairs), m, replace=False))]
    weights = r.integers(0, top, m)
    seeds = np.full(n, -1)
    chosen = r.choice(n, max(2, n // 10), replace=False)
    seeds[chosen] = np.arange(len(chosen)) % 2
    return edges, weights, seeds


def grid(height, width, seed):
    """A grid of pixels in two noisy regions, integer weights."""
    r = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    image = (np.hypot(y - height / 2, x - width / 2) < height / 3) + 0.3 * r.normal(
        size=(height, width)
    )
    edges, weights = fastopt.image_graph(image)
    seeds = np.full((height, width), -1)
    seeds[height // 2, width // 2] = 1
    seeds[0] = seeds[-1] = seeds[:, 0] = seeds[:, -1] = 0
    return edges, np.rint(100 * weights).astype(int), seeds.ravel()


def minimum(edges, weights, seeds=None, costs=None):
    """The minimum cut by scipy's maximum flow; all numbers are integers."""
    nodes = len(seeds) if seeds is not None else len(costs)
    source, sink, endless = nodes, nodes + 1, 10**8
    parts = [(edges[:, 0], edges[:, 1], weights), (edges[:, 1], edges[:, 0], weights)]
    if seeds is not None:
        for label, (u, v) in {1: (source, None), 0: (None, sink)}.items():
            at = np.flatnonzero(seeds == label)
            parts.append((at * 0 + u if v is None else at, at if v is None else at * 0 + v,
                          at * 0 + endless))  # fmt: skip
    constant = 0
    if costs is not None:  # who ends on the side of the source has label 1 and pays for it
        low = costs.min(axis=1)
        constant, rest, at = low.sum(), costs - low[:, None], np.arange(nodes)
        parts += [(at * 0 + source, at, rest[:, 0]), (at, at * 0 + sink, rest[:, 1])]
    row, column, value = (np.concatenate(part) for part in zip(*parts, strict=True))
    capacity = sparse.csr_matrix((value.astype("i4"), (row, column)), (nodes + 2, nodes + 2))
    return maximum_flow(capacity, source, sink).flow_value + int(constant)


def energy(edges, weights, labels, costs=None):
    """What a labelling costs, by the definition."""
    total = sum(w for (u, v), w in zip(edges, weights, strict=True) if labels[u] != labels[v])
    return total + (
        sum(c[k] for c, k in zip(costs, labels, strict=True)) if costs is not None else 0
    )


def check(result, edges, weights, seeds=None, costs=None):
    """What holds for every result."""
    assert result.cut == pytest.approx(energy(edges, weights, result.labels, costs), rel=1e-9)
    assert result.lower_bound <= result.cut
    if seeds is not None:
        given = seeds >= 0
        np.testing.assert_array_equal(result.labels[given], seeds[given])
    x = np.asarray(result.x)
    if x.ndim == 1:
        assert (x >= 0).all() and (x <= 1).all()
    else:
        assert (x >= 0).all()
        np.testing.assert_allclose(x.sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("index", ["i4", "i8"])
def test_two_labels_against_maximum_flow_on_random_graphs(seed, dtype, index):
    edges, weights, seeds = random_graph(40, [60, 150, 500][seed % 3], seed)
    best = minimum(edges, weights, seeds)
    result = fastopt.graph_cut(edges.astype(index), weights.astype(dtype), seeds=seeds, tol=1e-3)
    check(result, edges, weights, seeds)
    assert best <= result.cut <= best * 1.001
    assert result.lower_bound <= best + 1e-9
    assert result.status == "converged" and result.gap <= 1e-3


@pytest.mark.parametrize("seed", range(6))
def test_two_labels_with_costs_against_maximum_flow(seed):
    edges, weights, seeds = random_graph(50, 200, seed)
    costs = np.random.default_rng(seed).integers(-50, 50, (50, 2))
    for some in None, seeds:
        best = minimum(edges, weights, some, costs)
        result = fastopt.graph_cut(edges, weights, seeds=some, costs=costs, tol=1e-4)
        check(result, edges, weights, some, costs)
        assert best <= result.cut + 1e-9 and result.cut <= best + 1e-4 * abs(best)
        assert result.lower_bound <= best + 1e-6


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("seed", range(2))
def test_two_labels_against_maximum_flow_on_grids(seed, threads):
    edges, weights, seeds = grid(130, 150, seed)
    best = minimum(edges, weights, seeds)
    result = fastopt.graph_cut(edges, weights.astype("f4"), seeds=seeds, threads=threads)
    check(result, edges, weights, seeds)
    assert best <= result.cut <= best * 1.01
    assert result.lower_bound <= best * (1 + 1e-9)
    assert result.status == "converged"
    if threads > 1 and _core.openmp() != "none":
        assert result.mode == "shared" and result.threads == min(threads, len(edges) // 16384)


def test_the_papers_steps_against_maximum_flow():
    edges, weights, seeds = random_graph(40, 150, 1)
    best = minimum(edges, weights, seeds)
    for schedule in "inverse_sqrt", "inverse", "constant", "epoch_decay":
        result = fastopt.graph_cut(
            edges, weights, seeds=seeds, method="subgradient", epochs=1000, schedule=schedule,
            decay=0.99,
        )  # fmt: skip
        check(result, edges, weights, seeds)
        assert best <= result.cut <= best * 1.01
        assert result.lower_bound == 0 and result.status == "finished" and result.epochs == 1000


def all_labelings(edges, weights, seeds, costs, labels):
    """The best of all labelings that keep the seeds."""
    free = np.flatnonzero(seeds < 0)
    every = np.array(list(itertools.product(range(labels), repeat=len(free)))).reshape(
        -1, len(free)
    )
    tried = np.tile(seeds, (len(every), 1))
    tried[:, free] = every
    value = ((tried[:, edges[:, 0]] != tried[:, edges[:, 1]]) * weights).sum(axis=1)
    return (value + costs[np.arange(len(seeds)), tried].sum(axis=1)).min()


@pytest.mark.parametrize("method", ["flow", "subgradient"])
@pytest.mark.parametrize("labels", [2, 3, 4])
@pytest.mark.parametrize("with_costs", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_many_labels_against_all_labelings(method, labels, with_costs, seed):
    r = np.random.default_rng(seed)
    edges, weights, _ = random_graph(labels + 6, 20, seed)
    seeds = np.full(labels + 6, -1)
    seeds[:labels] = np.arange(labels)
    costs = with_costs * r.integers(0, 15, (labels + 6, labels))
    best = all_labelings(edges, weights, seeds, costs, labels)
    result = fastopt.graph_cut(
        edges, weights, seeds=seeds, costs=costs, tol=1e-6, method=method, epochs=1000, decay=0.99
    )
    check(result, edges, weights, seeds, costs)
    assert best <= result.cut <= 1.01 * best
    assert result.lower_bound <= best + 1e-9
    if method == "flow":
        assert result.lower_bound >= 0.9 * best  # the relaxation is that tight on these graphs


@given(
    st.lists(
        st.lists(st.floats(-100, 100, width=32), min_size=2, max_size=7), min_size=1, max_size=4
    ),
    st.sampled_from(["f4", "f8"]),
)
def test_projection_onto_the_simplex(rows, dtype):
    eps = float(np.finfo(dtype).eps)
    for row in rows:
        z = np.array(row, dtype)
        x = z.copy()
        _core.project_simplex(x, len(z))
        assert (x >= 0).all()
        assert x.sum() == pytest.approx(1, abs=10 * eps)
        again = x.copy()
        _core.project_simplex(again, len(z))
        np.testing.assert_allclose(again, x, atol=10 * eps)
        # By sorting (Held, Wolfe, Crowder 1974): the threshold of the largest valid k.
        d = z.astype("f8")
        down = np.sort(d)[::-1]
        thresholds = (np.cumsum(down) - 1) / np.arange(1, len(d) + 1)
        k = np.flatnonzero(down > thresholds)[-1]
        np.testing.assert_allclose(x, np.maximum(d - thresholds[k], 0), atol=300 * eps)
        # Nearest: no vertex lies in a direction that z - x has a part in.
        slack = 1e5 * eps
        assert all((d - x) @ (vertex - x) <= slack for vertex in np.eye(len(d)))


def test_projection_of_one_number():
    x = np.array([-3.0, 0.0, 0.25, 1.0, 1e30])
    _core.project_simplex(x, 1)
    np.testing.assert_array_equal(x, [0, 0, 0.25, 1, 1])


def test_projection_of_extremes():
    x = np.array([-1e30, 0, -1e30, 1e8, 1e8, 1e8], "f4")
    _core.project_simplex(x, 3)
    np.testing.assert_allclose(x, [0, 1, 0, 1 / 3, 1 / 3, 1 / 3], rtol=1e-6)


@pytest.mark.parametrize("labels", [2, 3])
def test_a_step_of_the_paper_is_the_numerical_subgradient(labels):
    """One edge, from inside: x moves by -step times the derivative, then is projected."""
    r = np.random.default_rng(0)
    width = 1 if labels == 2 else labels
    costs = r.normal(size=(2, labels))
    for _ in range(20):
        weight, step, h = r.uniform(0.5, 2), 0.01, 1e-6
        problem = Problem([[0, 1]], [weight], None, costs, None, None)
        x = r.dirichlet(np.full(labels, 5.0), 2)
        x = np.ascontiguousarray(x[:, 1:]) if width == 1 else x
        slope = np.zeros_like(x)
        for at in np.ndindex(*x.shape):
            up, down = x.copy(), x.copy()
            up[at] += h
            down[at] -= h
            slope[at] = (problem.objective(up) - problem.objective(down)) / (2 * h)
        moved = x.copy()
        run = _core.Cut(problem.edges, "subgradient", "constant", step, 1.0, 0, moved.reshape(-1),
                        x.copy().reshape(-1), None, problem.linear.reshape(-1),
                        np.zeros(2, "u1"))  # fmt: skip
        run.slice(run.blocks, 1)
        expected = x - step * slope
        _core.project_simplex(expected.reshape(-1), width)
        np.testing.assert_allclose(moved, expected, atol=1e-8)


@pytest.mark.parametrize("labels", [2, 3])
def test_an_epoch_of_flow_is_its_formula(labels):
    """One block of edges in order, written out in NumPy, then the nodes."""
    r = np.random.default_rng(5)
    edges, weights, _ = random_graph(12, 40, 5)
    seeds = np.full(12, -1)
    seeds[:labels] = np.arange(labels)
    costs = r.normal(size=(12, labels))
    problem = Problem(edges, weights, seeds, costs, None, None)
    settings = cuts.Settings.check(method="flow", epochs=3, tol=0, step=0.02, schedule="constant",
                                   decay=0.9, average=True, threads=1, seed=0)  # fmt: skip
    run = cuts.Run(problem, settings)
    z, p, step = run.z.copy(), run.p.copy(), run.step
    flow, width = np.zeros((len(edges), problem.width)), problem.width

    def shares(row):
        if width == 1:
            return np.clip(row, 0, 1)
        down = np.sort(row)[::-1]
        thresholds = (np.cumsum(down) - 1) / np.arange(1, width + 1)
        return np.maximum(row - thresholds[np.flatnonzero(down > thresholds)[-1]], 0)

    limit = weights / (1 if width == 1 else 2)
    for _ in range(3):
        for e, (u, v) in enumerate(edges):
            new = flow[e] + (shares(z[u]) - shares(z[v])) / (2 * step)
            new = np.clip(new, -limit[e], limit[e])
            z[u], z[v] = z[u] - step * (new - flow[e]), z[v] + step * (new - flow[e])
            flow[e] = new
        x = np.array([shares(row) for row in z])
        z, p = z + x - p, x
        run.native.slice(run.native.blocks, 1)
    np.testing.assert_allclose(run.f.reshape(flow.shape), flow, atol=1e-12)
    free = seeds < 0
    np.testing.assert_allclose(run.z[free], z[free], atol=1e-9)
    before = run.z.copy()
    run.look()  # computes z anew from the flows
    np.testing.assert_allclose(run.z[free], before[free], atol=1e-9)
    # The bound is the dual's value: the least of sum f (x_u - x_v) + costs over all shares.
    outflow = np.zeros((12, width))
    np.add.at(outflow, edges[:, 0], flow)
    np.add.at(outflow, edges[:, 1], -flow)
    both = np.stack([outflow[:, 0] * 0, outflow[:, 0]], 1) if width == 1 else outflow
    price = both + costs
    expected = price[free].min(axis=1).sum() + price[np.flatnonzero(~free), seeds[~free]].sum()
    assert problem.bound(outflow) == pytest.approx(expected)


def test_the_sweep_tries_every_threshold():
    edges, weights, seeds = random_graph(30, 100, 3)
    costs = np.random.default_rng(3).normal(size=(30, 2))
    problem = Problem(edges, weights, seeds, costs, None, None)
    x = problem.start()
    x[problem.free, 0] = np.random.default_rng(4).random(problem.free.sum())
    tried = [energy(edges, weights, np.where(seeds >= 0, seeds, x[:, 0] > t), costs)
             for t in [-1.0, *np.unique(x)[:-1]] if (x[seeds == 0] <= t).all()]  # fmt: skip
    value, labels = rounding.thorough(problem, x)
    assert value == pytest.approx(min(tried))
    assert value == pytest.approx(energy(edges, weights, labels, costs))


@pytest.mark.parametrize("method", ["flow", "subgradient"])
@pytest.mark.parametrize("labels", [2, 3])
def test_one_thread_gives_the_same_bits(method, labels):
    edges, weights, seeds = grid(40, 50, 0)
    seeds[60] = labels - 1
    options = {"seeds": seeds, "method": method, "epochs": 25, "tol": 0.0, "threads": 1}
    runs = [fastopt.graph_cut(edges, weights, **options, seed=seed) for seed in (3, 3, 4)]
    assert runs[0].x.tobytes() == runs[1].x.tobytes()
    assert runs[0].lower_bound == runs[1].lower_bound
    assert runs[0].x.tobytes() != runs[2].x.tobytes()


@pytest.mark.parametrize("method", ["flow", "subgradient"])
def test_bits_do_not_depend_on_slices(method):
    edges, weights, seeds = grid(40, 50, 0)
    seen = set()
    for size in 1, 7, 1000:
        problem = Problem(edges, weights, seeds, None, None, None)
        settings = cuts.Settings.check(
            method=method, epochs=3, tol=0, step="auto", schedule="inverse", decay=0.9,
            average=True, threads=1, seed=1,
        )  # fmt: skip
        run = cuts.Run(problem, settings)
        end = 3 * run.native.blocks
        while run.native.done < end:
            run.native.slice(min(size, end - run.native.done), 1)
        seen.add((run.z.tobytes(), run.p.tobytes()))
    assert len(seen) == 1


@pytest.mark.parametrize("method", ["flow", "subgradient"])
def test_every_edge_and_node_once_an_epoch(method):
    """Pairs of a seed and a free node: each must have moved once, by the same."""
    pairs = 1000
    edges = np.arange(2 * pairs).reshape(-1, 2)
    seeds = np.where(np.arange(2 * pairs) % 2, -1, 1)
    problem = Problem(edges, None, seeds, None, None, 2)
    settings = cuts.Settings.check(
        method=method, epochs=1, tol=0, step=0.125, schedule="constant", decay=0.9, average=True,
        threads=1, seed=0,
    )  # fmt: skip
    run = cuts.Run(problem, settings)
    run.native.slice(run.native.blocks, 1)
    free = run.z[1::2, 0]
    # Subgradient: 0.5 + 0.125. Flow: (1 - 0.5) / 2 / 0.125 is more than the weight 1, so
    # 0.5 + 0.125 too, and then p moves with it.
    assert (free == (0.625 if method == "subgradient" else 0.75)).all()
    assert (run.p[1::2, 0] == 0.625).all()


def test_disconnected_graphs_and_nodes_without_edges():
    edges, weights = [[0, 1], [2, 3]], [1.0, 2.0]
    result = fastopt.graph_cut(edges, weights, seeds={1: 0, 0: 3}, n_nodes=6)
    assert result.cut == 0 and result.status == "converged" and result.gap == 0
    assert result.labels[:4].tolist() == [1, 1, 0, 0]
    for method in "flow", "subgradient":
        costs = [[0, 1], [1, 0], [0, 0.5], [3, 0], [0, 2], [2, 0]]
        result = fastopt.graph_cut(edges, weights, costs=costs, method=method, tol=1e-6)
        assert result.labels[4:].tolist() == [0, 1] and result.labels[2] == result.labels[3] == 1
        assert result.cut == pytest.approx(1.5)


def test_one_label_and_no_epochs():
    edges, weights, seeds = random_graph(20, 50, 0)
    one = fastopt.graph_cut(edges, weights, seeds=np.where(seeds == 1, 1, -1))
    assert one.cut == 0 and (one.labels == 1).all() and one.status == "converged"
    none = fastopt.graph_cut(edges, weights, seeds=seeds, epochs=0)
    check(none, edges, weights, seeds)
    assert none.epochs == 0 and none.status == "finished"


def test_weights_of_any_size():
    edges, weights, seeds = random_graph(40, 150, 2)
    best = minimum(edges, weights, seeds)
    for scale in 1e-9, 1e9:
        result = fastopt.graph_cut(edges, (weights * scale).astype("f4"), seeds=seeds)
        assert result.cut == pytest.approx(best * scale, rel=0.01)
    zero = fastopt.graph_cut(edges, 0 * weights, seeds=seeds)
    assert zero.cut == 0 and zero.status == "converged"


@pytest.mark.parametrize("kind", [sparse.csr_matrix, sparse.coo_array, sparse.csc_array])
def test_a_sparse_matrix_is_a_graph(kind):
    edges, weights, seeds = random_graph(30, 100, 3)
    weights = weights + 1
    half = sparse.coo_matrix((weights.astype(float), edges.T), (30, 30))
    plain = fastopt.graph_cut(edges, weights, seeds=seeds, threads=1)
    result = fastopt.graph_cut(kind(half + half.T), seeds=seeds, threads=1)
    assert result.cut == plain.cut and (result.labels == plain.labels).all()
    with pytest.raises(ValueError, match="symmetric"):
        fastopt.graph_cut(kind(half), seeds=seeds)
    with pytest.raises(ValueError, match=r"two different nodes.*4, 4"):
        loop = sparse.coo_matrix(([1.0], ([4], [4])), (30, 30))
        fastopt.graph_cut(kind(half + half.T + loop), seeds=seeds)
    with pytest.raises(ValueError, match="weights must be None"):
        fastopt.graph_cut(kind(half + half.T), weights, seeds=seeds)
    with pytest.raises(ValueError, match="square"):
        fastopt.graph_cut(kind((half + half.T).tocsr()[:20]), seeds=seeds)


TWO = [[0, 1], [1, 2]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"edges": [[0, 1], [2, 2]], "seeds": {0: 0}}, "edges must join two.*edge 1 is 2, 2"),
        ({"edges": [[0, 1], [2, -1]], "seeds": {0: 0}}, r"edges must have nodes in 0\.\.2.*edge 1"),
        ({"edges": TWO, "seeds": [0, 1]}, r"nodes in 0\.\.1; edge 1 is 1, 2"),
        ({"edges": np.zeros((0, 2), int), "seeds": {0: 0}}, "edges must be at least one"),
        ({"edges": [[0.0, 1.0]], "seeds": {0: 0}}, "edges must be integers"),
        ({"edges": [0, 1], "seeds": {0: 0}}, r"edges must be integers of shape \(m, 2\)"),
        ({"edges": TWO, "weights": [1, -1], "seeds": {0: 0}}, "weights must be in .* edge 1 is -1"),
        ({"edges": TWO, "weights": [np.nan, 1], "seeds": {0: 0}}, "weights.* edge 0 is nan"),
        ({"edges": TWO, "weights": [1, np.inf], "seeds": {0: 0}}, "weights.* edge 1 is inf"),
        ({"edges": TWO, "weights": [1], "seeds": {0: 0}}, r"weights must be .*shape \(2,\)"),
        ({"edges": TWO, "weights": ["a", "b"], "seeds": {0: 0}}, "weights must be one number"),
        ({"edges": TWO}, "seeds or costs must be given"),
        ({"edges": TWO, "seeds": {0: [0, 1], 1: [1]}}, "node 1 has 0 and 1"),
        ({"edges": TWO, "seeds": {0: 3}}, r"seeds must be nodes in 0\.\.2"),
        ({"edges": TWO, "seeds": {0: -1}}, r"seeds must be nodes in 0\.\.2"),
        ({"edges": TWO, "seeds": {-1: 0}}, "seeds: a label must be at least 0"),
        ({"edges": TWO, "seeds": [0, -2, 1]}, "seeds must be labels.*node 1 has -2"),
        ({"edges": TWO, "seeds": [0.0, 1.0, 1.0]}, "seeds must be an integer"),
        ({"edges": TWO, "seeds": [0, 1, 2], "n_labels": 2}, r"labels in 0\.\.1 or -1, got 2"),
        ({"edges": TWO, "seeds": {0: 0}, "n_labels": 1}, "n_labels must be at least 2"),
        ({"edges": TWO, "seeds": {0: 0}, "n_labels": 65}, "n_labels must be from 2 to 64"),
        ({"edges": TWO, "costs": np.zeros((3, 1))}, "n_labels must be from 2 to 64, got 1"),
        ({"edges": TWO, "costs": np.zeros((3, 2)), "n_labels": 3}, "costs must have n_labels = 3"),
        ({"edges": TWO, "costs": np.full((3, 2), np.nan)}, "costs must be in"),
        ({"edges": TWO, "costs": np.zeros(3)}, "costs must be numbers of shape"),
        ({"edges": TWO, "costs": np.zeros((4, 2)), "seeds": [0, 1, 1]}, "costs: 4, seeds: 3"),
        ({"edges": TWO, "seeds": {0: 0}, "n_nodes": 0}, "n_nodes must be at least 1"),
        ({"edges": TWO, "seeds": {0: 0}, "method": "sgd"}, "method must be one of 'flow'"),
        ({"edges": TWO, "seeds": {0: 0}, "schedule": "cos"}, "schedule must be one of"),
        ({"edges": TWO, "seeds": {0: 0}, "step": 0}, "step must be a number in"),
        ({"edges": TWO, "seeds": {0: 0}, "step": "best"}, "step must be 'auto'"),
        ({"edges": TWO, "seeds": {0: 0}, "tol": -1}, "tol must be"),
        ({"edges": TWO, "seeds": {0: 0}, "epochs": -1}, "epochs must be"),
        ({"edges": TWO, "seeds": {0: 0}, "decay": 1.5}, "decay must be"),
        ({"edges": TWO, "seeds": {0: 0}, "threads": 0}, "threads must be"),
        ({"edges": TWO, "seeds": {0: 0}, "callback": 1}, "callback must be callable"),
    ],
)  # fmt: skip
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises((ValueError, TypeError), match=message):
        fastopt.graph_cut(**arguments)


def test_the_graph_of_an_image():
    image = np.random.default_rng(0).random((4, 5, 3))
    for connectivity in 4, 8:
        edges, weights = fastopt.image_graph(image, sigma=0.3, connectivity=connectivity)
        expected = {}
        for i, j, a, b in itertools.product(range(4), range(5), range(4), range(5)):
            near = max(abs(i - a), abs(j - b)) == 1
            if (i, j) < (a, b) and near and (connectivity == 8 or i == a or j == b):
                square = ((image[i, j] - image[a, b]) ** 2).sum()
                expected[5 * i + j, 5 * a + b] = np.exp(-square / 0.18) / np.hypot(i - a, j - b)
        assert edges.dtype == np.int32 and len(edges) == len(expected)
        got = {(int(u), int(v)): w for (u, v), w in zip(edges, weights, strict=True)}
        assert got.keys() == expected.keys()
        np.testing.assert_allclose([got[e] for e in expected], list(expected.values()))
    grey = np.array([[0, 255, 255]], np.uint8)
    np.testing.assert_allclose(fastopt.image_graph(grey)[1], [np.exp(-1), 1])  # mean square / 2
    assert fastopt.image_graph(image.astype("f4"))[1].dtype == np.float32
    for wrong, message in [
        ({"image": np.zeros(3)}, "image must be numbers of shape"),
        ({"image": np.full((2, 2), np.nan)}, "image must be finite"),
        ({"image": image, "sigma": 0}, "sigma must be"),
        ({"image": image, "connectivity": 6}, "connectivity must be one of 4, 8"),
    ]:
        with pytest.raises(ValueError, match=message):
            fastopt.image_graph(**wrong)


def test_the_estimator():
    base = pytest.importorskip("sklearn.base")
    edges, weights, seeds = random_graph(40, 150, 1)
    model = fastopt.GraphCut(tol=1e-4, n_jobs=1)
    assert repr(model) == "GraphCut(tol=0.0001, n_jobs=1)"
    twin = base.clone(model)
    assert twin.get_params() == model.get_params() and twin is not model
    assert model.set_params(random_state=2) is model and model.random_state == 2
    with pytest.raises(ValueError, match="colour is no parameter"):
        model.set_params(tol=1.0, colour=1)
    assert model.tol == 1e-4
    labels = model.fit_predict(edges, weights, seeds=seeds)
    plain = fastopt.graph_cut(edges, weights, seeds=seeds, tol=1e-4, threads=1, seed=2)
    np.testing.assert_array_equal(labels, plain.labels)
    again = pickle.loads(pickle.dumps(model))
    assert again.cut_ == plain.cut and again.lower_bound_ == plain.lower_bound
    np.testing.assert_array_equal(again.labels_, labels)
    assert again.get_params() == model.get_params()


def large():
    edges, weights, seeds = grid(300, 300, 0)
    return edges, weights, seeds


def test_a_callback_stops():
    edges, weights, seeds = large()
    seen = []

    def callback(progress):
        seen.append(progress)
        return len(seen) == 2

    result = fastopt.graph_cut(
        edges, weights, seeds=seeds, tol=0.0, epochs=10**6, callback=callback
    )
    assert result.status == "stopped" and len(seen) == 2
    assert set(seen[0]) == {"epoch", "seconds", "cut", "lower_bound", "objective"}
    check(result, edges, weights, seeds)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs POSIX timers")
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("method", ["flow", "subgradient"])
def test_interrupt_leaves_a_usable_cut(threads, method):
    edges, weights, seeds = large()

    def interrupt(number, frame):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        sent = time.perf_counter() + 0.5
        signal.setitimer(signal.ITIMER_REAL, 0.5)
        with pytest.raises(KeyboardInterrupt) as caught:
            fastopt.graph_cut(edges, weights, seeds=seeds, method=method, tol=0.0, epochs=10**7,
                              step=1e-4, threads=threads)  # fmt: skip
        late = time.perf_counter() - sent
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    result = caught.value.result
    assert result.status == "interrupted" and result.edges > 0
    check(result, edges, weights, seeds)
    assert late < 2  # fractions of a second on an idle machine
