"""Write peers.json: what other libraries' optimizers compute, step by step, in float64.

Run it in an environment with optax, keras 3, jax and torch (the build for CPUs is enough)

    python tests/golden/make_golden.py [FILE]

where keras takes jax as its backend and jax computes in float64: this script sets both. The tests
need none of these libraries: they read the file.

The file holds

note, versions  in words; the libraries' versions
problems        by name: where the parameter starts, and the gradients, one a step; each is the
                same whatever the parameter is
cases           one a line: `library`, `name`, `class` (parts of a chain are joined by " > "),
                `kwargs`, `problem`, `rtol` (what the library itself is good for, given its float32
                and bfloat16 intermediates; take it for the absolute tolerance too) and `params`,
                the parameter after every step. Some have a second sequence: `eval` (schedule-free:
                the average x; params are y), `slow` (lookahead), `average` (ASGD).
defaults        by library and class: every argument's default; "<required>" where there is none
"""

from __future__ import annotations

import inspect
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

os.environ["KERAS_BACKEND"] = "jax"
os.environ["JAX_ENABLE_X64"] = "1"
os.environ["JAX_PLATFORMS"] = "cpu"

import jax
import jax.numpy as jnp
import keras
import numpy as np
import optax
import torch

Kwargs = dict[str, Any]
Sequences = dict[str, list[Any]]

NOTE = (
    "Made by make_golden.py; do not edit. All arithmetic is in float64 (keras: floatx float64; "
    "torch: default dtype float64, foreach=False). A case's rtol is larger where a library computes"
    " something in less: optax's adafactor takes its decay rate, and its warm-up the learning rate,"
    " in float32; keras takes means and norms (Adafactor, Muon) in float32; torch's Muon iterates "
    "in bfloat16, so that its parameters are good for a tenth of a step only. Cases named '..., in "
    "float64' are the same without that. Where keras's floatx is left at float32, hyper-parameters "
    "are rounded to float32, and even float64 parameters are good for 1e-7 only."
)
EXACT = 1e-12  # the default rtol
BFLOAT16 = 0.02

LR = {"learning_rate": 0.1}


def matrix(rows: int, columns: int, t: int | None = None) -> list[list[float]]:
    """Return the parameter's start, or the gradient of step t = 0, 1, .."""
    i, j = np.mgrid[:rows, :columns]
    p = ((3 * i + 5 * j) % 7 - 3) / 4
    return (p if t is None else ((7 * i + 3 * j + 5 * t) % 11 - 5) / 8).tolist()


def dead(t: int | None = None) -> list[list[float]]:
    """Return a matrix; its gradients are 0 in one row and one column, and all of them at t = 2."""
    p = np.array(matrix(4, 5, t))
    if t is not None:
        p[1, :] = p[:, 2] = 0
        p *= t != 2
    return p.tolist()


def stack(t: int | None = None) -> list[list[list[float]]]:
    """Return two matrices of different size in one array."""
    p = np.array(matrix(3, 4, t))
    return [p.tolist(), (10 * p[::-1] + 1).tolist()]


VECTORS = [
    [2.0, -1.0],
    [-1.0, 0.5],
    [0.0, 0.0],
    [1e-3, -1e-3],
    [-30.0, 30.0],
    [0.0, 2.0],
    [0.5, -0.5],
    [1e-8, 1e4],
]
PROBLEMS: dict[str, dict[str, list[Any]]] = {
    "vector": {"start": [1.0, -0.5], "gradients": VECTORS},
    "nonzero": {"start": [1.0, -0.5], "gradients": [g for g in VECTORS if any(g)]},
    "wide": {"start": matrix(3, 4), "gradients": [matrix(3, 4, t) for t in range(5)]},
    "tall": {"start": matrix(4, 3), "gradients": [matrix(4, 3, t) for t in range(5)]},
    "dead": {"start": dead(), "gradients": [dead(t) for t in range(5)]},
    "stack": {"start": stack(), "gradients": [stack(t) for t in range(5)]},
}
ROWS_AND_COLUMNS = ("wide", "tall")


