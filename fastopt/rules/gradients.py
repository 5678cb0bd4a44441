"""Gradients in any form that a user may pass, put in the parameters' order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fastopt.rules.groups import Group
from fastopt.rules.hyperparameters import nearest
from fastopt.rules.parameters import overlaps_itself, sharing_pair


def ordered(
    grads: Any,
    names: tuple[str, ...],
    groups: tuple[Group, ...],
    frozen: set[str],
    rows: bool = False,
) -> list[Any]:
    """Return one gradient per name, None where a frozen parameter has none.

    `rows`: whether (rows, values) may stand for the gradient of a single parameter.

    Raises
    ------
    ValueError
        Naming the gradient that is missing or unknown.
    """
    # Only what is no array is asked whether it is a mapping, which takes longer than a small step.
    if rows and isinstance(grads, tuple) and len(grads) == 2 and len(names) == 1:
        found = [grads]
    elif isinstance(grads, (list, tuple)):
        found = list(grads)
        if (
            found
            and not isinstance(found[0], np.ndarray)
            and all(isinstance(g, Mapping) for g in found)
        ):
            return ordered(_merged(found, groups), names, groups, frozen, rows)
    elif not isinstance(grads, np.ndarray) and isinstance(grads, Mapping):
        if frozen:
            grads = {**dict.fromkeys(frozen), **grads}
        if len(grads) != len(names) or any(name not in grads for name in names):
            refuse_names(grads, names)
        found = [grads[name] for name in names]
    else:
        found = [grads]
    if len(found) != len(names):
        raise ValueError(
            f"grads has {len(found)} arrays for {len(names)} parameters: {', '.join(names)}"
        )
    return found


def as_array(name: str, grad: Any) -> np.ndarray:
    """Return an array over the memory of gradient `grad`, never a copy."""
    if isinstance(grad, np.ndarray):
        return grad
    try:
        return np.asarray(memoryview(grad))
    except TypeError:
        raise TypeError(
            f"gradient of {name!r} must be an array, got {type(grad).__name__}: use numpy.asarray"
        ) from None


def refuse_shared(names: Sequence[str], grads: Sequence[Any]) -> None:
    """Raise if gradients share memory: zero_grad would zero some elements before they are read."""
    named = {k: as_array(k, g) for k, g in zip(names, grads, strict=True) if g is not None}
    for name, array in named.items():
        if overlaps_itself(array):
            raise ValueError(
                f"gradient of {name!r} has elements that share memory (strides {array.strides}), "
                "and zero_grad writes to it: pass a copy"
            )
    pair = sharing_pair(named)
    if pair:
        raise ValueError(
            f"gradients of {pair[0]!r} and {pair[1]!r} share memory, and zero_grad writes to it: "
            "pass a copy"
        )


def refuse_names(grads: Mapping[str, Any], names: Sequence[str]) -> None:
    """Raise for the first gradient that is unknown, or else missing."""
    for name in grads:
        if name not in names:
            raise ValueError(f"grads has an unknown name {name!r}" + nearest(name, names))
    for name in names:
        if name not in grads:
            raise ValueError(f"gradient of {name!r} is missing")


def _merged(given: list[Mapping[str, Any]], groups: tuple[Group, ...]) -> dict[str, Any]:
    """Return the gradients of a list of groups by name."""
    if len(given) != len(groups):
        raise ValueError(f"grads has {len(given)} groups, the optimizer {len(groups)}")
    merged: dict[str, Any] = {}
    for one, group in zip(given, groups, strict=True):
        inner = one.get("params", one)
        if not isinstance(inner, Mapping):
            inner = list(inner) if isinstance(inner, (list, tuple)) else [inner]
            if len(inner) != len(group["params"]):
                raise ValueError(
                    f"a group of grads has {len(inner)} arrays for parameters "
                    f"{', '.join(group['params'])}"
                )
            inner = dict(zip(group["params"], inner, strict=True))
        for name in inner:
            if name not in group["params"]:
                raise ValueError(f"grads has {name!r} in the group of {', '.join(group['params'])}")
        merged.update(inner)
    return merged
