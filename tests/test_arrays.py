"""Which arrays are taken as parameters and gradients, wherever they come from, and which are not.

Whether two arrays share memory is worked out here byte by byte.
"""

import array
import ctypes
import mmap
import os
from multiprocessing import shared_memory

import layouts
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fastopt
from fastopt import SGD, Adam

bf16 = np.dtype(pytest.importorskip("ml_dtypes").bfloat16)
as_strided = np.lib.stride_tricks.as_strided


def drawn(examples):
    return settings(
        max_examples=examples,
        deadline=None,
        derandomize=bool(os.environ.get("CI")),
        suppress_health_check=[HealthCheck.too_slow],
    )


def read_only(w):
    w = w.copy()
    w.flags.writeable = False
    return w


class Own(np.ndarray):
    """A subclass."""


REFUSED = {
    "read-only": (read_only, "is read-only"),
    "broadcast": (lambda w: np.broadcast_to(w[:1], w.shape), "is read-only"),
    "stride 0": (lambda w: as_strided(w, w.shape, (0, w.itemsize)), "elements that share memory"),
    "all on one": (lambda w: as_strided(w, (5,), (0,)), "elements that share memory"),
    "windows": (lambda w: as_strided(w, (3, 4), (8, 8)), "elements that share memory"),
    "halves": (lambda w: as_strided(w, (9,), (w.itemsize // 2,)), "share memory|not aligned"),
    "swapped": (lambda w: w.astype(w.dtype.newbyteorder()), "must be a native"),
    "int": (lambda w: w.astype(int), "must be a native"),
    "bool": (lambda w: w.astype(bool), "must be a native"),
    "complex": (lambda w: w.astype(complex), "must be a native"),
    "longdouble": (lambda w: w.astype(np.longdouble), "must be a native"),
    "object": (lambda w: w.astype(object), "must be a native"),
    "text": (lambda w: w.astype("U9"), "must be a native"),
    "time": (lambda w: w.astype("i8").view("M8[s]"), "must be a native"),
    "records": (lambda w: np.zeros(3, [("x", w.dtype)]), "must be a native"),
    "bits": (lambda w: np.zeros(3, "u2"), "must be a native"),
    "masked": (lambda w: np.ma.array(w), "is a masked array"),
    "matrix": (lambda w: w.view(np.matrix), "is a matrix, whose own rules"),
    "recarray": (lambda w: w.view(np.recarray), "is a recarray, whose own rules"),
    "subclass": (lambda w: w.view(Own), "is a Own, whose own rules"),
    "list": (lambda w: w.tolist(), "must be a numpy array"),
    "number": (lambda w: float(w[0, 0]), "must be a numpy array"),
    "numpy number": (lambda w: w[0, 0], "must be a numpy array"),
    "None": (lambda w: None, "must be a numpy array"),
    "words": (lambda w: "W", "must be a numpy array"),
    "memoryview": (lambda w: memoryview(w), "must be a numpy array"),
    "bytearray": (lambda w: bytearray(8), "must be a numpy array"),
    "odd": (lambda w: np.ndarray((4,), w.dtype, bytearray(99), 1), "is not aligned"),
    "odd strides": (
        lambda w: np.ndarray((4,), w.dtype, bytearray(99), 0, (w.itemsize + 1,)),
        "is not aligned",
    ),
}


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("kind", REFUSED)
def test_parameters_that_cannot_be_updated_in_place_are_refused_by_name(kind, dtype):
    make, match = REFUSED[kind]
    if kind == "longdouble" and np.dtype("g").itemsize == 8:
        pytest.skip("longdouble is double here")
    good, w = np.ones((3, 4), dtype), np.ones((5, 4), dtype)
    bad = make(w)
    for params in (
        {"good": good, "bad": bad},
        [{"params": {"good": good}}, {"params": {"bad": bad}, "lr": 0.5}],
    ):
        with pytest.raises((TypeError, ValueError), match=f"parameter 'bad' .*({match})"):
            Adam(params)
    opt = Adam({"good": good})
    with pytest.raises((TypeError, ValueError), match=f"parameter 'bad' .*({match})"):
        opt.add_param_group({"params": {"bad": bad}})
    assert (good == 1).all() and (w == 1).all() and list(opt.state) == ["good"]
    opt.step(np.ones((3, 4), dtype))


@st.composite
def windows(draw, owner):
    """Two views of the same shape of a square array, with any steps and directions."""
    height, width = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    views = []
    for _ in range(2):
        cut = []
        for n in (height, width):
            step = draw(st.sampled_from([1, 1, 2, 3]))
            start = draw(st.integers(0, len(owner) - 1 - step * (n - 1)))
            cut.append(slice(start, start + step * (n - 1) + 1, step))
        view = owner[tuple(cut)] if draw(st.booleans()) else owner[tuple(cut[::-1])].T
        views.append(view[:: draw(st.sampled_from([1, -1])), :: draw(st.sampled_from([1, -1]))])
    return views


@drawn(300)
@given(st.data())
def test_views_are_refused_if_and_only_if_they_share_a_byte(data):
    owner = np.arange(81.0).reshape(9, 9)
    one, two = data.draw(windows(owner))
    shared = not layouts.addresses(one).isdisjoint(layouts.addresses(two))
    before = owner.copy()
    zeros = [np.zeros(one.shape) for _ in "01"]
    refused = {
        "parameters '[ab]' and '[ab]' share": lambda: SGD({"a": one, "b": two}, lr=0.0),
        "gradient of 'a' shares": lambda: SGD({"a": one}, lr=0.0).step({"a": two}),
        "gradients of '[01]' and '[01]' share": lambda: SGD(zeros, lr=0.0, zero_grad=True).bind(
            [one, two]
        ),
    }
    for match, call in refused.items():
        if shared:
            with pytest.raises(ValueError, match=match):
                call()
        else:
            call()
        np.testing.assert_array_equal(owner, before)


@drawn(300)
@given(
    shape=st.lists(st.integers(1, 4), min_size=1, max_size=3),
    strides=st.lists(st.integers(-6, 6), min_size=3, max_size=3),
)
def test_arrays_whose_elements_overlap_are_refused(shape, strides):
    owner = np.arange(100.0)
    view = as_strided(owner[54:], shape, [8 * s for s in strides[: len(shape)]])
    overlaps = len(layouts.addresses(view)) < view.nbytes
    calls = {
        "parameter 'w' has elements": lambda: SGD({"w": view}, lr=0.0),
        "gradient of 'w' has elements": lambda: SGD(
            {"w": np.ones(shape)}, lr=0.0, zero_grad=True
        ).bind({"w": view}),
    }
    for match, call in calls.items():
        try:
            call()
        except ValueError as error:
            # Rare strides are refused though no two elements meet: never those of slices.
            assert match in str(error)
        else:
            assert not overlaps
    w = np.zeros(shape)
    SGD(w, lr=1.0).step(view)  # a gradient that is only read may be anything
    np.testing.assert_array_equal(w, -view)


@pytest.mark.parametrize("aligned", [True, False])
def test_fields_of_records(aligned):
    kind = np.dtype(
        [("tag", "u1"), ("w", "f4", (2, 3)), ("g", "f4", (2, 3)), ("end", "u1")], align=aligned
    )
    raw = np.random.default_rng(0).integers(0, 255, 300 * kind.itemsize, np.uint8)
    records = raw.view(kind)
    records["w"], records["g"] = 1, np.arange(6.0).reshape(2, 3)
    others = [records[name].copy() for name in ("tag", "g", "end")]
    if aligned:
        Adam({"w": records["w"]}, lr=0.1).step({"w": records["g"]})
        w = np.ones((300, 2, 3), "f4")
        Adam(w, lr=0.1).step(records["g"].copy())
        assert records["w"].tobytes() == w.tobytes()
    else:
        with pytest.raises(ValueError, match="parameter 'w' is not aligned"):
            Adam({"w": records["w"]})
        w = np.zeros((300, 2, 3), "f4")
        SGD(w, lr=1.0).step(records["g"])
        np.testing.assert_array_equal(w, -records["g"])
    for name, other in zip(("tag", "g", "end"), others, strict=True):
        assert records[name].tobytes() == other.tobytes()


def test_parameters_in_one_arena_are_neighbours_without_gaps():
    flat = np.ones(64, "f4")
    parts = {str(k): flat[k : k + n] for k, n in ((0, 1), (1, 3), (4, 8), (12, 5), (17, 40))}
    opt = Adam(parts, lr=0.1)
    g = np.arange(64, dtype="f4")
    opt.step({k: g[int(k) : int(k) + len(part)] for k, part in parts.items()})
    ref = np.ones(64, "f4")
    Adam(ref, lr=0.1).step(g)
    assert flat[:57].tobytes() == ref[:57].tobytes() and (flat[57:] == 1).all()


FOREIGN = {
    "array": lambda g: array.array("d", g.ravel().tolist()),
    "memoryview": lambda g: memoryview(g),
    "backwards": lambda g: memoryview(g[::-1].copy())[::-1],
    "bytes": lambda g: memoryview(g.tobytes()).cast("d"),
    "ctypes": lambda g: (ctypes.c_double * g.size)(*g.ravel()),
    "ctypes at an odd address": lambda g: (ctypes.c_double * g.size).from_buffer(
        bytearray(b"." + g.tobytes()), 1
    ),
    "mmap": lambda g: memoryview(mapped(g)).cast("d"),
    "matrix": lambda g: g.reshape(1, -1).view(np.matrix),
}


def mapped(g):
    memory = mmap.mmap(-1, g.nbytes)
    memory[:] = g.tobytes()
    return memory


@pytest.mark.parametrize("kind", FOREIGN)
def test_gradients_in_any_buffer(kind):
    g = np.random.default_rng(0).standard_normal(500)
    w = np.zeros((1, 500) if kind == "matrix" else 500)
    given = FOREIGN[kind](g)
    opt = SGD(w, lr=1.0, clip_norm=1e9)
    opt.step(given)
    np.testing.assert_array_equal(w.ravel(), -g)
    opt.bind(given)
    opt.step()
    np.testing.assert_array_equal(w.ravel(), -g - g)
    with pytest.raises((TypeError, ValueError), match="gradient of '0'"):
        SGD(np.zeros(500, "f4"), lr=1.0).step(given)


def test_parameters_in_shared_memory_are_seen_by_others():
    ours = shared_memory.SharedMemory(create=True, size=8 * 1000)
    theirs = shared_memory.SharedMemory(ours.name)
    try:
        w = np.ndarray(1000, "f8", ours.buf)
        w[...] = 1
        seen = np.ndarray((10, 50), "f8", theirs.buf, 8, (400, 16))[:, ::-1]
        opt = SGD(w, lr=1.0)
        opt.step(np.arange(1000.0))
        np.testing.assert_array_equal(
            seen, 1 - np.ndarray((10, 50), "f8", np.arange(1000.0), 8, (400, 16))[:, ::-1]
        )
        del opt, w, seen
    finally:
        theirs.close()
        ours.close()
        ours.unlink()


def test_parameters_in_a_file(tmp_path):
    w = np.lib.format.open_memmap(tmp_path / "w.npy", "w+", "f4", (30, 40))
    w[...] = 1
    opt = Adam({"all": w[:, :20], "rest": w[:, 20:].T}, lr=0.1)
    opt.step({"all": np.ones((30, 20), "f4"), "rest": np.ones((20, 30), "f4")})
    w.flush()
    np.testing.assert_allclose(np.load(tmp_path / "w.npy"), 0.9, rtol=1e-6)
    closed = np.load(tmp_path / "w.npy", mmap_mode="r")
    with pytest.raises(ValueError, match="parameter 'w' is read-only"):
        Adam({"w": closed})


def test_only_the_bits_of_bfloat16_arrays_are_bfloat16():
    w = np.zeros(5, bf16)
    opt = SGD({"w": w}, lr=1.0)
    for bits in np.ones(5, "u2"), memoryview(np.ones(5, "u2")), array.array("H", [1] * 5):
        with pytest.raises(TypeError, match="gradient of 'w' must be a native float32, float16"):
            opt.step({"w": bits})
    g = np.arange(10).astype(bf16)
    opt.step({"w": g[::-2]})
    np.testing.assert_array_equal(w.astype("f4"), [-9, -7, -5, -3, -1])


def test_parameters_do_not_broadcast():
    w = np.zeros((3, 4))
    opt = fastopt.SGD({"w": w}, lr=1.0)
    for shape in (), (1,), (4,), (1, 4), (3, 1), (1, 1), (1, 3, 4), (3, 4, 1), (12,), (4, 3):
        with pytest.raises(ValueError, match=r"gradient of 'w' has shape .* its parameter \(3, 4"):
            opt.step({"w": np.ones(shape)})
    assert not w.any() and opt.t == 0
