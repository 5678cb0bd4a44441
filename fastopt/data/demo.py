"""The built-in demo data: lines of Python source code, and the packages they come from."""

from __future__ import annotations

import hashlib
import os
import re
import sys
import sysconfig
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from fastopt.data import CSR
from fastopt.files import load_npz, save_npz

__all__ = ["Demo", "cache_folder", "load"]

BITS = 17  # 2^17 columns: few enough for threads to keep copies of the weights
N_CLASSES = 20
TEST_EVERY = 10  # one line in ten is held out
KIND, VERSION = "fastopt demo data", 1

# A word, or one other visible character. Bytes above 127 are letters: UTF-8 stays in one piece.
TOKEN = re.compile(rb"[A-Za-z0-9_\x80-\xff]+|[^\sA-Za-z0-9_\x80-\xff]|\n")
SKIPPED = {"site-packages", "dist-packages", "__pycache__"}
PAIR = np.uint64(0x9E3779B97F4A7C15)  # odd, so that a bigram's two tokens do not commute
LINES_AT_ONCE = 1 << 14


@dataclass(frozen=True)
class Demo:
    """The demo data.

    Attributes
    ----------
    X_train, X_test : CSR, shape (n_rows, 131072), float32 values, int32 indices
        Hashed counts of tokens and of pairs of neighbouring tokens; rows have length 1.
    y_train, y_test : numpy.ndarray of int32, shape (n_rows,)
        Which of `classes` each line comes from.
    classes : list of str
        The packages, by name.
    description : str
        What was read, in a sentence or two.
    note : str
        "" or why the data could not be cached.
    cached : bool
        Whether the data came from the cache.
    """

    X_train: CSR
    y_train: np.ndarray
    X_test: CSR
    y_test: np.ndarray
    classes: list[str]
    description: str
    note: str = ""
    cached: bool = False


def load(
    folders: Sequence[tuple[str, str]] | None = None,
    *,
    on_progress: Callable[[str, float], object] | None = None,
) -> Demo:
    """Return the demo data: real text that every Python installation has on its disk.

    A row is a line of Python source code from the standard library (without its `test` package)
    or from NumPy; the label is the package that the line comes from, among the 20 with the most
    lines. Repeated lines count once, and a line that stands in two packages is left out, as it
    has no right answer. The columns are counts of the line's tokens and pairs of neighbouring
    tokens, hashed to 2^17 columns, each row scaled to length 1.

    One line in ten is held out for testing, chosen by a hash of its text: no line is in both
    parts, but lines of one file are. The first call reads the files (seconds); later calls read a
    cache in the folder `cache_folder()`, as long as the files stay the same.

    Parameters
    ----------
    folders : list of (prefix, folder), default None
        Where to look for packages; a package's label is the prefix and its name. None: the
        standard library and NumPy.
    on_progress : callable, default None
        Called as ``on_progress(what, share)`` with share from 0 to 1.

    Returns
    -------
    Demo
        The data; it does not depend on the machine except through the files read.

    Raises
    ------
    ValueError
        If fewer than two packages with source files are found in `folders`.
    """
    report = on_progress or (lambda what, share: None)
    folders = default_folders() if folders is None else list(folders)
    report("looking for source files", 0.0)
    files = list(source_files(folders))
    seen = [(path, label, stat.st_size, stat.st_mtime_ns) for path, label, stat in files]
    seen += [BITS, N_CLASSES, TEST_EVERY]
    fingerprint = hashlib.blake2b(repr(seen).encode(), digest_size=16).hexdigest()
    python = f"{sys.implementation.name}-{sys.version_info.major}.{sys.version_info.minor}"
    cache = os.path.join(cache_folder(), f"demo-{python}.npz")
    demo = read_cache(cache, fingerprint)
    if demo is None:
        demo = build(files, [folder for _, folder in folders], report)
        demo = write_cache(cache, fingerprint, demo)
    report("done", 1.0)
    return demo


def cache_folder() -> str:
    """Return FASTOPT_CACHE, else XDG_CACHE_HOME/fastopt, else ~/.cache/fastopt."""
    chosen = os.environ.get("FASTOPT_CACHE")
    if chosen:
        return chosen
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(base, "fastopt")


