"""The point at which a function is differentiated: moved in place, put back to the bit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

FLOATS = (np.dtype(np.float32), np.dtype(np.float64))


class Point:
    """Arrays by name, and what the function is called with.

    Parameters
    ----------
    x : array-like or mapping name -> array-like
        Writable arrays of float32 or float64 are moved where they are, so that a function may hold
        them by itself; of anything else there is a copy, float64 unless it is float32.

    Raises
    ------
    TypeError, ValueError
        Where x is complex, empty of arrays, not finite, or two arrays share memory.
    """

    def __init__(self, x: Any) -> None:
        self.mapping = isinstance(x, Mapping)
        given = dict(x) if self.mapping else {"x": x}
        if not given:
            raise ValueError("x has no arrays")
        self.names = [str(name) for name in given]
        self.arrays = [_own(name, array) for name, array in given.items()]
        for k, a in enumerate(self.arrays):
            for j in range(k):
                if np.shares_memory(a, self.arrays[j]):
                    raise ValueError(f"x: {self.names[j]} and {self.names[k]} share memory")
        self.saved = [array.copy() for array in self.arrays]
        same = all(a is b for a, b in zip(self.arrays, given.values(), strict=True))
        self.x = x if same else self.like(self.arrays)
        self.dtype = np.result_type(*self.arrays)
        self.eps = max(float(np.finfo(a.dtype).eps) for a in self.arrays)
        self.size = sum(a.size for a in self.arrays)
        self.nfev = 0

    def like(self, arrays: list[Any]) -> Any:
        """Return arrays in the structure of x."""
        return dict(zip(self.names, arrays, strict=True)) if self.mapping else arrays[0]

    def label(self, k: int, i: int) -> str:
        """Return the name of element i of array k, such as `W[0, 2]`."""
        at = np.unravel_index(i, self.arrays[k].shape)
        return self.names[k] + (f"[{', '.join(str(int(j)) for j in at)}]" if at else "")

    @contextmanager
    def restored(self) -> Iterator[None]:
        """Put all arrays back at the end, whatever happens."""
        try:
            yield
        finally:
            for array, saved in zip(self.arrays, self.saved, strict=True):
                array[...] = saved

    def call(self, f: Callable[[Any], Any]) -> Any:
        """Return f(x) where x is now."""
        self.nfev += 1
        return f(self.x)

    def first_call(self, f: Callable[[Any], Any]) -> Any:
        """Return f(x), and refuse a function that changes x."""
        value = self.call(f)
        for name, array, saved in zip(self.names, self.arrays, self.saved, strict=True):
            if not np.array_equal(array, saved):
                raise ValueError(f"the function changed its argument {name}")
        return value

    def move(self, k: int, i: int, step: float) -> float:
        """Move element i of array k to `step` from where it was; return how far that is."""
        start = self.saved[k].flat[i]
        self.arrays[k].flat[i] = start + start.dtype.type(step)
        return float(self.arrays[k].flat[i]) - float(start)


def _own(name: Any, value: Any) -> np.ndarray:
    """Return the array to be moved."""
    array = value if isinstance(value, np.ndarray) else np.array(value)
    if array.dtype.kind not in "fiu" or array.dtype.itemsize > 8:
        raise TypeError(f"x: {name} must be of float32 or float64, got {array.dtype}")
    if array.dtype not in FLOATS or not array.flags.writeable or array is not value:
        array = array.astype(array.dtype if array.dtype in FLOATS else np.float64)
    if not np.isfinite(array).all():
        raise ValueError(f"x: {name} must be finite")
    return array


def real_number(value: Any) -> float:
    """Return what a function returned as a float."""
    try:
        if isinstance(value, (str, bytes)) or np.iscomplexobj(value) or np.size(value) != 1:
            raise TypeError
        return float(np.asarray(value).item())
    except (TypeError, ValueError):
        raise TypeError(f"f must return one real number, got {value!r}") from None
