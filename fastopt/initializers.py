"""First values of weights: random numbers of the right size, seeded."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastopt.checks import number, one_of

__all__ = [
    "constant",
    "glorot_normal",
    "glorot_uniform",
    "he_normal",
    "he_uniform",
    "lecun_normal",
    "lecun_uniform",
    "orthogonal",
    "small_random",
    "xavier_normal",
    "xavier_uniform",
    "zeros",
]

Shape = int | tuple[int, ...]
Seed = int | np.random.Generator | None


def fans(shape: Shape, layout: str = "in-out") -> tuple[int, int]:
    """Return how many numbers go into a unit of a layer, and to how many units one goes.

    Parameters
    ----------
    shape : tuple of int
        Of the weights, at least two axes.
    layout : {"in-out", "out-in"}
        (in, out), for scores x W: the two last axes are in and out, those before a window, as in
        Keras. Or (out, in), for scores W x: the two first axes, the others a window, as in torch.

    Returns
    -------
    fan_in, fan_out : int

    Raises
    ------
    ValueError
        If there are less than two axes.

    Examples
    --------
    >>> from fastopt.initializers import fans
    >>> fans((784, 10)), fans((10, 784), "out-in"), fans((16, 3, 5, 5), "out-in")
    ((784, 10), (784, 10), (75, 400))
    """
    shape = _shape(shape)
    one_of("layout", layout, ("in-out", "out-in"))
    if len(shape) < 2:
        raise ValueError(f"shape must have two axes or more, got {shape}")
    if layout == "in-out":
        *window, fan_in, fan_out = shape
    else:
        fan_out, fan_in, *window = shape
    size = math.prod(window)
    return fan_in * size, fan_out * size


def zeros(shape: Shape, dtype: Any = np.float64) -> np.ndarray:
    """Return zeros: for offsets, and for weights where the loss is convex.

    Parameters
    ----------
    shape : int or tuple of int
        Of the array.
    dtype : dtype
        float64 by default, or float32.

    Returns
    -------
    numpy.ndarray

    Examples
    --------
    >>> from fastopt import initializers
    >>> initializers.zeros(3)
    array([0., 0., 0.])
    """
    return np.zeros(_shape(shape), _dtype(dtype))


def constant(shape: Shape, value: float, dtype: Any = np.float64) -> np.ndarray:
    """Return an array of one number.

    Parameters
    ----------
    shape, dtype
        As in `zeros`.
    value : float
        The number, finite.

    Returns
    -------
    numpy.ndarray

    Examples
    --------
    >>> from fastopt import initializers
    >>> initializers.constant(3, 0.01)
    array([0.01, 0.01, 0.01])
    """
    return np.full(_shape(shape), number("value", value, -math.inf), _dtype(dtype))


def small_random(
    shape: Shape, scale: float = 0.01, *, seed: Seed = None, dtype: Any = np.float64
) -> np.ndarray:
    r"""Return normal numbers of standard deviation `scale`.

    Parameters
    ----------
    shape, dtype
        As in `zeros`.
    scale : float
        Standard deviation, >= 0. Small enough that no unit is saturated, different enough that no
        two units are the same.
    seed : int or numpy.random.Generator, optional
        The same seed gives the same numbers, but for rounding the same in both types.

    Returns
    -------
    numpy.ndarray

    Examples
    --------
    >>> from fastopt import initializers
    >>> W = initializers.small_random((784, 10), 0.001, seed=0)
    >>> W.shape, bool(0.0009 < W.std() < 0.0011)
    ((784, 10), True)
    """
    return _normal(shape, number("scale", scale, 0), seed, dtype)


def xavier_uniform(
    shape: Shape,
    *,
    gain: float = 1.0,
    seed: Seed = None,
    dtype: Any = np.float64,
    layout: str = "in-out",
) -> np.ndarray:
    r"""Return uniform numbers that keep the variance both ways (Glorot and Bengio, 2010).

    Parameters
    ----------
    shape, dtype
        As in `zeros`, with two axes or more.
    gain : float
        Factor for the activation, >= 0: 1 for linear layers, 5/3 for tanh.
    seed : int or numpy.random.Generator, optional
        As in `small_random`.
    layout : {"in-out", "out-in"}
        As in `fans`.

    Returns
    -------
    numpy.ndarray

    Notes
    -----
    Uniform in :math:`\pm g \sqrt{6 / (n_{in} + n_{out})}`.

    Examples
    --------
    >>> from fastopt import initializers
    >>> W = initializers.xavier_uniform((300, 100), seed=0)
    >>> bool(0.11 < W.max() <= (6 / 400) ** 0.5)
    True
    """
    return _scaled(shape, sum(fans(shape, layout)) / 2, gain, seed, dtype, uniform=True)


def xavier_normal(
    shape: Shape,
    *,
    gain: float = 1.0,
    seed: Seed = None,
    dtype: Any = np.float64,
    layout: str = "in-out",
) -> np.ndarray:
    r"""Return normal numbers that keep the variance both ways (Glorot and Bengio, 2010).

    Parameters
    ----------
    shape, gain, seed, dtype, layout
        As in `xavier_uniform`.

    Returns
    -------
    numpy.ndarray

    Notes
    -----
    Standard deviation :math:`g \sqrt{2 / (n_{in} + n_{out})}`.

    Examples
    --------
    >>> from fastopt import initializers
    >>> W = initializers.xavier_normal((300, 100), seed=0)
    >>> bool(abs(W.std() / (2 / 400) ** 0.5 - 1) < 0.02)
    True
    """
    return _scaled(shape, sum(fans(shape, layout)) / 2, gain, seed, dtype)


def he_uniform(
    shape: Shape, *, seed: Seed = None, dtype: Any = np.float64, layout: str = "in-out"
) -> np.ndarray:
    r"""Return uniform numbers that keep the variance through ReLUs (He et al., 2015).

    Parameters
    ----------
    shape, seed, dtype, layout
        As in `xavier_uniform`.

    Returns
    -------
    numpy.ndarray

    Notes
    -----
    Uniform in :math:`\pm \sqrt{6 / n_{in}}`.

    Examples
    --------
    >>> from fastopt import initializers
    >>> bool(0.13 < initializers.he_uniform((300, 100), seed=0).max() <= (6 / 300) ** 0.5)
    True
    """
    return _scaled(shape, fans(shape, layout)[0], math.sqrt(2), seed, dtype, uniform=True)


def he_normal(
    shape: Shape, *, seed: Seed = None, dtype: Any = np.float64, layout: str = "in-out"
) -> np.ndarray:
    r"""Return normal numbers that keep the variance through ReLUs (He et al., 2015).

    Parameters
    ----------
    shape, seed, dtype, layout
        As in `xavier_uniform`.

    Returns
    -------
    numpy.ndarray

    Notes
    -----
    Standard deviation :math:`\sqrt{2 / n_{in}}`.

    Examples
    --------
    >>> from fastopt import initializers
    >>> bool(abs(initializers.he_normal((300, 100), seed=0).std() / (2 / 300) ** 0.5 - 1) < 0.02)
    True
    """
    return _scaled(shape, fans(shape, layout)[0], math.sqrt(2), seed, dtype)


def lecun_uniform(
    shape: Shape, *, seed: Seed = None, dtype: Any = np.float64, layout: str = "in-out"
) -> np.ndarray:
    r"""Return uniform numbers that keep the variance forward (LeCun et al., 1998).

    Parameters
    ----------
    shape, seed, dtype, layout
        As in `xavier_uniform`.

    Returns
    -------
    numpy.ndarray

    Notes
    -----
    Uniform in :math:`\pm \sqrt{3 / n_{in}}`.

    Examples
    --------
    >>> from fastopt import initializers
    >>> bool(0.09 < initializers.lecun_uniform((300, 100), seed=0).max() <= 0.1)
    True
    """
    return _scaled(shape, fans(shape, layout)[0], 1.0, seed, dtype, uniform=True)


def lecun_normal(
    shape: Shape, *, seed: Seed = None, dtype: Any = np.float64, layout: str = "in-out"
) -> np.ndarray:
    r"""Return normal numbers that keep the variance forward (LeCun et al., 1998).

    Parameters
    ----------
    shape, seed, dtype, layout
        As in `xavier_uniform`.

    Returns
    -------
    numpy.ndarray

    Notes
    -----
    Standard deviation :math:`\sqrt{1 / n_{in}}`.

    Examples
    --------
    >>> from fastopt import initializers
    >>> bool(abs(initializers.lecun_normal((300, 100), seed=0).std() / 300**-0.5 - 1) < 0.02)
    True
    """
    return _scaled(shape, fans(shape, layout)[0], 1.0, seed, dtype)


def orthogonal(
    shape: Shape, *, gain: float = 1.0, seed: Seed = None, dtype: Any = np.float64
) -> np.ndarray:
    """Return a matrix whose rows or columns, whichever are fewer, are orthonormal.

    Parameters
    ----------
    shape, dtype
        As in `zeros`, with two axes or more; those after the first are taken as one.
    gain : float
        Factor, >= 0.
    seed : int or numpy.random.Generator, optional
        As in `small_random`.

    Returns
    -------
    numpy.ndarray

    Raises
    ------
    ValueError
        If there are less than two axes.

    Notes
    -----
    The Q of a normal matrix, with the signs of R's diagonal: uniform among such matrices (Saxe et
    al., 2014; Mezzadri, 2007).

    Examples
    --------
    >>> import numpy as np
    >>> from fastopt import initializers
    >>> W = initializers.orthogonal((4, 3), seed=0)
    >>> np.allclose(W.T @ W, np.eye(3))
    True
    """
    shape, gain = _shape(shape), number("gain", gain, 0)
    if len(shape) < 2:
        raise ValueError(f"shape must have two axes or more, got {shape}")
    rows, columns = shape[0], math.prod(shape[1:])
    few, many = min(rows, columns), max(rows, columns)
    q, r = np.linalg.qr(np.random.default_rng(seed).standard_normal((many, few)))
    q *= np.where(np.diagonal(r) < 0, -1.0, 1.0)
    q = q if rows >= columns else q.T
    return np.ascontiguousarray(gain * q, _dtype(dtype)).reshape(shape)


def _scaled(
    shape: Shape, fan: float, gain: float, seed: Seed, dtype: Any, uniform: bool = False
) -> np.ndarray:
    """Return numbers of variance gain^2 / fan."""
    deviation = number("gain", gain, 0) / math.sqrt(max(fan, 1))
    if not uniform:
        return _normal(shape, deviation, seed, dtype)
    most = math.sqrt(3) * deviation
    return np.random.default_rng(seed).uniform(-most, most, _shape(shape)).astype(_dtype(dtype))


def _normal(shape: Shape, deviation: float, seed: Seed, dtype: Any) -> np.ndarray:
    numbers = np.random.default_rng(seed).standard_normal(_shape(shape))
    return (deviation * numbers).astype(_dtype(dtype))


def _dtype(dtype: Any) -> np.dtype:
    found = np.dtype(dtype)
    if found not in (np.float32, np.float64):
        raise TypeError(f"dtype must be float32 or float64, got {found}")
    return found


def _shape(shape: Shape) -> tuple[int, ...]:
    shape = (shape,) if isinstance(shape, (int, np.integer)) else tuple(shape)
    if any(isinstance(n, bool) or not isinstance(n, (int, np.integer)) or n < 0 for n in shape):
        raise ValueError(f"shape must be integers of at least 0, got {shape}")
    return tuple(int(n) for n in shape)


glorot_uniform, glorot_normal = xavier_uniform, xavier_normal
