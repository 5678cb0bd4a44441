"""optax, the whole step under one jax.jit, parameters and states donated: no copy is needed."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from bench.peers import BETAS, EPS, LR, WEIGHT_DECAY, Contender, Data

ADAM = {"b1": BETAS[0], "b2": BETAS[1], "eps": EPS}
MOMENTUM = {"momentum": 0.9}
RMSPROP = {"decay": 0.9, "eps": EPS, "eps_in_sqrt": False}
RULES: dict[str, tuple[str, dict[str, Any]]] = {
    "SGD": ("sgd", {}),
    "SGD momentum": ("sgd", MOMENTUM),
    "SGD Nesterov": ("sgd", {**MOMENTUM, "nesterov": True}),
    "SignSGD": ("sign_sgd", {}),
    "Signum": ("signum", {"beta": 0.9}),
    "Lion": ("lion", {"weight_decay": WEIGHT_DECAY}),
    "LARS": ("lars", {"trust_coefficient": 1.0}),
    "LAMB": ("lamb", {**ADAM, "weight_decay": WEIGHT_DECAY}),
    "Adagrad": ("adagrad", {"eps": EPS, "initial_accumulator_value": 0.0}),
    "RMSprop": ("rmsprop", RMSPROP),
    "RMSprop momentum": ("rmsprop", {**RMSPROP, **MOMENTUM}),
    "RMSprop centered": ("rmsprop", {**RMSPROP, "centered": True}),
    "RMSprop centered momentum": ("rmsprop", {**RMSPROP, **MOMENTUM, "centered": True}),
    "Adadelta": ("adadelta", {"learning_rate": 1.0, "rho": 0.9, "eps": 1e-6}),
    "Adam": ("adam", ADAM),
    "AMSGrad": ("amsgrad", ADAM),
    "AdamW": ("adamw", {**ADAM, "weight_decay": WEIGHT_DECAY}),
    "Adamax": ("adamax", ADAM),
    "NAdam": ("nadam", ADAM),
    "RAdam": ("radam", ADAM),
    "AdaBelief": ("adabelief", {}),
    "ScheduleFreeSGD": ("contrib.schedule_free_sgd", {}),
    "ScheduleFreeAdamW": ("contrib.schedule_free_adamw", {"eps": EPS}),
    "Adafactor": ("adafactor", {}),
}


def contenders(rule: str, data: Data) -> dict[str, Contender]:
    """Return optax's step."""
    if rule not in RULES:
        return {}
    name, options = RULES[rule]
    make = functools.reduce(getattr, name.split("."), optax)
    rule_of = make(**{"learning_rate": LR, **options})
    return {"optax": Jitted(rule_of, data).contender()}


class Jitted:
    """Parameters and state between compiled steps."""

    def __init__(self, rule: optax.GradientTransformation, data: Data) -> None:
        self.params = [jnp.array(w) for w in data.params]
        self.grads = [jnp.asarray(g) for g in data.grads]
        # A copy of each: what z and the like start from may be the parameters themselves.
        self.state = jax.tree.map(jnp.array, rule.init(self.params))

        def step(params: Any, state: Any, grads: Any) -> tuple[Any, Any]:
            updates, state = rule.update(grads, state, params)
            return optax.apply_updates(params, updates), state

        self.compiled = jax.jit(step, donate_argnums=(0, 1))

    def step(self) -> None:
        """Take one step and wait for it."""
        self.params, self.state = self.compiled(self.params, self.state, self.grads)
        jax.block_until_ready((self.params, self.state))

    def contender(self) -> Contender:
        """Return its three calls."""
        return Contender(
            self.step,
            lambda: [np.asarray(w) for w in self.params],
            lambda: sum(leaf.nbytes for leaf in jax.tree.leaves(self.state)),
        )
