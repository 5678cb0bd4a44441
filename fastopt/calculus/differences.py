"""Derivatives by finite differences and by the complex step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from fastopt.calculus.point import Point, real_number
from fastopt.checks import flag, number, one_of

METHODS = ("forward", "central", "complex")
BATCH = 1 << 20  # numbers in one call of a function that takes many points


def step_of(method: str, eps: float) -> float:
    """Return the step for numbers near 1: truncation and rounding about equal."""
    return {"forward": eps**0.5, "central": eps ** (1 / 3), "complex": 1e-20, "second": eps**0.25}[
        method
    ]


def numerical_grad(
    f: Callable[[Any], Any],
    x: Any,
    method: str = "central",
    h: float | None = None,
    *,
    vectorized: bool = False,
) -> Any:
    r"""Return the gradient of a function of one value by differences.

    Parameters
    ----------
    f : callable
        x -> number. It is called with x itself where that is a writable float array, moved in
        place, so it may also read the array on its own.
    x : array-like or mapping name -> array-like
        The point, of any shape, float32 or float64; it is as before afterwards, to the bit, also
        after an error or Ctrl-C.
    method : {"central", "forward", "complex"}
        Two values per component and an error of order h^2; one, and of order h; or the imaginary
        part of f(x + ih) / h, exact to rounding, where f computes with complex numbers and is
        analytic: no abs, no comparison, no conjugate.
    h : float, optional
        The step for every component. By default eps^(1/3), eps^(1/2) or 1e-20 times max(1, |x_i|),
        eps being that of the dtype of x.
    vectorized : bool
        f takes points stacked along a new first axis, (k, *x.shape), and returns k values; x is an
        array.

    Returns
    -------
    numpy.ndarray or dict
        Of the structure, shape and dtype of x. nan or inf where f is not finite.

    Raises
    ------
    TypeError, ValueError
        Naming the argument; also if f changes x, if it is no function to one number, if a step is
        too small to change x, or if f drops the imaginary part.

    Notes
    -----
    :math:`(f(x + h e_i) - f(x - h e_i)) / 2h`, :math:`(f(x + h e_i) - f(x)) / h`, and
    :math:`\mathrm{Im} f(x + i h e_i) / h` (Squire and Trapp, 1998). The h that is divided by is
    the one that rounding left.

    Examples
    --------
    >>> import numpy as np
    >>> from fastopt.calculus import numerical_grad
    >>> numerical_grad(lambda x: x @ x, np.array([1.0, 2.0, 3.0])).round(6)
    array([2., 4., 6.])
    >>> numerical_grad(lambda x: np.exp(x).sum(), np.array([0.0, 1.0]), "complex")
    array([1.        , 2.71828183])
    """
    point = Point(x)
    grads = [np.empty(a.shape, a.dtype) for a in point.arrays]
    for k, i, quotient in _columns(f, point, method, h, flag("vectorized", vectorized), scalar):
        grads[k].flat[i] = quotient
    return point.like(grads)


def numerical_jacobian(
    f: Callable[[Any], Any],
    x: Any,
    method: str = "central",
    h: float | None = None,
    *,
    vectorized: bool = False,
) -> np.ndarray:
    """Return the Jacobian matrix of a function to an array by differences.

    Parameters
    ----------
    f : callable
        x -> array of any shape, always the same.
    x : array-like
        The point, of any shape.
    method, h, vectorized
        As in `numerical_grad`; with `vectorized`, f returns its arrays stacked.

    Returns
    -------
    numpy.ndarray of shape (*shape of f(x), *x.shape)
        Of the dtype of x.

    Raises
    ------
    TypeError, ValueError
        As in `numerical_grad`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastopt.calculus import numerical_jacobian
    >>> numerical_jacobian(lambda x: np.array([x[0] * x[1], x[1] ** 2]), [2.0, 3.0]).round(6)
    array([[3., 2.],
           [0., 6.]])
    """
    point = Point(x)
    if point.mapping:
        raise TypeError("numerical_jacobian: x must be an array, not a mapping")
    columns = [q for _, _, q in _columns(f, point, method, h, flag("vectorized", vectorized), many)]
    if not columns:
        raise ValueError("numerical_jacobian: x is empty")
    stacked = np.stack(columns, axis=-1).astype(point.dtype)
    return stacked.reshape(columns[0].shape + point.arrays[0].shape)


def numerical_hessian(
    f: Callable[[Any], Any],
    x: Any,
    h: float | None = None,
    *,
    grad: Callable[[Any], Any] | None = None,
) -> np.ndarray:
    r"""Return the matrix of second derivatives by differences; it is symmetric.

    Parameters
    ----------
    f : callable
        x -> number; not called if there is `grad`.
    x : array-like
        The point, of any shape; n numbers in all.
    h : float, optional
        The step. By default eps^(1/4), or with `grad` eps^(1/3), times max(1, |x_i|).
    grad : callable, optional
        x -> gradient: 2n calls of it, more exact than the 2n^2 + 1 of f otherwise.

    Returns
    -------
    numpy.ndarray of shape (n, n)
        Over the elements of x in C's order; of the dtype of x.

    Raises
    ------
    TypeError, ValueError
        As in `numerical_grad`.

    Notes
    -----
    :math:`(f_{++} - f_{+-} - f_{-+} + f_{--}) / 4 h_i h_j` and
    :math:`(f_+ - 2 f + f_-) / h_i^2` (Abramowitz and Stegun, 1964, 25.3).

    Examples
    --------
    >>> import numpy as np
    >>> from fastopt.calculus import numerical_hessian
    >>> numerical_hessian(lambda x: x[0] ** 2 * x[1], np.array([1.0, 2.0])).round(4)
    array([[4., 2.],
           [2., 0.]])
    """
    if grad is not None:
        rows = numerical_jacobian(lambda x: np.ravel(grad(x)), x, "central", h)
        n = rows.shape[0]
        if rows.size != n * n:
            raise ValueError(f"grad must return {rows.size // n} numbers, got {n}")
        rows = rows.reshape(n, n)
        return (rows + rows.T) / 2
    point = Point(x)
    if point.mapping:
        raise TypeError("numerical_hessian: x must be an array, not a mapping")
    steps = steps_for(point, "second", h)[0]
    n = point.size
    hessian = np.empty((n, n))

    def at(*moves: tuple[int, float]) -> float:
        for i, step in moves:
            point.move(0, i, step)
        value = real_number(point.call(f))
        for i, _ in moves:
            point.move(0, i, 0.0)
        return value

    with point.restored(), np.errstate(invalid="ignore"):
        middle = real_number(point.first_call(f))
        # what rounding leaves of the steps, to both sides
        up = [point.move(0, i, steps[i]) for i in range(n)]
        down = [-point.move(0, i, -steps[i]) for i in range(n)]
        for i in range(n):
            point.move(0, i, 0.0)
        for i in range(n):
            a, b = at((i, steps[i])), at((i, -steps[i]))
            hessian[i, i] = 2 * ((a - middle) / up[i] - (middle - b) / down[i]) / (up[i] + down[i])
            for j in range(i):
                s, t = steps[i], steps[j]
                corners = at((i, s), (j, t)) - at((i, s), (j, -t))
                corners += at((i, -s), (j, -t)) - at((i, -s), (j, t))
                hessian[i, j] = corners / ((up[i] + down[i]) * (up[j] + down[j]))
                hessian[j, i] = hessian[i, j]
    return hessian.astype(point.dtype)


def scalar(value: Any) -> Any:
    """Return one real or complex number as float64's precision has it."""
    if np.iscomplexobj(value) and np.size(value) == 1:
        return complex(np.asarray(value).item())
    return real_number(value)


