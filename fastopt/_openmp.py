"""Sees to it that the process has one GNU OpenMP runtime before the compiled module is loaded.

torch, scikit-learn and fastopt's wheels each bring a copy of libgomp. A module binds to the first
copy that is globally visible, else to its own; two copies mean two pools of threads that spin for
the same processors, and work that alternates between them runs hundreds of times slower.
"""

from __future__ import annotations

import ctypes
import os
import re
import sys
from glob import glob

try:
    from fastopt._buildinfo import openmp
except ImportError:
    raise ImportError(
        "fastopt's compiled module is not here. In a source tree: `pip install -e .` or "
        "`make test`; to use an installed fastopt, start Python in another folder"
    ) from None

# A waiting thread spins about 0.1 ms, not GNU's 10 ms: long enough to keep alternating parallel
# regions fast, short enough to leave the processors to NumPy's own threads.
SPIN = "3000"


def runtimes(maps: str = "/proc/self/maps") -> list[str]:
    """Return the paths of all OpenMP runtimes loaded in this process (Linux only).

    Parameters
    ----------
    maps : str, default "/proc/self/maps"
        The file to read.

    Returns
    -------
    list of str
        In the order of their addresses; empty where the system has no such file.
    """
    try:
        with open(maps, encoding="utf-8", errors="surrogateescape") as file:
            paths = [line.split(maxsplit=5)[5].rstrip("\n") for line in file if "/" in line]
    except OSError:
        return []
    pattern = re.compile(r"lib(gomp|omp|iomp5)[-.][^/]*$")
    return [path for path in dict.fromkeys(paths) if pattern.search(path)]


def _installed() -> list[str]:
    """Return where a copy of libgomp may lie on disk, torch's first; nothing is imported."""
    folders = [os.path.join(entry or ".", "torch", "lib") for entry in sys.path]
    folders.append(os.path.join(os.path.dirname(os.path.dirname(__file__)), "fastopt.libs"))
    return [path for folder in folders for path in sorted(glob(f"{folder}/libgomp*.so*"))]


def share() -> str | None:
    """Make one libgomp globally visible: one already loaded, torch's, our own, or the system's.

    Called once, before ``fastopt._core`` is loaded. ``FASTOPT_SHARE_OPENMP=0`` turns it off, and so
    does a build without GNU's OpenMP.

    Returns
    -------
    str or None
        The copy that was made visible.
    """
    if openmp != "gomp" or os.environ.get("FASTOPT_SHARE_OPENMP") == "0":
        return None
    if not sys.platform.startswith("linux"):
        return None
    loaded = [path for path in runtimes() if "libgomp" in os.path.basename(path)]
    for path in sorted(loaded, key=lambda path: f"{os.sep}torch{os.sep}" not in path):
        try:
            ctypes.CDLL(path, mode=os.RTLD_GLOBAL | os.RTLD_NOLOAD)
            return path
        except OSError:  # replaced on disk since it was loaded
            continue
    chosen = "GOMP_SPINCOUNT" in os.environ or "OMP_WAIT_POLICY" in os.environ
    if not chosen:
        os.environ["GOMP_SPINCOUNT"] = SPIN  # read once, while the library loads
    try:
        for path in [*_installed(), "libgomp.so.1"]:
            try:
                ctypes.CDLL(path, mode=os.RTLD_GLOBAL)
                return next((p for p in runtimes() if "libgomp" in os.path.basename(p)), path)
            except OSError:
                continue
    finally:
        if not chosen:
            del os.environ["GOMP_SPINCOUNT"]
    return None


shared = share()
