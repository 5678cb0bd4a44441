"""Small against large random weights at the start of a deep network.

Ten layers of 100 tanh units on random inputs. With weights of standard deviation 0.01 what a layer
says is 0.1 of what the one before said: nothing arrives, and no gradient comes back. With 1 most
units say -1 or 1, and the gradient explodes. Xavier's 1 / sqrt(units) keeps both in range (Glorot
and Bengio, 2010), for ReLUs it is He's sqrt(2 / units). Then three such layers are trained.

    python examples/initialization.py
"""

from collections.abc import Callable

import numpy as np

import fastopt
from fastopt import initializers

UNITS, LAYERS = 100, 10
STARTS: dict[str, Callable[[int], np.ndarray]] = {
    "small, 0.01": lambda seed: initializers.small_random((UNITS, UNITS), 0.01, seed=seed),
    "Xavier": lambda seed: initializers.xavier_normal((UNITS, UNITS), seed=seed),
    "large, 1": lambda seed: initializers.small_random((UNITS, UNITS), 1.0, seed=seed),
}


def passed(weights: list[np.ndarray], x: np.ndarray) -> list[np.ndarray]:
    """Return what each layer says."""
    said = [x]
    for W in weights:
        said.append(np.tanh(said[-1] @ W))
    return said


def back(weights: list[np.ndarray], said: list[np.ndarray], g: np.ndarray) -> list[np.ndarray]:
    """Return the gradients of the weights, from that of what the last layer says."""
    grads = []
    for W, before, after in zip(weights[::-1], said[-2::-1], said[:0:-1], strict=True):
        g = g * (1 - after**2)
        grads.append(before.T @ g)
        g = g @ W.T
    return grads[::-1]


def trained(start: Callable[[int], np.ndarray], steps: int) -> float:
    """Return the part of the loss that is left after training three layers."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((256, UNITS))
    y = np.tanh(x @ rng.standard_normal((UNITS, UNITS)) / np.sqrt(UNITS))
    weights = [start(k) for k in range(3)]
    opt = fastopt.SGD(weights, lr=1.0, momentum=0.9)
    losses = []
    for _ in range(steps):
        said = passed(weights, x)
        losses.append(float(np.mean((said[-1] - y) ** 2)))
        opt.step(back(weights, said, 2 * (said[-1] - y) / y.size))
    return losses[-1] / losses[0]


def main(quick: bool = False) -> dict[str, dict[str, float]]:
    """Measure signals, gradients and training; return them for each start."""
    x = np.random.default_rng(1).standard_normal((200, UNITS))
    outcome = {}
    print(f"{'standard deviations:':20}{'1st layer':>10}{'10th':>10}{'|unit|<0.99':>13}"
          f"{'gradient of 1st':>17}{'loss left':>11}")  # fmt: skip
    for name, start in STARTS.items():
        weights = [start(k) for k in range(LAYERS)]
        said = passed(weights, x)
        grads = back(weights, said, np.ones_like(said[-1]))
        row = {
            "first": float(said[1].std()), "last": float(said[-1].std()),
            "alive": float(np.mean(np.abs(said[-1]) < 0.99)),
            "gradient": float(np.linalg.norm(grads[0])),
            "loss": trained(start, 50 if quick else 200),
        }  # fmt: skip
        outcome[name] = row
        print(f"{name:20}{row['first']:10.3f}{row['last']:10.1e}{row['alive']:13.0%}"
              f"{row['gradient']:17.1e}{row['loss']:11.1%}")  # fmt: skip
    return outcome


if __name__ == "__main__":
    main()
