"""Files that are whole or not there, and npz files that say what they hold."""

from __future__ import annotations

import contextlib
import json
import os
import stat
import tempfile
import zipfile
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np

__all__ = ["load_npz", "replacing", "save_npz"]


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Yield a file that takes the place of `path` once it is complete and on the disk.

    After an error, or if the process dies, `path` is what it was before. A device or a pipe is
    written to as it is.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    given, path = os.fspath(path), os.path.realpath(path)  # through links, which stay
    try:
        old = os.stat(path)
    except FileNotFoundError:
        old = None
    if old is not None and not stat.S_ISREG(old.st_mode):
        with open(path, "wb") as file:  # a device or a pipe is written to, not replaced
            yield file
        return
    folder = os.path.dirname(path)
    try:
        handle, temporary = tempfile.mkstemp(dir=folder, prefix=os.path.basename(path) + ".")
    except OSError as error:
        raise type(error)(error.errno, error.strerror, given) from None
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        # mkstemp made the file private; it gets the old file's rights, or those of a new one
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, stat.S_IMODE(old.st_mode) if old else 0o666 & ~umask)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    if os.name == "posix":
        directory = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def save_npz(
    path: str | os.PathLike[str],
    kind: str,
    version: int,
    meta: dict[str, Any],
    arrays: dict[str, np.ndarray],
) -> None:
    """Write arrays and JSON-able settings to one npz file, atomically.

    Whatever happens, `path` holds the old file or the new one, never a part of either.

    Parameters
    ----------
    path : str or os.PathLike
        The file to write, taken as it is (no suffix is added).
    kind : str
        What the file holds, such as "fastopt linear model"; `load_npz` insists on it.
    version : int
        The number of the format; `load_npz` insists on it.
    meta : dict
        Settings that JSON can hold.
    arrays : dict of str to numpy.ndarray
        The arrays; no object arrays.

    Raises
    ------
    OSError
        If the file cannot be written.
    TypeError
        If `meta` holds what JSON cannot, or an array holds Python objects.
    """
    for name, array in arrays.items():
        if np.asarray(array).dtype.hasobject:
            raise TypeError(f"save_npz: array {name!r} holds Python objects; use numbers or text")
    head = json.dumps({"kind": kind, "version": version, **meta})
    with replacing(path) as file:
        np.savez(file, meta=np.array(head), **arrays)


def load_npz(
    path: str | os.PathLike[str], kind: str, version: int
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Read back what `save_npz` wrote; every byte is checked against the file's checksums.

    Parameters
    ----------
    path : str or os.PathLike
        The file.
    kind : str
        What the file must hold.
    version : int
        The format number that it must have.

    Returns
    -------
    meta : dict
        The settings.
    arrays : dict of str to numpy.ndarray
        The arrays by name.

    Raises
    ------
    OSError
        If the file cannot be opened.
    ValueError
        If the file is damaged, of another kind, or of another format version; the message names
        the file.
    """
    path = os.fspath(path)
    with open(path, "rb") as file:
        if not zipfile.is_zipfile(file):
            raise ValueError(f"{path}: not a {kind} file, or cut short")
        file.seek(0)
        try:
            with np.load(file, allow_pickle=False) as stored:
                arrays = {name: stored[name] for name in stored.files}
            meta = json.loads(str(arrays.pop("meta")[()]))
            found = (meta.pop("kind"), meta.pop("version"))
        except Exception as error:  # foreign bytes fail in many ways: zip, npy header, JSON, sizes
            raise ValueError(f"{path}: not a {kind} file, or damaged ({error})") from None
    if found[0] != kind:
        raise ValueError(f"{path}: holds a {found[0]}, not a {kind}")
    if found[1] != version:
        raise ValueError(
            f"{path}: has format version {found[1]}; this fastopt reads version {version}"
        )
    return meta, arrays
