"""Rules with a learning rate for each column, in the runner: AdaGrad, Adam, FTRL-proximal."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from fastopt import _core

if TYPE_CHECKING:
    from fastopt.sparse.rows import Settings

RULES = _core.COORDINATE_RULES
#: Added to the root, in adagrad and adam; of ftrl, beta.
EPS = {"adagrad": 1e-10, "adam": 1e-8, "ftrl": 1.0}
BETAS = (0.9, 0.999)  # of adam
#: What the automatic step is tried from, in lengths that move a margin by 1.
FIRST_STEP = {"adagrad": 1.0, "adam": 0.1, "ftrl": 1.0}


@dataclass(frozen=True)
class States:
    """What a rule knows of each column, and what it was made with.

    `first` is adagrad's sum of squares, adam's average of gradients, ftrl's z; `second` adam's
    average of squares, ftrl's sum of squares; `own` the same of the intercept, `t` rows seen. In a
    run, `clock` says up to when L2 has shrunk a column.
    """

    rule: str
    step: float
    first: np.ndarray
    second: np.ndarray | None
    own: tuple[float, float] = (0.0, 0.0)
    t: float = 0.0
    clock: np.ndarray | None = None


def begin(
    known: States | None, settings: Settings, step: float, w: np.ndarray, intercept: float
) -> States:
    """Return the states of a run: a copy of those known, if they are this rule's, or new ones.

    Those of ftrl fit the weights and the step.
    """
    rule = settings.optimizer
    if known is not None and known.rule == rule and len(known.first) == len(w):
        second = None if known.second is None else known.second.copy()
        states = replace(known, first=known.first.copy(), second=second)
    else:
        second = None if rule == "adagrad" else np.zeros_like(w)
        states = known = States(rule, 0.0, np.zeros_like(w), second)
    if rule == "ftrl":
        if step != known.step:
            beta, (_, square) = EPS["ftrl"], states.own
            slope = (beta + np.sqrt(states.second)) / step + settings.l2 * states.t
            states.first[:] = -slope * w - settings.l1 * states.t * np.sign(w)
            own = -(beta + square**0.5) / step * intercept, square
            states = replace(states, step=step, own=own)
    elif settings.l2 > 0:
        states = replace(states, clock=np.zeros(len(w)))
    return replace(states, step=step)


def native(samples: _core.Samples, settings: Settings, states: States) -> Any:
    """Return the states for a native run, which changes them."""
    return _core.Coordinate(
        samples,
        states.rule,
        settings.loss,
        settings.l1,
        settings.l2,
        EPS[states.rule],
        *(BETAS if states.rule == "adam" else (0.0, 0.0)),
        states.first,
        states.second,
        states.clock,
        states.own,
        states.t,
    )


def check(rule: str, schedule: str, mode: str, l1: float, positive: bool, order: Any) -> None:
    """Raise if a rule cannot do what is asked for."""
    if l1 and rule != "ftrl":
        raise ValueError(f"l1 needs optimizer 'sgd' or 'ftrl', got {rule!r}")
    if positive:
        raise ValueError(f"positive needs optimizer 'sgd', got {rule!r}")
    if mode in ("copies", "hogbatch", "rr", "aig"):
        raise ValueError(f"mode {mode!r} needs optimizer 'sgd', got {rule!r}: use 'shared'")
    if schedule == "epoch_decay" and not isinstance(order, str):
        raise ValueError(f"optimizer {rule!r} cannot do schedule 'epoch_decay' in a given order")
    if rule == "ftrl" and schedule != "constant":
        raise ValueError(f"optimizer 'ftrl' needs a constant step, got schedule {schedule!r}")
