"""Gradients that are rows, (rows, values): most of a parameter has gradient 0 and is left alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fastopt._core import RowGradient, add_rows, distinct
from fastopt.rules import precision

if TYPE_CHECKING:
    from fastopt.rules.base import Optimizer

LAZY = (None, "row", "catchup", "dense")

# The states of lazy="catchup": what each row has had of the decay that all rows should have had.
SKIPPED = "skipped_decay"
SKIPPED_SOFT = "skipped_l1"


def check(opt: Optimizer) -> None:
    """Raise if `opt` has options that need all rows at every step."""
    if opt.lazy not in ("row", "catchup"):
        return
    for name, wrong in {
        "ema": opt._ema is not None,
        "accumulate": opt._accumulate > 1,
        "state_dtype": opt._state_dtype is not None,
        "this rule": not opt.by_rows,
        "nesterov='lookahead'": any(g.get("nesterov") == "lookahead" for g in opt.param_groups),
    }.items():
        if wrong:
            raise ValueError(
                f"{type(opt).__name__}: lazy={opt.lazy!r} does not go with {name}, which changes "
                "all rows at every step: use lazy='dense'"
            )


def new_states(opt: Optimizer, array: np.ndarray, proximal: bool) -> dict[str, np.ndarray]:
    """Return the states of lazy="catchup" for one parameter."""
    if opt.lazy != "catchup" or not takes_rows(array):
        return {}
    zeros = np.zeros(len(array) + 1)
    return {SKIPPED: zeros, **({SKIPPED_SOFT: zeros.copy()} if proximal else {})}


def takes_rows(array: np.ndarray) -> bool:
    """Return whether single rows of a parameter can be updated where they lie."""
    flags = array.flags
    return array.ndim > 0 and flags.c_contiguous and flags.aligned and not precision.is_low(array)


def resolve(opt: Optimizer, grads: Sequence[Any]) -> list[Any]:
    """Return `grads` with every (rows, values) as the plan can take it."""
    found = list(grads)
    for k, (name, grad) in enumerate(zip(opt._order, found, strict=True)):
        if isinstance(grad, tuple) and opt.lazy is not None:
            found[k] = _resolved(opt, name, opt._arrays[name], grad)
    return found


def _resolved(opt: Optimizer, name: str, array: np.ndarray, grad: tuple[Any, ...]) -> Any:
    who = f"gradient of {name!r}"
    if len(grad) != 2:
        raise ValueError(f"{who} must be an array or (rows, values), got a tuple of {len(grad)}")
    if array.ndim == 0:
        raise ValueError(f"{who} cannot be (rows, values): the parameter has no rows")
    if array.ndim == 1 and (
        opt._clip_per == "row"
        or any(g["max_norm"] is not None for g in opt.param_groups if name in g["params"])
    ):
        raise ValueError(
            f"{who} cannot be (rows, values) with clip_per='row' or max_norm, to which a vector is "
            "one row"
        )
    rows, values = np.asarray(grad[0]), np.asarray(grad[1])
    if rows.ndim != 1 or (rows.size and rows.dtype.kind not in "iu"):
        raise TypeError(f"{who}: rows must be integers in one dimension, got {rows.dtype} "
                        f"{rows.shape}")  # fmt: skip
    if values.shape != (len(rows), *array.shape[1:]):
        raise ValueError(
            f"{who}: values has shape {values.shape}, for {len(rows)} rows of a parameter "
            f"{array.shape} it must be {(len(rows), *array.shape[1:])}"
        )
    exact = precision.working_dtype(array)
    if values.dtype != exact and not (exact == np.float32 and precision.is_low(values)):
        raise TypeError(f"{who}: values must be {exact} like the parameter, got {values.dtype}")
    if isinstance(grad[1], np.ma.MaskedArray):
        raise TypeError(f"{who}: values is a masked array, whose mask a step would not respect")
    if rows.dtype == np.uint64 and rows.size and rows.max() >= len(array):
        raise ValueError(f"{who}: row {rows.max()} is not in [0, {len(array)})")
    rows = np.ascontiguousarray(rows, np.int64)
    try:
        chosen, place = distinct(rows, len(array))
    except IndexError as error:
        at = error.args[0]
        raise ValueError(
            f"{who}: row {rows[at]}, at position {at}, is not in [0, {len(array)})"
        ) from None
    if opt.lazy == "dense":
        return _dense(opt, name, array, rows, values)
    if not takes_rows(array):
        raise ValueError(
            f"{who}: with lazy={opt.lazy!r} the parameter must be float32 or float64, "
            "C-contiguous and aligned: use lazy='dense'"
        )
    if place is None and not opt._zero_grad and values.flags.c_contiguous and values.flags.aligned:
        return RowGradient(chosen, values)
    if place is None:
        place = np.arange(len(rows))
    added = np.zeros((len(chosen), *array.shape[1:]), exact)
    add_rows(added, place, np.ascontiguousarray(values, exact))
    return RowGradient(chosen, added)


def _dense(
    opt: Optimizer, name: str, array: np.ndarray, rows: np.ndarray, values: np.ndarray
) -> np.ndarray:
    """Return the gradient of all rows, in an array that is kept for the next step."""
    exact = precision.working_dtype(array)
    if name in opt._scratch:
        whole, used = opt._scratch[name]
        whole[used] = 0
    else:
        whole = np.zeros(array.shape, exact)
    opt._scratch[name] = whole, rows
    add_rows(whole, rows, np.ascontiguousarray(values, exact))
    return whole
