"""State of an optimizer as a dictionary and as a file, matched by name, all or nothing."""

from __future__ import annotations

import copy as copies
import os
from collections.abc import Mapping
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np

from fastopt._core import commit
from fastopt.rules import statefiles
from fastopt.rules.parameters import transposed
from fastopt.rules.precision import LARGEST

if TYPE_CHECKING:
    from fastopt.rules.base import Optimizer

FORMAT = "fastopt.optimizer/1"


def _plain(value: Any) -> Any:
    """Return a hyper-parameter as JSON can hold it; a schedule becomes its description."""
    if callable(value):
        return {"schedule": repr(value)}
    if isinstance(value, (tuple, list)):
        return [_plain(part) for part in value]
    if value is None or isinstance(value, (bool, str)):
        return value
    return float(value)


def _scheduled(value: Any) -> bool:
    if isinstance(value, (tuple, list)):
        return any(map(_scheduled, value))
    return isinstance(value, Mapping)


def state_dict(opt: Optimizer, *, copy: bool) -> dict[str, Any]:
    """Return t, groups and states of `opt`, the arrays copied or as they are."""
    return {
        "format": FORMAT,
        "optimizer": type(opt).__name__,
        "rule": opt.rule,
        "t": opt.t,
        "missed": dict(opt._missed),
        "gathered": opt._gathered,
        "extra": copies.deepcopy(opt.extra),
        "param_groups": [
            {"params": list(group["params"]), **{name: _plain(group[name]) for name in group.known}}
            for group in opt.param_groups
        ],
        "state": {
            name: {key: array.copy("K") if copy else array for key, array in arrays.items()}
            for name, arrays in opt.state.items()
        },
    }


def differences(opt: Optimizer, state: Mapping[str, Any]) -> list[str]:
    """Return, in words, everything in which `state` does not fit `opt`."""
    if not isinstance(state, Mapping):
        return [f"it is a {type(state).__name__}, not a mapping"]
    missing = [
        key
        for key in (
            "format",
            "optimizer",
            "rule",
            "t",
            "missed",
            "gathered",
            "extra",
            "param_groups",
            "state",
        )
        if key not in state
    ]
    if missing:
        return [f"it has no {', '.join(map(repr, missing))}"]
    if state["format"] != FORMAT:
        return [f"its format is {state['format']!r}, this version reads {FORMAT!r}"]
    if not (
        isinstance(state["param_groups"], list)
        and all(isinstance(group, Mapping) for group in state["param_groups"])
        and isinstance(state["state"], Mapping)
        and all(isinstance(arrays, Mapping) for arrays in state["state"].values())
    ):
        return ["param_groups must be a list of mappings, and state a mapping of mappings"]
    found = []
    own = state_dict(opt, copy=False)
    for key in ("optimizer", "rule"):
        if state[key] != own[key]:
            found.append(f"{key} is {state[key]!r}, here {own[key]!r}")
    if (
        isinstance(state["t"], bool)
        or not isinstance(state["t"], int)
        or not 0 <= state["t"] < 2**62
    ):
        found.append(f"t must be an integer >= 0, got {state['t']!r}")
    missed = state["missed"]
    if not isinstance(missed, Mapping) or any(
        isinstance(n, bool) or not isinstance(n, int) or n < 0 for n in missed.values()
    ):
        found.append(f"missed must map names to counts of steps, got {missed!r}")
    if not isinstance(state["extra"], Mapping) or not _alike(state["extra"], opt.extra):
        found.append(f"extra is {state['extra']!r}, here {opt.extra!r}")
    most = opt._accumulate - 1
    if not isinstance(state["gathered"], int) or not 0 <= state["gathered"] <= most:
        found.append(f"gathered must be an integer in [0, {most}], got {state['gathered']!r}")
    if len(state["param_groups"]) != len(own["param_groups"]):
        found.append(f"it has {len(state['param_groups'])} groups, here {len(own['param_groups'])}")
    else:
        for k, (theirs, ours) in enumerate(
            zip(state["param_groups"], own["param_groups"], strict=True)
        ):
            found += _group_differences(k, theirs, ours)
    for name in own["state"]:
        if name not in state["state"]:
            found.append(f"state of {name!r} is missing")
    for name, arrays in state["state"].items():
        if name not in own["state"]:
            found.append(f"state of {name!r} is for a parameter that is not here")
        else:
            found += _array_differences(name, arrays, own["state"][name])
    return found


def _alike(theirs: Any, ours: Any) -> bool:
    """Return whether two values have the same structure; numbers may differ, or be None."""
    if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
        return {*ours} == {*theirs} and all(_alike(theirs[k], ours[k]) for k in ours)
    if isinstance(ours, list) and isinstance(theirs, list):
        return len(ours) == len(theirs) and all(map(_alike, theirs, ours))
    plain = (int, float, bool, type(None))
    return isinstance(ours, plain) and isinstance(theirs, plain)


