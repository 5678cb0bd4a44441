"""Memory of sparse training: by how much a process grows while it fits, beside the data.

For each contender a process of its own, which has the data in memory as its library takes it (CSR;
pairs and ratings; Vowpal Wabbit its parsed examples, which count), has trained on a few rows, and
then trains on all of them. `peak` is how much the resident memory grows above its level before
(Linux counts it: /proc/self/status, reset before), and that as a part of the data's bytes.

    python -m bench.bench_sparse_memory [--quick] [--data imdb]
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bench.bench_memory import resident

DATA = ("imdb", "rcv1-shaped", "jester", "netflix")


def linear(data: str, quick: bool) -> tuple[int, dict[str, Callable[[bool], Any]]]:
    """Return the bytes of the data, and name -> what trains, on a part or on all."""
    from bench import bench_hogwild, sparse_peers

    def trainer(X: Any, y: np.ndarray, who: str) -> Callable[[Any], Any]:
        """Return what trains; data in a form of their own for these contenders alone."""
        for name, make in (("VW", sparse_peers.vowpal_wabbit), ("Snap", sparse_peers.snap_ml)):
            if who.startswith(name):
                return next(
                    call for one, _, call in make(X, y, "hinge", bench_hogwild.L2) if one == who
                )
        return bench_hogwild.without_peers(X, y, "hinge")[who][1]

    X, y = next((X, y) for name, X, y in bench_hogwild.data_sets(quick) if name == data)
    efforts = {"scikit-learn SGD": 5, "VW": 5, "fastopt, 1 thread": 5, "fastopt, 2 threads": 5}
    made: dict[str, Callable[[bool], Any]] = {}
    names = bench_hogwild.candidates(X[:200], y[:200], "hinge")
    for who in names:

        def train(part: bool, who: str = who) -> Any:
            rows = slice(0, 200 if part else None)
            chosen = (X, y) if not part else (X[rows], y[rows])
            return trainer(*chosen, who)(efforts.get(who, 1e-3))

        made[who] = train
    made.pop("VW without L2", None)
    return X.data.nbytes + X.indices.nbytes + X.indptr.nbytes, made


def ratings(data: str, quick: bool) -> tuple[int, dict[str, Callable[[bool], Any]]]:
    """As `linear`, for matrix completion of rank 64."""
    import fastopt
    from bench import bench_factor

    name, shape, (pairs, y), _ = next(d for d in bench_factor.data_sets(quick) if d[0] == data)

    def mine(threads: int) -> Callable[[bool], Any]:
        def train(part: bool) -> Any:
            rows = slice(0, 200 if part else None)
            return fastopt.factorize(
                pairs[rows], y[rows], rank=64, epochs=3, threads=threads, shape=shape,
                l2=bench_factor.L2[name][0],
            )  # fmt: skip

        return train

    made = {"fastopt, 1 thread": mine(1), "fastopt, 2 threads": mine(2)}
    if bench_factor.mf is not None:
        table = bench_factor.table_of((pairs, y), float(y.mean()))  # counts as its data
        made["LIBMF, 2 threads"] = lambda part: bench_factor.libmf(
            table[: 200 if part else None], 64, 2, 3, bench_factor.THEIRS[name][0]
        )
    return pairs.nbytes + y.nbytes, made


def child(data: str, who: str | None, quick: bool) -> None:
    """Print the contenders' names, or what one of them takes."""
    warnings.simplefilter("ignore")
    size, made = (ratings if data in DATA[2:] else linear)(data, quick)
    if who is None:
        print(json.dumps(list(made)))
        return
    made[who](True)
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # of glibc
    if trim is not None:
        trim(0)  # else what making the data has left behind hides some growth
    Path("/proc/self/clear_refs").write_text("5")  # the peak is what there is now
    before = resident("VmRSS")
    kept = made[who](False)
    grown = max(0, resident("VmHWM") - before)
    del kept
    row = {"data": data, "who": who, "data, MB": size / 1e6, "peak, MB": grown / 1e6}
    print(json.dumps({**row, "of the data": grown / size}))


def main() -> None:
    from bench.harness import record, show

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="smaller data")
    parser.add_argument("--data", choices=DATA, help="only this one")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--who", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.data, options.who, options.quick)
        return
    if not Path("/proc/self/clear_refs").exists():
        print("bench_sparse_memory needs Linux's /proc: left out")
        return
    give_back = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}

    def answer(*arguments: str) -> Any:
        command = [sys.executable, "-m", "bench.bench_sparse_memory", "--child", *arguments]
        command += ["--quick"] * options.quick
        done = subprocess.run(
            command, check=True, env=os.environ | give_back, stdout=subprocess.PIPE, text=True
        )
        return json.loads(done.stdout.splitlines()[-1])

    rows = [
        answer("--data", data, "--who", who)
        for data in ([options.data] if options.data else DATA)
        for who in answer("--data", data)
    ]
    show(rows, "How much a process grows while it trains")
    record("sparse-memory-quick" if options.quick else "sparse-memory", rows)


if __name__ == "__main__":
    main()