def default_folders() -> list[tuple[str, str]]:
    """Return the standard library's folder and NumPy's, with the prefixes of their packages."""
    library = sysconfig.get_paths()["stdlib"]
    return [("", library), ("numpy.", os.path.dirname(os.path.abspath(np.__file__)))]


def source_files(folders: Iterable[tuple[str, str]]) -> Iterable[tuple[str, str, os.stat_result]]:
    """Yield (path, label, stat) of every source file, in a fixed order."""
    for prefix, top in folders:
        for folder, below, names in os.walk(top):
            below[:] = sorted(
                name for name in below
                if name not in SKIPPED and not (folder == top and not prefix and name == "test")
            )  # fmt: skip
            for name in sorted(names):
                if name.endswith(".py"):
                    path = os.path.join(folder, name)
                    package = os.path.relpath(path, top).split(os.sep)[0].removesuffix(".py")
                    try:
                        yield path, prefix + package, os.stat(path)
                    except OSError:
                        pass  # a dangling link, or a file that has just gone


def build(
    files: Sequence[tuple[str, str, os.stat_result]],
    folders: Sequence[str],
    report: Callable[[str, float], object],
) -> Demo:
    """Read the files and make the rows."""
    owner: dict[bytes, str] = {}  # line -> the package it stands in, "" for several
    bytes_read = 0
    for k, (path, label, _) in enumerate(files):
        if k % 64 == 0:
            report("reading source files", 0.2 * k / len(files))
        try:
            with open(path, "rb") as file:
                text = file.read()
        except OSError:
            continue
        bytes_read += len(text)
        for line in text.splitlines():
            line = line.strip()
            if len(line) > 1 and owner.setdefault(line, label) != label:
                owner[line] = ""
    counts = Counter(owner.values())
    shared = counts.pop("", 0)
    classes = sorted(sorted(counts, key=lambda label: (-counts[label], label))[:N_CLASSES])
    if len(classes) < 2:
        raise ValueError(
            f"demo: needs the source files (.py) of at least 2 packages in "
            f"{' and '.join(folders)}, found {len(classes)}; train on a file instead"
        )

    number = {label: k for k, label in enumerate(classes)}
    lines = [line for line, label in owner.items() if label in number]
    y = np.fromiter((number[owner[line]] for line in lines), np.int32, len(lines))
    hashes = hash_tokens(lines)
    order = np.argsort(hashes, kind="stable")  # a shuffle that every machine makes alike
    lines = [lines[k] for k in order]
    y, hashes = y[order], hashes[order]
    X = hashed_rows(lines, lambda share: report("hashing tokens", 0.2 + 0.75 * share))
    test = hashes % np.uint64(TEST_EVERY) == 0
    largest = int(np.bincount(y[test], minlength=len(classes)).argmax())
    baseline = np.mean(y[test] == largest) if test.any() else 0.0
    description = (
        f"Which package is a line of Python source code from? {len(lines):,} distinct lines of the "
        f"{len(classes)} largest packages in {' and '.join(folders)} ({bytes_read / 1e6:.1f} MB in "
        f"{len(files):,} files); {shared:,} lines that stand in several packages are left out. "
        f"One line in {TEST_EVERY}, chosen by a hash of its text, is held out for testing; always "
        f"answering {classes[largest]} would be right on {baseline:.1%} of them."
    )
    train = np.flatnonzero(~test)
    test = np.flatnonzero(test)
    return Demo(take(X, train), y[train], take(X, test), y[test], classes, description)


def hash_tokens(tokens: Sequence[bytes]) -> np.ndarray:
    """Return a 64-bit hash of each token: the same on every machine and in every process."""
    blake = hashlib.blake2b
    return np.frombuffer(
        b"".join([blake(token, digest_size=8).digest() for token in tokens]), "<u8"
    ).astype(np.uint64, copy=False)


