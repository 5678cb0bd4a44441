"""How many threads to use, and why."""

from __future__ import annotations

import operator
import os
import posixpath
import sys
import warnings

from fastopt import _core

#: A thread costs memory, and the OpenMP runtime ends the process if it cannot start one.
MAX_THREADS = 1024

_HAS_THREADS = _core.openmp() != "none"
_chosen: int | None = None  # by set_num_threads
_default: int | None = None  # what resolve(None) returns, once it is known
_forked = False  # this process is the child of one that may have used threads
_warned = False


def cgroup_cpus(proc: str = "/proc/self/cgroup", root: str = "/sys/fs/cgroup") -> float:
    """Return the processor time this process's control groups allow, in processors.

    Parameters
    ----------
    proc : str, default "/proc/self/cgroup"
        The file that lists the groups of this process.
    root : str, default "/sys/fs/cgroup"
        Where the groups are mounted (version 1, 2 or both).

    Returns
    -------
    float
        The smallest quota over the group and all its ancestors; infinity if there is none.
    """
    try:
        with open(proc, encoding="utf-8") as file:
            groups = [line.rstrip("\n").split(":", 2) for line in file]
    except OSError:
        return float("inf")
    least = float("inf")
    for _, controllers, path in (group for group in groups if len(group) == 3):
        if not controllers:
            mounts, files = [root, f"{root}/unified"], ("cpu.max",)
        elif "cpu" in controllers.split(","):
            mounts = [f"{root}/{controllers}", f"{root}/cpu"]
            files = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
        else:
            continue
        # In a container the path may be the host's, and the mount the container's own group:
        # every ancestor that exists here counts, the mount itself included.
        path = posixpath.normpath(f"/{path}").strip("/")
        while True:
            for mount in mounts:
                least = min(least, _quota([f"{mount}/{path}/{name}" for name in files]))
            if not path:
                break
            path = posixpath.dirname(path)
    return least


def _quota(files: list[str]) -> float:
    """Return quota / period from one file ("max 100000") or two; infinity if there is no limit."""
    words = []
    for name in files:
        try:
            with open(name, encoding="utf-8") as file:
                words += file.read().split()
        except OSError:
            return float("inf")
    try:
        quota, period = int(words[0]), int(words[1])
    except (ValueError, IndexError):  # "max 100000"
        return float("inf")
    return quota / period if quota > 0 and period > 0 else float("inf")


def usable_cpus() -> int:
    """Return how many processors this process may use.

    Returns
    -------
    int
        The smaller of the processors it may be scheduled on (affinity) and the processor time its
        control groups allow, rounded down: one thread too many is stopped for the rest of every
        period, and all others wait for it. At least 1.
    """
    return max(1, int(min(_affinity(), cgroup_cpus())))


def _affinity() -> int:
    if hasattr(os, "process_cpu_count"):  # Python 3.13; also honours PYTHON_CPU_COUNT
        return os.process_cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _from_environment(variable: str) -> int | None:
    text = os.environ.get(variable, "").strip()
    if not text:
        return None
    first = text.split(",")[0].strip() if variable == "OMP_NUM_THREADS" else text
    if first.isascii() and first.isdigit() and 1 <= int(first) <= MAX_THREADS:
        return int(first)
    warnings.warn(
        f"{variable}={text!r} is ignored: it must be an integer from 1 to {MAX_THREADS}",
        RuntimeWarning,
        stacklevel=2,
    )
    return None


def _wanted() -> tuple[int, str]:
    """Return the number of threads used where none are asked for, unless only one can run."""
    if _chosen is not None:
        return _chosen, "set_num_threads"
    for variable in ("FASTOPT_NUM_THREADS", "OMP_NUM_THREADS"):
        number = _from_environment(variable)
        if number is not None:
            return number, variable
    affinity, quota = _affinity(), cgroup_cpus()
    if quota < affinity:
        return max(1, int(quota)), f"control group quota of {quota:g} processors"
    return min(affinity, MAX_THREADS), "processors this process may run on"


