"""Micro-benchmarks of whole calls, for pytest-benchmark: what a user's step costs, in microseconds.

    python -m pytest bench/test_micro.py --benchmark-json=bench/results/micro.json

Beside the rules at three sizes: the form of the call, arenas, many tensors, clipping, averages, and
checkpoints. One thread where nothing else is said.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastopt

pytest.importorskip("pytest_benchmark")

LR = 1e-9
RULES: dict[str, dict[str, Any]] = {
    "SGD": {},
    "SGD momentum": {"momentum": 0.9},
    "Adagrad": {},
    "RMSprop": {},
    "Lion": {},
    "Adam": {},
    "AdamW": {},
    "LAMB": {},
}
MANY, EACH = 500, 1000


def optimizer(rule: str, params: Any, **more: Any) -> fastopt.Optimizer:
    """Return an optimizer on one thread."""
    cls = getattr(fastopt, rule.split()[0])
    return cls(params, **{"lr": LR, "threads": 1, **RULES[rule], **more})


def pair(shape: int | tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return a parameter and its gradient."""
    return np.full(shape, 0.5, np.float32), np.full(shape, 0.25, np.float32)


@pytest.mark.parametrize("rule", ["SGD", "Adam"])
@pytest.mark.parametrize("form", ["bound", "step(g)", "step({name: g})"])
def test_10_elements(benchmark: Any, rule: str, form: str) -> None:
    w, g = pair(10)
    opt = optimizer(rule, {"w": w} if "name" in form else w)
    if form == "bound":
        opt.bind(g)
        benchmark(opt.step)
    else:
        benchmark(opt.step, {"w": g} if "name" in form else g)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("n", [10_000, 1_000_000])
def test_one_array(benchmark: Any, rule: str, n: int) -> None:
    w, g = pair((n // 100, 100))
    opt = optimizer(rule, w)
    opt.bind(g)
    benchmark(opt.step)


@pytest.mark.parametrize("rule", ["SGD", "Adam", "LAMB"])
@pytest.mark.parametrize("form", ["bound", "step(list)"])
def test_500_tensors_of_1000(benchmark: Any, rule: str, form: str) -> None:
    params, grads = zip(*(pair(EACH) for _ in range(MANY)), strict=True)
    opt = optimizer(rule, list(params))
    if form == "bound":
        opt.bind(list(grads))
        benchmark(opt.step)
    else:
        benchmark(opt.step, list(grads))


def test_500_tensors_of_1000_in_an_arena(benchmark: Any) -> None:
    shapes = {str(k): (EACH,) for k in range(MANY)}
    params, grads = fastopt.Arena(shapes, dtype="float32"), fastopt.Arena(shapes, dtype="float32")
    opt = optimizer("Adam", params.flat)
    opt.bind(grads.flat)
    benchmark(opt.step)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"clip_norm": 1.0},
        {"clip_value": 0.1},
        {"ema": 0.999},
        {"nonfinite": "skip"},
        {"zero_grad": True},
        {"max_norm": 1e3},
        {"state_dtype": "bfloat16"},
        {"state_dtype": "8bit"},
    ],
    ids=lambda options: " ".join(f"{k}={v}" for k, v in options.items()) or "plain",
)
def test_adam_on_a_million_with(benchmark: Any, options: dict[str, Any]) -> None:
    w, g = pair((10_000, 100))
    opt = optimizer("Adam", w, **options)
    opt.bind(g)
    benchmark(opt.step)


def test_a_scheduled_rate(benchmark: Any) -> None:
    w, g = pair(10)
    opt = optimizer("Adam", w, lr=fastopt.schedules.cosine(LR, 10**9, warmup=500))
    opt.bind(g)
    benchmark(opt.step)


def test_construction_of_500_tensors(benchmark: Any) -> None:
    params = [pair(EACH)[0] for _ in range(MANY)]
    benchmark(optimizer, "Adam", params)


def test_save_adam_of_a_million(benchmark: Any, tmp_path: Path) -> None:
    opt = optimizer("Adam", pair(1_000_000)[0])
    benchmark(opt.save, tmp_path / "adam.npz")


def test_load_adam_of_a_million(benchmark: Any, tmp_path: Path) -> None:
    opt = optimizer("Adam", pair(1_000_000)[0])
    opt.save(tmp_path / "adam.npz")
    benchmark(opt.load, tmp_path / "adam.npz")


def test_state_dict_of_a_million(benchmark: Any) -> None:
    opt = optimizer("Adam", pair(1_000_000)[0])
    benchmark(opt.state_dict)
