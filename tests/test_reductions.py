"""Norms: the same bits everywhere, right at the ends of the range."""

import math

import numpy as np
import pytest

import fastopt
from fastopt import _core


def norm(arrays, threads=1):
    zeros = [np.zeros(a.shape, a.dtype) for a in arrays]
    plan = _core.Plan(
        "sgd",
        tuple(map(str, range(len(arrays)))),
        zeros,
        [[] for _ in arrays],
        [0] * len(arrays),
        [],
    )
    plan.hold(arrays, None, False)
    return plan.norm(threads)


def lanes(x):
    """Sum of squares as defined: 16 lanes inside 2,048 elements, parts of 65,536, all in order."""
    total = 0.0
    for part in range(0, len(x), 65_536):
        of_part = 0.0
        for start in range(part, min(part + 65_536, len(x)), 2048):
            block = np.zeros(2048)
            piece = x[start : min(start + 2048, part + 65_536)].astype(np.float64)
            block[: len(piece)] = piece * piece
            lane = np.zeros(16)
            for row in block.reshape(-1, 16):
                lane += row
            while len(lane) > 1:
                lane = lane[: len(lane) // 2] + lane[len(lane) // 2 :]
            of_part += lane[0]
        total += of_part
    return total


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_same_bits_for_every_instruction_set_thread_count_and_layout(dtype):
    rng = np.random.default_rng(0)
    before = _core.get_isa()
    for n in [1, 15, 16, 17, 2047, 2049, 70_001, 200_001]:
        x = rng.standard_normal(n).astype(dtype)
        expected = math.sqrt(lanes(x))
        spread = np.empty((n, 3), dtype)[:, 1]
        spread[...] = x
        try:
            for isa in _core.isa_available():
                _core.set_isa(isa)
                for threads in 1, 2, 3:
                    assert norm([x], threads) == expected
                    assert norm([spread], threads) == expected
        finally:
            _core.set_isa(before)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([3e200, 4e200], 5e200),
        ([3e-200, -4e-200], 5e-200),
        ([1e-310, 0.0], 1e-310),
        ([1.7e308], 1.7e308),
        ([0.0, 0.0], 0.0),
        ([math.inf, 1.0], math.inf),
    ],
)
def test_norm_is_right_where_its_square_is_out_of_range(values, expected):
    assert norm([np.array(values)]) == pytest.approx(expected, rel=1e-14)


def test_norm_of_nan_is_nan_wherever_it_stands():
    for k in range(40):
        x = np.ones(40)
        x[k] = np.nan
        assert math.isnan(norm([x]))


def test_float32_norm_does_not_overflow():
    assert norm([np.full(4, 2e38, "float32")]) == pytest.approx(4e38, rel=1e-6)


def test_clip_norm_scales_all_gradients_together():
    a, b = np.zeros(1), np.zeros(1)
    opt = fastopt.SGD([a, b], lr=1.0, clip_norm=1.0)
    info = opt.step([np.array([3.0]), np.array([4.0])])
    assert info.grad_norm == 5.0 and info.clip_coef == 0.2
    np.testing.assert_allclose([a[0], b[0]], [-0.6, -0.8], rtol=1e-15)
    info = opt.step([np.array([0.3]), np.array([0.4])])
    assert info.clip_coef == 1.0


def test_clip_norm_of_huge_gradients_is_a_unit_step_not_zero():
    w = np.zeros(2)
    fastopt.SGD(w, lr=1.0, clip_norm=1.0).step(np.array([3e200, 4e200]))
    np.testing.assert_allclose(w, [-0.6, -0.8])
