"""ReduceOnPlateau: lower the learning rate when a metric stops improving."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from fastopt.checks import count, one_of
from fastopt.rules.base import Optimizer
from fastopt.rules.groups import Group
from fastopt.schedules.curves import real

__all__ = ["ReduceOnPlateau"]

FORMAT = "fastopt.plateau/1"
COUNTERS = ("num_bad_epochs", "cooldown_counter")


class ReduceOnPlateau:
    """Multiply the learning rates of an optimizer by `factor` when a metric stops improving.

    Call `step(metric)` once an epoch. The semantics are those of torch's ReduceLROnPlateau, but
    for a metric below 0 with `threshold_mode="rel"`: here it must be better by `threshold` times
    its magnitude there too, where torch takes an equal one for an improvement.

    A NaN metric is no improvement, and never becomes the best.

    Parameters
    ----------
    opt : Optimizer
        Its `param_groups[k]["lr"]` are lowered; they must be numbers, not schedules.
    mode : {"min", "max"}
        Whether a lesser or a greater metric is better.
    factor : float
        What a learning rate is multiplied by, in (0, 1).
    patience : int
        Epochs without improvement that are tolerated: the rates are lowered at the next one.
    threshold : float
        How much better than the best a metric must be, >= 0.
    threshold_mode : {"rel", "abs"}
        Whether `threshold` is a part of the best, or a difference.
    cooldown : int
        Epochs after a reduction in which none is counted as bad.
    min_lr : float or sequence of float
        What the rates never fall below, >= 0; in a list or tuple, one for each group.
    eps : float
        A rate that would change by no more than this stays as it is, >= 0.

    Attributes
    ----------
    best : float or None
        The best metric so far.
    num_bad_epochs : int
        Epochs without improvement since the last improvement or reduction.
    cooldown_counter : int
        Epochs of cooldown to go.

    Examples
    --------
    >>> import fastopt, numpy as np
    >>> opt = fastopt.SGD(np.zeros(3), lr=1.0)
    >>> plateau = ReduceOnPlateau(opt, factor=0.5, patience=1)
    >>> [plateau.step(loss) for loss in (0.9, 0.8, 0.8, 0.8)]
    [False, False, False, True]
    >>> opt.param_groups[0]["lr"]
    0.5
    """

    def __init__(
        self,
        opt: Optimizer,
        mode: str = "min",
        *,
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        cooldown: int = 0,
        min_lr: float | list[float] | tuple[float, ...] = 0.0,
        eps: float = 1e-8,
    ) -> None:
        owner = type(self).__name__
        if not isinstance(opt, Optimizer):
            raise TypeError(f"{owner}: opt must be an optimizer of fastopt, got {opt!r}")
        self.opt = opt
        self.mode = one_of(f"{owner}: mode", mode, ("min", "max"))
        self.factor = real(f"{owner}: factor", factor, 0, 1, open_below=True)
        if self.factor == 1:
            raise ValueError(f"{owner}: factor must be less than 1, got {factor!r}")
        self.patience = count(f"{owner}: patience", patience, 0)
        self.threshold = real(f"{owner}: threshold", threshold, 0)
        self.threshold_mode = one_of(f"{owner}: threshold_mode", threshold_mode, ("rel", "abs"))
        self.cooldown = count(f"{owner}: cooldown", cooldown, 0)
        self.eps = real(f"{owner}: eps", eps, 0)
        if isinstance(min_lr, (list, tuple)):
            least = tuple(real(f"{owner}: min_lr[{k}]", one, 0) for k, one in enumerate(min_lr))
        else:
            least = real(f"{owner}: min_lr", min_lr, 0)
        self.min_lr: float | tuple[float, ...] = least
        self.best: float | None = None
        self.num_bad_epochs = 0
        self.cooldown_counter = 0
        self._groups()

    def _groups(self) -> list[tuple[Group, float]]:
        """Return the groups and their least rates, after a check that all can be lowered."""
        owner = type(self).__name__
        groups = self.opt.param_groups
        for k, group in enumerate(groups):
            if callable(group["lr"]):
                raise TypeError(
                    f"{owner}: lr of group {k} must be a number to be lowered, not a schedule, "
                    f"got {group['lr']!r}"
                )
        least = self.min_lr if isinstance(self.min_lr, tuple) else (self.min_lr,) * len(groups)
        if len(least) != len(groups):
            raise ValueError(
                f"{owner}: min_lr must be a number or one number for each of the {len(groups)} "
                f"groups, got {least!r}"
            )
        return list(zip(groups, least, strict=True))

    def _improved(self, metric: float) -> bool:
        sign = 1 if self.mode == "min" else -1
        if self.best is None:
            return sign * metric < math.inf
        if self.threshold_mode == "rel":
            bound = self.best * (1 - sign * math.copysign(self.threshold, self.best))
        else:
            bound = self.best - sign * self.threshold
        return sign * metric < sign * bound

    def step(self, metric: float) -> bool:
        """Take the metric of one more epoch; return whether a learning rate was lowered."""
        try:
            if isinstance(metric, (bool, str, bytes)):
                raise TypeError
            value = float(metric)
        except (TypeError, ValueError, OverflowError):
            raise TypeError(
                f"{type(self).__name__}.step: metric must be a number, got {metric!r}"
            ) from None
        groups = self._groups()
        if self._improved(value):
            self.best = value
            self.num_bad_epochs = 0
        else:
            self.num_bad_epochs += 1
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs <= self.patience:
            return False
        self.num_bad_epochs = 0
        self.cooldown_counter = self.cooldown
        lowered = False
        for group, least in groups:
            lr = max(group["lr"] * self.factor, least)
            if group["lr"] - lr > self.eps:
                group["lr"] = lr
                lowered = True
        return lowered

    def state_dict(self) -> dict[str, Any]:
        """Return what `step` has counted; the learning rates are in the optimizer's."""
        counted = {name: getattr(self, name) for name in ("best", *COUNTERS)}
        return {"format": FORMAT, "mode": self.mode, **counted}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over `state`, from `state_dict()` of one with the same mode.

        Raises
        ------
        ValueError
            Listing every difference; nothing has changed then.
        """
        found = self._differences(state)
        if found:
            raise ValueError(f"state does not fit this {type(self).__name__}: " + "; ".join(found))
        self.best = state["best"]
        self.num_bad_epochs = state["num_bad_epochs"]
        self.cooldown_counter = state["cooldown_counter"]

    def _differences(self, state: Any) -> list[str]:
        if not isinstance(state, Mapping):
            return [f"it is a {type(state).__name__}, not a mapping"]
        own = self.state_dict()
        found = [f"it has no {key!r}" for key in own if key not in state]
        found += [f"it has an unknown {key!r}" for key in state if key not in own]
        if found:
            return found
        found = [
            f"{key} is {state[key]!r}, here {own[key]!r}"
            for key in ("format", "mode")
            if state[key] != own[key]
        ]
        best = state["best"]
        if best is not None and (not isinstance(best, float) or math.isnan(best)):
            found.append(f"best must be a float or None, got {best!r}")
        for key in COUNTERS:
            value = state[key]
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                found.append(f"{key} must be an integer >= 0, got {value!r}")
        return found
