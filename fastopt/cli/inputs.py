"""Data files of the command line: all rows in memory or mapped, with columns that fit a model."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from fastopt.data import CSR, DataError, Dataset, open_data
from fastopt.data.cache import MAGIC

__all__ = ["read", "shape"]

NUMBERED, TABLES = ("svmlight", "ffm"), ("csv", "parquet")


def read(
    path: str,
    on_progress: Callable[[str, float], object] | None = None,
    *,
    like: dict[str, Any] | None = None,
    labelled: bool = True,
    **options: Any,
) -> tuple[CSR, np.ndarray, np.ndarray | None, dict[str, Any], str]:
    """Return the rows of a data file, how to read others like them, and a line on what was read.

    Column k is index k: where indices start at 1, column 0 stays empty. Guessing the first index
    from each file by itself could shift a test file against its training file. A cache has it
    decided, and what is read like it follows.

    Parameters
    ----------
    path : str
        The file, in any format of `open_data`.
    on_progress : callable
        Given what has been read, and its part of the whole.
    like : dict, default None
        What this returned for the data that a model was trained on: the same columns are made.
    labelled : bool
        Whether a table must have its column of labels.
    options
        Others of `open_data`, if there is nothing that this is to be like.

    Returns
    -------
    X, y, weights
        As `Dataset.to_csr`.
    reading : dict
        For `like`; what JSON can hold.
    said : str
        What was read, and how fast.

    Raises
    ------
    DataError
        If the file is malformed, or its columns are not those of `like`.
    """
    size = 0

    def progress(done: int, total: int | None) -> None:
        nonlocal size
        size = done
        if on_progress and total:
            on_progress(f"{done / 1e6:,.0f} MB", done / total)

    start = time.perf_counter()
    how = options if like is None else options_of(like, path)
    how = {"zero_based": True, **how, "cache": False, "on_progress": progress}
    try:
        data = open_data(path, **how)
    except ValueError as error:
        if labelled or not str(error).startswith("label: the table has no column"):
            raise
        data = open_data(path, **{**how, "label": None})
    X, y, weights = data.to_csr()
    seconds = time.perf_counter() - start
    found = reading_of(data, options if like is None else like["options"])
    if like is not None:
        check_alike(path, found, like)
    size = size or os.path.getsize(path)
    packed = " of gzip" if path.endswith(".gz") else ""
    from_one = data.format in NUMBERED and data.zero_based and X.nnz and int(X.indices.min()) > 0
    said = f"{shape(X, X.shape[1] - bool(from_one))}; read {size / 1e6:.1f} MB{packed}"
    return X, y, weights, found, f"{said} in {seconds:.2f} s: {size / 1e6 / seconds:,.0f} MB/s"


def reading_of(data: Dataset, options: dict[str, Any]) -> dict[str, Any]:
    """Return what makes the columns of a data set what they are."""
    schema = data.reading.get("schema")
    numbers = strings = None
    if schema:
        kinds = list(zip(schema["names"], schema["kinds"], strict=True))
        numbers = [name for name, kind in kinds if kind == "number"]
        strings = [name for name, kind in kinds if kind == "string"]
    return {
        "format": data.format,
        "zero_based": bool(data.zero_based) if data.format in NUMBERED else None,
        "n_features": None if data.format in NUMBERED else data.n_features,
        "numbers": numbers,
        "strings": strings,
        "options": options,
    }


def options_of(like: dict[str, Any], path: str) -> dict[str, Any]:
    """Return the arguments of `open_data` that make the same columns of another file."""
    if os.path.isfile(path):
        with open(path, "rb") as file:
            if file.read(len(MAGIC)) == MAGIC:
                return {}
    options = {**like["options"]}
    if like["format"] in NUMBERED:
        options["zero_based"] = like["zero_based"]
    if like["format"] in TABLES:
        options.pop("format", None)  # either will do
        options["categorical"] = like["strings"]
    elif like["format"] != "arrays":
        options["format"] = like["format"]
    return options


def check_alike(path: str, found: dict[str, Any], like: dict[str, Any]) -> None:
    """Raise if columns of the same number are not the same column."""

    def family(reading: dict[str, Any]) -> str:
        return "a table" if reading["format"] in TABLES else f"{reading['format']} data"

    problem = None
    if family(found) != family(like):
        problem = f"it is {family(found)}, the training data was {family(like)}"
    elif found["zero_based"] != like["zero_based"]:
        first = [0 if reading["zero_based"] else 1 for reading in (found, like)]
        problem = f"its columns count from {first[0]}, those of the training data from {first[1]}"
    elif found["numbers"] != like["numbers"]:
        problem = f"its columns of numbers are {found['numbers']}, in training {like['numbers']}"
    elif found["n_features"] != like["n_features"]:
        problem = f"it has {found['n_features']:,} columns, in training {like['n_features']:,}"
    if problem:
        raise DataError(path, 0, 0, problem)


def shape(X: CSR, columns: int | None = None) -> str:
    """Return the size of `X` in words; `columns` if they are not those of `X`.

    Examples
    --------
    >>> shape(CSR(np.ones(3, "f4"), np.arange(3, dtype="i4"), np.array([0, 1, 3]), (2, 5)))
    '2 rows × 5 columns, 3 non-zeros (1.5 a row)'
    """
    rows, columns, nnz = X.shape[0], columns or X.shape[1], len(X.data)
    density = f"{nnz / max(rows, 1):.1f} a row"
    return f"{rows:,} rows × {columns:,} columns, {nnz:,} non-zeros ({density})"
