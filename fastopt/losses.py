"""Losses over dense predictions: value and gradient from one pass over the scores."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastopt import _core
from fastopt.checks import number, one_of
from fastopt.threads import get_num_threads

__all__ = [
    "crammer_singer",
    "hinge",
    "huber",
    "logistic",
    "mae",
    "mse",
    "multiclass_hinge",
    "poisson",
    "quantile",
    "softmax_cross_entropy",
    "squared_hinge",
]

REDUCTIONS = ("mean", "sum", "none")


def softmax_cross_entropy(
    scores: Any,
    y: Any,
    *,
    weight: Any = None,
    reduction: str = "mean",
    out: np.ndarray | None = None,
) -> tuple[Any, np.ndarray]:
    r"""Return the cross-entropy of the softmax of scores, and its gradient.

    Parameters
    ----------
    scores : array-like of shape (n, classes)
        float32 or float64, of any size: nothing overflows.
    y : array-like of int of shape (n,)
        The class of each row, from 0.
    weight : array-like of shape (n,), optional
        Of each row, not negative. A mean is divided by their sum.
    reduction : {"mean", "sum", "none"}
        Of the rows' losses; with "none" they come as an array, and each row of the gradient is
        that of its own loss.
    out : numpy.ndarray of the shape and dtype of scores, optional
        Gets the gradient; may be `scores` itself. In C's order.

    Returns
    -------
    value : float or numpy.ndarray of shape (n,)
        Added up in double precision, the same bits for any number of threads.
    gradient : numpy.ndarray of shape (n, classes)
        `out`, or a new array.

    Raises
    ------
    TypeError, ValueError
        Naming the argument; nothing has been written then.

    Notes
    -----
    :math:`\log \sum_j e^{s_j} - s_y`, gradient :math:`e^{s_j} / \sum_k e^{s_k} - [j = y]`,
    computed after the largest score of the row is taken away. A NaN in a row makes its loss and
    gradient NaN.

    Examples
    --------
    >>> import numpy as np
    >>> from fastopt import losses
    >>> value, gradient = losses.softmax_cross_entropy([[1.0, 1.0], [1000.0, 0.0]], [0, 0])
    >>> round(value, 6), gradient
    (0.346574, array([[-0.25,  0.25],
           [ 0.  ,  0.  ]]))
    """
    return _of_classes("softmax", scores, y, weight, reduction, out)


def multiclass_hinge(
    scores: Any,
    y: Any,
    *,
    delta: float = 1.0,
    weight: Any = None,
    reduction: str = "mean",
    out: np.ndarray | None = None,
) -> tuple[Any, np.ndarray]:
    r"""Return the multi-class SVM loss of Weston and Watkins, and its gradient.

    Parameters
    ----------
    scores, y, weight, reduction, out
        As in `softmax_cross_entropy`.
    delta : float
        By how much the score of the right class should exceed each other one, >= 0.

    Returns
    -------
    value, gradient
        As in `softmax_cross_entropy`; a subgradient where a margin is just met: 0 for it.

    Raises
    ------
    TypeError, ValueError
        Naming the argument; nothing has been written then.

    Notes
    -----
    :math:`\sum_{j \ne y} \max(0, s_j - s_y + \Delta)` (Weston and Watkins, 1999).

    Examples
    --------
    The three images of the lecture, with losses 2.9, 0 and 12.9:

    >>> from fastopt import losses
    >>> scores = [[3.2, 5.1, -1.7], [1.3, 4.9, 2.0], [2.2, 2.5, -3.1]]
    >>> value, gradient = losses.multiclass_hinge(scores, [0, 1, 2], reduction="none")
    >>> value.round(6), gradient + 0
    (array([ 2.9,  0. , 12.9]), array([[-1.,  1.,  0.],
           [ 0.,  0.,  0.],
           [ 1.,  1., -2.]]))
    """
    delta = number("delta", delta, 0)
    return _of_classes("weston_watkins", scores, y, weight, reduction, out, delta)


def crammer_singer(
    scores: Any,
    y: Any,
    *,
    delta: float = 1.0,
    weight: Any = None,
    reduction: str = "mean",
    out: np.ndarray | None = None,
) -> tuple[Any, np.ndarray]:
    r"""Return the multi-class SVM loss of Crammer and Singer, and its gradient.

    Parameters
    ----------
    scores, y, weight, reduction, out
        As in `softmax_cross_entropy`.
    delta : float
        By how much the score of the right class should exceed the largest other one, >= 0.

    Returns
    -------
    value, gradient
        As in `softmax_cross_entropy`; of equally large scores, the first one gets the subgradient.

    Raises
    ------
    TypeError, ValueError
        Naming the argument; nothing has been written then.

    Notes
    -----
    :math:`\max(0, \Delta + \max_{j \ne y} s_j - s_y)` (Crammer and Singer, 2001).

    Examples
    --------
    >>> from fastopt import losses
    >>> value, gradient = losses.crammer_singer([[3.2, 5.1, -1.7]], [0])
    >>> round(value, 6), gradient
    (2.9, array([[-1.,  1.,  0.]]))
    """
    delta = number("delta", delta, 0)
    return _of_classes("crammer_singer", scores, y, weight, reduction, out, delta)


def logistic(
    scores: Any,
    y: Any,
    *,
    weight: Any = None,
    reduction: str = "mean",
    out: np.ndarray | None = None,
) -> tuple[Any, np.ndarray]:
    r"""Return the logistic loss of two classes, and its gradient.

    Parameters
    ----------
    scores : array-like of any shape
        float32 or float64, of any size: nothing overflows.
    y : array-like of the shape of scores
        -1 or 1.
    weight : array-like of the shape of scores, optional
        Not negative. A mean is divided by their sum.
    reduction : {"mean", "sum", "none"}
        Over all elements; with "none" their losses come as an array.
    out : numpy.ndarray of the shape and dtype of scores, optional
        Gets the gradient; may be `scores` itself. In C's order.

    Returns
    -------
    value : float or numpy.ndarray of the shape of scores
        Added up in double precision, the same bits for any number of threads.
    gradient : numpy.ndarray of the shape of scores
        `out`, or a new array.

    Raises
    ------
    TypeError, ValueError
        Naming the argument; nothing has been written then.

    Notes
    -----
    :math:`\log(1 + e^{-y s})`, gradient :math:`-y / (1 + e^{y s})`.

    Examples
    --------
    >>> from fastopt import losses
    >>> value, gradient = losses.logistic([0.0, 1000.0, -1000.0], [1, 1, 1], reduction="none")
    >>> value.round(6), gradient + 0
    (array([6.93147e-01, 0.00000e+00, 1.00000e+03]), array([-0.5,  0. , -1. ]))
    """
    return _of_elements("logistic", scores, y, weight, reduction, out, "signs")


def hinge(
    scores: Any,
    y: Any,
    *,
    weight: Any = None,
    reduction: str = "mean",
    out: np.ndarray | None = None,
) -> tuple[Any, np.ndarray]:
    r"""Return the hinge loss of two classes, and its gradient.

    Parameters
    ----------
    scores, y, weight, reduction, out
        As in `logistic`.

    Returns
    -------
    value, gradient
        As in `logistic`; the subgradient at a margin of 1 is 0.

    Raises
    ------
    TypeError, ValueError
        Naming the argument; nothing has been written then.

    Notes
    -----
    :math:`\max(0, 1 - y s)`.

    Examples
    --------
    >>> from fastopt import losses
    >>> losses.hinge([0.5, 2.0], [1, -1], reduction="sum")
    (3.5, array([-1.,  1.]))
    """
    return _of_elements("hinge", scores, y, weight, reduction, out, "signs")


def squared_hinge(
    scores: Any,
    y: Any,
    *,
    weight: Any = None,
    reduction: str = "mean",
    out: np.ndarray | None = None,
) -> tuple[Any, np.ndarray]:
    r"""Return the square of the hinge loss of two classes, and its gradient.

    Parameters
    ----------
    scores, y, weight, reduction, out
        As in `logistic`.

    Returns
    -------
    value, gradient
        As in `logistic`.

    Raises
    ------
    TypeError, ValueError
        Naming the argument; nothing has been written then.

    Notes
    -----
    :math:`\max(0, 1 - y s)^2`, gradient :math:`-2 y \max(0, 1 - y s)`.

    Examples
    --------
    >>> from fastopt import losses
    >>> losses.squared_hinge([0.5, 2.0], [1, -1], reduction="sum")
    (9.25, array([-1.,  6.]))
    """
    return _of_elements("squared_hinge", scores, y, weight, reduction, out, "signs")


def mse(
    scores: Any,
    y: Any,
    *,
    weight: Any = None,
    reduction: str = "mean",
    out: np.ndarray | None = None,
) -> tuple[Any, np.ndarray]:
    r"""Return the squared error, and its gradient.

    Parameters
    ----------
    scores, weight, reduction, out
        As in `logistic`.
    y : array-like of the shape of scores
        Finite numbers.

    Returns
    -------
    value, gradient
        As in `logistic`.

    Raises
    ------
    TypeError, ValueError
        Naming the argument; nothing has been written then.

    Notes
    -----
    :math:`(s - y)^2`, without a half, gradient :math:`2 (s - y)`.

    Examples
    --------
    >>> from fastopt import losses
    >>> losses.mse([1.0, 2.0], [0.0, 4.0])
    (2.5, array([ 1., -2.]))
    """
    return _of_elements("squared", scores, y, weight, reduction, out, "numbers")


def mae(
    scores: Any,
    y: Any,
    *,
    weight: Any = None,
    reduction: str = "mean",
    out: np.ndarray | None = None,
) -> tuple[Any, np.ndarray]:
    r"""Return the absolute error, and its gradient.

    Parameters
    ----------
    scores, y, weight, reduction, out
        As in `mse`.

    Returns
    -------
    value, gradient
        As in `logistic`; the subgradient at 0 is 0.

    Raises
    ------
    TypeError, ValueError
        Naming the argument; nothing has been written then.

    Notes
    -----
    :math:`|s - y|`.

    Examples
    --------
    >>> from fastopt import losses
    >>> losses.mae([1.0, 2.0], [0.0, 4.0])
    (1.5, array([ 0.5, -0.5]))
    """
    return _of_elements("absolute", scores, y, weight, reduction, out, "numbers")


def huber(
    scores: Any,
    y: Any,
    *,
    delta: float = 1.0,
    weight: Any = None,
    reduction: str = "mean",
    out: np.ndarray | None = None,
) -> tuple[Any, np.ndarray]:
    r"""Return Huber's loss, and its gradient.

    Parameters
    ----------
    scores, y, weight, reduction, out
        As in `mse`.
    delta : float
        From which error on the loss is linear, > 0.

    Returns
    -------
    value, gradient
        As in `logistic`.

    Raises
    ------
    TypeError, ValueError
        Naming the argument; nothing has been written then.

    Notes
    -----
    :math:`r^2 / 2` where :math:`|r| \le \delta`, else :math:`\delta (|r| - \delta / 2)`, with
    :math:`r = s - y` (Huber, 1964).

    Examples
    --------
    >>> from fastopt import losses
    >>> losses.huber([1.0, 2.0], [0.0, 4.0], reduction="sum")
    (2.0, array([ 1., -1.]))
    """
    delta = number("delta", delta, 0, open_below=True)
    return _of_elements("huber", scores, y, weight, reduction, out, "numbers", delta)


def quantile(
    scores: Any,
    y: Any,
    *,
    quantile: float = 0.5,
    weight: Any = None,
    reduction: str = "mean",
    out: np.ndarray | None = None,
) -> tuple[Any, np.ndarray]:
    r"""Return the pinball loss, which a quantile minimizes, and its gradient.

    Parameters
    ----------
    scores, y, weight, reduction, out
        As in `mse`.
    quantile : float
        Which one, in [0, 1].

    Returns
    -------
    value, gradient
        As in `logistic`; the subgradient at 0 is 0.

    Raises
    ------
    TypeError, ValueError
        Naming the argument; nothing has been written then.

    Notes
    -----
    :math:`q (y - s)` where :math:`s < y`, else :math:`(1 - q) (s - y)`.

    Examples
    --------
    >>> from fastopt import losses
    >>> losses.quantile([1.0, 2.0], [0.0, 4.0], quantile=0.75, reduction="sum")
    (1.75, array([ 0.25, -0.75]))
    """
    q = number("quantile", quantile, 0, 1)
    return _of_elements("quantile", scores, y, weight, reduction, out, "numbers", q)


def poisson(
    scores: Any,
    y: Any,
    *,
    weight: Any = None,
    reduction: str = "mean",
    out: np.ndarray | None = None,
) -> tuple[Any, np.ndarray]:
    r"""Return the negative logarithm of Poisson's likelihood with mean exp(s), and its gradient.

    Parameters
    ----------
    scores, weight, reduction, out
        As in `logistic`; scores above 709 (88 in float32) have an infinite loss.
    y : array-like of the shape of scores
        Finite and not negative.

    Returns
    -------
    value, gradient
        As in `logistic`.

    Raises
    ------
    TypeError, ValueError
        Naming the argument; nothing has been written then.

    Notes
    -----
    :math:`e^s - y s`, without what depends on y alone, gradient :math:`e^s - y`.

    Examples
    --------
    >>> from fastopt import losses
    >>> losses.poisson([0.0, 0.0], [1.0, 3.0])
    (1.0, array([ 0., -1.]))
    """
    return _of_elements("poisson", scores, y, weight, reduction, out, "counts")


MEANINGS = {"signs": "-1 or 1", "counts": "finite and not negative", "numbers": "finite"}


def _of_classes(
    loss: str,
    scores: Any,
    y: Any,
    weight: Any,
    reduction: str,
    out: np.ndarray | None,
    parameter: float = 0.0,
) -> tuple[Any, np.ndarray]:
    scores = _scores(scores)
    if scores.ndim != 2 or scores.shape[1] < 1:
        raise ValueError(f"scores must have shape (n, classes), got {scores.shape}")
    n, classes = scores.shape
    labels = np.asarray(y)
    if labels.dtype.kind not in "iu" and labels.size:
        raise TypeError(f"y must be integers, the class of each row, got {labels.dtype}")
    if labels.shape != (n,):
        raise ValueError(f"y must have shape {(n,)}, got {labels.shape}")
    labels = np.require(labels, np.int64, ["C", "A"])
    if not _core.labels_within(labels, classes):
        row = int(np.argmax((labels < 0) | (labels >= classes)))
        raise ValueError(f"y must be in [0, {classes}), got {labels[row]} at {row}")
    return _run(loss, True, scores, labels, (n,), weight, reduction, out, parameter)


def _of_elements(
    loss: str,
    scores: Any,
    y: Any,
    weight: Any,
    reduction: str,
    out: np.ndarray | None,
    targets: str,
    parameter: float = 0.0,
) -> tuple[Any, np.ndarray]:
    scores = _scores(scores)
    y = _like("y", y, scores.shape, scores.dtype, targets)
    return _run(loss, False, scores, y, scores.shape, weight, reduction, out, parameter)


def _scores(scores: Any) -> np.ndarray:
    """Return scores in C's order; a copy only of what is not an array of floats in it."""
    array = np.asarray(scores)
    if array.dtype.kind in "iu":
        array = array.astype(np.float64)
    if array.dtype not in (np.float32, np.float64) or not array.dtype.isnative:
        raise TypeError(f"scores must be float32 or float64, got {array.dtype}")
    return np.require(array, requirements=["C", "A"]).reshape(array.shape)


