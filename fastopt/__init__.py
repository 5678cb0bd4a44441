"""fastopt: the optimizer core for CPUs."""

import fastopt._openmp  # noqa: F401  before _core: it decides which OpenMP that uses
from fastopt import schedules
from fastopt._core import StepInfo, get_isa, isa_available, set_isa
from fastopt.arena import Arena
from fastopt.base import Optimizer
from fastopt.config import show_config
from fastopt.optimizers import SGD, Adagrad, Adam, AdamW, RMSprop
from fastopt.threads import get_num_threads, set_num_threads

__version__ = "0.1.0"
__all__ = [
    "SGD",
    "Adagrad",
    "Adam",
    "AdamW",
    "Arena",
    "Optimizer",
    "RMSprop",
    "StepInfo",
    "get_isa",
    "get_num_threads",
    "isa_available",
    "schedules",
    "set_isa",
    "set_num_threads",
    "show_config",
]
