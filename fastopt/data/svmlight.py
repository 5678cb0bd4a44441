"""Reading svmlight (libsvm) files: whole, or block by block."""

from __future__ import annotations

import operator
import os
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

import numpy as np

from fastopt.data.builder import CHUNK, Builder
from fastopt.data.csr import CSR
from fastopt.data.sources import Source

__all__ = ["iter_svmlight", "load_svmlight"]


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
    _chunk: int = CHUNK,
) -> tuple[CSR, np.ndarray] | tuple[CSR, np.ndarray, np.ndarray]:
    r"""Read a file in svmlight (libsvm) format, plain or compressed by gzip or zstd.

    A line is `label [qid:number] index:value ... [# comment]`, separated by blanks and tabs.
    Empty lines and lines of comment are skipped; lines end with a newline, a carriage return before
    it is allowed, and the last newline may be missing. Numbers are decimal, finite, and rounded
    correctly; indices increase along a line. Anything else is an error that names the first
    malformed line.

    A plain file is mapped into memory and read by all threads; it must not be cut short meanwhile.
    From a compressed file, known by its first bytes, decompression on one thread sets the pace.

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
    >>> from fastopt.data.svmlight import load_svmlight
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "two.svm")
    ...     _ = path.write_text("+1 1:0.5 3:2  # a comment\n-1 2:25e-2\n")
    ...     X, y = load_svmlight(path)
    >>> X.shape, y
    ((2, 3), array([ 1., -1.]))
    >>> X.data, X.indices, X.indptr
    (array([0.5 , 2.  , 0.25], dtype=float32), array([0, 2, 1], dtype=int32), array([0, 2, 3]))
    """
    with Source(source, on_progress) as opened:
        builder = Builder(
            opened.name, dtype=dtype, index_dtype=index_dtype, n_features=n_features,
            zero_based=zero_based, query_id=query_id, threads=threads, chunk=_chunk,
        )  # fmt: skip
        opened.read(builder)
        return builder.finish()[: 3 if query_id else 2]


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
    _chunk: int = CHUNK,
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
    >>> from fastopt.data.svmlight import iter_svmlight
    >>> file = io.BytesIO(b"1 1:1\n2 2:1\n3 1:5\n")
    >>> [y for X, y in iter_svmlight(file, n_features=2, zero_based=False, block_rows=2)]
    [array([1., 2.]), array([3.])]
    """
    if n_features is None or zero_based not in (True, False):
        raise ValueError("iter_svmlight needs n_features and zero_based=True or False")
    block_rows = operator.index(block_rows)
    if block_rows < 1:
        raise ValueError(f"block_rows must be at least 1, got {block_rows}")
    with Source(source, on_progress) as opened:
        builder = Builder(
            opened.name, dtype=dtype, index_dtype=index_dtype, n_features=n_features,
            zero_based=zero_based, query_id=query_id, threads=threads, chunk=_chunk,
        )  # fmt: skip
        for block in opened.blocks(builder, block_rows):
            yield block[: 3 if query_id else 2]
