"""The rules that torch.optim does not have, as optimizers of torch."""

from __future__ import annotations

import inspect
from typing import Any, ClassVar

import torch

import fastopt
from fastopt.rules.hyperparameters import check
from fastopt.torch.native import DEFAULTS, Native, Numbers, plain

__all__ = [
    "FTRL",
    "LAMB",
    "AdaBelief",
    "DeltaBarDelta",
    "Lion",
    "NesterovRMSprop",
    "ScheduleFreeAdamW",
    "ScheduleFreeSGD",
]


class Own(Native, torch.optim.Optimizer):
    """An optimizer of torch made of a rule of fastopt: its hyper-parameters, defaults and checks.

    Subclasses name the rule as `native`; `fixed` is what of its hyper-parameters is none here.
    """

    fixed: ClassVar[dict[str, Any]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        theirs = inspect.signature(cls.native.__init__).parameters.values()
        kinds = inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD
        parameters = [
            p for p in theirs if p.kind in kinds and p.name not in ("self", "preset", *cls.fixed)
        ]
        cls.defaults_of = {p.name: p.default for p in parameters if p.name != "params"}
        cls.defaults_of["maximize"] = False
        added = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default)
            for name, default in {"maximize": False, **DEFAULTS}.items()
        ]
        parameters = [p.replace(annotation=inspect.Parameter.empty) for p in parameters]
        cls.__signature__ = inspect.Signature([*parameters, *added])
        super().__init_subclass__(**kwargs)

    def __init__(self, params: Any, *args: Any, **kwargs: Any) -> None:
        bound = type(self).__signature__.bind(params, *args, **kwargs)
        bound.apply_defaults()
        values = dict(bound.arguments)
        del values["params"]
        self._set_options(**{name: values.pop(name) for name in DEFAULTS})
        if values.get("lr", 0) is None:
            raise TypeError(f"{type(self).__name__}: lr is required")
        self._check(values)
        torch.optim.Optimizer.__init__(self, params, values)

    def _check(self, values: dict[str, Any]) -> None:
        for name, value in values.items():
            check(type(self).__name__, name, plain(value))

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters with hyper-parameters of their own, as in torch."""
        self._check({k: v for k, v in param_group.items() if k in self.defaults_of})
        super().add_param_group(param_group)

    def _hyper(self, group: dict[str, Any]) -> dict[str, Any]:
        return {**group, **self.fixed, "proximal": False}


class Lion(Own):
    """`fastopt.Lion` for tensors, with the options of `Native`."""

    native = fastopt.Lion


class AdaBelief(Own):
    """`fastopt.AdaBelief` for tensors, with the options of `Native`."""

    native = fastopt.AdaBelief


class DeltaBarDelta(Own):
    """`fastopt.DeltaBarDelta` for tensors, with the options of `Native`."""

    native = fastopt.DeltaBarDelta


class FTRL(Own):
    """`fastopt.FTRL` for tensors, with the options of `Native`."""

    native = fastopt.FTRL


class LAMB(Own):
    """`fastopt.LAMB` for tensors, with the options of `Native`."""

    native = fastopt.LAMB

    def _wire(self, plan: Any, states: list[dict[str, Any]]) -> None:
        plan.direct("lamb_moments")


class NesterovRMSprop(Own):
    """`fastopt.RMSprop` with Nesterov's momentum for tensors, with the options of `Native`."""

    native = fastopt.RMSprop
    fixed: ClassVar[dict[str, Any]] = {"nesterov": True}

    def _rule(self, group: dict[str, Any]) -> str:
        return "rmsprop" + "_centered" * bool(group["centered"]) + "_momentum"

    def _check(self, values: dict[str, Any]) -> None:
        super()._check(values)
        if values.get("momentum") == 0:
            raise ValueError("NesterovRMSprop: momentum must be > 0")


