"""The columns of Figure 2 of the Hogwild! paper for any data: every mode on the same rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import fastopt
from fastopt.cli import training
from fastopt.data import sparsity

__all__ = ["MODES", "Comparison", "Row", "compare"]

#: What each mode is called here and in the paper.
MODES = {
    "serial": "one thread",
    "shared": "the paper's Hogwild!",
    "copies": "private copies, merged",
    "rounds": "the same bits for any threads",
    "rr": "the paper's RR: writing in turn",
    "aig": "the paper's AIG: locks of a row's weights",
}


@dataclass(frozen=True)
class Row:
    """One training.

    Attributes
    ----------
    mode, meaning : str
        Of `MODES`.
    ran, reason : str
        The mode that it really was, "serial" where threads cannot help, and why.
    threads : int
    seconds : float
        Of training alone.
    train_error, test_error : float or None
        Part of the rows whose class is wrong, or the root mean squared error of numbers.
    objective : float
    speedup, against_rr, against_aig : float or None
        Seconds of serial, RR and AIG over these.
    overwritten : float or None
        Of mode "shared", the part of the watched writes that another thread's write was lost to.
    status : str
        "finished", or why it was not: "stopped", "diverged".
    """

    mode: str
    meaning: str
    ran: str
    reason: str
    threads: int
    seconds: float
    train_error: float | None
    test_error: float | None
    objective: float
    speedup: float | None
    against_rr: float | None
    against_aig: float | None
    overwritten: float | None
    status: str


@dataclass(frozen=True)
class Comparison:
    """What `compare` returns.

    Attributes
    ----------
    stats : Stats
        The data's Omega, Delta and rho, among others: see `fastopt.data.sparsity.Stats`.
    rows : list of Row
        One per mode.
    """

    stats: sparsity.Stats
    rows: list[Row]

    def as_dict(self) -> dict[str, Any]:
        """Return all of it, as JSON has it."""
        return {"stats": self.stats.as_dict(), "rows": [asdict(row) for row in self.rows]}


def compare(
    data: training.Data,
    threads: int,
    modes: Sequence[str] = tuple(MODES),
    callback: Callable[[str, Any], bool] = lambda mode, progress: False,
    *,
    loss: str = "hinge",
    l2: float = 1e-4,
    epochs: int = 20,
    step: float | str = "auto",
    schedule: str = "inverse_time",
    seed: int = 0,
) -> Comparison:
    """Train in each mode on the same rows, from 0, with the same steps.

    Parameters
    ----------
    data : training.Data
        Rows to train on, and to test on: `training.file_data` makes it of arrays.
    threads : int
        Of all modes but "serial".
    modes : sequence of str
        Of `MODES`.
    callback : callable
        Given the mode and the runner's progress; returning True ends the comparison.
    loss, l2, epochs, step, schedule, seed
        As `fastopt.hogwild` takes them.

    Returns
    -------
    Comparison
        Up to the mode in which training was stopped or diverged.

    Examples
    --------
    >>> import numpy as np
    >>> from fastopt.cli.training import file_data
    >>> r = np.random.default_rng(0)
    >>> x = r.normal(size=(600, 5)).astype("f4")
    >>> X = fastopt.CSR(x.ravel(), np.tile(np.arange(5), 600), np.arange(601) * 5, (600, 5))
    >>> found = compare(file_data("made up", X, np.sign(x[:, 0]), None, "hinge"), 2)
    >>> [row.mode for row in found.rows], found.stats.rho
    (['serial', 'shared', 'copies', 'rounds', 'rr', 'aig'], 1.0)
    """
    options = {"loss": loss, "l2": l2, "epochs": epochs, "step": step, "schedule": schedule}
    stats = sparsity.measure(lambda: [(data.X, data.y, data.weights)], data.X.shape[1], threads)
    runs: dict[str, training.Run] = {}
    for mode in modes:
        runs[mode] = training.fit(
            data,
            threads,
            lambda progress, mode=mode: callback(mode, progress),
            version=fastopt.__version__,
            mode=mode,
            seed=seed,
            **options,
        )
        if runs[mode].status != "finished":
            break
    seconds = {mode: run.seconds for mode, run in runs.items()}

    def row(mode: str, run: training.Run) -> Row:
        def times(other: str) -> float | None:
            return seconds[other] / run.seconds if other in seconds and run.seconds else None

        known = run.status != "diverged"
        trained = training.evaluate(run.model, data.X, data.y) if known else {}
        return Row(
            mode,
            MODES[mode],
            run.mode,
            run.reason,
            run.threads,
            run.seconds,
            error_of(trained),
            error_of(run.metrics),
            run.objective,
            times("serial"),
            times("rr"),
            times("aig"),
            run.conflicts.get("overwritten"),
            run.status,
        )

    return Comparison(stats, [row(mode, run) for mode, run in runs.items()])


def error_of(metrics: dict[str, float]) -> float | None:
    """Return the error in what `training.evaluate` found.

    Examples
    --------
    >>> error_of({"accuracy": 0.75}), error_of({"RMSE": 2.0, "R²": 0.5}), error_of({})
    (0.25, 2.0, None)
    """
    if "accuracy" in metrics:
        return 1 - metrics["accuracy"]
    error = metrics.get("RMSE", math.nan)
    return error if math.isfinite(error) else None
