"""Omega, Delta and rho against their definitions, counted out by brute force."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastopt import _core
from fastopt.data import open_data, sparsity
from fastopt.sparse.rows import choose_mode

sparse = pytest.importorskip("scipy.sparse")


def brute_force(rows):
    """Return Omega, Delta, rho of a hypergraph whose edges are the rows' sets of columns."""
    edges = [set(row) for row in rows]
    columns = set().union(*edges) if edges else set()
    omega = max((len(e) for e in edges), default=0)
    delta = max((sum(v in e for e in edges) for v in columns), default=0)
    rho = max((sum(bool(e & f) for f in edges) for e in edges), default=0)
    n = max(len(edges), 1)
    return omega, delta / n, rho / n


def dense(rows, columns=40):
    X = np.zeros((len(rows), columns))
    for k, row in enumerate(rows):
        X[k, list(row)] = 1
    return X


@given(st.lists(st.sets(st.integers(0, 39), max_size=5), max_size=120), st.sampled_from([1, 3, 64]),
       st.sampled_from([1, 4]))  # fmt: skip
@settings(deadline=None, max_examples=200)
def test_small_data_is_counted_out(rows, at_once, rounds):
    before = sparsity.AT_ONCE, sparsity.ROUNDS
    sparsity.AT_ONCE, sparsity.ROUNDS = at_once, rounds
    try:
        stats = open_data(dense(rows), block_rows=7).stats()
    finally:
        sparsity.AT_ONCE, sparsity.ROUNDS = before
    omega, delta, rho = brute_force(rows)
    assert stats.omega == omega and stats.delta == pytest.approx(delta)
    assert stats.rho == pytest.approx(rho) if stats.rho_exact else delta <= stats.rho <= rho
    if at_once * rounds >= len(rows):
        assert stats.rho_exact
    assert stats.rows == len(rows) and stats.columns == 40
    assert stats.nnz == sum(map(len, rows)) and stats.empty_rows == sum(not row for row in rows)
    assert stats.used_columns == len(set().union(*rows))
    assert stats.density == pytest.approx(stats.nnz / (max(len(rows), 1) * 40))
    degrees = sorted((sum(k in row for row in rows) for k in range(40)), reverse=True)[:10]
    assert [round(part * max(len(rows), 1)) for _, part in stats.hot] == [d for d in degrees if d]
    for column, part in stats.hot:
        assert part == pytest.approx(np.mean([column in row for row in rows]))


def test_large_data_is_counted_out_where_bounds_allow():
    rng = np.random.default_rng(0)
    rows = [set(rng.integers(0, 3000, 4).tolist()) for _ in range(3000)]
    rows[17] = set(range(200))  # nobody else comes near
    stats = open_data(dense(rows, 3000)).stats()
    assert stats.rho_exact and stats.rho == pytest.approx(brute_force(rows)[2])
    assert stats.omega == 200


def test_columns_of_several_fields_count_once(tmp_path):
    path = tmp_path / "x.ffm"
    path.write_text("1 0:1:1 1:1:1 2:3:1\n0 0:1:2\n1 5:2:1\n")
    stats = open_data(path, cache=False).stats()
    assert (stats.omega, stats.delta, stats.rho) == (2, 2 / 3, 2 / 3) and stats.nnz == 5
    assert stats.hot[0] == (0, 2 / 3)


def test_labels_and_weights(tmp_path):
    path = tmp_path / "x.vw"
    path.write_text("1 2 | a\n-1 0.5 | a\n| b\n1 | c\n")
    stats = open_data(path, cache=False).stats()
    assert stats.labels == {"missing": 1, "counts": [(-1.0, 1), (1.0, 2)], "min": -1, "max": 1,
                            "mean": pytest.approx(1 / 3)}  # fmt: skip
    assert stats.weights == 4.5
    many = open_data(np.ones((50, 1)), np.arange(50.0)).stats()
    assert many.labels == {"missing": 0, "min": 0, "max": 49, "mean": 24.5}
    json.dumps(many.as_dict())


def test_suggested_mode_is_the_runners(tmp_path):
    from types import SimpleNamespace

    X = np.ones((10_000, 3))
    stats = open_data(X).stats(threads=2)
    size = SimpleNamespace(rows=10_000, columns=3, nonzeros=30_000)
    assert (stats.mode, stats.threads, stats.reason) == choose_mode(size, "auto", 2)
    assert open_data(X).stats(threads=1).mode == "serial"


def test_too_many_columns_for_the_memory(monkeypatch):
    from fastopt import memory

    monkeypatch.setattr(memory, "available", lambda: 2e7)
    with pytest.raises(MemoryError, match="statistics of 1,000,000 columns"):
        open_data(np.ones((2, 2)), n_features=1_000_000).stats()


@pytest.mark.parametrize("index", ["i4", "i8"])
def test_rows_are_copied(index):
    r = np.random.default_rng(0)
    X = sparse.random(50, 30, 0.2, "csr", np.float32, random_state=r)
    X.indices, X.indptr = X.indices.astype(index), X.indptr.astype(index)
    samples = _core.Samples(X.data, X.indices, X.indptr, X.shape, 1)
    which = r.permutation(50)[:20]
    expected = X[which]
    data, ends = np.empty(expected.nnz, "f4"), expected.indptr.astype("i8")
    indices = np.empty(expected.nnz, index)
    samples.copy_rows(which, ends, data, indices)
    np.testing.assert_array_equal(data, expected.data)
    np.testing.assert_array_equal(indices, expected.indices)
    again = np.zeros_like(data)
    samples.copy_rows(which, ends, again)
    np.testing.assert_array_equal(again, data)
    other = "i8" if index == "i4" else "i4"
    for wrong in (
        (which + 31, ends, data),
        (which - 20, ends, data),
        (which, ends + 1, data),
        (which, ends[:-1], data),
        (which, ends, data[:-1]),
        (which, ends, data.astype("f8")),
        (which, ends, data, indices[:-1]),
        (which, ends, data, indices.astype(other)),
        (which, r.permutation(ends), data),
        (which.astype("i4"), ends, data),
    ):
        with pytest.raises(ValueError, match="must fit each other"):
            samples.copy_rows(*wrong)
