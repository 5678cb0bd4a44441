"""What runs here, and why: instruction set, threads, OpenMP, compiler, flags."""

from __future__ import annotations

import os
import platform
import sys
import warnings
from typing import Any

import numpy as np

from fastopt import _buildinfo, _core, _openmp, threads


def _use_isa_from_environment() -> None:
    """Honour ``FASTOPT_ISA``: force an instruction set from the start."""
    name = os.environ.get("FASTOPT_ISA")
    if name and name not in _core.isa_available():
        warnings.warn(
            f"FASTOPT_ISA={name!r} is ignored: it must be one of {_core.isa_available()} here",
            RuntimeWarning,
            stacklevel=2,
        )
    elif name:
        _core.set_isa(name)


_use_isa_from_environment()


def config() -> dict[str, Any]:
    """Return what `show_config` prints, as a dictionary of plain values.

    Returns
    -------
    dict
        ``version``, ``python``, ``numpy``, ``platform``; ``isa`` and ``isa_available``; ``threads``
        and ``threads_why``; ``openmp`` ("gomp", "omp", "msvc" or "none"), ``openmp_shared`` (the
        copy made visible to the process, or None), ``openmp_loaded`` (paths); ``compiler``,
        ``flags``, ``flags_by_isa``, ``abi3``, ``sanitize``.
    """
    import fastopt

    number, why = threads.why()
    return {
        "version": fastopt.__version__,
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "numpy": np.__version__,
        "platform": platform.platform(),
        "isa": _core.get_isa(),
        "isa_available": _core.isa_available(),
        "threads": number,
        "threads_why": why,
        "openmp": _buildinfo.openmp,
        "openmp_shared": _openmp.shared,
        "openmp_loaded": _openmp.runtimes(),
        "compiler": _buildinfo.compiler,
        "flags": _buildinfo.flags,
        "flags_by_isa": dict(_buildinfo.levels),
        "abi3": _buildinfo.abi3,
        "sanitize": _buildinfo.sanitize,
    }


def show_config() -> None:
    """Print the version, instruction set, threads and why, OpenMP runtime, compiler and flags."""
    c = config()
    openmp = "none: everything runs on one thread" if c["openmp"] == "none" else c["openmp"]
    lines = [
        ("fastopt", c["version"]),
        ("python", f"{c['python']}, numpy {c['numpy']}, {c['platform']}"),
        ("instruction set", f"{c['isa']} (available: {', '.join(c['isa_available'])})"),
        ("threads", f"{c['threads']} ({c['threads_why']})"),
        ("OpenMP", openmp),
        *(
            ("", f"{path}{' (shared)' if path == c['openmp_shared'] else ''}")
            for path in c["openmp_loaded"]
        ),
        ("compiler", c["compiler"]),
        ("flags", c["flags"]),
        *((f"  {isa}", flags or "no more") for isa, flags in c["flags_by_isa"].items()),
        ("abi3", "yes" if c["abi3"] else "no"),
    ]
    if c["sanitize"]:
        lines.append(("sanitize", c["sanitize"]))
    sys.stdout.write("".join(f"{name:<16}{text}\n" for name, text in lines))
