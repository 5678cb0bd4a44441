"""The solvers' compiled passes: their formulas, and the same bits for any threads."""

import math

import numpy as np
import pytest
from fastopt._core import Vectors

import fastopt

SIZES = (0, 1, 7, 16, 33, 1000, 16_384, 16_385, 300_001)


def data(n, dtype, count):
    r = np.random.default_rng(n)
    return [r.standard_normal(n).astype(dtype) for _ in range(count)]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n", SIZES)
def test_passes_compute_their_formulas(n, dtype):
    x, d, g, h = data(n, dtype, 4)
    exact = [a.astype("f8") for a in (x, d, g, h)]
    passes, out = Vectors(n, dtype, 2), np.empty(n, dtype)
    room = dict(rtol=1e-12, atol=1e-9)  # sums of up to 300,001 numbers, in another order
    largest = np.abs(exact[0]).max(initial=0)

    found = passes.dot(x, d)
    assert np.allclose(found, [exact[0] @ exact[1], exact[0] @ exact[0], largest], **room)
    found = passes.combine(out, -0.3, x, 0.7, d, g)
    assert (out == (-0.3 * exact[0] + 0.7 * exact[1]).astype(dtype)).all()
    assert np.allclose(found, [out.astype("f8") @ exact[2], np.abs(out).max(initial=0)], **room)
    found = passes.receive(out, x, d)
    assert (out == x).all()
    assert np.allclose(found, [exact[0] @ exact[1], exact[0] @ exact[0], largest], **room)
    moved, s, y = (np.empty(n, dtype) for _ in range(3))
    found = passes.pair(moved, s, y, x, 0.3, d, g, h)
    assert (moved == (exact[0] + 0.3 * exact[1]).astype(dtype)).all()
    assert (s == moved - x).all() and (y == g - h).all()
    s, y = s.astype("f8"), y.astype("f8")
    assert np.allclose(found, [s @ y, y @ y, s @ s, s @ exact[2]], **room)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_an_output_may_be_an_input(dtype):
    x, d = data(1000, dtype, 2)
    passes, out = Vectors(1000, dtype, 1), np.empty(1000, dtype)
    square = passes.combine(out, 1.0, x, 0.5, d, out)[0]
    assert np.isclose(square, out.astype("f8") @ out)
    assert passes.combine(d, 1.0, x, 0.5, d, d)[0] == square and (d == out).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n", [1000, 300_001])
def test_the_same_bits_for_all_threads_and_instruction_sets(n, dtype):
    x, d, g, h = data(n, dtype, 4)
    s_rows, y_rows = np.stack([x, d]), np.stack([g, 2 * x])
    seen, before = [], fastopt.get_isa()
    try:
        for isa in fastopt.isa_available():
            fastopt.set_isa(isa)
            for threads in 1, 2, 3:
                passes, out = Vectors(n, dtype, threads), np.empty((4, n), dtype)
                sums = [passes.dot(x, d), passes.combine(out[0], 0.1, x, 0.7, d, g)]
                sums += [passes.pair(out[1], out[2], out[3], x, 0.3, d, g, h)]
                sums += [passes.two_loop(out[0], g, s_rows, y_rows, [0, 1], [0.1, 0.3], 2.0, 0.5)]
                seen.append((sums, out.tobytes()))
    finally:
        fastopt.set_isa(before)
    assert all(one == seen[0] for one in seen)


@pytest.mark.parametrize("place", [0, 15, 16_384, 40_000])
def test_nothing_that_is_not_finite_is_lost(place):
    x, d = data(40_001, "float32", 2)
    passes, out = Vectors(len(x), "float32", 2), np.empty_like(x)
    for bad in math.nan, math.inf, -math.inf:
        x[place] = bad
        for largest in passes.dot(x, d)[2], passes.combine(out, 1, x, 0, d, d)[1]:
            assert math.isnan(largest) if math.isnan(bad) else largest == math.inf
        assert not math.isfinite(passes.receive(out, x, x)[1])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("m", [1, 2, 5])
def test_two_loops_are_the_product_with_the_bfgs_matrix(m, dtype):
    """H by the update formula (Nocedal and Wright, 7.16), as a matrix, from gamma I."""
    n, r = 30, np.random.default_rng(m)
    a = r.standard_normal((n, n))
    hessian = a @ a.T + np.eye(n)
    s = r.standard_normal((m + 2, n)).astype(dtype)
    y = (s @ hessian).astype(dtype)
    order = list(range(m + 1, 1, -1))  # not how they lie
    rho = [float(1 / (p.astype("f8") @ q)) for p, q in zip(s, y, strict=True)]
    h = 0.05 * np.eye(n)
    for k in order:
        left = np.eye(n) - rho[k] * np.outer(s[k], y[k])
        h = left @ h @ left.T + rho[k] * np.outer(s[k], s[k].astype("f8"))
    g, d = r.standard_normal(n).astype(dtype), np.empty(n, dtype)
    passes = Vectors(n, dtype, 1)
    slope, largest = passes.two_loop(d, g, s, y, order, rho, 0.05, passes.dot(s[order[-1]], g)[0])
    assert np.allclose(d, -h @ g, rtol=1e-4 if dtype == "float32" else 1e-10, atol=1e-5)
    assert np.isclose(slope, d.astype("f8") @ g) and largest == np.abs(d).max()


def test_wrong_vectors_are_refused():
    passes, x = Vectors(10, "float64", 1), np.ones(10)
    for wrong in np.ones(9), np.ones(10, "f4"), np.ones(20)[::2], np.ones(10, int):
        with pytest.raises(ValueError, match="contiguous, of the solver's dtype and size"):
            passes.dot(x, wrong)
    frozen = np.ones(10)
    frozen.flags.writeable = False
    with pytest.raises((ValueError, BufferError)):
        passes.combine(frozen, 1.0, x, 1.0, x, x)
