"""Tensors as the plans see them: NumPy arrays over the same memory, and states in their form."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import torch

from fastopt.rules import precision

REAL = {
    torch.float32: torch.float32,
    torch.float64: torch.float64,
    torch.float16: torch.float32,
    torch.bfloat16: torch.float32,
    torch.complex64: torch.complex64,
    torch.complex128: torch.complex128,
}  # dtype of a parameter -> that of its states
NUMPY = {
    torch.float32: np.float32,
    torch.float64: np.float64,
    torch.float16: np.float16,
    torch.bfloat16: np.uint16,
    torch.uint8: np.uint8,
}
LOW = (torch.float16, torch.bfloat16)
LARGEST = precision.LARGEST


def why_not(tensor: torch.Tensor) -> str:
    """Return why a step cannot update a parameter in place; empty if it can."""
    if tensor.device.type != "cpu":
        return f"it is on {tensor.device}"
    if tensor.layout != torch.strided:
        return f"its layout is {tensor.layout}"
    if tensor.dtype not in REAL:
        return f"its dtype is {tensor.dtype}"
    kind = type(tensor)
    if kind.__torch_dispatch__ is not torch.Tensor.__torch_dispatch__:
        return f"it is a {kind.__name__}, whose numbers only its own operations know"
    if tensor.is_neg() or tensor.is_conj():
        return "it is a lazily negated or conjugated view"
    if tensor.dim() > 14:
        return "it has more than 14 dimensions"
    if reach(tensor) > tensor.untyped_storage().nbytes():
        return "its memory has been freed"
    return ""


def reach(tensor: torch.Tensor) -> int:
    """Return where in its storage the last byte of a tensor ends."""
    if tensor.numel() == 0:
        return 0
    last = sum((n - 1) * step for n, step in zip(tensor.shape, tensor.stride(), strict=True))
    return (tensor.storage_offset() + last + 1) * tensor.element_size()


def view(tensor: torch.Tensor) -> np.ndarray:
    """Return an array over the memory of a tensor; complex numbers are pairs, bfloat16 its bits.

    It does not keep the memory: `Tensor.numpy` would, and let nobody resize it ever after, which is
    how parameters are taken out of memory for a while.
    """
    tensor = tensor.detach()
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor)
    dtype = np.dtype(NUMPY[tensor.dtype])
    if tensor.numel() == 0:
        return np.empty(tuple(tensor.shape), dtype)
    strides = [step * dtype.itemsize for step in tensor.stride()]
    size = sum((n - 1) * step for n, step in zip(tensor.shape, strides, strict=True))
    room = (ctypes.c_char * (size + dtype.itemsize)).from_address(tensor.data_ptr())
    return np.ndarray(tuple(tensor.shape), dtype, room, 0, strides)


def order_of(array: np.ndarray) -> tuple[int, ...] | None:
    """Return the order of axes in which `array` is contiguous; None for that which it has."""
    if array.flags.c_contiguous:
        return None
    axes = sorted(range(array.ndim), key=lambda d: (-array.strides[d], d))
    long = [d for d in axes if array.shape[d] > 1]  # the strides of others mean nothing
    axes = long + [d for d in axes if array.shape[d] <= 1]
    return tuple(axes) if array.transpose(axes).flags.c_contiguous else None


def in_order(array: np.ndarray, order: tuple[int, ...] | None) -> np.ndarray:
    """Return `array` with its axes in this order."""
    return array if order is None else array.transpose(order)


def zeros(like: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return zeros of the shape of a parameter, in its order of axes where it has one."""
    return torch.zeros_like(like.detach(), dtype=dtype, memory_format=torch.preserve_format)


def conform(
    state: dict[str, Any], key: str, p: torch.Tensor, kind: str | None, low: str | None
) -> None:
    """Bring a state of a parameter into the form that the step needs.

    It may come from a checkpoint in another precision, or compressed.
    """
    if kind is None or p.dtype == torch.float64 or p.is_complex():
        low = None
    wanted = {None: REAL[p.dtype], "bfloat16": torch.bfloat16, "8bit": torch.uint8}[low]
    value, largest = state[key].to(p.device), state.get(key + LARGEST)
    if value.shape != p.shape:
        raise ValueError(
            f"state {key!r} has shape {tuple(value.shape)}, its parameter {tuple(p.shape)}"
        )
    if value.dtype == wanted and (largest is not None) == (low == "8bit"):
        state[key] = laid_out(value, p)
        return
    signed = kind == "signed"
    if value.dtype == torch.uint8 and largest is not None:
        value = decoded(value, largest, signed)
    full = laid_out(value.to(REAL[p.dtype]), p)
    state.pop(key + LARGEST, None)
    if low is None:
        state[key] = full
        return
    stored = zeros(full, wanted)
    order = order_of(view(stored))
    numbers = np.ascontiguousarray(in_order(view(full), order))
    codes = in_order(view(stored), order)
    if low == "8bit":
        quanta = -(-p.numel() // precision._core.QUANTUM)
        state[key + LARGEST] = torch.zeros(quanta, dtype=torch.float32, device="cpu")
        precision.encode(numbers, (codes, view(state[key + LARGEST]), signed))
    else:
        precision.encode(numbers, codes)
    state[key] = stored


def decoded(codes: torch.Tensor, largest: torch.Tensor, signed: bool) -> torch.Tensor:
    """Return 8-bit codes, which are counted in the order of memory, as float32."""
    array = view(codes)
    order = order_of(array)
    flat = in_order(array, order)
    values = precision.decode((flat.reshape(-1), view(largest), signed)).reshape(flat.shape)
    back = values if order is None else values.transpose(np.argsort(order))
    return torch.from_numpy(np.array(back, order="C"))


def laid_out(value: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
    """Return `value` as it is if it is dense, else a dense copy in the parameter's order."""
    array = view(value)
    if in_order(array, order_of(array)).flags.c_contiguous:
        return value
    return zeros(p, value.dtype).copy_(value)


def as_torch_has_it(state: dict[str, Any], p: torch.Tensor, kinds: dict[str, str]) -> None:
    """Bring the states of a parameter into torch's form: all of its dtype, nothing beside them."""
    for key in [key for key in state if key.endswith(LARGEST)]:
        name = key[: -len(LARGEST)]
        state[name] = decoded(state[name], state[key], kinds.get(name) == "signed")
        del state[key]
    for key in ("master", "rest"):  # they are made again from the parameter
        state.pop(key, None)
    for key, value in state.items():
        if isinstance(value, torch.Tensor) and value.dim() > 0 and value.dtype != p.dtype:
            state[key] = value.to(p.dtype)
