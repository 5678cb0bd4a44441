"""What the columns of a table are: numbers, strings to be hashed, the label, the weight."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from fastopt._core import COLUMN_KINDS
from fastopt.data.csr import DataError

__all__ = ["NUMBER", "Schema", "infer", "records"]

NUMBER = re.compile(rb"[ \t]*[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?[ \t]*")
BOM = b"\xef\xbb\xbf"
HEAD = 1 << 20  # bytes that show what the columns are, and which a header must fit
SAMPLE = 1000  # records that show it


@dataclass(frozen=True)
class Schema:
    """The columns of a table.

    Attributes
    ----------
    names : tuple of str
        Their names; their numbers where there is no header.
    kinds : tuple of str
        For each "ignored", "number", "string", "label" or "weight".
    hash_bits : int
        Strings get 2^hash_bits columns, behind the numbers; 0 if there are none.
    header, delimiter, missing
        As `open_data` takes them, `header` decided.
    """

    names: tuple[str, ...]
    kinds: tuple[str, ...]
    hash_bits: int = 0
    header: bool = False
    delimiter: str = ","
    missing: str = "error"

    @property
    def n_numbers(self) -> int:
        """Number of columns that are numbers; they come first."""
        return self.kinds.count("number")

    @property
    def n_features(self) -> int:
        """Number of columns of the matrix."""
        return self.n_numbers + (1 << self.hash_bits if "string" in self.kinds else 0)

    def places(self) -> Iterator[tuple[str, str, int]]:
        """Yield name, kind and first column in the matrix of each column."""
        number = 0
        for name, kind in zip(self.names, self.kinds, strict=True):
            yield name, kind, number if kind == "number" else self.n_numbers
            number += kind == "number"

    def parse_options(self) -> dict[str, Any]:
        """Return what `text_parse` is to know of a table."""
        columns = [
            (COLUMN_KINDS.index(kind), place, encode(name) + b"=")
            for name, kind, place in self.places()
        ]
        return {
            "columns": columns,
            "delimiter": self.delimiter.encode(),
            "skip_missing": self.missing == "zero",
        }

    def skip_head(self, file: str, text: Any) -> int:
        """Return the size of what stands before the first row of `text`, a file's beginning.

        Raises
        ------
        DataError
            If the header is not that of the other files.
        """
        head = bytes(text[:HEAD])
        start = len(BOM) if head.startswith(BOM) else 0
        if not self.header:
            return start
        for fields, _, end in records(head, self.delimiter, start):
            found = [decode(field) for field in fields]
            if found != list(self.names):
                problem = f"found the header {found}, expected {list(self.names)} as before"
                raise DataError(file, 1 + head[:end].rstrip(b"\r\n").count(b"\n"), 1, problem)
            return end
        if not head.strip():
            return len(text)  # an empty file
        raise malformed(file, head, self.delimiter, start)

    def found(self, text: bytes, column: int) -> tuple[str, dict[str, Any]]:
        """Return what stands at the beginning of `text`, and what a message may say of it."""
        mark = re.escape(self.delimiter.encode())
        token = re.match(rb'(?:"[^\r\n]{0,40}|[^\r\n' + mark + rb"]{0,40})", text)[0]
        kind = self.kinds[column] if column < len(self.kinds) else ""
        name = self.names[column] if column < len(self.names) else ""
        advice = f"; categorical=[{name!r}] takes its values as names" if kind == "number" else ""
        return repr(token)[1:] if token.strip() else "an empty field", {
            "column": f" in column {name!r}" if name else "",
            "columns": len(self.names),
            "advice": advice,
        }


def encode(text: str) -> bytes:
    """Return the bytes of a name, whatever they were."""
    return text.encode("utf-8", "surrogateescape")


def decode(text: bytes) -> str:
    """Return a name of any bytes."""
    return text.decode("utf-8", "surrogateescape")


def records(text: bytes, delimiter: str, start: int = 0) -> Iterator[tuple[list[bytes], int, int]]:
    r"""Yield the fields, the place and the end of each whole record, up to a malformed one.

    Examples
    --------
    >>> [fields for fields, _, _ in records(b'a,"b ""c"" d"\r\n\n1,2\n3', ",")]
    [[b'a', b'b "c" d'], [b'1', b'2']]
    """
    mark = re.escape(delimiter.encode())
    field = re.compile(rb'(?:"((?:[^"]|"")*)"|([^"\r\n' + mark + rb"]*))(" + mark + rb"|\r?\n)")
    fields, at, begin = [], start, start
    while found := field.match(text, at):
        quoted, plain, end = found.groups()
        at = found.end()
        fields.append(plain if quoted is None else quoted.replace(b'""', b'"'))
        if not end.endswith(b"\n"):
            continue
        if fields != [b""] or quoted is not None:
            yield fields, begin, at
        fields, begin = [], at


def malformed(file: str, text: bytes, delimiter: str, start: int) -> DataError:
    """Return the error for a text that does not begin with a whole record."""
    mark = re.escape(delimiter.encode())
    end = start + len(text[start:]) - len(text[start:].lstrip())
    whole = re.compile(rb'(?:"(?:[^"]|"")*"|[^"\r\n' + mark + rb"]*)" + mark)
    while found := whole.match(text, end):
        end = found.end()
    at = end
    expected = "a header or a row"
    if text[at : at + 1] == b'"':
        found = re.compile(rb'"(?:[^"]|"")*"(?!")').match(text, at)
        at = found.end() if found else at
        expected = "a delimiter or the end of the line" if found else "a closing quote"
    elif at < len(text):
        at = re.compile(rb'[^"\r\n' + mark + rb"]*").match(text, at).end()
        expected = "quotes around the whole field" if text[at : at + 1] == b'"' else expected
    line = text.rfind(b"\n", 0, at) + 1
    found = repr(text[at : at + 40].split(b"\n")[0])[1:] if at < len(text) else "the end"
    return DataError(
        file, text.count(b"\n", 0, at) + 1, at - line + 1, f"found {found}, expected {expected}"
    )


def infer(
    file: str,
    head: bytes,
    *,
    label: str | int | None,
    weight: str | int | None,
    categorical: Sequence[str | int],
    ignore: Sequence[str | int],
    header: bool | str,
    delimiter: str,
    missing: str,
    hash_bits: int | None,
) -> Schema:
    """Return what the columns of a table are, from the beginning of its text.

    Columns are numbers if all of their first 1,000 fields are; a later one that is not is an error.

    Raises
    ------
    DataError
        If the text does not begin with a record, or its beginning has NUL bytes.
    ValueError
        If a column is not there, or holds strings and hash_bits is None.
    """
    start = len(BOM) if head.startswith(BOM) else 0
    if (nul := head.find(b"\0")) >= 0:  # UTF-16 would be hashed with no complaint
        line = head.rfind(b"\n", 0, nul) + 1
        problem = r"found '\x00', expected text in UTF-8 or another extension of ASCII"
        raise DataError(file, head.count(b"\n", 0, nul) + 1, nul - line + 1, problem)
    sample = []
    for fields, _, _ in records(head, delimiter, start):
        sample.append(fields)
        if len(sample) > SAMPLE:
            break
    if not sample:
        raise malformed(file, head, delimiter, start)
    first = sample[0]
    named = [label, weight, *categorical, *ignore]
    if header == "auto":
        header = any(isinstance(name, str) for name in named)
        if not header and label is not None:
            header = NUMBER.fullmatch(first[place(label, None, len(first), "label")]) is None
        elif not header:
            header = any(field.strip() and not NUMBER.fullmatch(field) for field in first)
    names = [decode(field) for field in first] if header else [str(k) for k in range(len(first))]
    kinds = ["number"] * len(names)
    for fields in sample[1:] if header else sample:
        for k, field in enumerate(fields[: len(kinds)]):
            if field.strip() and not NUMBER.fullmatch(field):
                kinds[k] = "string"
    return decide(
        names, kinds, label=label, weight=weight, categorical=categorical, ignore=ignore,
        hash_bits=hash_bits, header=header, delimiter=delimiter, missing=missing,
    )  # fmt: skip


def decide(
    names: Sequence[str],
    kinds: Iterable[str],
    *,
    label: str | int | None,
    weight: str | int | None,
    categorical: Sequence[str | int],
    ignore: Sequence[str | int],
    hash_bits: int | None,
    **form: Any,
) -> Schema:
    """Return the schema for columns that are "number", "string" or something else by themselves."""
    kinds = list(kinds)
    if len(set(names)) < len(names):
        twice = next(name for name in names if list(names).count(name) > 1)
        raise ValueError(
            f"the table has two columns of the name {twice!r}; header=False numbers them"
        )
    for kind, chosen in (("string", categorical), ("ignored", ignore)):
        what = "categorical" if kind == "string" else "ignore"
        for column in chosen:
            kinds[place(column, names, len(names), what)] = kind
    for kind, column in (("label", label), ("weight", weight)):
        if column is not None:
            kinds[place(column, names, len(names), kind)] = kind
    if label is not None and "label" not in kinds:
        raise ValueError(f"label and weight must be different columns, both are {label!r}")
    for name, kind in zip(names, kinds, strict=True):
        if kind not in COLUMN_KINDS:
            raise ValueError(
                f"column {name!r} has the type {kind}, neither numbers nor strings; "
                f"ignore=[{name!r}] leaves it out"
            )
        if kind == "string" and hash_bits is None:
            raise ValueError(
                f"column {name!r} holds strings: hash_bits=18 gives its values columns among 2^18 "
                f"by their hash, ignore=[{name!r}] leaves the column out"
            )
    return Schema(tuple(names), tuple(kinds), hash_bits or 0, **form)


def place(column: str | int, names: Sequence[str] | None, count: int, what: str) -> int:
    """Return the number of a column given by name or number."""
    if isinstance(column, str):
        if names is not None and column in names:
            return list(names).index(column)
        shown = ", ".join(map(repr, (names or ())[:20])) + (", ..." if count > 20 else "")
        raise ValueError(f"{what}: the table has no column {column!r}; it has {shown}")
    if not -count <= column < count:
        raise ValueError(f"{what}: the table has columns 0 to {count - 1}, not {column}")
    return column % count
