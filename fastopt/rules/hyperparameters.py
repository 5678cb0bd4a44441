"""Hyper-parameters: one meaning, one range and one name each, the same in every rule."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable
from numbers import Real
from typing import Any


def _number(test: Callable[[float], bool], words: str) -> tuple[Callable[[Any], bool], str]:
    def passes(value: Any) -> bool:
        if not isinstance(value, Real) or isinstance(value, bool):
            return False
        try:
            return math.isfinite(value) and test(float(value))
        except OverflowError:  # an integer beyond double's range
            return False

    return passes, f"a finite number {words}"


def _pair_of(value: Any) -> bool:
    finite = RANGES["lr"][0]
    return isinstance(value, (tuple, list)) and len(value) == 2 and all(map(finite, value))


def _pair(value: Any) -> bool:
    return (
        isinstance(value, (tuple, list))
        and len(value) == 2
        and all(RANGES["alpha"][0](b) for b in value)
    )


def _whole(least: int, most: float, words: str) -> tuple[Callable[[Any], bool], str]:
    passes, _ = _number(lambda x: least <= x <= most and x == int(x), "")
    return passes, f"a whole number {words}"


def _optional(test: Callable[[float], bool], words: str) -> tuple[Callable[[Any], bool], str]:
    passes, text = _number(test, words)
    return lambda value: value is None or passes(value), f"None or {text}".strip()


RANGES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "lr": _number(lambda x: x >= 0, ">= 0"),
    "momentum": _number(lambda x: 0 <= x <= 1, "in [0, 1]"),
    "dampening": _number(lambda x: 0 <= x <= 1, "in [0, 1]"),
    "alpha": _number(lambda x: 0 <= x < 1, "in [0, 1)"),
    "rho": _number(lambda x: 0 <= x < 1, "in [0, 1)"),
    "momentum_decay": (lambda x: x is None or RANGES["lr"][0](x), "a finite number >= 0, or None"),
    "kappa": _number(lambda x: x >= 0, ">= 0"),
    "phi": _number(lambda x: 0 <= x <= 1, "in [0, 1]"),
    "theta": _number(lambda x: 0 <= x < 1, "in [0, 1)"),
    "beta": _number(lambda x: x >= 0, ">= 0"),
    "l1": _number(lambda x: x >= 0, ">= 0"),
    "l2": _number(lambda x: x >= 0, ">= 0"),
    "threshold": _number(lambda x: x >= 4, ">= 4"),
    "warmup_steps": _number(lambda x: x >= 0, ">= 0"),
    "r": _number(lambda x: x >= 0, ">= 0"),
    "weight_lr_power": _number(lambda x: x >= 0, ">= 0"),
    "etas": (lambda x: _pair_of(x) and 0 < x[0] < 1 < x[1], "two numbers, in (0, 1) and above 1"),
    "step_sizes": (
        lambda x: _pair_of(x) and 0 < x[0] <= x[1],
        "two finite numbers > 0, the lesser first",
    ),
    "variant": (
        lambda x: x in ("iminus", "minus", "plus", "iplus"),
        "'iminus', 'minus', 'plus' or 'iplus'",
    ),
    "amsgrad": (lambda x: isinstance(x, bool) or x == "corrected", "True, False or 'corrected'"),
    "bias_correction": (lambda x: isinstance(x, bool), "True or False"),
    "eps_hat": (lambda x: isinstance(x, bool), "True or False"),
    "centered": (lambda x: isinstance(x, bool), "True or False"),
    "decay": (lambda x: x in ("lr", "independent"), "'lr' or 'independent'"),
    "eps": _number(lambda x: x >= 0, ">= 0"),
    "eps_root": _number(lambda x: x >= 0, ">= 0"),
    "eps_outside": _number(lambda x: x >= 0, ">= 0"),
    "lr_decay": _number(lambda x: x >= 0, ">= 0"),
    "weight_decay": _number(lambda x: x >= 0, ">= 0"),
    "clip_norm": _number(lambda x: x > 0, "> 0, or None"),
    "initial_accumulator_value": _number(lambda x: x >= 0, ">= 0"),
    "betas": (_pair, "two finite numbers in [0, 1)"),
    "nesterov": (lambda x: isinstance(x, bool) or x == "lookahead", "True, False or 'lookahead'"),
    "maximize": (lambda x: isinstance(x, bool), "True or False"),
    "momentum_form": (lambda x: x in ("torch", "classic"), "'torch' or 'classic'"),
}

RANGES |= {
    "beta2_decay": _number(lambda x: x <= 0, "<= 0"),
    "eps1": _optional(lambda x: x >= 0, ">= 0"),
    "eps2": _number(lambda x: x >= 0, ">= 0"),
    "eps1_form": (lambda x: x in ("added", "floor"), "'added' or 'floor'"),
    "eps_form": (lambda x: x in ("added", "floor"), "'added' or 'floor'"),
    "d": _optional(lambda x: x > 0, "> 0"),
    "relative_step": (lambda x: isinstance(x, bool), "True or False"),
    "scale_parameter": (lambda x: isinstance(x, bool), "True or False"),
    "decay_first": (lambda x: isinstance(x, bool), "True or False"),
    "min_dim_size_to_factor": _whole(0, math.inf, ">= 0"),
    "ns_coefficients": (
        lambda x: (
            isinstance(x, (tuple, list))
            and len(x) == 3
            and all(map(RANGES["lower"][0], x))
            and None not in x
        ),
        "three finite numbers",
    ),
    "ns_steps": _whole(0, 99, "in [0, 99]"),
    "adjust_lr_fn": (
        lambda x: x in (None, "original", "match_rms_adamw", "columns", "constant"),
        "None, 'original', 'match_rms_adamw', 'columns' or 'constant'",
    ),
    "average": (lambda x: isinstance(x, bool), "True or False"),
    "trust_coefficient": _number(lambda x: x > 0, "> 0"),
    "max_trust": _optional(lambda x: x > 0, "> 0"),
    "exclude_vectors": (lambda x: isinstance(x, bool), "True or False"),
    "ema": RANGES["alpha"],
    "clip_value": RANGES["clip_norm"],
    "l1": _number(lambda x: x >= 0, ">= 0"),
    "proximal": (lambda x: isinstance(x, bool), "True or False"),
    "lower": _optional(lambda x: True, ""),
    "upper": _optional(lambda x: True, ""),
    "max_norm": _optional(lambda x: x > 0, "> 0"),
}

# What the groups of every optimizer have, with defaults.
COMMON: dict[str, Any] = {
    "maximize": False,
    "l1": 0.0,
    "proximal": False,
    "lower": None,
    "upper": None,
    "max_norm": None,
}

# What people type when they come from elsewhere.
ALIASES = {
    "learning_rate": "lr",
    "step_size": "lr",
    "eta": "lr",
    "eta0": "lr",
    "beta": "momentum",
    "mu": "momentum",
    "rho": "alpha",
    "decay_rate": "alpha",
    "beta1": "betas",
    "beta2": "betas",
    "beta_1": "betas",
    "beta_2": "betas",
    "b1": "betas",
    "b2": "betas",
    "epsilon": "eps",
    "l2": "weight_decay",
    "decay": "lr_decay",
    "wd": "weight_decay",
    "l1_regularization_strength": "l1",
    "l2_regularization_strength": "l2",
    "initial_accumulator": "initial_accumulator_value",
    "warmup": "warmup_steps",
    "n_jobs": "threads",
    "num_threads": "threads",
    "clipnorm": "clip_norm",
    "clipvalue": "clip_value",
    "grad_clip": "clip_norm",
    "ema_decay": "ema",
    "gradient_accumulation_steps": "accumulate",
    "nonnegative": "lower",
    "sparse": "lazy",
    "max_grad_norm": "clip_norm",
    "global_clipnorm": "clip_norm",
}


def nearest(name: str, known: Iterable[str]) -> str:
    """Return "; did you mean ...?" for an unknown `name`, or the list of what is known."""
    known = list(known)
    alias = ALIASES.get(name)
    close = [alias] if alias in known else difflib.get_close_matches(name, known, 1)
    return f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(map(repr, known))}"


def check(owner: str, name: str, value: Any, at: str = "") -> Any:
    """Return `value` if hyper-parameter `name` may have it; otherwise raise, naming both."""
    passes, words = RANGES[name]
    if not passes(value):
        raise ValueError(f"{owner}: {name} must be {words}, got {value!r}{at}")
    return _in_double(value)


def _in_double(value: Any) -> Any:
    """Return NumPy's numbers as Python's: arithmetic with a np.float32 would be in float32."""
    if isinstance(value, (tuple, list)):
        return tuple(map(_in_double, value))
    if isinstance(value, (bool, int, float)) and type(value).__module__ == "builtins":
        return value
    return float(value) if isinstance(value, Real) else value
