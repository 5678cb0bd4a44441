"""Every rule as an optimizer: class, options that choose the rule, and the passes that it needs."""

from __future__ import annotations

from typing import Any

import numpy as np

import fastopt
from bench.limit import Pass, one_pass
from fastopt.rules.parameters import aligned_full

ROW = 1000  # elements of a row: some rules are for matrices
#: Small enough that parameters stay where they are over any number of steps.
LR = 1e-9
MOMENTUM = {"momentum": 0.9}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "SGD": ("SGD", {}),
    "SGD momentum": ("SGD", MOMENTUM),
    "ASGD": ("ASGD", {}),
    "SignSGD": ("SignSGD", {}),
    "SignSGD eps": ("SignSGD", {"eps": 1e-3}),
    "Signum": ("SignSGD", MOMENTUM),
    "Signum eps": ("SignSGD", {**MOMENTUM, "eps": 1e-3}),
    "Lion": ("Lion", {}),
    "LARS": ("LARS", {}),
    "LAMB": ("LAMB", {}),
    "Adafactor": ("Adafactor", {}),
    "Adafactor momentum": ("Adafactor", MOMENTUM),
    "Adagrad": ("Adagrad", {}),
    "RMSprop": ("RMSprop", {}),
    "RMSprop momentum": ("RMSprop", MOMENTUM),
    "RMSprop centered": ("RMSprop", {"centered": True}),
    "RMSprop centered momentum": ("RMSprop", {**MOMENTUM, "centered": True}),
    "Adadelta": ("Adadelta", {}),
    "Rprop": ("Rprop", {"step_sizes": (1e-12, LR)}),
    "Rprop plus": ("Rprop", {"step_sizes": (1e-12, LR), "variant": "plus"}),
    "DeltaBarDelta": ("DeltaBarDelta", {"kappa": 1e-15}),
    "FTRL": ("FTRL", {"lr": 0.1}),
    "Adam": ("Adam", {}),
    "AdamW": ("AdamW", {"weight_decay": 0.01}),
    "AMSGrad": ("Adam", {"amsgrad": True}),
    "Adamax": ("Adamax", {}),
    "NAdam": ("NAdam", {}),
    "RAdam": ("RAdam", {}),
    "AdaBelief": ("AdaBelief", {}),
    "ScheduleFreeSGD": ("ScheduleFreeSGD", {}),
    "ScheduleFreeAdamW": ("ScheduleFreeAdamW", {}),
}

#: The fewest passes of a rule that needs norms of whole arrays before its step.
PASSES: dict[str, list[Pass]] = {
    # Norms of w and g; then momentum's step.
    "LARS": [("gw", ""), ("g", "wa")],
    # Averages, and with them norms of w and of the direction; then the step along it.
    "LAMB": [("gw", "ab"), ("ab", "w")],
    # Sums over rows and columns, and the norm of w; the norm of the direction; the step.
    "Adafactor": [("gw", ""), ("g", ""), ("g", "w")],
    "Adafactor momentum": [("gw", ""), ("g", ""), ("g", "wa")],
}

#: Bound by products of matrices, not by memory.
COMPUTING = {"Muon"}


def cases() -> dict[str, tuple[str, dict[str, Any]]]:
    """Return the `CASES` that this fastopt has, and with their defaults the classes without one."""
    registry = fastopt.Optimizer.registry
    found = {name: case for name, case in CASES.items() if case[0] in registry}
    known = {cls for cls, _ in CASES.values()} | COMPUTING
    return found | {cls: (cls, {}) for cls in registry if cls not in known}


def filled(n: int, dtype: str, value: float) -> np.ndarray:
    """Return a matrix of n elements on a cache line."""
    return aligned_full(np.broadcast_to(np.zeros((), dtype), (n // ROW, ROW)), value)


def build(name: str, w: np.ndarray, **more: Any) -> fastopt.Optimizer:
    """Return the optimizer of case `name` on `w`."""
    cls, options = cases()[name]
    return fastopt.Optimizer.registry[cls](w, **{"lr": LR, **options, **more})


def passes(name: str, opt: fastopt.Optimizer, w: np.ndarray) -> list[Pass]:
    """Return what the step of case `name` must read and write at least."""
    if name in PASSES:
        return PASSES[name]
    return one_pass(sum(state.size == w.size for state in next(iter(opt.state.values())).values()))


def state_bytes(opt: fastopt.Optimizer) -> int:
    """Return how many bytes an optimizer keeps beside its parameters."""
    return sum(array.nbytes for state in opt.state.values() for array in state.values())
