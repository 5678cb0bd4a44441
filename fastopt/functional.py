"""The optimizers as pure functions on arrays: nothing is changed in place, states are values."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from fastopt.rules import checkpoint
from fastopt.rules.base import Optimizer
from fastopt.rules.hyperparameters import nearest

__all__ = ["Functional", "State", "make"]


@dataclass(frozen=True, eq=False)
class State:
    """What an optimizer remembers between two steps: a value, which can be pickled and kept."""

    content: Mapping[str, Any]

    @property
    def t(self) -> int:
        """Steps done."""
        return self.content["t"]

    @property
    def state(self) -> Mapping[str, Mapping[str, np.ndarray]]:
        """The states by parameter and name, such as `s.state["W"]["exp_avg"]`, read-only."""
        states = self.content["state"].items()
        return MappingProxyType({name: MappingProxyType(one) for name, one in states})

    def __repr__(self) -> str:
        return f"State({self.content['optimizer']}, t={self.t})"


@dataclass(frozen=True)
class Functional:
    """An optimizer as a pair of pure functions, made by `make`."""

    optimizer: type[Optimizer]
    keywords: dict[str, Any]

    def init(self, params: Any) -> State:
        """Return the state before the first step; `params` as in `update`."""
        return _state_of(self.optimizer(_copy(params), **self.keywords))

    def update(self, params: Any, grads: Any, state: State) -> tuple[Any, State]:
        """Return the parameters and the state after one step, new ones.

        Parameters
        ----------
        params, grads : array, sequence of arrays, or mapping name -> array
            As `Optimizer` takes them, without groups; never written to. The structure is kept.
        state : State
            From `init` or `update`, for the same parameters; it can be used again.
        """
        if not isinstance(state, State):
            raise TypeError(f"update: state must be from init or update, got {state!r}")
        params = _copy(params)
        opt = self.optimizer(params, **self.keywords)
        opt.load_state_dict(state.content)
        opt.step(grads)
        return params, _state_of(opt)


def make(optimizer: type[Optimizer], /, **keywords: Any) -> Functional:
    """Return `optimizer` as a pair of pure functions, `init` and `update`.

    The results have the same bits as those of the optimizer in place. This costs copies: `update`
    allocates all parameters and states anew and makes a new optimizer, which takes three passes
    over memory instead of one. Where speed counts, use the optimizer itself.

    Parameters
    ----------
    optimizer : type
        A class of optimizers: `make(fastopt.Adam, lr=0.1)` is also `functional.adam(lr=0.1)`.
    **keywords
        What it takes, but for `zero_grad=True`, which would change the gradients.

    Examples
    --------
    >>> import numpy as np
    >>> from fastopt import functional
    >>> opt, w = functional.sgd(lr=0.25), np.array([1.0, 2.0])
    >>> new, state = opt.update(w, np.ones(2), opt.init(w))
    >>> new, state.t, w
    (array([0.75, 1.75]), 1, array([1., 2.]))
    """
    if not (isinstance(optimizer, type) and issubclass(optimizer, Optimizer)):
        raise TypeError(f"make: optimizer must be a class of optimizers, got {optimizer!r}")
    if keywords.get("lazy") is not None:
        raise ValueError("make: lazy is of no use where all rows are copied at every step")
    if keywords.get("zero_grad"):
        raise ValueError("make: zero_grad=True would change the gradients, which are only read")
    optimizer(np.zeros((1, 1), np.float32), **keywords)  # refuses wrong keywords now, not in init
    return Functional(optimizer, keywords)


def _copy(params: Any) -> Any:
    """Return `params` with copies of its arrays, in the same structure."""
    if isinstance(params, Mapping):
        return {name: _copied(array) for name, array in params.items()}
    if isinstance(params, Sequence) and not isinstance(params, (str, bytes)):
        if any(isinstance(part, Mapping) for part in params):
            raise TypeError("params has groups: pass an array, or a list or a mapping of arrays")
        copies = [_copied(array) for array in params]
        return tuple(copies) if isinstance(params, tuple) else copies
    return _copied(params)


def _copied(array: Any) -> Any:
    return array.copy(order="K") if isinstance(array, np.ndarray) else array  # refused later


def _state_of(opt: Optimizer) -> State:
    """Return the state of `opt`, which nobody uses again: its arrays are not copied."""
    content = checkpoint.state_dict(opt, copy=False)
    for states in content["state"].values():
        for name, array in states.items():
            states[name] = array.view()
            states[name].flags.writeable = False
    return State(content)


def _functions() -> dict[str, type[Optimizer]]:
    """Return the classes by names such as "schedule_free_adamw" and "adabelief"."""
    word = re.compile(r"(?<=[a-z])(?<!Ada)(?=[A-Z][a-z]|SGD$)")
    return {word.sub("_", name).lower(): cls for name, cls in Optimizer.registry.items()}


def __getattr__(name: str) -> Callable[..., Functional]:
    functions = _functions()
    if name not in functions:
        hint = "" if name.startswith("_") else nearest(name, [*functions, "make"])
        raise AttributeError(f"module 'fastopt.functional' has no attribute {name!r}{hint}")
    cls = functions[name]

    def function(**keywords: Any) -> Functional:
        return make(cls, **keywords)

    function.__doc__ = f"Return `fastopt.{cls.__name__}` as pure functions, see `make`."
    return function


def __dir__() -> list[str]:
    return sorted([*globals(), *_functions()])
