"""Solvers against SciPy and torch: evaluations, and time per iteration outside the function.

A chained Rosenbrock function of 10^6 variables, logistic regression on imdb's reviews (if
FASTOPT_DATA or ../shared/data has them), and the evaluations on the problems of tests/mgh.py.
jaxopt and optax take part in the first, where they are installed.

    python -m bench.bench_solvers [--rounds 3] [--size 1000000]
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from scipy import optimize, sparse

import fastopt
from bench.harness import record, show

try:
    import torch
except ImportError:
    torch = None

Fun = Callable[[np.ndarray], tuple[float, np.ndarray]]
ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("FASTOPT_DATA") or ROOT.parent / "shared" / "data")


def chained_rosenbrock(x: np.ndarray) -> tuple[float, np.ndarray]:
    """Return sum of 100 (x[i+1] - x[i]^2)^2 + (1 - x[i])^2 and its gradient."""
    gap, rest = x[1:] - x[:-1] ** 2, 1 - x[:-1]
    g = np.zeros_like(x)
    g[:-1] = -400 * x[:-1] * gap - 2 * rest
    g[1:] += 200 * gap
    return float(100 * (gap @ gap) + rest @ rest), g


def imdb_logistic(l2: float = 1e-4) -> tuple[Fun, np.ndarray]:
    """Return the mean logistic loss on imdb with an L2 penalty, and the start."""
    z = np.load(DATA / "imdb.npz")
    shape = (len(z["train_y"]), int(z["n_features"]))
    data = z["train_data"].astype("f8")
    rows = sparse.csr_matrix((data, z["train_indices"], z["train_indptr"]), shape)
    columns, y = rows.T.tocsr(), z["train_y"].astype("f8")

    def fun(w: np.ndarray) -> tuple[float, np.ndarray]:
        margin = y * (rows @ w)
        value = np.logaddexp(0, -margin).mean() + l2 / 2 * (w @ w)
        return float(value), l2 * w - columns @ (y / (1 + np.exp(margin))) / len(y)

    return fun, np.zeros(shape[1])


class Timed:
    """A function with the time spent in it."""

    def __init__(self, fun: Fun) -> None:
        self.fun, self.seconds, self.calls = fun, 0.0, 0

    def __call__(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        """Return the function's value and gradient."""
        start = time.perf_counter()
        found = self.fun(x)
        self.seconds += time.perf_counter() - start
        self.calls += 1
        return found


def ours(fun: Fun, x0: np.ndarray, gtol: float, threads: int) -> tuple[float, int, float]:
    """Return the value, the iterations, and the largest component of the gradient."""
    options = {"gtol": gtol, "threads": threads, "memory": 10}
    r = fastopt.minimize(fun, x0, jac=True, method="l-bfgs", options=options)
    return r.fun, r.nit, float(np.abs(r.jac).max())


def scipys(fun: Fun, x0: np.ndarray, gtol: float, threads: int) -> tuple[float, int, float]:
    """Return the same of SciPy's L-BFGS-B, which has one thread."""
    options = {"gtol": gtol, "ftol": 0, "maxcor": 10, "maxiter": 10_000, "maxfun": 10_000}
    r = optimize.minimize(fun, x0, jac=True, method="L-BFGS-B", options=options)
    return float(r.fun), r.nit, float(np.abs(r.jac).max())


def torchs(fun: Fun, x0: np.ndarray, gtol: float, threads: int) -> tuple[float, int, float]:
    """Return the same of torch's LBFGS with its strong Wolfe search."""
    torch.set_num_threads(threads)
    x = torch.nn.Parameter(torch.from_numpy(x0.copy()))
    solver = torch.optim.LBFGS(
        [x], lr=1, max_iter=10_000, max_eval=10_000, tolerance_grad=gtol, tolerance_change=0,
        history_size=10, line_search_fn="strong_wolfe",
    )  # fmt: skip

    def closure() -> torch.Tensor:
        f, g = fun(x.detach().numpy())
        x.grad = torch.from_numpy(g)
        return torch.tensor(f, dtype=torch.float64)

    solver.step(closure)
    f, g = fun(x.detach().numpy())
    return f, solver.state[x]["n_iter"], float(np.abs(g).max())


