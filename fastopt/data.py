"""Reading sparse data: svmlight files to CSR matrices."""

from __future__ import annotations

import itertools
import mmap
import operator
import os
import re
import stat
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

from fastopt._core import svmlight_parse
from fastopt.threads import resolve

__all__ = ["CSR", "DataError", "iter_svmlight", "load_svmlight"]

_CHUNK = 1 << 18  # bytes of text that one thread takes at a time
_BLOCK = 1 << 23  # bytes of text parsed at a time where it is streamed
_INT32_MAX = 2**31 - 1
_INT64_MAX = 2**63 - 1
_RANGE = 7  # FO_SVM_RANGE
_EXPECTED = (
    "",
    "a finite decimal number as label",
    "a label that float64 can hold",
    "qid: and an integer of 64 bits",
    "qid: after the label, because query_id=True",
    "index:value or the end of the line",
    "an index of at least 1, because zero_based=False",
    "",
    "an index greater than the one before it",
    "a finite decimal number as value",
    "a value that {dtype} can hold",
    "text, with carriage returns only before newlines",
    "a file that does not change while it is read",
)


class DataError(ValueError):
    """A malformed line of a data file.

    Attributes
    ----------
    file : str
        The file's path, or its name if it was given as an open file.
    line : int
        Number of the line, from 1; every line of the file counts.
    byte : int
        Place in that line, in bytes, from 1.
    problem : str
        What was found and what was expected.
    """

    def __init__(self, file: str, line: int, byte: int, problem: str):
        super().__init__(file, line, byte, problem)
        self.file, self.line, self.byte, self.problem = file, line, byte, problem

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: byte {self.byte}: {self.problem}"


@dataclass(frozen=True, eq=False)
class CSR:
    """A sparse matrix by rows, with the attributes of SciPy's `csr_matrix`.

    Attributes
    ----------
    data : ndarray of shape (nnz,), float32 or float64
        The values, row after row.
    indices : ndarray of shape (nnz,), int32 or int64
        Their columns, increasing within each row.
    indptr : ndarray of shape (n_rows + 1,), int64
        Row i is at `indptr[i]:indptr[i + 1]` of `data` and `indices`.
    shape : tuple of int
        (n_rows, n_columns).
    """

    data: np.ndarray
    indices: np.ndarray
    indptr: np.ndarray
    shape: tuple[int, int]

    @property
    def nnz(self) -> int:
        """Number of stored values."""
        return len(self.data)

    @property
    def dtype(self) -> np.dtype:
        """Type of the values."""
        return self.data.dtype

    def rows(self, start: int, stop: int) -> CSR:
        """Return rows `start` to `stop - 1`; values and columns are views of this matrix.

        Raises
        ------
        IndexError
            If not `0 <= start <= stop <= n_rows`.
        """
        if not 0 <= start <= stop <= self.shape[0]:
            raise IndexError(f"rows({start}, {stop}): the matrix has rows 0 to {self.shape[0]}")
        first, last = self.indptr[start], self.indptr[stop]
        indptr = self.indptr[start : stop + 1] - first
        shape = (stop - start, self.shape[1])
        return CSR(self.data[first:last], self.indices[first:last], indptr, shape)

    def to_scipy(self) -> Any:
        """Return a `scipy.sparse.csr_matrix` that shares values and columns where it can."""
        try:
            from scipy.sparse import csr_matrix
        except ImportError as error:
            raise ImportError("to_scipy needs SciPy: pip install 'fastopt[sklearn]'") from error
        return csr_matrix((self.data, self.indices, self.indptr), shape=self.shape)


