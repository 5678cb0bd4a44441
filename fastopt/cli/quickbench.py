"""The short benchmark behind `fastopt bench`; `bench/` has the thorough ones."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

import fastopt
from fastopt.cli._terminal import Table
from fastopt.data import demo
from fastopt.sparse.hogwild import hogwild

__all__ = ["dense_table", "sparse_table"]

SIZE = 1 << 24  # float32 elements: 64 MB an array, more than most caches
ROUNDS = 7
STATES = {"SGD": 0, "Momentum": 1, "Adagrad": 1, "RMSprop": 1, "Adam": 2}


def dense_table(counts: Sequence[int]) -> Table:
    """Measure one step of the dense rules against passing the same bytes through NumPy.

    Parameters
    ----------
    counts : sequence of int
        The numbers of threads to measure with.

    Returns
    -------
    rich.table.Table
        Nanoseconds per element, and the ratio to NumPy's ``w += g`` and ``s = -s`` for every
        state s, which read and write the same bytes.
    """
    shown = headed(f"Dense step, {SIZE * 4 >> 20} MB float32 a parameter")
    for name in ("rule", "threads", "ns/element", "GB/s", "× NumPy, same bytes"):
        shown.add_column(name, justify="left" if name == "rule" else "right")
    g = np.full(SIZE, 1e-3, np.float32)
    plain = [np.zeros(SIZE, np.float32) for _ in range(1 + max(STATES.values()))]
    for name, states in STATES.items():
        for threads in counts:
            w = np.zeros(SIZE, np.float32)
            options = {"momentum": 0.9} if name == "Momentum" else {}
            rule = getattr(fastopt, {"Momentum": "SGD"}.get(name, name))
            optimizer = rule([w], lr=1e-3, threads=threads, **options)
            with ThreadPoolExecutor(threads) as pool:
                step, same = best_of(
                    lambda: optimizer.step([g]),  # noqa: B023
                    lambda: same_bytes(pool, threads, plain[: 1 + states], g),  # noqa: B023
                )
            moved = (3 + 2 * states) * 4 * SIZE
            shown.add_row(
                name if threads == counts[0] else "", str(threads), f"{step / SIZE * 1e9:.3f}",
                f"{moved / step / 1e9:.1f}", f"{step / same:.2f}",
            )  # fmt: skip
    return shown


def best_of(*calls: Callable[[], object]) -> list[float]:
    """Return the shortest time of each call in seconds, the calls taking turns."""
    best = [float("inf")] * len(calls)
    for _ in range(ROUNDS):
        for k, call in enumerate(calls):
            start = time.perf_counter()
            call()
            best[k] = min(best[k], time.perf_counter() - start)
    return best


def same_bytes(
    pool: ThreadPoolExecutor, threads: int, arrays: Sequence[np.ndarray], g: np.ndarray
) -> None:
    """Read and write the bytes of a rule with the parameter and states `arrays`."""

    def part(k: int) -> None:
        at = slice(SIZE * k // threads, SIZE * (k + 1) // threads)
        np.add(arrays[0][at], g[at], out=arrays[0][at])
        for state in arrays[1:]:
            np.negative(state[at], out=state[at])

    list(pool.map(part, range(threads)))


def sparse_table(counts: Sequence[int]) -> Table:
    """Measure sparse training: the demo data, its first package against the rest.

    Parameters
    ----------
    counts : sequence of int
        The numbers of threads to measure with.

    Returns
    -------
    rich.table.Table
        Nanoseconds per non-zero, rows per second and speed-up, per loss.
    """
    data = demo.load()
    X = data.X_train
    y = np.where(data.y_train == 0, 1, -1).astype(np.float32)
    shown = headed(f"Sparse SGD, {X.shape[0]:,} rows, {len(X.data):,} non-zeros float32")
    for name in ("loss", "threads", "ns/non-zero", "rows/s", "× 1st row", "mode"):
        shown.add_column(name, justify="left" if name in ("loss", "mode") else "right")
    for loss in ("logistic", "hinge", "squared"):
        first = 0.0
        for threads in counts:
            runs = [hogwild(X, y, loss=loss, l2=1e-6, epochs=5, threads=threads) for _ in range(3)]
            best = max(runs, key=lambda run: run.nnz_per_second)
            first = first or best.nnz_per_second
            shown.add_row(
                loss if threads == counts[0] else "", str(threads),
                f"{1e9 / best.nnz_per_second:.2f}", f"{best.rows_per_second:,.0f}",
                f"{best.nnz_per_second / first:.2f}", best.mode,
            )  # fmt: skip
    return shown


def headed(title: str) -> Table:
    """Return an empty table."""
    return Table(title=title, title_justify="left", title_style="bold", box=None, padding=(0, 1))
