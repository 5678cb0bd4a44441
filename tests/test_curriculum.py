"""Curricula: the formulas of pacing, and which rows they choose."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

from fastopt import Curriculum, SelfPaced, batches

N = 200


@pytest.mark.parametrize("start", [0.05, 0.3, 1.0])
@pytest.mark.parametrize("full_at", [1, 4.5, 20])
def test_pacing_formulas(start, full_at):
    for t in range(25):
        expected = {
            "linear": min(1, start + (1 - start) * t / full_at),
            # Platanios et al. 2019: c(t) = min(1, sqrt(t (1 - c0^2) / T + c0^2))
            "root": min(1, (t * (1 - start**2) / full_at + start**2) ** 0.5),
            "geometric": min(1, 2 ** (np.log2(start) * (1 - t / full_at))),
            "step": start if t < full_at else 1,
        }
        for pacing, value in expected.items():
            c = Curriculum(range(N), pacing, start=start, full_at=full_at)
            assert c.fraction(t) == pytest.approx(value, rel=1e-12)
            rows = c.order(t, N)
            assert len(rows) == np.ceil(value * N - 1e-6)
            assert sorted(rows) == list(range(len(rows)))  # the easiest
            assert rows.dtype == np.int64


def test_directions():
    difficulty = np.random.default_rng(0).normal(size=N)
    ranks = difficulty.argsort().argsort()
    easy = Curriculum(difficulty, start=0.25).order(0, N)
    assert sorted(ranks[easy]) == list(range(50))
    hard = Curriculum(difficulty, start=0.25, order="hard-first").order(0, N)
    assert sorted(ranks[hard]) == list(range(150, 200))
    mixed = Curriculum(difficulty, start=0.25, order="mixed", share=0.4)
    drawn = [set(ranks[mixed.order(0, N)].tolist()) for _ in range(2)]
    assert drawn[0] == drawn[1] and len(drawn[0]) == 50
    assert set(range(30)) <= drawn[0] and max(drawn[0]) > 100
    assert set(mixed.order(20, N).tolist()) == set(range(N))


def test_mixed_draws_others_in_each_epoch():
    c = Curriculum(range(N), lambda t: 0.25, order="mixed", share=0.5)
    drawn = np.concatenate([np.setdiff1d(c.order(t, N), range(25)) for t in range(40)])
    counts = np.bincount(drawn, minlength=N)[25:]
    assert counts.sum() == 40 * 25 and (counts > 0).mean() > 0.98 and counts.max() < 20


def test_strata_have_their_parts():
    labels = np.repeat(["a", "b", "c"], [100, 60, 40])
    c = Curriculum(np.arange(N), start=0.3, stratify=labels)
    rows = c.order(0, N)
    for label, first, count in (("a", 0, 30), ("b", 100, 18), ("c", 160, 12)):
        assert sorted(rows[labels[rows] == label]) == list(range(first, first + count))


def test_ties_are_broken_at_random():
    rows = Curriculum(np.zeros(N), start=0.5).order(0, N)
    assert 20 < (rows < N // 2).sum() < 80
    assert set(rows.tolist()) != set(
        Curriculum(np.zeros(N), start=0.5, seed=1).order(0, N).tolist()
    )


def test_orders_are_random_and_repeat():
    c = Curriculum(range(N), start=1)
    first = c.order(0, N)
    np.testing.assert_array_equal(first, c.order(0, N))
    assert (first != c.order(1, N)).any() and (
        first != Curriculum(range(N), start=1, seed=1).order(0, N)
    ).any()
    for other in (copy.deepcopy(c), pickle.loads(pickle.dumps(c))):
        np.testing.assert_array_equal(first, other.order(0, N))
    r = np.corrcoef(first, np.arange(N))[0, 1]
    assert abs(r) < 0.25


def test_a_pacing_of_ones_own():
    c = Curriculum(range(N), lambda epoch: 0.1 * (epoch + 1) ** 2)
    assert [len(c.order(t, N)) for t in range(5)] == [20, 80, 180, 200, 200]
    with pytest.raises(ValueError, match="pacing must be a number"):
        Curriculum(range(N), lambda epoch: 0.0).order(0, N)


def test_mini_batches_follow_a_curriculum():
    c = Curriculum(np.arange(N)[::-1], start=0.25, full_at=3, seed=2)
    rounds = batches((np.arange(N), np.arange(N) * 2.0), 16, order=c)
    for epoch in range(5):
        rows, doubled = (np.concatenate(parts) for parts in zip(*rounds, strict=True))
        np.testing.assert_array_equal(rows, c.order(epoch, N))
        np.testing.assert_array_equal(doubled, 2.0 * rows)


def test_self_paced_follows_its_threshold():
    """Kumar, Packer, Koller 2010: v_i = 1 if loss_i < 1 / K, and 1 / K grows."""
    r = np.random.default_rng(0)
    losses = r.exponential(size=N)
    pace = SelfPaced(lambda: losses, start=0.5, growth=1.5)
    first = np.sort(losses)[N // 2 - 1]
    for t in range(12):
        rows = pace.order(t, N)
        assert sorted(rows) == np.flatnonzero(losses <= first * 1.5**t).tolist()
    assert len(pace.order(30, N)) == N
    losses = losses * 100  # the model has become worse: never fewer rows than at the start
    assert len(pace.order(1, N)) == N // 2
    pace.order(0, N)
    assert pace.threshold == pytest.approx(100 * first)


def test_self_paced_of_given_losses():
    pace = SelfPaced(start=0.5)
    with pytest.raises(ValueError, match="losses must be given, or `update` called"):
        pace.order(0, 4)
    pace.update([4, 1, np.inf, 2])
    assert sorted(pace.order(0, 4)) == [1, 3]
    assert sorted(pace.order(100, 4)) == [0, 1, 3]
    with pytest.raises(ValueError, match=r"losses must be one number per row, shape \(5,\)"):
        pace.order(0, 5)
    pace.update([np.inf])
    with pytest.raises(ValueError, match="losses must not all be infinite"):
        pace.order(0, 1)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Curriculum([[1]]), ValueError, "difficulty must be one number per row"),
        (lambda: Curriculum([]), ValueError, "difficulty must be one number per row"),
        (lambda: Curriculum(["a"]), ValueError, "difficulty must be one number per row"),
        (lambda: Curriculum([1, np.nan]), ValueError, "difficulty must not be NaN, as at row 1"),
        (lambda: Curriculum([1], "slow"), ValueError, "pacing must be one of 'linear'"),
        (lambda: Curriculum([1], start=0), ValueError, "start must be a number"),
        (lambda: Curriculum([1], start=1.1), ValueError, "start must be a number"),
        (lambda: Curriculum([1], full_at=0), ValueError, "full_at must be a number"),
        (lambda: Curriculum([1], order="up"), ValueError, "order must be one of 'easy-first'"),
        (lambda: Curriculum([1], share=2), ValueError, "share must be a number"),
        (lambda: Curriculum([1], seed=-1), ValueError, "seed must be at least 0"),
        (lambda: Curriculum([1], stratify=[1, 2]), ValueError, "stratify must be one label per"),
        (lambda: Curriculum([1]).order(0, 2), ValueError, "difficulty has 1 numbers"),
        (lambda: SelfPaced(3), TypeError, "losses must be callable"),
        (lambda: SelfPaced(growth=1), ValueError, "growth must be a number"),
        (lambda: SelfPaced(start=0), ValueError, "start must be a number"),
    ],
)
def test_bad_arguments_are_named(make, error, message):
    with pytest.raises(error, match=message):
        make()
