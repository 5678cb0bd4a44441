"""torch.optim in its three modes: the default for-loop, foreach, and fused where there is one."""

from __future__ import annotations

import inspect
from typing import Any

import torch

from bench.peers import EPS, LR, WEIGHT_DECAY, Contender, Data

MOMENTUM = {"momentum": 0.9}
RMSPROP = {"alpha": 0.9, "eps": EPS}
RULES: dict[str, tuple[str, dict[str, Any]]] = {
    "SGD": ("SGD", {}),
    "SGD momentum": ("SGD", MOMENTUM),
    "SGD Nesterov": ("SGD", {**MOMENTUM, "nesterov": True}),
    "ASGD": ("ASGD", {"lambd": 0.0, "alpha": 0.0, "t0": 0.0}),
    "Adagrad": ("Adagrad", {"eps": EPS}),
    "RMSprop": ("RMSprop", RMSPROP),
    "RMSprop momentum": ("RMSprop", {**RMSPROP, **MOMENTUM}),
    "RMSprop centered": ("RMSprop", {**RMSPROP, "centered": True}),
    "RMSprop centered momentum": ("RMSprop", {**RMSPROP, **MOMENTUM, "centered": True}),
    "Adadelta": ("Adadelta", {"lr": 1.0, "rho": 0.9, "eps": 1e-6}),
    "Rprop": ("Rprop", {}),
    "Adam": ("Adam", {"eps": EPS}),
    "AMSGrad": ("Adam", {"eps": EPS, "amsgrad": True}),
    "AdamW": ("AdamW", {"eps": EPS, "weight_decay": WEIGHT_DECAY}),
    "Adamax": ("Adamax", {"eps": EPS}),
    "NAdam": ("NAdam", {"eps": EPS}),
    "RAdam": ("RAdam", {"eps": EPS}),
    "Adafactor": ("Adafactor", {}),
}
#: It adds the momentum to p.grad itself, so that a second step with these gradients is another.
OVERWRITES = {("SGD Nesterov", "foreach")}
MODES = {"default": {"foreach": False}, "foreach": {"foreach": True}, "fused": {"fused": True}}


def set_threads(threads: int) -> None:
    """Use so many threads."""
    torch.set_num_threads(threads)


def parameters(data: Data, own_grads: bool = False) -> list[torch.nn.Parameter]:
    """Return parameters with their gradients, the latter shared unless `own_grads`."""
    params = [torch.nn.Parameter(torch.from_numpy(w)) for w in data.copies()]
    for p, g in zip(params, data.grads, strict=True):
        p.grad = torch.from_numpy(g).clone() if own_grads else torch.from_numpy(g)
    return params


def contender(opt: Any, params: list[torch.nn.Parameter]) -> Contender:
    """Return a step without a record of gradients."""

    def state_bytes() -> int:
        values = [v for state in opt.state.values() for v in state.values()]
        return sum(v.nbytes for v in values if isinstance(v, torch.Tensor))

    torch.set_grad_enabled(False)  # for the process: no_grad at every step would cost time
    return Contender(opt.step, lambda: [p.detach().numpy() for p in params], state_bytes)


def contenders(rule: str, data: Data) -> dict[str, Contender]:
    """Return torch's steps by mode."""
    if rule not in RULES:
        return {}
    name, options = RULES[rule]
    cls = getattr(torch.optim, name)
    found = {}
    for mode, flags in MODES.items():
        has = flags.keys() <= inspect.signature(cls).parameters.keys()
        if has and (rule, mode) not in OVERWRITES:
            params = parameters(data)
            opt = cls(params, **{"lr": LR, **options, **flags})
            found[f"torch {mode}"] = contender(opt, params)
    return found
