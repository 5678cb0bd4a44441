"""What the optimizers here add to one of torch: a native step, and options of it."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

import fastopt
from fastopt import _core
from fastopt.checks import one_of
from fastopt.rules import precision
from fastopt.threads import resolve
from fastopt.torch import memory
from fastopt.torch.engine import RULES, Engine, Refused, refresh

ROUNDINGS = ("nearest", "stochastic", "kahan", "master")
LISTS = ("params", "param_names")
DEFAULTS = {"threads": None, "rounding": "nearest", "state_dtype": None, "fallback": None}


@dataclass
class Numbers:
    """The numbers of one step of parameters of one group."""

    scalars: dict[str, float]
    scale: float = 1.0  # of the gradient
    l2: float = 0.0
    decay: float = 0.0  # what part of the parameter is taken away before the rule
    average: float = 0.0  # what part of the way to the parameter its average moves


class Native:
    """Mixed into an optimizer of torch, this takes its steps by the kernels of fastopt.

    Parameters, gradients and states are torch's tensors, updated where they lie.

    Parameters
    ----------
    threads : int, optional
        Threads of a step; by default `torch.get_num_threads()`.
    rounding : {"nearest", "stochastic", "kahan", "master"}
        How float16 and bfloat16 parameters take a step, which is computed in float32 with states in
        float32: rounded to nearest, where small steps are lost; at random without bias; to
        nearest with what is lost kept in a second bfloat16 tensor, the state "rest"; or from a
        float32 original, the state "master".
    state_dtype : {None, "bfloat16", "8bit"}
        Keep averages of gradients and squares in 16 bits, or in 8 bits with one float32 for every
        256 elements. Checkpoints load in any of the forms.
    fallback : {None, "torch"}
        What to do with parameters that are not in this machine's memory, or that only torch can
        update: raise an error, or let torch take the whole step.
    """

    native: ClassVar[type[fastopt.Optimizer]]
    keys: ClassVar[dict[str, str]] = {}  # names of states here -> torch's, where they differ
    counters: ClassVar[tuple[str, ...]] = ("step",)
    _factored: ClassVar[bool] = False
    _counts_itself: ClassVar[bool] = False  # whether `_counts_after` has anything to say
    threads: int | None = None
    rounding: str = "nearest"
    state_dtype: str | None = None
    fallback: str | None = None

    # No types here: the signature is that of torch's class, and four keywords more.
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        options = {name: kwargs.pop(name) for name in DEFAULTS if name in kwargs}
        self._set_options(**options)
        super().__init__(*args, **kwargs)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if Native not in cls.__bases__ or "__init__" in cls.__dict__:
            return
        theirs = inspect.signature(cls.__bases__[1].__init__)
        parameters = [p for p in theirs.parameters.values() if p.name != "self"]
        added = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=value)
            for name, value in DEFAULTS.items()
        ]
        cls.__signature__ = inspect.Signature([*parameters, *added])

    def _set_options(
        self,
        threads: int | None = None,
        rounding: str = "nearest",
        state_dtype: str | None = None,
        fallback: str | None = None,
    ) -> None:
        resolve(threads)
        self.threads = threads
        self.rounding = one_of("rounding", rounding, ROUNDINGS)
        self.state_dtype = one_of("state_dtype", state_dtype, precision.STATE_DTYPES)
        self.fallback = one_of("fallback", fallback, (None, "torch"))

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take a step.

        Parameters
        ----------
        closure : callable, optional
            Computes the loss and the gradients anew, with gradients enabled; its loss is returned.

        Raises
        ------
        RuntimeError
            If a parameter is elsewhere than in this machine's memory, or cannot be updated in place
            by anything but torch, and `fallback` is not "torch".
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self._look_at_gradients()
        if self._is_torchs():
            self._step_by_torch()
            return loss
        if getattr(self, "found_inf", None) is not None and float(self.found_inf) != 0:
            return loss  # as torch's fused steps do for a GradScaler
        self._unscale()
        engine = self.__dict__.get("_engine")
        if engine is None:
            engine = self.__dict__["_engine"] = Engine()
        try:
            engine.step(self)
        except Refused as reason:
            for p, key in self._fresh:  # nobody has used them
                self.state[p].pop(key, None)
                if not self.state[p]:
                    del self.state[p]
            self._fresh.clear()
            self.__dict__.pop("_engine", None)
            self._refuse(str(reason))
            self._step_by_torch()
        return loss

    def _look_at_gradients(self) -> None:
        """Raise where torch would, before anything else."""

    def _is_torchs(self) -> bool:
        """Whether a group asks for what only torch does."""
        return any(g.get("differentiable") or g.get("capturable") for g in self.param_groups)

    def _refuse(self, reason: str) -> None:
        """Raise unless torch may take the step in our place."""
        module = importlib.import_module("torch.optim.optimizer")
        check = getattr(module, "_device_dtype_check_for_fused", None)
        for group in self.param_groups:
            if group.get("fused") and check is not None:
                for p in group["params"]:
                    check(p)  # in torch's words
        silent = reason.startswith(("a parameter is there twice", "sparse gradients"))
        silent = silent or "share memory" in reason
        if self.fallback != "torch" and not (silent and self._has_torchs()):
            raise RuntimeError(
                f"fastopt.torch.{type(self).__name__} cannot update this model: {reason}. "
                + ("fallback='torch' lets torch take such steps" if self._has_torchs() else "")
            )

    def _has_torchs(self) -> bool:
        return self._torchs() is not None

    def _torchs(self) -> Any:
        """Return torch's own step, without the hooks that have run already."""
        step = getattr(super(), "step", None)
        step = getattr(step, "__func__", None)
        if step is None or step is torch.optim.Optimizer.step:
            return None
        return step.__wrapped__ if getattr(step, "hooked", False) else step

    def _step_by_torch(self) -> None:
        """Let torch take the step, with the states as it has them."""
        kinds = self.native.state_kinds
        named = {
            self._key(name): kinds[letter]
            for letter, name in self.native.state_names.items()
            if letter in kinds
        }
        for p, state in self.state.items():
            memory.as_torch_has_it(state, p, named)
        self._torchs()(self)

    def _unscale(self) -> None:
        """Do what torch's fused steps do for a GradScaler."""
        scale = getattr(self, "grad_scale", None)
        if scale is not None:
            self.grad_scale = None  # done, whoever takes the step
            with torch.no_grad():
                for group in self.param_groups:
                    for p in group["params"]:
                        if p.grad is not None:
                            p.grad.mul_(1 / float(scale))

    # What a rule defines.

    def _rule(self, group: dict[str, Any]) -> str:
        """Return the compiled rule of a group."""
        return self.native.rule

    def _hyper(self, group: dict[str, Any]) -> dict[str, Any]:
        """Return a group's hyper-parameters as the rule of fastopt has them."""
        return group

    def _l2(self, group: dict[str, Any]) -> bool:
        """Return whether weight_decay is an L2 penalty, and not decoupled."""
        return not self.native.decoupled

    def _by_rows(self, group: dict[str, Any]) -> bool:
        """Return whether a sparse gradient means a step of its rows alone, as in torch."""
        return False

    def _stand_in(self, rule: str) -> Any:
        """Return something with the scalars of the rule, and no parameters."""
        one = object.__new__(self.native)
        one.rule = rule
        return one

    def _numbers(
        self, rule: Any, group: dict[str, Any], counts: tuple[float, ...]
    ) -> tuple[Numbers, tuple[float, ...]]:
        """Return the numbers of the next step, and the counters after it."""
        h = self._values(group)
        t = int(counts[0]) + 1 if counts else 1
        made = Numbers(rule.scalars(h, t), scale=-1.0 if h.get("maximize") else 1.0)
        strength = h.get("weight_decay", 0)
        if strength:
            if self._l2(group):
                made.l2 = strength
            else:
                made.decay = rule.decay(h)
        return made, (counts[0] + 1, *counts[1:]) if counts else ()

    def _values(self, group: dict[str, Any]) -> dict[str, Any]:
        """Return `_hyper` as Python's numbers, worked out again where the group has changed."""
        known = self.__dict__.setdefault("_known", {})
        before, values = known.get(id(group), (None, None))
        if before is None or not _core.unchanged(group, before):
            values = numbers_of(self._hyper(group))
            if all(is_constant(v) for k, v in group.items() if k not in LISTS):
                known[id(group)] = (dict(group), values)
        return values

    # States.

    def _key(self, name: str) -> str:
        """Return torch's name of a state."""
        return self.keys.get(name, name)

    @property
    def _fresh(self) -> set[tuple[Any, str]]:
        """The states that were made for the step that is being taken: (parameter, key)."""
        return self.__dict__.setdefault("_made", set())

    def _begin(self, p: Any, state: dict[str, Any], group: dict[str, Any], rule: Any) -> None:
        """Make the states of a parameter that has none.

        Raises
        ------
        KeyError
            If it has some of them: then they are another rule's, or somebody has taken some away.
        """
        letters = () if self._factored else RULES[rule.rule][0]
        keys = {letter: self._key(rule.state_names[letter]) for letter in letters}
        wanted = [*keys.values(), *self.counters]
        missing = [key for key in wanted if state.get(key) is None]
        if missing and len(missing) < len(wanted):
            raise KeyError(missing[0])
        first = rule.initial(self._values(group)) if missing and keys else {}
        for letter, key in keys.items() if missing else ():
            value = first.get(letter, 0.0)
            state[key] = self._room(p, memory.REAL[p.dtype])
            self._fresh.add((p, key))
            if callable(value):
                exact = p.detach().to(memory.REAL[p.dtype])
                memory.view(state[key])[...] = value(memory.view(exact))
            elif value:
                memory.view(state[key]).fill(value)
        for name in self.counters if missing else ():
            state[name] = counter(self._first_count(name, group))
            self._fresh.add((p, name))
        beside = dict(self._beside(p))
        for key in ("master", "rest"):
            if key not in beside:
                state.pop(key, None)
        for key, role in beside.items():
            if key in state:
                if role == "copy":
                    refresh(state, p)
                continue
            self._fresh.add((p, key))
            dtype = torch.bfloat16 if role == "rest" else memory.REAL[p.dtype]
            state[key] = self._room(p, dtype)
            if role != "rest":
                state[key].copy_(p.detach())

    def _room(self, p: Any, dtype: Any) -> Any:
        """Return zeros for a new state of a parameter."""
        return memory.zeros(p, dtype)

    def _first_count(self, name: str, group: dict[str, Any]) -> float:
        return 0.0

    def _beside(self, p: Any) -> Iterator[tuple[str, str]]:
        """Yield key and role of what is kept beside the rule's states."""
        if p.dtype in memory.LOW:
            if self.rounding == "master":
                yield "master", "copy"
            if self.rounding == "kahan":
                yield "rest", "rest"

    def _counters(self, p: Any, state: dict[str, Any]) -> list[Any]:
        """Return the tensors that count, or numbers to count on from."""
        for name in self.counters:
            one = state[name]
            plain_one = isinstance(one, torch.Tensor) and one.device.type == "cpu"
            if not plain_one or one.dtype not in (torch.float32, torch.float64) or one.numel() != 1:
                state[name] = counter(float(one))
        return [state[name] for name in self.counters]

    def _wide(self, params: list[Any]) -> bool:
        """Let steps be counted in float64, as float32 counts to 2**24 only; say if that is new."""
        found = False
        for p in params:
            step = self.state[p].get("step")
            if isinstance(step, torch.Tensor) and step.dtype == torch.float32:
                self.state[p]["step"] = step.double()
                found = True
        return found

    def _counts_after(self, params: list[Any]) -> list[tuple[dict[str, Any], str, Any]]:
        """Return (dictionary, key, value after a step of these), where no tensor counts."""
        return []

    def _moments(self, p: Any, state: dict[str, Any]) -> list[str]:
        return []

    def _wire(self, plan: Any, states: list[dict[str, Any]]) -> None:
        """Tell a new plan what the rule needs beside its loop."""

    # Checkpoints and copies.

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over the state of an optimizer of this class, or of torch's.

        States keep the numbers that they were saved with until the next step, which brings them
        into the form that it needs: torch would round them to the parameters' dtype.
        """
        seen: list[dict[str, Any]] = []
        handle = self.register_load_state_dict_pre_hook(lambda _, state: seen.append(state))
        try:
            super().load_state_dict(state_dict)
        finally:
            handle.remove()
        params = [p for group in self.param_groups for p in group["params"]]
        places = [k for group in seen[0]["param_groups"] for k in group["params"]]
        for k, p in zip(places, params, strict=True):
            for key, value in seen[0]["state"].get(k, {}).items():
                own = self.state[p].get(key)
                if isinstance(value, torch.Tensor) and isinstance(own, torch.Tensor):
                    if own.dtype != value.dtype and key not in self.counters:
                        self.state[p][key] = value.detach().to(own.device, copy=True)

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {name: getattr(self, name) for name in DEFAULTS}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.__dict__.pop("_engine", None)
        self.__dict__.pop("_known", None)
        self.__dict__.pop("_made", None)


def numbers_of(group: dict[str, Any]) -> dict[str, Any]:
    """Return hyper-parameters as Python's numbers, where they may be tensors."""
    return {name: plain(value) for name, value in group.items() if name not in LISTS}


def is_constant(value: Any) -> bool:
    """Return whether nobody can change a value in place."""
    if type(value) is tuple:
        return all(map(is_constant, value))
    return value is None or type(value) in (float, int, bool, str)


def plain(value: Any) -> Any:
    """Return a number for a tensor of one, anything else as it is."""
    if type(value) in (float, int, bool, str):
        return value
    if isinstance(value, tuple | list):
        return tuple(map(plain, value))
    return value.item() if isinstance(value, torch.Tensor) else value


def counter(value: float) -> Any:
    """Return a counter as torch makes it, in memory whatever the default device is."""
    double = torch.get_default_dtype() == torch.float64
    return torch.tensor(value, dtype=torch.float64 if double else torch.float32, device="cpu")
