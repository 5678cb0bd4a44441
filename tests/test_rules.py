"""Compiled rules equal the NumPy reference bit for bit."""

import inspect
import os

import numpy as np
import pytest
import reference

from fastopt import _core

RULES = _core.rules()
SIZES = [*range(0, 68), 127, 128, 129, 1000, 2047, 2048, 2049, 65_537, 200_001]
# Numbers that a rule may meet; each rule takes the ones that it declares.
SCALARS = {
    "lr": 0.013,
    "mu": 0.9,
    "c": 0.1,
    "lr_v": 0.02,
    "lr_m": 0.02,
    "lr_r": 0.004,
    "up": 1.2,
    "down": 0.5,
    "least": 1e-6,
    "most": 50.0,
    "forget": 1.0,
    "undo": 1.0,
    "lr_g": 0.003,
    "eps": 1e-8,
    "eps_root": 1e-12,
    "rho": 0.99,
    "b1": 0.9,
    "c1": 1 - 0.9,
    "b2": 0.999,
    "c2": 1 - 0.999,
    "a": 1.7,
    "a_v": 1.3,
    "a_x": 1.7,
    "b": 0.9,
    "c_v": 0.7,
    "kappa": 0.01,
    "theta": 0.7,
    "k1": 0.3,
    "k2": 0.05,
    "lr_y": 0.004,
    "wd": 0.02,
    "eps_outside": 1e-7,
    "a_m": 1.3,
    "a_g": 0.2,
    # what only makes the gradient that a rule sees
    **dict.fromkeys(["weight", "eps1", "eps1_least", "eps2", "d", "late"], 1.0),
    **dict.fromkeys(["sum", "steps", "x1", "x3", "x5"], 1.0),
}
PRELUDES = {"plain": (1.0, 0.0, 0.0), "clip, L2, decay": (-0.37, 0.011, 0.001)}


@pytest.fixture(params=_core.isa_available())
def isa(request):
    before = _core.get_isa()
    _core.set_isa(request.param)
    yield request.param
    _core.set_isa(before)


def numbers(rng, n, dtype):
    """Numbers of many magnitudes and both signs, zeros among them."""
    x = rng.standard_normal(n) * 10.0 ** rng.integers(-6, 4, n)
    x[rng.random(n) < 0.1] = 0
    return x.astype(dtype)


def compiled_steps(rule, w, g, states, prelude, scalars, threads, steps=1):
    plan = _core.Plan(rule, ("w",), [w], [states], [0], [])
    plan.hold([g], None, False)
    for _ in range(steps):
        plan.set_group(0, *prelude, scalars)
        plan.run(threads, 0.0, 0.0, 0.0)


def reference_steps(rule, w, g, states, prelude, scalars, steps=1):
    scale, l2, decay = (w.dtype.type(x) for x in prelude)
    scalars = [w.dtype.type(scalars[name]) for name in RULES[rule][1]]
    for _ in range(steps):
        total = g
        if prelude != PRELUDES["plain"]:
            total = scale * g + l2 * w
            w -= decay * w
        getattr(reference, rule)(w, total, *states, *scalars)


def arrays(rule, rng, n, dtype):
    states = [np.abs(numbers(rng, n, dtype)) for _ in RULES[rule][0]]
    return numbers(rng, n, dtype), numbers(rng, n, dtype), states


@pytest.mark.parametrize("rule", RULES)
def test_reference_has_the_declared_arguments(rule):
    states, scalars = RULES[rule]
    arguments = list(inspect.signature(getattr(reference, rule)).parameters)
    assert arguments == ["w", "g", *states, *scalars]


def test_every_reference_is_compiled():
    functions = {name for name, f in vars(reference).items() if inspect.isfunction(f)}
    assert functions - {"divide"} == set(RULES)


