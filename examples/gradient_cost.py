"""What a numerical gradient costs, and how near it comes.

Differences need two values of the loss for each parameter, the analytic gradient about the time of
two values in all: for n parameters it is about n times as fast. Of the lecture's worked example, f
goes from 1.25347 to 1.25322 with h = 0.0001, which makes -2.5. Forward differences are off by order
h, central ones by h², complex steps by rounding alone.

    python examples/gradient_cost.py
"""

import time
from collections.abc import Callable

import numpy as np

import fastopt

ROWS = 200


def softmax(n: int) -> tuple[Callable, Callable, np.ndarray]:
    """Return loss and gradient of a linear classifier of n weights, and a point."""
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((ROWS, n // 10)), rng.integers(0, 10, ROWS)
    rows = np.arange(ROWS)

    def loss(w: np.ndarray) -> np.ndarray:
        scores = X @ w.reshape(-1, 10)
        return (np.log(np.exp(scores).sum(axis=1)) - scores[rows, y]).mean()

    def gradient(w: np.ndarray) -> np.ndarray:
        p = np.exp(X @ w.reshape(-1, 10))
        p /= p.sum(axis=1, keepdims=True)
        p[rows, y] -= 1
        return (X.T @ p / ROWS).ravel()

    return loss, gradient, 0.1 * rng.standard_normal(n)


def timed(call: Callable) -> tuple[object, float]:
    """Return what a call returns, and the least time of three of them."""
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        result = call()
        seconds.append(time.perf_counter() - start)
    return result, min(seconds)


def main(quick: bool = False) -> dict[int, dict[str, float]]:
    """Measure gradients of more and more parameters; return times and errors."""
    outcome: dict[int, dict[str, float]] = {}
    print(f"{'n':>6}{'analytic':>12}{'central':>12}{'ratio':>9}"
          f"{'error: forward':>16}{'central':>10}{'complex':>10}")  # fmt: skip
    for n in (20, 100) if quick else (20, 100, 1000):
        loss, gradient, w = softmax(n)
        exact, analytic = timed(lambda: gradient(w))  # noqa: B023
        row = {"analytic": analytic}
        for method in ("forward", "central", "complex"):
            found, row[f"{method} seconds"] = timed(
                lambda: fastopt.numerical_grad(loss, w, method)  # noqa: B023
            )
            row[method] = float(np.linalg.norm(found - exact) / np.linalg.norm(exact))
        row["ratio"] = row["central seconds"] / analytic
        outcome[n] = row
        print(f"{n:6}{analytic * 1e6:9.0f} µs{row['central seconds'] * 1e6:9.0f} µs"
              f"{row['ratio']:9.0f}{row['forward']:16.1e}{row['central']:10.1e}"
              f"{row['complex']:10.1e}")  # fmt: skip
    slope = (1.25322 - 1.25347) / 0.0001
    print(f"the lecture's example: (1.25322 - 1.25347) / 0.0001 = {slope:.1f}")
    return outcome


if __name__ == "__main__":
    main()