def problem(name: str) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return the start and the gradients."""
    p = PROBLEMS[name]
    return np.array(p["start"]), [np.array(g) for g in p["gradients"]]


# optax


def run_optax(make: Callable[[], Any], problem_name: str) -> Sequences:
    """Return the parameter after every step."""
    start, gradients = problem(problem_name)
    opt, p = make(), jnp.asarray(start)
    state = opt.init(p)
    found: Sequences = {"params": []}
    for g in gradients:
        updates, state = opt.update(jnp.asarray(g), state, p)
        p = optax.apply_updates(p, updates)
        found["params"].append(np.asarray(p).tolist())
        if hasattr(state, "max_lr"):  # schedule-free
            x = optax.contrib.schedule_free_eval_params(state, p)
            found.setdefault("eval", []).append(np.asarray(x).tolist())
    return found


def run_lookahead(make: Callable[[], Any], problem_name: str) -> Sequences:
    """Return the fast and the slow parameter after every step."""
    start, gradients = problem(problem_name)
    opt, p = make(), optax.LookaheadParams.init_synced(jnp.asarray(start))
    state = opt.init(p)
    found: Sequences = {"params": [], "slow": []}
    for g in gradients:
        updates, state = opt.update(jnp.asarray(g), state, p)
        p = optax.apply_updates(p, updates)
        found["params"].append(np.asarray(p.fast).tolist())
        found["slow"].append(np.asarray(p.slow).tolist())
    return found


def exact_adafactor(learning_rate: float, min_dim_size_to_factor: int) -> Any:
    """Return optax's adafactor with its decay rate in float64, from its parts."""
    return optax.chain(
        optax.scale_by_factored_rms(
            min_dim_size_to_factor=min_dim_size_to_factor,
            decay_rate_fn=lambda i, exponent: 1 - jnp.asarray(i + 1.0, jnp.float64) ** -exponent,
        ),
        optax.clip_by_block_rms(1.0),
        optax.scale_by_learning_rate(learning_rate, flip_sign=False),
        optax.scale_by_param_block_rms(),
        optax.scale(-1.0),
    )


