"""Memory of a step: what each optimizer keeps, and what it takes besides while it runs.

Bytes for each parameter element, float32, on the shapes of ResNet-50: `state` is what the optimizer
says that it holds, `peak` by how much the process's resident memory grows above its level before
the third step while that step runs (Linux counts the peak: /proc/self/status, reset before). The
allocator is told to give every block above 64 KB back at once, so that a second use of freed memory
counts like a first one.

    python -m bench.bench_memory [--quick]
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench import peers
from bench.harness import record, show
from bench.peers import Contender, Data, ours
from bench.shapes import SHAPES, elements

RULES = ("SGD momentum", "Adagrad", "RMSprop", "Lion", "Adam", "LAMB")


def resident(key: str) -> int:
    """Return VmRSS, the resident memory now, or VmHWM, its peak, in bytes."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(key)) * 1024


def peak(made: Contender) -> int:
    """Return by how many bytes the resident memory grows during a step."""
    made.step()
    made.step()
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # the peak is what there is now
    before = resident("VmRSS")
    made.step()
    return max(0, resident("VmHWM") - before)


def rows_of(rule: str, data: Data, modules: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a row for each contender."""
    size = sum(w.size for w in data.params)
    rows = []
    for make in [lambda: {"fastopt": ours.contender(rule, data, 1)}] + [
        lambda module=module: module.contenders(rule, data) for module in modules.values()
    ]:
        for mode, made in make().items():
            extra = peak(made)  # the state is complete after a step
            row = {"rule": rule, "mode": mode, "state": made.state_bytes() / size}
            rows.append({**row, "peak": extra / size})
    return rows


def child(path: Path, shape: str) -> None:
    """Measure, and write the rows to a file."""
    modules, notes = peers.installed()
    print(*notes, sep="\n")
    if "torch" in modules:
        modules["torch"].set_threads(1)
    data = peers.make_data(SHAPES[shape])
    rows = [row for rule in RULES for row in rows_of(rule, data, modules)]
    path.write_text(json.dumps(rows))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="on 10^7 elements in one array")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    shape = "flat 10^7" if options.quick else "ResNet-50"
    if options.child:
        child(options.child, shape)
        return
    if not Path("/proc/self/clear_refs").exists():
        print("bench_memory needs Linux's /proc: left out")
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.json"
        command = [sys.executable, "-m", "bench.bench_memory", "--child", str(path)]
        command += ["--quick"] * options.quick
        give_back = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
        subprocess.run(command, check=True, env=os.environ | give_back)
        rows = json.loads(path.read_text())
    show(rows, f"Bytes for each of {elements(SHAPES[shape]):,} parameters, {shape}")
    record("memory-quick" if options.quick else "memory", rows)


if __name__ == "__main__":
    main()
