"""Losses: value and gradient, against torch's forward and backward, NumPy, and memory.

torch computes the same with cross_entropy (or soft_margin_loss) and backward, into the same
gradient each time. NumPy's is the stable formula in as few temporaries as it takes. The limit reads
the scores and writes the gradient, with an addition.

    python -m bench.bench_losses [--seconds 2.0]
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

import fastopt
from bench.harness import record, show, take_turns, thread_counts
from bench.limit import Limit
from fastopt import losses

try:
    import torch
except ImportError:
    torch = None

SHAPES = {
    "softmax": [(1024, 10), (100_000, 10), (1024, 1000), (20_000, 1000), (64, 50_000)],
    "logistic": [(10_000,), (10_000_000,)],
}


def by_numpy(kind: str, scores: np.ndarray, y: np.ndarray) -> Callable[[], Any]:
    """Return a call of the formula."""
    rows = np.arange(len(y))

    def softmax() -> tuple[float, np.ndarray]:
        g = scores - scores.max(axis=1, keepdims=True)
        right = g[rows, y]
        np.exp(g, out=g)
        sums = g.sum(axis=1)
        g /= sums[:, None] * len(y)
        g[rows, y] -= 1 / len(y)
        return float(np.mean(np.log(sums) - right)), g

    def logistic() -> tuple[float, np.ndarray]:
        z = y * scores
        g = np.exp(-np.abs(z))
        value = float(np.mean(np.maximum(-z, 0) + np.log1p(g)))
        return value, np.where(z > 0, g, 1) / (1 + g) * (-y / len(y))

    return softmax if kind == "softmax" else logistic


def by_torch(kind: str, scores: np.ndarray, y: np.ndarray, threads: int) -> Callable[[], Any]:
    """Return a call that does forward and backward."""
    s, t = torch.tensor(scores, requires_grad=True), torch.tensor(y)
    f = torch.nn.functional
    loss = f.cross_entropy if kind == "softmax" else f.soft_margin_loss

    def call() -> None:
        torch.set_num_threads(threads)
        s.grad = None
        loss(s, t).backward()

    return call


def measure(seconds: float) -> list[dict[str, object]]:
    """Return one row per loss, shape, type and thread count."""
    r, limit, table = np.random.default_rng(0), Limit(), []
    for kind, dtype, threads in itertools.product(SHAPES, ("f4", "f8"), thread_counts()):
        for shape in SHAPES[kind]:
            scores = r.normal(size=shape).astype(dtype)
            y = r.integers(0, shape[1], shape[0]) if kind == "softmax" else r.choice([-1, 1], shape)
            y = y if kind == "softmax" else y.astype(dtype)
            ours = losses.softmax_cross_entropy if kind == "softmax" else losses.logistic
            out = np.empty_like(scores)
            calls: dict[str, Callable[[], Any]] = {
                "fastopt": lambda f=ours, s=scores, y=y, out=out: f(s, y, out=out),
                "numpy": by_numpy(kind, scores, y),
                "limit": limit([("g", "w")], scores.size, np.dtype(dtype).name, threads),
            }
            if torch is not None:
                calls["torch"] = by_torch(kind, scores, y, threads)
            fastopt.set_num_threads(threads)
            times = {name: t[0] for name, t in take_turns(calls, seconds).items()}
            row: dict[str, object] = {
                "loss": kind,
                "shape": " x ".join(map(str, shape)),
                "dtype": np.dtype(dtype).name,
                "threads": threads,
                "ns/element": times["fastopt"] / scores.size * 1e9,
                "time / limit": times["fastopt"] / times["limit"],
                "times numpy's speed": times["numpy"] / times["fastopt"],
            }
            if torch is not None:
                row["times torch's speed"] = times["torch"] / times["fastopt"]
            table.append(row)
    fastopt.set_num_threads(None)
    return table


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0, help="per row of the table")
    results = measure(parser.parse_args().seconds)
    show(results, "Losses: value and gradient")
    record("losses", results)
