"""Steps on chosen rows of an embedding: ns per element touched, against torch's sparse optimizers.

Each step gets other rows, drawn at random with repetition, with one gradient each. torch gets the
same as an uncoalesced sparse tensor, made outside the time.

    python -m bench.bench_rows [--seconds 2.0] [--rows 2000000]
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

import fastopt
from bench.harness import record, show, take_turns

try:
    import torch
except ImportError:
    torch = None

RULES: dict[str, tuple[Any, str]] = {
    "SGD": (fastopt.SGD, "SGD"),
    "Adagrad": (fastopt.Adagrad, "Adagrad"),
    "Adam": (fastopt.Adam, "SparseAdam"),
}


def ours(rule: str, shape: tuple[int, ...], batches: list[Any], threads: int) -> Callable[[], Any]:
    """Return a call that takes the next step."""
    opt = RULES[rule][0](np.zeros(shape, "f4"), lr=1e-3, lazy="row", threads=threads)
    turn = itertools.cycle(batches)
    return lambda: opt.step(next(turn))


def theirs(
    rule: str, shape: tuple[int, ...], batches: list[Any], threads: int
) -> Callable[[], Any]:
    """Return the same of torch."""
    parameter = torch.nn.Parameter(torch.zeros(shape))
    opt = getattr(torch.optim, RULES[rule][1])([parameter], lr=1e-3)
    sparse = [
        torch.sparse_coo_tensor(rows[None], torch.from_numpy(values), shape)
        for rows, values in batches
    ]
    turn = itertools.cycle(sparse)

    def step() -> None:
        torch.set_num_threads(threads)
        parameter.grad = next(turn)
        opt.step()

    return step


def measure(total: int, seconds: float) -> list[dict[str, object]]:
    """Return one row per rule, width and thread count."""
    r = np.random.default_rng(0)
    table = []
    for width, threads, rule in itertools.product((16, 128), (1, 2), RULES):
        count, shape = 160_000 // width, (total, width)
        batches = [
            (r.integers(0, total, count), r.normal(size=(count, width)).astype("f4"))
            for _ in range(20)
        ]
        calls = {"fastopt": ours(rule, shape, batches, threads)}
        if torch is not None:
            calls["torch"] = theirs(rule, shape, batches, threads)
        for call in calls.values():  # the memory of fresh zeros comes with the first write
            for _ in batches:
                call()
        times = {name: t[0] for name, t in take_turns(calls, seconds).items()}
        row: dict[str, object] = {
            "rule": rule,
            "embedding": f"{total:,} x {width}",
            "rows a step": count,
            "threads": threads,
            "ns/element": times["fastopt"] / (count * width) * 1e9,
        }
        if torch is not None:
            row["times torch's speed"] = times["torch"] / times["fastopt"]
        table.append(row)
    return table


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0, help="per row of the table")
    parser.add_argument("--rows", type=int, default=2_000_000, help="of the embedding")
    arguments = parser.parse_args()
    results = measure(arguments.rows, arguments.seconds)
    show(results, "Steps on chosen rows of an embedding, float32")
    record("rows", results)
