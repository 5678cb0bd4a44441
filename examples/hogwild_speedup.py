"""Hogwild!: what threads without locks gain, and what they cost in quality.

Sparse logistic regression, 60 of 20,000 columns in a row: threads write to one vector of weights
and hardly ever meet. The other mode gives each thread a copy of its own, and merges them. The gain
is measured in non-zeros a second, the cost in the objective.

    python examples/hogwild_speedup.py
"""

from typing import Any

import numpy as np

import fastopt


def words(rows: int, columns: int, per_row: int) -> tuple[fastopt.CSR, np.ndarray]:
    """Return rows, some columns in more of them, and labels that a linear model nearly explains."""
    rng = np.random.default_rng(0)
    share = 1 / np.arange(1, columns + 1) ** 0.3
    indices = rng.choice(columns, size=(rows, per_row), p=share / share.sum())
    indices.sort(axis=1)
    values = np.full((rows, per_row), 1 / np.sqrt(per_row), np.float32)
    values[:, 1:][indices[:, 1:] == indices[:, :-1]] = 0  # a column that came twice
    X = fastopt.CSR(values.ravel(), indices.ravel(), np.arange(0, rows * per_row + 1, per_row),
                    (rows, columns))  # fmt: skip
    true = rng.standard_normal(columns)
    score = (true[indices] * values).sum(axis=1)
    return X, np.where(score + 0.3 * rng.standard_normal(rows) > 0, 1, -1)


def main(quick: bool = False) -> list[dict[str, Any]]:
    """Train with one thread, then with all in both modes; return speed-up and objective of each."""
    X, y = words(*((5_000, 2_000, 20) if quick else (100_000, 20_000, 60)))
    most = fastopt.get_num_threads()
    outcome: list[dict[str, Any]] = []
    print(f"{'threads':>8}{'mode':>10}{'M non-zeros/s':>15}{'speed-up':>10}{'objective':>11}")
    for threads, mode in ((1, "serial"), (most, "shared"), (most, "copies"))[: 1 + 2 * (most > 1)]:
        runs = [
            fastopt.hogwild(X, y, l2=1e-5, epochs=10, threads=threads, mode=mode,
                            track_objective=True) for _ in range(3)
        ]  # fmt: skip
        result = max(runs, key=lambda run: run.nnz_per_second)  # the least disturbed
        row = {"threads": result.threads, "mode": result.mode, "rate": result.nnz_per_second,
               "objective": result.history[-1]["objective"]}  # fmt: skip
        outcome.append(row)
        row["speed-up"] = row["rate"] / outcome[0]["rate"]
        print(f"{row['threads']:8}{row['mode']:>10}{row['rate'] / 1e6:15.1f}"
              f"{row['speed-up']:10.2f}{row['objective']:11.5f}")  # fmt: skip
    return outcome


if __name__ == "__main__":
    main()
