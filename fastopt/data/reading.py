"""How data is to be read: the format, found out if it is not given, and what goes with it."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fastopt.checks import count, one_of
from fastopt.data import cache, parquet, tables
from fastopt.data.builder import INT64_MAX, Builder, check_dtype
from fastopt.data.sources import Source, is_pipe

__all__ = ["FORMATS", "Reading", "guess_format", "look"]

FORMATS = ("svmlight", "vw", "ffm", "csv", "parquet", "cache")
ALIASES = {"libsvm": "svmlight", "libffm": "ffm"}
SUFFIXES = {
    "svm": "svmlight", "svmlight": "svmlight", "libsvm": "svmlight", "vw": "vw", "ffm": "ffm",
    "libffm": "ffm", "csv": "csv", "tsv": "csv", "parquet": "parquet", "pq": "parquet",
    "fastopt": "cache",
}  # fmt: skip
DELIMITERS = (",", ";", "\t", "|")
VW_BITS = 18  # Vowpal Wabbit's own default
MOST_BITS = 31


@dataclass(frozen=True)
class Reading:
    """How files are read. It is settled once n_features and zero_based are known.

    Attributes
    ----------
    format : str
        One of `FORMATS`.
    dtype : str
        "float32" or "float64".
    n_features : int or None
        Number of columns.
    zero_based : bool or "auto"
        Whether columns count from 0.
    hash_bits : int
        Hashes are cut to so many bits; 0 where nothing is hashed.
    schema : Schema or None
        The columns of a table.
    """

    format: str
    dtype: str = "float32"
    n_features: int | None = None
    zero_based: bool | str = True
    hash_bits: int = 0
    schema: tables.Schema | None = None

    @property
    def settled(self) -> bool:
        """Whether blocks can be read without a look at all of the data first."""
        return self.n_features is not None and self.zero_based != "auto"

    def settle(self, n_features: int, zero_based: bool) -> Reading:
        """Return the same, settled; a matrix has at least one column."""
        return dataclasses.replace(self, n_features=max(1, n_features), zero_based=zero_based)

    def key(self) -> dict[str, Any]:
        """Return all of it, as JSON has it."""
        values = dataclasses.asdict(self)
        if self.schema:
            values["schema"] = {
                name: list(value) if isinstance(value, tuple) else value
                for name, value in values["schema"].items()
            }
        return values

    def builder(self, threads: int | None) -> Builder:
        """Return a builder for rows of text."""
        return Builder(
            "", dtype=self.dtype, n_features=self.n_features, zero_based=self.zero_based,
            threads=threads, format=self.format, hash_bits=self.hash_bits, schema=self.schema,
        )  # fmt: skip


def look(path: str) -> tuple[bytes, bytes]:
    """Return the first bytes of a file as it is stored, and the beginning of its content."""
    with Source(path) as opened:
        stored, content = b"", bytearray()
        pieces = opened.pieces()
        stored = next(pieces, b"")
    if stored.startswith((parquet.MAGIC, cache.MAGIC)):
        return stored, b""
    with Source(path) as opened:
        try:
            for piece in opened.unpacked():
                content += piece
                if len(content) >= tables.HEAD:
                    break
        except Exception as error:  # damaged: reading it will say so, and where
            if isinstance(error, ImportError):
                raise
    if content and len(content) < tables.HEAD and not content.endswith(b"\n"):
        content += b"\n"
    return stored, bytes(content)


def guess_format(path: str, stored: bytes, content: bytes) -> str:
    r"""Return the format by its first bytes, else the file's name, else its first line.

    Examples
    --------
    >>> guess_format("data.tsv.gz", b"\x1f\x8b", b"a\tb\n")
    'csv'
    >>> [guess_format("data", text, text) for text in (b"1 |f a b:2", b"1 0:3:1", b"1 3:1", b"1,2")]
    ['vw', 'ffm', 'svmlight', 'csv']
    """
    if stored.startswith(cache.MAGIC):
        return "cache"
    if stored.startswith(parquet.MAGIC):
        return "parquet"
    name = re.sub(r"\.(gz|zst)$", "", path.lower())
    suffix = name.rpartition(".")[2]
    if suffix in SUFFIXES:
        return SUFFIXES[suffix]
    for line in content[:65536].splitlines():
        text = line.partition(b"#")[0]
        if re.match(rb"[^|,:]*\|", line):
            return "vw"
        if re.match(rb"\s*\S+\s+\d+:\d+:", text):
            return "ffm"
        if re.match(rb"\s*\S+\s+(\d+|qid):", text):
            return "svmlight"
        if b"," in text:
            return "csv"
    return "svmlight"  # whose errors say what was expected


def make_reading(
    paths: Sequence[str],
    *,
    format: str,
    n_features: int | None,
    hash_bits: int | None,
    zero_based: bool | str,
    dtype: Any,
    label: str | int | None,
    weight: str | int | None,
    categorical: Sequence[str | int],
    ignore: Sequence[str | int],
    header: bool | str,
    delimiter: str | None,
    missing: str,
) -> Reading:
    """Check the arguments of `open_data` and return how `paths` are read.

    Raises
    ------
    ValueError, TypeError
        For wrong arguments, and arguments that mean nothing in this format.
    """
    format = one_of("format", ALIASES.get(format, format), ("auto", *FORMATS, *ALIASES))
    dtype = check_dtype("dtype", dtype, ("float32", "float64"))
    if zero_based not in (True, False, "auto"):
        raise ValueError(f"zero_based must be True, False or 'auto', got {zero_based!r}")
    if n_features is not None:
        n_features = count("n_features", n_features, 1)
        if n_features >= INT64_MAX:
            raise ValueError(f"n_features must be below 2^63 - 1, got {n_features}")
    if hash_bits is not None and count("hash_bits", hash_bits, 1) > MOST_BITS:
        raise ValueError(f"hash_bits must be at most {MOST_BITS}, got {hash_bits}")
    one_of("missing", missing, ("error", "zero"))
    if header not in (True, False, "auto"):
        raise ValueError(f"header must be True, False or 'auto', got {header!r}")
    if delimiter is not None:
        one_of("delimiter", delimiter, DELIMITERS)
    stored, content = b"", b""
    if is_pipe(paths[0]):  # a look would take its beginning away
        if format in ("csv", "parquet", "cache"):
            raise ValueError(f"format={format!r} needs a file or a URL: {paths[0]} is a pipe")
    elif format in ("auto", "csv"):
        stored, content = look(paths[0])
    if format == "auto":
        format = guess_format(paths[0], stored, content)
    if format in ("svmlight", "ffm"):
        refuse(format, hash_bits=hash_bits, label=label, weight=weight, categorical=categorical,
               ignore=ignore, delimiter=delimiter)  # fmt: skip
        return Reading(format, dtype, n_features, zero_based)
    if zero_based is False and format != "cache":
        raise ValueError(f"zero_based: the {format} format does not number its columns")
    if format == "vw":
        refuse(format, label=label, weight=weight, categorical=categorical, ignore=ignore,
               delimiter=delimiter)  # fmt: skip
        bits = VW_BITS if hash_bits is None else hash_bits
        same_number(n_features, 1 << bits, f"hash_bits={bits} makes 2^{bits}")
        return Reading(format, dtype, 1 << bits, True, bits)
    chosen = {
        "label": label, "weight": weight, "categorical": columns("categorical", categorical),
        "ignore": columns("ignore", ignore), "missing": missing, "hash_bits": hash_bits,
    }  # fmt: skip
    if format == "cache":
        refuse(format, hash_bits=hash_bits, **{k: chosen[k] for k in ("label", "weight",
               "categorical", "ignore")}, delimiter=delimiter)  # fmt: skip
        return Reading(format, dtype, n_features, True)
    if format == "parquet":
        refuse(format, delimiter=delimiter)
        schema = parquet.infer(paths[0], **chosen)
    else:
        tabbed = re.search(r"\.tsv(\.gz|\.zst)?$", paths[0].lower()) is not None
        delimiter = delimiter or ("\t" if tabbed else ",")
        schema = tables.infer(paths[0], content, header=header, delimiter=delimiter, **chosen)
    same_number(n_features, schema.n_features, f"the table's columns make {schema.n_features}")
    if schema.n_features == 0:
        raise ValueError(f"{paths[0]}: the table has no column but label, weight and ignored ones")
    return Reading(format, dtype, schema.n_features, True, schema.hash_bits, schema)


def refuse(format: str, **arguments: Any) -> None:
    """Refuse arguments that mean nothing in a format."""
    for name, value in arguments.items():
        if value is not None and value != ():
            raise ValueError(f"{name} means nothing for the {format} format, got {value!r}")


def same_number(given: int | None, made: int, why: str) -> None:
    """Refuse an n_features that is not what the format makes."""
    if given is not None and given != made:
        raise ValueError(f"n_features must be None or {made}, because {why}; got {given}")


def columns(name: str, values: Any) -> tuple[str | int, ...]:
    """Return a tuple of columns given by name or number."""
    if isinstance(values, (str, int)):
        raise TypeError(f"{name} must be a list of columns, got {values!r}")
    return tuple(values)
