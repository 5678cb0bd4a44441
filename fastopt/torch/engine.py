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

TABLE = getattr(torch.Tensor, "__dlpack_c_exchange_api__", None)


class Refused(Exception):
    """Why a step must be left to torch."""


class Part:
    """The parameters that one compiled rule updates: a plan, and the tensors it was made of."""

    def __init__(self, opt: Native, rule: str, where: list[int], params: list, groups: list[int]):
        self.rule, self.where, self.groups = rule, where, groups
        self.stand_in = opt._stand_in(rule)
        kinds, names = self.stand_in.state_kinds, self.stand_in.state_names
        letters = [] if opt._factored else _core.rules()[rule][0]
        views: list[np.ndarray] = []
        states, held, counters, orders = [], [], [], []
        own: list[np.ndarray] = []
        extra: dict[str, Any] = {"copy": [], "rest": [], "average": []}
        for p, k in zip(params, groups, strict=True):
            state, group = opt.state[p], opt.param_groups[k]
            fresh = opt._begin(p, state, group, self.stand_in)
            entries: list[str] = []
            for letter in letters:
                key = opt._key(names[letter])
                memory.conform(state, key, p, kinds.get(letter), opt.state_dtype)
                entries.append(key)
            side = {"copy": None, "rest": None, "average": None}
            for key, role in opt._beside(p):
                memory.conform(state, key, p, None, None) if role != "rest" else None
                side[role] = key
                entries.append(key)
            arrays = {key: memory.view(state[key]) for key in entries}
            order = (
                None
                if opt._factored
                else memory.order_of(next(iter(arrays.values())) if arrays else memory.view(p))
            )
            for key, array in arrays.items():
                if not memory.in_order(array, order).flags.c_contiguous:
                    state[key] = memory.zeros(p, state[key].dtype).copy_(state[key])
                    raise Again
            seen = memory.in_order(memory.view(p), order)
            arrays = {key: memory.in_order(array, order) for key, array in arrays.items()}
            master = side["copy"]
            views.append(seen if master is None else arrays[master])
            extra["copy"].append(None if master is None else seen)
            extra["rest"].append(None if side["rest"] is None else arrays[side["rest"]])
            extra["average"].append(None if side["average"] is None else arrays[side["average"]])
            own += [seen, *arrays.values()]
            row = []
            for letter in letters:
                key = opt._key(names[letter])
                largest = state.get(key + memory.LARGEST)
                if largest is None:
                    row.append(arrays[key])
                    continue
                entries.append(key + memory.LARGEST)
                row.append((arrays[key], memory.view(largest), kinds[letter] == "signed"))
            states.append(row)
            counted = opt._counters(p, state, fresh)
            counters.append(counted)
            moments = opt._factored and [key for key in opt._moments(p, state)]
            held.append([(state, key, state[key]) for key in [*entries, *(moments or ())]])
            orders.append(order)
            if not state:  # as in torch, a rule without states leaves none behind
                opt.state.pop(p, None)
        if any(map(overlaps_itself, views)):
            raise Refused("elements of a parameter share memory")
        if sharing_pair({str(k): a for k, a in enumerate(own)}):
            raise Refused("parameters or states share memory")
        self.own, self.orders = own, orders
        self.plan = _core.Plan(
            rule, tuple(f"parameter {k}" for k in where), views, states, [0] * len(views),
            hulls(own), {**extra, "stochastic": opt.rounding == "stochastic"},
        )  # fmt: skip
        self.tensors = _core.Tensors(TABLE, self.plan, params, held, counters, orders)
        steps = [c[0] for c in counters if c]
        self.plan.t = int(max(map(float, steps), default=0))
        opt._wire(self.plan, [opt.state.get(p, {}) for p in params])


class Again(Exception):
    """A state was laid out anew while a plan was made: make it again."""