class _Builder:
    """The arrays of the rows read so far, and what is known about their indices."""

    def __init__(
        self, name, *, dtype, index_dtype, n_features, zero_based, query_id, threads, chunk
    ):
        self.name, self.query_id, self.chunk = name, bool(query_id), chunk
        self.threads = resolve(threads)
        dtype = _dtype("dtype", dtype, ("float32", "float64"))
        index = _dtype("index_dtype", index_dtype, ("auto", "int32", "int64"))
        if zero_based not in (True, False, "auto"):
            raise ValueError(f"zero_based must be True, False or 'auto', got {zero_based!r}")
        self.zero_based = -1 if zero_based == "auto" else int(zero_based)
        if n_features is not None:
            n_features = operator.index(n_features)
            if not 1 <= n_features < (_INT32_MAX + 1 if index == "int32" else _INT64_MAX):
                raise ValueError(
                    f"n_features must be None or at least 1 and fit index_dtype, got {n_features}"
                )
        self.n_features = n_features
        self.may_widen = index == "auto" and n_features is None
        if index == "auto":
            index = "int32" if (n_features or 0) <= _INT32_MAX else "int64"
        self.arrays = [np.empty(0, t) for t in (dtype, index, "int64", "float64", "int64")]
        self.arrays[2] = np.zeros(1, "int64")
        self.spare = 0  # part of the arrays' size to allocate ahead
        self.rows = self.entries = self.lines = 0
        self.largest, self.zero, self.edge = -1, False, None

    @property
    def limit(self) -> int:
        """One more than the largest index."""
        if self.n_features is not None:
            return self.n_features
        return _INT32_MAX if self.arrays[1].dtype == np.int32 else _INT64_MAX - 1

    def room(self, rows: int, entries: int) -> list[np.ndarray]:
        """Return where the next rows and entries go."""
        starts = (self.entries, self.entries, self.rows + 1, self.rows, self.rows)
        for k, (start, more) in enumerate(
            zip(starts, (entries, entries, rows, rows, rows), strict=True)
        ):
            array = self.arrays[k]
            need = start + (more if k < 4 or self.query_id else 0)
            if need <= len(array):
                continue
            if start == 0:  # not resize, which writes zeros
                self.arrays[k] = np.empty(need, array.dtype)
            else:
                array.resize(max(need, int(len(array) * (1 + self.spare))), refcheck=False)
        return [array[start:] for array, start in zip(self.arrays, starts, strict=True)]

    def add(self, text, progress: Callable[[int], Any]) -> None:
        """Parse whole lines of text."""
        lines, rows, entries, largest, zero, error, edge = svmlight_parse(
            text, self.room, progress, threads=self.threads, chunk_bytes=self.chunk,
            zero_based=self.zero_based, want_qid=self.query_id, n_features=self.limit,
            entry0=self.entries,
        )  # fmt: skip
        if error and error[0] == _RANGE and self.may_widen and self.arrays[1].dtype == np.int32:
            self.arrays[1] = self.arrays[1][: self.entries].astype("int64")
            self.add(text, progress)
            return
        self.zero |= zero
        if edge and not self.edge:
            self.edge = self.malformed(text, edge, self.limit - 1)
        if self.zero and self.edge and not self.may_widen:
            raise self.edge
        if error:
            raise self.malformed(text, error, self.limit - (self.zero_based == 1))
        self.lines += lines
        self.rows += rows
        self.entries += entries
        self.largest = max(self.largest, largest)

    def malformed(self, text, place: tuple[int, int, int, int], top: int) -> DataError:
        """Return the error for a place that the parser reported; `top` is the largest index."""
        kind, lines, line, at = place
        token = re.match(rb"[^ \t\r\n#]{0,40}", bytes(text[at : at + 40]))[0]
        found = repr(token or bytes(text[at : at + 1]))[1:]
        if bytes(text[at : at + 2]).lstrip(b"\r").startswith(b"\n"):
            found = "the end of the line"
        if kind == _RANGE:
            limit = "n_features" if self.n_features else "index_dtype"
            value = self.n_features or self.arrays[1].dtype
            counted = "" if top == self.limit else " and the file is zero-based"
            expected = f"an index of at most {top}, because {limit}={value}{counted}"
        else:
            expected = _EXPECTED[kind].format(dtype=self.arrays[0].dtype)
        return DataError(
            self.name, self.lines + lines + 1, at - line + 1, f"found {found}, expected {expected}"
        )

    def matrix(self, start: int, stop: int) -> tuple:
        """Return copies of some rows."""
        data, indices, indptr, y, qid = self.arrays
        first, last = indptr[start], indptr[stop]
        X = CSR(
            data[first:last].copy(),
            indices[first:last].copy(),
            indptr[start : stop + 1] - first,
            (stop - start, self.n_features),
        )
        return (X, y[start:stop].copy()) + ((qid[start:stop].copy(),) if self.query_id else ())

    def drop(self, count: int) -> None:
        """Forget the first rows."""
        data, indices, indptr, y, qid = self.arrays
        entries = indptr[count]
        for array, gone, end in (
            (data, entries, self.entries),
            (indices, entries, self.entries),
            (indptr, count, self.rows + 1),
            (y, count, self.rows),
            (qid, count, self.rows),
        ):
            kept = array[gone:end]
            array[: len(kept)] = kept
        self.rows -= count
        self.entries -= entries
        indptr[: self.rows + 1] -= entries

    def finish(self) -> tuple:
        """Return everything, and give up the arrays."""
        zero_based = self.zero_based == 1 or (self.zero_based == -1 and self.zero)
        n_features = self.n_features or max(0, self.largest + zero_based)
        if self.may_widen and n_features > _INT32_MAX:
            self.arrays[1] = self.arrays[1].astype("int64", copy=False)
        data, indices, indptr, y, qid = self.arrays
        rows, entries = self.rows, self.entries
        sizes = (entries, entries, rows + 1, rows, rows if self.query_id else 0)
        for array, size in zip(self.arrays, sizes, strict=True):
            array.resize(size, refcheck=False)
        if self.zero_based == -1 and self.zero:
            for start in range(0, self.entries, 1 << 22):
                indices[start : start + (1 << 22)] += 1
        X = CSR(data, indices, indptr, (self.rows, n_features))
        return (X, y) + ((qid,) if self.query_id else ())


