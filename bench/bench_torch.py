"""An optimizer's step in PyTorch: fastopt.torch beside torch.optim and DeepSpeed.

One row for each rule, model and number of threads: milliseconds of our `opt.step()`, and how many
times as long the others take. All have parameters of their own and the same gradients, and must
have the same parameters after two steps, to 1e-4 of what they moved by. Everybody takes turns, in
one process with as many processors as threads.

sparse     one step of a table of 50 million rows of 8 numbers, 10,000 of which have gradients.
LBFGS      an iteration without the closure: 1,000 to 10^7 parameters, 10 pairs.
training   a transformer of two layers on characters: seconds per step in all and in the optimizer,
           and the largest difference of the losses after 60 steps.

    python -m bench.bench_torch [--seconds 2.0] [--models "ResNet-50"] [--rules Adam] [--quick]
"""

from __future__ import annotations

import argparse
import gc
import inspect
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # huge pages, as NumPy has them

import torch

import fastopt.torch
from bench import shapes
from bench.harness import confined, in_processes, record, show, take_turns

RULES: dict[str, dict[str, Any]] = {
    "SGD": {"momentum": 0.9},
    "Adagrad": {},
    "RMSprop": {},
    "Adadelta": {},
    "Rprop": {},
    "Adam": {},
    "AdamW": {},
    "Adamax": {},
    "NAdam": {},
    "RAdam": {},
    "Adafactor": {},
}
MODES = {"default": {"foreach": False}, "foreach": {"foreach": True}, "fused": {"fused": True}}
#: Rules that torch has no fused kernel for are compared on one model.
MAIN = ("SGD", "Adagrad", "Adam", "AdamW")


def vit_b() -> shapes.Shapes:
    """Return the shapes of ViT-B/16's 152 parameters."""
    d = 768
    layer: shapes.Shapes = [(d,), (d,), (3 * d, d), (3 * d,), (d, d), (d,), (d,), (d,)]
    layer += [(4 * d, d), (4 * d,), (d, 4 * d), (d,)]
    ends = [(1, 1, d), (1, 197, d), (d, 3, 16, 16), (d,)], [(d,), (d,), (1000, d), (1000,)]
    return [*ends[0], *(layer * 12), *ends[1]]


MODELS = {
    "10 small": [(10, 10), (10,)] * 5,
    "ResNet-50": shapes.resnet50(),
    "ViT-B": vit_b(),
    "GPT-2 small": shapes.gpt2(),
}


def parameters(model: str, grads: list[torch.Tensor]) -> list[torch.nn.Parameter]:
    """Return the same parameters each time, with the gradients that all share."""
    make = torch.Generator().manual_seed(0)
    params = [torch.nn.Parameter(0.01 * torch.randn(s, generator=make)) for s in MODELS[model]]
    for p, g in zip(params, grads, strict=True):
        p.grad = g
    return params


def contenders(rule: str, model: str, grads: list[torch.Tensor]) -> dict[str, Any]:
    """Return name -> a function that makes the optimizer of parameters."""
    options = {"lr": 1e-4, **RULES[rule]}
    theirs, ours = getattr(torch.optim, rule), getattr(fastopt.torch, rule)
    made: dict[str, Any] = {"fastopt": lambda p: ours(p, **options)}
    for mode, flags in MODES.items():
        if flags.keys() <= inspect.signature(theirs).parameters.keys():
            made[f"torch {mode}"] = lambda p, flags=flags: theirs(p, **options, **flags)
    if rule in ("Adam", "AdamW") and model == "ResNet-50":
        made["torch compiled"] = lambda p: _compiled(theirs(p, **options))
    try:
        from bench.peers import deepspeed
    except ImportError:
        return made
    if rule in deepspeed.RULES and (rule != "Adagrad" or all(g.numel() % 8 == 0 for g in grads)):
        cls, own = deepspeed.RULES[rule]
        made["deepspeed"] = lambda p: cls(p, lr=1e-4, **own)
    return made


class _compiled:
    """torch.compile of a step; its first two steps compile."""

    def __init__(self, opt: torch.optim.Optimizer) -> None:
        self._step = torch.compile(opt.step)
        self._opt = opt

    def step(self) -> None:
        self._step()


