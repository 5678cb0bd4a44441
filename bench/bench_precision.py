"""States in 16 and 8 bits against float32: ns per element, times faster, bytes per parameter.

Adam on float32 parameters and gradients, far beyond the caches; the limit is the float32 step's
bytes, read and written with one addition each. All of them take turns in one process.

    python -m bench.bench_precision [--seconds 2.0] [--n 100000000]
"""

from __future__ import annotations

import argparse

import numpy as np

import fastopt
from bench.harness import Limit, record, show, take_turns


def measure(n: int, seconds: float) -> list[dict[str, object]]:
    """Return one row per kind of state and thread count."""
    w, g = np.full(n, 0.5, "f4"), np.full(n, 0.25, "f4")
    kinds = {"float32": None, "bfloat16": "bfloat16", "8bit": "8bit"}
    opts = {name: fastopt.Adam(w, lr=1e-9, state_dtype=kind) for name, kind in kinds.items()}
    exact = opts["float32"].state["0"]
    limit = Limit()
    rows = []
    for opt in opts.values():
        opt.bind(g)
    for threads in 1, 2:
        for opt in opts.values():
            opt.threads = threads
        calls = {name: opt.step for name, opt in opts.items()}
        calls["limit"] = limit(w, g, [exact["exp_avg"], exact["exp_avg_sq"]], threads)
        times = {name: t[0] for name, t in take_turns(calls, seconds).items()}
        for name, opt in opts.items():
            state = sum(array.nbytes for array in opt.state["0"].values())
            rows.append(
                {
                    "states": name,
                    "threads": threads,
                    "ns/element": times[name] / n * 1e9,
                    "times float32": times["float32"] / times[name],
                    "ratio to float32's limit": times[name] / times["limit"],
                    "state bytes/parameter": state / n,
                }
            )
    return rows


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0, help="per thread count")
    parser.add_argument("--n", type=int, default=100_000_000, help="parameters")
    arguments = parser.parse_args()
    table = measure(arguments.n, arguments.seconds)
    show(table, f"Adam on {arguments.n:,} parameters by the kind of its states")
    record("precision", table)
