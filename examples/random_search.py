"""Random search against gradient descent: a linear classifier of images.

The first experiment of Stanford's lecture CS231n on optimization: a thousand random matrices W, the
best of them kept, against 300 steps along the gradient. There, on CIFAR-10, the losses of random
matrices lie near 9, and the best of 1000 is right for 15.5 % of the test images; guessing is for
10 %. Here it is MNIST, with scores Wx and the same loss, the multi-class SVM's: the sum over wrong
classes of max(0, score - right score + 1).

    python examples/random_search.py         (the data: $FASTOPT_DATA/mnist.npz)
"""

import os
from pathlib import Path

import numpy as np

import fastopt

FOLDER = Path(os.environ.get("FASTOPT_DATA", Path(__file__).parents[2] / "shared" / "data"))


def images(rows: int) -> tuple[np.ndarray, ...]:
    """Return training and test images in [0, 1], with a column of ones, and their labels."""
    data = np.load(FOLDER / "mnist.npz")

    def flat(x: np.ndarray) -> np.ndarray:
        return np.c_[x.reshape(len(x), -1) / 255.0, np.ones(len(x))].astype(np.float32)

    return (flat(data["train_x"][:rows]), data["train_y"][:rows].astype(int),
            flat(data["test_x"]), data["test_y"].astype(int))  # fmt: skip


def loss(W: np.ndarray, X: np.ndarray, y: np.ndarray) -> tuple[float, np.ndarray]:
    """Return the multi-class SVM loss and its gradient."""
    value, scores = fastopt.losses.multiclass_hinge(X @ W.T, y)
    return float(value), scores.T @ X


def accuracy(W: np.ndarray, X: np.ndarray, y: np.ndarray) -> float:
    """Return the part of the rows that W is right about."""
    return float(np.mean((X @ W.T).argmax(axis=1) == y))


def main(quick: bool = False) -> dict[str, float]:
    """Run both; return losses and accuracies."""
    draws, steps = (20, 60) if quick else (1000, 300)
    X, y, *test = images(500 if quick else 2000)

    def sample(rng: np.random.Generator) -> np.ndarray:
        return 1e-4 * rng.standard_normal((10, X.shape[1]), dtype=np.float32)

    best = fastopt.random_search(lambda W: loss(W, X, y)[0], sample, draws, seed=0)
    W = np.zeros((10, X.shape[1]), np.float32)
    opt = fastopt.SGD(W, lr=0.02, momentum=0.9)
    for _ in range(steps):
        opt.step(loss(W, X, y)[1])
    found = {
        "random loss": best.fun, "random accuracy": accuracy(best.x, *test),
        "descent loss": loss(W, X, y)[0], "descent accuracy": accuracy(W, *test),
    }  # fmt: skip
    print(f"{'':24}{'loss':>8}{'test accuracy':>16}")
    print(f"{f'best of {draws} random':24}{best.fun:8.3f}{found['random accuracy']:16.1%}")
    print(f"{f'{steps} steps of descent':24}{found['descent loss']:8.3f}"
          f"{found['descent accuracy']:16.1%}")  # fmt: skip
    print("the lecture, CIFAR-10: best of 1000 random: losses near 9, 15.5 %")
    return found


if __name__ == "__main__":
    main()
