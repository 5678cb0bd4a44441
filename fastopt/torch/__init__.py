"""Optimizers for PyTorch on the CPU: torch's own classes, with steps by the kernels of fastopt.

``from fastopt.torch import AdamW`` in place of ``from torch.optim import AdamW`` changes nothing
but the time that a step takes: arguments, states, checkpoints, schedulers and hooks are torch's.
"""

try:
    import torch as _torch  # before any thread of this library exists  # noqa: F401
except ImportError as error:
    raise ImportError("fastopt.torch needs PyTorch: pip install 'fastopt[torch]'") from error

from fastopt.torch.namesakes import (
    ASGD,
    LBFGS,
    SGD,
    Adadelta,
    Adafactor,
    Adagrad,
    Adam,
    Adamax,
    AdamW,
    NAdam,
    RAdam,
    RMSprop,
    Rprop,
    SparseAdam,
)
from fastopt.torch.own import (
    FTRL,
    LAMB,
    AdaBelief,
    DeltaBarDelta,
    Lion,
    NesterovRMSprop,
    ScheduleFreeAdamW,
    ScheduleFreeSGD,
)

__all__ = [
    "ASGD",
    "FTRL",
    "LAMB",
    "LBFGS",
    "SGD",
    "AdaBelief",
    "Adadelta",
    "Adafactor",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "DeltaBarDelta",
    "Lion",
    "NAdam",
    "NesterovRMSprop",
    "RAdam",
    "RMSprop",
    "Rprop",
    "ScheduleFreeAdamW",
    "ScheduleFreeSGD",
    "SparseAdam",
]
