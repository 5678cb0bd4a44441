"""keras on jax: `apply`, a call for each operation, and the whole step under one jax.jit.

The compiled step is `stateless_apply` with everything donated, as keras trains. `apply` makes a new
array in each operation, and is left out above a million elements, where it takes 20 to 40 times as
long as ours.
"""

from __future__ import annotations

import os
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "jax")

import jax
import jax.numpy as jnp
import keras
import numpy as np

from bench.peers import BETAS, EPS, LR, WEIGHT_DECAY, Contender, Data

if keras.backend.backend() != "jax":
    raise ImportError(f"keras runs on {keras.backend.backend()}, and is measured on jax")

MOST = 1_000_000  # elements, for `apply`
ADAM = {"beta_1": BETAS[0], "beta_2": BETAS[1], "epsilon": EPS}
MOMENTUM = {"momentum": 0.9}
RMSPROP = {"rho": 0.9, "epsilon": EPS}
RULES: dict[str, tuple[str, dict[str, Any]]] = {
    "SGD": ("SGD", {}),
    "SGD momentum": ("SGD", MOMENTUM),
    "SGD Nesterov": ("SGD", {**MOMENTUM, "nesterov": True}),
    "Lion": ("Lion", {"weight_decay": WEIGHT_DECAY}),
    "LAMB": ("Lamb", ADAM),
    "Adagrad": ("Adagrad", {"epsilon": EPS, "initial_accumulator_value": 0.0}),
    "RMSprop": ("RMSprop", RMSPROP),
    "RMSprop momentum": ("RMSprop", {**RMSPROP, **MOMENTUM}),
    "RMSprop centered": ("RMSprop", {**RMSPROP, "centered": True}),
    "RMSprop centered momentum": ("RMSprop", {**RMSPROP, **MOMENTUM, "centered": True}),
    "Adadelta": ("Adadelta", {"learning_rate": 1.0, "rho": 0.9, "epsilon": 1e-6}),
    "FTRL": ("Ftrl", {}),
    "Adam": ("Adam", ADAM),
    "AMSGrad": ("Adam", {**ADAM, "amsgrad": True}),
    "AdamW": ("AdamW", {**ADAM, "weight_decay": WEIGHT_DECAY}),
    "Adamax": ("Adamax", ADAM),
    "NAdam": ("Nadam", ADAM),
    "ScheduleFreeAdamW": ("ScheduleFreeAdamW", {"epsilon": EPS}),
    "Adafactor": ("Adafactor", {}),
}


def contenders(rule: str, data: Data) -> dict[str, Contender]:
    """Return keras' steps by mode."""
    if rule not in RULES:
        return {}
    found = {"keras jit": Jitted(rule, data).contender()}
    if sum(w.size for w in data.params) <= MOST:
        found["keras apply"] = Eager(rule, data).contender()
    return found


class Eager:
    """Variables that `apply` assigns to."""

    def __init__(self, rule: str, data: Data) -> None:
        name, options = RULES[rule]
        self.opt = getattr(keras.optimizers, name)(**{"learning_rate": LR, **options})
        self.variables = [keras.Variable(w, dtype="float32") for w in data.params]
        self.grads = [jnp.asarray(g) for g in data.grads]
        self.opt.build(self.variables)

    def step(self) -> None:
        """Take one step and wait for it."""
        self.opt.apply(self.grads)
        jax.block_until_ready([v.value for v in self.variables])

    def values(self) -> list[Any]:
        """Return the parameters."""
        return [v.value for v in self.variables]

    def contender(self) -> Contender:
        """Return its three calls."""
        own = list(self.opt.variables)
        return Contender(
            self.step,
            lambda: [np.asarray(w) for w in self.values()],
            lambda: sum(np.dtype(v.dtype).itemsize * int(np.prod(v.shape)) for v in own),
        )


class Jitted(Eager):
    """Parameters and state between compiled steps."""

    def __init__(self, rule: str, data: Data) -> None:
        super().__init__(rule, data)
        self.params = [jnp.array(v.value) for v in self.variables]
        self.state = [jnp.array(v.value) for v in self.opt.variables]
        opt = self.opt

        def step(params: Any, state: Any, grads: Any) -> tuple[Any, Any]:
            return opt.stateless_apply(state, grads, params)

        self.compiled = jax.jit(step, donate_argnums=(0, 1))

    def step(self) -> None:
        """Take one step and wait for it."""
        self.params, self.state = self.compiled(self.params, self.state, self.grads)
        jax.block_until_ready((self.params, self.state))

    def values(self) -> list[Any]:
        """Return the parameters."""
        return self.params
