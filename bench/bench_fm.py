"""Factorization machines beside modern-fm (Rust): ns per non-zero and factor, and quality.

    python -m bench.bench_fm [--quick]

Data in memory, float32: rows of 20 non-zeros, one of each of 20 fields of Zipf-distributed values
(50,000 columns: the model at rank 16 is 6 MB with its sums; and 1,000,000), labels of a planted
machine of rank 4 with noise; AdaGrad, logistic loss.

speed      ns per non-zero, factor and epoch, from fits of 1 and of 3 epochs; ranks 16 and 64.
quality    rank 16, 50,000 columns: test log loss after some epochs, the better of two step sizes.

modern-fm goes through rows one by one (batch_size=1, one thread) or splits batches of 1,024 among
threads. It is left out where it is not installed. On PyPI xlearn and fastFM do not build on Python
3.11, pyfm and libfm are other programs, myfm samples. Everybody takes turns; minima.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import sparse

import fastopt
from bench.harness import record, show, thread_counts

try:
    import modern_fm
except ImportError:
    modern_fm = None

FIELDS = 20


def clicks(rows: int, columns: int) -> tuple[Any, np.ndarray]:
    r = np.random.default_rng(0)
    width = columns // FIELDS
    ends = np.cumsum(1 / np.arange(1, width + 1))
    at = np.searchsorted(ends, r.random((rows, FIELDS)) * ends[-1]).clip(0, width - 1)
    at = (r.permutation(width)[at] + width * np.arange(FIELDS)).astype("i4")
    v = 0.5 * r.normal(size=(columns, 4)).astype("f4")
    p = np.empty(rows)
    for first in range(0, rows, 1 << 16):
        part = v[at[first : first + (1 << 16)]]
        p[first : first + (1 << 16)] = (part.sum(1) ** 2 - (part**2).sum(1)).sum(1) / 2
    indptr = np.arange(0, rows * FIELDS + 1, FIELDS, dtype="i4")
    X = sparse.csr_matrix((np.ones(at.size, "f4"), at.ravel(), indptr), (rows, columns))
    return X, (p / p.std() + 0.5 * r.normal(size=rows) > 0).astype(int)


def mine(X: Any, y: np.ndarray, rank: int, epochs: int, threads: int, step: float = 0.1) -> Any:
    return fastopt.FMClassifier(
        rank=rank, max_iter=epochs, tol=None, eta0=step, l2_reg_w=1e-5, l2_reg_V=1e-5,
        n_jobs=threads, random_state=0,
    ).fit(X, y)  # fmt: skip


def rust(
    X: Any, y: np.ndarray, rank: int, epochs: int, threads: int, batch: int, step: float = 0.1
) -> Any:
    return modern_fm.FMClassifier(
        n_factors=rank, max_iter=epochs, learning_rate=step, batch_size=batch, n_jobs=threads,
        random_state=0,
    ).fit(X, y)  # fmt: skip


def contenders(X: Any, y: np.ndarray, rank: int) -> dict[str, Callable[[int], Any]]:
    found: dict[str, Callable[[int], Any]] = {}
    for threads in thread_counts():
        name = f"{threads} thread{'s' * (threads > 1)}"
        found[f"fastopt, {name}"] = lambda e, t=threads: mine(X, y, rank, e, t)
        if modern_fm:
            batch = 1 if threads == 1 else 1024
            found[f"modern-fm, {name}"] = lambda e, t=threads, b=batch: rust(X, y, rank, e, t, b)
    return found


def seconds(call: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, result


def speed(rows: int, columns: int, rounds: int) -> list[dict[str, Any]]:
    X, y = clicks(rows, columns)
    out = []
    for rank in (16, 64):
        least: dict[str, list[float]] = {}
        found = contenders(X, y, rank)
        for _ in range(rounds):
            for who, call in found.items():
                times = least.setdefault(who, [np.inf, np.inf])
                for k, epochs in enumerate((1, 3)):
                    times[k] = min(times[k], seconds(lambda c=call, e=epochs: c(e))[0])
        for who, (short, long) in least.items():
            each = (long - short) / 2 / X.nnz * 1e9
            out.append(
                {
                    "columns": columns, "rank": rank, "who": who, "ns per non-zero": each,
                    "ns per non-zero and factor": each / rank,
                }
            )  # fmt: skip
    return out


def log_loss(p: np.ndarray, y: np.ndarray) -> float:
    return float(-np.log(np.clip(np.where(y == 1, p, 1 - p), 1e-12, 1)).mean())


def quality(rows: int, rounds: int) -> list[dict[str, Any]]:
    X, y = clicks(rows, 50_000)
    n = rows * 9 // 10
    fits: dict[str, Callable[[int, float], Any]] = {}
    for threads in thread_counts():
        fits[f"fastopt, {threads}"] = lambda e, s, t=threads: mine(X[:n], y[:n], 16, e, t, s)
    if modern_fm:
        fits["modern-fm, 1"] = lambda e, s: rust(X[:n], y[:n], 16, e, 1, 1, s)
    out = []
    for who, fit in fits.items():
        for epochs in (1, 2, 4, 8):
            tried = []
            for step in (0.05, 0.1):
                runs = [seconds(lambda f=fit, e=epochs, s=step: f(e, s)) for _ in range(rounds)]
                p = runs[-1][1].predict_proba(X[n:])[:, 1]
                tried.append((log_loss(p, y[n:]), min(s for s, _ in runs), step))
            loss, least, step = min(tried)
            out.append(
                {
                    "who": who, "epochs": epochs, "step": step, "seconds": least,
                    "test log loss": loss,
                }
            )  # fmt: skip
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="smaller data, fewer rounds")
    quick = parser.parse_args().quick
    if modern_fm is None:
        print("modern-fm is not installed: left out")
    rows, rounds = (20_000, 1) if quick else (300_000, 3)
    times = [row for columns in (50_000, 1_000_000) for row in speed(rows, columns, rounds)]
    judged = quality(rows, 1)
    show(times, "training of factorization machines, float32, 20 non-zeros a row")
    show(judged, "rank 16, 50,000 columns")
    record("fm-quick" if quick else "fm", times + judged)


if __name__ == "__main__":
    main()