def many(value: Any) -> np.ndarray:
    """Return an array of numbers in double precision."""
    array = np.array(value)
    if array.dtype.kind not in "fiuc":
        raise TypeError(f"f must return an array of numbers, got {value!r}")
    return array.astype(np.complex128 if array.dtype.kind == "c" else np.float64)


def steps_for(point: Point, method: str, h: float | None) -> list[np.ndarray]:
    """Return the step of each element of each array, flat."""
    if h is not None:
        h = number("h", h, 0, open_below=True)
    steps = []
    for array in point.saved:
        eps = float(np.finfo(array.dtype).eps)
        size = np.maximum(1.0, np.abs(array.ravel().astype(np.float64)))
        own = np.full(size.shape, h) if h is not None else step_of(method, eps) * size
        steps.append(own)
    return steps


def _columns(
    f: Callable[[Any], Any],
    point: Point,
    method: str,
    h: float | None,
    vectorized: bool,
    read: Callable[[Any], Any],
) -> Iterator[tuple[int, int, Any]]:
    """Yield array, element and difference quotient for every component."""
    if not callable(f):
        raise TypeError(f"f must be callable, got {f!r}")
    one_of("method", method, METHODS)
    steps = steps_for(point, method, h)
    if vectorized and point.mapping:
        raise TypeError("vectorized: x must be an array, not a mapping")
    with np.errstate(invalid="ignore"), point.restored():
        if method == "complex":
            yield from _complex_steps(f, point, steps, vectorized, read)
        elif vectorized:
            yield from _stacked(f, point, steps[0], method, read)
        else:
            middle = read(point.first_call(f))
            for k, steps_of in enumerate(steps):
                for i, step in enumerate(steps_of):
                    to = point.move(k, i, step)
                    high, low, back = read(point.call(f)), middle, 0.0
                    if method == "central":
                        back = point.move(k, i, -step)
                        low = read(point.call(f))
                    _check_moved(point, k, i, step, to - back)
                    point.move(k, i, 0.0)
                    yield k, i, (high - low) / (to - back)


