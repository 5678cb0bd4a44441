"""Parquet files: what their columns are, and their row groups as blocks of rows."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from fastopt._core import hash_strings, table_rows
from fastopt.data.csr import CSR, DataError
from fastopt.data.sources import open_binary
from fastopt.data.tables import Schema, decide, encode

__all__ = ["MAGIC", "blocks", "group_rows", "infer"]

MAGIC = b"PAR1"
BATCH = 1 << 16  # rows


@contextlib.contextmanager
def opened(path: str) -> Iterator[Any]:
    """Yield pyarrow's view of a file; what is wrong with the file is a DataError."""
    try:
        import pyarrow
        from pyarrow.parquet import ParquetFile
    except ImportError as error:
        raise ImportError(f"{path}: Parquet needs pyarrow: pip install 'fastopt[data]'") from error
    with open_binary(path) as file:
        try:
            with ParquetFile(file, page_checksum_verification=True) as found:
                yield found
        except (pyarrow.ArrowException, OSError) as error:
            if isinstance(error, OSError) and error.errno:
                raise
            problem = " ".join(str(error).split())
            raise DataError(path, 0, 0, f"damaged Parquet file: {problem}") from error


def infer(path: str, **options: Any) -> Schema:
    """Return what the columns of a Parquet file are; options are those of `tables.decide`."""
    with opened(path) as file:
        arrow = file.schema_arrow
    kinds = [kind_of(field.type) for field in arrow]
    return decide(arrow.names, kinds, **options)


def kind_of(type: Any) -> str:
    """Return "number" or "string" for the types that are that, else the type's name."""
    from pyarrow import types

    if types.is_dictionary(type):
        type = type.value_type
    if types.is_boolean(type) or types.is_integer(type) or types.is_floating(type):
        return "number"
    if types.is_string(type) or types.is_large_string(type) or types.is_binary(type):
        return "string"
    return str(type)


def group_rows(path: str) -> list[int]:
    """Return the number of rows of each row group."""
    with opened(path) as file:
        metadata = file.metadata
        return [metadata.row_group(k).num_rows for k in range(metadata.num_row_groups)]


def blocks(
    path: str, schema: Schema, dtype: str, groups: Sequence[int] | None, block_rows: int | None
) -> Iterator[tuple]:
    """Yield X, labels, weights or None of the rows of some row groups, all of them if None.

    Raises
    ------
    DataError
        If the file is damaged, has other columns than `schema`, or a value that cannot be used.
    """
    wanted = [name for name, kind in zip(schema.names, schema.kinds, strict=True)
              if kind != "ignored"]  # fmt: skip
    with opened(path) as file:
        found = file.schema_arrow.names
        for name in wanted:
            if name not in found:
                raise DataError(path, 0, 0, f"found no column {name!r}, expected it as before")
        metadata = file.metadata
        groups = range(metadata.num_row_groups) if groups is None else groups
        row = sum(metadata.row_group(k).num_rows for k in range(groups[0])) if groups else 0
        for batch in file.iter_batches(block_rows or BATCH, row_groups=list(groups),
                                       columns=wanted):  # fmt: skip
            yield rows_of(path, schema, dtype, batch, row)
            row += batch.num_rows


def rows_of(path: str, schema: Schema, dtype: str, batch: Any, first: int) -> tuple:
    """Return X, labels and weights of a batch; `first` is the number of its first row."""
    n = batch.num_rows
    y, weights = np.full(n, np.nan), None
    columns, values = [], []
    for name, kind, place in schema.places():
        if kind == "ignored":
            continue
        column = batch.column(batch.schema.names.index(name))
        if kind == "string":
            hashes, there = hashed(column, encode(name) + b"=")
            columns.append(place + (hashes & ((1 << schema.hash_bits) - 1)).astype(np.int64))
            values.append(there.astype(np.float64))
            continue
        number = numbers(path, name, column, first, kind, schema.missing)
        if kind == "label":
            y = number
        elif kind == "weight":
            if (number < 0).any():
                at = first + int((number < 0).argmax()) + 1
                raise DataError(path, at, 0, f"found a weight below 0 in column {name!r}")
            weights = number
        else:
            with np.errstate(over="ignore"):
                large = ~np.isfinite(number.astype(dtype))
            if large.any():
                at = int(large.argmax())
                problem = f"found {number[at]}, expected a value that {dtype} can hold"
                raise DataError(path, first + at + 1, 0, f"{problem} in column {name!r}")
            columns.append(np.full(n, place))
            values.append(number)
    return assemble(path, first, columns, values, n, schema.n_features, dtype), y, weights


def numbers(path: str, name: str, column: Any, first: int, kind: str, missing: str) -> np.ndarray:
    """Return a column as float64, all of it finite."""
    import pyarrow

    if column.null_count:
        if kind != "number" or missing == "error":
            at = first + int(np.asarray(column.is_null()).argmax()) + 1
            problem = f"found no value, expected a number in column {name!r}"
            advice = " (missing='zero' leaves it out)" if kind == "number" else ""
            raise DataError(path, at, 0, problem + advice)
        zero = pyarrow.scalar(0).cast(column.type)
        column = column.fill_null(zero)
    if pyarrow.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    values = np.asarray(column.cast(pyarrow.float64(), safe=False), np.float64)
    wrong = ~np.isfinite(values)
    if wrong.any():
        at = int(wrong.argmax())
        problem = f"found {values[at]}, expected a finite number in column {name!r}"
        raise DataError(path, first + at + 1, 0, problem)
    return values


def hashed(column: Any, prefix: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Return the hash of each row's "name=value", and whether there is a value, empty ones not."""
    import pyarrow

    if not pyarrow.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    names = column.dictionary
    if not pyarrow.types.is_binary(names.type) and not pyarrow.types.is_large_binary(names.type):
        names = names.cast(pyarrow.large_string())
    names = names.cast(pyarrow.large_binary())
    _, offsets, data = names.buffers()
    offsets = np.frombuffer(offsets, np.int64)[names.offset : names.offset + len(names) + 1]
    found = np.empty(len(names) + 1, np.uint32)
    hash_strings(b"" if data is None else data, np.ascontiguousarray(offsets), prefix, found[:-1])
    empty = np.append(offsets[1:] == offsets[:-1], True)  # the last one stands for nulls
    if names.null_count:
        empty[:-1] |= np.asarray(names.is_null())
    at = np.asarray(column.indices.fill_null(len(names)), np.int64)
    return found[at], ~empty[at]


def assemble(
    path: str, first: int, columns: list[np.ndarray], values: list[np.ndarray], n: int,
    n_features: int, dtype: str,
) -> CSR:  # fmt: skip
    """Return the matrix of columns and values of each row: no zeros, one value of each column."""
    at = np.stack(columns, axis=1) if columns else np.empty((n, 0), np.int64)
    stacked = np.stack(values, axis=1) if values else np.empty((n, 0))
    data = np.empty(at.size, dtype)
    indices = np.empty(at.size, np.int32 if n_features < 2**31 else np.int64)
    indptr = np.zeros(n + 1, np.int64)
    entries = table_rows(at, stacked, data, indices, indptr[1:])
    if entries < 0:
        problem = f"found values of one column whose sum {dtype} cannot hold"
        raise DataError(path, first - entries - 1, 0, problem)
    return CSR(data[:entries].copy(), indices[:entries].copy(), indptr, (n, n_features))
