"""Measuring side by side: peers take turns in one process, medians and spreads, facts kept."""

from __future__ import annotations

import gc
import importlib.metadata
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fastopt

LIBRARIES = (
    *("numpy", "torch", "deepspeed", "jax", "optax", "keras", "scikit-learn", "scipy"),
    *("pandas", "pyarrow", "vowpalwabbit", "snapml"),
)
RESULTS = Path(__file__).parent / "results"


def thread_counts() -> tuple[int, ...]:
    """Return 1, and 2 where there are two processors."""
    return (1, 2) if len(os.sched_getaffinity(0)) > 1 else (1,)


def in_processes(module: str, *arguments: str) -> list[dict[str, Any]]:
    """Return the rows that a module of bench/ measures in a process for each number of threads.

    The process is given `--child FILE --threads N` as well, has as many processors (`confined`),
    and writes its rows to the file as JSON. torch may use huge pages in it, as NumPy does.
    """
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for threads in thread_counts():
            path = Path(folder) / f"{threads}.json"
            command = [sys.executable, "-m", f"bench.{module}", "--child", str(path)]
            command += ["--threads", str(threads), *arguments]
            environment = {"OMP_NUM_THREADS": str(threads), "THP_MEM_ALLOC_ENABLE": "1"}
            subprocess.run(command, check=True, env=os.environ | environment)
            rows += json.loads(path.read_text())
    return rows


def confined(threads: int) -> None:
    """Leave this process as many processors as threads: some libraries take all that they find."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])


def take_turns(
    contenders: dict[str, Callable[[], Any]],
    seconds: float = 1.0,
    rounds: int = 11,
    pause: float = 0.0,
    warm: bool = False,
) -> dict[str, tuple[float, float, float]]:
    """Return name -> (median, least, most) seconds per call; in each round everybody runs once.

    Each turn repeats its call until it has taken seconds / rounds / contenders. Where single calls
    take so long that `seconds` are over before all rounds are, three rounds are enough. `pause`
    seconds before each turn let the threads of the one before go to sleep. `warm`: all have been
    called before.
    """
    repeats = {}
    for name, call in contenders.items():
        if not warm:
            call()
        start = time.perf_counter()
        call()
        once = max(time.perf_counter() - start, 1e-7)
        repeats[name] = max(1, math.ceil(seconds / rounds / len(contenders) / once))
    times: dict[str, list[float]] = {name: [] for name in contenders}
    enabled = gc.isenabled()
    gc.disable()
    end = time.perf_counter() + 1.5 * seconds
    try:
        for k in range(rounds):
            if k >= 3 and time.perf_counter() > end:
                break
            for name, call in contenders.items():
                time.sleep(pause)
                count = range(repeats[name])
                start = time.perf_counter()
                for _ in count:
                    call()
                times[name].append((time.perf_counter() - start) / len(count))
    finally:
        if enabled:
            gc.enable()
    return {name: (statistics.median(t), min(t), max(t)) for name, t in times.items()}


def others_busy(seconds: float = 0.5) -> float | None:
    """Return how many processors work while this process sleeps; None where Linux does not say."""

    def idle() -> int:
        with open("/proc/stat") as file:
            fields = file.readline().split()
        return int(fields[4]) + int(fields[5])  # hundredths of a second, over all processors

    if not os.path.exists("/proc/stat"):
        return None
    before, start = idle(), time.perf_counter()
    time.sleep(seconds)
    rested = (idle() - before) / os.sysconf("SC_CLK_TCK") / (time.perf_counter() - start)
    return round(max(0.0, (os.cpu_count() or 1) - rested), 2)


def facts() -> dict[str, Any]:
    """Return what a reader needs to know about the machine and the versions."""
    model = platform.processor()
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo") as file:
            model = next(
                (line.split(":")[1].strip() for line in file if "model name" in line), model
            )
    versions = {}
    for name in LIBRARIES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    caches = {}
    for index in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        level, kind = (index / "level").read_text().strip(), (index / "type").read_text().strip()
        caches[f"L{level} {kind}"] = (index / "size").read_text().strip()
    return {
        "processor": model,
        "cores": len(os.sched_getaffinity(0)),
        "caches": caches,
        "processors busy with something else": others_busy(),
        "system": " ".join([platform.system(), platform.machine(), *platform.libc_ver()]),
        "python": platform.python_version(),
        "fastopt": fastopt.__version__,
        "isa": fastopt.get_isa(),
        **versions,
    }


def record(name: str, rows: list[dict[str, Any]]) -> None:
    """Write rows and facts to bench/results/<name>.json."""
    RESULTS.mkdir(exist_ok=True)
    known = facts()
    busy = known["processors busy with something else"]
    if busy is not None and busy > 0.1:
        print(f"{busy} processors are busy with something else: do not trust these numbers")
    text = json.dumps({"facts": known, "rows": rows}, indent=1)
    (RESULTS / f"{name}.json").write_text(text + "\n")


def cell(value: Any) -> str:
    """Return what a table shows of a value."""
    if isinstance(value, float):
        return f"{value:.3g}"
    return "-" if value is None else str(value)


def show(rows: list[dict[str, Any]], title: str) -> None:
    """Print rows as a table with one column per key."""
    print(f"\n{title}")
    if not rows:
        return
    cells = [[cell(value) for value in row.values()] for row in rows]
    heads = list(rows[0])
    widths = [max(len(h), *(len(c[k]) for c in cells)) for k, h in enumerate(heads)]
    print("  ".join(h.ljust(w) for h, w in zip(heads, widths, strict=True)))
    for row in cells:
        print(
            "  ".join(
                c.rjust(w) if k else c.ljust(w)
                for k, (c, w) in enumerate(zip(row, widths, strict=True))
            )
        )