def optax_cases() -> list[Kwargs]:
    """Return optax's cases."""
    cases: list[Kwargs] = []

    def add(
        class_: str,
        kwargs: Kwargs,
        problem: str = "vector",
        name: str = "",
        make: Callable[[], Any] | None = None,
        run: Callable[..., Sequences] = run_optax,
        rtol: float = EXACT,
    ) -> None:
        function = optax.contrib if class_.startswith("contrib.") else optax
        if make is None:
            make = lambda: getattr(function, class_.removeprefix("contrib."))(**kwargs)  # noqa: E731
        cases.append(case("optax", class_, kwargs, problem, name, rtol) | run(make, problem))

    for kwargs in ({}, {"momentum": 0.9}, {"momentum": 0.9, "nesterov": True}):
        add("sgd", LR | kwargs)
    add("adagrad", LR)
    add("adagrad", LR | {"initial_accumulator_value": 0.0, "eps": 1e-3})
    rmsprop: list[Kwargs] = [
        {},
        {"centered": True},
        {"momentum": 0.9},
        {"momentum": 0.9, "nesterov": True},
        {"centered": True, "momentum": 0.9},
        {"initial_scale": 1.0},
        {"eps_in_sqrt": False},
        {"eps_in_sqrt": False, "centered": True},
        {"bias_correction": True},  # centered too, the first step divides by rounding errors
    ]
    for kwargs in rmsprop:
        add("rmsprop", LR | kwargs)
    add("adadelta", {"learning_rate": 1.0})
    add("adadelta", LR | {"weight_decay": 0.1})
    for kwargs in ({}, {"eps_root": 1e-3}, {"nesterov": True}):
        add("adam", LR | kwargs)
    add("nadam", LR)
    for kwargs in ({}, {"weight_decay": 0.1}, {"weight_decay": 0.1, "nesterov": True}):
        add("adamw", LR | kwargs)
    for kwargs in ({}, {"bias_correction_nu": False}, {"eps_root": 1e-3}):
        add("amsgrad", LR | kwargs)
    add("adamax", LR)
    for kwargs in ({}, {"weight_decay": 0.1}):
        add("adamaxw", LR | kwargs)
    # rho_t passes the default threshold, 5, at step 6, and 4 at step 5.
    for kwargs in ({}, {"threshold": 4.0}, {"b2": 0.9}, {"nesterov": True}, {"eps_root": 1e-3}):
        add("radam", LR | kwargs)
    for kwargs in ({}, {"eps": 1e-3, "eps_root": 1e-3}, {"nesterov": True}):
        add("adabelief", LR | kwargs)
    for kwargs in ({}, {"weight_decay": 0.1}, {"weight_decay": 0.0}):
        add("lion", LR | kwargs)
    for shape in ("vector", "wide"):
        for kwargs in ({}, {"weight_decay": 0.1}, {"weight_decay": 0.1, "eps_root": 1e-3}):
            add("lamb", LR | kwargs, shape)
        lars: list[Kwargs] = [
            {},
            {"weight_decay": 0.1},
            {"weight_decay": 0.1, "nesterov": True},
            {"weight_decay": 0.1, "trust_coefficient": 0.5, "eps": 1e-3},
        ]
        for kwargs in lars:
            add("lars", LR | kwargs, shape)
    add("adam", LR, "wide")
    add("sign_sgd", LR)
    add("signum", LR)
    add("rprop", LR)
    add("rprop", LR | {"min_step_size": 0.01, "max_step_size": 0.13})

    f32 = 1e-6
    for shape in ("vector", "wide"):
        add("adafactor", {}, shape, rtol=f32)
        add("adafactor", LR, shape, rtol=f32)
    for shape in ROWS_AND_COLUMNS:
        factored = LR | {"min_dim_size_to_factor": 1}
        add("adafactor", factored, shape, rtol=f32)
        add(
            "adafactor",
            factored,
            shape,
            "in float64",
            lambda kwargs=factored: exact_adafactor(**kwargs),
        )
        adafactor: list[Kwargs] = [
            {"multiply_by_parameter_scale": False},
            {"clipping_threshold": None},
            {"weight_decay_rate": 0.1},
        ]
        for kwargs in adafactor:
            add("adafactor", factored | kwargs, shape, rtol=f32)
        kwargs = factored | {"momentum": 0.9}
        make = lambda kwargs=kwargs: optax.adafactor(**kwargs, dtype_momentum=jnp.float64)  # noqa: E731
        add("adafactor", kwargs, shape, "its momentum in float64", make, rtol=f32)

    for kwargs in ({}, LR, LR | {"weight_decay": 0.1}, LR | {"b1": 0.5}):
        add("contrib.schedule_free_sgd", kwargs)
        add("contrib.schedule_free_adamw", kwargs)
    warm = LR | {"warmup_steps": 3}
    for kwargs in (warm, warm | {"weight_lr_power": 1.0}):
        add("contrib.schedule_free_sgd", kwargs, rtol=f32)
        add("contrib.schedule_free_adamw", kwargs, rtol=f32)
    add("contrib.schedule_free_adamw", LR | {"weight_decay": 0.1}, "wide")

    muon: list[Kwargs] = [
        {},
        {"nesterov": False},
        {"weight_decay": 0.1},
        {"consistent_rms": 0.2},
        {"adaptive": True},
        {"beta": 0.5, "ns_steps": 3, "eps": 1e-3},
    ]
    for shape in ROWS_AND_COLUMNS:
        for kwargs in muon:
            add("contrib.muon", LR | kwargs, shape)

    kwargs = LR | {"rho": 0.05, "sync_period": 2}
    make = lambda: optax.contrib.sam(  # noqa: E731
        optax.sgd(0.1), optax.chain(optax.contrib.normalize(), optax.sgd(0.05)), sync_period=2
    )
    add("contrib.sam > sgd", kwargs, "nonzero", make=make)
    kwargs = LR | {"sync_period": 3, "slow_step_size": 0.5}
    make = lambda: optax.lookahead(optax.sgd(0.1), 3, 0.5)  # noqa: E731
    add("lookahead > sgd", kwargs, make=make, run=run_lookahead)

    first: list[tuple[str, Kwargs]] = [
        ("normalize_by_update_norm", {}),
        ("normalize_by_update_norm", {"scale_factor": 2.0}),
        ("clip", {"max_delta": 1.0}),
        ("clip_by_global_norm", {"max_norm": 1.0}),
    ]
    for function, kwargs in first:
        make = lambda f=function, k=kwargs: optax.chain(  # noqa: E731
            getattr(optax, f)(**k), optax.sgd(0.1)
        )
        add(f"{function} > sgd", LR | kwargs, make=make)

    for shape in ("dead", "stack"):
        make = lambda: exact_adafactor(0.1, 1)  # noqa: E731
        add("adafactor", LR | {"min_dim_size_to_factor": 1}, shape, "in float64", make)
    add("contrib.muon", LR, "dead")
    return cases