def measure(rule: str, model: str, threads: int, seconds: float) -> dict[str, Any]:
    """Return a row."""
    make = torch.Generator().manual_seed(1)
    grads = [torch.randn(s, generator=make) for s in MODELS[model]]
    total = sum(float(g.double().sum()) for g in grads)
    calls: dict[str, Callable[[], Any]] = {}
    keep, ours, differs = [], None, []
    for name, build in contenders(rule, model, grads).items():
        own = name == "deepspeed"  # whose Adagrad writes to them
        params = parameters(model, [g.clone() for g in grads] if own else grads)
        start = [p.detach().clone() for p in params] if name == "fastopt" else None
        opt = build(params)
        opt.step()
        opt.step()
        if ours is None:
            ours, moved = params, max(
                float((p - q).abs().max()) for p, q in zip(params, start, strict=True)
            )  # fmt: skip
            ours = [p.detach().clone() for p in params]
        gap = max(float((p - q).abs().max()) for p, q in zip(params, ours, strict=True))
        if not gap <= 1e-4 * moved + 1e-8:
            differs.append(f"{name} ({gap / moved:.0e})")
        calls[name] = opt.step
        keep.append((params, opt))
    taken = take_turns(calls, seconds, rounds=7, pause=0.002, warm=True)
    if total != sum(float(g.double().sum()) for g in grads):
        raise RuntimeError(f"{rule}: somebody changed the gradients")
    mine = taken["fastopt"][0]
    row = {"model": model, "rule": rule, "threads": threads, "ms": 1e3 * mine}
    for name in ("torch default", "torch foreach", "torch fused", "torch compiled", "deepspeed"):
        row[name] = taken[name][0] / mine if name in taken else None
    return row | {"differs": ", ".join(differs) or None}


def sparse(threads: int, rows: int, seconds: float) -> list[dict[str, Any]]:
    """Return rows for steps of some rows of a large table."""
    found = []
    for rule in ("SGD", "Adagrad", "SparseAdam"):
        taken = {}
        for name, library in (("fastopt", fastopt.torch), ("torch", torch.optim)):
            gc.collect()
            table = torch.nn.Parameter(torch.zeros(rows, 8))
            opt = getattr(library, rule)([table], lr=1e-3)
            make = torch.Generator().manual_seed(0)
            grads = [
                torch.sparse_coo_tensor(
                    torch.randint(rows, (1, 10_000), generator=make),
                    torch.randn(10_000, 8, generator=make),
                    (rows, 8),
                )
                for _ in range(16)
            ]
            times = []
            for k in range(48):
                table.grad = grads[k % 16]
                begin = time.perf_counter()
                opt.step()
                times.append(time.perf_counter() - begin)
            taken[name] = sorted(times[16:])[16]
            del table, opt
        found.append({
            "model": f"{rows:,} rows of 8", "rule": rule, "threads": threads,
            "ms": 1e3 * taken["fastopt"], "torch": taken["torch"] / taken["fastopt"],
        })  # fmt: skip
    return found


def full_batch(threads: int) -> list[dict[str, Any]]:
    """Return rows for steps of LBFGS: the time outside of the closure, per iteration."""
    found = []
    for size in (1000, 100_000, 10_000_000):
        scale = torch.linspace(1, 100, size)
        taken = {}
        for name, library in (("fastopt", fastopt.torch), ("torch", torch.optim)):
            p = torch.nn.Parameter(torch.ones(size))
            opt = library.LBFGS([p], lr=0.5, max_iter=30, max_eval=99, history_size=10,
                                tolerance_grad=0, tolerance_change=0)  # fmt: skip
            inside = [0.0]

            def closure(p=p, scale=scale, inside=inside) -> torch.Tensor:
                begin = time.perf_counter()
                p.grad = scale * torch.sin(p.detach())
                loss = (scale * (1 - torch.cos(p.detach()))).sum()
                inside[0] += time.perf_counter() - begin
                return loss

            opt.step(closure)
            before, inside[0], begin = opt.state[p]["n_iter"], 0.0, time.perf_counter()
            opt.step(closure)
            whole = time.perf_counter() - begin
            taken[name] = (whole - inside[0]) / (opt.state[p]["n_iter"] - before)
        found.append({
            "model": f"{size:,} parameters", "rule": "LBFGS", "threads": threads,
            "ms": 1e3 * taken["fastopt"], "torch": taken["torch"] / taken["fastopt"],
        })  # fmt: skip
    return found