class Engine:
    """What an optimizer's steps need, found out at the first and looked at in each."""

    def __init__(self) -> None:
        self.parts: list[Part] = []
        self.params: list[torch.Tensor] = []
        self.rules: list[str] = []
        self.bare: list[int] = []  # parameters without states: they have had no gradient yet

    def step(self, opt: Native) -> None:
        """Take a step; raises `Refused`, with nothing changed, where torch must take it."""
        params = [p for group in opt.param_groups for p in group["params"]]
        grads = _core.attribute(params, "grad")
        rules = [opt._rule(group) for group in opt.param_groups]
        ready = self._ready(opt, params, grads, rules)
        threads = resolve(torch.get_num_threads() if opt.threads is None else opt.threads)
        # one part, as almost always, does without a stack, which costs as much as a small step
        stack = contextlib.ExitStack() if len(ready) > 1 else None
        with stack or (ready[0][0].plan if ready else contextlib.nullcontext()):
            for part, found, numbers, _ in ready:
                if stack is not None:
                    stack.enter_context(part.plan)
                part.tensors.hold(found, _clash)
                for k, one in enumerate(numbers):
                    part.plan.set_group(k, one.scale, one.l2, one.decay, one.scalars)
                    if one.average:
                        part.tensors.average(k, one.average)
            for part, found, _, after in ready:
                part.tensors.run(after, threads)
                if opt._counts_itself:
                    chosen = zip(part.tensors.params, found, strict=True)
                    opt._count_steps([p for p, grad in chosen if grad is not None])
        _moved([p for p, grad in zip(params, grads, strict=True) if grad is not None])

    def _ready(
        self, opt: Native, params: list[Any], grads: list[Any], rules: list[str]
    ) -> list[Any]:
        """Return the parts that take part, each with its gradients and numbers."""
        for _ in range(3):  # a state may have to be laid out, or counted, in another way
            try:
                if not self._holds(params, grads, rules):
                    self._build(opt, params, grads, rules)
                found = [self._prepare(opt, part, grads) for part in self.parts]
                return [one for one in found if one is not None]
            except Again:
                self.params = []
        raise RuntimeError("the states of an optimizer change while it takes a step")

    def _holds(self, params: list[Any], grads: list[Any], rules: list[str]) -> bool:
        """Whether the plans are still those of these tensors."""
        if rules != self.rules or not _core.identical(params, self.params):
            return False
        if self.bare and any(grads[k] is not None for k in self.bare):
            return False
        try:
            return all(part.tensors.same(part.tensors.params) for part in self.parts)
        except (TypeError, RuntimeError, BufferError):
            return False

    def _build(self, opt: Native, params: list[Any], grads: list[Any], rules: list[str]) -> None:
        """Make the plans of all parameters that have states or a gradient."""
        self.params = []  # until all is well
        if len({id(p) for p in params}) != len(params):
            raise Refused("a parameter is there twice")
        whose = [k for k, group in enumerate(opt.param_groups) for _ in group["params"]]
        chosen: dict[str, list[int]] = {}
        bare = []
        for k, (p, grad) in enumerate(zip(params, grads, strict=True)):
            stateless = rules[whose[k]] == "sgd" and not opt.counters
            if grad is None and not opt.state.get(p) and not stateless:
                bare.append(k)
                continue
            if why := memory.why_not(p):
                if grad is None:
                    bare.append(k)
                    continue
                raise Refused(f"parameter {k}: {why}")
            chosen.setdefault(rules[whose[k]], []).append(k)
        self.parts = [
            Part(opt, rule, where, [params[k] for k in where], [whose[k] for k in where])
            for rule, where in chosen.items()
        ]
        everything = [a for part in self.parts for a in part.own]
        if len(self.parts) > 1 and sharing_pair({str(k): a for k, a in enumerate(everything)}):
            raise Refused("parameters share memory")
        self.params, self.rules, self.bare = params, rules, bare

    def _prepare(self, opt: Native, part: Part, grads: list[Any]) -> Any:
        """Return the part's gradients and numbers of the next step; None where it has none."""
        found = grads if len(part.where) == len(grads) else [grads[k] for k in part.where]
        if all(grad is None for grad in found):
            return None
        if _core.unlike(found, torch.strided):
            found = [
                grad if grad is None
                else self._rows(opt, part, k, grad) if grad.layout != torch.strided
                else grad.resolve_conj().resolve_neg()
                for k, grad in enumerate(found)
            ]  # fmt: skip
        slots = part.tensors.slots(found, part.groups)
        numbers, after = [], []
        for group, counts in slots:
            one, then = opt._numbers(part.stand_in, opt.param_groups[group], counts)
            if counts and then[0] > 2**24 and opt._wide(part.tensors.params):
                raise Again
            numbers.append(one)
            after.append(then)
        return part, found, numbers, after

    def _rows(self, opt: Native, part: Part, k: int, grad: Any) -> Any:
        """Return a sparse gradient as different rows and their values."""
        p = part.tensors.params[k]
        group = opt.param_groups[part.groups[k]]
        if grad.layout != torch.sparse_coo or grad.sparse_dim() != 1 or not opt._by_rows(group):
            raise Refused("sparse gradients")
        if part.orders[k] is not None or not takes_rows(memory.view(p)) or p.is_complex():
            raise Refused("sparse gradients of a parameter that is not contiguous")
        rows, values = grad._indices()[0].numpy(), memory.view(grad._values())
        rows = np.ascontiguousarray(rows, np.int64)
        if grad.is_coalesced():
            return _core.RowGradient(rows, np.ascontiguousarray(values))
        chosen, place = _core.distinct(rows, len(p))
        if place is None:
            return _core.RowGradient(chosen, np.ascontiguousarray(values))
        added = np.zeros((len(chosen), *p.shape[1:]), values.dtype)
        _core.add_rows(added, place, np.ascontiguousarray(values))
        return _core.RowGradient(chosen, added)


def _clash(k: int, grad: Any) -> None:
    raise Refused("a gradient shares memory with a parameter or state")


def _moved(params: list[torch.Tensor]) -> None:
    """Let autograd know that parameters are not what they were."""
    try:
        increment_version(params)
    except (RuntimeError, TypeError):  # inference tensors; versions of torch that take one only
        for p in params:
            if not p.is_inference():
                increment_version(p)