def _like(name: str, value: Any, shape: tuple[int, ...], dtype: Any, targets: str) -> np.ndarray:
    """Return targets or weights as an array of this shape and type, checked."""
    array = np.asarray(value)
    if array.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, got {array.shape}")
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{name} must be numbers, got {array.dtype}")
    array = np.require(array, dtype, ["C", "A"]).reshape(shape)
    if not _core.targets_are(targets, array, get_num_threads()):
        raise ValueError(f"{name} must be {MEANINGS[targets]} in every place")
    return array


def _run(
    loss: str,
    of_classes: bool,
    scores: np.ndarray,
    y: np.ndarray,
    shape: tuple[int, ...],
    weight: Any,
    reduction: str,
    out: np.ndarray | None,
    parameter: float,
) -> tuple[Any, np.ndarray]:
    """Return value and gradient of what has been checked."""
    one_of("reduction", reduction, REDUCTIONS)
    total = float(y.size)
    if weight is not None:
        weight = _like("weight", weight, shape, scores.dtype, "counts")
        total = float(weight.sum(dtype=np.float64))
    if reduction == "mean" and not total > 0:
        raise ValueError("reduction='mean' needs a sample, and a weight that is not 0")
    gradient = _out(out, scores, y, weight)
    values = np.empty(shape, scores.dtype) if reduction == "none" else None
    scale = 1 / total if reduction == "mean" else 1.0
    value = _core.objective(
        loss, of_classes, scores, y, weight, gradient, values, parameter, scale, get_num_threads()
    )
    return (
        values if values is not None else value / total if reduction == "mean" else value
    ), gradient


def _out(out: Any, scores: np.ndarray, y: np.ndarray, weight: np.ndarray | None) -> np.ndarray:
    """Return where the gradient goes."""
    if out is None:
        return np.empty(scores.shape, scores.dtype)
    if not isinstance(out, np.ndarray) or out.dtype != scores.dtype or out.shape != scores.shape:
        raise TypeError(f"out must be an array of shape {scores.shape} and {scores.dtype}")
    if not (out.flags.c_contiguous and out.flags.writeable and out.flags.aligned):
        raise ValueError("out must be writable and in C's order")
    there = out.ctypes.data == scores.ctypes.data
    if not there and np.may_share_memory(out, scores):
        raise ValueError("out must be the scores, or apart from them")
    if any(a is not None and np.may_share_memory(out, a) for a in (y, weight)):
        raise ValueError("out must not share memory with y or weight")
    return out
