"""Every optimizer with every option: the same bits on all instruction sets, with 1 to 4 threads.

Optimizers come from the registry, rules from the compiled module, options from what `Optimizer`
declares: what is new is run too, or a test says where to add it.
"""

import functools
import math

import numpy as np
import pytest

import fastopt
from fastopt import _core
from fastopt.rules import precision
from fastopt.rules.base import Common, Optimizer
from fastopt.rules.wrappers import SAM, Lookahead

bf16 = np.dtype(pytest.importorskip("ml_dtypes").bfloat16)

# What makes a class use another compiled rule than by default, or other numbers in it.
VARIANTS = [
    ("SGD", {"momentum": 0.9, "dampening": 0.5}),
    ("SGD", {"momentum": 0.9, "nesterov": True, "momentum_form": "classic"}),
    ("SGD", {"momentum": 0.9, "nesterov": "lookahead"}),
    ("SignSGD", {"eps": 1e-3}),
    ("SignSGD", {"momentum": 0.9}),
    ("SignSGD", {"momentum": 0.9, "eps": 1e-3}),
    ("RMSprop", {"momentum": 0.9}),
    ("RMSprop", {"centered": True}),
    ("RMSprop", {"centered": True, "momentum": 0.9, "nesterov": "lookahead"}),
    ("Rprop", {"variant": "plus"}),
    ("Adam", {"amsgrad": True}),
    ("LARS", {"trust_coefficient": 0.1, "exclude_vectors": False}),
    ("LAMB", {"max_trust": 1.0}),
    ("Adafactor", {"momentum": 0.9}),
]
OPTIMIZERS = [
    *((name, {}) for name, cls in Optimizer.registry.items() if cls.__module__[:8] == "fastopt."),
    *VARIANTS,
]
FIRST_PASSES = {
    "lamb_moments": "lamb",
    "muon_moments": "muon",
}  # a rule -> the rule that it is the first pass of

OPTIONS = {
    "nothing": {},
    "clip all": {"clip_norm": 3.0, "weight_decay": 0.1, "maximize": True},
    "clip tensors": {"clip_norm": 3.0, "clip_per": "tensor", "lower": -0.9, "upper": 0.8},
    "clip rows": {"clip_norm": 3.0, "clip_per": "row", "max_norm": 30.0, "ema": 0.9},
    "clip values": {"clip_value": 1.0, "nonfinite": "mask", "zero_grad": True, "ema": 0.5},
    "penalty": {"l1": 0.1, "max_norm": 30.0, "nonfinite": "mask"},
    "proximal": {"l1": 0.1, "weight_decay": 0.1, "proximal": True, "ema": 0.9},
    "sums": {"accumulate": 2, "nonfinite": "skip", "clip_norm": 3.0},
    "masked sums": {"accumulate": 2, "nonfinite": "mask", "zero_grad": True, "ema": 0.9},
    "stochastic": {"rounding": "stochastic", "nonfinite": "mask"},
    "nearest": {"rounding": "nearest", "clip_norm": 3.0},
    "kahan": {"rounding": "kahan", "max_norm": 30.0, "ema": 0.9},
    "master": {"rounding": "master", "max_norm": 30.0, "ema": 0.9},
    "16-bit states": {"state_dtype": "bfloat16", "clip_norm": 3.0},
    "8-bit states": {"state_dtype": "8bit", "clip_norm": 3.0},
    "8-bit states, rounded": {"state_dtype": "8bit", "rounding": "stochastic", "zero_grad": True},
}
# What a class refuses is left out of its options.
UNABLE = {"ASGD": {"ema"}, "LARS": {"clip_per", "clip_value", "l1"}}
HERE = {"threads", "lazy"}  # varies in every test; has tests of its own (test_lazy.py)


def label(case):
    return "-".join([case[0], *(f"{key}={value}" for key, value in case[1].items())])


def build(case, params, threads=None, **options):
    cls, own = Optimizer.registry[case[0]], case[1]
    has = cls({"a": np.zeros((1, 1))}, lr=0.01, **own).param_groups[0]
    unable = UNABLE.get(case[0], set()) | ({"weight_decay"} - has.keys())
    options = {key: value for key, value in options.items() if key not in unable}
    return cls(params, lr=0.01, threads=threads, **own, **options)


def fits(case, options):
    """Whether the optimizer can have states, and parameters, of fewer bits."""
    opt = build(case, {"a": np.zeros((1, 1))})
    fewer = {letter for letter in _core.rules()[opt.rule][0] if letter in opt.state_kinds}
    if "state_dtype" in options and (not fewer or case[1].get("amsgrad")):
        return False
    return "ahead" not in opt.extra or not {"state_dtype", "rounding"} & options.keys()


def test_every_compiled_rule_is_reached():
    reached = {build(case, np.zeros((2, 2))).rule for case in OPTIMIZERS}
    missing = set(_core.rules()) - reached - FIRST_PASSES.keys()
    assert not missing, (
        f"add options that lead to the rules {sorted(missing)} to VARIANTS, or to FIRST_PASSES "
        "which rule they are the first pass of"
    )
    assert set(FIRST_PASSES.values()) <= reached


