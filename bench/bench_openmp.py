"""How fast fastopt, torch, scikit-learn and NumPy alternate in one process, by order of import.

Each order runs in a process of its own: microseconds per pair of one fastopt step (40,000 float32
elements, 2 threads) and one operation of the other library. Two OpenMP runtimes that spin for the
same processors show as milliseconds. `python -m bench.bench_openmp [share|alone]`
"""

import os
import subprocess
import sys

ORDERS = [
    "fastopt",
    "fastopt torch",
    "torch fastopt",
    "fastopt sklearn",
    "sklearn fastopt",
    "fastopt torch sklearn",
    "torch sklearn fastopt",
    "sklearn torch fastopt",
]
PROGRAM = """
import statistics, sys, time
import numpy as np
order = {order!r}.split()
for name in order:
    if name == "fastopt":
        import fastopt
    elif name == "torch":
        import torch
        torch.set_num_threads(2)
    else:
        from sklearn.metrics._pairwise_distances_reduction import ArgKmin
w = np.ones(40_000, np.float32)
opt = fastopt.Adam(w, threads=2)
opt.bind(np.ones_like(w))
A = np.ones((256, 256))
others = {{"nothing": lambda: None, "numpy": lambda: A @ A}}
if "torch" in order:
    t = torch.ones(40_000)
    others["torch"] = lambda: t.add_(1)
if "sklearn" in order:
    X = np.random.rand(600, 16)
    others["sklearn"] = lambda: ArgKmin.compute(X, X, 5, "sqeuclidean", strategy="parallel_on_X")

def timed(step, other):
    times = []
    for _ in range(9):
        start = time.perf_counter()
        for _ in range(40):
            step()
            other()
        times.append((time.perf_counter() - start) / 40 * 1e6)
    return statistics.median(times)

for name, other in others.items():
    alone = timed(lambda: None, other)
    print(f"{{name}} {{alone:.0f}} {{timed(opt.step, other):.0f}}")
"""


def main() -> None:
    """Print one line per order of import."""
    ways = sys.argv[1:] or ["share", "alone"]
    for way in ways:
        env = os.environ | {"FASTOPT_SHARE_OPENMP": "1" if way == "share" else "0"}
        print(f"{way}: alone -> alternating with a step, us per pair")
        for order in ORDERS:
            run = [sys.executable, "-c", PROGRAM.format(order=order)]
            result = subprocess.run(run, env=env, capture_output=True, text=True)
            words = [line.split() for line in result.stdout.splitlines()]
            cells = [f"{name} {alone:>6} -> {both:>6}" for name, alone, both in words]
            error = result.stderr.strip().rpartition("\n")[2] if result.returncode else ""
            print(f"  {order:<22}", "   ".join(cells), error, flush=True)


if __name__ == "__main__":
    main()