def _group_differences(k: int, theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> list[str]:
    found = []
    if not isinstance(theirs.get("params"), (list, tuple)):
        found.append(f"group {k} has no list 'params'")
    elif list(theirs["params"]) != list(ours["params"]):
        found.append(
            f"group {k} has parameters {list(theirs.get('params', []))}, here "
            f"{list(ours['params'])}"
        )
    for name in sorted({*theirs, *ours} - {"params"}):
        if name not in theirs:
            found.append(f"group {k} has no {name!r}")
        elif name not in ours:
            found.append(f"group {k} has an unknown hyper-parameter {name!r}")
        elif _scheduled(theirs[name]) != _scheduled(ours[name]):
            found.append(
                f"group {k}: {name} is {theirs[name]!r}, here {ours[name]!r}; a "
                "schedule is not stored, give the optimizer the same one first"
            )
    return found


def _array_differences(name: str, theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> list[str]:
    found = []
    for key in sorted({*theirs, *ours}):
        if key not in theirs:
            found.append(f"state {key!r} of {name!r} is missing")
        elif key not in ours:
            found.append(f"state {key!r} of {name!r} is unknown here")
        else:
            array = np.asarray(theirs[key])
            if array.shape != ours[key].shape or array.dtype != ours[key].dtype:
                found.append(
                    f"state {key!r} of {name!r} is {array.dtype}{list(array.shape)}, "
                    f"here {ours[key].dtype}{list(ours[key].shape)}"
                )
            elif key + LARGEST in ours and transposed(array) != transposed(ours[key]):
                found.append(
                    f"state {key!r} of {name!r} has its axes in another order in memory, in which "
                    "the largest magnitudes of 8 bits are counted"
                )
    return found


def load_state_dict(opt: Optimizer, state: Mapping[str, Any], where: str = "state") -> None:
    """Take over `state` after checking all of it."""
    found = differences(opt, state)
    groups = []
    if not found:
        for theirs, group in zip(state["param_groups"], opt.param_groups, strict=True):
            values = {
                name: group[name]
                if _scheduled(theirs[name])
                else tuple(theirs[name])
                if isinstance(theirs[name], list)
                else theirs[name]
                for name in group.known
            }
            try:
                groups.append(type(group)(group.owner, group["params"], values))
            except ValueError as error:
                found.append(str(error))
    if found:
        raise ValueError(f"{where} does not fit this {type(opt).__name__}: " + "; ".join(found))
    pairs = list(zip(opt.param_groups, groups, strict=True))
    arrays = [
        (opt.state[name][key], array)
        for name, one in state["state"].items()
        for key, array in one.items()
    ]
    dicts = [(group, new) for group, new in pairs] + [(g.plain, new.plain) for g, new in pairs]
    missed = dict(state["missed"])
    stale = opt._stale or missed != opt._missed
    dicts.append(
        (
            opt.__dict__,
            {"_missed": missed, "_gathered": state["gathered"], "_stale": stale, "_quick": False},
        )
    )
    dicts.append((opt.extra, copies.deepcopy(dict(state["extra"]))))
    with opt._plan as plan:
        commit(arrays, dicts, plan, state["t"])
    for group, new in pairs:
        group.staged = group.staged or new.staged


def save(opt: Optimizer, path: str | PathLike[str]) -> None:
    """Write the state of `opt` to `path`: the old file stays until the new one is complete."""
    state = state_dict(opt, copy=False)
    arrays: dict[str, np.ndarray] = {}
    layout: dict[str, dict[str, str]] = {}
    for name, states in state.pop("state").items():
        layout[name] = {}
        for key, array in states.items():
            label = f"{name}.{key}"  # a zip file takes fewer names
            if not statefiles.is_safetensors(path) or label in arrays or not label.isprintable():
                label = f"state{len(arrays)}"
            layout[name][key] = label
            arrays[label] = array
    statefiles.write(path, {**state, "state": layout}, arrays)


def _assembled(state: Any, arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Return a state dictionary from a file's header and arrays."""
    if state["format"] != FORMAT:
        raise ValueError(f"its format is {state['format']!r}, this version reads {FORMAT!r}")
    state["state"] = {
        name: {key: arrays[label] for key, label in states.items()}
        for name, states in state["state"].items()
    }
    return state


def load(opt: Optimizer, path: str | PathLike[str]) -> None:
    """Read a file that `save` wrote and take it over."""
    state = statefiles.read(path, "optimizer file of fastopt", _assembled)
    load_state_dict(opt, state, f"{os.fspath(path)!r}")
