"""Rates of convergence, measured: exact, quadratic, linear, O(1/n) and O(1/n²).

Newton's method is exact after one step on a quadratic, and near any other good minimum doubles the
correct digits in each step. Gradient descent multiplies the error by a factor where the function
bends upwards in every direction; on log(1 + exp(-x)), which has no minimum, f falls like 1/n, and
on x⁴ like 1/n². `fastopt.convergence.rate_of` tells them apart by the errors alone.

    python examples/rates.py
"""

from collections.abc import Callable

import numpy as np

import fastopt
from fastopt.convergence import PROBLEMS, rate_of


def newton(grad: Callable, hess: Callable, x: np.ndarray, steps: int) -> list[float]:
    """Return the distances of Newton's iterates from the minimum at 0."""
    distances = [float(np.linalg.norm(x))]
    for _ in range(steps):
        x = x - np.linalg.solve(hess(x), grad(x))
        distances.append(float(np.linalg.norm(x)))
    return distances


def descent(fun: Callable, grad: Callable, x0: float, lr: float, steps: int) -> list[float]:
    """Return the errors of gradient descent on a function of one variable with infimum 0."""
    found = fastopt.compare((fun, grad, [x0]), [("SGD", {"lr": lr})], steps=steps, tol=0.0)
    return found.histories[0].f.tolist()


def main(quick: bool = False) -> dict[str, tuple[str, float]]:
    """Measure all of them; return kind and value of each rate."""
    steps, bowl = 500 if quick else 5000, PROBLEMS["valley"]
    valley = fastopt.compare("valley", [("SGD", {"lr": 0.015})], steps=min(steps, 2000))
    errors = {
        "Newton, valley": newton(bowl.grad, bowl.hess, bowl.x0, 1),
        "Newton, e^x - x": newton(np.expm1, lambda x: np.diag(np.exp(x)), np.ones(1), 5),
        "descent, valley": valley.histories[0].errors,
        "descent, log(1 + e^-x)": descent(
            lambda x: np.log1p(np.exp(-x[0])), lambda x: -1 / (1 + np.exp(x)), 0.0, 1.0, steps),
        "descent, x^4": descent(lambda x: x[0] ** 4, lambda x: 4 * x**3, 1.0, 0.02, steps),
    }  # fmt: skip
    outcome = {}
    print(f"{'':24}{'errors: 1st':>12}{'2nd':>10}{'last':>10}  rate")
    for name, found in errors.items():
        rate = rate_of(found)
        outcome[name] = (rate.kind, rate.value)
        print(f"{name:24}{found[0]:12.2e}{found[1]:10.2e}{found[-1]:10.2e}  {rate}")
    return outcome


if __name__ == "__main__":
    main()
