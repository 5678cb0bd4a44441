"""What users may pass as parameters, checked once: named, writable, float32/float64, not shared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, ValuesView
from typing import Any

import numpy as np

from fastopt.rules.arena import Arena

Named = Mapping[str, np.ndarray]


def named_arrays(params: Any, first_index: int = 0, what: str = "params") -> Named:
    """Return `params`, one array, a sequence or a mapping of arrays, as name -> array.

    Arrays without a name get their position: "0", "1", ...

    Raises
    ------
    TypeError, ValueError
        Naming the parameter, if one is not a writable native float32 or float64 array.
    """
    if isinstance(params, Arena):
        return params  # as it is: a copy of the optimizer must find the copied arena's arrays
    if isinstance(params, Mapping):
        named = {}
        for name, array in params.items():
            if not isinstance(name, str):
                raise TypeError(f"{what}: names must be strings, got {name!r}")
            named[name] = array
    elif isinstance(params, Iterator | ValuesView):
        raise TypeError(f"{what} is a {type(params).__name__}: pass list(...) of it")
    elif isinstance(params, Sequence) and not isinstance(params, (str, bytes)):
        named = {str(first_index + k): array for k, array in enumerate(params)}
    else:
        named = {str(first_index): params}
    if not named:
        raise ValueError(f"{what} is empty: pass at least one array")
    return {name: checked(name, array) for name, array in named.items()}


def checked(name: str, array: Any) -> np.ndarray:
    """Return parameter `array` if a step can update it in place; otherwise raise, naming it."""
    who = f"parameter {name!r}"
    if isinstance(array, np.ma.MaskedArray):
        raise TypeError(
            f"{who} is a masked array, whose mask a step would not respect: pass its .data"
        )
    if not isinstance(array, np.ndarray):
        raise TypeError(
            f"{who} must be a numpy array, which is updated in place, got {type(array).__name__}"
        )
    if type(array) is not np.ndarray and not isinstance(array, np.memmap):
        raise TypeError(
            f"{who} is a {type(array).__name__}, whose own rules a step would not respect: pass "
            "numpy.asarray(...) of it, which shares its memory"
        )
    name = array.dtype.name
    if name not in ("float32", "float64", "float16", "bfloat16") or not array.dtype.isnative:
        raise TypeError(
            f"{who} must be a native float32, float64, float16 or bfloat16 array, got "
            f"{array.dtype!r}"
        )
    if not array.flags.writeable:
        raise ValueError(f"{who} is read-only: pass a writable array")
    if not array.flags.aligned:
        raise ValueError(
            f"{who} is not aligned to its items of {array.itemsize} bytes: pass a copy"
        )
    if overlaps_itself(array):
        raise ValueError(
            f"{who} has elements that share memory (strides {array.strides}): pass a copy"
        )
    return array


def overlaps_itself(array: np.ndarray) -> bool:
    """Return whether two elements of `array` may lie on the same bytes."""
    reach = array.itemsize
    if array.size == 0:
        return False
    for stride, length in sorted(zip(map(abs, array.strides), array.shape, strict=True)):
        if length > 1:
            if stride < reach:
                return True
            reach += stride * (length - 1)
    return False


def extent(array: np.ndarray) -> tuple[int, int]:
    """Return the bytes [low, high) that the elements of a non-empty array lie in."""
    low = high = array.__array_interface__["data"][0]
    for stride, length in zip(array.strides, array.shape, strict=True):
        if stride < 0:
            low += stride * (length - 1)
        else:
            high += stride * (length - 1)
    return low, high + array.itemsize


def share_memory(a: np.ndarray, b: np.ndarray) -> bool:
    """Return whether an element of `a` may share bytes with one of `b`; exact unless too hard."""
    if a.size == 0 or b.size == 0:
        return False
    try:
        return bool(np.shares_memory(a, b, max_work=100_000))
    except np.exceptions.TooHardError:
        return True


def refuse_shared(named: Named) -> None:
    """Raise if two parameters share memory, or one is given twice."""
    pair = sharing_pair(named)
    if pair:
        raise ValueError(
            f"parameters {pair[0]!r} and {pair[1]!r} share memory: pass each array once"
        )


def sharing_pair(named: Named) -> tuple[str, str] | None:
    """Return the names of two arrays that share memory, or None."""
    spans = sorted(((*extent(a), name) for name, a in named.items() if a.size), key=lambda s: s[:2])
    open_spans: list[tuple[int, str]] = []
    for low, high, name in spans:
        open_spans = [(end, other) for end, other in open_spans if end > low]
        for _, other in open_spans:
            if share_memory(named[name], named[other]):
                return other, name
        open_spans.append((high, name))
    return None


def hulls(arrays: list[np.ndarray]) -> list[tuple[int, int]]:
    """Return the sorted, disjoint byte ranges that cover all `arrays`."""
    merged: list[tuple[int, int]] = []
    for low, high in sorted(extent(a) for a in arrays if a.size):
        if merged and low < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(high, merged[-1][1]))
        else:
            merged.append((low, high))
    return merged


def aligned_full(like: np.ndarray, value: float) -> np.ndarray:
    """Return a new array with the shape, dtype and axis order of `like`, on a 64-byte boundary."""
    flat = np.zeros(like.nbytes + 64, np.uint8)
    start = -flat.__array_interface__["data"][0] % 64
    array = flat[start : start + like.nbytes].view(like.dtype)
    if value:
        array.fill(value)
    return array.reshape(like.shape, order="F" if transposed(like) else "C")


def transposed(array: np.ndarray) -> bool:
    """Return whether `array` is contiguous only when its axes are reversed."""
    return bool(array.flags.f_contiguous and not array.flags.c_contiguous)
