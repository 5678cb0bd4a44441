"""From an optimizer of torch to native calls: plans of its tensors, made again as these change."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.autograd.graph import increment_version

from fastopt import _core
from fastopt.rules.lazy import takes_rows
from fastopt.rules.parameters import hulls, overlaps_itself, sharing_pair
from fastopt.threads import resolve
from fastopt.torch import memory

if TYPE_CHECKING:
    from fastopt.torch.native import Native

RULES = _core.rules()
TABLE = getattr(torch.Tensor, "__dlpack_c_exchange_api__", None)


class Refused(Exception):
    """Why a step must be left to torch."""


class Again(Exception):
    """A state was laid out, or counted, in another way while a plan was made: make it again."""


class Part:
    """The parameters that one compiled rule updates: a plan, and the tensors it was made of."""

    def __init__(
        self, opt: Native, rule: str, where: list[int], params: list[Any], groups: list[int]
    ) -> None:
        self.rule, self.where, self.groups = rule, where, groups
        self.stand_in = opt._stand_in(rule)
        letters = [] if opt._factored else RULES[rule][0]
        made = [
            self._one(opt, p, opt.param_groups[k], letters)
            for p, k in zip(params, groups, strict=True)
        ]
        self.orders = [one["order"] for one in made]
        self.own = [array for one in made for array in one["own"]]
        if sharing_pair({str(k): a for k, a in enumerate(self.own)}):
            raise Refused("parameters or states share memory")
        self.plan = _core.Plan(
            rule,
            tuple(f"parameter {k}" for k in where),
            [one["w"] for one in made],
            [one["states"] for one in made],
            [0] * len(made),
            hulls(self.own),
            {
                **{role: [one[role] for one in made] for role in ("copy", "rest", "average")},
                "stochastic": opt.rounding == "stochastic",
            },
        )
        self.tensors = _core.Tensors(
            TABLE, self.plan, params, [one["held"] for one in made],
            [one["counters"] for one in made], self.orders,
        )  # fmt: skip
        steps = [float(one["counters"][0]) for one in made if one["counters"]]
        self.plan.t = int(max(steps, default=0))  # what random rounding goes by
        opt._wire(self.plan, [opt.state.get(p, {}) for p in params])

    def _one(self, opt: Native, p: Any, group: dict[str, Any], letters: Any) -> dict[str, Any]:
        """Return what the plan needs of one parameter, its states being made where it has none."""
        kinds, names = self.stand_in.state_kinds, self.stand_in.state_names
        state = opt.state[p]
        opt._begin(p, state, group, self.stand_in)
        keys = {letter: opt._key(names[letter]) for letter in letters}
        for letter, key in keys.items():
            memory.conform(state, key, p, kinds.get(letter), opt.state_dtype)
        entries = list(keys.values())
        beside: dict[str, str] = {}
        for key, role in opt._beside(p):
            if role != "rest":
                memory.conform(state, key, p, None, None)
            beside[role] = key
            entries.append(key)
        arrays = {key: memory.view(state[key]) for key in entries}
        order = None
        if not opt._factored:
            order = memory.order_of(next(iter(arrays.values()), None) if arrays else memory.view(p))
        for key, array in arrays.items():
            if not memory.in_order(array, order).flags.c_contiguous:
                like = torch.empty(p.shape) if opt._factored else p
                state[key] = memory.zeros(like, state[key].dtype).copy_(state[key])
                raise Again
        seen = memory.in_order(memory.view(p), order)
        arrays = {key: memory.in_order(array, order) for key, array in arrays.items()}
        states: list[Any] = []
        for letter, key in keys.items():
            largest = state.get(key + memory.LARGEST)
            if largest is None:
                states.append(arrays[key])
            else:
                entries.append(key + memory.LARGEST)
                states.append((arrays[key], memory.view(largest), kinds[letter] == "signed"))
        made: dict[str, Any] = {
            role: arrays[beside[role]] if role in beside else None for role in ("rest", "average")
        }
        master = arrays[beside["copy"]] if "copy" in beside else None
        counters = opt._counters(p, state)
        watched = [*entries, *(opt._moments(p, state) if opt._factored else ()), *opt.counters]
        made |= {
            "w": seen if master is None else master,
            "copy": None if master is None else seen,
            "states": states,
            "order": order,
            "own": [seen, *arrays.values()],
            "counters": counters,
            "held": [(state, key, state[key]) for key in watched],
        }
        if not state:  # as in torch, a rule without states leaves none behind
            opt.state.pop(p, None)
        return made


class Engine:
    """What an optimizer's steps need, found out at the first and looked at in each."""

    def __init__(self) -> None:
        self.parts: list[Part] = []
        self.params: list[torch.Tensor] = []
        self.how: tuple[Any, ...] = ()  # rules, sizes of groups and options when plans were made
        self.states: list[tuple[Any, Any]] = []
        self.bare: list[int] = []  # parameters without states: they have had no gradient yet
        self.versions: dict[Any, int] = {}  # of parameters that have another form in the state

    def step(self, opt: Native) -> None:
        """Take a step; raises `Refused`, with nothing changed, where torch must take it."""
        params = [p for group in opt.param_groups for p in group["params"]]
        grads = _core.attribute(params, "grad")
        ready = self._ready(opt, params, grads)
        threads = resolve(torch.get_num_threads() if opt.threads is None else opt.threads)
        # one part, as almost always, does without a stack, which costs as much as a small step
        stack = contextlib.ExitStack() if len(ready) > 1 else None
        with stack or (ready[0][0].plan if ready else contextlib.nullcontext()):
            for part, found, numbers, _ in ready:
                if stack is not None:
                    stack.enter_context(part.plan)
                _hold(part, found)
                for k, one in enumerate(numbers):
                    part.plan.set_group(k, one.scale, one.l2, one.decay, one.scalars)
                    if one.average:
                        part.tensors.average(k, one.average)
            counts = []
            for part, found, _, _ in ready if opt._counts_itself else ():
                chosen = zip(part.tensors.params, found, strict=True)
                counts += opt._counts_after([p for p, grad in chosen if grad is not None])
            steps = [(part.tensors, after) for part, _, _, after in ready]
            _core.run_tensors(steps, threads, counts)
        opt._fresh.clear()
        _moved([p for p, grad in zip(params, grads, strict=True) if grad is not None])
        if self.versions:
            self.versions = {p: _version(p) for p in self.versions}

    def _ready(self, opt: Native, params: list[Any], grads: list[Any]) -> list[Any]:
        """Return the parts that take part, each with its gradients and numbers."""
        how = (
            [opt._rule(group) for group in opt.param_groups],
            [len(group["params"]) for group in opt.param_groups],
            opt.rounding,
            opt.state_dtype,
        )
        for _ in range(4):  # a state may have to be laid out, or counted, in another way
            try:
                if not self._holds(opt, params, grads, how):
                    self._build(opt, params, grads, how)
                for p, version in self.versions.items():
                    if _version(p) != version:  # somebody else has written to it
                        refresh(opt.state[p], p)
                found = [self._prepare(opt, part, grads) for part in self.parts]
                return [one for one in found if one is not None]
            except Again:
                self.params = []
        raise RuntimeError("the states of an optimizer change while it takes a step")

    def _holds(self, opt: Native, params: list[Any], grads: list[Any], how: Any) -> bool:
        """Whether the plans are still those of these tensors."""
        if how != self.how or not _core.identical(params, self.params):
            return False
        if self.bare and any(grads[k] is not None for k in self.bare):
            return False
        if not _core.same_items(opt.state, self.states):
            return False
        try:
            return all(part.tensors.same(part.tensors.params) for part in self.parts)
        except (TypeError, RuntimeError, BufferError):
            return False

    def _build(self, opt: Native, params: list[Any], grads: list[Any], how: Any) -> None:
        """Make the plans of all parameters that have states or a gradient."""
        self.params, self.parts = [], []  # until all is well
        if len({id(p) for p in params}) != len(params):
            raise Refused("a parameter is there twice")
        rules, sizes, *_ = how
        whose = [k for k, size in enumerate(sizes) for _ in range(size)]
        chosen: dict[str, list[int]] = {}
        bare = []
        for k, (p, grad) in enumerate(zip(params, grads, strict=True)):
            rule = rules[whose[k]]
            stateless = rule == "sgd" and not opt.counters
            if grad is None and not opt.state.get(p) and not stateless:
                bare.append(k)
                continue
            if why := memory.why_not(p):
                if grad is None:
                    bare.append(k)
                    continue
                raise Refused(f"parameter {k}: {why}")
            if (
                grad is not None
                and grad.layout != torch.strided
                and not opt._by_rows(opt.param_groups[whose[k]])
            ):
                raise Refused("sparse gradients")
            chosen.setdefault(rule, []).append(k)
        # before any state is made, which torch would find, were it to take the step
        views = {str(k): memory.view(params[k]) for where in chosen.values() for k in where}
        if any(map(overlaps_itself, views.values())) or sharing_pair(views):
            raise Refused("parameters share memory")
        parts = [
            Part(opt, rule, where, [params[k] for k in where], [whose[k] for k in where])
            for rule, where in chosen.items()
        ]
        self.params, self.parts, self.how, self.bare = params, parts, how, bare
        self.states = list(opt.state.items())
        self.versions = {
            params[k]: _version(params[k])
            for where in chosen.values()
            for k in where
            if {"master", "rest"} & {*opt.state.get(params[k], ())}
        }

    def _prepare(self, opt: Native, part: Part, grads: list[Any]) -> Any:
        """Return the part's gradients and numbers of the next step; None where it has none."""
        found = grads if len(part.where) == len(grads) else [grads[k] for k in part.where]
        if all(grad is None for grad in found):
            return None
        if _core.unlike(found, torch.Tensor, torch.strided):
            found = [self._plain(opt, part, k, grad) for k, grad in enumerate(found)]
        slots = part.tensors.slots(found, part.groups)
        numbers, after = [], []
        for group, counts in slots:
            one, then = opt._numbers(part.stand_in, opt.param_groups[group], counts)
            if counts and then[0] > 2**24 and opt._wide(part.tensors.params):
                raise Again
            numbers.append(one)
            after.append(then)
        return part, found, numbers, after

    def _plain(self, opt: Native, part: Part, k: int, grad: Any) -> Any:
        """Return a gradient that is not a plain tensor as one, or as rows."""
        if grad is None:
            return None
        if grad.layout != torch.strided:
            return self._rows(opt, part, k, grad)
        if grad.is_neg() or grad.is_conj():
            grad = grad.resolve_conj().resolve_neg()
        if why := memory.why_not(grad):
            raise Refused(f"the gradient of parameter {part.where[k]}: {why}")
        return grad

    def _rows(self, opt: Native, part: Part, k: int, grad: Any) -> Any:
        """Return a sparse gradient as different rows and their values."""
        p = part.tensors.params[k]
        group = opt.param_groups[part.groups[k]]
        if grad.layout != torch.sparse_coo or grad.sparse_dim() != 1 or not opt._by_rows(group):
            raise Refused("sparse gradients")
        if part.orders[k] is not None or not takes_rows(memory.view(p)) or p.is_complex():
            raise Refused("sparse gradients of a parameter that is not contiguous")
        if p.dtype in memory.LOW:
            raise Refused("sparse gradients of a parameter in 16 bits")
        rows = np.ascontiguousarray(grad._indices()[0].numpy(), np.int64)
        values = np.ascontiguousarray(grad._values().numpy())
        try:
            chosen, place = _core.distinct(rows, len(p))
        except IndexError as error:
            row = rows[error.args[0]]
            raise IndexError(f"a sparse gradient has row {row}, not in [0, {len(p)})") from None
        if place is None:
            return _core.RowGradient(chosen, values)
        added = np.zeros((len(chosen), *p.shape[1:]), values.dtype)
        _core.add_rows(added, place, values)
        return _core.RowGradient(chosen, added)