# keras


def run_keras(class_: str, kwargs: Kwargs, problem_name: str) -> Sequences:
    """Return the parameter after every step."""
    start, gradients = problem(problem_name)
    opt = getattr(keras.optimizers, class_)(**kwargs)
    p = keras.Variable(start, dtype="float64")
    opt.build([p])
    params = []
    for g in gradients:
        opt.apply([jnp.asarray(g)])
        params.append(np.asarray(p.value).tolist())
    return {"params": params}


def exact(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return jax's function as keras's: keras's own computes in float32."""
    return lambda x, **kwargs: function(jnp.asarray(getattr(x, "value", x)), **kwargs)


def keras_cases() -> list[Kwargs]:
    """Return keras's cases."""
    cases: list[Kwargs] = []

    def add(class_: str, kwargs: Kwargs, problem: str = "vector") -> None:
        if class_ not in ("Adafactor", "Muon"):
            found = run_keras(class_, kwargs, problem)
            cases.append(case("keras", class_, kwargs, problem) | found)
            return
        found = run_keras(class_, kwargs, problem)
        cases.append(case("keras", class_, kwargs, problem, rtol=1e-6) | found)
        with mock.patch.multiple(keras.src.ops, mean=exact(jnp.mean), norm=exact(jnp.linalg.norm)):
            found = run_keras(class_, kwargs, problem)
        cases.append(case("keras", class_, kwargs, problem, "in float64") | found)

    for class_ in ("SGD", "Adagrad", "RMSprop", "Adadelta", "Adam", "AdamW", "Adamax", "Nadam"):
        add(class_, {})
        add(class_, LR)
    for class_ in ("Lion", "Ftrl", "Lamb", "Adafactor", "ScheduleFreeAdamW"):
        add(class_, {})
        add(class_, LR)
    more: list[tuple[str, Kwargs]] = [
        ("SGD", {"momentum": 0.9}),
        ("SGD", {"momentum": 0.9, "nesterov": True}),
        ("SGD", {"weight_decay": 0.1}),
        ("SGD", {"clipnorm": 1.0}),
        ("SGD", {"global_clipnorm": 1.0}),
        ("SGD", {"clipvalue": 1.0}),
        ("RMSprop", {"centered": True}),
        ("RMSprop", {"momentum": 0.9}),
        ("RMSprop", {"centered": True, "momentum": 0.9}),
        ("Adam", {"amsgrad": True}),
        ("Adam", {"weight_decay": 0.1}),
        ("AdamW", {"weight_decay": 0.1}),
        ("Nadam", {"weight_decay": 0.1}),
        ("Lion", {"weight_decay": 0.1}),
        ("Ftrl", {"l1_regularization_strength": 0.01, "l2_regularization_strength": 0.02}),
        ("Ftrl", {"l2_shrinkage_regularization_strength": 0.02}),
        ("Ftrl", {"beta": 0.5}),
        ("Ftrl", {"learning_rate_power": -0.3, "l1_regularization_strength": 0.01}),
        ("Lamb", {"weight_decay": 0.1}),
        ("Adafactor", {"relative_step": False}),
        ("ScheduleFreeAdamW", {"weight_decay": 0.1}),
        ("ScheduleFreeAdamW", {"warmup_steps": 3, "beta_1": 0.5}),
    ]
    for class_, kwargs in more:
        add(class_, LR | kwargs)
    for class_ in ("Adam", "Lamb"):
        add(class_, LR, "wide")
    for shape in ROWS_AND_COLUMNS:
        for kwargs in ({}, LR, LR | {"weight_decay": 0.1}, LR | {"clip_threshold": 0.5}):
            add("Adafactor", kwargs, shape)
        muon: list[Kwargs] = [
            {},
            LR,
            LR | {"nesterov": False},
            LR | {"rms_rate": None},
            LR | {"weight_decay": 0.1, "momentum": 0.5, "ns_steps": 3},
        ]
        for kwargs in muon:
            add("Muon", kwargs, shape)
    for shape in ("dead", "stack"):
        add("Adafactor", LR, shape)
    add("Muon", LR, "dead")
    return cases


# torch


def run_torch(class_: str, kwargs: Kwargs, problem_name: str) -> Sequences:
    """Return the parameter after every step."""
    start, gradients = problem(problem_name)
    p = torch.nn.Parameter(torch.tensor(start))
    one_by_one = {} if class_ == "Muon" else {"foreach": False}
    opt = getattr(torch.optim, class_)([p], **kwargs, **one_by_one)
    found: Sequences = {"params": []}
    for g in gradients:
        p.grad = torch.tensor(g)
        opt.step()
        found["params"].append(p.tolist())
        if class_ == "ASGD":
            found.setdefault("average", []).append(opt.state[p]["ax"].tolist())
    return found


def torch_cases() -> list[Kwargs]:
    """Return torch's cases."""
    cases: list[Kwargs] = []

    def add(
        class_: str, kwargs: Kwargs, problem: str = "vector", name: str = "", rtol: float = EXACT
    ) -> None:
        found = run_torch(class_, kwargs, problem)
        cases.append(case("torch", class_, kwargs, problem, name, rtol) | found)

    lr = {"lr": 0.1}
    more: list[tuple[str, Kwargs]] = [
        ("ASGD", {}),
        ("ASGD", {"t0": 0}),
        ("ASGD", {"t0": 3, "lambd": 0.1, "alpha": 0.5, "weight_decay": 0.1}),
        ("RMSprop", {}),
        ("RMSprop", {"centered": True}),
        ("RMSprop", {"momentum": 0.9}),
        ("RMSprop", {"centered": True, "momentum": 0.9}),
        ("RMSprop", {"centered": True, "momentum": 0.9, "weight_decay": 0.1}),
        ("Rprop", {}),
        ("Rprop", {"step_sizes": (0.01, 0.13)}),
        ("Adafactor", {"weight_decay": 0.1}),
    ]
    for class_ in ("ASGD", "RMSprop", "Rprop", "Adafactor"):
        add(class_, {})
    for class_, kwargs in more:
        add(class_, lr | kwargs)
    for shape in ROWS_AND_COLUMNS:
        for kwargs in ({}, lr, lr | {"weight_decay": 0.1}, lr | {"eps": (1e-3, 0.5), "d": 1.5}):
            add("Adafactor", kwargs, shape)
        muon: list[Kwargs] = [
            {},
            lr,
            lr | {"nesterov": False},
            lr | {"adjust_lr_fn": "match_rms_adamw"},
            lr | {"weight_decay": 0.0, "momentum": 0.5, "ns_steps": 3},
        ]
        for kwargs in muon:
            add("Muon", kwargs, shape, rtol=BFLOAT16)
            with mock.patch.object(torch.Tensor, "bfloat16", torch.Tensor.clone):
                add("Muon", kwargs, shape, "in float64")
    for shape in ("dead", "stack"):
        add("Adafactor", lr, shape)
    add("Adafactor", lr | {"maximize": True, "weight_decay": 0.1}, "wide")
    with mock.patch.object(torch.Tensor, "bfloat16", torch.Tensor.clone):
        add("Muon", lr, "dead", "in float64")
    return cases


# What all share


def case(
    library: str, class_: str, kwargs: Kwargs, problem: str, name: str = "", rtol: float = EXACT
) -> Kwargs:
    """Return a case's head."""
    named = ", ".join([class_] + [f"{k}={v}" for k, v in kwargs.items()] + [name] * bool(name))
    return {
        "library": library,
        "name": named,
        "class": class_,
        "kwargs": kwargs,
        "problem": problem,
        "rtol": rtol,
    }


def plain(value: Any) -> Any:
    """Return what JSON can hold."""
    if value is inspect.Parameter.empty:
        return "<required>"
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple) and not hasattr(value, "_fields"):
        return [plain(v) for v in value]
    return getattr(value, "__name__", type(value).__name__)


