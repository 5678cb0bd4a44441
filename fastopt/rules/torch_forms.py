"""What torch.optim keeps of each rule: names, and where it is less or more than what is here.

A rule whose states have torch's names and shapes is one more entry in `FORMS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fastopt.rules.adam import scheduled_momentum

# name -> value, relative tolerance in units of the last place, hyper-parameters it comes from
Derived = dict[str, tuple[float, float, set[str]]]


def _nothing(opt: Any, *_: Any) -> dict[str, Any]:
    return {}


@dataclass(frozen=True)
class Form:
    """How torch's optimizer of the same name keeps what one here keeps.

    Attributes
    ----------
    shared : str
        The hyper-parameters that both have, with one meaning; beside them, maximize, unless it is
        in `only`.
    only : dict
        What hyper-parameters here must be for the rule to be torch's.
    never : dict
        What hyper-parameters here must not be.
    fixed : dict
        What torch's own hyper-parameters must be; it may leave them out.
    tuples : dict
        What is one hyper-parameter of torch's and several here: theirs -> ours.
    keys : dict
        States' names that differ: ours -> torch's.
    counted : bool
        Whether torch counts the steps of each parameter.
    eager : bool
        Whether torch has states before the first step.
    derived : callable
        (optimizer, hyper-parameters, steps) -> what torch keeps for each parameter although it
        follows from these.
    more : callable
        optimizer -> further hyper-parameters of torch's.
    take : callable, optional
        (optimizer, torch's group, hyper-parameters to be taken over) -> differences, in words: what
        to do with those of `more`; may change the third.
    """

    shared: str
    only: dict[str, Any] = field(default_factory=dict)
    never: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    fixed: dict[str, Any] = field(default_factory=dict)
    tuples: dict[str, tuple[str, ...]] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)
    counted: bool = True
    eager: bool = False
    derived: Callable[[Any, dict[str, Any], int], Derived] = _nothing
    more: Callable[[Any], dict[str, Any]] = _nothing
    take: Callable[[Any, Mapping[str, Any], dict[str, Any]], list[str]] | None = None

    @property
    def names(self) -> list[str]:
        """The hyper-parameters that both have."""
        return [*self.shared.split(), *(["maximize"] if "maximize" not in self.only else [])]

    def joined(self, numbers: Mapping[str, Any]) -> dict[str, Any]:
        """Return hyper-parameters of ours with tuples as torch has them."""
        ours = {name for names in self.tuples.values() for name in names}
        made = {name: value for name, value in numbers.items() if name not in ours}
        return made | {
            key: tuple(numbers[name] for name in names) for key, names in self.tuples.items()
        }

    def parted(self, numbers: Mapping[str, Any]) -> dict[str, Any]:
        """Return hyper-parameters of torch's with each tuple as ours; a wrong one stays."""
        made = dict(numbers)
        for key, names in self.tuples.items():
            value = plain(made.get(key))
            if isinstance(value, tuple) and len(value) == len(names):
                made |= zip(names, value, strict=True)
                del made[key]
        return made


def plain(value: Any) -> Any:
    """Return a hyper-parameter, which may be a tensor, as Python has it."""
    if isinstance(value, (tuple, list)):
        return tuple(map(plain, value))
    if hasattr(value, "detach"):
        value = value.detach()
    try:
        return value.item() if hasattr(value, "item") else value
    except (ValueError, RuntimeError):  # several numbers, or none to be had
        return repr(value)


def _nadam(opt: Any, h: dict[str, Any], n: int) -> Derived:
    product = scheduled_momentum(h["betas"][0], h["momentum_decay"], n)[2]
    # torch multiplies step by step
    return {"mu_product": (product, 4 + 2 * min(n, 200), {"betas", "momentum_decay"})}


def _asgd(opt: Any, h: dict[str, Any], n: int) -> Derived:
    return {"eta": (h["lr"], 4, {"lr"}), "mu": (1 / max(1, n + 1 - opt._ema.t0), 4, set())}


def _asgd_more(opt: Any) -> dict[str, Any]:
    return {"lambd": 0.0, "alpha": 0.75, "t0": float(opt._ema.t0 - 1)}  # its mean begins later


def _asgd_take(opt: Any, theirs: Mapping[str, Any], taken: dict[str, Any]) -> list[str]:
    """Take lambd over as weight decay, which it is."""
    try:
        lambd, alpha, t0 = (float(plain(theirs[name])) for name in ("lambd", "alpha", "t0"))
        if "weight_decay" in taken:
            taken["weight_decay"] += lambd
    except (TypeError, ValueError, OverflowError):
        return ["lambd, alpha, t0 and weight_decay must be numbers"]
    found = []
    if t0 + 1 != opt._ema.t0:
        found.append(f"t0 is {t0!r}, which is t0={t0 + 1!r} here, where it is {opt._ema.t0}")
    if lambd != 0 and "lr" in taken:
        lr = taken["lr"]
        found.append(
            f"lambd is {lambd!r}, with which torch's rate falls: build this optimizer with "
            f"lr=lambda t: {lr!r} / (1 + {lambd!r} * {lr!r} * t) ** {alpha!r}"
        )
    return found


_ADAM = {"eps_root": 0.0, "bias_correction": True, "eps_hat": False}
_BETAS = "lr betas eps weight_decay"
_L2 = {"decoupled_weight_decay": False}

# torch 2.13. By the names of the classes, which are the same.
FORMS = {
    "SGD": Form(
        "lr momentum dampening weight_decay nesterov",
        only={"momentum_form": "torch"},
        never={"nesterov": ("lookahead",)},
        counted=False,
    ),
    "ASGD": Form(
        "lr weight_decay", keys={"ema": "ax"}, derived=_asgd, more=_asgd_more, take=_asgd_take
    ),
    "Adagrad": Form(
        "lr lr_decay weight_decay initial_accumulator_value eps", {"eps_root": 0.0}, eager=True
    ),
    "RMSprop": Form(
        "lr alpha eps weight_decay momentum centered",
        only={"eps_root": 0.0, "nesterov": False, "momentum_form": "torch"},
    ),
    "Adadelta": Form("lr rho eps weight_decay"),
    "Rprop": Form("lr etas step_sizes", only={"variant": "iminus"}),
    "Adam": Form(_BETAS + " amsgrad", only=_ADAM, never={"amsgrad": ("corrected",)}, fixed=_L2),
    "AdamW": Form(
        _BETAS + " amsgrad",
        only={**_ADAM, "decay": "lr"},
        never={"amsgrad": ("corrected",)},
        fixed={"decoupled_weight_decay": True},
    ),
    "Adamax": Form(_BETAS, only={"eps_outside": 0.0}),
    "NAdam": Form(
        _BETAS + " momentum_decay", never={"momentum_decay": (None,)}, fixed=_L2, derived=_nadam
    ),
    "RAdam": Form(_BETAS, only={"threshold": 5.0}, fixed=_L2),
    "Adafactor": Form(
        "lr beta2_decay eps1 eps2 d weight_decay",
        only={
            "momentum": 0.0,
            "relative_step": True,
            "scale_parameter": True,
            "eps1_form": "floor",
            "min_dim_size_to_factor": 0,
            "decay": "lr",
            "decay_first": False,
        },
        never={"d": (None,)},
        tuples={"eps": ("eps1", "eps2")},
    ),
    "Muon": Form(  # torch's makes matrices orthogonal in bfloat16
        "lr momentum nesterov weight_decay ns_coefficients ns_steps eps adjust_lr_fn",
        only={"average": True, "bias_correction": False, "eps_form": "floor", "maximize": False},
        never={"adjust_lr_fn": ("columns", "constant"), "nesterov": ("lookahead",)},
        counted=False,
    ),
}
