"""A sparse matrix by rows, and the error that names a malformed place of a data file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["CSR", "DataError"]


class DataError(ValueError):
    """A malformed line of a data file.

    Attributes
    ----------
    file : str
        The file's path, or its name if it was given as an open file.
    line : int
        Number of the line, from 1; every line of the file counts. In Parquet files, number of the
        row; 0 if the file as a whole is damaged.
    byte : int
        Place in that line, in bytes, from 1; 0 where there are no bytes to count.
    problem : str
        What was found and what was expected.
    """

    def __init__(self, file: str, line: int, byte: int, problem: str):
        super().__init__(file, line, byte, problem)
        self.file, self.line, self.byte, self.problem = file, line, byte, problem

    def __str__(self) -> str:
        if self.byte:
            return f"{self.file}:{self.line}: byte {self.byte}: {self.problem}"
        if self.line:
            return f"{self.file}: row {self.line}: {self.problem}"
        return f"{self.file}: {self.problem}"


@dataclass(frozen=True, eq=False)
class CSR:
    """A sparse matrix by rows, with the attributes of SciPy's `csr_matrix`.

    Attributes
    ----------
    data : ndarray of shape (nnz,), float32 or float64
        The values, row after row.
    indices : ndarray of shape (nnz,), int32 or int64
        Their columns, increasing within each row (never decreasing, where rows have fields).
    indptr : ndarray of shape (n_rows + 1,), int64
        Row i is at `indptr[i]:indptr[i + 1]` of `data` and `indices`.
    shape : tuple of int
        (n_rows, n_columns).
    fields : ndarray of shape (nnz,), int32, or None
        The fields of the values, in data for field-aware factorization machines.
    """

    data: np.ndarray
    indices: np.ndarray
    indptr: np.ndarray
    shape: tuple[int, int]
    fields: np.ndarray | None = None

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
        fields = None if self.fields is None else self.fields[first:last]
        shape = (stop - start, self.shape[1])
        return CSR(self.data[first:last], self.indices[first:last], indptr, shape, fields)

    def take(self, rows: np.ndarray) -> CSR:
        """Return a copy of the rows with these numbers, in this order."""
        starts, counts = self.indptr[rows], self.indptr[rows + 1] - self.indptr[rows]
        indptr = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
        at = np.repeat(starts - indptr[:-1], counts) + np.arange(indptr[-1])
        fields = None if self.fields is None else self.fields[at]
        return CSR(self.data[at], self.indices[at], indptr, (len(rows), self.shape[1]), fields)

    def to_scipy(self) -> Any:
        """Return a `scipy.sparse.csr_matrix` that shares values and columns where it can."""
        try:
            from scipy.sparse import csr_matrix
        except ImportError as error:
            raise ImportError("to_scipy needs SciPy: pip install 'fastopt[sklearn]'") from error
        return csr_matrix((self.data, self.indices, self.indptr), shape=self.shape)
