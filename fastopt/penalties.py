"""Penalties on dense weights: value and gradient, added in place; projection onto a norm ball."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastopt.checks import number

__all__ = ["elastic_net", "l1", "l2", "max_norm"]


def l2(w: Any, strength: float, *, grad: np.ndarray | None = None) -> tuple[float, np.ndarray]:
    r"""Return strength / 2 times the squared norm of w, and its gradient.

    Parameters
    ----------
    w : array-like of any shape
        float32 or float64.
    strength : float
        Factor, >= 0.
    grad : numpy.ndarray of the shape of w, optional
        The gradient of a loss, to which that of the penalty is added.

    Returns
    -------
    value : float
        Of the penalty alone, in double precision.
    gradient : numpy.ndarray
        `grad`, or a new array with the penalty's gradient alone.

    Raises
    ------
    TypeError, ValueError
        Naming the argument; `grad` is as before then.

    Notes
    -----
    :math:`\lambda / 2 \sum_i w_i^2`, gradient :math:`\lambda w`: what `weight_decay` does in SGD.

    Examples
    --------
    >>> import numpy as np
    >>> from fastopt import penalties
    >>> penalties.l2([3.0, -4.0], 0.1)
    (1.25, array([ 0.3, -0.4]))
    >>> g = np.ones(2)
    >>> penalties.l2([3.0, -4.0], 0.1, grad=g)[0], g
    (1.25, array([1.3, 0.6]))
    """
    return elastic_net(w, strength, 0.0, grad=grad)


def l1(w: Any, strength: float, *, grad: np.ndarray | None = None) -> tuple[float, np.ndarray]:
    r"""Return strength times the sum of magnitudes of w, and a subgradient: 0 at 0.

    Parameters
    ----------
    w, strength, grad
        As in `l2`.

    Returns
    -------
    value, gradient
        As in `l2`.

    Raises
    ------
    TypeError, ValueError
        Naming the argument; `grad` is as before then.

    Notes
    -----
    :math:`\lambda \sum_i |w_i|`, subgradient :math:`\lambda \, \mathrm{sign}(w)`. Steps along it
    make few weights exactly 0; the optimizers' `l1=` with `proximal=True` does.

    Examples
    --------
    >>> from fastopt import penalties
    >>> penalties.l1([3.0, -4.0, 0.0], 0.5)
    (3.5, array([ 0.5, -0.5,  0. ]))
    """
    return elastic_net(w, strength, 1.0, grad=grad)


def elastic_net(
    w: Any, strength: float, l1_ratio: float, *, grad: np.ndarray | None = None
) -> tuple[float, np.ndarray]:
    r"""Return a mixture of `l1` and `l2`, and a subgradient.

    Parameters
    ----------
    w, strength, grad
        As in `l2`.
    l1_ratio : float
        The part of L1, in [0, 1].

    Returns
    -------
    value, gradient
        As in `l2`.

    Raises
    ------
    TypeError, ValueError
        Naming the argument; `grad` is as before then.

    Notes
    -----
    :math:`\lambda (\rho \sum_i |w_i| + (1 - \rho) / 2 \sum_i w_i^2)`, scikit-learn's convention.

    Examples
    --------
    >>> from fastopt import penalties
    >>> penalties.elastic_net([3.0, -4.0], 0.5, 0.5)
    (4.875, array([ 1.  , -1.25]))
    """
    strength, ratio = number("strength", strength, 0), number("l1_ratio", l1_ratio, 0, 1)
    w = _floats("w", w)
    if grad is None:
        grad = np.zeros(w.shape, w.dtype)
    elif not isinstance(grad, np.ndarray) or grad.shape != w.shape or grad.dtype != w.dtype:
        raise TypeError(f"grad must be an array of shape {w.shape} and {w.dtype}")
    elif not grad.flags.writeable or np.may_share_memory(grad, w):
        raise ValueError("grad must be writable, and apart from w")
    value, of_l1, of_l2 = 0.0, strength * ratio, strength * (1 - ratio)
    if of_l2:
        flat = w.ravel()
        value += of_l2 / 2 * float(np.einsum("i,i", flat, flat, dtype=np.float64))
        grad += w.dtype.type(of_l2) * w
    if of_l1:
        value += of_l1 * float(np.abs(w).sum(dtype=np.float64))
        grad += w.dtype.type(of_l1) * np.sign(w)
    return value, grad


def max_norm(w: np.ndarray, most: float, *, axis: int | None = None) -> np.ndarray:
    r"""Scale w in place so that no norm exceeds `most`; return it.

    Parameters
    ----------
    w : numpy.ndarray
        float32 or float64, writable.
    most : float
        Bound of the 2-norm, > 0.
    axis : int, optional
        Bound the norm of each vector along this axis: 0 for columns, the incoming weights of a unit
        where scores are x W. By default the norm of all of w.

    Returns
    -------
    numpy.ndarray
        `w`: the nearest point with such norms.

    Raises
    ------
    TypeError, ValueError
        Naming the argument.

    Notes
    -----
    :math:`w \min(1, c / \|w\|)` (Srebro and Shraibman, 2005). The optimizers' `max_norm=` does it
    for rows in the pass of the step.

    Examples
    --------
    >>> import numpy as np
    >>> from fastopt import penalties
    >>> penalties.max_norm(np.array([[3.0, 0.1], [4.0, 0.2]]), 1.0, axis=0)
    array([[0.6, 0.1],
           [0.8, 0.2]])
    """
    most = number("most", most, 0, open_below=True)
    if not isinstance(w, np.ndarray) or _floats("w", w) is not w or not w.flags.writeable:
        raise TypeError("w must be a writable array of float32 or float64")
    largest = np.max(np.abs(w), axis=axis, keepdims=True, initial=0.0).astype(np.float64)
    unit = np.where((largest > 0) & np.isfinite(largest), largest, 1.0)  # squares might overflow
    norms = unit * np.sqrt(np.sum(np.square(w / unit), axis=axis, keepdims=True))
    w *= np.where(norms > most, most / np.maximum(norms, most), 1.0).astype(w.dtype)
    return w


def of(penalty: str | None, strength: float, l1_ratio: float) -> Callable[..., Any] | None:
    """Return w, grad -> value for a penalty by name, or None if there is none."""
    if penalty is None or strength == 0:
        return None
    ratio = {"l2": 0.0, "l1": 1.0, "elasticnet": l1_ratio}[penalty]
    return lambda w, grad: elastic_net(w, strength, ratio, grad=grad)[0]


def _floats(name: str, value: Any) -> np.ndarray:
    array = np.asarray(value)
    if array.dtype.kind in "iu":
        array = array.astype(np.float64)
    if array.dtype not in (np.float32, np.float64):
        raise TypeError(f"{name} must be float32 or float64, got {array.dtype}")
    return array
