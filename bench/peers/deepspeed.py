"""DeepSpeed's optimizers for the CPU, compiled for this processor on their first use."""

from __future__ import annotations

import os
import sys
from typing import Any

os.environ.setdefault("DS_ACCELERATOR", "cpu")
# It looks for ninja on the PATH, where an environment that is not activated does not have it.
os.environ["PATH"] = os.path.dirname(sys.executable) + os.pathsep + os.environ.get("PATH", "")

from deepspeed.ops.adagrad import DeepSpeedCPUAdagrad
from deepspeed.ops.adam import DeepSpeedCPUAdam
from deepspeed.ops.lion import DeepSpeedCPULion

from bench.peers import EPS, LR, WEIGHT_DECAY, Contender, Data
from bench.peers.torch import contender, parameters

RULES: dict[str, tuple[Any, dict[str, Any]]] = {
    "Adagrad": (DeepSpeedCPUAdagrad, {"eps": EPS}),
    "Adam": (DeepSpeedCPUAdam, {"eps": EPS, "adamw_mode": False}),
    "AdamW": (DeepSpeedCPUAdam, {"eps": EPS, "weight_decay": WEIGHT_DECAY}),
    "Lion": (DeepSpeedCPULion, {"betas": (0.9, 0.99), "weight_decay": WEIGHT_DECAY}),
}


def contenders(rule: str, data: Data) -> dict[str, Contender]:
    """Return DeepSpeed's step.

    Its Adagrad overwrites the gradients of the up to 7 last elements of an array, so it has
    gradients of its own, and arrays that its vectors do not fill are left out.
    """
    if rule not in RULES or (rule == "Adagrad" and any(w.size % 8 for w in data.params)):
        return {}
    cls, options = RULES[rule]
    params = parameters(data, own_grads=True)
    return {"deepspeed": contender(cls(params, lr=LR, **options), params)}
