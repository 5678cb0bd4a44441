"""One flat buffer, named views into it, usable by name and as a whole."""

import copy
import pickle

import numpy as np
import pytest

import fastopt


def test_views_lie_in_the_flat_buffer_in_order():
    arena = fastopt.Arena({"W": (2, 3), "b": 3, "s": (), "none": (0, 4)}, dtype="float64")
    assert list(arena) == ["W", "b", "s", "none"] and arena.flat.shape == (10,)
    arena.flat[...] = np.arange(10)
    assert arena["W"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert arena["b"].tolist() == [6, 7, 8] and arena["s"] == 9 and arena["none"].shape == (0, 4)
    assert arena.flat.__array_interface__["data"][0] % 64 == 0


def test_by_name_equals_flat_bit_for_bit():
    rng = np.random.default_rng(0)
    a = fastopt.Arena({"W": (30, 7), "b": 11})
    a.flat[...] = rng.standard_normal(221)
    b, ga = a.like(), a.like()
    b.flat[...] = a.flat
    assert not np.shares_memory(a.flat, b.flat)
    ga.flat[...] = rng.standard_normal(221)
    fastopt.Adam(a).step(ga)
    fastopt.Adam(b.flat).step(ga.flat)
    assert a.flat.tobytes() == b.flat.tobytes()


@pytest.mark.parametrize(
    ("shapes", "dtype", "match"),
    [
        ({}, "float32", "non-empty mapping"),
        ([3], "float32", "non-empty mapping"),
        ({"a": 3}, "int32", "dtype must be 'float32' or 'float64'"),
        ({"a": -1}, "float32", "shape of 'a'"),
        ({"a": (2, 1.5)}, "float32", "shape of 'a'"),
        ({1: 3}, "float32", "names must be strings"),
    ],
)
def test_wrong_input_is_refused(shapes, dtype, match):
    with pytest.raises((ValueError, TypeError), match=match):
        fastopt.Arena(shapes, dtype)


@pytest.mark.parametrize("how", [copy.deepcopy, lambda a: pickle.loads(pickle.dumps(a))])
def test_a_copy_is_one_buffer_too(how):
    arena = fastopt.Arena({"W": (2, 3), "b": 3})
    arena["W"][...] = 5
    other = how(arena)
    np.testing.assert_array_equal(other["W"], 5)
    other.flat[:] = 7
    assert (other["W"] == 7).all() and (other["b"] == 7).all() and (arena["W"] == 5).all()


@pytest.mark.parametrize("how", [copy.deepcopy, lambda a: pickle.loads(pickle.dumps(a))])
@pytest.mark.parametrize("flat", [True, False])
@pytest.mark.parametrize("first", ["arena", "optimizer"])
def test_an_optimizer_copied_with_its_arena_steps_it(how, flat, first):
    arena = fastopt.Arena({"a": 3, "b": (2, 2)})
    opt = fastopt.SGD(arena.flat if flat else arena, lr=1.0)
    if first == "arena":
        other, stepped = how((arena, opt))
    else:
        stepped, other = how((opt, arena))
    stepped.step(np.ones(7, "f4") if flat else {k: np.ones_like(v) for k, v in arena.items()})
    assert (other.flat == -1).all() and (other["b"] == -1).all() and not arena.flat.any()
