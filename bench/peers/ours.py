"""fastopt: a bound step, in the conventions of the library that it is compared with."""

from __future__ import annotations

from typing import Any

import fastopt
from bench.cases import state_bytes
from bench.peers import EPS, LR, WEIGHT_DECAY, Contender, Data

MOMENTUM = {"momentum": 0.9}
RMSPROP = {"alpha": 0.9, "eps": EPS}
RULES: dict[str, tuple[str, dict[str, Any]]] = {
    "SGD": ("SGD", {}),
    "SGD momentum": ("SGD", MOMENTUM),
    "SGD Nesterov": ("SGD", {**MOMENTUM, "nesterov": True}),
    "ASGD": ("ASGD", {}),
    "SignSGD": ("SignSGD", {}),
    "Signum": ("SignSGD", MOMENTUM),
    "Lion": ("Lion", {"weight_decay": WEIGHT_DECAY}),
    "LARS": ("LARS", {**MOMENTUM, "trust_coefficient": 1.0, "exclude_vectors": False}),
    "LAMB": ("LAMB", {"eps": EPS, "weight_decay": WEIGHT_DECAY}),
    "Adagrad": ("Adagrad", {"eps": EPS}),
    "RMSprop": ("RMSprop", RMSPROP),
    "RMSprop momentum": ("RMSprop", {**RMSPROP, **MOMENTUM}),
    "RMSprop centered": ("RMSprop", {**RMSPROP, "centered": True}),
    "RMSprop centered momentum": ("RMSprop", {**RMSPROP, **MOMENTUM, "centered": True}),
    "Adadelta": ("Adadelta", {"lr": 1.0, "rho": 0.9, "eps": 1e-6}),
    "Rprop": ("Rprop", {}),
    "FTRL": ("FTRL", {"beta": 0.0, "initial_accumulator_value": 0.1}),
    "Adam": ("Adam", {"eps": EPS}),
    "AMSGrad": ("Adam", {"eps": EPS, "amsgrad": True}),
    "AdamW": ("AdamW", {"eps": EPS, "weight_decay": WEIGHT_DECAY}),
    "Adamax": ("Adamax", {"eps": EPS}),
    "NAdam": ("NAdam", {"eps": EPS}),
    "RAdam": ("RAdam", {"eps": EPS}),
    "AdaBelief": ("AdaBelief", {}),
    "ScheduleFreeSGD": ("ScheduleFreeSGD", {}),
    "ScheduleFreeAdamW": ("ScheduleFreeAdamW", {"eps": EPS}),
    "Adafactor": ("Adafactor", {}),
}

#: Where a library means something else by the name: what makes it ours too, for the comparison.
FORMS: dict[tuple[str, str], dict[str, Any]] = {
    ("NAdam", "keras"): {"momentum_decay": 1.0},
    ("NAdam", "optax"): {"momentum_decay": None},
    ("AMSGrad", "optax"): {"amsgrad": "corrected"},
    ("LAMB", "keras"): {"weight_decay": 0.0},  # its decay stands outside the direction
    ("Adafactor", "torch"): {"preset": "torch"},
    ("Adafactor", "optax"): {"preset": "optax"},
    ("Adafactor", "keras"): {"preset": "keras"},
}

#: Another rule of the same name: timed, not compared.
OTHERS = {("FTRL", "keras")}  # it forgets where the parameters start


def known() -> list[str]:
    """Return the rules that this fastopt has."""
    return [rule for rule, (cls, _) in RULES.items() if cls in fastopt.Optimizer.registry]


def contender(rule: str, data: Data, threads: int, library: str = "") -> Contender:
    """Return our bound step, as `library` would take it."""
    cls, options = RULES[rule]
    params = data.copies()
    keywords = {"lr": LR, **options, **FORMS.get((rule, library), {})}
    opt = fastopt.Optimizer.registry[cls](params, threads=threads, **keywords)
    opt.bind(data.grads)
    return Contender(opt.step, lambda: params, lambda: state_bytes(opt))