class ScheduleFreeSGD(Own):
    """`fastopt.ScheduleFreeSGD` for tensors, with the options of `Native`."""

    native = fastopt.ScheduleFreeSGD

    _counts_itself = True

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters with hyper-parameters of their own, as in torch."""
        super().add_param_group(param_group)
        training = self.param_groups[0].get("train_mode", True)
        self.param_groups[-1].update(weight_sum=0.0, lr_max=0.0, train_mode=training)

    def _check(self, values: dict[str, Any]) -> None:
        super()._check(values)
        beta = values.get("momentum", values.get("betas", (1.0,)))
        if plain(beta[0] if isinstance(beta, (tuple, list)) else beta) == 0:
            raise ValueError(f"{type(self).__name__}: the weight of the average must be > 0")

    def _beta(self, group: dict[str, Any]) -> float:
        return group["betas"][0] if "betas" in group else group["momentum"]

    def _numbers(
        self, rule: Any, group: dict[str, Any], counts: tuple[float, ...]
    ) -> tuple[Numbers, tuple[float, ...]]:
        if not group["train_mode"]:
            raise RuntimeError(
                f"{type(self).__name__}: the parameters hold the average; call train() first"
            )
        h = self._values(group)
        t = int(counts[0]) + 1
        lr = h["lr"] * (min(1.0, t / h["warmup_steps"]) if h["warmup_steps"] else 1.0)
        most = max(lr, h["lr_max"])
        total = h["weight_sum"] + t ** h["r"] * most ** h["weight_lr_power"]
        c = (total - h["weight_sum"]) / total if total else 0.0
        self._pending[id(group)] = (total, most)
        beta = self._beta(h)
        scalars = {"lr": lr, "c": c, "lr_y": lr * (1 - beta * (1 - c))}
        if "betas" in h:
            b2 = h["betas"][1]
            scalars |= {
                "b2": b2, "c2": 1 - b2, "a": 1 / fastopt._core.bias_correction(b2, t),
                "eps": h["eps"], "wd": h["weight_decay"],
            }  # fmt: skip
        made = Numbers(scalars, scale=-1.0 if h["maximize"] else 1.0)
        made.l2 = 0.0 if "betas" in h else h["weight_decay"]
        return made, (counts[0] + 1,)

    def _counts_after(self, params: list[Any]) -> list[tuple[dict[str, Any], str, Any]]:
        found: list[tuple[dict[str, Any], str, Any]] = []
        for group in self.param_groups:
            if id(group) in self._pending:
                total, most = self._pending[id(group)]
                found += [(group, "weight_sum", total), (group, "lr_max", most)]
        return found

    @property
    def _pending(self) -> dict[int, tuple[float, float]]:
        """By group, the sum of weights and the largest rate after the step that is being taken."""
        return self.__dict__.setdefault("_after", {})

    def step(self, closure: Any = None) -> Any:
        """Take a step; see `Native.step`."""
        self._pending.clear()
        return super().step(closure)

    def eval(self) -> None:
        """Put the average x in the parameters; does nothing if it is there."""
        self._switch(False)

    def train(self) -> None:
        """Put y in the parameters, where gradients are taken; does nothing if it is there."""
        self._switch(True)

    @torch.no_grad()
    def _switch(self, training: bool) -> None:
        for group in self.param_groups:
            if group["train_mode"] == training:
                continue
            beta = self._beta(group)
            for p in group["params"]:
                state = self.state.get(p, {})
                if "z" in state:
                    exact = state.get("master", p)
                    exact.copy_(torch.lerp(state["z"], exact.to(state["z"].dtype),
                                           beta if training else 1 / beta))  # fmt: skip
                    if exact is not p:
                        p.copy_(exact)
            group["train_mode"] = training


class ScheduleFreeAdamW(ScheduleFreeSGD):
    """`fastopt.ScheduleFreeAdamW` for tensors, with the options of `Native`."""

    native = fastopt.ScheduleFreeAdamW
