"""One model of several classes: seconds to within 1 % and 0.1 % of the best objective.

Data in memory, float32: news20 (11,314 x 56,438, 20 classes, 151 non-zeros a row) and mnist
(60,000 x 784, 10 classes, 150) where $FASTOPT_DATA or ../shared/data has them, digits repeated
(28,752 x 64, 10 classes, 33). alpha = 1e-4, no intercept, as LIBLINEAR penalises it.

The softmax against scikit-learn's LogisticRegression (lbfgs, saga), the SVMs against
LinearSVC(multi_class="crammer_singer") (of weston_watkins it has none). Each contender is
given more and more epochs (fastopt) or smaller tolerances (the others); the seconds are those of
the first run that gets there. `ns` are nanoseconds per non-zero and class of one pass, and
`2 threads` how many times faster a pass of two threads is than one of one.

    python -m bench.bench_multi [--data news20] [--quick]
"""

from __future__ import annotations

import argparse
import os
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC

from bench.harness import record, show, take_turns
from fastopt.sparse.multiclass import MULTI_LOSSES, multiclass, multiclass_objective
from fastopt.sparse.rows import Settings

L2 = 1e-4
EPOCHS = (1, 2, 3, 5, 7, 10, 14, 20, 30, 50, 80, 120, 200)
TOLERANCES = (1.0, 0.3, 0.1, 0.03, 0.01, 1e-3, 1e-4)


def data_sets() -> Iterator[tuple[str, Any, np.ndarray]]:
    folder = Path(os.environ.get("FASTOPT_DATA") or "../shared/data")
    if (folder / "news20.npz").exists():
        z = np.load(folder / "news20.npz")
        parts = z["train_data"], z["train_indices"], z["train_indptr"].astype(np.int32)
        X = sparse.csr_matrix(parts, (len(z["train_y"]), int(z["n_features"])))
        yield "news20", X, np.unique(z["train_y"], return_inverse=True)[1]
    if (folder / "mnist.npz").exists():
        z = np.load(folder / "mnist.npz")
        x = z["train_x"].reshape(len(z["train_x"]), -1).astype(np.float32) / 2550
        yield "mnist", sparse.csr_matrix(x), z["train_y"].astype(np.int64)
    X, y = load_digits(return_X_y=True)
    yield "digits", sparse.csr_matrix(np.tile(X.astype(np.float32) / 64, (16, 1))), np.tile(y, 16)


def settings(loss: str, epochs: int, threads: int, mode: str = "auto") -> Settings:
    return Settings.check(
        loss=loss, losses=MULTI_LOSSES, l2=L2, epochs=epochs, step="auto", schedule="inverse_time",
        decay=0.9, mode=mode, fit_intercept=False, average=True, threads=threads, seed=0,
    )  # fmt: skip


def contenders(X: Any, y: np.ndarray, loss: str) -> dict[str, tuple[Any, Callable[[Any], Any]]]:
    """Name -> the efforts, and train with one of them; returns W."""
    k = int(y.max()) + 1
    C = 1 / (X.shape[0] * L2)
    out: dict[str, tuple[Any, Callable[[Any], Any]]] = {
        f"fastopt, {t} thread{'s' * (t > 1)}": (
            EPOCHS,
            lambda epochs, t=t: multiclass(X, y, k, settings(loss, epochs, t)).W,
        )
        for t in (1, 2)
    }
    if loss == "multinomial":
        for solver in ("lbfgs", "saga"):

            def converge(tol: float, solver: str = solver) -> np.ndarray:
                model = LogisticRegression(C=C, tol=tol, solver=solver, fit_intercept=False)
                return model.fit(X, y).coef_

            out[f"LogisticRegression, {solver}"] = TOLERANCES, converge
    elif loss == "crammer_singer":

        def dual(tol: float) -> np.ndarray:
            model = LinearSVC(multi_class="crammer_singer", C=C, tol=tol, fit_intercept=False)
            return model.fit(X, y).coef_

        out["LinearSVC (LIBLINEAR)"] = TOLERANCES, dual
    return out


def time_to(name: str, X: Any, y: np.ndarray, loss: str, limit: float) -> list[dict[str, Any]]:
    tried: dict[str, list[tuple[float, float]]] = {}
    none = np.zeros(int(y.max()) + 1)
    for who, (efforts, train) in contenders(X, y, loss).items():
        tried[who] = []
        for effort in efforts:
            start = time.perf_counter()
            W = np.asarray(train(effort), np.float32)
            seconds = time.perf_counter() - start
            tried[who].append((seconds, multiclass_objective(X, y, W, none, settings(loss, 1, 2))))
            if seconds > limit:
                break
    best = min(v for runs in tried.values() for _, v in runs)
    rows = []
    for who, runs in tried.items():
        row: dict[str, Any] = {"data": name, "loss": loss, "who": who}
        for label, goal in (("best + 1 %", best * 1.01), ("best + 0.1 %", best * 1.001)):
            row[f"s to {label}"] = min((s for s, v in runs if v <= goal), default="-")
        rows.append(row | {"lowest": min(v for _, v in runs)})
    return rows


def passes(name: str, X: Any, y: np.ndarray, loss: str, rounds: int) -> dict[str, Any]:
    """Return what a pass takes, in the modes that two threads may have."""
    k, epochs = int(y.max()) + 1, 10
    cases = {"serial": (1, "serial"), "copies": (2, "copies"), "shared": (2, "shared")}
    times = take_turns(
        {
            who: lambda t=t, mode=mode: multiclass(X, y, k, settings(loss, epochs, t, mode))
            for who, (t, mode) in cases.items()
        },
        seconds=0.01,
        rounds=rounds,
    )
    one = times["serial"][0]
    return {
        "data": name, "loss": loss, "ms a pass": 1e3 * one / epochs,
        "ns": 1e9 * one / epochs / X.nnz / k,
        **{f"2 threads, {who}": one / times[who][0] for who in ("copies", "shared")},
        "chosen": multiclass(X, y, k, settings(loss, 1, 2)).results[0].mode,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer rounds, shorter runs")
    parser.add_argument("--data", help="only this data set")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    speed, quality = [], []
    for name, X, y in data_sets():
        if arguments.data not in (None, name):
            continue
        for loss in MULTI_LOSSES:
            speed.append(passes(name, X, y, loss, 3))
            quality += time_to(name, X, y, loss, 1.0 if arguments.quick else 10.0)
    show(speed, "10 passes with the automatic step, float32, alpha = 1e-4")
    show(quality, "seconds to an objective")
    record("-".join(["multi", *([arguments.data] if arguments.data else [])]), speed + quality)


if __name__ == "__main__":
    main()
