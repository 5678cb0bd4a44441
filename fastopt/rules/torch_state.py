"""State dictionaries of torch.optim: made from an optimizer here, and taken over by one."""

from __future__ import annotations

import itertools
import math
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np

from fastopt.checks import count
from fastopt.rules import checkpoint, precision
from fastopt.rules.base import Optimizer
from fastopt.rules.groups import Group, is_scheduled
from fastopt.rules.hyperparameters import COMMON
from fastopt.rules.torch_forms import FORMS, Form, plain

__all__ = ["load_torch_state", "to_torch_state"]

# What torch's groups hold beside a rule's numbers: how to compute, and what schedulers remember.
IGNORED = {"params", "param_names", "foreach", "fused", "capturable", "differentiable"}
IGNORED |= {"initial_lr", "max_lr", "min_lr", "max_momentum", "base_momentum", "swa_lr"}
# States that are not the rule's, unless its form says so.
OWN = {"ema", "master", "rest", "accumulated"}


def to_torch_state(opt: Optimizer) -> dict[str, Any]:
    """Return the state of an optimizer as its namesake in torch.optim would have it.

    Training goes on in torch as it would have gone on here, up to rounding, after
    ``torch_optimizer.load_state_dict(fastopt.to_torch_state(opt))``, given the same parameters in
    the same order and groups.

    Parameters
    ----------
    opt : Optimizer
        An `SGD`, `ASGD`, `Adagrad`, `RMSprop`, `Adadelta`, `Rprop`, `Adam`, `AdamW`, `Adamax`,
        `NAdam`, `RAdam`, `Adafactor` or `Muon` that does what torch's does. A schedule is replaced
        by its value in the next step; clipping, averages of the weights and what is kept beside
        16-bit parameters stay behind: torch's optimizers do not have them.

    Returns
    -------
    dict
        "state" and "param_groups", with tensors on the CPU that share no memory with `opt`. States
        have the dtype that they have here; torch gives them that of its parameters.

    Raises
    ------
    ImportError
        If torch is not there.
    TypeError
        If torch has no such optimizer.
    ValueError
        If torch's cannot do or hold something, such as 8-bit states; all of it is listed.
    """
    form = _form("to_torch_state", opt)
    try:
        import torch
    except ImportError as error:
        raise ImportError("to_torch_state needs torch: pip install 'fastopt[torch]'") from error
    found = _unlike_torch(opt, form)
    for k, group in enumerate(opt.param_groups):
        for name, value in COMMON.items():
            if name != "maximize" and group[name] != value:
                found.append(f"group {k}: {name} is {group[name]!r}, which torch does not have")
    if opt._gathered:
        found.append(f"{opt._gathered} accumulated gradients wait for a step")
    if found:
        raise ValueError(f"torch.optim cannot hold this {type(opt).__name__}: " + "; ".join(found))

    def tensor(array: np.ndarray) -> Any:
        if array.dtype == np.uint16:
            return torch.from_numpy(np.array(array.view(np.int16), order="C")).view(torch.bfloat16)
        return torch.from_numpy(np.array(array, order="C"))

    def entry(name: str, h: dict[str, Any], steps: int) -> dict[str, Any]:
        made: dict[str, Any] = {}
        if form.counted:  # torch's own dtype, unless the next count would be the same number there
            double = torch.get_default_dtype() == torch.float64 or steps >= 2**24
            dtype = torch.float64 if double else torch.float32
            made["step"] = torch.tensor(float(steps), dtype=dtype)
        for key in _rule_states(opt, form, name):
            if key != "momentum_buffer" or h["momentum"] != 0:
                made[form.keys.get(key, key)] = tensor(opt.state[name][key])
        for key, (value, *_) in form.derived(opt, h, steps).items():
            made[key] = torch.tensor(value, dtype=torch.float64)
        return made

    state: dict[int, dict[str, Any]] = {}
    groups = []
    places = itertools.count()
    for group in opt.param_groups:
        h = group.at(opt.t)
        numbers = {name: h[name] for name in form.names} | form.fixed | form.more(opt)
        taken = {name: next(places) for name in group["params"]}
        groups.append({**form.joined(numbers), "params": [*taken.values()]})
        for name, place in taken.items():
            steps = opt.t - opt._missed.get(name, 0)
            made = entry(name, h, steps) if steps or form.eager else {}
            if made:
                state[place] = made
    return {"state": state, "param_groups": groups}


