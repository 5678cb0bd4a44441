"""Batches: every row once an epoch, seeded, in every structure, nothing else copied."""

import numpy as np
import pytest
import scipy.sparse

import fastopt


def rows_of(rounds):
    return np.concatenate([np.asarray(b) for b in rounds])


@pytest.mark.parametrize("n", [1, 7, 8, 9])
@pytest.mark.parametrize("size", [1, 4, 20])
def test_every_row_once_an_epoch(n, size):
    rounds = fastopt.batches(np.arange(n), size, seed=1)
    for epoch in range(3):
        assert rounds.epoch == epoch
        found = list(rounds)
        assert len(found) == len(rounds) == -(-n // size)
        assert all(len(b) == size for b in found[:-1])
        assert sorted(np.concatenate(found)) == list(range(n))
    full = list(fastopt.batches(np.arange(n), size, seed=1, drop_last=True))
    assert len(full) == n // size and all(len(b) == size for b in full)


def test_seeds():
    x = np.arange(50)
    a, b, c = (fastopt.batches(x, 8, seed=s) for s in (3, 3, 4))
    first, second = rows_of(a), rows_of(a)
    assert not np.array_equal(first, second)
    assert np.array_equal(first, rows_of(b)) and not np.array_equal(first, rows_of(c))
    resumed = fastopt.batches(x, 8, seed=3)
    resumed.epoch = 1
    assert np.array_equal(second, rows_of(resumed))
    assert np.array_equal(rows_of(fastopt.batches(x, 8, shuffle=False)), x)


@pytest.mark.parametrize("shuffle", [True, False])
def test_structures_and_sparse_rows(shuffle):
    r = np.random.default_rng(0)
    dense = r.normal(size=(11, 4)) * (r.random((11, 4)) < 0.5)
    sparse = scipy.sparse.csr_matrix(dense)
    own = fastopt.CSR(sparse.data, sparse.indices, sparse.indptr.astype("i8"), sparse.shape)
    data = {"a": dense, "b": (sparse, np.arange(11)), "c": own}
    seen = []
    for batch in fastopt.batches({**data, "b": sparse}, 4, seed=0, shuffle=shuffle):
        assert list(batch) == ["a", "b", "c"]
        assert np.array_equal(batch["a"], batch["b"].toarray())
        assert np.array_equal(batch["a"], batch["c"].to_scipy().toarray())
        seen.append(batch["a"])
    seen = np.concatenate(seen)
    assert np.array_equal(seen[np.lexsort(seen.T)], dense[np.lexsort(dense.T)])
    for X, y in fastopt.batches((dense, np.arange(11)), 4, seed=0, shuffle=shuffle):
        assert np.array_equal(X, dense[y])
        assert np.shares_memory(X, dense) != shuffle


def test_replacement_and_weights():
    n = 2000
    drawn = rows_of(fastopt.batches(np.arange(n), 64, seed=0, replacement=True))
    # a row is missed with probability (1 - 1/n)^n = 1/e
    assert len(drawn) == n and abs(1 - len(np.unique(drawn)) / n - np.exp(-1)) < 0.03
    weights = np.arange(4.0)
    rounds = fastopt.batches(np.arange(4), 4, seed=0, replacement=True, weights=weights)
    counts = np.bincount(np.concatenate([rows_of(rounds) for _ in range(3000)]), minlength=4)
    np.testing.assert_allclose(counts / counts.sum(), weights / 6, atol=0.02)
    assert counts[0] == 0


class Easy:
    def order(self, epoch, n):
        return np.arange(min(n, 3 * (epoch + 1)))[::-1]


def test_an_order_of_ones_own():
    rounds = fastopt.batches(np.arange(8), 2, order=Easy())
    lengths, epochs = zip(*((len(rounds), rows_of(rounds).tolist()) for _ in range(3)), strict=True)
    assert lengths == (2, 3, 4)
    assert epochs == ([2, 1, 0], [5, 4, 3, 2, 1, 0], list(range(7, -1, -1)))


def test_a_curriculum_drives_batches():
    difficulty = np.random.default_rng(0).permutation(100)
    curriculum = fastopt.Curriculum(difficulty, start=0.2, full_at=4, seed=1)
    rounds = fastopt.batches((difficulty, np.arange(100)), 16, order=curriculum)
    for most in (20, 40, 60, 80, 100, 100):
        assert len(rounds) == -(-most // 16)
        found = np.concatenate([d for d, rows in rounds if np.array_equal(difficulty[rows], d)])
        assert sorted(found) == list(range(most))
    loss = np.array([0.2, 3.0, 0.1, 1.1])
    pace = fastopt.SelfPaced(lambda: loss, start=0.5, growth=6)
    rounds = fastopt.batches(np.arange(4), 4, order=pace)
    assert [sorted(rows_of(rounds).tolist()) for _ in range(3)] == [[0, 2], [0, 2, 3], [0, 1, 2, 3]]


@pytest.mark.parametrize(
    ("data", "size", "options", "message"),
    [
        (np.arange(3), 0, {}, "batch_size must be at least 1"),
        (np.arange(3), 1.5, {}, "batch_size must be an integer"),
        ((np.arange(3), np.arange(4)), 1, {}, r"data\[1\] has 4 rows"),
        ((), 1, {}, "no arrays"),
        (5, 1, {}, "data must be an array"),
        (np.arange(3), 1, {"weights": [1, 1, 1]}, "replacement=True"),
        (np.arange(3), 1, {"weights": [1, -1, 1], "replacement": True}, "not negative"),
        (np.arange(3), 1, {"weights": [1, 1], "replacement": True}, "weights must have shape"),
        (np.arange(3), 1, {"replacement": True, "shuffle": False}, "shuffle"),
        (np.arange(3), 1, {"order": 3}, "order must have"),
        (np.arange(3), 1, {"order": Easy(), "replacement": True}, "order"),
    ],
)
def test_what_is_refused(data, size, options, message):
    with pytest.raises((TypeError, ValueError), match=message):
        fastopt.batches(data, size, **options)


def test_an_order_that_leaves_the_data_is_refused():
    class Wrong:
        def order(self, epoch, n):
            return [0, n]

    with pytest.raises(ValueError, match=r"numbers in \[0, 3\)"):
        list(fastopt.batches(np.arange(3), 1, order=Wrong()))
