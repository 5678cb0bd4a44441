"""A pytest plugin that puts the optimizers of fastopt.torch in the place of torch's.

`pytest -p swap_torch path/to/pytorch/test/test_optim.py`, in this folder, then tests ours.
"""

from torch.testing._internal import common_optimizers

import fastopt.torch

for info in common_optimizers.optim_db:
    ours = getattr(fastopt.torch, info.optim_cls.__name__, None)
    if ours is not None:
        info.optim_cls = ours
