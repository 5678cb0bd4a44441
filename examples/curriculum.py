"""Does it help to begin with the easy rows? Averages over seeds, with their standard errors.

A linear classifier learns from rows of which 40 % have labels that are wrong as often as not.
A teacher, trained once on all rows, says how difficult each row is: its loss there. Every order
visits the same number of rows in every epoch, so that none has seen more than another:

easy-first  the curriculum: the easiest rows, more of them in each epoch, in the end all
random      as many rows, but any
hard-first  as many, the most difficult ones

Shown is the accuracy on rows with right labels, after each epoch, and that of the teacher, which is
what the easy rows bring along: it has seen all rows 20 times. Run it: python curriculum.py
"""

from __future__ import annotations

import numpy as np

import fastopt

ORDERS = ("teacher", "easy-first", "random", "hard-first")
EPOCHS = 6


def make(n: int, d: int, rng: np.random.Generator, w: np.ndarray, wrong: float) -> tuple:
    """Return rows as CSR, and labels, of a part `wrong` of which half are turned round."""
    dense = rng.normal(size=(n, d)).astype("f4")
    y = np.where(dense @ w > 0, 1.0, -1.0)
    y[rng.random(n) < wrong / 2] *= -1
    X = fastopt.CSR(
        dense.ravel(), np.tile(np.arange(d, dtype="i4"), n), np.arange(n + 1) * d, (n, d)
    )
    return X, y, dense


def accuracy(model: fastopt.HogwildResult, dense: np.ndarray, y: np.ndarray) -> float:
    """Return the part of the rows whose label a model knows."""
    return float(np.mean(np.sign(dense @ model.w + model.intercept) == y))


def accuracies(order: str, seed: int, n: int = 2000, d: int = 100) -> np.ndarray:
    """Return the accuracy after each epoch."""
    rng = np.random.default_rng(seed)
    w = rng.normal(size=d)
    X, y, dense = make(n, d, rng, w, wrong=0.4)
    _, y_test, test = make(4000, d, rng, w, wrong=0.0)
    settings = {"l2": 1e-3, "threads": 1, "seed": seed}
    teacher = fastopt.hogwild(X, y, epochs=20, **settings)
    if order == "teacher":
        return np.full(EPOCHS, accuracy(teacher, test, y_test))
    difficulty = np.logaddexp(0, -y * (dense @ teacher.w + teacher.intercept))
    if order == "random":
        difficulty, order = rng.random(n), "easy-first"
    curriculum = fastopt.Curriculum(
        difficulty, "root", start=0.3, full_at=10, order=order, stratify=y, seed=seed
    )
    found = []
    for epochs in range(1, EPOCHS + 1):
        result = fastopt.hogwild(
            X, y, order=curriculum, epochs=epochs, step=0.02, average=False, **settings
        )
        found.append(accuracy(result, test, y_test))
    return np.array(found)


def compare(seeds: int, **size: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return for each order the mean over seeds after each epoch, and its standard error."""
    found = {}
    for order in ORDERS:
        every = np.array([accuracies(order, seed, **size) for seed in range(seeds)])
        found[order] = every.mean(0), every.std(0, ddof=1) / np.sqrt(seeds)
    return found


if __name__ == "__main__":
    print("accuracy in %, mean of 20 seeds ± standard error, after epoch")
    print(f"{'':12}" + "".join(f"{epoch:>13}" for epoch in range(1, EPOCHS + 1)))
    for name, (mean, error) in compare(20).items():
        cells = (f"{100 * m:6.2f} ± {100 * e:.2f}" for m, e in zip(mean, error, strict=True))
        print(f"{name:12}" + "".join(f"{cell:>13}" for cell in cells))
