"""How many threads."""

import os


def resolve(threads=None):
    return len(os.sched_getaffinity(0)) if threads is None else threads
