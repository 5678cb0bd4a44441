"""Rules with a learning rate for each column: ns per non-zero, and the objective after some epochs.

Data as in bench_hogwild, logistic loss, alpha = 1e-4, the automatic step. Beside them plain SGD and
scikit-learn's SGDClassifier, which has no such rules. The rows take turns; medians of the turns.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.linear_model import SGDClassifier

import fastopt
from bench.bench_hogwild import L2, data_sets
from bench.harness import record, show, take_turns
from fastopt.sparse.evaluation import objective

EPOCHS = 10


def contenders(X: Any, y: np.ndarray) -> dict[str, Callable[[], Any]]:
    def mine(optimizer: str, threads: int, mode: str) -> Callable[[], Any]:
        return lambda: fastopt.hogwild(
            X, y, l2=L2, epochs=EPOCHS, optimizer=optimizer, threads=threads, mode=mode
        )

    theirs = SGDClassifier(loss="log_loss", alpha=L2, max_iter=EPOCHS, tol=None, random_state=0)
    out: dict[str, Callable[[], Any]] = {"scikit-learn SGD": lambda: theirs.fit(X, y)}
    for optimizer in ("sgd", "adagrad", "adam", "ftrl"):
        out[f"{optimizer}, 1 thread"] = mine(optimizer, 1, "serial")
        out[f"{optimizer}, 2 threads shared"] = mine(optimizer, 2, "shared")
    return out


def measure(name: str, X: Any, y: np.ndarray, rounds: int) -> list[dict[str, Any]]:
    runs = contenders(X, y)
    times = take_turns(runs, seconds=0.01, rounds=rounds)
    rows = []
    for who, (median, _, _) in times.items():
        done = runs[who]()
        if who.startswith("scikit"):
            w, b, ns = done.coef_[0].astype(np.float32), float(done.intercept_[0]), None
        else:
            w, b, ns = done.w, done.intercept, 1e9 * done.seconds / done.nnz
        rows.append(
            {
                "data": name,
                "who": who,
                "ns per non-zero": 1e9 * median / EPOCHS / X.nnz,
                "of it training": ns,
                "objective": objective(X, y, w, b, l2=L2),
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="smaller data, fewer rounds")
    quick = parser.parse_args().quick
    rows = []
    for name, X, y in data_sets(quick):
        rows += measure(name, X, y, 1 if quick else 5)
    show(rows, f"{EPOCHS} epochs, float32, logistic, alpha = 1e-4")
    if not quick:
        record("columns", rows)


if __name__ == "__main__":
    main()
