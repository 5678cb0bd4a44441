"""A loss compiled with numba against the built-in one: ns per non-zero of a pass, one thread.

Data as in bench_hogwild. The rows take turns; medians of the turns. Run it on an idle machine.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import numba
import numpy as np

import fastopt
from bench.bench_hogwild import data_sets
from bench.harness import record, show, take_turns

EPOCHS = 10
SIGNATURE = "float64(float64, float64, CPointer(float64))"


@numba.cfunc(SIGNATURE)
def hinge(p, y, derivative):
    """Return max(0, 1 - y p)."""
    derivative[0] = -y if y * p < 1 else 0.0
    return max(0.0, 1 - y * p)


@numba.cfunc(SIGNATURE)
def logistic(p, y, derivative):
    """Return log(1 + exp(-y p)), from one exponential."""
    e = np.exp(-abs(p))
    positive = y * p > 0
    derivative[0] = -y * (e if positive else 1.0) / (1 + e)
    return max(-y * p, 0.0) + np.log1p(e)


@numba.cfunc(SIGNATURE)
def logistic_derivative(p, y, derivative):
    """Write the logistic loss's derivative and return 0: what training needs."""
    derivative[0] = -y / (1 + np.exp(y * p))
    return 0.0


OWN = {
    "hinge": {"numba": hinge},
    "logistic": {"numba": logistic, "numba, derivative alone": logistic_derivative},
}


def passes(name: str, X: Any, y: np.ndarray, loss: str) -> list[dict[str, Any]]:
    def train(which: Any) -> Callable[[], Any]:
        return lambda: fastopt.hogwild(
            X, y, loss=which, epochs=EPOCHS, step=0.1, threads=1, average=False
        )

    contenders = {"built in": train(loss), **{who: train(f) for who, f in OWN[loss].items()}}
    times = take_turns(contenders, seconds=0.01, rounds=9)
    base = times["built in"][0]
    return [
        {
            "data": name,
            "dtype": str(X.dtype),
            "loss": loss,
            "who": who,
            "ns per non-zero": 1e9 * median / EPOCHS / X.nnz,
            "of the built-in": median / base,
        }
        for who, (median, _, _) in times.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="smaller data")
    quick = parser.parse_args().quick
    rows = []
    for name, X, y in data_sets(quick):
        for dtype in ("f4", "f8"):
            for loss in OWN:
                rows += passes(name, X.astype(dtype), y, loss)
    show(rows, "a pass with step 0.1, one thread")
    if not quick:
        record("user-loss", rows)


if __name__ == "__main__":
    main()
