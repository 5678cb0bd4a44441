"""Optimizer: parameters, gradients, groups, schedules and clipping around one compiled rule."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from os import PathLike
from types import MappingProxyType
from typing import Any, ClassVar, TypedDict

import numpy as np

from fastopt import presets
from fastopt._core import Plan, StepInfo, rules
from fastopt.checks import count, flag, one_of
from fastopt.rules import checkpoint, gradients, mechanics, precision, states
from fastopt.rules import lazy as by_row
from fastopt.rules.groups import Group, make_groups
from fastopt.rules.hyperparameters import COMMON, check, nearest
from fastopt.rules.parameters import refuse_shared, share_memory
from fastopt.threads import resolve

__all__ = ["Optimizer", "StepInfo"]


class Common(TypedDict, total=False):
    """The keywords that every optimizer takes, see `Optimizer`."""

    maximize: bool
    l1: Any
    proximal: bool
    lower: float | None
    upper: float | None
    max_norm: float | None
    threads: int | None
    clip_norm: float | None
    clip_per: str
    clip_value: float | None
    nonfinite: str
    ema: Any
    accumulate: int
    zero_grad: bool
    rounding: str
    state_dtype: str | None
    lazy: str | None


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
    l1 : float or schedule
        L1 penalty: l1 * sign(w) is added to the gradient, after clipping.
    proximal : bool
        Apply l1 and weight_decay by their proximal step instead: after the rule, w is moved
        towards 0 by lr * l1, not beyond, and divided by 1 + lr * weight_decay.
    lower, upper : float, optional
        Bounds of every element, kept by clipping it after each step; lower=0 for w >= 0.
    max_norm : float, optional
        Bound of the 2-norm of each row (index of the first axis; a vector is one row), kept by
        scaling it down after each step, in another pass.
    preset : {"torch", "keras", "optax", "textbook", "paper"}, optional
        The defaults of that library or source, see `fastopt.presets`; given keywords win.
    threads : int, optional
        Threads for large steps; by default what `fastopt.get_num_threads()` says.
    clip_norm : float, optional
        Gradients are multiplied by `min(1, clip_norm / norm)`, `norm` being the 2-norm of all of
        them together; NaN in one of them thus reaches every parameter.
    clip_per : {"all", "tensor", "row"}
        Whether clip_norm bounds the norm of all gradients, of each, or of each row of each.
    clip_value : float, optional
        Elements of gradients are clipped to [-clip_value, clip_value]; not with clip_norm.
    nonfinite : {"propagate", "mask", "skip", "raise"}
        What to do where a gradient is NaN or infinite: let it through, take it as 0, leave the
        whole step out, or raise FloatingPointError naming it. "mask" comes before clipping. The
        last two read all gradients first. All but the last count: `StepInfo.nonfinite`.
    ema : float or schedule, optional
        Keep an average of the weights in the state "ema", e <- ema * e + (1 - ema) * w after
        each step, from the initial weights on; see `averaged`.
    accumulate : int
        Take a step with the mean of so many gradients; `step` only adds the others up.
    zero_grad : bool
        Set gradients to zero in the same pass.
    rounding : {"stochastic", "nearest", "kahan", "master"}
        How float16 and bfloat16 parameters take a step, which is computed in float32: rounded up
        or down at random without bias; to nearest, where small steps are lost; to nearest with
        what is lost kept in a second bfloat16 array; or from a float32 original in the state.
    state_dtype : {None, "bfloat16", "8bit"}
        Keep averages of gradients and squares in 16 bits, or in 8 bits with one float32 for
        every 256 elements, rounded at random without bias; `state_value` reads them.
    lazy : {None, "row", "catchup", "dense"}
        What gradients given as (rows, values) do, see Notes; None refuses them.

    Attributes
    ----------
    param_groups : tuple of Group
        Read at every step: `opt.param_groups[0]["lr"] = 0.01` takes effect at the next one.
    state : mapping
        name -> state name -> array, such as `opt.state["W"]["exp_avg"]`.
    t : int
        Steps done.

    Notes
    -----
    A gradient may be a tuple (rows, values): the parameter's rows with these numbers, indices of
    its first axis, have these gradients, added up where a row comes twice; all others have 0.
    With lazy="dense" the step is that of the whole gradient. With "row" nothing happens to other
    rows or their states: they miss the step, its decay included. With "catchup" they miss the
    rule only: decoupled or proximal weight decay and proximal l1, and SGD's L2 penalty, are made
    up for exactly when a row has a gradient again, or at `flush`, which makes them right to look
    at. Bias corrections count all steps.
    """

    rule: str
    decoupled: ClassVar[bool] = False
    state_names: ClassVar[dict[str, str]] = {}
    layerwise: ClassVar[bool] = False  # `trust` is called before each step
    by_rows: ClassVar[bool] = True  # a row's step needs nothing of the others
    state_kinds: ClassVar[dict[str, str]] = {}  # letter -> "signed", "unsigned": may be compressed
    registry: ClassVar[dict[str, type[Optimizer]]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        declared = rules()
        if cls.rule not in declared:
            raise TypeError(
                f"{cls.__name__}.rule must be one of {sorted(declared)}, got {cls.rule!r}"
            )
        Optimizer.registry[cls.__name__] = cls
        if "__init__" in cls.__dict__:
            presets.accept(cls)

    def __init__(
        self,
        params: Any,
        values: dict[str, Any],
        *,
        threads: int | None = None,
        clip_norm: float | None = None,
        clip_per: str = "all",
        clip_value: float | None = None,
        nonfinite: str = "propagate",
        ema: Any = None,
        accumulate: int = 1,
        zero_grad: bool = False,
        rounding: str = "stochastic",
        state_dtype: str | None = None,
        lazy: str | None = None,
        **common: Any,
    ) -> None:
        owner, named = type(self).__name__, tuple(values)
        for name in common:
            if name not in COMMON:
                known = dict.fromkeys([*values, *Common.__annotations__])
                raise TypeError(f"{owner}: unknown keyword {name!r}" + nearest(name, known))
        values = {**values, **{k: v for k, v in COMMON.items() if k not in values}, **common}
        self._penalized = "l1" not in named  # a rule may have an l1 of its own
        self.threads = threads
        self._clip_value: float | None = None
        self.clip_norm = clip_norm
        self.clip_value = clip_value
        self._clip_per = one_of("clip_per", clip_per, ("all", "tensor", "row"))
        self._nonfinite = one_of("nonfinite", nonfinite, ("propagate", "mask", "skip", "raise"))
        self._ema = None if ema is None else self._checked_ema(ema)
        self._accumulate = count("accumulate", accumulate, 1)
        self._zero_grad = flag("zero_grad", zero_grad)
        self._rounding = one_of("rounding", rounding, precision.ROUNDINGS)
        self._state_dtype = one_of("state_dtype", state_dtype, precision.STATE_DTYPES)
        self.lazy = one_of("lazy", lazy, by_row.LAZY)
        self._scratch: dict[str, tuple[np.ndarray, np.ndarray]] = {}  # of lazy="dense"
        self.extra: dict[str, Any] = {}  # what a rule remembers beside its states, as JSON can
        self._frozen: set[str] = set()
        self._missed: dict[str, int] = {}  # name -> steps that it did not take part in
        self._hooks: tuple[list[Callable[..., None]], list[Callable[..., None]]] = ([], [])
        self._gathered = 0  # gradients accumulated since the last step
        self._quick = False  # whether a step is one native call: found out at the first one
        self._stale = False  # the plan does not know yet who has missed which steps
        self._groups = make_groups(owner, params, values)
        by_row.check(self)
        self._name_arrays()
        refuse_shared(self._arrays)
        self.rule = self.choose_rule()
        self._state: dict[str, dict[str, np.ndarray]] = {}
        self._make_state(self._groups)
        self._prepare(0)

    def _checked_ema(self, ema: Any) -> Any:
        return ema if callable(ema) else check(type(self).__name__, "ema", ema)

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
        self._quick = False
        self._refuse_two_clips()

    @property
    def clip_value(self) -> float | None:
        """The largest magnitude of an element of a gradient, or None."""
        return self._clip_value

    @clip_value.setter
    def clip_value(self, value: float | None) -> None:
        owner = type(self).__name__
        self._clip_value = None if value is None else check(owner, "clip_value", value)
        self._quick = False
        self._refuse_two_clips()

    def _refuse_two_clips(self) -> None:
        if self._clip_norm is not None and self._clip_value is not None:
            raise ValueError(f"{type(self).__name__}: clip_norm and clip_value: pass one of them")

    def _make_state(self, groups: Sequence[Group]) -> None:
        states.new_states(self, groups)

    def _prepare(self, t: int) -> None:
        self._quick = self._bound = False
        states.prepare(self, t)

    # What a rule defines.

    def choose_rule(self) -> str:
        """Return the compiled rule to use; a subclass with a choice checks its groups here."""
        return self.rule

    def scalars(self, h: dict[str, Any], t: int) -> dict[str, float]:
        """Return the rule's scalars by name, in double, for step `t` = 1, 2, ..."""
        raise NotImplementedError

    def initial(self, h: dict[str, Any]) -> dict[str, precision.Initial]:
        """Return what states start from, by letter: numbers, or functions of the parameter."""
        return {}

    def may_turn(self, array: np.ndarray) -> bool:
        """Return whether the rule takes an array with its axes reversed for the same."""
        return True

    def decay(self, h: dict[str, Any]) -> float:
        """Return what part of w a decoupled decay takes in one step."""
        return h["lr"] * h["weight_decay"]

    def trust(self, plan: Plan, threads: int, scale: float) -> None:
        """Set each parameter's own factor, gradients being multiplied by `scale` beside it."""

    # Steps.

    def step(self, grads: Any = None) -> StepInfo:
        """Update all parameters in place, in one pass.

        Parameters
        ----------
        grads : array, sequence of arrays, or mapping name -> array, optional
            One gradient per parameter, of its shape and dtype, or (rows, values) if the optimizer
            is `lazy`; never written to. May be left out after `bind`.

        Returns
        -------
        StepInfo
            With t, lr, grad_norm, clip_coef.

        Raises
        ------
        TypeError, ValueError
            Naming the gradient or hyper-parameter; parameters, states and `t` are as before.
        """
        if not self._quick:
            info = mechanics.step(self, grads)
            self._quick = mechanics.is_plain(self)
            return info
        if (grads is None) is not self._bound:
            self._refuse_twice(grads)
        return self._plan.step(self, grads, resolve(self._threads))

    def _refuse_twice(self, grads: Any) -> None:
        """Raise unless gradients are either passed or bound."""
        if grads is not None and self._bound:
            raise ValueError(
                f"{type(self).__name__}.step: gradients are bound already; call step() without "
                "any, or unbind() first"
            )
        if grads is None and not self._bound:
            raise ValueError(
                f"{type(self).__name__}.step: grads is missing: pass one gradient per parameter, "
                "or bind(grads) once"
            )

    def bind(self, grads: Any) -> None:
        """Hold `grads`, in any form that `step` takes, for all steps to come.

        The arrays are read in place at every `step()`: fill them, step, fill them again. While
        bound, they cannot be resized.
        """
        if self._accumulate > 1:
            raise ValueError(
                f"{type(self).__name__}.bind: with accumulate={self._accumulate}, pass each "
                "gradient to step()"
            )
        with self._plan as plan:
            if any(isinstance(grad, tuple) for grad in self._ordered(grads, flip=False)):
                raise ValueError(f"{type(self).__name__}.bind: pass (rows, values) to step()")
            plan.hold(self._ordered(grads), self._clash, False)
            self._bound_arrays = self._ordered(grads, flip=False)
            self._bound = True

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """Put the averaged weights into the parameters for the length of a `with` block.

        Raises
        ------
        ValueError
            If the optimizer keeps no average.
        """
        if self._ema is None:
            raise ValueError(f"{type(self).__name__}.averaged: no average is kept; pass ema=0.999")
        kept = {name: array.copy() for name, array in self._arrays.items()}
        try:
            for name, array in self._arrays.items():
                array[...] = self._state[name]["ema"]
            yield
        finally:
            for name, array in self._arrays.items():
                array[...] = kept[name]

    def freeze(self, *names: str) -> None:
        """Leave these parameters and their states as they are from now on.

        They need no gradient then. After `unfreeze`, their bias corrections go on where they were.
        """
        self._check_names(names)
        for name in {*names} - self._frozen:
            if self._accumulate > 1:  # the steps without it leave its sum alone
                self._state[name]["accumulated"][...] = 0
        self._frozen |= set(names)
        self._stale, self._quick = True, False

    def unfreeze(self, *names: str) -> None:
        """Let these parameters take part in the steps again."""
        self._check_names(names)
        self._frozen -= set(names)
        self._stale, self._quick = True, False

    def add_param_group(self, group: Mapping[str, Any]) -> None:
        """Add parameters: a mapping with "params" and the hyper-parameters that differ.

        Those that are not given are the first group's. Bound gradients are let go.
        """
        owner = type(self).__name__
        if not isinstance(group, Mapping) or "params" not in group:
            raise ValueError(f"{owner}: group must be a mapping with 'params', got {group!r}")
        first = self._groups[0]
        added = make_groups(
            owner, [group], {name: first[name] for name in first.known}, self._arrays
        )
        refuse_shared({**self._arrays, **added[0]["params"]})
        before, names = self._groups, list(added[0]["params"])
        self._groups = (*before, *added)
        try:
            if self.choose_rule() != self.rule:
                raise ValueError(f"{owner}: the new group needs another rule than {self.rule!r}")
            self._make_state(added)
        except BaseException:
            self._groups = before
            for name in names:
                self._state.pop(name, None)
            raise
        self._missed.update(dict.fromkeys(names, self.t))
        self._bound = False
        self._renew()

    def add_step_hook(
        self,
        before: Callable[[Optimizer, Any], None] | None = None,
        after: Callable[[Optimizer, StepInfo], None] | None = None,
    ) -> Callable[[], None]:
        """Call `before(opt, grads)` and `after(opt, info)` at each step; return what undoes it.

        An error in `before` leaves everything as it was.
        """
        pairs = [(k, hook) for k, hook in enumerate((before, after)) if hook is not None]
        for _, hook in pairs:
            if not callable(hook):
                raise TypeError(f"add_step_hook: a hook must be callable, got {hook!r}")
        for k, hook in pairs:
            self._hooks[k].append(hook)
        self._quick = False

        def remove() -> None:
            for k, hook in pairs:
                if hook in self._hooks[k]:
                    self._hooks[k].remove(hook)

        return remove

    def state_value(self, name: str, key: str) -> np.ndarray:
        """Return state `key` of parameter `name` as numbers, also where it is compressed."""
        state = self._state[name]
        largest = state.get(key + precision.LARGEST)
        if largest is not None:
            letter = next(k for k, v in self.state_names.items() if v == key)
            return precision.decode((state[key], largest, self.state_kinds[letter] == "signed"))
        return precision.decode(state[key]) if state[key].dtype == np.uint16 else state[key].copy()

    def flush(self) -> None:
        """Bring rows up to date that lazy="catchup" has left behind; otherwise do nothing."""
        with self._plan as plan:
            plan.flush(resolve(self._threads))

    def _check_names(self, names: Sequence[str]) -> None:
        for name in names:
            if name not in self._arrays:
                raise ValueError(f"no parameter is named {name!r}" + nearest(name, self._order))

    def _renew(self) -> None:
        """Make the plan again, after a change of groups."""
        with self._plan:
            bound = self._bound_arrays if self._bound else None
            self._name_arrays()
            self._prepare(self.t)
            self._stale = False
        if bound is not None and len(bound) == len(self._order):
            self.bind(bound)

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
        arrays = list(map(gradients.as_array, self._order, self._bound_arrays))
        for name, array in zip(self._order, arrays, strict=True):
            if not array.flags.writeable:
                raise ValueError(f"zero_grad: gradient of {name!r} is read-only")
        for array in arrays:
            array[...] = 0

    def _ordered(self, grads: Any, flip: bool = True) -> list[Any]:
        """Return one gradient per parameter, in the parameters' order."""
        rows = self.lazy is not None
        found = gradients.ordered(grads, self._order, self._groups, self._frozen, rows)
        if flip and rows:
            found = by_row.resolve(self, found)
        if flip:
            for k in self._transposed:
                if found[k] is not None:
                    found[k] = gradients.as_array(self._order[k], found[k]).T
        return found

    def _clash(self, k: int, grad: Any) -> None:
        """Raise if gradient `grad` shares memory with a parameter or state."""
        grad = gradients.as_array(self._order[k], grad)
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
        """Write `state_dict()` to `path`, through a temporary file: all or nothing.

        The file is safetensors if `path` ends in .safetensors, otherwise npz.
        """
        checkpoint.save(self, path)

    def load(self, path: str | PathLike[str]) -> None:
        """Read what `save` wrote and take it over, as `load_state_dict` does."""
        checkpoint.load(self, path)

    def __getstate__(self) -> dict[str, Any]:
        hidden = {
            "_plan",
            "_own",
            "_bound",
            "_bound_arrays",
            "_arrays",
            "_sums",
            "_quick",
            "_scratch",
        }
        return {k: v for k, v in self.__dict__.items() if k not in hidden} | {"t": self.t}

    def __setstate__(self, state: dict[str, Any]) -> None:
        t = state.pop("t")
        self.__dict__.update(state)
        self._scratch = {}
        self._name_arrays()
        self._prepare(t)

    def __repr__(self) -> str:
        first = self.param_groups[0]
        values = ", ".join(
            f"{name}={first[name]!r}"
            for name in first.known
            if name not in COMMON or first[name] != COMMON[name]
        )
        return f"{type(self).__name__}({len(self._order)} parameters, t={self.t}, {values})"
