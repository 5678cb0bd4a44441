"""The libraries that fastopt is measured against, each in its modes, as calls of one step.

A module here has `contenders(rule, data)`: mode -> `Contender`, without the modes that the library
does not have for that rule. All of them start from the same parameters, take the same gradients at
every step, and are given the same hyper-parameters, so that after the same number of steps their
parameters are to be equal.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from bench.shapes import Shapes
from fastopt.rules.parameters import aligned_full

#: By module here, the package that it needs: what is installed takes part.
LIBRARIES = {"torch": "torch", "deepspeed": "deepspeed", "optax": "optax", "keras": "keras"}

LR = 1e-4
BETAS = (0.9, 0.999)
EPS = 1e-8
WEIGHT_DECAY = 0.01


@dataclass
class Contender:
    """One optimizer on its parameters.

    Attributes
    ----------
    step
        Takes one step, and returns when it is done.
    params
        Returns the parameters as they are now.
    state_bytes
        Returns how many bytes the optimizer keeps beside the parameters.
    """

    step: Callable[[], Any]
    params: Callable[[], list[np.ndarray]]
    state_bytes: Callable[[], int]


@dataclass
class Data:
    """Parameters to start from and their gradients, float32, on cache lines."""

    params: list[np.ndarray]
    grads: list[np.ndarray]

    def copies(self) -> list[np.ndarray]:
        """Return parameters of one's own."""
        return [copy(w) for w in self.params]

    def checksum(self) -> float:
        """Return the sum of all gradients, which nobody may change."""
        return sum(float(g.sum(dtype=np.float64)) for g in self.grads)


def copy(array: np.ndarray) -> np.ndarray:
    """Return a copy on a cache line."""
    made = aligned_full(array, 0.0)
    made[...] = array
    return made


def make_data(shapes: Shapes) -> Data:
    """Return small parameters, in which steps show, and gradients away from 0, where eps counts."""
    rng = np.random.default_rng(0)

    def some(shape: tuple[int, ...]) -> np.ndarray:
        return rng.standard_normal(shape, dtype=np.float32)

    params = [copy(np.float32(0.01) * some(s)) for s in shapes]
    grads = [copy(x + np.copysign(np.float32(0.5), x)) for x in map(some, shapes)]
    return Data(params, grads)


def installed(names: tuple[str, ...] = tuple(LIBRARIES)) -> tuple[dict[str, ModuleType], list[str]]:
    """Return the modules here whose package can be imported, and a note on each that cannot."""
    modules, notes = {}, []
    for name in names:
        try:
            modules[name] = importlib.import_module(f"bench.peers.{name}")
        except ImportError as error:
            notes.append(f"{name} takes no part: {error}")
    return modules, notes
