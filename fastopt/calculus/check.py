"""A gradient, or a product with the Hessian, checked against differences."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from fastopt.calculus.differences import step_of
from fastopt.calculus.point import Point, real_number
from fastopt.calculus.probe import Probe, noise_level
from fastopt.calculus.report import GradReport, GradRow, diagnose, relative, worst_first
from fastopt.checks import count, number

SAMPLED = 64  # components of each array that is too large to look at all


def check_grad(
    f: Callable[[Any], Any],
    g: Any,
    x: Any,
    *,
    rtol: float | None = None,
    atol: float = 0.0,
    h: float | None = None,
    components: int = 2000,
    directions: int = 8,
    seed: int = 0,
) -> GradReport:
    r"""Compare a gradient with central differences and say what is wrong with it.

    Parameters
    ----------
    f : callable
        x -> number.
    g : callable, array, mapping or True
        x -> gradient, or the gradient itself, of the structure and shapes of x; True where f
        returns (value, gradient).
    x : array-like or mapping name -> array-like
        The point, float32 or float64, as in `numerical_grad`; it is restored to the bit. A random
        point checks more than a special one, such as zero or an optimum.
    rtol : float, optional
        The relative error that is allowed: by default 1e-5 in float64 and 1e-3 in float32.
    atol : float
        The absolute error that is allowed beside what the rounding of f explains.
    h : float, optional
        The step; by default eps^(1/3) max(1, \|x_i\|), longer where f is noisy.
    components : int
        Arrays with more elements than this in all are looked at along random directions, and at 64
        random components of each array.
    directions : int
        Random directions for each array then.
    seed : int
        Of the directions and components: the same report each time.

    Returns
    -------
    GradReport
        True if nothing is wrong; `print` shows a line of diagnosis and the worst components.

    Raises
    ------
    TypeError, ValueError
        Where f is not a function to one finite number, changes x, or g has another shape than x.

    Notes
    -----
    :math:`|a - n| \le` rtol :math:`\max(|a|, |n|)` + atol + :math:`4 \delta / h`, where
    :math:`\delta` is the error of a value of f, at least eps \|f\|, measured by a table of
    differences (Moré and Wild, 2011). A component that fails gets shorter steps and
    extrapolation before it counts as wrong. Where the derivatives of the two sides stay apart as
    the step shrinks there is a kink: it is named, and what lies between the two is a subgradient
    and right.

    Examples
    --------
    >>> import numpy as np
    >>> from fastopt.calculus import check_grad
    >>> x = np.array([0.5, -1.0, 2.0])
    >>> check_grad(lambda x: (x**2).sum(), lambda x: 2 * x, x).ok
    True
    >>> check_grad(lambda x: (x**2).sum(), lambda x: -2 * x, x).diagnosis
    'sign flipped'
    >>> print(check_grad(lambda x: abs(x).sum(), np.sign, np.array([0.0, 3.0])))
    ok: 2 compared; 1 at kinks, not failed
    component       analytic        numeric     error  status
    x[0]                   0              0   0.0e+00  kink: slopes -1 and 1: like an absolute value
    x[1]                   1              1 ... ok
    """
    if not callable(f):
        raise TypeError(f"f must be callable, got {f!r}")
    point = Point(x)
    rtol = _rtol(point, rtol)
    atol = number("atol", atol, 0)
    rng = np.random.default_rng(count("seed", seed, 0))
    components, directions = count("components", components, 0), count("directions", directions, 1)
    h = None if h is None else number("h", h, 0, open_below=True)

    def value(x: Any) -> float:
        return real_number(f(x)[0] if g is True else f(x))

    with point.restored():
        middle = point.first_call(value)
        if not math.isfinite(middle):
            raise ValueError(f"f must be finite at x, got {middle}")
        grads = _gradient(f, g, point)
        noise = noise_level(point, value, middle, rng)
        step = h or max(step_of("central", point.eps), (noise / max(abs(middle), 1.0)) ** (1 / 3))
        probe = Probe(point, value, middle, noise, step, h is not None, rtol, atol)
        rows = []
        for k, array in enumerate(point.saved):
            chosen = range(array.size)
            if point.size > components:
                few = min(SAMPLED, array.size)
                chosen = np.sort(rng.choice(array.size, few, replace=False)).tolist()
                for d in range(directions):
                    signs = rng.choice([-1.0, 1.0], array.shape)
                    label = f"{point.names[k]} along direction {d}"
                    rows.append(probe.row(label, k, -1, signs, grads[k]))
            for i in chosen:
                rows.append(probe.row(point.label(k, i), k, i, None, grads[k]))
    largest = max((float(np.max(np.abs(grad), initial=0.0)) for grad in grads), default=0.0)
    sure = max(rtol, 4 * noise / step / largest) if 0 < largest < math.inf else rtol
    return _report(rows, point, noise / max(abs(middle), 1e-300), step, sure)


def assert_grad(f: Callable[[Any], Any], g: Any, x: Any, **options: Any) -> None:
    """Raise where `check_grad` finds a gradient wrong, for tests.

    Parameters
    ----------
    f, g, x, **options
        As in `check_grad`.

    Raises
    ------
    AssertionError
        With the report's diagnosis and table.

    Examples
    --------
    >>> import numpy as np
    >>> from fastopt.calculus import assert_grad
    >>> assert_grad(lambda x: np.sin(x).sum(), np.cos, np.array([0.3, 0.7]))
    """
    report = check_grad(f, g, x, **options)
    if not report:
        raise AssertionError(str(report))


def check_hessp(
    g: Callable[[Any], Any],
    hessp: Callable[[Any, Any], Any],
    x: Any,
    *,
    rtol: float | None = None,
    atol: float = 0.0,
    directions: int = 4,
    seed: int = 0,
) -> GradReport:
    """Compare products with the Hessian with differences of the gradient along random directions.

    Parameters
    ----------
    g : callable
        x -> gradient; check it first with `check_grad`.
    hessp : callable
        x, v -> Hessian at x times v, as SciPy's minimizers take it; of the shape of x.
    x : array-like
        The point, restored to the bit.
    rtol, atol, seed
        As in `check_grad`; rtol is relative to the largest number of a product.
    directions : int
        How many products.

    Returns
    -------
    GradReport
        Rows such as "(H v3)[0]"; the diagnosis also tells where u.Hv is not v.Hu.

    Raises
    ------
    TypeError, ValueError
        Where a function returns another shape than that of x.

    Examples
    --------
    >>> import numpy as np
    >>> from fastopt.calculus import check_hessp
    >>> x = np.array([1.0, 2.0])
    >>> check_hessp(lambda x: 4 * x**3, lambda x, v: 6 * x**2 * v, x).diagnosis
    'factor 0.5 everywhere'
    """
    point = Point(x)
    if point.mapping:
        raise TypeError("check_hessp: x must be an array, not a mapping")
    rtol, atol = _rtol(point, rtol), number("atol", atol, 0)
    rng = np.random.default_rng(count("seed", seed, 0))
    start = point.saved[0].astype(np.float64)
    rows, vectors, products = [], [], []

    def array(name: str, value: Any) -> np.ndarray:
        value = np.array(value, dtype=np.float64)
        if value.shape != start.shape:
            raise ValueError(f"{name} must return shape {start.shape}, got {value.shape}")
        return value

    def gradient(where: np.ndarray) -> np.ndarray:
        point.arrays[0][...] = where
        return array("g", point.call(g))

    step = step_of("central", point.eps) * max(1.0, float(np.max(np.abs(start), initial=0.0)))
    with point.restored():
        size = np.max(np.abs(array("g", point.first_call(g))), initial=0.0)
        for d in range(count("directions", directions, 1)):
            v = rng.choice([-1.0, 1.0], start.shape)
            high, low = gradient(start + step * v), gradient(start - step * v)
            numeric = (high - low) / (2 * step)
            point.arrays[0][...] = start
            analytic = array("hessp", hessp(point.x, v.astype(point.dtype)))
            vectors.append(v)
            products.append(analytic)
            largest = max(np.max(np.abs(numeric), initial=0.0), np.max(np.abs(analytic), initial=0))
            allowed = rtol * largest + atol + 8 * point.eps * size / step
            for i, (a, n) in enumerate(zip(analytic.flat, numeric.flat, strict=True)):
                excess = abs(a - n) / max(allowed, 1e-300) if np.isfinite(a - n) else math.inf
                label = f"(H v{d})" + point.label(0, i)[1:]
                status = "ok" if excess <= 1 else "wrong"
                error = relative(float(a), float(n))
                rows.append(GradRow(label, float(a), float(n), error, excess, status, "", 0, i))
    report = _report(rows, point, point.eps, step, rtol)
    u, v = vectors[0].ravel(), vectors[-1].ravel()
    one, other = float(u @ products[-1].ravel()), float(v @ products[0].ravel())
    scale = float(np.abs(products[-1]).sum() + np.abs(products[0]).sum())
    if not report.ok and abs(one - other) > 10 * rtol * scale:
        line = f"{report.diagnosis}; not symmetric: u.Hv = {one:.6g}, v.Hu = {other:.6g}"
        return GradReport(False, line, report.rows, report.noise, step, report.nfev, report.shapes)
    return report


def _rtol(point: Point, rtol: float | None) -> float:
    if rtol is None:
        return 1e-5 if point.eps < 1e-10 else 1e-3
    return number("rtol", rtol, 0, open_below=True)


def _gradient(f: Callable[[Any], Any], g: Any, point: Point) -> list[np.ndarray]:
    """Return what is checked: arrays of float64 in the order of the point's."""
    if g is True:
        g = f(point.x)[1]
    elif callable(g):
        g = g(point.x)
    if point.mapping != isinstance(g, Mapping) or (point.mapping and set(g) != set(point.names)):
        got = sorted(g) if isinstance(g, Mapping) else type(g).__name__
        raise ValueError(f"g must be of x's structure, with {sorted(point.names)}, got {got}")
    # copied: a gradient is often kept in a buffer that the next call of f writes over
    grads = [np.array(g[name] if point.mapping else g, dtype=np.float64) for name in point.names]
    for name, array, grad in zip(point.names, point.saved, grads, strict=True):
        if grad.shape != array.shape:
            raise ValueError(
                f"g: the gradient of {name} must have shape {array.shape}, got {grad.shape}"
            )
    for array, saved in zip(point.arrays, point.saved, strict=True):
        if not np.array_equal(array, saved):
            raise ValueError("g changed x")
    return grads


def _report(
    rows: list[GradRow], point: Point, noise: float, step: float, rtol: float
) -> GradReport:
    ordered = worst_first(rows)
    ok = all(row.status in ("ok", "kink") for row in ordered)
    line = diagnose(ordered, point.names, point.saved, rtol)
    shapes = {name: a.shape for name, a in zip(point.names, point.saved, strict=True)}
    return GradReport(ok, line, ordered, noise, step, point.nfev, shapes)
