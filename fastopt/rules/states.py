"""What an optimizer keeps beside its parameters, and the plan of its steps over all of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fastopt._core import Plan, rules
from fastopt.rules import lazy, precision
from fastopt.rules.groups import Group
from fastopt.rules.parameters import hulls, transposed

if TYPE_CHECKING:
    from fastopt.rules.base import Optimizer


def new_states(opt: Optimizer, groups: Sequence[Group]) -> None:
    """Make the states of the parameters of new groups."""
    compressed = 0
    for group in groups:
        initial = opt.initial(group.at(0))
        for name, array in group["params"].items():
            state = opt._state[name] = {}
            for letter in rules()[opt.rule][0]:
                low = None if array.dtype == np.float64 else opt._state_dtype
                kind = opt.state_kinds.get(letter)
                compressed += low is not None and kind is not None
                state |= precision.new_state(
                    array, opt.state_names[letter], initial.get(letter, 0.0), kind, low
                )
            exact = precision.working_dtype(array)
            if precision.is_low(array) and opt._rounding == "master":
                state["master"] = precision.like(array, exact)
                state["master"][...] = array
            if precision.is_low(array) and opt._rounding == "kahan":
                state["rest"] = precision.like(array, np.dtype(np.uint16))
            if opt._ema is not None:
                state["ema"] = precision.like(array, exact)
                state["ema"][...] = array
            state |= lazy.new_states(opt, array, group["proximal"])
            if opt._accumulate > 1:
                state["accumulated"] = precision.like(array, exact)
    if opt._state_dtype and not compressed:
        raise ValueError(
            f"{type(opt).__name__}: state_dtype={opt._state_dtype!r} needs a rule with "
            f"averages and float32, float16 or bfloat16 parameters"
        )


def prepare(opt: Optimizer, t: int) -> None:
    """Resolve all pointers once, for the steps after `t`."""
    opt._order = tuple(opt._arrays)
    arrays, states = list(opt._arrays.values()), [opt._state[name] for name in opt._order]
    # A copy of a parameter may have another order of axes than the states made for it.
    opt._transposed = [
        k
        for k, array in enumerate(arrays)
        if transposed(array)
        and opt.may_turn(array)
        and all(s.flags.f_contiguous for s in _shaped(states[k]))
    ]
    flip = set(opt._transposed)

    def view(k: int, array: np.ndarray | None) -> np.ndarray | None:
        return array if array is None or k not in flip else array.T

    def stored(k: int, letter: str) -> Any:
        name = opt.state_names[letter]
        array = view(k, states[k][name])
        largest = states[k].get(name + precision.LARGEST)
        signed = opt.state_kinds.get(letter) == "signed"
        return array if largest is None else (array, largest, signed)

    seen = [view(k, precision.bits(array)) for k, array in enumerate(arrays)]
    masters = [view(k, state.get("master")) for k, state in enumerate(states)]
    opt._own = arrays + [s for state in states for s in state.values()]
    slots, whose = _make_slots(opt)
    letters = rules()[opt.rule][0]
    opt._plan = Plan(
        opt.rule,
        opt._order,
        [array if m is None else m for array, m in zip(seen, masters, strict=True)],
        [[stored(k, letter) for letter in letters] for k in range(len(arrays))],
        whose,
        hulls(opt._own),
        {
            "copy": [None if m is None else a for a, m in zip(seen, masters, strict=True)],
            "rest": [view(k, state.get("rest")) for k, state in enumerate(states)],
            "average": [view(k, state.get("ema")) for k, state in enumerate(states)],
            "skipped": [state.get(lazy.SKIPPED) for state in states],
            "skipped_soft": [state.get(lazy.SKIPPED_SOFT) for state in states],
            "stochastic": opt._rounding == "stochastic",
            "clip_rows": opt._clip_per == "row",
            "reversed": flip,
        },
    )
    opt._plan.t = t
    opt._plan.zeroes = opt._zero_grad
    for k, name in enumerate(opt._order):
        opt._plan.freeze(k, name in opt._frozen)
    opt._plan.slots = slots
    opt._plan.decoupled = opt.decoupled
    opt._plan.penalized = opt._penalized
    opt._sums = None
    if opt._accumulate > 1:
        sums = [view(k, state["accumulated"]) for k, state in enumerate(states)]
        opt._sums = Plan(
            "sgd",
            opt._order,
            sums,
            [[] for _ in sums],
            [0] * len(sums),
            hulls(opt._own),
            {"reversed": flip},
        )
        opt._sums.set_group(0, 1.0, 0.0, 0.0, {"lr": -1.0})
        opt._sums.zeroes = opt._zero_grad
        for k, name in enumerate(opt._order):
            opt._sums.freeze(k, name in opt._frozen)
        opt._plan.hold(sums, lambda k, grad: None, False)


def _shaped(state: dict[str, np.ndarray]) -> list[np.ndarray]:
    flat = (lazy.SKIPPED, lazy.SKIPPED_SOFT)
    return [s for k, s in state.items() if not k.endswith(precision.LARGEST) and k not in flat]


def _make_slots(opt: Optimizer) -> tuple[tuple[tuple[Group, int], ...], list[int]]:
    """Make one slot of numbers for each group and count of missed steps; say whose is whose.

    A parameter that was frozen or came later has its own bias corrections.
    """
    slots: dict[tuple[int, int], int] = {}
    whose = []
    for k, group in enumerate(opt._groups):
        for name in group["params"]:
            slot = (k, opt._missed.get(name, 0))
            whose.append(slots.setdefault(slot, len(slots)))
    return tuple((opt._groups[k], missed) for k, missed in slots), whose