def training(threads: int, steps: int = 60) -> list[dict[str, Any]]:
    """Return rows for training a small transformer with each optimizer."""
    text = torch.tensor([ord(c) % 64 for c in inspect.getsource(argparse)])
    found, curves = [], {}
    for name, build in (
        ("fastopt", lambda p: fastopt.torch.AdamW(p, lr=1e-3)),
        ("torch default", lambda p: torch.optim.AdamW(p, lr=1e-3, foreach=False)),
        ("torch fused", lambda p: torch.optim.AdamW(p, lr=1e-3, fused=True)),
    ):
        torch.manual_seed(0)
        layer = torch.nn.TransformerEncoderLayer(128, 4, 512, dropout=0.0, batch_first=True)
        net = torch.nn.ModuleList(
            [torch.nn.Embedding(64, 128), torch.nn.TransformerEncoder(layer, 2),
             torch.nn.Linear(128, 64)]
        )  # fmt: skip
        opt = build(net.parameters())
        mask = torch.nn.Transformer.generate_square_subsequent_mask(32)
        losses, inside = [], 0.0
        begin = time.perf_counter()
        for _ in range(steps):
            at = torch.randint(len(text) - 33, (8,))
            batch = torch.stack([text[i : i + 33] for i in at])
            scores = net[2](net[1](net[0](batch[:, :-1]), mask=mask, is_causal=True))
            loss = torch.nn.functional.cross_entropy(scores.transpose(1, 2), batch[:, 1:])
            opt.zero_grad()
            loss.backward()
            start = time.perf_counter()
            opt.step()
            inside += time.perf_counter() - start
            losses.append(loss.item())
        whole = time.perf_counter() - begin
        curves[name] = losses
        gap = max(abs(a - b) for a, b in zip(losses, curves["fastopt"], strict=True))
        found.append({
            "training": name, "threads": threads, "ms per step": 1e3 * whole / steps,
            "ms in the optimizer": 1e3 * inside / steps, "last loss": losses[-1],
            "largest difference of losses": gap,
        })  # fmt: skip
    return found


def child(options: argparse.Namespace) -> None:
    """Measure with the processors that this process has left, and write the rows to a file."""
    confined(options.threads)
    torch.set_num_threads(options.threads)
    rows = []
    for model in options.models.split(","):
        for rule in options.rules.split(","):
            if rule in MAIN or model != "GPT-2 small":
                rows.append(measure(rule, model, options.threads, options.seconds))
                print(f"{model}, {rule}, {options.threads}: {rows[-1]['ms']:.3g} ms", flush=True)
    if options.sparse:
        rows += sparse(options.threads, options.sparse, options.seconds)
        rows += full_batch(options.threads)
        rows += training(options.threads)
    Path(options.child).write_text(json.dumps(rows))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=2.0, help="per row")
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--rules", default=",".join(RULES))
    parser.add_argument("--sparse", type=int, default=50_000_000, help="rows of the table; 0: none")
    parser.add_argument("--quick", action="store_true", help="the small model, in a hurry")
    parser.add_argument("--threads", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.quick:
        options.models, options.seconds, options.sparse = "10 small", 0.1, 100_000
    if options.child:
        child(options)
        return
    rows = in_processes(
        "bench_torch", "--seconds", str(options.seconds), "--models", options.models,
        "--rules", options.rules, "--sparse", str(options.sparse),
    )  # fmt: skip
    show([r for r in rows if "torch fused" in r], "opt.step(): ours, and how long the others take")
    show([r for r in rows if "torch" in r], "sparse gradients; LBFGS, an iteration of it")
    show([r for r in rows if "training" in r], "training a transformer")
    record("torch" + "-quick" * options.quick, rows)


if __name__ == "__main__":
    main()
