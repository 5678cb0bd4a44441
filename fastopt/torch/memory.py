"""Tensors as the plans see them: NumPy arrays over the same memory, and states in their form."""

from __future__ import annotations

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
    return ""


def view(tensor: torch.Tensor) -> np.ndarray:
    """Return an array over the memory of a tensor; complex numbers are pairs, bfloat16 its bits."""
    tensor = tensor.detach()
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor)
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.int16).numpy().view(np.uint16)
    return tensor.numpy()


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
    value, largest = state[key], state.get(key + LARGEST)
    value = value.to(p.device)
    if value.dtype == wanted and (largest is not None) == (low == "8bit"):
        state[key] = laid_out(value, p)
        return
    signed = kind == "signed"
    if value.dtype == torch.uint8 and largest is not None:
        flat = value.contiguous()
        value = torch.from_numpy(precision.decode((view(flat), view(largest), signed)))
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
        state[key + LARGEST] = torch.zeros(-(-p.numel() // precision._core.QUANTUM))
        precision.encode(numbers, (codes, view(state[key + LARGEST]), signed))
    else:
        precision.encode(numbers, codes)
    state[key] = stored


def laid_out(value: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
    """Return `value` as it is if it is dense, else a dense copy in the parameter's order."""
    array = view(value)
    if value.shape == p.shape and in_order(array, order_of(array)).flags.c_contiguous:
        return value
    return zeros(p, value.dtype).copy_(value.reshape(p.shape))
