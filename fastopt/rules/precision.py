"""How numbers lie in memory: bfloat16 and float16 parameters, 16-bit and 8-bit states.

NumPy has no bfloat16; arrays of ml_dtypes' are taken, and their bits are what the C side sees.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastopt import _core
from fastopt.rules.parameters import aligned_full, transposed

LARGEST = ".largest"  # what the name of the 8-bit states' scales ends with
ROUNDINGS = ("stochastic", "nearest", "kahan", "master")
STATE_DTYPES = (None, "bfloat16", "8bit")


def is_bfloat16(array: np.ndarray) -> bool:
    """Return whether `array` holds ml_dtypes' bfloat16."""
    return array.dtype.name == "bfloat16"


def is_low(array: np.ndarray) -> bool:
    """Return whether `array` has 16 bits per element."""
    return array.dtype == np.float16 or is_bfloat16(array)


def bits(array: Any) -> Any:
    """Return bfloat16 as its bits, anything else as it is."""
    if isinstance(array, np.ndarray) and is_bfloat16(array):
        return array.view(np.uint16)
    return array


def working_dtype(array: np.ndarray) -> np.dtype:
    """Return the dtype that a step computes in."""
    return np.dtype(np.float32) if is_low(array) else array.dtype


def new_state(
    array: np.ndarray, name: str, value: Any, kind: str | None, dtype: str | None
) -> dict[str, np.ndarray]:
    """Return the arrays of one state by name.

    Parameters
    ----------
    array : numpy.ndarray
        The parameter.
    name : str
        The state's name.
    value : float or callable
        What it starts from; a callable is given the parameter in the working dtype.
    kind : {"signed", "unsigned", None}
        Whether the state has a sign; None if it must be exact.
    dtype : {None, "bfloat16", "8bit"}
        None for the working dtype.
    """
    full = like(array, working_dtype(array))
    if callable(value):
        full[...] = value(array.astype(full.dtype))
    elif value:
        full.fill(value)
    if dtype is None or kind is None:
        return {name: full}
    if dtype == "bfloat16":
        low = like(array, np.dtype(np.uint16))
        encode(full, low)
        return {name: low}
    codes = like(array, np.dtype(np.uint8))
    largest = aligned_full(np.empty(-(-array.size // _core.QUANTUM), np.float32), 0.0)
    encode(full, (codes, largest, kind == "signed"))
    return {name: codes, name + LARGEST: largest}


def like(array: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Return zeros with the shape and axis order of `array`, on a cache line."""
    shape = np.broadcast_to(np.zeros((), dtype), array.shape)
    if transposed(array):
        return aligned_full(np.broadcast_to(np.zeros((), dtype), array.shape[::-1]), 0.0).T
    return aligned_full(shape, 0.0)


def encode(values: np.ndarray, stored: Any) -> None:
    """Write float32 `values` as a 16-bit or 8-bit state, rounded stochastically."""
    order = "F" if transposed(values) else "C"
    if isinstance(stored, tuple):
        codes, largest, signed = stored
        stored = codes.reshape(-1, order=order), largest, signed
    else:
        stored = stored.reshape(-1, order=order)
    _core.encode(values.reshape(-1, order=order), stored)


def decode(stored: Any) -> np.ndarray:
    """Return a stored state in float32."""
    codes = stored[0] if isinstance(stored, tuple) else stored
    out = like(codes, np.dtype(np.float32))
    order = "F" if transposed(codes) else "C"
    flat = codes.reshape(-1, order=order)
    _core.decode(
        (flat, *stored[1:]) if isinstance(stored, tuple) else flat, out.reshape(-1, order=order)
    )
    return out


Initial = float | Callable[[np.ndarray], np.ndarray]
