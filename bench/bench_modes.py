"""How threads share a model: time of an epoch, and epochs and time to the optimum.

Data of bench_hogwild (imdb, a9a, rows shaped like RCV1), and dense random rows (20,000 x 784). Per
mode and loss: nanoseconds per non-zero and epoch, the epochs that come within 1 % and 0.1 % of the
best objective that any mode has seen, and the time of those over that of `copies`. All modes take
the same first step, found by the first one. They take turns, and the least time of each counts, so
that a busy machine spoils less.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

import fastopt
from bench.bench_hogwild import data_sets
from bench.harness import record, show

MODES: dict[str, dict[str, Any]] = {
    "copies": {"threads": 2, "mode": "copies"},
    "serial": {"threads": 1},
    "shared": {"threads": 2, "mode": "shared"},
    "rounds": {"threads": 2, "deterministic": True},
    "hogbatch": {"threads": 2, "mode": "hogbatch"},
}
CLOSE = {"1 %": 0.01, "0.1 %": 0.001}


def dense_rows(n: int = 20_000, d: int = 784) -> tuple[Any, np.ndarray]:
    """Return dense rows of norm about 1, and noisy linear labels."""
    rng = np.random.default_rng(0)
    rows = (rng.normal(size=(n, d)) / np.sqrt(d)).astype("f4")
    y = np.where(rows @ rng.normal(size=d) + 0.3 * rng.normal(size=n) > 0, 1.0, -1.0)
    columns = np.tile(np.arange(d, dtype="i4"), n)
    return fastopt.CSR(rows.ravel(), columns, np.arange(n + 1) * d, (n, d)), y


def seconds(epochs: int, X: Any, y: np.ndarray, **how: Any) -> float:
    start = time.perf_counter()
    fastopt.hogwild(X, y, epochs=epochs, **how)
    return time.perf_counter() - start


def measure(
    name: str, X: Any, y: np.ndarray, loss: str, epochs: int, rounds: int
) -> list[dict[str, Any]]:
    """Return a row per mode."""
    objectives, conflicts = {}, {}
    step: float | str = "auto"
    for mode, how in MODES.items():
        result = fastopt.hogwild(
            X, y, loss=loss, epochs=epochs, step=step, track_objective=True, **how
        )
        step = result.step
        objectives[mode] = np.array([r["objective"] for r in result.history])
        conflicts[mode] = result.conflicts.get("overwritten")
    turns: dict[tuple[str, int], list[float]] = {}
    for _ in range(rounds):
        for mode, how in MODES.items():
            for n in (2, 8):
                taken = seconds(n, X, y, loss=loss, step=step, **how)
                turns.setdefault((mode, n), []).append(taken)
    # without what comes before the first epoch
    times = {mode: (min(turns[mode, 8]) - min(turns[mode, 2])) / 6 for mode in MODES}
    best = min(values.min() for values in objectives.values())
    rows = []
    for mode, values in objectives.items():
        row: dict[str, Any] = {"data": name, "loss": loss, "mode": mode}
        row["ns/nnz"] = 1e9 * times[mode] / len(X.data)
        for close, gap in CLOSE.items():
            there = [np.flatnonzero(o <= best * (1 + gap)) for o in (values, objectives["copies"])]
            mine, theirs = (int(t[0]) + 1 if len(t) else None for t in there)
            row[f"epochs to {close}"] = mine
            known = mine is not None and theirs is not None
            ratio = mine * times[mode] / (theirs * times["copies"]) if known else None
            row[f"time to {close} / copies"] = ratio
        row["overwritten"] = conflicts[mode]
        rows.append(row)
    return rows


def all_data(quick: bool) -> Iterator[tuple[str, Any, np.ndarray]]:
    """Yield the data sets."""
    yield from data_sets(quick)
    yield ("dense", *dense_rows(2_000 if quick else 20_000))


def main() -> None:
    """Measure, print and record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="smaller data, fewer epochs")
    quick = parser.parse_args().quick
    rows = []
    for name, X, y in all_data(quick):
        for loss in ("hinge", "logistic"):
            rows += measure(name, X, y, loss, 10 if quick else 40, 1 if quick else 7)
    show(rows, "time; epochs and time to the best objective seen + 1 %, + 0.1 %")
    record("modes-quick" if quick else "modes", rows)


if __name__ == "__main__":
    main()
