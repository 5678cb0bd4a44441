"""States in 16 and 8 bits against float32: ns per element, times faster, bytes per parameter.

Rules with averages, on float32 parameters and gradients far beyond the caches; the limit is the
float32 step's bytes, read and written with one addition each. All kinds take turns in one process.

    python -m bench.bench_precision [--seconds 3.0] [--quick]
"""

from __future__ import annotations

import argparse

from bench import cases
from bench.harness import record, show, take_turns, thread_counts
from bench.limit import Limit

KINDS = {"float32": None, "bfloat16": "bfloat16", "8bit": "8bit"}
RULES = ("SGD momentum", "Lion", "Adam", "AdamW")


def measure(n: int, seconds: float) -> list[dict[str, object]]:
    """Return one row per rule, kind of state and thread count."""
    limit = Limit()
    rows: list[dict[str, object]] = []
    w, g = cases.filled(n, "float32", 0.5), cases.filled(n, "float32", 0.25)
    for rule in RULES:
        opts = {name: cases.build(rule, w, state_dtype=kind) for name, kind in KINDS.items()}
        passes = cases.passes(rule, opts["float32"], w)
        for opt in opts.values():
            opt.bind(g)
        for threads in thread_counts():
            for opt in opts.values():
                opt.threads = threads
            calls = {name: opt.step for name, opt in opts.items()}
            calls["limit"] = limit(passes, n, "float32", threads)
            times = {name: t[0] for name, t in take_turns(calls, seconds).items()}
            rows += [
                {
                    "rule": rule,
                    "states": name,
                    "threads": threads,
                    "ns/element": times[name] / n * 1e9,
                    "times float32": times["float32"] / times[name],
                    "ratio to float32's limit": times[name] / times["limit"],
                    "state bytes/parameter": cases.state_bytes(opt) / n,
                }
                for name, opt in opts.items()
            ]
            del calls
    return rows


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=3.0, help="per rule and thread count")
    parser.add_argument("--quick", action="store_true", help="10^7 parameters instead of 10^8")
    options = parser.parse_args()
    n = 10_000_000 if options.quick else 100_000_000
    table = measure(n, options.seconds)
    show(table, f"{n:,} parameters by the kind of their states")
    record("precision-quick" if options.quick else "precision", table)