def load_torch_state(opt: Optimizer, state: Mapping[str, Any], *, t: int | None = None) -> None:
    """Take over the state dictionary of the optimizer's namesake in torch.optim.

    Training goes on here as it would have gone on in torch, up to rounding. As with torch's
    `load_state_dict`, the hyper-parameters are those of the dictionary afterwards; but a schedule
    here stays, and so does what torch's optimizers do not have: clipping, penalties, bounds.
    Averages of the weights and what is kept beside 16-bit parameters begin anew from the
    parameters as they are.

    Parameters
    ----------
    opt : Optimizer
        One of those that `to_torch_state` takes, with the same parameters: as many, in the same
        groups and order; in any order where the dictionary has all their names.
    state : mapping
        What torch's `state_dict()` returned, or ``torch.load(path, weights_only=True)``. Its
        tensors may also be numpy arrays. States of fewer bits are widened, none are rounded.
    t : int, optional
        Steps done, which schedules go by. By default the most that any parameter has done; where
        torch counts none, as in SGD, `opt.t` stays as it is, but for 1 in place of 0 where there
        are buffers.

    Raises
    ------
    TypeError
        If torch has no such optimizer.
    ValueError
        Listing every difference; nothing has changed then.

    Examples
    --------
    >>> import numpy as np, fastopt
    >>> opt = fastopt.SGD({"w": np.zeros(2)}, lr=0.1, momentum=0.9)
    >>> group = {"lr": 0.5, "momentum": 0.8, "dampening": 0, "weight_decay": 0, "nesterov": False}
    >>> buffer = np.array([1.0, 2.0])  # or a tensor
    >>> state = {0: {"momentum_buffer": buffer}}
    >>> group["params"] = [0]
    >>> fastopt.load_torch_state(opt, {"state": state, "param_groups": [group]})
    >>> opt.state["w"]["momentum_buffer"], opt.param_groups[0]["lr"]
    (array([1., 2.]), 0.5)
    """
    form = _form("load_torch_state", opt)
    loading = _Loading(opt, form, state)
    if not loading.found:
        loading.compare(None if t is None else count("t", t, 0))
    if loading.found:
        raise ValueError(
            f"the state of torch.optim does not fit this {type(opt).__name__}: "
            + "; ".join(loading.found)
        )
    checkpoint.load_state_dict(opt, loading.new, "the state of torch.optim")


def _form(who: str, opt: Any) -> Form:
    if not isinstance(opt, Optimizer):
        raise TypeError(f"{who}: opt must be a fastopt optimizer, got {type(opt).__name__}")
    name = type(opt).__name__
    if name not in FORMS or not type(opt).__module__.startswith("fastopt."):
        raise TypeError(  # also for a subclass, which may have another rule
            f"{who}: torch.optim has nothing like a {name}; there are {', '.join(FORMS)}"
        )
    return FORMS[name]


def _unlike_torch(opt: Optimizer, form: Form) -> list[str]:
    """Return, in words, what of this optimizer is not torch's."""
    found = []
    for k, group in enumerate(opt.param_groups):
        for name, value in form.only.items():
            used = name != "momentum_form" or opt.rule.endswith("momentum")
            if used and group[name] != value:
                found.append(f"group {k}: {name} is {group[name]!r}, torch has only {value!r}")
        found += _never(k, form, group)
    if opt._state_dtype == "8bit":
        found.append("state_dtype is '8bit', which torch does not have")
    return found


def _never(k: int, form: Form, group: Mapping[str, Any]) -> list[str]:
    return [
        f"group {k}: {name} is {group[name]!r}, which torch does not have"
        for name, values in form.never.items()
        if group[name] in values
    ]


def _rule_states(opt: Optimizer, form: Form, name: str) -> list[str]:
    """Return the names of the states of parameter `name` that torch has too."""
    return [key for key in opt.state[name] if key in form.keys or key not in OWN]


def _malformed(state: Any) -> list[str]:
    """Return, in words, why `state` is no state dictionary of torch's."""
    if not isinstance(state, Mapping):
        hint = ": pass its state_dict()" if hasattr(state, "state_dict") else ""
        return [f"it is a {type(state).__name__}, not a mapping{hint}"]
    missing = [key for key in ("state", "param_groups") if key not in state]
    if missing:
        return [f"it has no {', '.join(map(repr, missing))}"]
    groups, lists = state["param_groups"], (list, tuple)
    if not (
        isinstance(groups, lists)
        and all(isinstance(group, Mapping) for group in groups)
        and all(isinstance(group.get("params"), lists) for group in groups)
        and all(isinstance(group.get("param_names", []), lists) for group in groups)
        and isinstance(state["state"], Mapping)
        and all(isinstance(entry, Mapping) for entry in state["state"].values())
    ):
        return [
            "param_groups must be a list of mappings with a list 'params' in each, and state a "
            "mapping of mappings"
        ]
    places = [place for group in groups for place in group["params"]]
    if not all(isinstance(place, (int, str)) for place in places):
        return ["what is in 'params' must be numbers or names"]
    if len({*places}) != len(places):
        return ["a parameter is in 'params' twice"]
    return []