def _dtype(name: str, value: Any, allowed: tuple[str, ...]) -> str:
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


def _gunzip(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Decompress the members of a gzip file, a bounded amount at a time."""
    member = None
    for piece in pieces:
        while True:
            if member is None or member.eof:
                piece = piece.lstrip(b"\0") if member else piece  # padding is allowed
                if not piece:
                    break
                member = zlib.decompressobj(31)
            text = member.decompress(piece, _CHUNK)
            if text:
                yield text
            piece = member.unused_data if member.eof else member.unconsumed_tail
            if not (member.eof or piece or len(text) == _CHUNK):
                break
    if not member.eof:
        raise EOFError("the file ends too early")


def _lines(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Join pieces of a file to blocks of whole lines; an error comes after the lines before it."""
    held: list[bytes] = []
    size, broken = 0, None
    try:
        for piece in pieces:
            size += len(piece)
            cut = piece.rfind(b"\n") + 1 if size >= _BLOCK else 0
            if cut:
                held.append(piece[:cut])
                yield b"".join(held)
                held, size = [], len(piece) - cut
            held.append(piece[cut:])
    except (zlib.error, EOFError) as error:
        broken = error
    rest = b"".join(held)
    if broken:
        rest = rest[: rest.rfind(b"\n") + 1]
    elif rest and not rest.endswith(b"\n"):
        rest += b"\n"
    if rest:
        yield rest
    if broken:
        raise broken


class _Source:
    """A data file: its name, its size if known, and its text."""

    def __init__(self, source, on_progress):
        self.owned = not hasattr(source, "read")
        self.name = os.fsdecode(source) if self.owned else str(getattr(source, "name", "<stream>"))
        self.on_progress = on_progress
        self.done, self.size = 0, None
        self.file = open(source, "rb") if self.owned else source
        if self.owned:
            status = os.fstat(self.file.fileno())
            self.size = status.st_size if stat.S_ISREG(status.st_mode) else None

    def __enter__(self) -> _Source:
        return self

    def __exit__(self, *_) -> None:
        if self.owned:
            self.file.close()

    def progress(self, done: int) -> None:
        if self.on_progress:
            self.on_progress(done, self.size)

    def pieces(self) -> Iterator[bytes]:
        while piece := self.file.read(_CHUNK):
            if not isinstance(piece, bytes):
                raise TypeError(f"{self.name} must be opened in binary mode")
            self.done += len(piece)
            self.progress(self.done)
            yield piece

    def stream(self, builder: _Builder) -> Iterator[None]:
        """Add the text, plain or gzip, to the builder, a block at a time."""
        builder.spare = 1 / 8  # the end is not known
        pieces = self.pieces()
        first = next(pieces, b"")
        if len(first) == 1:
            first += next(pieces, b"")
        pieces = itertools.chain([first], pieces) if first else pieces
        try:
            for text in _lines(_gunzip(pieces) if first[:2] == b"\x1f\x8b" else pieces):
                builder.add(text, _ignore)
                yield
        except (zlib.error, EOFError) as error:
            problem = f"found damaged gzip data ({error}), expected a whole line"
            raise DataError(self.name, builder.lines + 1, 1, problem) from error

    def read(self, builder: _Builder) -> None:
        """Add the whole text to the builder."""
        if not self.size or self.file.peek(2)[:2] == b"\x1f\x8b":
            for _ in self.stream(builder):
                pass
            return
        with mmap.mmap(self.file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            cut = mapped.rfind(b"\n") + 1
            rest = mapped[cut:]
            if cut:
                with memoryview(mapped) as whole, whole[:cut] as text:
                    builder.add(text, self.progress)
            if rest:
                builder.add(rest + b"\n", _ignore)
                self.progress(self.size)


def _ignore(done: int) -> None:
    pass


def load_svmlight(
    source: str | os.PathLike | BinaryIO,
    *,
    dtype: Any = "float32",
    index_dtype: Any = "auto",
    n_features: int | None = None,
    zero_based: bool | str = "auto",
    query_id: bool = False,
    threads: int | None = None,
    on_progress: Callable[[int, int | None], Any] | None = None,
    _chunk: int = _CHUNK,
) -> tuple[CSR, np.ndarray] | tuple[CSR, np.ndarray, np.ndarray]:
    r"""Read a file in svmlight (libsvm) format, plain or compressed by gzip.

    A line is `label [qid:number] index:value ... [# comment]`, separated by blanks and tabs.
    Empty lines and lines of comment are skipped; lines end with a newline, a carriage return before
    it is allowed, and the last newline may be missing. Numbers are decimal, finite, and rounded
    correctly; indices increase along a line. Anything else is an error that names the first
    malformed line.

    A plain file is mapped into memory and read by all threads; it must not be cut short meanwhile.
    From a .gz file, known by its first bytes, decompression on one thread sets the pace.

    Parameters
    ----------
    source : str, path or binary file
        What to read. An open file is read from where it stands and left open.
    dtype : "float32" or "float64", default "float32"
        Type of the values. float32 is the float64 number rounded once more, as NumPy does.
    index_dtype : "auto", "int32" or "int64", default "auto"
        Type of the column numbers; "auto" is int32 unless there are 2^31 columns or more.
    n_features : int, default None
        Number of columns; None is the largest index in the file (plus one if zero-based).
    zero_based : True, False or "auto", default "auto"
        Whether the first column is called 0 or 1; "auto" is 0 if an index 0 occurs in the file.
        Give it if the file is one part of a larger data set.
    query_id : bool, default False
        Return the qid numbers too; then each row must have one.
    threads : int, default None
        Number of threads; None is the default of the package.
    on_progress : callable, default None
        Called some 30 times a second as on_progress(bytes_done, bytes_in_file or None).

    Returns
    -------
    X : CSR of shape (n_rows, n_features)
        The values; explicit zeros are kept.
    y : ndarray of shape (n_rows,), float64
        The labels.
    qid : ndarray of shape (n_rows,), int64
        The query numbers, if `query_id`.

    Raises
    ------
    DataError
        At the first malformed line; a ValueError with attributes file, line, byte.
    ValueError, TypeError, OSError
        For other wrong arguments, and what opening the file raises.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from fastopt.data import load_svmlight
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "two.svm")
    ...     _ = path.write_text("+1 1:0.5 3:2  # a comment\n-1 2:25e-2\n")
    ...     X, y = load_svmlight(path)
    >>> X.shape, y
    ((2, 3), array([ 1., -1.]))
    >>> X.data, X.indices, X.indptr
    (array([0.5 , 2.  , 0.25], dtype=float32), array([0, 2, 1], dtype=int32), array([0, 2, 3]))
    """
    with _Source(source, on_progress) as opened:
        builder = _Builder(
            opened.name, dtype=dtype, index_dtype=index_dtype, n_features=n_features,
            zero_based=zero_based, query_id=query_id, threads=threads, chunk=_chunk,
        )  # fmt: skip
        opened.read(builder)
        return builder.finish()


def iter_svmlight(
    source: str | os.PathLike | BinaryIO,
    *,
    n_features: int,
    zero_based: bool,
    block_rows: int = 65536,
    dtype: Any = "float32",
    index_dtype: Any = "auto",
    query_id: bool = False,
    threads: int | None = None,
    on_progress: Callable[[int, int | None], Any] | None = None,
    _chunk: int = _CHUNK,
) -> Iterator[tuple]:
    r"""Read a file in svmlight format block by block, in bounded memory.

    Parameters are those of `load_svmlight`, except

    Parameters
    ----------
    n_features : int
        Number of columns, the same for all blocks.
    zero_based : bool
        Whether the first column is called 0 or 1.
    block_rows : int, default 65536
        Rows of a block; the last one may have fewer. Memory is that of two blocks and some 30 MB.

    Yields
    ------
    (X, y) or (X, y, qid)
        The next rows, as `load_svmlight` returns them.

    Raises
    ------
    DataError
        At the first malformed line, after the blocks of whole rows read before it.

    Examples
    --------
    >>> import io
    >>> from fastopt.data import iter_svmlight
    >>> file = io.BytesIO(b"1 1:1\n2 2:1\n3 1:5\n")
    >>> [y for X, y in iter_svmlight(file, n_features=2, zero_based=False, block_rows=2)]
    [array([1., 2.]), array([3.])]
    """
    if n_features is None or zero_based not in (True, False):
        raise ValueError("iter_svmlight needs n_features and zero_based=True or False")
    block_rows = operator.index(block_rows)
    if block_rows < 1:
        raise ValueError(f"block_rows must be at least 1, got {block_rows}")
    with _Source(source, on_progress) as opened:
        builder = _Builder(
            opened.name, dtype=dtype, index_dtype=index_dtype, n_features=n_features,
            zero_based=zero_based, query_id=query_id, threads=threads, chunk=_chunk,
        )  # fmt: skip
        for _ in opened.stream(builder):
            start = 0
            while builder.rows - start >= block_rows:
                yield builder.matrix(start, start + block_rows)
                start += block_rows
            builder.drop(start)
        if builder.rows:
            yield builder.matrix(0, builder.rows)
