"""Curves of training against time, with matplotlib (the extra "plot")."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

__all__ = ["plot_history"]

LABELS = {"seconds": "seconds", "epoch": "epoch", "rows": "rows trained on"}


def plot_history(
    *histories: Any,
    x: str = "seconds",
    y: str = "objective",
    log: bool = True,
    labels: Sequence[str] | None = None,
    ax: Any = None,
) -> Any:
    """Draw how training went: one curve for each history and problem.

    Parameters
    ----------
    *histories : estimator, result or list of dict
        What has `history_` (a fitted estimator) or `history` (a result, as of `hogwild`), or such a
        list of records itself.
    x : {"seconds", "epoch", "rows"}, default "seconds"
        What is on the horizontal axis.
    y : str, default "objective"
        What is on the vertical axis: a key of the records, as "objective" or "score".
    log : bool, default True
        Whether the vertical axis is logarithmic; values of 0 or below have no place there, and are
        refused.
    labels : sequence of str, optional
        Names for the legend, one per history. Default: the estimators' classes, or numbers.
    ax : matplotlib.axes.Axes, optional
        Where to draw; default a new figure.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ImportError
        Without matplotlib: ``pip install 'fastopt[plot]'``.
    ValueError, TypeError
        If there is nothing to draw, naming what is missing and how to get it.

    Examples
    --------
    >>> import numpy as np, fastopt
    >>> X = fastopt.CSR(np.ones(4, "f4"), np.array([0, 1, 0, 1]), np.arange(5), (4, 2))
    >>> result = fastopt.hogwild(X, [1, -1, 1, -1], epochs=5, track_objective=True)
    >>> axes = fastopt.plot_history(result, x="epoch")  # doctest: +SKIP
    >>> axes.figure.savefig("training.png")  # doctest: +SKIP
    """
    if x not in LABELS:
        raise ValueError(f"x must be one of {', '.join(map(repr, LABELS))}, got {x!r}")
    if not histories:
        raise ValueError("histories must be at least one estimator, result or list of records")
    if labels is not None and len(labels) != len(histories):
        raise ValueError(f"labels must be {len(histories)} names, got {len(labels)}")
    curves = []
    for k, source in enumerate(histories):
        records, name = records_of(source, k)
        name = name if labels is None else labels[k]
        curves += curves_of(records, name, x, y, log)
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError("plot_history needs matplotlib: pip install 'fastopt[plot]'") from error
    if ax is None:
        ax = plt.figure().add_subplot()
    for name, across, up in curves:
        ax.plot(across, up, marker="." if len(across) < 30 else None, label=name)
    if log:
        ax.set_yscale("log")
    ax.set_xlabel(LABELS[x])
    ax.set_ylabel(y)
    if len(curves) > 1:
        ax.legend()
    return ax


def records_of(source: Any, k: int) -> tuple[list[dict[str, Any]], str]:
    """Return the records of a history, and a name for it."""
    name = f"run {k + 1}"
    if isinstance(source, list):
        return source, name
    if hasattr(source, "history_"):
        return source.history_, f"{type(source).__name__} {k + 1}"
    if hasattr(source, "history"):
        return source.history, name
    if hasattr(source, "fit"):
        raise ValueError(f"histories: this {type(source).__name__} is not fitted")
    raise TypeError(
        "histories must be fitted estimators, results or lists of records, got "
        f"{type(source).__name__}"
    )


def curves_of(
    records: list[dict[str, Any]], name: str, x: str, y: str, log: bool
) -> list[tuple[str, list[float], list[float]]]:
    """Return (name, x, y) of each problem in a history."""
    problems: dict[int, tuple[list[float], list[float]]] = {}
    for record in records:
        if x in record and record.get(y) is not None:
            across, up = problems.setdefault(record.get("problem", 0), ([], []))
            across.append(record[x])
            up.append(record[y])
    if not problems:
        there = sorted({key for record in records for key in record})
        raise ValueError(
            f"{name}: no record has {x!r} and {y!r}, only {there}. hogwild works out objectives "
            "with track_objective=True, an estimator with tol, target or verbose"
        )
    if log and min(min(up) for _, up in problems.values()) <= 0:
        raise ValueError(f"{name}: {y} is not above 0 everywhere: give log=False")
    several = len(problems) > 1
    return [
        (f"{name}, class {k}" if several else name, across, up)
        for k, (across, up) in sorted(problems.items())
    ]