class _Loading:
    """One state dictionary on its way: `found` says what does not fit, `new` is ours in the end."""

    def __init__(self, opt: Optimizer, form: Form, state: Mapping[str, Any]) -> None:
        self.opt, self.form, self.state = opt, form, state
        self.found = _malformed(state)
        self.new = checkpoint.state_dict(opt, copy=False)

    def compare(self, t: int | None) -> None:
        """Fill `new` with all that fits, and `found` with all that does not."""
        opt, found, new = self.opt, self.found, self.new
        found += (unlike := _unlike_torch(opt, self.form))
        theirs, fitting = self.state["param_groups"], []
        steps: dict[str, int | None] = {}
        if len(theirs) != len(opt.param_groups):
            found.append(f"it has {len(theirs)} groups, here {len(opt.param_groups)}")
            theirs = []
        for k, one in enumerate(theirs):
            ours = opt.param_groups[k]
            group, numbers = self.group(k, one, ours)
            if group is not None:
                fitting.append((k, group))
                new["param_groups"][k].update(numbers)
            for name, place in self.places(k, one, ours).items():
                entry = dict(self.state["state"].get(place, {}))
                new["state"][name], steps[name] = self.entry(name, entry, ours, group)
        spare = {*self.state["state"]} - {
            p for one in self.state["param_groups"] for p in one["params"]
        }
        found += [f"it has a state of {place!r}, which is in no group" for place in spare]
        most = max((n for n in steps.values() if n), default=0)
        if t is None:
            t = most if self.form.counted else max(opt.t, most)
        elif t < most:
            found.append(f"t is {t}, but a parameter has done at least {most} steps")
            t = most
        if not self.form.counted:
            steps = {name: 0 if n == 0 else t for name, n in steps.items()}
        new["t"], new["gathered"] = t, 0
        new["missed"] = {name: t - n for name, n in steps.items() if n is not None and n != t}
        found += checkpoint.differences(opt, new)
        for k, group in () if unlike else fitting:
            try:
                opt.scalars(group.at(t), t + 1)  # which knows for what the states were made
            except ValueError as error:
                found.append(f"group {k}: {error}")

    def group(self, k: int, theirs: Mapping[str, Any], ours: Group) -> tuple[Group | None, dict]:
        """Return our group with torch's numbers, None if they do not fit, and the numbers."""
        form, found = self.form, []
        theirs = form.parted(theirs)
        more = form.more(self.opt)
        for name, names in form.tuples.items():
            if name in theirs:
                found.append(
                    f"group {k}: {name} must be a tuple of {len(names)} ({', '.join(names)}), got "
                    f"{theirs.pop(name)!r}"
                )
                theirs |= dict.fromkeys(names)
        for name in [*form.names, *more]:
            if name not in theirs and name != "maximize":  # which older versions do not have
                found.append(f"group {k} has no {name!r}")
        for name in theirs:
            if name not in {*form.names, *form.fixed, *more, *IGNORED}:
                found.append(f"group {k} has an unknown hyper-parameter {name!r}")
        for name, value in form.fixed.items():
            if name in theirs and plain(theirs[name]) != value:
                found.append(f"group {k}: {name} is {theirs[name]!r}, in this rule {value!r}")
        group, numbers = None, {}
        if not found:
            numbers = {
                name: plain(theirs.get(name, False))
                for name in form.names
                if not is_scheduled(ours[name])
            }
            if form.take is not None:
                found += [f"group {k}: {words}" for words in form.take(self.opt, theirs, numbers)]
            try:
                values = {name: ours[name] for name in ours.known} | numbers
                group = Group(ours.owner, ours["params"], values)
                found += _never(k, form, group)
            except ValueError as error:
                found.append(f"group {k}: {error}")
        self.found += found
        return (None, {}) if found else (group, numbers)

    def places(self, k: int, theirs: Mapping[str, Any], ours: Group) -> dict[str, Hashable]:
        """Return where torch's dictionary has the state of each of our parameters."""
        places, names = list(theirs["params"]), list(ours["params"])
        given = list(theirs.get("param_names", places))
        if len(given) != len(places):
            self.found.append(f"group {k} has {len(places)} parameters and {len(given)} names")
            return {}
        if len(places) != len(names):
            self.found.append(f"group {k} has {len(places)} parameters, here {len(names)}")
            return {}
        # Where either side has no names, their order must do.
        if all(isinstance(name, str) for name in given) and not all(map(str.isdigit, names)):
            if {*given} != {*names}:
                self.found.append(f"group {k} has parameters {given}, here {names}")
                return {}
            names = given
        return dict(zip(names, places, strict=True))

    def entry(
        self, name: str, theirs: dict[str, Any], ours: Group, group: Group | None
    ) -> tuple[dict[str, np.ndarray], int | None]:
        """Return all states of a parameter, and its steps.

        Where torch does not count them, 1 stands for some, 0 for none, None for either.
        """
        form, own, found = self.form, self.opt.state[name], self.found
        h = (group or ours).at(0)
        made = self.first(name, h)
        theirs = {key: value for key, value in theirs.items() if value is not None}
        wanted = _rule_states(self.opt, form, name)
        idle = h.get("momentum") == 0  # then torch leaves the buffer alone
        if idle and "momentum_buffer" not in own:
            theirs.pop("momentum_buffer", None)
        if not theirs:
            return made, None if not form.counted and (idle or not wanted) else 0
        steps = self.steps(name, theirs.pop("step", None)) if form.counted else 1
        for key in wanted:
            key_there = form.keys.get(key, key)
            if key_there in theirs:
                made[key] = self.fitted(name, key, theirs.pop(key_there), own[key])
            elif not (idle and key == "momentum_buffer"):
                found.append(f"state {key_there!r} of {name!r} is missing")
        for key, (value, slack, sources) in form.derived(self.opt, h, steps or 0).items():
            given = theirs.pop(key, None)
            if group is not None and steps is not None and not sources & {*group.scheduled}:
                self.derived(name, key, given, value, slack)
        found += [f"state {key!r} of {name!r} is unknown here" for key in theirs]
        return made, steps

    def first(self, name: str, h: dict[str, Any]) -> dict[str, np.ndarray]:
        """Return the states of a parameter before its first step."""
        opt, w = self.opt, self.opt._arrays[name]
        made = {key: np.zeros_like(array) for key, array in opt.state[name].items()}
        initial = opt.initial(h)
        for letter, key in opt.state_names.items():
            if key in made:
                low = None if w.dtype == np.float64 else opt._state_dtype
                kind = opt.state_kinds.get(letter)
                made |= precision.new_state(w, key, initial.get(letter, 0.0), kind, low)
        for key in made.keys() & {"ema", "master"}:
            made[key][...] = w
        return made

    def steps(self, name: str, value: Any) -> int | None:
        """Return torch's count as an integer."""
        try:
            number = float(plain(value))
            if number >= 0 and number.is_integer():
                return int(number)
        except (TypeError, ValueError, OverflowError):
            pass
        self.found.append(f"step of {name!r} must be a whole number >= 0, got {value!r}")
        return None

    def fitted(self, name: str, key: str, value: Any, like: np.ndarray) -> np.ndarray:
        """Return torch's state in the dtype of ours if that takes no rounding, else as it is."""
        try:
            array = _array(value)
        except (TypeError, ValueError, RuntimeError) as error:
            self.found.append(f"state {key!r} of {name!r} is not an array: {error}")
            return like
        if array.dtype.kind == "f" and like.dtype == np.uint16 and array.itemsize <= 4:
            bits = array.astype(np.float32, order="C").view(np.uint32)
            if (bits & 0xFFFF).any():
                self.found.append(f"state {key!r} of {name!r} would be rounded to bfloat16")
            return (bits >> 16).astype(np.uint16)
        widened = array.dtype.kind == "f" and np.can_cast(array.dtype, like.dtype)
        return array.astype(like.dtype, copy=False) if widened else array

    def derived(self, name: str, key: str, theirs: Any, ours: float, slack: float) -> None:
        """Compare what torch keeps with what the hyper-parameters and steps make it."""
        if theirs is None:
            self.found.append(f"state {key!r} of {name!r} is missing")
            return
        try:
            array = _array(theirs)
            coarse = "bfloat16" in str(getattr(theirs, "dtype", ""))
            last = 2.0**-7 if coarse else float(np.finfo(array.dtype).eps)
            if math.isclose(float(array), ours, rel_tol=slack * last, abs_tol=1e-7):
                return
        except (TypeError, ValueError, RuntimeError):
            pass
        self.found.append(
            f"state {key!r} of {name!r} is {plain(theirs)!r}, but with these hyper-parameters, had "
            f"they always been the same, {ours!r}"
        )


def _array(value: Any) -> np.ndarray:
    """Return a tensor or an array as NumPy has it, bfloat16 in float32."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        value = (value.float() if str(value.dtype) == "torch.bfloat16" else value).numpy()
    array = np.asarray(value)
    return array.astype(np.float32) if precision.is_bfloat16(array) else array
