"""Every rule against the memory: ns per element and the ratio to the copy-shaped limit.

The limit reads and writes the same bytes with one addition each, compiled for this processor, run
in turn with the rule in one process, on arrays of its own. Sizes are named by where all arrays of
Adam in float32 lie. The native step is measured (a prepared plan), without the Python layer, which
`bench_peers` has.

LARS and LAMB need norms of whole arrays before their step: their limit makes two passes, the
fewest that can be. Below 32,768 elements our steps run on one thread whatever is asked for, and the
limit has the better of one thread and two.

    python -m bench.bench_rules [--seconds 0.2] [--quick]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable

import numpy as np

from bench import cases
from bench.harness import record, show, take_turns, thread_counts
from bench.limit import Limit, words
from fastopt import Optimizer

SIZES = {"L1": 2_000, "L2": 32_000, "L3": 600_000, "DRAM": 16_000_000}


def native(opt: Optimizer, g: np.ndarray, threads: int, repeats: int) -> Callable[[], None]:
    """Return a call of `repeats` prepared steps of `opt`, with the numbers of its second step."""
    opt.bind(g)
    opt.step()
    opt.step()
    plan = opt._plan

    def call() -> None:
        for _ in range(repeats):
            if opt.layerwise:
                opt.trust(plan, threads, 1.0)
            plan.run(threads, 0.0, 0.0, 1.0)

    return call


def measure(
    seconds: float, sizes: dict[str, int] = SIZES, dtypes: Iterable[str] = ("float32", "float64")
) -> list[dict[str, object]]:
    """Return one row per place, rule, dtype and thread count."""
    limit = Limit()
    rows: list[dict[str, object]] = []
    for place, n in sizes.items():
        repeats = max(1, 100_000 // n)
        for dtype in dtypes:
            for name in cases.cases():
                w, g = cases.filled(n, dtype, 0.5), cases.filled(n, dtype, 0.25)
                opt = cases.build(name, w)
                passes = cases.passes(name, opt, w)
                for threads in thread_counts():
                    contenders = {"ours": native(opt, g, threads, repeats)}
                    for k in {threads} if n >= 100_000 else {1, threads}:
                        contenders[f"limit {k}"] = limit(passes, n, dtype, k, repeats)
                    times = take_turns(contenders, seconds)
                    median, least, most = times.pop("ours")
                    scale = 1e9 / repeats / n
                    bound = min(t[0] for t in times.values()) * scale
                    rows.append(
                        {
                            "place": place,
                            "rule": name,
                            "dtype": dtype,
                            "threads": threads,
                            "ns/element": median * scale,
                            "limit": bound,
                            "ratio": median * scale / bound,
                            "passes": len(passes),
                            "GB/s": words(passes) * w.itemsize / (median * scale),
                            "spread": f"{least / median:.2f}-{most / median:.2f}",
                        }
                    )
    return rows


def subnormals(seconds: float) -> list[dict[str, object]]:
    """Return Adam's time on a decayed moment: subnormal numbers against normal ones."""
    rows: list[dict[str, object]] = []
    for fill, name in (1e-3, "normal"), (1e-41, "subnormal"):
        w, g = cases.filled(32_000, "float32", 0.5), cases.filled(32_000, "float32", 0.0)
        opt = cases.build("Adam", w)
        step = native(opt, g, 1, 1)
        m, v = (opt.state["0"][key] for key in ("exp_avg", "exp_avg_sq"))

        def ours(m=m, v=v, step=step, fill=fill) -> None:
            m.fill(fill)
            v.fill(fill)
            step()

        b1, b2, one = np.float32(0.9), np.float32(0.999), np.float32(1)

        def numpy_way(w=w, m=m, v=v, fill=fill, b1=b1, b2=b2, one=one) -> None:
            m.fill(fill)
            v.fill(fill)
            np.multiply(m, b1, out=m)
            np.multiply(v, b2, out=v)
            np.subtract(w, m / (np.sqrt(v) + one), out=w)

        times = take_turns({"fastopt": ours, "numpy": numpy_way}, seconds)
        rows.append(
            {"moments": name, **{f"{k} ns/element": t[0] / 32_000 * 1e9 for k, t in times.items()}}
        )
    return rows


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=0.2, help="per row")
    parser.add_argument("--quick", action="store_true", help="a look at L1 and L3 in seconds")
    options = parser.parse_args()
    if options.quick:
        table = measure(0.02, {"L1": 2_000, "L3": 600_000})
    else:
        table = measure(options.seconds)
    slow = subnormals(options.seconds)
    show(table, "Rules against the copy-shaped limit")
    show(slow, "Adam where its moments have decayed to subnormal numbers")
    record("rules-quick" if options.quick else "rules", [*table, *slow])
