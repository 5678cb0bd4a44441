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

#: The place of a column of numbers, its numbers, None; or the places and values of a column's
#: different strings, and which of them each row has.
Column = tuple[Any, np.ndarray, "np.ndarray | None"]

MAGIC = b"PAR1"
BATCH = 1 << 16  # rows
PIECE = 1 << 10  # rows that are put together at once: their columns and values stay in the cache


@contextlib.contextmanager
def opened(path: str, strings: Sequence[str] = ()) -> Iterator[Any]:
    """Yield pyarrow's view of a file; what is wrong with the file is a DataError.

    Columns of `strings` come as dictionaries, which the file holds already: each is hashed once.
    """
    try:
        import pyarrow
        from pyarrow.parquet import ParquetFile
    except ImportError as error:
        raise ImportError(f"{path}: Parquet needs pyarrow: pip install 'fastopt[data]'") from error
    with open_binary(path) as file:
        try:
            with ParquetFile(
                file, page_checksum_verification=True, read_dictionary=list(strings)
            ) as found:
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
    strings = [name for name, kind in zip(schema.names, schema.kinds, strict=True)
               if kind == "string"]  # fmt: skip
    with opened(path, strings) as file:
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
    columns: list[Column] = []
    for name, kind, place in schema.places():
        if kind == "ignored":
            continue
        column = batch.column(batch.schema.names.index(name))
        if kind == "string":
            hashes, there, at = hashed(column, encode(name) + b"=")
            places = place + (hashes & ((1 << schema.hash_bits) - 1)).astype(np.int64)
            columns.append((places, there.astype(np.float64), at))
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
            columns.append((place, number, None))
    return assemble(path, first, columns, n, schema.n_features, dtype), y, weights


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


def hashed(column: Any, prefix: bytes) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return hashes of "name=value", whether that is a value, and which of them each row has.

    An empty value is none; the last one stands for nulls.
    """
    import pyarrow

    if not pyarrow.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    names = column.dictionary
    if not pyarrow.types.is_binary(names.type) and not pyarrow.types.is_large_binary(names.type):
        names = names.cast(pyarrow.large_string())
    names = names.cast(pyarrow.large_binary())
    _, offsets, data = names.buffers()
    offsets = np.frombuffer(offsets, np.int64)[names.offset : names.offset + len(names) + 1]
    found = np.zeros(len(names) + 1, np.uint32)
    hash_strings(b"" if data is None else data, np.ascontiguousarray(offsets), prefix, found[:-1])
    there = np.append(offsets[1:] != offsets[:-1], False)
    if names.null_count:
        there[:-1] &= ~np.asarray(names.is_null())
    indices = column.indices
    if indices.null_count:
        if len(names) > np.iinfo(indices.type.to_pandas_dtype()).max:
            indices = indices.cast(pyarrow.int64())
        indices = indices.fill_null(len(names))
    return found, there, np.asarray(indices)


def assemble(
    path: str, first: int, columns: Sequence[Column], n: int, n_features: int, dtype: str
) -> CSR:
    """Return the matrix of columns and values of each row: no zeros, one value of each column."""
    size = n * len(columns)
    data = np.empty(size, dtype)
    indices = np.empty(size, np.int32 if n_features < 2**31 else np.int64)
    indptr = np.zeros(n + 1, np.int64)
    places = np.empty((min(n, PIECE), len(columns)), np.int64)
    values = np.empty(places.shape)
    done = 0
    for start in range(0, n, PIECE):
        stop = min(start + PIECE, n)
        rows = stop - start
        for k, (place, value, at) in enumerate(columns):
            if at is None:
                places[:rows, k], values[:rows, k] = place, value[start:stop]
            else:
                which = at[start:stop]
                places[:rows, k], values[:rows, k] = place[which], value[which]
        ends = indptr[start + 1 : stop + 1]
        entries = table_rows(places[:rows], values[:rows], data[done:], indices[done:], ends)
        if entries < 0:
            problem = f"found values of one column whose sum {dtype} cannot hold"
            raise DataError(path, first + start - entries - 1, 0, problem)
        ends += done
        done += entries
    return CSR(data[:done].copy(), indices[:done].copy(), indptr, (n, n_features))