def hashed_rows(lines: Sequence[bytes], report: Callable[[float], object]) -> CSR:
    """Return one row per line: hashed counts of tokens and of token pairs, scaled to length 1.

    With h the 64-bit hash of `hash_tokens`, token t has the column ``h(t) >> 47`` and the pair
    s, t has ``(0x9E3779B97F4A7C15 * h(s) + h(t)) mod 2^64 >> 47``.
    """
    shift = np.uint64(64 - BITS)
    known: dict[bytes, int] = {b"\n": 0}  # token -> number, in order of appearance
    table = np.zeros(1, np.uint64)  # number -> hash
    indices, data, lengths = [], [], []
    for start in range(0, len(lines), LINES_AT_ONCE):
        report(start / len(lines))
        tokens = TOKEN.findall(b"\n".join(lines[start : start + LINES_AT_ONCE]) + b"\n")
        fresh = [token for token in dict.fromkeys(tokens) if token not in known]
        known.update(zip(fresh, range(len(known), len(known) + len(fresh)), strict=True))
        table = np.concatenate([table, hash_tokens(fresh)])
        ids = np.fromiter(map(known.__getitem__, tokens), np.int64, len(tokens))

        ends = ids == 0
        row = np.cumsum(ends) - ends  # the line that each token is in
        h = table[ids]
        both = ~ends[:-1] & ~ends[1:]
        column = np.concatenate([h[~ends] >> shift, (PAIR * h[:-1] + h[1:])[both] >> shift])
        row = np.concatenate([row[~ends], row[:-1][both]])
        keys, count = np.unique(row << BITS | column.astype(np.int64), return_counts=True)
        row = keys >> BITS
        length = np.bincount(row, minlength=min(LINES_AT_ONCE, len(lines) - start))
        norm = np.sqrt(np.bincount(row, count.astype(float) ** 2, len(length)))
        indices.append((keys & ((1 << BITS) - 1)).astype(np.int32))
        data.append((count / norm[row]).astype(np.float32))
        lengths.append(length)
    indptr = np.concatenate([[0], np.cumsum(np.concatenate(lengths))]).astype(np.int64)
    shape = (len(lines), 1 << BITS)
    return CSR(np.concatenate(data), np.concatenate(indices), indptr, shape)


def take(X: CSR, rows: np.ndarray) -> CSR:
    """Return a copy of the rows `rows` of `X`, in that order."""
    starts = X.indptr[rows].astype(np.int64)
    lengths = X.indptr[rows + 1].astype(np.int64) - starts
    indptr = np.concatenate([[0], np.cumsum(lengths)])
    at = np.repeat(starts - indptr[:-1], lengths) + np.arange(indptr[-1])
    indptr = indptr.astype(X.indptr.dtype)
    return CSR(X.data[at], X.indices[at], indptr, (len(rows), X.shape[1]))


def write_cache(path: str, fingerprint: str, demo: Demo) -> Demo:
    """Write the cache; return the data, with a note if that was not possible."""
    arrays = {"y_train": demo.y_train, "y_test": demo.y_test}
    for part, X in (("train", demo.X_train), ("test", demo.X_test)):
        arrays |= {f"{part}_data": X.data, f"{part}_indices": X.indices, f"{part}_indptr": X.indptr}
    meta = {
        "fingerprint": fingerprint, "classes": demo.classes, "description": demo.description,
    }  # fmt: skip
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        save_npz(path, KIND, VERSION, meta, arrays)
    except OSError as error:
        return replace(demo, note=f"not cached: {error.strerror or error}: {path}")
    return demo


def read_cache(path: str, fingerprint: str) -> Demo | None:
    """Return the cached data, or None if it is missing, damaged, or of other files."""
    try:
        meta, arrays = load_npz(path, KIND, VERSION)
        if meta["fingerprint"] != fingerprint:
            return None
        parts = []
        for part in ("train", "test"):
            y = arrays[f"y_{part}"]
            X = CSR(
                arrays[f"{part}_data"], arrays[f"{part}_indices"], arrays[f"{part}_indptr"],
                (len(y), 1 << BITS),
            )  # fmt: skip
            parts += [X, y]
        return Demo(*parts, meta["classes"], meta["description"], cached=True)
    except (OSError, ValueError, KeyError):
        return None
