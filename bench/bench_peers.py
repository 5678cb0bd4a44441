"""A whole step as users call it, against torch, DeepSpeed, optax and keras, each in its modes.

One row for each rule, shape and number of threads: our ns per element (a bound step), the
copy-shaped limit on arrays of that size, and for each peer how many times as long as ours it takes.
The modes of one library take turns with ours and the limit, in one process that has as many
processors as threads. Before that, every peer takes two steps like ours, and must then have our
parameters to 1e-4 of what they moved; a row names those that do not under `differs`. Other rules of
the same name are under `other rule`.

A peer that is not installed is left out: run this where they are (bench/README.md says how).

    python -m bench.bench_peers [--seconds 0.7] [--rules Adam,SGD] [--shapes "flat 10^7"] [--quick]
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from bench import cases, peers
from bench.harness import confined, in_processes, record, show, take_turns
from bench.limit import Limit, one_pass
from bench.peers import Contender, Data, ours
from bench.shapes import SHAPES, elements

MODES = (
    "torch default",
    "torch foreach",
    "torch fused",
    "deepspeed",
    "optax",
    "keras apply",
    "keras jit",
)
#: Taken on the models too; the other rules on flat arrays.
MAIN = ("SGD momentum", "Adagrad", "RMSprop", "Adam", "AdamW", "Lion")
#: Only these, and one thread, on the tiny array.
TINY = ("SGD", "SGD momentum", "Adam")
STEPS = 2
TOLERANCE = 1e-4


def wanted(rule: str, shape: str, threads: int) -> bool:
    """Return whether this row is measured."""
    if shape == "tiny":
        return rule in TINY and threads == 1
    return shape.startswith("flat") or rule in MAIN


def after_steps(made: Contender) -> list[np.ndarray]:
    """Return the parameters after the first steps, which are taken here."""
    for _ in range(STEPS):
        made.step()
    return [np.array(w) for w in made.params()]


def difference(found: list[np.ndarray], expected: list[np.ndarray], data: Data) -> float:
    """Return the largest deviation by what parameters moved at most, but for their rounding."""
    worst = moved = 0.0
    for a, b, start in zip(found, expected, data.params, strict=True):
        away = np.abs(a - b) - np.float32(1e-6) * np.abs(b)
        worst = max(worst, float(away.max()) if np.isfinite(a).all() else np.inf)
        moved = max(moved, float(np.abs(b - start).max()))
    return worst / moved


def differing(
    rule: str, library: str, made: dict[str, Contender], expected: list[np.ndarray], data: Data
) -> list[str]:
    """Take the first steps of a library's modes; return those that end elsewhere than ours."""
    if (rule, library) in ours.FORMS:
        expected = after_steps(ours.contender(rule, data, 1, library))
    found = []
    for mode, contender in made.items():
        gap = difference(after_steps(contender), expected, data)
        if not gap <= TOLERANCE and (rule, library) not in ours.OTHERS:
            print(f"warning: {rule}: {mode} is {gap:.1e} away from fastopt", flush=True)
            found.append(mode)
    return found


