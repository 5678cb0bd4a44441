"""From shares in labels to labels: the best cut among those that the shares suggest."""

from __future__ import annotations

import numpy as np

from fastopt.graphcut.graphs import Problem

LEVELS = 4096  # of a quick sweep
THRESHOLDS = 16  # of a sweep over many labels


def quick(problem: Problem, x: np.ndarray) -> tuple[float, np.ndarray]:
    """Return a good cut: of two labels the best of 4,096 thresholds, else the largest shares."""
    if problem.width == 1:
        codes = (x[:, 0] * (LEVELS - 1) + 0.5).astype(np.int32)
        return sweep(problem, codes, LEVELS)
    labels = x.argmax(axis=1).astype(np.int32)
    return problem.value(labels), labels


def thorough(problem: Problem, x: np.ndarray) -> tuple[float, np.ndarray]:
    """Return the best cut over all thresholds; over some for each order of more labels.

    With many labels, a node takes the first label in which it has more than a threshold, and the
    last one if there is none (Calinescu, Karloff, Rabani 2000); each label is the last once.
    """
    if problem.width == 1:
        values, codes = np.unique(x[:, 0], return_inverse=True)
        return sweep(problem, codes.astype(np.int32), len(values))
    best = quick(problem, x)
    for last in range(problem.labels):
        order = [k for k in range(problem.labels) if k != last]
        for threshold in (np.arange(THRESHOLDS) + 0.5) / THRESHOLDS:
            labels = np.full(problem.n, last, np.int32)
            for label in order[::-1]:
                labels[x[:, label] > threshold] = label
            best = min(best, (problem.value(labels), labels), key=lambda cut: cut[0])
    return best


def sweep(problem: Problem, codes: np.ndarray, levels: int) -> tuple[float, np.ndarray]:
    """Return the best cut between {codes <= t} and {codes > t}.

    Seeds have the least and the largest code: they allow no cut that has all nodes on one side.
    """
    change = np.zeros(levels)
    problem.edges.sweep(codes, levels, change)
    if problem.linear is not None:
        change -= np.bincount(codes, problem.linear[:, 0], levels)
    values = np.concatenate([[0.0], np.cumsum(change)])  # of t = -1, 0, ..., less a constant
    first = 0 if (problem.seeds == 0).any() else -1
    last = levels - 2 if (problem.seeds == 1).any() else levels - 1
    t = first + int(values[first + 1 : last + 2].argmin())
    labels = (codes > t).astype(np.int32)
    return problem.value(labels), labels