def test_every_option_is_tried():
    tried = {key for options in OPTIONS.values() for key in options}
    missing = Common.__annotations__.keys() - tried - HERE
    assert not missing, f"add {sorted(missing)} to OPTIONS"
    for key, values in {
        "rounding": precision.ROUNDINGS,
        "state_dtype": precision.STATE_DTYPES[1:],
        "nonfinite": ("mask", "skip"),
        "clip_per": ("tensor", "row"),
    }.items():
        missing = {*values} - {options.get(key) for options in OPTIONS.values()}
        assert not missing, f"add {key} = {sorted(missing)} to OPTIONS"


def configurations():
    """(instruction set, threads, whether arrays have gaps): some of each with each."""
    for k, isa in enumerate(_core.isa_available()):
        yield from ((isa, threads, False) for threads in ((1, 2, 3, 4) if k == 0 else (1, 4)))
        yield isa, 2 if k == 0 else 3, True


@pytest.fixture
def any_isa():
    before = fastopt.get_isa()
    yield
    fastopt.set_isa(before)


# More than 4 * 16,384 elements, for four threads, each with several blocks of 2,048. No size is a
# multiple of a vector, of a block, or of the 256 elements that share a magnitude, nor is a share of
# two, three or four threads.
SHAPES = {"w": (37, 1811), "m": (43, 50), "b": (1301,), "d": (501,), "s": (), "e": (3, 0)}


@functools.cache
def arrays(low, finite):
    """Values, and gradients for four steps, to be copied; `low`: with fewer bits."""
    rng = np.random.default_rng(0)
    dtypes = {"w": bf16, "m": np.dtype("f2")} if low else {}
    dtypes = {name: dtypes.get(name, np.dtype("f8" if name == "d" else "f4")) for name in SHAPES}
    values, *grads = (
        {name: rng.standard_normal(shape).astype(dtypes[name]) for name, shape in SHAPES.items()}
        for _ in range(5)
    )
    if not finite:
        grads[1]["w"][5, 1700], grads[1]["d"][3] = math.nan, -math.inf
    return values, grads


def laid_out(values, gaps):
    """Copies of the arrays: one in Fortran's order, some with gaps and backwards."""
    made = {name: np.array(x, order="F" if name == "m" else "C") for name, x in values.items()}
    if gaps:
        wide = np.zeros((37, 2 * 1811), values["w"].dtype)
        made |= {"w": wide[:, ::2], "b": np.zeros(1301, "f4")[::-1]}
        made = {name: made[name] for name in values}
        for name in made.keys() & {"w", "b"}:
            made[name][...] = values[name]
    return made


def results(opt, params, grads, gaps, wrapper=None):
    """Everything that steps leave behind, as bytes, by what it is."""
    seen = {}
    freezes = not opt.rule.startswith("schedule_free") and "ahead" not in opt.extra
    for k, one in enumerate(grads):
        g = laid_out(one, gaps)
        if freezes and k in (2, 3):
            opt.freeze("m") if k == 2 else opt.unfreeze("m")
        if "ahead" in opt.extra:
            with opt.lookahead():
                pass
        if isinstance(wrapper, SAM):
            with wrapper.perturbed(g):
                pass
        info = (wrapper or opt).step(g)
        seen["info", k] = repr(info), np.float64(info.grad_norm).tobytes()
        seen |= {("gradient", k, name): x.tobytes() for name, x in g.items()}
    for name, w in params.items():
        seen["parameter", name] = w.tobytes()
        seen |= {("state", name, key): s.tobytes() for key, s in opt.state[name].items()}
    return seen


def compare(case, options, make_wrapper=None):
    finite = make_wrapper is SAM or options.get("nonfinite", "propagate") == "propagate"
    start, grads = arrays("rounding" in options, finite)
    if case[0] == "Muon":  # matrices alone
        names = [name for name in start if start[name].ndim == 2]
        start, *grads = ({name: one[name] for name in names} for one in (start, *grads))
    first = None
    for isa, threads, gaps in configurations():
        fastopt.set_isa(isa)
        params = laid_out(start, gaps)
        opt = build(case, params, threads, **options)
        found = results(opt, params, grads, gaps, make_wrapper and make_wrapper(opt))
        first = first or found
        differs = [key for key in found if found[key] != first[key]]
        assert not differs, f"{isa}, {threads} threads, gaps: {gaps}"
    assert opt.t >= 1
    assert all((w != start[name]).any() for name, w in params.items() if w.size > 1)


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("case", OPTIMIZERS, ids=label)
def test_bits_do_not_depend_on_instruction_set_threads_or_layout(case, options, any_isa):
    if fits(case, OPTIONS[options]):
        compare(case, OPTIONS[options])


@pytest.mark.parametrize("wrap", [SAM, lambda opt: Lookahead(opt, k=2)], ids=["SAM", "Lookahead"])
@pytest.mark.parametrize("options", ["nothing", "clip rows", "sums", "kahan", "master"])
@pytest.mark.parametrize("name", ["SGD", "AdamW", "LAMB"])
def test_wrapped_optimizers_too(name, options, wrap, any_isa):
    compare((name, {}), OPTIONS[options], wrap)
