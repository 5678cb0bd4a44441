"""The copy-shaped limit: the bytes of a rule's step, with an addition for each, and no more."""

from __future__ import annotations

import ctypes
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from fastopt.rules.parameters import aligned_full

#: Letters of the arrays that one pass reads, and of those that it reads and writes.
Pass = tuple[str, str]


def one_pass(states: int) -> list[Pass]:
    """Return what a rule with so many states does: read g, read and write w and the states."""
    return [("g", "w" + "abc"[:states])]


def words(passes: Sequence[Pass]) -> int:
    """Return how many numbers are moved for each element."""
    return sum(len(read) + 2 * len(written) for read, written in passes)


class Limit:
    """Passes over arrays, compiled here for this very processor: the limit and not a rival's habit.

    Raises
    ------
    RuntimeError
        If there is no C compiler.
    """

    def __init__(self) -> None:
        compiler = os.environ.get("CC") or shutil.which("gcc") or shutil.which("cc")
        if not compiler:
            raise RuntimeError("the copy-shaped limit needs a C compiler: set CC")
        self.folder = tempfile.TemporaryDirectory()
        library = f"{self.folder.name}/limit.so"
        # Loops on cache lines: one that is not may take 1.7 times as long, and would be no limit.
        flags = ["-O3", "-funroll-loops", "-falign-loops=64", "-march=native"]
        flags += ["-fopenmp", "-shared", "-fPIC"]
        if platform.machine() in ("x86_64", "AMD64"):
            flags.append("-mprefer-vector-width=512")
        source = str(Path(__file__).parent / "limit.c")
        subprocess.run([compiler, *flags, "-o", library, source], check=True)
        self.passes = ctypes.CDLL(library).passes

    def __call__(
        self, passes: Sequence[Pass], n: int, dtype: str, threads: int, repeats: int = 1
    ) -> Callable[[], None]:
        """Return a call that does all `passes`, `repeats` times, over arrays of its own."""
        like = np.broadcast_to(np.zeros((), dtype), (n,))
        letters = sorted({letter for read, written in passes for letter in read + written})
        arrays = {letter: aligned_full(like, 0.25) for letter in letters}
        order = [letter for read, written in passes for letter in read + written]
        pointers = [arrays[letter].__array_interface__["data"][0] for letter in order]
        counts = [len(part) for both in passes for part in both]
        for read, written in passes:
            if not (1 <= len(read) <= 2 and len(written) <= 4):
                raise ValueError(f"limit.c has no pass that reads {read!r} and writes {written!r}")
        arguments = (
            ctypes.c_int(like.itemsize),
            ctypes.c_ssize_t(n),
            ctypes.c_int(len(passes)),
            (ctypes.c_int * len(counts))(*counts),
            (ctypes.c_void_p * len(pointers))(*pointers),
            ctypes.c_int(threads),
            ctypes.c_int(repeats),
        )

        def call(keep: object = arrays) -> None:
            self.passes(*arguments)

        return call