def _check_moved(point: Point, k: int, i: int, step: float, distance: float) -> None:
    if not distance > 0:
        raise ValueError(f"h: a step of {step:g} does not change {point.label(k, i)}")


def _complex_steps(
    f: Callable[[Any], Any],
    point: Point,
    steps: list[np.ndarray],
    vectorized: bool,
    read: Callable[[Any], Any],
) -> Iterator[tuple[int, int, Any]]:
    """Yield imaginary parts; f gets a complex copy of x."""

    def imaginary(value: Any, step: float) -> Any:
        if not np.iscomplexobj(value):
            raise TypeError(
                "method='complex': f returned real numbers for a complex x; it drops the imaginary "
                "part (abs, real, comparisons, float arrays): use method='central'"
            )
        return np.imag(value) / step

    arrays = [a.astype(np.result_type(a, np.complex64)) for a in point.saved]
    if vectorized:
        for first, last, batch in _batches(arrays[0], 1):
            own = steps[0][first:last]
            batch.reshape(len(own), -1)[np.arange(len(own)), np.arange(first, last)] += 1j * own
            for i, value in enumerate(_values(f, batch, read), first):
                yield 0, i, imaginary(value, steps[0][i])
        return
    x = point.like(arrays)
    for k, array in enumerate(arrays):
        for i, step in enumerate(steps[k]):
            array.flat[i] = complex(point.saved[k].flat[i], step)
            value = read(f(x))
            array.flat[i] = point.saved[k].flat[i]
            yield k, i, imaginary(value, step)


def _batches(array: np.ndarray, points: int) -> Iterator[tuple[int, int, np.ndarray]]:
    """Yield ranges of elements, with `points` copies of x for each element in them."""
    each = max(1, BATCH // max(1, points * array.size))
    for first in range(0, array.size, each):
        last = min(first + each, array.size)
        yield first, last, np.repeat(array[None], points * (last - first), axis=0)


def _values(f: Callable[[Any], Any], batch: np.ndarray, read: Callable[[Any], Any]) -> list[Any]:
    values = np.asarray(f(batch))
    if values.shape[:1] != (len(batch),):
        raise ValueError(
            f"vectorized: f must return {len(batch)} values for {len(batch)} points, got shape "
            f"{values.shape}"
        )
    return [read(value) for value in values]


def _stacked(
    f: Callable[[Any], Any],
    point: Point,
    steps: np.ndarray,
    method: str,
    read: Callable[[Any], Any],
) -> Iterator[tuple[int, int, Any]]:
    """Yield quotients of a function that takes many points at once."""
    x = point.saved[0]
    sides = 2 if method == "central" else 1
    middle = _values(f, x[None].copy(), read)[0] if sides == 1 else None
    for first, last, batch in _batches(x, sides):
        flat, at = batch.reshape(len(batch), -1), np.arange(first, last)
        own = steps[first:last].astype(x.dtype)
        flat[np.arange(len(at)), at] += own
        start = x.ravel()[at].astype(np.float64)
        to = flat[np.arange(len(at)), at] - start
        back = np.zeros(len(at))
        if sides == 2:
            flat[len(at) + np.arange(len(at)), at] -= own
            back = flat[len(at) + np.arange(len(at)), at] - start
        values = _values(f, batch, read)
        for j, i in enumerate(at):
            _check_moved(point, 0, i, steps[i], to[j] - back[j])
            low = values[len(at) + j] if sides == 2 else middle
            yield 0, int(i), (values[j] - low) / (to[j] - back[j])
