"""One step of an optimizer with everything that may be asked for beside its rule."""

from __future__ import annotations

from math import inf, isfinite, nan
from typing import TYPE_CHECKING, Any

import numpy as np

from fastopt._core import Plan, StepInfo
from fastopt.rules.hyperparameters import check
from fastopt.threads import resolve

if TYPE_CHECKING:
    from fastopt.rules.base import Optimizer


def is_plain(opt: Optimizer) -> bool:
    """Return whether a step is nothing but the rule: one native call then."""
    return not (
        opt._stale
        or opt._frozen
        or opt.lazy is not None
        or opt.layerwise
        or opt._transposed
        or any(opt._hooks)
        or opt._accumulate > 1
        or opt._zero_grad
        or opt._ema is not None
        or opt._clip_norm is not None
        or opt._clip_value is not None
        or opt._nonfinite != "propagate"
    )


def step(opt: Optimizer, grads: Any) -> StepInfo:
    """Do what `Optimizer.step` says."""
    if opt._stale:
        opt._renew()
    with opt._plan as plan:
        for hook in tuple(opt._hooks[0]):
            hook(opt, grads)
        if opt._sums is not None:
            if grads is None:
                raise ValueError(f"{type(opt).__name__}.step: grads is missing")
            if opt._gathered + 1 < opt._accumulate:
                return plan.info(nan, nan, 1.0, _add_up(opt, grads), True)
        else:
            opt._refuse_twice(grads)
            if grads is not None:
                plan.hold(opt._ordered(grads), opt._clash, True)
        lr = plan.set_groups(opt)
        info = _finish(opt, plan, lr, resolve(opt._threads), grads)
    for hook in tuple(opt._hooks[1]):
        hook(opt, info)
    return info


def _finish(opt: Optimizer, plan: Plan, lr: float, threads: int, grads: Any) -> StepInfo:
    """Clip, check and run a step whose numbers are set."""
    average = 0.0
    if opt._ema is not None:
        ema = opt._ema(plan.t) if callable(opt._ema) else opt._ema
        average = 1 - check(type(opt).__name__, "ema", ema)
    plan.set_common(  # before the norms, which are of what is left after masking
        inf if opt._clip_value is None else opt._clip_value,
        opt._nonfinite == "mask",
        opt._zero_grad or opt._accumulate > 1,
        average,
        False,
    )
    masked = 0
    if opt._accumulate > 1:  # now that no number can be refused any more
        masked = _add_up(opt, grads)
        plan.scale(1 / opt._accumulate)
    norm, coef = nan, 1.0
    if opt._clip_norm is not None and opt._clip_per == "all":
        norm = plan.norm(threads)
        if not norm <= opt._clip_norm * opt._accumulate:
            coef = opt._clip_norm * opt._accumulate / norm
        norm /= opt._accumulate
    if opt._nonfinite in ("skip", "raise") and not (isfinite(norm) or plan.finite(threads)):
        try:
            bad = _count_nonfinite(opt, plan)
        finally:  # what is accumulated would stay so for ever
            if opt._accumulate > 1 or (opt._zero_grad and opt._nonfinite == "skip"):
                plan.zero_gradients()
            opt._gathered = 0
        return plan.info(lr, norm, coef, bad, True)
    if coef != 1:
        plan.scale(coef)
    if opt._clip_norm is not None and opt._clip_per != "all":
        coef = _clip_each(opt, plan, threads)
    if opt.layerwise:
        opt.trust(plan, threads, coef)
    info = plan.run(threads, lr, norm, coef)
    if masked and opt._nonfinite == "mask":  # before they reached the sums
        info = plan.info(lr, norm, coef, masked + info.nonfinite, False)
    for name in opt._frozen:
        opt._missed[name] = opt._missed.get(name, 0) + 1
    opt._gathered = 0
    return info


def _add_up(opt: Optimizer, grads: Any) -> int:
    """Add gradients to the sums; return how many of their elements are not finite."""
    with opt._sums as sums:
        sums.hold(opt._ordered(grads), opt._clash, True)
        sums.set_common(inf, opt._nonfinite == "mask", opt._zero_grad, 0.0, False)
        info = sums.run(resolve(opt._threads), nan, nan, 1.0)
    opt._gathered += 1
    return info.nonfinite


def _clip_each(opt: Optimizer, plan: Plan, threads: int) -> float:
    """Clip tensors or rows one by one; return the least factor, nan for rows."""
    most = opt._clip_norm * opt._accumulate
    if opt._clip_per == "row":
        plan.clip_rows(most, threads)
        return nan
    least = 1.0
    for k in range(len(opt._order)):
        norm = plan.norm(threads, k)
        coef = 1.0 if norm <= most else most / norm
        plan.set_gain(k, coef, 1.0)
        least = min(least, coef)
    return least


def _count_nonfinite(opt: Optimizer, plan: Plan) -> int:
    """Return how many elements of the gradients are not finite, or raise naming the first."""
    total = 0
    for k, (name, grad) in enumerate(zip(opt._order, plan.gradients(), strict=True)):
        bad = ~np.isfinite(grad)
        if opt._nonfinite == "raise" and bad.any():
            at = tuple(int(i) for i in np.argwhere(bad)[0])
            value = float(grad[at])
            rows = plan.rows_of(k)
            if rows is not None:
                at = (int(rows[at[0]]), *at[1:])
            if name in {opt._order[k] for k in opt._transposed}:
                at = at[::-1]
            raise FloatingPointError(
                f"gradient of {name!r} is {value} at index {at}; no parameter was changed"
            )
        total += int(np.count_nonzero(bad))
    return total
