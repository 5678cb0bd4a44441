"""Offloaded training: bfloat16 gradients in, float32 originals and averages here, bfloat16 out.

Milliseconds of one AdamW step of bfloat16 parameters, from gradients that are complete to
parameters that are written, and how many times as long it takes when a float32 optimizer is
wrapped in copies, as offloading usually is: gradients are widened into those of float32 originals,
torch's fused AdamW or DeepSpeedCPUAdam steps these, and parameters are copied back. `8-bit` is our
step with averages in 8 bits.

On a machine with a GPU parameters and gradients are there, copies are part of the step, and
torchao's CPUOffloadOptimizer takes part where it is installed; else all are in memory. All start
from the same parameters and must have the same ones after two steps, to a bfloat16's unit.

    python -m bench.bench_offload [--seconds 3.0] [--models "GPT-2 small"] [--quick]
"""

from __future__ import annotations

import argparse
import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import fastopt.torch
from bench import shapes
from bench.harness import confined, in_processes, record, show, take_turns

LR, DECAY = 1e-3, 0.01
MODELS = {
    "10 small": [(10, 10), (10,)] * 5,
    "ResNet-50": shapes.resnet50(),
    "GPT-2 small": shapes.gpt2(),
}
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def parameters(model: str, grads: list[torch.Tensor]) -> list[torch.nn.Parameter]:
    """Return the same bfloat16 parameters each time, with the gradients that all share."""
    make = torch.Generator().manual_seed(0)
    params = [
        torch.nn.Parameter((0.01 * torch.randn(s, generator=make)).to(DEVICE, torch.bfloat16))
        for s in MODELS[model]
    ]
    for p, g in zip(params, grads, strict=True):
        p.grad = g
    return params


def wrapped(build: Callable[[Any], Any], params: list[Any]) -> Callable[[], None]:
    """Return a step of a float32 optimizer on originals of these parameters."""
    exact = [torch.nn.Parameter(p.detach().float().cpu()) for p in params]
    for q in exact:
        q.grad = torch.zeros_like(q)
    opt = build(exact)

    @torch.no_grad()
    def step() -> None:
        for p, q in zip(params, exact, strict=True):
            q.grad.copy_(p.grad)
        opt.step()
        for p, q in zip(params, exact, strict=True):
            p.copy_(q)

    return step


def contenders(params: Callable[[], list[Any]]) -> dict[str, tuple[list[Any], Callable[[], Any]]]:
    """Return name -> (parameters, step)."""
    made: dict[str, tuple[list[Any], Callable[[], Any]]] = {}
    options = {"lr": LR, "weight_decay": DECAY}

    def add(name: str, build: Callable[[list[Any]], Callable[[], Any]]) -> None:
        own = params()
        made[name] = own, build(own)

    offload = functools.partial(fastopt.torch.Offload, optimizer_class=fastopt.torch.AdamW)
    add("fastopt", lambda p: offload(p, **options).step)
    add("fastopt, 8-bit", lambda p: offload(p, state_dtype="8bit", **options).step)
    fused = functools.partial(torch.optim.AdamW, fused=True, **options)
    add("torch fused", lambda p: wrapped(fused, p))
    try:
        from bench.peers.deepspeed import DeepSpeedCPUAdam
    except ImportError:
        pass
    else:
        add("deepspeed", lambda p: wrapped(functools.partial(DeepSpeedCPUAdam, **options), p))
    if DEVICE == "cuda":
        try:
            from torchao.optim import CPUOffloadOptimizer
        except ImportError:
            pass
        else:
            add("torchao", lambda p: CPUOffloadOptimizer(p, torch.optim.AdamW, fused=True,
                                                         **options).step)  # fmt: skip
    return made


def measure(model: str, threads: int, seconds: float) -> dict[str, Any]:
    """Return a row."""
    make = torch.Generator().manual_seed(1)
    grads = [torch.randn(s, generator=make).to(DEVICE, torch.bfloat16) for s in MODELS[model]]
    made = contenders(lambda: parameters(model, grads))
    ours, differs = None, []
    for name, (params, step) in made.items():
        step()
        step()
        if ours is None:
            ours = [p.detach().clone() for p in params]
        gap = max(float((p - q).abs().max()) for p, q in zip(params, ours, strict=True))
        if not gap <= 2**-8 * 0.06 and "8-bit" not in name:  # the unit of what they are
            differs.append(f"{name} ({gap:.0e})")
    wait = torch.cuda.synchronize if DEVICE == "cuda" else lambda: None
    calls = {name: lambda step=step: (step(), wait()) for name, (_, step) in made.items()}
    taken = take_turns(calls, seconds, rounds=7, pause=0.002, warm=True)
    mine = taken["fastopt"][0]
    row = {"model": model, "device": DEVICE, "threads": threads, "ms": 1e3 * mine}
    for name in ("fastopt, 8-bit", "torch fused", "deepspeed", "torchao"):
        row[name] = taken[name][0] / mine if name in taken else None
    return row | {"differs": ", ".join(differs) or None}


def child(options: argparse.Namespace) -> None:
    """Measure with the processors that this process has left, and write the rows to a file."""
    confined(options.threads)
    torch.set_num_threads(options.threads)
    models = options.models.split(",")
    rows = [measure(model, options.threads, options.seconds) for model in models]
    Path(options.child).write_text(json.dumps(rows))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=3.0, help="per row")
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--quick", action="store_true", help="the small model, in a hurry")
    parser.add_argument("--threads", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.quick:
        options.models, options.seconds = "10 small", 0.1
    if options.child:
        child(options)
        return
    rows = in_processes(
        "bench_offload", "--seconds", str(options.seconds), "--models", options.models
    )
    show(rows, "an AdamW step of bfloat16 parameters: ours, and how long the others take")
    record("offload" + "-quick" * options.quick, rows)


if __name__ == "__main__":
    main()
