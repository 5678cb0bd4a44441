"""The binary cache: a CSR matrix with labels and weights in one file, to be mapped into memory.

All numbers are in the byte order of the machine that wrote it.

    0     b"fastoptC", then uint32: 0x01020304 and the format's version
    16    uint64: offset, size, XXH64 of the description; size of the file; 0; XXH64 of bytes 0-55
    4096  the sections data, indices, indptr, y and, where there are, weights and fields, each at a
          multiple of 64; the checksums (XXH64 of each 2^20 bytes of each section); the description,
          in JSON: dtypes, shape, sections, sources, how they were read
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import struct
import tempfile
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np

from fastopt._core import checksums
from fastopt.data.csr import CSR, DataError
from fastopt.files import replacing
from fastopt.threads import resolve

__all__ = ["MAGIC", "Cache", "Writer", "default_path", "writing"]

MAGIC = b"fastoptC"
ORDER, VERSION = 0x01020304, 1
HEAD = struct.Struct("=8sIIQQQQQQ")
FIRST = 4096  # where the first section begins
PIECE = 1 << 20  # bytes with a checksum
SPOOL = 1 << 24  # bytes of a section held in memory while it is written
TYPES = {
    "data": ("float32", "float64"), "indices": ("int32", "int64"), "indptr": ("int64",),
    "y": ("float64",), "weights": ("float64",), "fields": ("int32",),
}  # fmt: skip


def checksum(data: Any) -> int:
    """Return XXH64 of some bytes."""
    found = np.zeros(1, np.uint64)
    checksums(data, max(1, len(data)), found)
    return int(found[0]) if len(data) else 0


def default_path(paths: list[str], local: bool) -> str:
    """Return where the cache of some files lies: beside a single one, if its folder allows."""
    beside = paths[0] + ".fastopt"
    if local and len(paths) == 1:
        folder = os.path.dirname(os.path.realpath(beside))
        if os.path.exists(beside) or os.access(folder, os.W_OK):
            return beside
    from fastopt.data.demo import cache_folder

    names = [os.path.realpath(path) if "://" not in path else path for path in paths]
    digest = hashlib.blake2b(json.dumps(names).encode(), digest_size=16).hexdigest()
    return os.path.join(cache_folder(), "data", digest + ".fastopt")


class Section:
    """A section that is being written, with the checksums of what was written."""

    def __init__(self, file: BinaryIO, dtype: str):
        self.file, self.dtype = file, np.dtype(dtype)
        self.size, self.sums, self.pending = 0, [], bytearray()

    def write(self, array: np.ndarray) -> None:
        """Append an array of this section's dtype."""
        if array.dtype != self.dtype:
            raise TypeError(f"{array.dtype} in a section of {self.dtype}")
        view = memoryview(np.ascontiguousarray(array)).cast("B") if array.size else b""
        self.file.write(view)
        self.size += len(view)
        if self.pending:
            head = PIECE - len(self.pending)
            self.pending += view[:head]
            view = view[head:]
            if len(self.pending) < PIECE:
                return
            self.sum(self.pending)
            self.pending = bytearray()
        whole = len(view) // PIECE * PIECE
        self.sum(view[:whole])
        self.pending += view[whole:]

    def sum(self, data: Any) -> None:
        """Keep the checksums of some bytes."""
        sums = np.empty(-(-len(data) // PIECE), np.uint64)
        if len(sums):
            checksums(data, PIECE, sums)
            self.sums.append(sums)

    def finish(self) -> np.ndarray:
        """Return all checksums."""
        self.sum(self.pending)
        self.pending = bytearray()
        return np.concatenate([np.empty(0, np.uint64), *self.sums])


class Writer:
    """A cache that is being written: values at once, the rest when all of them are there."""

    def __init__(self, file: BinaryIO, dtype: str, folder: str):
        self.file, self.folder = file, folder
        self.spools: dict[str, BinaryIO] = {}
        self.rows = self.entries = 0
        self.index = np.dtype("int32")
        file.write(bytes(FIRST))
        self.data = Section(file, dtype)

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *_) -> None:
        for spool in self.spools.values():
            spool.close()

    def spool(self, name: str, array: np.ndarray) -> None:
        """Append to a section that is written later."""
        if name not in self.spools:
            self.spools[name] = tempfile.SpooledTemporaryFile(SPOOL, dir=self.folder)
        if array.size:
            self.spools[name].write(memoryview(np.ascontiguousarray(array)).cast("B"))

    def add(self, X: CSR, y: np.ndarray, weights: np.ndarray | None) -> None:
        """Append rows."""
        self.data.write(X.data)
        if X.indices.dtype != self.index and X.nnz:
            if self.index == np.int32 and "indices" in self.spools:
                narrow = self.spools.pop("indices")
                for part in pieces(narrow, self.index):
                    self.spool("indices", part.astype("int64"))
                narrow.close()
            self.index = np.dtype("int64")
        self.spool("indices", X.indices.astype(self.index, copy=False))
        self.spool("indptr", self.entries + X.indptr[:-1])
        self.spool("y", y)
        if weights is not None:
            if "weights" not in self.spools:
                for start in range(0, self.rows, SPOOL):
                    self.spool("weights", np.ones(min(SPOOL, self.rows - start)))
            self.spool("weights", weights)
        elif "weights" in self.spools:
            self.spool("weights", np.ones(len(y)))
        if X.fields is not None:
            self.spool("fields", X.fields)
        self.rows += len(y)
        self.entries += X.nnz

    def finish(self, n_features: int, shift: int, about: dict[str, Any]) -> None:
        """Write all the rest; `shift` is added to all indices."""
        self.spool("indptr", np.array([self.entries]))
        empty = np.empty(0)
        for name in ("indices", "y"):
            self.spool(name, empty)
        index = np.dtype("int64") if n_features >= 2**31 else self.index
        sections = {"data": self.data}
        offsets = {"data": FIRST}
        types = {"indices": index, "indptr": np.dtype("int64"), "y": np.dtype("float64"),
                 "weights": np.dtype("float64"), "fields": np.dtype("int32")}  # fmt: skip
        for name, dtype in types.items():
            if name not in self.spools:
                continue
            offsets[name] = self.align()
            sections[name] = section = Section(self.file, dtype)
            stored = self.index if name == "indices" else dtype
            for part in pieces(self.spools[name], stored):
                part = part.astype(dtype, copy=False)
                section.write(part + dtype.type(shift) if name == "indices" and shift else part)
        sums = np.concatenate([section.finish() for section in sections.values()])
        sums_at = self.align()
        self.file.write(memoryview(sums).cast("B") if len(sums) else b"")
        about = {
            **about,
            "shape": [self.rows, n_features],
            "sections": {
                name: [str(section.dtype), offsets[name], section.size]
                for name, section in sections.items()
            },
            "sums": [sums_at, len(sums), checksum(sums.tobytes())],
        }
        text = json.dumps(about).encode()
        at = self.align()
        self.file.write(text)
        size = at + len(text)
        head = HEAD.pack(MAGIC, ORDER, VERSION, at, len(text), checksum(text), size, 0, 0)
        self.file.seek(0)
        self.file.write(head[:56] + struct.pack("=Q", checksum(head[:56])))

    def align(self) -> int:
        """Fill up to a multiple of 64 and return it."""
        at = self.file.tell()
        self.file.write(bytes(-at % 64))
        return at + -at % 64


def pieces(spool: BinaryIO, dtype: np.dtype) -> Iterator[np.ndarray]:
    """Yield what was written to a file, from its beginning."""
    spool.seek(0)
    while piece := spool.read(PIECE):
        yield np.frombuffer(piece, dtype)


@contextlib.contextmanager
def writing(path: str, dtype: str) -> Iterator[Writer]:
    """Yield the writer of a cache that takes the place of `path` when it is complete.

    Raises
    ------
    ValueError
        If there is a file that is no cache: it is left alone.
    """
    if os.path.exists(path) and os.path.getsize(path):
        with open(path, "rb") as file:
            if file.read(len(MAGIC)) != MAGIC:
                raise ValueError(f"cache: {path} is there and no fastopt cache; it is left alone")
    folder = os.path.dirname(os.path.realpath(path))
    os.makedirs(folder, exist_ok=True)
    with replacing(path) as file, Writer(file, dtype, folder) as writer:
        yield writer


class Cache:
    """A cache that is mapped into memory, or a range of its rows; checked where it is first read.

    Attributes
    ----------
    path : str
        The file.
    about : dict
        Its description.
    first, stop : int
        The range of rows.
    """

    def __init__(self, path: str, threads: int | None = None):
        self.path, self.threads = os.fspath(path), resolve(threads)
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            self.about, self.digest = self.description(file, size)
            # one mapping for all: what the path names may be another file by now
            whole = np.memmap(file, np.uint8, "r") if size else np.empty(0, np.uint8)
        try:
            rows, self.n_features = map(int, self.about["shape"])
            sums_at, n_sums, sums_sum = map(int, self.about["sums"])
            self.sums = whole[sums_at : sums_at + 8 * n_sums].view(np.uint64)
            if checksum(self.sums.tobytes()) != sums_sum:
                raise self.damaged("the checksums")
            self.arrays, self.bytes, self.checked, first = {}, {}, {}, 0
            for name, (dtype, offset, length) in self.about["sections"].items():
                if dtype not in TYPES[name] or offset < 0 or length < 0 or offset + length > size:
                    raise self.damaged(f"the section {name}")
                self.bytes[name] = whole[offset : offset + length]
                self.arrays[name] = np.asarray(self.bytes[name].view(dtype))
                count = -(-length // PIECE)
                self.checked[name] = (np.zeros(count, bool), self.sums[first : first + count])
                first += count
            entries = len(self.arrays["data"])
            sizes = {"indices": entries, "fields": entries, "indptr": rows + 1}
            if first != n_sums or any(
                len(array) != sizes.get(name, entries if name == "data" else rows)
                for name, array in self.arrays.items()
            ) or not {"data", "indices", "indptr", "y"} <= set(self.arrays):  # fmt: skip
                raise self.damaged("the sections' sizes")
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, DataError):
                raise
            raise self.damaged("the description") from error
        self.first, self.stop = 0, rows

    def damaged(self, what: str) -> DataError:
        """Return the error for what does not fit its checksum."""
        problem = f"damaged fastopt cache: {what}; delete it to have it written anew"
        return DataError(self.path, 0, 0, problem)

    def description(self, file: BinaryIO, size: int) -> tuple[dict[str, Any], int]:
        """Return the description, and its checksum."""
        head = file.read(HEAD.size)
        if head[:8] != MAGIC:
            raise DataError(self.path, 0, 0, "not a fastopt cache")
        if len(head) < HEAD.size:
            raise self.damaged("the header")
        _, order, version, at, length, text_sum, stored_size, _, head_sum = HEAD.unpack(head)
        if order == int.from_bytes(ORDER.to_bytes(4, "little"), "big"):
            problem = "a fastopt cache written on a machine with the other byte order"
            raise DataError(self.path, 0, 0, problem)
        if order == ORDER and version != VERSION:
            problem = f"a fastopt cache of format {version}; this fastopt reads format {VERSION}"
            raise DataError(self.path, 0, 0, problem)
        if order != ORDER or checksum(head[:56]) != head_sum:
            raise self.damaged("the header")
        if size != stored_size or at + length > size:
            raise self.damaged(f"{size} bytes instead of {stored_size}")
        file.seek(at)
        text = file.read(length)
        if checksum(text) != text_sum:
            raise self.damaged("the description")
        return json.loads(text), text_sum

    def __reduce__(self) -> tuple:
        return reopen, (
            os.path.abspath(self.path),
            self.digest,
            self.first,
            self.stop,
            self.threads,
        )

    @property
    def dtype(self) -> str:
        """Type of the values."""
        return str(self.arrays["data"].dtype)

    @property
    def rows(self) -> int:
        """Number of rows."""
        return self.stop - self.first

    @property
    def entries(self) -> int:
        """Number of stored values."""
        indptr = self.arrays["indptr"]
        return int(indptr[self.stop] - indptr[self.first])

    def part(self, start: int, stop: int) -> Cache:
        """Return a range of this range of rows."""
        part = object.__new__(Cache)
        part.__dict__.update(self.__dict__)
        part.first, part.stop = self.first + start, self.first + stop
        return part

    def check(self, name: str, start: int, stop: int) -> bool:
        """Compare elements with their checksums; return False if this was done before."""
        size = self.arrays[name].itemsize
        a, b = start * size // PIECE, -(-stop * size // PIECE)
        done, expected = self.checked[name]
        if done[a:b].all():
            return False
        found = np.empty(b - a, np.uint64)
        checksums(self.bytes[name][a * PIECE : b * PIECE], PIECE, found, self.threads)
        wrong = np.flatnonzero(found != expected[a:b])
        if len(wrong):
            raise self.damaged(f"{name}, bytes from {(a + int(wrong[0])) * PIECE} on")
        done[a:b] = True
        return True

    def take(self, start: int, stop: int) -> tuple[CSR, np.ndarray, np.ndarray | None]:
        """Return some rows, which are views of the file.

        Raises
        ------
        DataError
            If they are not what was written.
        """
        start, stop = self.first + start, self.first + stop
        new = self.check("indptr", start, stop + 1)
        indptr = self.arrays["indptr"][start : stop + 1]
        first, last = int(indptr[0]), int(indptr[-1])
        whole = len(self.arrays["data"])
        if new and not (0 <= first <= last <= whole and (indptr[1:] >= indptr[:-1]).all()):
            raise self.damaged("indptr")
        for name in self.arrays:
            if name in ("data", "fields"):
                self.check(name, first, last)
            elif name in ("y", "weights"):
                self.check(name, start, stop)
        indices = self.arrays["indices"][first:last]
        if self.check("indices", first, last) and not (
            0 <= indices.min(initial=0) and indices.max(initial=0) < self.n_features
        ):
            raise self.damaged("indices")
        X = CSR(
            self.arrays["data"][first:last],
            indices,
            indptr - first if first else indptr,
            (stop - start, self.n_features),
            self.arrays["fields"][first:last] if "fields" in self.arrays else None,
        )
        weights = self.arrays["weights"][start:stop] if "weights" in self.arrays else None
        return X, self.arrays["y"][start:stop], weights


def reopen(path: str, digest: int, first: int, stop: int, threads: int) -> Cache:
    """Return the same rows of the same cache.

    Raises
    ------
    DataError
        If another cache has taken its place.
    """
    cache = Cache(path, threads)
    if cache.digest != digest:
        raise DataError(path, 0, 0, "the cache has changed since its parts were named")
    return cache.part(first, stop)
