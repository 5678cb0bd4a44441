"""Every rule against the memory: ns per element and the ratio to the copy-shaped limit.

The limit reads and writes the same bytes with one addition each, compiled for this processor, run
in turn with the rule in one process. Sizes are named by where all arrays of Adam in float32 lie.
The native step is measured (a prepared plan), without the Python layer; `bench_step` has that.

    python -m bench.bench_rules [--seconds 1.0]
"""

from __future__ import annotations

import argparse

import numpy as np

from bench.harness import Limit, record, show, take_turns
from fastopt import _core
from fastopt.parameters import aligned_full

SIZES = {"L1": 2_000, "L2": 32_000, "L3": 600_000, "DRAM": 32_000_000}
SCALARS = {
    "lr": 1e-9,
    "mu": 0.9,
    "c": 0.1,
    "lr_v": 1e-9,
    "lr_m": 1e-9,
    "lr_r": 1e-9,
    "up": 1.2,
    "down": 0.5,
    "least": 1e-6,
    "most": 50.0,
    "forget": 1.0,
    "undo": 1.0,
    "lr_g": 0.0,
    "eps": 1e-8,
    "eps_root": 0.0,
    "rho": 0.99,
    "b1": 0.9,
    "c1": 0.1,
    "b2": 0.999,
    "c2": 0.001,
    "a": 1.0,
    "a_v": 1.0,
    "a_x": 1.0,
    "b": 0.9,
    "c_v": 1.0,
    "kappa": 1e-9,
    "theta": 0.7,
    "k1": 0.1,
    "k2": 0.1,
    "lr_y": 1e-9,
    "wd": 0.01,
    "eps_outside": 0.0,
    "a_m": 1.3,
}


def make(rule: str, n: int, dtype: str) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """Return a parameter, its gradient and its states, cache-line aligned, filled."""
    like = np.broadcast_to(np.zeros((), dtype), (n,))
    w, g, *states = (
        aligned_full(like, v) for v in [0.5, 0.25] + [0.125] * len(_core.rules()[rule][0])
    )
    return w, g, states


def plan_of(rule: str, w: np.ndarray, g: np.ndarray, states: list[np.ndarray]) -> _core.Plan:
    """Return the prepared step."""
    plan = _core.Plan(rule, ("w",), [w], [states], [0], [])
    plan.hold([g], None, False)
    plan.set_group(0, 1.0, 0.0, 0.0, SCALARS)
    return plan


def measure(seconds: float) -> list[dict[str, object]]:
    """Return one row per place, rule, dtype and thread count."""
    limit = Limit()
    rows = []
    for place, n in SIZES.items():
        for dtype in "float32", "float64":
            for rule, (state_names, _) in _core.rules().items():
                w, g, states = make(rule, n, dtype)
                plan = plan_of(rule, w, g, states)
                for threads in 1, 2:
                    inner = max(1, 100_000 // n)

                    def ours(plan=plan, threads=threads, inner=inner) -> None:
                        for _ in range(inner):
                            plan.run(threads, 0.0, 0.0, 0.0)

                    times = take_turns(
                        {"ours": ours, "limit": limit(w, g, states, threads, inner)}, seconds
                    )
                    ns = {k: t[0] / inner / n * 1e9 for k, t in times.items()}
                    moved = (3 + 2 * len(state_names)) * w.itemsize
                    rows.append(
                        {
                            "place": place,
                            "rule": rule,
                            "dtype": dtype,
                            "threads": threads,
                            "ns/element": ns["ours"],
                            "limit": ns["limit"],
                            "ratio": ns["ours"] / ns["limit"],
                            "GB/s": moved / ns["ours"],
                            "spread": f"{times['ours'][1] / times['ours'][0]:.2f}"
                            f"-{times['ours'][2] / times['ours'][0]:.2f}",
                        }
                    )
    return rows


def subnormals(seconds: float) -> list[dict[str, object]]:
    """Return Adam's time on a decayed moment: subnormal numbers against normal ones."""
    rows = []
    for fill, name in (1e-3, "normal"), (1e-41, "subnormal"):
        w, g, states = make("adam", 32_000, "float32")
        g[...] = 0
        plan = plan_of("adam", w, g, states)

        def ours(plan=plan, states=states, fill=fill) -> None:
            for state in states:
                state.fill(fill)
            plan.run(1, 0.0, 0.0, 0.0)

        b1, b2, one = np.float32(0.9), np.float32(0.999), np.float32(1)

        def numpy_way(w=w, states=states, fill=fill, b1=b1, b2=b2, one=one) -> None:
            for state in states:
                state.fill(fill)
            states[0] *= b1
            states[1] *= b2
            np.subtract(w, states[0] / (np.sqrt(states[1]) + one), out=w)

        times = take_turns({"fastopt": ours, "numpy": numpy_way}, seconds)
        rows.append(
            {"moments": name, **{f"{k} ns/element": t[0] / 32_000 * 1e9 for k, t in times.items()}}
        )
    return rows


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=1.0, help="per row")
    seconds = parser.parse_args().seconds
    table = measure(seconds)
    slow = subnormals(seconds)
    show(table, "Rules against the copy-shaped limit")
    show(slow, "Adam where its moments have decayed to subnormal numbers")
    record("rules", [*table, *slow])