def _hold(part: Part, found: list[Any]) -> None:
    """Let the plan hold the gradients, copies of those that lie where it writes."""
    clashes: list[int] = []
    try:
        part.tensors.hold(found, lambda k, _: clashes.append(k))
        if clashes:
            copies = [_copy(g) if k in clashes else g for k, g in enumerate(found)]
            part.copies = copies  # they live as long as the plan may look at them
            part.tensors.hold(copies, lambda k, _: None)
    except (TypeError, ValueError, BufferError) as error:
        raise Refused(str(error)) from error


def _copy(grad: Any) -> Any:
    if isinstance(grad, _core.RowGradient):
        return _core.RowGradient(grad.rows, grad.values.copy())
    return grad.clone()


def refresh(state: dict[str, Any], p: Any) -> None:
    """Take over what somebody has written to a parameter that has a more exact form here."""
    with torch.no_grad():
        if "master" in state:
            other = state["master"].to(p.dtype) != p
            state["master"].copy_(torch.where(other, p.to(state["master"].dtype), state["master"]))
        if "rest" in state:
            state["rest"].zero_()


def _version(p: Any) -> int:
    """Return how often a parameter has been written to; inference tensors do not count."""
    return -1 if p.is_inference() else p._version


def _moved(params: list[torch.Tensor]) -> None:
    """Let autograd know that parameters are not what they were."""
    try:
        increment_version(params)
    except (RuntimeError, TypeError):  # inference tensors; versions of torch that take one only
        for p in params:
            if not p.is_inference():
                increment_version(p)
