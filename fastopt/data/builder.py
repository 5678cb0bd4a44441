"""The arrays of the rows read so far from text, and what is known about their columns."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from fastopt._core import FORMATS, text_parse
from fastopt.data.csr import CSR, DataError
from fastopt.data.tables import Schema
from fastopt.threads import resolve

__all__ = ["CHUNK", "Builder", "check_dtype"]

CHUNK = 1 << 18  # bytes of text that one thread takes at a time
INT32_MAX = 2**31 - 1
INT64_MAX = 2**63 - 1
RANGE, CHANGED, MEMORY = 5, 7, 8
# In the order of the errors in csrc/text.h.
EXPECTED = (
    "",
    "a finite decimal number as label",
    "a label that float64 can hold",
    "a finite decimal number as value",
    "a value that {dtype} can hold",
    "",
    "text, with carriage returns only before newlines",
    "a file that does not change while it is read",
    "",
    "index:value or the end of the line",
    "an index of at least 1, because zero_based=False",
    "an index greater than the one before it",
    "qid: and an integer of 64 bits",
    "qid: after the label, because query_id=True",
    "field:index:value or the end of the line",
    "'|' and the features",
    "blanks, no tab, before the first '|'",
    "a blank between the label and '|', or a ' before a tag",
    "no more than label, importance and tag before the first '|'",
    "a finite number of at least 0 as importance",
    "a namespace, a blank or the end of the line after '|'",
    "a finite decimal number as weight of the namespace",
    "a finite decimal number or a word as value",
    "a number{column}{advice}",
    "a finite number of at least 0 as weight{column}",
    "a number{column} (missing='zero' leaves it out)",
    "another field{column}",
    "the end of the line after {columns} fields",
    "quotes around the whole field, if it has a quote",
    "a closing quote",
    "a delimiter or the end of the line after the closing quote",
)
TOKEN = re.compile(rb"[^ \t\r\n#]{0,40}"), re.compile(rb"[^ \t\r\n|]{0,40}")


def check_dtype(name: str, value: Any, allowed: tuple[str, ...]) -> str:
    """Return the name of a dtype, if it is one of those allowed."""
    if isinstance(value, str) and value in allowed:
        return value
    try:
        found = np.dtype(value).name
    except TypeError:
        found = None
    if value is None or found not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")
    return found


class Builder:
    """The arrays of the rows read so far; `name` is the file that is being read."""

    def __init__(
        self, name: str, *, dtype: Any = "float32", index_dtype: Any = "auto",
        n_features: int | None = None, zero_based: bool | str = "auto", query_id: bool = False,
        threads: int | None = None, chunk: int = CHUNK, format: str = "svmlight",
        hash_bits: int = 0, schema: Schema | None = None,
    ):  # fmt: skip
        self.query_id, self.chunk = bool(query_id), chunk
        self.threads = resolve(threads)
        dtype = check_dtype("dtype", dtype, ("float32", "float64"))
        index = check_dtype("index_dtype", index_dtype, ("auto", "int32", "int64"))
        if zero_based not in (True, False, "auto"):
            raise ValueError(f"zero_based must be True, False or 'auto', got {zero_based!r}")
        self.zero_based = -1 if zero_based == "auto" else int(zero_based)
        if n_features is not None:
            n_features = operator.index(n_features)
            if not 1 <= n_features < (INT32_MAX + 1 if index == "int32" else INT64_MAX):
                raise ValueError(
                    f"n_features must be None or at least 1 and fit index_dtype, got {n_features}"
                )
        self.format, self.hash_bits, self.schema = format, hash_bits, schema
        self.n_features = n_features
        self.may_widen = index == "auto" and n_features is None
        if index == "auto":
            index = "int32" if (n_features or 0) <= INT32_MAX else "int64"
        # data, indices, ends, labels, qid, weights, fields
        types = (dtype, index, "int64", "float64", "int64", "float64", "int32")
        self.arrays = [np.empty(0, t) for t in types]
        self.arrays[2] = np.zeros(1, "int64")
        self.present = (True, True, True, True, self.query_id, format in ("vw", "csv"),
                        format == "ffm")  # fmt: skip
        self.spare = 0  # part of the arrays' size to allocate ahead
        self.rows = self.entries = 0
        self.largest, self.zero, self.edge, self.weighted = -1, False, None, False
        self.open(name)

    def open(self, name: str, *, at_start: bool = True) -> None:
        """Count lines from here on in the file `name`; text comes from its beginning or not."""
        self.name, self.lines, self.bytes = name, 0, 0
        self.head = at_start and self.schema is not None

    @property
    def limit(self) -> int:
        """One more than the largest index."""
        if self.n_features is not None:
            return self.n_features
        return INT32_MAX if self.arrays[1].dtype == np.int32 else INT64_MAX - 1

    def starts(self) -> list[int]:
        """Return the sizes of the arrays so far."""
        entries, rows = self.entries, self.rows
        return [entries, entries, rows + 1, rows, rows, rows, entries]

    def room(self, rows: int, entries: int) -> list[np.ndarray | None]:
        """Return where the next rows and entries go."""
        starts = self.starts()
        mores = (entries, entries, rows, rows, rows, rows, entries)
        for k, (start, more) in enumerate(zip(starts, mores, strict=True)):
            array, need = self.arrays[k], start + more
            if not self.present[k] or need <= len(array):
                continue
            if start == 0:  # not resize, which writes zeros
                self.arrays[k] = np.empty(need, array.dtype)
            else:
                array.resize(max(need, int(len(array) * (1 + self.spare))), refcheck=False)
        return [
            array[start:] if present else None
            for array, start, present in zip(self.arrays, starts, self.present, strict=True)
        ]

    def add(self, text: Any, progress: Callable[[int], Any], *, last: bool = True) -> int:
        """Parse whole lines of text and return how many bytes; a record may go on if not `last`."""
        if self.head:
            skipped = self.schema.skip_head(self.name, text)
            self.lines += bytes(text[:skipped]).count(b"\n")
            self.bytes += skipped
            self.head = False
            if skipped == len(text):
                return skipped
            with memoryview(text)[skipped:] as rest:  # left open, it would keep a file mapped
                return skipped + self.add(rest, progress, last=last)
        table = self.schema.parse_options() if self.schema else {}
        lines, used, rows, entries, largest, zero, weighted, error, edge = text_parse(
            text, self.room, progress, format=FORMATS.index(self.format), threads=self.threads,
            chunk_bytes=self.chunk, zero_based=self.zero_based, want_qid=self.query_id,
            n_features=self.limit, entry0=self.entries, last=last, hash_bits=self.hash_bits,
            **table,
        )  # fmt: skip
        if error and error[0] == RANGE and self.may_widen and self.arrays[1].dtype == np.int32:
            self.arrays[1] = self.arrays[1][: self.entries].astype("int64")
            return self.add(text, progress, last=last)
        self.zero |= zero
        if edge and not self.edge:
            self.edge = self.malformed(text, edge, self.limit - 1)
        if self.zero and self.edge and not self.may_widen:
            raise self.edge
        if error:
            raise self.malformed(text, error, self.limit - (self.zero_based == 1))
        self.weighted |= weighted
        self.lines += lines
        self.bytes += used
        self.rows += rows
        self.entries += entries
        self.largest = max(self.largest, largest)
        return used

    def malformed(self, text: Any, place: tuple[int, ...], top: int) -> Exception:
        """Return the error for a place that the parser reported; `top` is the largest index."""
        kind, lines, line, at, column = place
        if kind == MEMORY:
            return MemoryError(f"{self.name}: a row is too long for the memory")
        if self.schema:
            found, details = self.schema.found(bytes(text[at : at + 200]), column)
        else:
            token = TOKEN[self.format == "vw"].match(bytes(text[at : at + 40]))[0]
            found, details = repr(token or bytes(text[at : at + 1]))[1:], {}
        if bytes(text[at : at + 2]).lstrip(b"\r").startswith(b"\n"):
            found = "the end of the line"
        if kind == RANGE:
            limit = "n_features" if self.n_features else "index_dtype"
            value = self.n_features or self.arrays[1].dtype
            counted = "" if top == self.limit else " and the file is zero-based"
            expected = f"an index of at most {top}, because {limit}={value}{counted}"
        else:
            expected = EXPECTED[kind].format(dtype=self.arrays[0].dtype, **details)
        return DataError(
            self.name, self.lines + lines + 1, at - line + 1, f"found {found}, expected {expected}"
        )

    def block(self, start: int, stop: int, *, copy: bool = True) -> tuple:
        """Return some rows: X, labels, qid or None, weights or None; qid and weights per row."""
        data, indices, indptr, y, qid, weights, fields = self.arrays
        first, last = indptr[start], indptr[stop]
        take = np.array if copy else np.asarray
        X = CSR(
            take(data[first:last]),
            take(indices[first:last]),
            indptr[start : stop + 1] - first,
            (stop - start, self.n_features),
            take(fields[first:last]) if self.present[6] else None,
        )
        return (
            X,
            take(y[start:stop]),
            take(qid[start:stop]) if self.query_id else None,
            take(weights[start:stop]) if self.weighted else None,
        )

    def drop(self, count: int) -> None:
        """Forget the first rows."""
        indptr = self.arrays[2]
        entries = int(indptr[count])
        gone = (entries, entries, count, count, count, count, entries)
        for array, first, end, present in zip(
            self.arrays, gone, self.starts(), self.present, strict=True
        ):
            if present:
                kept = array[first:end]
                array[: len(kept)] = kept
        self.rows -= count
        self.entries -= entries
        indptr[: self.rows + 1] -= entries

    def settled(self) -> tuple[bool, int, int]:
        """Return whether columns count from 0, how many there are, and what to add to indices."""
        zero_based = self.zero_based == 1 or (self.zero_based == -1 and self.zero)
        n_features = self.n_features or max(0, self.largest + zero_based)
        return zero_based, n_features, int(self.zero_based == -1 and self.zero)

    def finish(self) -> tuple:
        """Return everything as `block` does, and give up the arrays."""
        _, n_features, shift = self.settled()
        if self.may_widen and n_features > INT32_MAX:
            self.arrays[1] = self.arrays[1].astype("int64", copy=False)
        data, indices, indptr, y, qid, weights, fields = self.arrays
        for array, size, present in zip(self.arrays, self.starts(), self.present, strict=True):
            array.resize(size if present else 0, refcheck=False)
        for start in range(0, self.entries if shift else 0, 1 << 22):
            indices[start : start + (1 << 22)] += shift
        X = CSR(data, indices, indptr, (self.rows, n_features), fields if self.present[6] else None)
        return X, y, qid if self.query_id else None, weights if self.weighted else None
