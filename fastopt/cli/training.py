"""What `fastopt train` does, without the terminal: data in, a model and its numbers out."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fastopt.cli.inputs import read, shape
from fastopt.data import CSR, demo
from fastopt.sparse.checkpoint import Checkpoint
from fastopt.sparse.evaluation import objective as exact
from fastopt.sparse.hogwild import hogwild
from fastopt.sparse.models import LinearModel, classes_of
from fastopt.sparse.multiclass import MULTI_LOSSES, multiclass, multiclass_objective
from fastopt.sparse.one_vs_rest import one_vs_rest
from fastopt.sparse.rows import LOSSES, Settings

__all__ = ["Data", "Run", "demo_data", "evaluate", "fit", "read", "shape", "split"]

HELD_OUT = 0.1
FEWEST_ROWS = 20  # below, nothing is held out


@dataclass(frozen=True)
class Data:
    """Rows to train on and rows to test on.

    Attributes
    ----------
    name : str
        Where they come from.
    X, X_test : CSR
        The rows; `X_test` may be None.
    y, y_test : numpy.ndarray
        The labels as they stand in the source.
    classes : numpy.ndarray or None
        The distinct labels of `y`, sorted; None for regression.
    weights : numpy.ndarray or None
        Weights of the rows to train on.
    reading : dict
        How the rows were read, so that others get the same columns: `like` of `read`.
    """

    name: str
    X: CSR
    y: np.ndarray
    X_test: CSR | None
    y_test: np.ndarray | None
    classes: np.ndarray | None
    weights: np.ndarray | None = None
    reading: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Run:
    """One training: the model and the numbers of the table.

    Attributes
    ----------
    model : LinearModel
    status, message : str
        As the runner says: "finished", "stopped" or "diverged", and a sentence.
    mode, reason : str
        How the threads shared the weights, and why.
    threads, asked : int
        How many threads were used, and how many asked for.
    seconds : float
        Time of training alone.
    rows_per_second, nnz_per_second : float
        With one classifier per class, a row counts once when all of them have seen it, and a
        non-zero once for each.
    objective : float
        At the end; with one classifier per class, the mean of theirs.
    metrics : dict
        What `evaluate` returned; {} without test rows.
    history : list of dict
        One record per epoch, with objective if it was tracked, and problem.
    resumed : int
        Rows that a checkpoint brought.
    conflicts : dict
        As of `fastopt.HogwildResult`, of the first classifier.
    """

    model: LinearModel
    status: str
    message: str
    mode: str
    reason: str
    threads: int
    asked: int
    seconds: float
    rows_per_second: float
    nnz_per_second: float
    objective: float
    metrics: dict[str, float]
    history: list[dict[str, Any]] = field(default_factory=list)
    resumed: int = 0
    conflicts: dict[str, float] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return all but the model, as JSON has it: numbers that are not finite are None."""
        named = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "model"}
        return {**named, "objective": self.objective if np.isfinite(self.objective) else None}


