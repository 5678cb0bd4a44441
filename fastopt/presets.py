"""Presets: the conventions of other libraries and of the sources, as keyword values.

With ``preset="keras"`` an optimizer does what the library's optimizer of that name does with its
own defaults, and ``preset="paper"`` or ``"textbook"`` stands for the formula as it was printed. A
preset does no more than give values to keywords: keywords that are given win. What a preset does
not name, `table` shows as ``-``, stays as it is without a preset.
"""

from __future__ import annotations

import functools
import inspect
from typing import Any

_BETAS = (0.9, 0.999)
_ADAM: dict[str, Any] = {
    "lr": 1e-3,
    "betas": _BETAS,
    "eps": 1e-8,
    "eps_root": 0.0,
    "weight_decay": 0.0,
    "amsgrad": False,
    "bias_correction": True,
    "eps_hat": False,
}
_ADAGRAD: dict[str, Any] = {"lr_decay": 0.0, "initial_accumulator_value": 0.0, "eps_root": 0.0}
_SCHEDULE_FREE: dict[str, Any] = {"weight_decay": 0.0, "r": 0.0, "weight_lr_power": 2.0}
_SCHEDULE_FREE_ADAMW: dict[str, Any] = {"lr": 2.5e-3, "betas": _BETAS, "eps": 1e-8}
_ADAFACTOR: dict[str, Any] = {
    "beta2_decay": -0.8,
    "eps1": 1e-30,
    "eps2": 1e-3,
    "d": 1.0,
    "momentum": 0.0,
    "relative_step": True,
    "scale_parameter": True,
    "eps1_form": "added",
    "min_dim_size_to_factor": 0,
}
_MUON: dict[str, Any] = {
    "nesterov": True,
    "ns_coefficients": (3.4445, -4.7750, 2.0315),
    "ns_steps": 5,
    "eps": 1e-7,
    "adjust_lr_fn": None,
    "average": True,
    "bias_correction": False,
    "eps_form": "added",
}

# torch 2.13. Its Muon makes matrices orthogonal in bfloat16.
_TORCH: dict[str, dict[str, Any]] = {
    "SGD": {"lr": 1e-3, "momentum_form": "torch"},
    "Adagrad": {"lr": 1e-2, **_ADAGRAD, "eps": 1e-10},
    "RMSprop": {"lr": 1e-2, "alpha": 0.99, "eps": 1e-8, "eps_root": 0.0, "momentum_form": "torch"},
    "Adadelta": {"lr": 1.0, "rho": 0.9, "eps": 1e-6},
    "Rprop": {"lr": 1e-2, "etas": (0.5, 1.2), "step_sizes": (1e-6, 50.0), "variant": "iminus"},
    "Adam": _ADAM,
    "AdamW": {**_ADAM, "weight_decay": 1e-2, "decay": "lr"},
    "Adamax": {"lr": 2e-3, "betas": _BETAS, "eps": 1e-8, "eps_outside": 0.0},
    "NAdam": {"lr": 2e-3, "betas": _BETAS, "eps": 1e-8, "momentum_decay": 4e-3},
    "RAdam": {"lr": 1e-3, "betas": _BETAS, "eps": 1e-8, "threshold": 5.0},
    "Adafactor": {
        **_ADAFACTOR,
        "lr": 1e-2,
        "eps1": None,
        "eps1_form": "floor",
        "weight_decay": 0.0,
        "decay": "lr",
        "decay_first": False,
    },
    "Muon": {**_MUON, "lr": 1e-3, "momentum": 0.95, "weight_decay": 0.1, "eps_form": "floor"},
}

