"""Measuring side by side: peers take turns in one process, medians and spreads, facts kept."""

from __future__ import annotations

import ctypes
import gc
import importlib.metadata
import json
import math
import os
import platform
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import fastopt

RESULTS = Path(__file__).parent / "results"


def take_turns(
    contenders: dict[str, Callable[[], Any]], seconds: float = 1.0, rounds: int = 11
) -> dict[str, tuple[float, float, float]]:
    """Return name -> (median, least, most) seconds per call; in each round everybody runs once.

    Each turn repeats its call until it has taken seconds / rounds / contenders.
    """
    repeats = {}
    for name, call in contenders.items():
        call()
        start = time.perf_counter()
        call()
        once = max(time.perf_counter() - start, 1e-7)
        repeats[name] = max(1, math.ceil(seconds / rounds / len(contenders) / once))
    times: dict[str, list[float]] = {name: [] for name in contenders}
    enabled = gc.isenabled()
    gc.disable()
    try:
        for _ in range(rounds):
            for name, call in contenders.items():
                count = range(repeats[name])
                start = time.perf_counter()
                for _ in count:
                    call()
                times[name].append((time.perf_counter() - start) / len(count))
    finally:
        if enabled:
            gc.enable()
    return {name: (statistics.median(t), min(t), max(t)) for name, t in times.items()}


class Limit:
    """The copy-shaped limit: the bytes of a rule's step, read and written with an addition each.

    Compiled here for this very processor, so that it is the limit and not a rival's habit.
    """

    def __init__(self) -> None:
        compiler = os.environ.get("CC") or shutil.which("gcc") or shutil.which("cc")
        if not compiler:
            raise RuntimeError("the copy-shaped limit needs a C compiler: set CC")
        self.folder = tempfile.TemporaryDirectory()
        library = f"{self.folder.name}/limit.so"
        subprocess.run(
            [
                compiler,
                "-O3",
                "-march=native",
                "-mprefer-vector-width=512",
                "-fopenmp",
                "-shared",
                "-fPIC",
                "-o",
                library,
                str(Path(__file__).parent / "limit.c"),
            ],
            check=True,
        )
        self.touch = ctypes.CDLL(library).touch

    def __call__(
        self, w: np.ndarray, g: np.ndarray, states: list[np.ndarray], threads: int, repeats: int = 1
    ) -> Callable[[], None]:
        """Return a call that does `repeats` such passes."""

        def pointer(a: np.ndarray) -> ctypes.c_void_p:
            return ctypes.c_void_p(a.__array_interface__["data"][0])

        arguments = (
            ctypes.c_int(w.itemsize),
            ctypes.c_int(len(states)),
            ctypes.c_ssize_t(w.size),
            pointer(w),
            pointer(g),
            *[pointer(s) for s in [*states, w, w, w][:3]],
            ctypes.c_int(threads),
            ctypes.c_int(repeats),
        )
        keep = (w, g, states)

        def call() -> None:
            _ = keep
            self.touch(*arguments)

        return call


def facts() -> dict[str, Any]:
    """Return what a reader needs to know about the machine and the versions."""
    model = platform.processor()
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo") as file:
            model = next(
                (line.split(":")[1].strip() for line in file if "model name" in line), model
            )
    versions = {}
    for name in ("numpy", "torch", "scikit-learn", "scipy", "pandas", "pyarrow", "vowpalwabbit"):
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
        "system": platform.platform(),
        "python": platform.python_version(),
        "fastopt": fastopt.__version__,
        "isa": fastopt.get_isa(),
        **versions,
    }


def record(name: str, rows: list[dict[str, Any]]) -> None:
    """Write rows and facts to bench/results/<name>.json."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(
        json.dumps({"facts": facts(), "rows": rows}, indent=1) + "\n"
    )


def show(rows: list[dict[str, Any]], title: str) -> None:
    """Print rows as a table with one column per key."""
    print(f"\n{title}")
    if not rows:
        return
    cells = [[f"{v:.3g}" if isinstance(v, float) else str(v) for v in row.values()] for row in rows]
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
