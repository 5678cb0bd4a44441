"""Other people's sparse trainers for `bench_hogwild`, where they are installed.

Each is name -> (efforts, train); train(effort) returns (w, intercept), or a function that does, of
which the time does not count: it reads weights out of a program that keeps them in its own form.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

Model = tuple[np.ndarray, float]
Train = Callable[[Any], Model | Callable[[], Model]]

PASSES = (1, 2, 3, 5, 10, 20)
TOLERANCES = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
CONSTANT = 11650396  # where VW has its intercept, modulo the size of its table


def vowpal_wabbit(X: Any, y: np.ndarray, loss: str, l2: float) -> Iterator[tuple[str, Any, Train]]:
    """VW by its default rule, on examples that it has parsed before the clock starts.

    With L2 and without: what it takes away at each row does not fit its adaptive steps.
    """
    try:
        from vowpalwabbit import Workspace
    except ImportError:
        return
    bits = max(18, int(X.shape[1]).bit_length())
    common = f"--quiet -b {bits} --loss_function {loss}"
    lines = []
    for i in range(X.shape[0]):
        here = slice(X.indptr[i], X.indptr[i + 1])
        pairs = zip(X.indices[here], X.data[here], strict=True)
        lines.append(f"{int(y[i])} | " + " ".join(f"{j}:{v:.7g}" for j, v in pairs))

    parser = Workspace(common)
    parsed = [parser.example(line) for line in lines]

    def train(passes: int, flags: str = f"--l2 {l2}") -> Callable[[], Model]:
        folder = tempfile.TemporaryDirectory()
        text = Path(folder.name) / "weights"
        vw = Workspace(f"{common} {flags} -f {folder.name}/model --readable_model {text}")
        for _ in range(passes):
            for example in parsed:
                vw.learn(example)

        def model() -> Model:
            vw.finish()
            w, constant = np.zeros(X.shape[1]), CONSTANT & ((1 << bits) - 1)
            lines = text.read_text().splitlines()
            folder.cleanup()
            # the weights are these times what L2 has left of all of them
            at = next(k for k, line in enumerate(lines) if line.startswith("l2_state"))
            scale = float(lines[at].split()[1])
            pairs = [line.split()[0].split(":") for line in lines[at + 1 :]]
            values = {int(j): scale * float(value) for j, value in pairs}
            intercept = values.pop(constant, 0.0)
            w[list(values)] = list(values.values())
            return w.astype(np.float32), intercept

        return model

    yield "VW", PASSES, train
    yield "VW without L2", PASSES, lambda passes: train(passes, "")


def snap_ml(X: Any, y: np.ndarray, loss: str, l2: float) -> Iterator[tuple[str, Any, Train]]:
    """Snap ML's dual solvers, on 1 and 2 threads."""
    try:
        from snapml import LogisticRegression, SupportVectorMachine
    except ImportError:
        return
    kind = SupportVectorMachine if loss == "hinge" else LogisticRegression

    def trainer(threads: int) -> Train:
        def train(tol: float) -> Model:
            model = kind(
                regularizer=l2 * X.shape[0], tol=tol, n_jobs=threads, fit_intercept=True,
                max_iter=1000, random_state=0,
            )  # fmt: skip
            model.fit(X, y)
            return np.ravel(model.coef_).astype(np.float32), float(np.ravel(model.intercept_)[0])

        return train

    for threads in (1, 2):
        yield f"Snap ML, {threads} thread{'s' * (threads > 1)}", TOLERANCES, trainer(threads)


def all_of(X: Any, y: np.ndarray, loss: str, l2: float) -> dict[str, tuple[Any, Train]]:
    """Return all peers that are installed."""
    found = [*vowpal_wabbit(X, y, loss, l2), *snap_ml(X, y, loss, l2)]
    return {name: (efforts, train) for name, efforts, train in found}