# keras 3.15. Left out: Ftrl, which forgets where the parameters start, where FTRL keeps it.
# keras' weight_decay is decoupled in every class, so that its Adam with it is AdamW here; its
# centered RMSprop does not keep the variance from falling below 0, which only rounding makes it do;
# its ScheduleFreeAdamW decays y without z. Its Adafactor always has a relative step; its Muon takes
# embeddings and what is no matrix to AdamW.
_KERAS: dict[str, dict[str, Any]] = {
    "SGD": {"lr": 1e-2, "momentum_form": "classic"},
    "Adagrad": {
        **_ADAGRAD,
        "lr": 1e-3,
        "initial_accumulator_value": 0.1,
        "eps": 0.0,
        "eps_root": 1e-7,
    },
    "RMSprop": {"lr": 1e-3, "alpha": 0.9, "eps": 0.0, "eps_root": 1e-7, "momentum_form": "classic"},
    "Adadelta": {"lr": 1e-3, "rho": 0.95, "eps": 1e-7},
    "Adam": {**_ADAM, "eps": 1e-7, "eps_hat": True},
    "AdamW": {**_ADAM, "eps": 1e-7, "eps_hat": True, "weight_decay": 4e-3, "decay": "lr"},
    "Adamax": {"lr": 1e-3, "betas": _BETAS, "eps": 0.0, "eps_outside": 1e-7},
    "NAdam": {"lr": 1e-3, "betas": _BETAS, "eps": 1e-7, "momentum_decay": 1.0},
    "Lion": {"lr": 1e-3, "betas": (0.9, 0.99), "weight_decay": 0.0},
    "ScheduleFreeAdamW": {**_SCHEDULE_FREE_ADAMW, **_SCHEDULE_FREE, "weight_lr_power": 0.0},
    "Adafactor": {
        **_ADAFACTOR,
        "lr": 1e-3,
        "weight_decay": 0.0,
        "decay": "lr",
        "decay_first": True,
    },
    "Muon": {
        **_MUON,
        "lr": 1e-3,
        "momentum": 0.95,
        "weight_decay": 4e-3,
        "adjust_lr_fn": "match_rms_adamw",
        "average": False,
    },
}

# optax 0.2.8, where lr has no default but in the schedule-free classes. Its amsgrad is Adam with
# amsgrad="corrected". Left out: radam, which adds eps to the corrected root, where RAdam adds it to
# the root of v; rprop, whose first step comes one call late. Its schedule-free classes warm up
# from 0. adafactor's learning_rate=None is a factor of 1; of an array with three or more axes, it
# factors the two largest, where fastopt takes the last two. muon takes what is no matrix to adamw.
_OPTAX: dict[str, dict[str, Any]] = {
    "SGD": {"momentum_form": "torch"},
    "SignSGD": {"momentum": 0.0, "eps": 0.0},
    "Adagrad": {**_ADAGRAD, "initial_accumulator_value": 0.1, "eps": 0.0, "eps_root": 1e-7},
    "RMSprop": {"alpha": 0.9, "eps": 0.0, "eps_root": 1e-8, "momentum_form": "classic"},
    "Adadelta": {"rho": 0.9, "eps": 1e-6},
    "Adam": {k: v for k, v in _ADAM.items() if k != "lr"},
    "AdamW": {**{k: v for k, v in _ADAM.items() if k != "lr"}, "weight_decay": 1e-4, "decay": "lr"},
    "Adamax": {"betas": _BETAS, "eps": 1e-8, "eps_outside": 0.0},
    "NAdam": {"betas": _BETAS, "eps": 1e-8, "momentum_decay": None},
    "AdaBelief": {"betas": _BETAS, "eps": 1e-16, "eps_root": 1e-16, "weight_decay": 0.0},
    "Lion": {"betas": (0.9, 0.99), "weight_decay": 1e-3},
    "ScheduleFreeSGD": {"lr": 1.0, "momentum": 0.9, **_SCHEDULE_FREE},
    "ScheduleFreeAdamW": {**_SCHEDULE_FREE_ADAMW, **_SCHEDULE_FREE},
    "Adafactor": {
        **_ADAFACTOR,
        "lr": 1.0,
        "weight_decay": 0.0,
        "relative_step": False,
        "min_dim_size_to_factor": 128,
        "decay": "independent",
        "decay_first": False,
    },
    "Muon": {
        **_MUON,
        "momentum": 0.95,
        "weight_decay": 0.0,
        "eps": 1e-8,
        "adjust_lr_fn": "columns",
        "bias_correction": True,
    },
}

# Goodfellow, Bengio and Courville, Deep Learning, chapter 8, Algorithms 8.2, 8.4, 8.5 and 8.7. The
# book has no default for RMSProp's rho: 0.9 is Hinton's. Left out: Algorithms 8.3 and 8.6, for
# which the gradient is taken at the look-ahead point.
_TEXTBOOK: dict[str, dict[str, Any]] = {
    "SGD": {"momentum_form": "classic"},
    "Adagrad": {**_ADAGRAD, "eps": 1e-7},
    "RMSprop": {"alpha": 0.9, "eps": 0.0, "eps_root": 1e-6, "momentum_form": "classic"},
    "Adam": _ADAM,
}

