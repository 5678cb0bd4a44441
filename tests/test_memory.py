"""A step copies nothing: no allocation of a parameter's size, no array moves."""

import tracemalloc

import numpy as np
import pytest

import fastopt

SIDE = 1000


def addresses(arrays):
    return [a.__array_interface__["data"][0] for a in arrays]


@pytest.mark.parametrize("layout", ["contiguous", "strided", "transposed"])
@pytest.mark.parametrize("name", [n for n in fastopt.Optimizer.registry if n != "Muon"])
def test_step_allocates_nothing_of_parameter_size(name, layout):
    base = np.zeros((SIDE, 2 * SIDE))
    w = {"contiguous": base[: SIDE // 2], "strided": base[:, ::2], "transposed": base.T}[layout]
    g = np.ones(w.shape)
    opt = getattr(fastopt, name)({"w": w, "b": np.zeros(SIDE)}, lr=0.1, clip_norm=1e9)
    grads = {"w": g, "b": np.ones(SIDE)}
    opt.step(grads)
    states = [s for one in opt.state.values() for s in one.values()]
    before = addresses([w, g, *states])
    tracemalloc.start()
    try:
        opt.step(grads)
        opt.bind(grads)
        opt.step()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 20_000
    assert addresses([w, g, *[s for one in opt.state.values() for s in one.values()]]) == before


def test_states_start_on_a_cache_line():
    opt = fastopt.Adam([np.zeros(n, "float32") for n in (1, 7, 100, 4096)])
    assert all(a % 64 == 0 for s in opt.state.values() for a in addresses(s.values()))


def test_a_dropped_optimizer_gives_everything_back():
    w, g = np.zeros(1000), np.ones(1000)
    opt = fastopt.Adam(w)
    opt.bind(g)
    opt.step()
    del opt
    w.resize(2000, refcheck=False)
    g.resize(2000, refcheck=False)
