"""Arrays of every layout, drawn by hypothesis, in memory whose other bytes are guarded."""

import array
import ctypes
import mmap

import numpy as np
from hypothesis import strategies as st

SHAPES = [(), (1,), (7,), (0,), (33,), (4, 5), (1, 6), (5, 1), (3, 0, 2), (2, 3, 4), (2, 1, 3, 2)]
LARGE = [(2100,), (3, 1500), (2500, 2), (5, 30, 17)]


def buffers(size):
    """Kinds of writable memory: name -> a function that makes `size` zeros of it."""
    return {
        "numpy": lambda: np.zeros(size, np.uint8),
        "bytearray": lambda: bytearray(size),
        "mmap": lambda: mmap.mmap(-1, size),
        "ctypes": lambda: (ctypes.c_uint8 * size)(),
        "array": lambda: array.array("B", bytes(size)),
        "memoryview": lambda: memoryview(bytearray(size)).cast("i"),
    }


class Memory:
    """Arrays carved out of one buffer; all bytes between them have a pattern that must stay."""

    def __init__(self, kind, size=1 << 16):
        self.owner = buffers(size)[kind]()
        self.bytes = np.frombuffer(self.owner, np.uint8)
        self.end = 0
        self.free = np.ones(size, bool)

    def carve(self, shape, dtype, layout):
        """Return an array of `shape` laid out as `layout` says, behind the ones before."""
        dtype = np.dtype(dtype)
        plain = np.dtype(f"u{dtype.itemsize}")
        size, strides = dtype.itemsize, [0] * len(shape)
        reach = size
        for axis, gap in zip(layout["axes"], layout["gaps"], strict=True):
            strides[axis] = reach + gap * size + layout["odd"]
            reach = strides[axis] * max(shape[axis], 1)
        low = -(-(self.bytes.ctypes.data + self.end + 16) // size) * size + layout["shift"] * size
        low += bool(layout["odd"]) - self.bytes.ctypes.data
        start = low
        for axis, back in enumerate(layout["back"]):
            if back:
                start += strides[axis] * max(shape[axis] - 1, 0)
                strides[axis] *= -1
        self.end = low + reach + 16
        assert self.end <= self.bytes.size, "a larger Memory is needed"
        spots = np.ndarray((*shape, size), bool, self.free, start, (*strides, 1))
        assert spots.all(), "two arrays on one spot"
        spots[...] = False
        return np.ndarray(shape, plain, self.bytes, start, tuple(strides)).view(dtype)

    def seal(self, seed):
        """Fill everything that is not carved with the pattern."""
        self.end = min(self.end + 64, self.bytes.size)
        self.between = np.flatnonzero(self.free[: self.end])
        self.pattern = np.random.default_rng(seed).integers(1, 256, self.between.size, np.uint8)
        self.bytes[self.between] = self.pattern

    def untouched(self):
        """Return whether the bytes between the arrays are what they were."""
        return np.array_equal(self.bytes[self.between], self.pattern)


@st.composite
def layouts(draw, ndim, *, aligned=True):
    """Draw an order of axes, gaps, directions and an offset; `aligned` to the items or not."""
    axes = draw(
        st.one_of(
            st.just(list(reversed(range(ndim)))),
            st.just(list(range(ndim))),
            st.permutations(range(ndim)),
        )
    )
    dense = draw(st.booleans())
    return {
        "axes": axes,
        "gaps": [0 if dense else draw(st.sampled_from([0, 0, 1, 3])) for _ in axes],
        "back": [not dense and draw(st.booleans()) for _ in axes],
        "shift": draw(st.integers(0, 3)),
        "odd": 0 if aligned or draw(st.booleans()) else 1,
    }


def addresses(a):
    """The set of bytes that the elements of an array lie on, found one by one."""
    first, size = a.__array_interface__["data"][0], a.itemsize
    return {
        first + sum(i * s for i, s in zip(at, a.strides, strict=True)) + k
        for at in np.ndindex(a.shape)
        for k in range(size)
    }
