"""How much memory this process may still use: the kernel ends it, without a word, past that."""

from __future__ import annotations

import math


def available(meminfo: str = "/proc/meminfo", cgroup: str = "/sys/fs/cgroup") -> float:
    """Return the bytes that are free for this process; infinity where the system does not say.

    Parameters
    ----------
    meminfo : str
        The file with the machine's memory.
    cgroup : str
        Where the limits of this process's control group are, version 2 or 1.
    """
    free = math.inf
    for line in _read(meminfo).splitlines():
        if line.startswith("MemAvailable:"):
            free = int(line.split()[1]) * 1024
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        most, now = _read(f"{cgroup}/{limit}").strip(), _read(f"{cgroup}/{used}").strip()
        if most.isdigit() and now.isdigit():
            free = min(free, int(most) - int(now))
    return free


LITTLE = 16e6  # bytes: asking for the free memory takes longer than to get them


def need(what: str, size: float) -> None:
    """Raise MemoryError if `size` bytes for `what` are more than there is."""
    if size <= LITTLE:
        return
    free = available()
    if size > free:
        raise MemoryError(
            f"{what} needs about {size / 1e9:.1f} GB of memory, {free / 1e9:.1f} GB are available"
        )


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except OSError:
        return ""
