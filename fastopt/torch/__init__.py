"""Optimizers for PyTorch on the CPU: torch's own classes, with steps by the kernels of fastopt.

``from fastopt.torch import AdamW`` in place of ``from torch.optim import AdamW`` changes nothing
but the time that a step takes: arguments, states, checkpoints, schedulers and hooks are torch's.
"""

try:
    import torch as _torch  # before any thread of this library exists  # noqa: F401
except ImportError as error:
    raise ImportError("fastopt.torch needs PyTorch: pip install 'fastopt[torch]'") from error

from fastopt.torch import namesakes, offload, own
from fastopt.torch.namesakes import *  # noqa: F403
from fastopt.torch.offload import *  # noqa: F403
from fastopt.torch.own import *  # noqa: F403

__all__ = [*namesakes.__all__, *offload.__all__, *own.__all__]