def why() -> tuple[int, str]:
    """Return how many threads are used where none are asked for, and the reason in words."""
    if not _HAS_THREADS:
        return 1, "this build has no OpenMP"
    if _forked:
        return 1, "child of a process that may have used threads"
    return _wanted()


def get_num_threads() -> int:
    """Return how many threads are used where ``threads`` is None.

    Returns
    -------
    int
        The number given to `set_num_threads`; else ``FASTOPT_NUM_THREADS``; else
        ``OMP_NUM_THREADS`` (its first number), which joblib and Dask set in their workers; else
        `usable_cpus`. Found at the first call and kept: after a change of the environment or of the
        affinity call ``set_num_threads(None)``. The child of a fork looks again by itself.
    """
    global _default
    if _default is None:
        _default = _runnable(_wanted()[0])
    return _default


def _runnable(number: int) -> int:
    if number > 1 and (not _HAS_THREADS or (_forked and warn_if_forked())):
        return 1
    return number


def set_num_threads(n: int | None) -> None:
    """Set how many threads are used where ``threads`` is None.

    Other libraries' threads are not touched, and their limits (``threadpoolctl``) do not hold here.

    Parameters
    ----------
    n : int or None
        From 1 to 1024. None returns to the default, which is looked up again.

    Raises
    ------
    TypeError, ValueError
        If `n` is anything else.

    Examples
    --------
    >>> import fastopt
    >>> fastopt.set_num_threads(1)
    >>> fastopt.get_num_threads()
    1
    >>> fastopt.set_num_threads(None)
    """
    global _chosen, _default
    _chosen = None if n is None else _checked(n, "n")
    _default = None


def _checked(threads: int, name: str) -> int:
    try:
        number = operator.index(threads)
    except TypeError:
        raise TypeError(_message(threads, name)) from None
    if isinstance(threads, bool):
        raise TypeError(_message(threads, name))
    if not 1 <= number <= MAX_THREADS:
        raise ValueError(_message(threads, name))
    return number


def _message(threads: object, name: str) -> str:
    return f"{name} must be an integer from 1 to {MAX_THREADS} or None, got {threads!r}"


def resolve(threads: int | None = None, name: str = "threads") -> int:
    """Return the number of threads to use for an argument such as ``threads=None``.

    Parameters
    ----------
    threads : int or None, default None
        What the caller asked for; None is `get_num_threads`.
    name : str, default "threads"
        The argument's name, for errors.

    Returns
    -------
    int
        At least 1; always 1 in a build without OpenMP, and in the child of a process that may have
        used threads (with a warning, once).

    Raises
    ------
    TypeError, ValueError
        If `threads` is neither None nor an integer from 1 to 1024.
    """
    if threads is None:
        return _default or get_num_threads()
    return _runnable(_checked(threads, name))


def why_serial(threads: int) -> str:
    """Return why so many threads, as asked for, can only be one here; empty if they can be more."""
    if _core.openmp() == "none":
        return "built without OpenMP"
    if _core.forked():
        return "child of a process that used threads"
    return "one thread" if threads == 1 else ""


def warn_if_forked() -> bool:
    """Return whether this process must stay on one thread because of a fork; warn once if so."""
    global _warned
    if _forked and not _warned:
        _warned = True
        warnings.warn(
            "this process was forked from one that may have used threads: fastopt runs on one "
            "thread here. Start processes with multiprocessing's 'forkserver' or 'spawn' to keep "
            "threads",
            RuntimeWarning,
            stacklevel=3,
        )
    return _forked


def _after_fork() -> None:
    global _default, _forked, _warned
    # These share our OpenMP runtime, and what they had running in it is not in the child.
    if any(name in sys.modules for name in ("torch", "sklearn", "lightgbm", "xgboost")):
        _core.stay_serial()
    _default, _forked, _warned = None, _core.forked(), False


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