def measure(
    rule: str,
    shape: str,
    data: Data,
    threads: int,
    seconds: float,
    libraries: Mapping[str, ModuleType],
    limit: Limit,
) -> dict[str, Any]:
    """Return one row; the modes of one library take turns with ours and the limit."""
    size = elements([w.shape for w in data.params])
    mine = ours.contender(rule, data, threads)
    expected = after_steps(mine)
    bound = cases.PASSES.get(rule) or one_pass(round(mine.state_bytes() / 4 / size))
    repeats = max(1, 1_000_000 // size)
    limits = {
        f"limit {k}": limit(bound, size, "float32", k, repeats)
        for k in ({threads} if size >= 100_000 else {1, threads})
    }
    times: dict[str, list[float]] = {"fastopt": [], "limit": []}
    ratios: dict[str, float] = {}
    differs, other = [], []
    groups = {name: m for name, m in libraries.items() if rule in m.RULES} or {"": None}
    for library, module in groups.items():
        made = module.contenders(rule, data) if module else {}
        differs += differing(rule, library, made, expected, data)
        other += made if (rule, library) in ours.OTHERS else []
        calls = {"fastopt": mine.step, **limits, **{k: c.step for k, c in made.items()}}
        taken = take_turns(calls, seconds / len(groups), pause=0.002, warm=True)
        times["fastopt"] += taken["fastopt"]
        times["limit"].append(min(taken[k][0] for k in limits) / repeats)
        ratios |= {mode: taken[mode][0] / taken["fastopt"][0] for mode in made}
        del made, calls
        gc.collect()
    median, least = statistics.median(times["fastopt"][::3]), statistics.median(times["limit"])
    small = size < 100  # a call is all that there is
    best = min(ratios, key=ratios.__getitem__, default=None)
    return {
        "shape": shape,
        "rule": rule,
        "threads": threads,
        "tensors": len(data.params),
        "elements": size,
        "us": median * 1e6,
        "ns/element": median / size * 1e9,
        "limit": None if small else least / size * 1e9,
        "ratio": None if small else median / least,
        **{mode: ratios.get(mode) for mode in MODES},
        "best peer": best,
        "best": ratios[best] if best else None,
        "spread": f"{min(times['fastopt']) / median:.2f}-{max(times['fastopt']) / median:.2f}",
        "differs": ", ".join(differs) or None,
        "other rule": ", ".join(other) or None,
    }


def all_rows(
    threads: int,
    seconds: float,
    rules: Iterable[str],
    shapes: Iterable[str],
    libraries: Mapping[str, ModuleType],
) -> list[dict[str, Any]]:
    """Return the rows for one number of threads."""
    limit = Limit()
    rows = []
    for shape in shapes:
        data = peers.make_data(SHAPES[shape])
        total = data.checksum()
        for rule in rules:
            if wanted(rule, shape, threads):
                rows.append(measure(rule, shape, data, threads, seconds, libraries, limit))
                print(f"{shape}, {rule}, {threads}: {rows[-1]['us']:.4g} us", flush=True)
                if data.checksum() != total:
                    raise RuntimeError(f"{rule}: a step changed the gradients that all share")
    return rows


def child(options: argparse.Namespace) -> None:
    """Measure with the processors that this process has left, and write the rows to a file."""
    confined(options.threads)
    modules, notes = peers.installed()
    for note in notes if options.threads == 1 else ():
        print(note, flush=True)
    if "torch" in modules:
        modules["torch"].set_threads(options.threads)
    rows = all_rows(options.threads, options.seconds, options.rules, options.shapes, modules)
    Path(options.child).write_text(json.dumps(rows))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=0.7, help="per row")
    parser.add_argument("--rules", help="only these, with commas between them")
    parser.add_argument("--shapes", help="only these, with commas between them")
    parser.add_argument("--quick", action="store_true", help="the small shapes, in a hurry")
    parser.add_argument("--threads", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    part = bool(options.rules or options.shapes)
    if options.quick:
        options.seconds = min(options.seconds, 0.05)
        options.shapes = options.shapes or "tiny,flat 10^4"
    options.rules = options.rules.split(",") if options.rules else ours.known()
    options.shapes = options.shapes.split(",") if options.shapes else list(SHAPES)
    if options.child:
        child(options)
        return
    rows = in_processes(
        "bench_peers", "--seconds", str(options.seconds),
        "--rules", ",".join(options.rules), "--shapes", ",".join(options.shapes),
    )  # fmt: skip
    order = {name: k for k, name in enumerate([*SHAPES, *ours.RULES])}
    rows.sort(key=lambda row: (order[row["shape"]], order[row["rule"]], row["threads"]))
    show(rows, "One step: ours, and how many times as long peers take")
    record("peers" + "-quick" * options.quick + "-part" * part, rows)


if __name__ == "__main__":
    main()
