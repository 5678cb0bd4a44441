"""fastopt: the optimizer core for CPUs."""

from fastopt import schedules
from fastopt._core import StepInfo, get_isa, isa_available, set_isa
from fastopt.arena import Arena
from fastopt.base import Optimizer
from fastopt.optimizers import SGD, Adagrad, Adam, AdamW, RMSprop

__version__ = "0.1.0"
__all__ = [
    "SGD", "Adagrad", "Adam", "AdamW", "Arena", "Optimizer", "RMSprop", "StepInfo", "get_isa",
    "isa_available", "schedules", "set_isa",
]
