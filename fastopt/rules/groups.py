"""Parameter groups: arrays by name, and hyper-parameters that may be schedules."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fastopt.rules.hyperparameters import COMMON, check, nearest
from fastopt.rules.parameters import named_arrays


def is_scheduled(value: Any) -> bool:
    """Return whether `value` is a schedule, or a pair with a schedule in it."""
    return callable(value) or (isinstance(value, (tuple, list)) and any(map(callable, value)))


class Group(dict[str, Any]):
    """A parameter group: "params" (name -> array) and hyper-parameters, checked when set.

    Any hyper-parameter may be a schedule, a callable `t -> value` with t = 0 in the first step.
    """

    def __init__(self, owner: str, params: dict[str, Any], values: dict[str, Any]) -> None:
        super().__init__(params=params)
        self.owner = owner
        self.known = tuple(values)
        self.scheduled: tuple[str, ...] = ()
        self.staged = False
        self.plain: dict[str, Any] = {}  # the same values in a plain dict, which is faster to read
        for name, value in values.items():
            self[name] = value

    def __setitem__(self, name: str, value: Any) -> None:
        value = self._checked(name, value)
        super().__setitem__(name, value)
        self.plain[name] = value
        self.scheduled = tuple(key for key in self.known if is_scheduled(self.get(key)))
        # once set, a stage is looked at in every step: its plan remembers it
        self.staged = self.staged or (
            name in COMMON and name != "maximize" and value != COMMON[name]
        )

    def _checked(self, name: str, value: Any) -> Any:
        if name not in self.known:
            raise KeyError(
                f"{self.owner}: unknown hyper-parameter {name!r}" + nearest(name, self.known)
            )
        if is_scheduled(value):
            self._resolve(name, value, 0)
            return value
        return check(self.owner, name, value)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.owner, self["params"], {name: self[name] for name in self.known})

    def update(self, *others: Any, **values: Any) -> None:
        """Set several hyper-parameters, all of them checked before the first is set."""
        new = dict(*others, **values)
        for name, value in new.items():
            self._checked(name, value)
        for name, value in new.items():
            self[name] = value

    def __ior__(self, other: Any) -> Group:
        self.update(other)
        return self

    def _refuse(self, *_: Any) -> None:
        raise TypeError(f"{self.owner}: a group's hyper-parameters cannot be removed or added")

    __delitem__ = pop = popitem = clear = setdefault = _refuse

    def _resolve(self, name: str, value: Any, t: int) -> Any:
        try:
            if callable(value):
                value = value(t)
            else:
                value = tuple(part(t) if callable(part) else part for part in value)
        except ArithmeticError as error:
            raise ValueError(f"{self.owner}: the schedule of {name} at t={t}: {error}") from error
        return check(self.owner, name, value, f" from its schedule at t={t}")

    def at(self, t: int) -> dict[str, Any]:
        """Return the hyper-parameters as numbers in the step after `t` steps."""
        if not self.scheduled:
            return self.plain
        values = dict(self.plain)
        for name in self.scheduled:
            values[name] = self._resolve(name, self[name], t)
        return values


def make_groups(
    owner: str, params: Any, values: dict[str, Any], known: Iterable[str] = ()
) -> tuple[Group, ...]:
    """Return the groups in `params`; `known` are names of parameters that are taken already."""
    given = [{"params": params}]
    if isinstance(params, Mapping) and "params" in params and {*params} & {*values}:
        raise TypeError(f"{owner}: params is one group: put it in a list")
    if isinstance(params, Sequence) and params and all(isinstance(p, Mapping) for p in params):
        given = list(params)
    groups: list[Group] = []
    taken: set[str] = set(known)
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
