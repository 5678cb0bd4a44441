"""The same training in torch and in fastopt, for the tests of states that change sides."""

import io

import numpy as np
import pytest

import fastopt


def in_double():
    """Be a fixture: torch with float64 as its dtype, in which it then keeps its scalars."""
    torch = pytest.importorskip("torch")
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield torch
    torch.set_default_dtype(before)


L2 = {"weight_decay": 0.1}
BETAS = {"betas": (0.8, 0.95)}
CASES = [
    ("SGD", {}),
    ("SGD", {**L2, "maximize": True}),
    ("SGD", {"momentum": 0.9, **L2}),
    ("SGD", {"momentum": 0.9, "nesterov": True, "maximize": True}),
    ("SGD", {"momentum": 0.9, "dampening": 0.3}),
    ("Adagrad", {}),
    ("Adagrad", {"lr_decay": 0.1, "initial_accumulator_value": 0.2, "eps": 1e-3, **L2}),
    ("Adagrad", {"maximize": True}),
    ("RMSprop", {}),
    ("RMSprop", {"alpha": 0.8, "eps": 1e-3, **L2}),
    ("RMSprop", {"momentum": 0.9, "maximize": True}),
    ("RMSprop", {"centered": True, "alpha": 0.9}),
    ("RMSprop", {"centered": True, "momentum": 0.8, **L2}),
    ("Adadelta", {}),
    ("Adadelta", {"rho": 0.8, "eps": 1e-3, **L2}),
    ("Adadelta", {"maximize": True}),
    ("Rprop", {}),
    ("Rprop", {"etas": (0.3, 1.5), "step_sizes": (1e-3, 0.1)}),
    ("Rprop", {"maximize": True}),
    ("Adamax", {}),
    ("Adamax", {**BETAS, **L2, "eps": 1e-3}),
    ("Adamax", {"maximize": True}),
    ("NAdam", {}),
    ("NAdam", {**BETAS, "momentum_decay": 0.1, **L2}),
    ("NAdam", {"maximize": True}),
    ("RAdam", {}),
    ("RAdam", {"betas": (0.5, 0.7), **L2}),  # with which it adapts in the first steps
    ("RAdam", {"maximize": True}),
    *[
        (name, options)
        for name in ("Adam", "AdamW")
        for options in (
            {},
            {**BETAS, **L2, "eps": 1e-3},
            {"amsgrad": True, "maximize": True},
            {"amsgrad": True, **L2},
        )
    ],
    ("Adafactor", {}),
    ("Adafactor", {"eps": (1e-3, 1e-2), "beta2_decay": -0.5, "d": 1.5, **L2}),
    ("Adafactor", {"maximize": True}),
    ("ASGD", {"lambd": 0.0, "t0": 3, **L2}),
    ("ASGD", {"lambd": 0.0, "t0": 7, "maximize": True}),
    ("ASGD", {"lambd": 0.0, "t0": -1}),
]
# What an optimizer must be built with for the right states; the rest is taken over.
CHOOSING = {"momentum", "centered", "amsgrad"}
HALF = 5
SHAPES = {"W": (5, 4), "b": (3,), "s": ()}


def start(rule=""):
    rng = np.random.default_rng(0)
    shapes = {n: (*s, 1, 1)[:2] for n, s in SHAPES.items()} if rule == "Muon" else SHAPES
    return {name: rng.standard_normal(shape) for name, shape in shapes.items()}


def gradients(k, missing=False):
    """Return the gradients of step k; of zeros and missing ones too."""
    rng = np.random.default_rng(100 + k)
    found = {n: rng.standard_normal(s) * rng.integers(0, 3, s) for n, s in SHAPES.items()}
    if missing and k < 8:  # b begins before the change, s after it
        found = {"W": found["W"]} if k < 2 or k == 6 else {n: found[n] for n in ("W", "b")}
    return found


def build_torch(torch, name, params, options, lr=0.05):
    made = [torch.nn.Parameter(torch.tensor(np.array(a, order="C"))) for a in params.values()]
    groups = [{"params": made[:1], "lr": lr / 2}, {"params": made[1:]}]
    return made, getattr(torch.optim, name)(groups, lr=lr, **options)


def build(name, params, options, lr=0.05):
    cls = getattr(fastopt, name)
    options = dict(options)
    if "t0" in options:
        options["t0"] += 1
        options.pop("lambd")
    if "eps" in options and name == "Adafactor":
        options["eps1"], options["eps2"] = options.pop("eps")
    if name == "Adafactor":
        options = {"preset": "torch", **options}
    groups = [
        {"params": {"W": params["W"]}, "lr": lr / 2},
        {"params": {name: params[name] for name in ("b", "s")}},
    ]
    return cls(groups, lr=lr, **options)


def run_torch(torch, made, opt, steps, missing=False):
    found = []
    for k in steps:
        grads = gradients(k, missing)
        for name, p in zip(SHAPES, made, strict=True):
            p.grad = torch.tensor(grads[name]).reshape(p.shape) if name in grads else None
        opt.step()
        found.append([p.detach().numpy().copy() for p in made])
    return found


def run(opt, steps, missing=False):
    found = []
    params = [a for group in opt.param_groups for a in group["params"].values()]
    for k in steps:
        grads = gradients(k, missing)
        for name in SHAPES:
            (opt.unfreeze if name in grads else opt.freeze)(name)
        opt.step(grads)
        found.append([a.copy() for a in params])
    return found


def through_file(torch, state):
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def as_numpy(state):
    """Return a dictionary of torch's without tensors."""

    def turned(value):
        if isinstance(value, dict):
            return {k: turned(v) for k, v in value.items()}
        if isinstance(value, (list, tuple)):
            return type(value)(map(turned, value))
        return value.numpy() if hasattr(value, "numpy") else value

    return turned(state)


def close(found, expected):
    for one, other in zip(found, expected, strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


def whole(torch, name, options, missing=False):
    """Return the trajectory of torch alone, and its dictionary and point at half-way."""
    made, opt = build_torch(torch, name, start(), options)
    first = run_torch(torch, made, opt, range(HALF), missing)
    state = through_file(torch, opt.state_dict())
    return first + run_torch(torch, made, opt, range(HALF, 2 * HALF), missing), state, first[-1]


def choosing(options):
    return {k: v for k, v in options.items() if k in CHOOSING or k in ("t0", "lambd")}
