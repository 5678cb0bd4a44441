"""Optimizer: parameters, gradients, groups, schedules and clipping around one compiled rule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import nan
from os import PathLike
from types import MappingProxyType
from typing import Any, ClassVar, TypedDict

import numpy as np

from fastopt import checkpoint
from fastopt._core import Plan, StepInfo, rules
from fastopt.hyperparameters import Group, check, nearest
from fastopt.parameters import (
    aligned_full,
    hulls,
    named_arrays,
    refuse_shared,
    share_memory,
    transposed,
)
from fastopt.threads import resolve

__all__ = ["Optimizer", "StepInfo"]


def first(like: np.ndarray, value: Any) -> np.ndarray:
    """Return a new state for parameter `like` that starts from `value`, see `initial`."""
    if not callable(value):
        return aligned_full(like, value)
    array = aligned_full(like, 0.0)
    array[...] = value(like)
    return array


class Common(TypedDict, total=False):
    """The keywords that every optimizer takes, see `Optimizer`."""

    maximize: bool
    threads: int | None
    clip_norm: float | None


class Optimizer:
    """What all update rules share; use one of the subclasses.

    A subclass names its compiled `rule`, says how torch calls the rule's states, and turns
    hyper-parameters into the rule's scalars. Everything else is here. `weight_decay` adds
    ``weight_decay * w`` to the gradient; where a class is `decoupled`, the step takes
    ``lr * weight_decay * w`` from w instead, before the rule.

    Parameters
    ----------
    params : array, sequence of arrays, mapping name -> array, or sequence of group mappings
        float32 or float64 arrays of any shape and strides, updated in place. A group is a mapping
        with "params" (any of the former) and the hyper-parameters that differ in it.
    values : mapping
        The hyper-parameters' defaults by name.
    maximize : bool
        Ascend instead of descend.
    threads : int, optional
        Threads for large steps; by default what `fastopt.get_num_threads()` says.
    clip_norm : float, optional
        Gradients are multiplied by `min(1, clip_norm / norm)`, `norm` being the 2-norm of all of
        them together; NaN in one of them thus reaches every parameter.

    Attributes
    ----------
    param_groups : tuple of Group
        Read at every step: `opt.param_groups[0]["lr"] = 0.01` takes effect at the next one.
    state : mapping
        name -> state name -> array, such as `opt.state["W"]["exp_avg"]`.
    t : int
        Steps done.
    """

    rule: str
    decoupled: ClassVar[bool] = False
    state_names: ClassVar[dict[str, str]] = {}
    registry: ClassVar[dict[str, type[Optimizer]]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        declared = rules()
        if cls.rule not in declared:
            raise TypeError(
                f"{cls.__name__}.rule must be one of {sorted(declared)}, got {cls.rule!r}"
            )
        Optimizer.registry[cls.__name__] = cls

    def __init__(
        self,
        params: Any,
        values: dict[str, Any],
        *,
        maximize: bool = False,
        threads: int | None = None,
        clip_norm: float | None = None,
        **unknown: Any,
    ) -> None:
        owner = type(self).__name__
        values = {**values, "maximize": maximize}
        for name in unknown:
            raise TypeError(
                f"{owner}: unknown keyword {name!r}"
                + nearest(name, [*values, "threads", "clip_norm"])
            )
        self.threads = threads
        self.clip_norm = clip_norm
        self._groups = self._make_groups(params, values)
        self._name_arrays()
        refuse_shared(self._arrays)
        self.rule = self.choose_rule()
        self._state = {
            name: {
                self.state_names[letter]: first(array, self.initial(group.at(0)).get(letter, 0.0))
                for letter in rules()[self.rule][0]
            }
            for group in self.param_groups
            for name, array in group["params"].items()
        }
        self._prepare(0)

    def _name_arrays(self) -> None:
        self._arrays = {name: a for group in self._groups for name, a in group["params"].items()}

    @property
    def param_groups(self) -> tuple[Group, ...]:
        """The parameter groups, read at every step."""
        return self._groups

    @property
    def t(self) -> int:
        """Steps done."""
        return self._plan.t

    @property
    def state(self) -> Mapping[str, Mapping[str, np.ndarray]]:
        """The states by parameter and name, to be read, or written in place."""
        return MappingProxyType({k: MappingProxyType(s) for k, s in self._state.items()})

    @property
    def threads(self) -> int | None:
        """Threads for large steps; None for `fastopt.get_num_threads()`."""
        return self._threads

    @threads.setter
    def threads(self, value: int | None) -> None:
        resolve(value)
        self._threads = value

    @property
    def clip_norm(self) -> float | None:
        """The largest norm of all gradients together, or None."""
        return self._clip_norm

    @clip_norm.setter
    def clip_norm(self, value: float | None) -> None:
        self._clip_norm = None if value is None else check(type(self).__name__, "clip_norm", value)

    def _make_groups(self, params: Any, values: dict[str, Any]) -> tuple[Group, ...]:
        owner = type(self).__name__
        given = [{"params": params}]
        if isinstance(params, Mapping) and "params" in params and {*params} & {*values}:
            raise TypeError(f"{owner}: params is one group: put it in a list")
        if isinstance(params, Sequence) and params and all(isinstance(p, Mapping) for p in params):
            given = list(params)
        groups: list[Group] = []
        taken: set[str] = set()
        for k, group in enumerate(given):
            if "params" not in group:
                raise ValueError(f"{owner}: group {k} has no 'params'")
            own = {name: value for name, value in group.items() if name != "params"}
            for name in own:
                if name not in values:
                    raise TypeError(
                        f"{owner}: unknown hyper-parameter {name!r} in group {k}"
                        + nearest(name, values)
                    )
            named = named_arrays(group["params"], len(taken))
            for name in named:
                if name in taken:
                    raise ValueError(f"{owner}: parameter {name!r} is in two groups")
            taken.update(named)
            groups.append(Group(owner, named, {**values, **own}))
        return tuple(groups)

    def _prepare(self, t: int) -> None:
        """Resolve all pointers once."""
        self._bound = False
        self._order = tuple(self._arrays)
        states = [list(self._state[name].values()) for name in self._order]
        # A copy of a parameter may have another order of axes than the states made for it.
        self._transposed = [
            k
            for k, array in enumerate(self._arrays.values())
            if transposed(array) and all(s.flags.f_contiguous for s in states[k])
        ]
        self._own = list(self._arrays.values()) + [s for one in states for s in one]
        flip = set(self._transposed)
        self._plan = Plan(
            self.rule,
            self._order,
            [a.T if k in flip else a for k, a in enumerate(self._arrays.values())],
            [[s.T if k in flip else s for s in one] for k, one in enumerate(states)],
            [k for k, group in enumerate(self.param_groups) for _ in group["params"]],
            hulls(self._own),
        )
        self._plan.t = t

    # What a rule defines.

    def choose_rule(self) -> str:
        """Return the compiled rule to use; a subclass with a choice checks its groups here."""
        return self.rule

    def scalars(self, h: dict[str, Any], t: int) -> dict[str, float]:
        """Return the rule's scalars by name, in double, for step `t` = 1, 2, ..."""
        raise NotImplementedError

    def initial(self, h: dict[str, Any]) -> dict[str, Any]:
        """Return what states start from, by letter, where it is not 0.

        A number, or a function of the parameter that returns an array.
        """
        return {}

    # Steps.

    def step(self, grads: Any = None) -> StepInfo:
        """Update all parameters in place, in one pass.

        Parameters
        ----------
        grads : array, sequence of arrays, or mapping name -> array, optional
            One gradient per parameter, of its shape and dtype; never written to. May be left out
            after `bind`.

        Returns
        -------
        StepInfo
            With t, lr, grad_norm, clip_coef.

        Raises
        ------
        TypeError, ValueError
            Naming the gradient or hyper-parameter; parameters, states and `t` are as before.
        """
        with self._plan as plan:
            if grads is not None:
                if self._bound:
                    raise ValueError(
                        f"{type(self).__name__}.step: gradients are bound already; call "
                        "step() without any, or unbind() first"
                    )
                plan.hold(self._ordered(grads), self._clash, True)
            elif not self._bound:
                raise ValueError(
                    f"{type(self).__name__}.step: grads is missing: pass one gradient "
                    "per parameter, or bind(grads) once"
                )
            lr = plan.set_groups(self._groups, self.scalars, self.decoupled)
            threads = resolve(self._threads)
            norm, coef = nan, 1.0
            if self._clip_norm is not None:
                norm = plan.norm(threads)
                if not norm <= self._clip_norm:
                    coef = self._clip_norm / norm
                    plan.scale(coef)
            return plan.run(threads, lr, norm, coef)

    def bind(self, grads: Any) -> None:
        """Hold `grads`, in any form that `step` takes, for all steps to come.

        The arrays are read in place at every `step()`: fill them, step, fill them again. While
        bound, they cannot be resized.
        """
        with self._plan as plan:
            plan.hold(self._ordered(grads), self._clash, False)
            self._bound_arrays = self._ordered(grads, flip=False)
            self._bound = True

    def unbind(self) -> None:
        """Let go of bound gradients."""
        with self._plan as plan:
            plan.release()
            self._bound_arrays = []
            self._bound = False

    def zero_grad(self) -> None:
        """Set bound gradients to zero."""
        if not self._bound:
            raise ValueError(
                f"{type(self).__name__}.zero_grad: no gradients are bound; bind(grads) first"
            )
        arrays = [self._array(k, array) for k, array in enumerate(self._bound_arrays)]
        for name, array in zip(self._order, arrays, strict=True):
            if not array.flags.writeable:
                raise ValueError(f"zero_grad: gradient of {name!r} is read-only")
        for array in arrays:
            array[...] = 0

    def _ordered(self, grads: Any, flip: bool = True) -> list[Any]:
        """Return one gradient per parameter, in the parameters' order."""
        order = self._order
        if isinstance(grads, Mapping):
            if len(grads) != len(order) or any(name not in grads for name in order):
                self._refuse_names(grads)
            ordered = [grads[name] for name in order]
        elif isinstance(grads, (list, tuple)):
            ordered = list(grads)
            if ordered and all(isinstance(g, Mapping) for g in ordered):
                return self._ordered(self._merged(ordered), flip)
        else:
            ordered = [grads]
        if len(ordered) != len(order):
            raise ValueError(
                f"grads has {len(ordered)} arrays for {len(order)} parameters: {', '.join(order)}"
            )
        for k, grad in enumerate(ordered):
            if grad is None:
                raise ValueError(f"gradient of {order[k]!r} is missing (None)")
        if flip:
            for k in self._transposed:
                ordered[k] = self._array(k, ordered[k]).T
        return ordered

    def _array(self, k: int, grad: Any) -> np.ndarray:
        """Return an array over the memory of gradient `grad`, never a copy."""
        if isinstance(grad, np.ndarray):
            return grad
        try:
            return np.asarray(memoryview(grad))
        except TypeError as error:
            raise TypeError(f"gradient of {self._order[k]!r}: {error}") from None

    def _merged(self, groups: list[Mapping[str, Any]]) -> dict[str, Any]:
        """Return the gradients of a list of groups by name."""
        if len(groups) != len(self.param_groups):
            raise ValueError(
                f"grads has {len(groups)} groups, the optimizer {len(self.param_groups)}"
            )
        merged: dict[str, Any] = {}
        for given, group in zip(groups, self.param_groups, strict=True):
            inner = given.get("params", given)
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
                    raise ValueError(
                        f"grads has {name!r} in the group of {', '.join(group['params'])}"
                    )
            merged.update(inner)
        return merged

    def _refuse_names(self, grads: Mapping[str, Any]) -> None:
        for name in grads:
            if name not in self._arrays:
                raise ValueError(f"grads has an unknown name {name!r}" + nearest(name, self._order))
        for name in self._order:
            if name not in grads:
                raise ValueError(f"gradient of {name!r} is missing")

    def _clash(self, k: int, grad: Any) -> None:
        """Raise if gradient `grad` shares memory with a parameter or state."""
        grad = self._array(k, grad)
        for own in self._own:
            if share_memory(grad, own):
                raise ValueError(
                    f"gradient of {self._order[k]!r} shares memory with a parameter "
                    "or state: pass a separate array"
                )

    # State.

    def state_dict(self) -> dict[str, Any]:
        """Return a copy of t, the groups by name, and the states.

        Parameters, `clip_norm` and `threads` are not in it: they are the caller's.
        """
        return checkpoint.state_dict(self, copy=True)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over `state`, from `state_dict()` of an optimizer of the same class.

        Everything is matched by name and must agree: parameters, groups, shapes, dtypes. A
        hyper-parameter that is a schedule must be one here too, and stays the one given here.

        Raises
        ------
        ValueError
            Listing every difference; nothing has changed then.
        """
        checkpoint.load_state_dict(self, state)

    def save(self, path: str | PathLike[str]) -> None:
        """Write `state_dict()` to `path` (npz), through a temporary file: all or nothing."""
        checkpoint.save(self, path)

    def load(self, path: str | PathLike[str]) -> None:
        """Read what `save` wrote and take it over, as `load_state_dict` does."""
        checkpoint.load(self, path)

    def __getstate__(self) -> dict[str, Any]:
        hidden = {"_plan", "_own", "_bound", "_bound_arrays", "_arrays"}
        return {k: v for k, v in self.__dict__.items() if k not in hidden} | {"t": self.t}

    def __setstate__(self, state: dict[str, Any]) -> None:
        t = state.pop("t")
        self.__dict__.update(state)
        self._name_arrays()
        self._prepare(t)

    def __repr__(self) -> str:
        values = ", ".join(
            f"{name}={self.param_groups[0][name]!r}" for name in self.param_groups[0].known
        )
        return f"{type(self).__name__}({len(self._order)} parameters, t={self.t}, {values})"