def measure(
    name: str, fun: Fun, x0: np.ndarray, gtol: float, rounds: int
) -> list[dict[str, object]]:
    """Return one row for each solver; they take turns."""
    solvers: dict[str, tuple[Any, int]] = {
        "fastopt l-bfgs, 1 thread": (ours, 1),
        "fastopt l-bfgs, 2 threads": (ours, 2),
        "SciPy L-BFGS-B": (scipys, 1),
    }
    if torch is not None:
        solvers["torch LBFGS, 2 threads"] = (torchs, 2)
    seen: dict[str, list[tuple[float, ...]]] = {key: [] for key in solvers}
    for _ in range(rounds):
        for key, (solver, threads) in solvers.items():
            timed = Timed(fun)
            start = time.perf_counter()
            f, nit, norm = solver(timed, x0, gtol, threads)
            seconds = time.perf_counter() - start
            outside = (seconds - timed.seconds) / max(1, nit)
            seen[key].append((f, norm, nit, timed.calls, outside, seconds))
    table = []
    for key, runs in seen.items():
        f, norm, nit, calls, outside, seconds = (
            statistics.median(run[k] for run in runs) for k in range(6)
        )
        table.append(
            {
                "problem": name,
                "solver": key,
                "value": f,
                "largest |g|": norm,
                "iterations": nit,
                "evaluations": calls,
                "ms/iteration outside the function": outside * 1e3,
                "seconds": seconds,
            }
        )
    slowest = next(row for row in table if row["solver"] == "SciPy L-BFGS-B")
    for row in table:
        key = "ms/iteration outside the function"
        row["times SciPy's speed"] = slowest[key] / row[key]
    return table


def evaluations() -> list[dict[str, object]]:
    """Return the evaluations on the problems of More, Garbow and Hillstrom."""
    sys.path.append(str(ROOT / "tests"))
    import mgh

    table = []
    for number, (residuals, _, _) in mgh.PROBLEMS.items():
        fun, x0, _ = mgh.problem(number)
        row: dict[str, object] = {"problem": f"{number} {residuals.__name__}"}
        for key, solver in ("fastopt", ours), ("SciPy", scipys), ("torch", torchs):
            if key == "torch" and torch is None:
                continue
            timed = Timed(fun)
            f, _, norm = solver(timed, x0, 1e-5, 1)
            row |= {f"{key} evaluations": timed.calls, f"{key} value": f, f"{key} |g|": norm}
        table.append(row)
    return table


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", type=int, default=1_000_000, help="of the Rosenbrock function")
    arguments = parser.parse_args()
    start = np.tile([1.3, 0.7, 0.8, 1.9, 1.2], arguments.size // 5)  # SciPy's own
    title = "L-BFGS with 10 pairs until the largest |g| is 1e-5, on imdb 1e-6"
    rows = measure(
        f"chained Rosenbrock, {len(start):,}", chained_rosenbrock, start, 1e-5, arguments.rounds
    )
    try:
        from bench import jax_lbfgs
    except ImportError:
        print("jax is not installed: jaxopt and optax take no part")
    else:
        rows += jax_lbfgs.rows(str(rows[0]["problem"]), start, 1e-5, arguments.rounds)
    show(rows, title)
    if (DATA / "imdb.npz").exists():
        rows += measure("logistic, imdb", *imdb_logistic(), 1e-6, arguments.rounds)
        show(rows, title)
    problems = evaluations()
    show(problems, "Evaluations on the problems of More, Garbow and Hillstrom, to |g| = 1e-5")
    both = [
        row
        for row in problems
        if max(row["fastopt |g|"], row["SciPy |g|"]) <= 1e-5
        and np.isclose(row["fastopt value"], row["SciPy value"], atol=1e-4)
    ]
    ratios = [row["fastopt evaluations"] / row["SciPy evaluations"] for row in both]
    print(f"{len(ratios)} problems solved by both: {statistics.median(ratios):.3f} in the median")
    record("solvers", [*rows, *problems])
