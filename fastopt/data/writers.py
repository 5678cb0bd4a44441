"""Writing data sets: as text that other programs read, or as a cache."""

from __future__ import annotations

import contextlib
import gzip
import os
import re
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np

from fastopt.data.cache import writing
from fastopt.data.csr import CSR
from fastopt.data.dataset import Dataset
from fastopt.files import replacing

__all__ = ["WRITTEN", "format_of", "write"]

WRITTEN = ("svmlight", "vw", "ffm", "cache")
SUFFIXES = {"svm": "svmlight", "svmlight": "svmlight", "libsvm": "svmlight", "vw": "vw",
            "ffm": "ffm", "fastopt": "cache"}  # fmt: skip


def format_of(path: str) -> str:
    """Return the format that a file's name stands for.

    Raises
    ------
    ValueError
        If it stands for none that can be written.

    Examples
    --------
    >>> format_of("small.svm.gz"), format_of("a.fastopt")
    ('svmlight', 'cache')
    """
    suffix = re.sub(r"\.gz$", "", path.lower()).rpartition(".")[2]
    if suffix not in SUFFIXES:
        known = ", ".join("." + name for name in SUFFIXES)
        raise ValueError(f"{path}: the name does not say what to write; it may end in {known}")
    return SUFFIXES[suffix]


def write(data: Dataset, path: str | os.PathLike[str], format: str | None = None) -> None:
    """Write a data set to a file, which takes the place of an old one when it is complete.

    Parameters
    ----------
    data : Dataset
        What to write, a block at a time.
    path : str or path
        Where to. Text is compressed if the name ends in ".gz".
    format : "svmlight", "vw", "ffm" or "cache", default None
        What to write; None goes by the name. In svmlight and ffm columns count from 1, unless they
        counted from 0 in the source; in vw they are numbers without namespace. Numbers are the
        shortest that are read back to the same bits.

    Raises
    ------
    ValueError
        If the format cannot hold the data: weights and rows without label in svmlight and ffm, no
        fields in ffm. Nothing is written then.
    DataError, OSError
        If the data cannot be read or the file not be written.
    """
    path = os.fspath(path)
    format = format or format_of(path)
    if format not in WRITTEN:
        raise ValueError(f"format must be one of {', '.join(WRITTEN)}, got {format!r}")
    n_features = data.n_features  # settles what has to be found out first
    if format == "cache":
        with writing(path, str(data.dtype)) as writer:
            for X, y, weights in data.blocks():
                writer.add(X, y, weights)
            about = {"sources": [], "reading": data.reading}
            writer.finish(n_features, 0, {**about, "zero_based": bool(data.zero_based)})
        return
    indexed = data.format in ("svmlight", "ffm")
    first = 0 if format == "vw" or (indexed and data.zero_based) else 1
    with text_file(path) as file:
        row = 0
        for X, y, weights in data.blocks():
            check(format, X, y, weights, row)
            file.write(lines(format, X, y, weights, first).encode())
            row += len(y)


@contextlib.contextmanager
def text_file(path: str) -> Iterator[Any]:
    """Yield a file for text that takes the place of `path` when it is complete."""
    with replacing(path) as file:
        if not path.lower().endswith(".gz"):
            yield file
            return
        packed: BinaryIO = gzip.GzipFile("", "wb", 6, file, 0)  # without a time: the same bytes
        with packed:
            yield packed


def check(format: str, X: CSR, y: np.ndarray, weights: np.ndarray | None, first: int) -> None:
    """Refuse what a format cannot hold."""
    if format == "vw":
        return
    if weights is not None:
        raise ValueError(f"the {format} format has no weights of rows; write vw or a cache")
    if np.isnan(y).any():
        row = first + int(np.isnan(y).argmax()) + 1
        raise ValueError(f"row {row:,} has no label, which the {format} format needs")
    if format == "ffm" and X.fields is None:
        raise ValueError("the ffm format needs fields, which only ffm data has")
    if format == "svmlight":
        new = np.ones(X.nnz, bool)
        new[1:] = X.indices[1:] > X.indices[:-1]
        new[X.indptr[:-1][np.diff(X.indptr) > 0]] = True
        if not new.all():
            row = first + int(np.searchsorted(X.indptr, new.argmin(), side="right"))
            raise ValueError(f"row {row:,} has columns twice or out of order, svmlight cannot")


def shortest(values: np.ndarray) -> list[str]:
    """Return numbers as the shortest text that is read back to the same bits."""
    return [text.removesuffix(".0") for text in values.astype(str).tolist()]


def lines(format: str, X: CSR, y: np.ndarray, weights: np.ndarray | None, first: int) -> str:
    """Return rows as text."""
    indices = (X.indices.astype(np.int64) + first).tolist()
    tokens = [f"{index}:{value}" for index, value in zip(indices, shortest(X.data), strict=True)]
    if format == "ffm":
        fields = X.fields.tolist()
        tokens = [f"{field}:{token}" for field, token in zip(fields, tokens, strict=True)]
    heads = shortest(y)
    if format == "vw":
        heads = ["" if head == "nan" else head + " " for head in heads]
        if weights is not None:
            if np.isnan(y).any() and (weights[np.isnan(y)] != 1).any():
                raise ValueError("the vw format has no weights of rows without label")
            heads = [f"{head}{weight} " if head else "" for head, weight in
                     zip(heads, shortest(weights), strict=True)]  # fmt: skip
        heads = [head + "|" for head in heads]
    ends = X.indptr.tolist()
    return "".join(
        " ".join([head, *tokens[a:b]]) + "\n"
        for head, a, b in zip(heads, ends[:-1], ends[1:], strict=True)
    )