@pytest.mark.parametrize("prelude", PRELUDES)
@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rule", RULES)
def test_compiled_equals_reference_bit_for_bit(isa, rule, dtype, threads, prelude):
    rng = np.random.default_rng(0)
    for n in SIZES if threads == 1 else [33, 65_537, 200_001]:
        w, g, states = arrays(rule, rng, n, dtype)
        w2, states2 = w.copy(), [s.copy() for s in states]
        compiled_steps(rule, w, g, states, PRELUDES[prelude], SCALARS, threads, steps=2)
        reference_steps(rule, w2, g, states2, PRELUDES[prelude], SCALARS, steps=2)
        assert w.tobytes() == w2.tobytes(), n
        for s, s2 in zip(states, states2, strict=True):
            assert s.tobytes() == s2.tobytes(), n


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rule", RULES)
def test_without_eps_nothing_is_divided_by_zero_but_where_the_formula_says_so(isa, rule, dtype):
    rng = np.random.default_rng(5)
    w, g, states = arrays(rule, rng, 1000, dtype)
    for s in states:
        s[rng.random(1000) < 0.5] = 0
    g[:100] = 0
    g[10] = np.nan
    w2, states2 = w.copy(), [s.copy() for s in states]
    scalars = {name: 0.0 if name[:3] == "eps" else x for name, x in SCALARS.items()}
    scalars |= {"b": 0.0, "k1": 0.0, "k2": 0.0, "undo": 0.0, "forget": 0.0}
    compiled_steps(rule, w, g, states, PRELUDES["plain"], scalars, 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        reference_steps(rule, w2, g, states2, PRELUDES["plain"], scalars)
    np.testing.assert_array_equal(w, w2)
    for s, s2 in zip(states, states2, strict=True):
        np.testing.assert_array_equal(s, s2)
    if rule not in ("lamb_moments", "lamb", "muon_moments"):  # each a half of the step
        assert np.isnan(w[10])


@pytest.mark.parametrize("rule", RULES)
def test_unaligned_buffers_give_the_same_bits(isa, rule):
    rng = np.random.default_rng(1)
    for offset in range(1, 16):
        w, g, states = arrays(rule, rng, 517, "float32")
        w2, states2 = w.copy(), [s.copy() for s in states]
        moved = [np.empty(600, "float32")[offset : offset + 517] for _ in range(2 + len(states))]
        for to, of in zip(moved, [w, g, *states], strict=True):
            to[...] = of
        compiled_steps(rule, moved[0], moved[1], moved[2:], PRELUDES["plain"], SCALARS, 1)
        reference_steps(rule, w2, g, states2, PRELUDES["plain"], SCALARS)
        assert moved[0].tobytes() == w2.tobytes()


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("rule", RULES)
def test_many_segments_equal_one_by_one(rule, threads):
    rng = np.random.default_rng(2)
    sizes = [0, 1, 5, 64, 0, 40_000, 63, 65, 90_001, 7, 0]
    together = [arrays(rule, rng, n, ("float32", "float64")[k % 2]) for k, n in enumerate(sizes)]
    alone = [(w.copy(), g, [s.copy() for s in states]) for w, g, states in together]
    names = tuple(map(str, range(len(sizes))))
    plan = _core.Plan(
        rule, names, [t[0] for t in together], [t[2] for t in together], [0] * len(sizes), []
    )
    plan.hold([t[1] for t in together], None, False)
    plan.set_group(0, *PRELUDES["plain"], SCALARS)
    plan.run(threads, 0.0, 0.0, 0.0)
    for (w, _, states), (w2, g2, states2) in zip(together, alone, strict=True):
        reference_steps(rule, w2, g2, states2, PRELUDES["plain"], SCALARS)
        assert w.tobytes() == w2.tobytes()
        assert all(s.tobytes() == s2.tobytes() for s, s2 in zip(states, states2, strict=True))


@pytest.mark.parametrize("index", ["int32", "int64"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rule", RULES)
def test_sparse_equals_reference_coordinate_by_coordinate(isa, rule, dtype, index):
    rng = np.random.default_rng(4)
    for n, k in [(1, 0), (1, 1), (50, 7), (1000, 3000)]:
        w, _, states = arrays(rule, rng, n, dtype)
        at, g = rng.integers(0, n, k).astype(index), numbers(rng, k, dtype)
        w2, states2 = w.copy(), [s.copy() for s in states]
        prelude = PRELUDES["clip, L2, decay"]
        _core.sparse_step(rule, at, w, g, states, *prelude, SCALARS)
        for j, gj in zip(at, g, strict=True):
            here = slice(j, j + 1)
            reference_steps(
                rule, w2[here], np.array([gj]), [s[here] for s in states2], prelude, SCALARS
            )
        assert w.tobytes() == w2.tobytes()
        assert all(s.tobytes() == s2.tobytes() for s, s2 in zip(states, states2, strict=True))


@pytest.mark.parametrize(
    ("at", "g", "w", "error"),
    [
        ([0, 4], [1, 1], [0.0] * 4, IndexError),
        ([-1], [1], [0.0] * 4, IndexError),
        ([0, 1], [1], [0.0] * 4, ValueError),
        ([[0]], [1], [0.0] * 4, ValueError),
    ],
)
def test_sparse_refuses_wrong_coordinates(at, g, w, error):
    w = np.array(w)
    with pytest.raises(error):
        _core.sparse_step("sgd", np.array(at), w, np.array(g, float), [], 1, 0, 0, {"lr": 1.0})
    assert not w.any()


def test_nan_and_inf_pass_through_as_in_the_formula():
    for rule in RULES:
        w, g, states = arrays(rule, np.random.default_rng(3), 100, "float32")
        g[3], g[50], g[99] = np.nan, np.inf, -np.inf
        w2, states2 = w.copy(), [s.copy() for s in states]
        compiled_steps(rule, w, g, states, PRELUDES["plain"], SCALARS, 1)
        with np.errstate(invalid="ignore"):
            reference_steps(rule, w2, g, states2, PRELUDES["plain"], SCALARS)
        np.testing.assert_array_equal(w, w2)


def test_subnormal_results_become_zero_and_the_mode_is_restored():
    w, g, v = np.full(64, 1e-30, "float32"), np.zeros(64, "float32"), np.full(64, 1e-38, "float32")
    compiled_steps("momentum", w, g, [v], PRELUDES["plain"], {**SCALARS, "mu": 0.5}, 1)
    assert not v.any()
    assert np.float32(1e-38) * np.float32(0.5) > 0


def free_memory():
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(free_memory() < 20e9, reason="needs 20 GB of free memory")
def test_more_than_2_to_31_elements_in_one_buffer():
    n = 2**31 + 17
    w, g = np.zeros(n, "float32"), np.zeros(n, "float32")
    plan = _core.Plan("sgd", ("w",), [w], [[]], [0], [])
    at = [0, 2**31 - 1, 2**31, n - 1]
    g[at] = 1
    plan.hold([g], None, False)
    plan.set_group(0, 1.0, 0.0, 0.0, {"lr": 0.5})
    plan.run(2, 0.0, 0.0, 0.0)
    assert (w[at] == -0.5).all()
    assert np.count_nonzero(w[:1000]) == 1 and np.count_nonzero(w[-1000:]) == 3
    assert plan.norm(2) == 2.0