def defaults_of(function: Callable[..., Any]) -> Kwargs:
    """Return every argument's default."""
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    signature = inspect.signature(function)
    return {n: plain(p.default) for n, p in signature.parameters.items() if p.kind not in kinds}


def defaults() -> dict[str, dict[str, Kwargs]]:
    """Return every default, by library and class."""
    found: dict[str, dict[str, Kwargs]] = {"optax": {}, "keras": {}, "torch": {}}
    also = (
        "adaptive_grad_clip clip clip_by_block_rms clip_by_global_norm ema lookahead "
        "normalize_by_update_norm trace"
    ).split()
    for name in sorted(vars(optax)):
        function = getattr(optax, name)
        original = getattr(function, "func", function)  # nadam is partial(adam, nesterov=True)
        if not inspect.isfunction(original):
            continue
        if original.__module__.endswith(".alias") or name in also:
            found["optax"][name] = defaults_of(function)
    for name in sorted(vars(optax.contrib)):
        function = getattr(optax.contrib, name)
        if inspect.isfunction(function) and function.__module__.startswith("optax.contrib"):
            found["optax"][f"contrib.{name}"] = defaults_of(function)
    for name in sorted(vars(keras.optimizers)):
        class_ = getattr(keras.optimizers, name)
        base = keras.optimizers.Optimizer
        if inspect.isclass(class_) and issubclass(class_, base) and class_ is not base:
            found["keras"][name] = defaults_of(class_)
    for name in sorted(vars(torch.optim)):
        class_ = getattr(torch.optim, name)
        base = torch.optim.Optimizer
        if inspect.isclass(class_) and issubclass(class_, base) and class_ is not base:
            found["torch"][name] = defaults_of(class_)
    return found


