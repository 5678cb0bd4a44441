"""A whole step as users call it, against torch: one tiny parameter, ResNet-50, GPT-2-small, flat.

The models are their parameters' shapes with random values (161 and 148 tensors). torch runs in its
three modes (for-loop default, foreach, fused) on the same number of threads, in turn with ours in
one process. `flat` is ours on one buffer of the model's size; `limit` the copy-shaped limit on it.

    python -m bench.bench_step [--seconds 3.0] [--rules Adam,SGD]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from math import nan
from typing import Any

import numpy as np

import fastopt
from bench.harness import Limit, record, show, take_turns

try:
    import torch
except ImportError:
    torch = None
    print("torch is not installed: its rows are missing (a CPU build does: pip install torch)")

Shapes = list[tuple[int, ...]]


def resnet50() -> Shapes:
    """Return the shapes of ResNet-50's 161 parameters."""
    shapes: Shapes = [(64, 3, 7, 7), (64,), (64,)]
    channels = 64
    for width, blocks in (64, 3), (128, 4), (256, 6), (512, 3):
        for block in range(blocks):
            for shape in (width, channels, 1, 1), (width, width, 3, 3), (4 * width, width, 1, 1):
                shapes += [shape, shape[:1], shape[:1]]
            if block == 0:
                shapes += [(4 * width, channels, 1, 1), (4 * width,), (4 * width,)]
            channels = 4 * width
    return [*shapes, (1000, 2048), (1000,)]


def gpt2() -> Shapes:
    """Return the shapes of GPT-2-small's 148 parameters."""
    d = 768
    layer: Shapes = [
        (d,),
        (d,),
        (d, 3 * d),
        (3 * d,),
        (d, d),
        (d,),
        (d,),
        (d,),
        (d, 4 * d),
        (4 * d,),
        (4 * d, d),
        (d,),
    ]
    return [(50257, d), (1024, d), *(layer * 12), (d,), (d,)]


MODELS: dict[str, Shapes] = {"one tiny": [(3,)], "ResNet-50": resnet50(), "GPT-2-small": gpt2()}
OPTIONS: dict[str, dict[str, Any]] = {
    "SGD": {},
    "SGD momentum": {"momentum": 0.9},
    "Adagrad": {},
    "RMSprop": {},
    "Adam": {},
    "AdamW": {},
}
MODES = "default", "foreach", "fused"
FUSED = {"SGD", "SGD momentum", "Adagrad", "Adam", "AdamW"}


def ours(name: str, shapes: Shapes, threads: int) -> Callable[[], Any]:
    """Return our bound step on parameters of `shapes`."""
    rng = np.random.default_rng(0)
    params = [rng.standard_normal(s, dtype=np.float32) for s in shapes]
    grads = [rng.standard_normal(s, dtype=np.float32) for s in shapes]
    opt = getattr(fastopt, name.split()[0])(params, lr=1e-6, threads=threads, **OPTIONS[name])
    opt.bind(grads)
    return opt.step


def theirs(name: str, shapes: Shapes, mode: str) -> Callable[[], Any]:
    """Return torch's step in one of its modes."""
    params = [torch.nn.Parameter(torch.randn(s)) for s in shapes]
    for p in params:
        p.grad = torch.randn(p.shape)
    flags = {"default": {"foreach": False}, "foreach": {"foreach": True}, "fused": {"fused": True}}
    opt = getattr(torch.optim, name.split()[0])(params, lr=1e-6, **OPTIONS[name], **flags[mode])
    return opt.step


def measure(name: str, model: str, threads: int, seconds: float, limit: Limit) -> dict[str, Any]:
    """Return one row: microseconds of each contender, and ratios."""
    if torch:
        torch.set_num_threads(threads)
    shapes = MODELS[model]
    size = sum(int(np.prod(s)) for s in shapes)
    contenders = {"fastopt": ours(name, shapes, threads)}
    if model != "one tiny":
        contenders["flat"] = ours(name, [(size,)], threads)
        states = 2 if "Adam" in name else 0 if name == "SGD" else 1
        w, g, *more = (np.ones(size, np.float32) for _ in range(2 + states))
        contenders["limit"] = limit(w, g, more, threads)
    for mode in MODES if torch else ():
        if mode != "fused" or name in FUSED:
            contenders[mode] = theirs(name, shapes, mode)
    times = {k: t[0] * 1e6 for k, t in take_turns(contenders, seconds).items()}
    best = min((t for k, t in times.items() if k in MODES), default=nan)
    row: dict[str, Any] = {"model": model, "optimizer": name, "threads": threads}
    for k in "fastopt", "flat", "limit", "default", "foreach", "fused":
        row[f"{k} us"] = times.get(k, nan)
    row["/limit"] = times["fastopt"] / times.get("limit", nan)
    row["/flat"] = times["fastopt"] / times.get("flat", nan)
    row["torch best/ours"] = best / times["fastopt"]
    row["torch default/ours"] = times.get("default", nan) / times["fastopt"]
    return row


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0, help="per row")
    parser.add_argument("--rules", default=",".join(OPTIONS))
    parser.add_argument("--models", default=",".join(MODELS))
    args = parser.parse_args()
    limit = Limit()
    table = [
        measure(name, model, threads, args.seconds, limit)
        for model in args.models.split(",")
        for name in args.rules.split(",")
        for threads in ((1,) if model == "one tiny" else (1, 2))
    ]
    show(table, "One step, microseconds")
    record("step", table)
