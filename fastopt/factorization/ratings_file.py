"""Reading ratings: a line of text each, user, item and rating."""

from __future__ import annotations

import gzip
import io
import os
import re
import warnings
from typing import Any

import numpy as np

from fastopt.data import DataError

BLOCK = 1 << 24  # bytes of text parsed at a time
FIELDS = [("user", "i8"), ("item", "i8"), ("y", "f8")]
LARGEST = float(np.finfo("f4").max)
INTEGER = re.compile(rb"\d{1,18}\Z")
NUMBER = re.compile(rb"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\Z")


def load_ratings(
    file: str | os.PathLike[str], *, separator: str | None = None, header: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    r"""Read ratings for `factorize`: lines of user, item and rating, as of LIBMF and MovieLens.

    Further columns, such as times, are left out, and so are empty lines. Numbers are read as they
    are: where they begin at 1, row 0 of the model stays empty.

    Parameters
    ----------
    file : path
        Text; with gzip if its name ends in ".gz".
    separator : str, optional
        Between columns: "," or "::", for example. Default: spaces and tabs.
    header : int, default 0
        Lines to leave out at the beginning.

    Returns
    -------
    pairs : ndarray of shape (n, 2)
        int32, or int64 if a number is 2**31 or more.
    y : ndarray of shape (n,), float32

    Raises
    ------
    DataError
        Naming file, line and byte: users and items must be integers from 0 on, ratings finite
        decimal numbers that float32 can hold. It is a ValueError.
    OSError
        If the file cannot be read.
    ValueError, TypeError
        Naming the argument.

    Examples
    --------
    >>> import pathlib, tempfile, fastopt
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "u.csv"
    >>> _ = path.write_text("user,item,rating,time\n0,3,4.5,964982703\n2,1,3,964981247\n")
    >>> pairs, y = fastopt.load_ratings(path, separator=",", header=1)
    >>> pairs.tolist(), y.tolist()
    ([[0, 3], [2, 1]], [4.5, 3.0])
    """
    if separator is not None and (
        not isinstance(separator, str) or not separator or re.search(r"[\w\s.+-]", separator)
    ):
        raise ValueError(
            "separator must be None or characters that are not in numbers, such as ',', got "
            f"{separator!r}"
        )
    if isinstance(header, bool) or not isinstance(header, (int, np.integer)) or header < 0:
        raise ValueError(f"header must be an integer of at least 0, got {header!r}")
    between = None if separator is None else separator.encode()
    path, line = os.fspath(file), 1
    parts: list[np.ndarray] = []
    with gzip.open(path) if str(path).endswith(".gz") else open(path, "rb") as source:
        for _ in range(header):
            source.readline()
            line += 1
        while text := source.read(BLOCK):
            text += source.readline()
            if text.strip():
                parts.append(_parse(str(path), line, text, between))
            line += text.count(b"\n")
    table = np.concatenate(parts) if parts else np.empty(0, FIELDS)
    most = max(table["user"].max(initial=0), table["item"].max(initial=0))
    pairs = np.empty((len(table), 2), "i4" if most < 2**31 else "i8")
    pairs[:, 0], pairs[:, 1] = table["user"], table["item"]
    return pairs, table["y"].astype("f4")


def _parse(file: str, line: int, text: bytes, between: bytes | None) -> np.ndarray:
    delimiter, plain = None if between is None else between.decode("latin-1"), text
    if delimiter and len(delimiter) > 1:  # loadtxt takes one character
        delimiter, plain = "\x1f", text.replace(b"\x1f", b"?").replace(between, b"\x1f")
    lines: Any = io.StringIO(plain.decode("latin-1").replace("\r\n", "\n"))
    problem = ""
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a number that is no integer only gives a warning
        try:
            table = np.loadtxt(
                lines, FIELDS, comments=None, usecols=(0, 1, 2), ndmin=1,
                delimiter=delimiter,
            )  # fmt: skip
        except (ValueError, Warning) as error:
            problem = str(error)
    if not problem:
        good = (table["user"] >= 0) & (table["item"] >= 0)
        if (good & (np.abs(table["y"]) <= LARGEST)).all():
            return table
    raise _error(file, line, text, between, problem)


def _error(file: str, line: int, text: bytes, between: bytes | None, problem: str) -> DataError:
    """Find the line that cannot be read."""
    for k, row in enumerate(text.split(b"\n")):
        fields = row.strip().split(between)
        if not row.strip():
            continue
        byte = 1
        for column, name in enumerate(("a user", "an item", "a rating")):
            found = fields[column].strip() if column < len(fields) else b""
            if column < 2:
                good, wanted = INTEGER.match(found), f"{name}, an integer from 0 on"
            else:
                good = NUMBER.match(found) and abs(float(found)) <= LARGEST
                wanted = f"{name}, a finite decimal number that float32 can hold"
            if column < len(fields):
                byte = row.index(fields[column], byte - 1) + 1
            if not good:
                shown = repr(found.decode("utf-8", "replace")) if found else "nothing"
                return DataError(file, line + k, byte, f"found {shown}, expected {wanted}")
            byte += len(fields[column])
    return DataError(file, line, 1, problem)
