"""Sparse SVM, the first application of the Hogwild! paper: who earns more than 50,000 dollars.

UCI's Adult in the binary form of LIBLINEAR's collection: 32,560 rows, 123 columns of 0 and 1, 14 to
a row. The hinge loss with an L2 penalty, 20 passes over the rows in a tenth of a second.

    python examples/sparse_svm.py         (the data: $FASTOPT_DATA/a9a.svm.gz, a9a.t.svm.gz)
"""

import os
from pathlib import Path

import numpy as np

import fastopt

FOLDER = Path(os.environ.get("FASTOPT_DATA", Path(__file__).parents[2] / "shared" / "data"))


def main(quick: bool = False) -> dict[str, float]:
    """Train and test; return accuracies, the objective, a proven bound of it, and the time."""
    X, y = fastopt.load_svmlight(FOLDER / "a9a.svm.gz", n_features=123)[:2]
    X_test, y_test = fastopt.load_svmlight(FOLDER / "a9a.t.svm.gz", n_features=123)[:2]
    sign = np.where(y > 0, 1, -1)
    run = fastopt.hogwild(X, sign, loss="hinge", l2=1e-4, epochs=3 if quick else 20,
                          track_objective=True)  # fmt: skip
    best = fastopt.sdca(X, sign, loss="hinge", l2=1e-4, tol=1e-2)
    score = np.array([X_test.data[a:b] @ run.w[X_test.indices[a:b]]
                      for a, b in zip(X_test.indptr, X_test.indptr[1:], strict=False)])  # fmt: skip
    outcome = {
        "accuracy": float(np.mean((score + run.intercept > 0) == (y_test > 0))),
        "most frequent": float(np.mean(y_test <= 0)),
        "objective": run.history[-1]["objective"],
        "optimum, at least": best.objective - best.gap,
        "seconds": run.seconds,
    }
    for name, value in outcome.items():
        print(f"{name:20}{value:10.4f}")
    return outcome


if __name__ == "__main__":
    main()