def dumps(value: Any) -> str:
    """Return JSON on one line."""
    return json.dumps(value, allow_nan=False, ensure_ascii=False)


def one_a_line(value: dict[str, Any] | list[Any], indent: int) -> str:
    """Return JSON with one item a line."""
    margin = " " * indent
    if isinstance(value, list):
        return "[\n" + ",\n".join(margin + " " + dumps(v) for v in value) + f"\n{margin}]"
    lines = [f"{margin} {dumps(k)}: {dumps(v)}" for k, v in value.items()]
    return "{\n" + ",\n".join(lines) + f"\n{margin}}}"


def main() -> None:
    """Write the file."""
    keras.backend.set_floatx("float64")
    torch.set_default_dtype(torch.float64)
    versions = {m.__name__: m.__version__ for m in (optax, jax, keras, torch)}
    cases = optax_cases() + keras_cases() + torch_cases()
    parts = {
        "note": dumps(NOTE),
        "versions": dumps(versions),
        "problems": one_a_line(PROBLEMS, 1),
        "cases": one_a_line(cases, 1),
        "defaults": "{\n"
        + ",\n".join(f"  {dumps(k)}: {one_a_line(v, 2)}" for k, v in defaults().items())
        + "\n }",
    }
    text = "{\n" + ",\n".join(f" {dumps(k)}: {v}" for k, v in parts.items()) + "\n}\n"
    json.loads(text)
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("peers.json")
    out.write_text(text)
    print(f"{out}: {len(cases)} cases")


if __name__ == "__main__":
    main()