# The papers that the classes' docstrings cite, and only what they fix: not AdaGrad's eps, nor the
# strength of AdamW's decay. AMSGrad is Adam with amsgrad=True, bias_correction=False, eps=0.
_PAPER: dict[str, dict[str, Any]] = {
    "SGD": {"momentum_form": "classic"},
    "Adagrad": _ADAGRAD,
    "RMSprop": {"alpha": 0.9, "eps": 0.0, "eps_root": 0.0},
    "Adadelta": {"lr": 1.0, "rho": 0.95, "eps": 1e-6},
    "Rprop": {"lr": 0.1, "etas": (0.5, 1.2), "step_sizes": (1e-6, 50.0), "variant": "plus"},
    "FTRL": {"initial_accumulator_value": 0.0},
    "Adam": _ADAM,
    "AdamW": {**{k: v for k, v in _ADAM.items() if k != "weight_decay"}, "decay": "independent"},
    "Adamax": {"lr": 2e-3, "betas": _BETAS, "eps": 0.0, "eps_outside": 0.0},
    "NAdam": {"momentum_decay": 4e-3},
    "RAdam": {"eps": 0.0, "threshold": 4.0},
    "Lion": {"betas": (0.9, 0.99)},
    "Adafactor": {**_ADAFACTOR, "lr": 1e-2},
    "Muon": {
        **_MUON,
        "nesterov": False,
        "weight_decay": 0.0,
        "adjust_lr_fn": "constant",
        "average": False,
    },
}

PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "torch": _TORCH,
    "keras": _KERAS,
    "optax": _OPTAX,
    "textbook": _TEXTBOOK,
    "paper": _PAPER,
}


def accept(cls: type) -> None:
    """Let a class take `preset=`: the preset's keywords, unless they are given."""
    init = cls.__init__  # type: ignore[misc]
    signature = inspect.signature(init)

    @functools.wraps(init)
    def with_preset(self: Any, *args: Any, preset: str | None = None, **kwargs: Any) -> None:
        if preset is not None:
            given = signature.bind_partial(self, *args).arguments
            known = {name for classes in PRESETS.values() for name in classes}
            names = [base.__name__ for base in type(self).__mro__]  # a subclass has its parent's
            values = keywords(next((n for n in names if n in known), names[0]), preset)
            kwargs = {**{k: v for k, v in values.items() if k not in given}, **kwargs}
        init(self, *args, **kwargs)

    parts = list(signature.parameters.values())
    own = inspect.Parameter("preset", inspect.Parameter.KEYWORD_ONLY, default=None)
    at = len(parts) - (parts[-1].kind is inspect.Parameter.VAR_KEYWORD)
    with_preset.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[*parts[:at], own, *parts[at:]]
    )
    cls.__init__ = with_preset  # type: ignore[misc]


def keywords(name: str, preset: str) -> dict[str, Any]:
    """Return the keyword values of a preset for the class `name`."""
    allowed = [each for each, classes in PRESETS.items() if name in classes]
    if not allowed:
        raise ValueError(f"{name}: there are no presets for this class, got {preset!r}")
    if preset not in allowed:
        raise ValueError(f"{name}: preset must be one of {allowed}, got {preset!r}")
    return PRESETS[preset][name]


def table() -> str:
    """Return where the presets differ: a row for each class and keyword, a column for each preset.

    Returns
    -------
    str
        Plain text. A ``-`` says that the preset does not have the class, or leaves the keyword as
        it is without a preset. Keywords with the same value in all presets that name them have no
        row, unless that is so of all keywords of a class.

    Examples
    --------
    >>> import fastopt
    >>> for line in fastopt.presets.table().splitlines():
    ...     if line.startswith(("class", "Adadelta")):
    ...         print(*line.split())
    class keyword torch keras optax textbook paper
    Adadelta lr 1.0 0.001 - - 1.0
    Adadelta rho 0.9 0.95 0.9 - 0.95
    Adadelta eps 1e-06 1e-07 1e-06 - 1e-06
    """
    rows = [("class", "keyword", *PRESETS)]
    for name in sorted({name for classes in PRESETS.values() for name in classes}):
        found = [classes.get(name, {}) for classes in PRESETS.values()]
        names = list(dict.fromkeys(k for values in found for k in values))
        differ = [k for k in names if len({repr(v[k]) for v in found if k in v}) > 1]
        for k in differ or names:
            rows.append((name, k, *(repr(v[k]) if k in v else "-" for v in found)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
    return "\n".join(lines)