def split(n_rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows to train on and the tenth to hold out: the same for every file of that size.

    Examples
    --------
    >>> train, test = split(1000)
    >>> len(train), len(test), len(np.intersect1d(train, test))
    (900, 100, 0)
    >>> len(split(19)[1])
    0
    """
    count = int(n_rows * HELD_OUT) if n_rows >= FEWEST_ROWS else 0
    order = np.random.default_rng(0).permutation(n_rows)
    return np.sort(order[count:]), np.sort(order[:count])


def file_data(
    name: str,
    X: CSR,
    y: np.ndarray,
    test: tuple[CSR, np.ndarray] | None,
    loss: str,
    weights: np.ndarray | None = None,
    reading: dict[str, Any] | None = None,
) -> Data:
    """Return the rows of a file with those of a test file, or with a tenth of its own held out."""
    if X.shape[0] == 0:
        raise ValueError(f"{name}: has no rows")
    if X.nnz == 0:
        raise ValueError(f"{name}: has no values, only labels")
    if np.isnan(y).any():
        row = int(np.isnan(y).argmax()) + 1
        raise ValueError(f"{name}: row {row:,} has no label; in a table, --label names the column")
    if test is not None and np.isnan(test[1]).any():
        row = int(np.isnan(test[1]).argmax()) + 1
        raise ValueError(f"{name}: row {row:,} of the test rows has no label")
    if test is None:
        train, held = split(X.shape[0])
        if len(held):
            test = demo.take(X, held), y[held]
            X, y = demo.take(X, train), y[train]
            weights = None if weights is None else weights[train]
    try:
        classes = None if loss == "squared" else classes_of(y)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    return Data(name, X, y, *(test or (None, None)), classes, weights, reading or {})


def demo_data(found: demo.Demo) -> Data:
    """Return the built-in data with the packages' names as labels."""
    names = np.array(found.classes)
    return Data(
        "demo", found.X_train, names[found.y_train], found.X_test, names[found.y_test], names
    )


def fit(
    data: Data,
    threads: int,
    callback: Callable[[Any], bool],
    *,
    loss: str,
    l2: float,
    version: str,
    track: bool = False,
    checkpoint: Checkpoint | None = None,
    **options: Any,
) -> Run:
    """Train on `data` with `threads` threads and evaluate the model.

    Parameters
    ----------
    data : Data
        The rows.
    threads : int
        How many threads.
    callback : callable
        Given the runner's progress between slices; returning True stops the training.
    loss, l2, options
        As `fastopt.hogwild` takes them.
    version : str
        The version to write into the model's settings.
    track : bool
        Whether to work out the objective after each epoch.
    checkpoint : Checkpoint or None
        What training goes on from, and is written to.

    Returns
    -------
    Run
    """
    X, classes = data.X, data.classes
    options = {"loss": loss, "l2": l2, "average": True, "fit_intercept": True, **options}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "hogwild diverged", RuntimeWarning)
        if classes is None:
            done = hogwild(
                X, data.y, sample_weight=data.weights, threads=threads, callback=callback,
                track_objective=track, checkpoint=checkpoint, **options,
            )  # fmt: skip
            W, b, results, targets = done.w[None, :], np.array([done.intercept]), [done], [data.y]
        else:
            codes = np.searchsorted(classes, data.y)
            together = loss in MULTI_LOSSES
            losses = MULTI_LOSSES if together else LOSSES
            settings = Settings.check(
                threads=threads, losses=losses, **{"decay": 0.9, "mode": "auto", **options}
            )
            every = (multiclass if together else one_vs_rest)(
                X, codes, len(classes), settings, sample_weight=data.weights, callback=callback,
                track_objective=track, checkpoint=checkpoint,
            )  # fmt: skip
            W, b, results = every.W, every.b, every.results
            positive = [1] if len(classes) == 2 else range(len(classes))
            targets = (np.where(codes == k, 1, -1) for k in positive)
            for k in [] if loss in MULTI_LOSSES else range(len(results), len(W)):
                # Stopped before its turn: the best constant.
                share = np.mean(codes == k)
                b[k] = np.log(share / (1 - share)) if loss == "logistic" else -1.0
    worst = next((result for result in results if result.status != "finished"), results[-1])
    objective, metrics = float("nan"), {}
    if worst.status != "diverged" and loss in MULTI_LOSSES:
        objective = multiclass_objective(X, codes, W, b, settings, data.weights)
    elif worst.status != "diverged":
        objective = np.mean([
            exact(X, y, w, intercept, loss=loss, l2=l2, sample_weight=data.weights, threads=threads)
            for y, w, intercept in zip(targets, W, b, strict=True)
        ])  # fmt: skip
    seconds = sum(result.seconds for result in results)
    of_a_row = 1 if loss in MULTI_LOSSES else len(W)
    model = LinearModel(W, b, classes, {
        **options, "threads": worst.threads, "mode": worst.mode, "data": data.name,
        "rows": X.shape[0], "fastopt": version, "reading": data.reading,
    })  # fmt: skip
    if worst.status != "diverged" and data.X_test is not None:
        metrics = evaluate(model, data.X_test, data.y_test)
    return Run(
        model, worst.status, worst.message, worst.mode, worst.reason, worst.threads, threads,
        seconds, sum(result.rows for result in results) / of_a_row / seconds if seconds else 0.0,
        sum(result.nnz for result in results) / seconds if seconds else 0.0, float(objective),
        metrics,
        [{"problem": k, **h} for k, result in enumerate(results) for h in result.history],
        sum(result.resumed for result in results),
        results[0].conflicts,
    )  # fmt: skip


def evaluate(model: LinearModel, X: CSR, y: np.ndarray) -> dict[str, float]:
    """Return {"accuracy": ...}, or {"RMSE": ..., "R²": ...} for regression, on the rows `X`."""
    return metrics_of(model, model.predict(X), y)


def metrics_of(model: LinearModel, predicted: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """Return how good the predictions `predicted` are for the labels `y`."""
    if model.classes is not None:
        return {"accuracy": float(np.mean(predicted == y))}
    error = float(np.mean((predicted - y) ** 2))
    spread = float(np.var(y))
    return {"RMSE": error**0.5, "R²": 1 - error / spread if spread > 0 else float("nan")}
