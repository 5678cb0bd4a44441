"""`minimize`: SciPy's signature and result in front of this package's solvers."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from fastopt.checks import check_callable, count, number, one_of
from fastopt.solvers.bfgs import bfgs
from fastopt.solvers.cg import cg
from fastopt.solvers.gd import gd
from fastopt.solvers.lbfgs import lbfgs
from fastopt.solvers.lbfgsb import lbfgsb
from fastopt.solvers.loop import drive, teller
from fastopt.solvers.newton import newton
from fastopt.solvers.newton_cg import newton_cg
from fastopt.solvers.objective import Objective, as_point
from fastopt.solvers.owlqn import owl_qn
from fastopt.solvers.random import random
from fastopt.solvers.result import OptimizeResult
from fastopt.solvers.trust import trust_exact, trust_ncg

METHODS: dict[str, Callable[..., Any]] = {
    "newton": newton,
    "newton-cg": newton_cg,
    "trust-ncg": trust_ncg,
    "trust-exact": trust_exact,
    "bfgs": bfgs,
    "l-bfgs": lbfgs,
    "l-bfgs-b": lbfgsb,
    "owl-qn": owl_qn,
    "cg": cg,
    "gd": gd,
    "random-search": random,
}
BOUNDED = ("l-bfgs-b", "random-search")
#: What every method but random search takes, and the default.
COMMON: dict[str, Any] = {"gtol": None, "ftol": 0.0, "maxiter": None, "maxfev": None}


def minimize(
    fun: Callable[..., Any],
    x0: Any,
    args: tuple[Any, ...] = (),
    method: str | None = None,
    jac: Any = None,
    hess: Callable[..., Any] | None = None,
    hessp: Callable[..., Any] | None = None,
    bounds: Any = None,
    tol: float | None = None,
    callback: Callable[..., Any] | None = None,
    options: dict[str, Any] | None = None,
) -> OptimizeResult:
    r"""Minimize a function of a vector, and say truthfully whether that succeeded.

    Parameters
    ----------
    fun : callable
        ``fun(x, *args)`` -> number, or with ``jac=True`` (number, gradient). It is given an array
        of its own each time.
    x0 : array_like of shape (n,)
        The start. float32 stays float32, in what fun is given and in the result; all other numbers
        become float64. With bounds it is moved within them.
    args : tuple, default ()
        What is passed on to fun, jac, hess and hessp.
    method : str, optional
        "l-bfgs" (the default without bounds), "l-bfgs-b" (the default with them), "bfgs", "cg",
        "gd", "newton", "newton-cg", "trust-ncg", "trust-exact", "owl-qn" or "random-search";
        capital letters are the same.
    jac : True, callable, None or str, optional
        True: fun returns the gradient too. Callable: ``jac(x, *args)`` of shape (n,). None:
        differences of values, "2-point" in float64, "3-point" in float32; or "cs", a complex step.
    hess : callable, optional
        ``hess(x, *args)`` of shape (n, n), for "newton", "newton-cg", "trust-ncg" and
        "trust-exact". Where there is neither it nor `hessp`, gradients are differenced.
    hessp : callable, optional
        ``hessp(x, p, *args)``, the Hessian times p.
    bounds : sequence of (low, high) or object with lb and ub, optional
        For "l-bfgs-b" and "random-search"; None is no bound.
    tol : float, optional
        The same as the option gtol.
    callback : callable, optional
        Called after each iteration with a copy of x, or, if its one parameter is named
        ``intermediate_result``, with a result that has x and fun; it ends the solver by returning
        True or raising StopIteration.
    options : dict, optional
        For all but random search: gtol (1e-5, in float32 1e-4, 1e-2 of differences), the largest
        component of the gradient that is accepted; ftol (0: never), the relative fall of the value
        by one iteration at which it ends too; maxiter (200 n, at least 15,000); maxfev (none),
        looked at after each iteration.

        "l-bfgs", "l-bfgs-b", "owl-qn": memory (10). "l-bfgs", "cg", "bfgs", "newton",
        "newton-cg", "l-bfgs-b": c1 (1e-4) and c2 (0.9, for "cg" 0.1) of the line search. "cg": beta
        ("pr+" or "fr"). "gd": lr, a fixed step; without it steps are backtracked. "owl-qn": l1 (1),
        a number or one for each component. "trust-ncg", "trust-exact": initial_trust_radius (1),
        max_trust_radius (1e10), eta (0.15). "l-bfgs", "cg", "gd", "owl-qn": threads.
        "random-search": n (1000) points and a seed.

    Returns
    -------
    OptimizeResult
        With x, fun, jac, nit, nfev, njev, nhev, success, status, message, reason and trace.

    Raises
    ------
    TypeError, ValueError
        Naming the argument or the option; of a gradient of the wrong shape too. What the functions
        raise goes to the caller, except KeyboardInterrupt (see Notes).

    Notes
    -----
    **Success** means that the gradient (with bounds the projected, with L1 the pseudo-gradient)
    has no component above gtol at a point where the value is finite, or that ftol was asked for and
    reached. Everything else is not: the end of iterations, a line search that finds nothing, values
    without bound, noise. "newton" and "trust-exact" look at the Hessian too, and leave saddles.

    **What is not finite**, a value, a gradient or a point, is a step that was too long: it is
    shortened. The result is the best point whose value was finite. Ctrl-C ends the solver like a
    callback, with reason "interrupted" and success False.

    Near a minimum values no longer tell steps apart; a step is then accepted by its slope, if the
    value is the same to rounding.

    References
    ----------
    .. [1] J. Nocedal and S. Wright, "Numerical Optimization", 2nd edition, 2006.
    .. [2] R. Byrd, P. Lu, J. Nocedal and C. Zhu, "A limited memory algorithm for bound constrained
       optimization", 1995.
    .. [3] G. Andrew and J. Gao, "Scalable training of L1-regularized log-linear models", 2007.

    Examples
    --------
    >>> import numpy as np
    >>> import fastopt
    >>> def rosenbrock(x):
    ...     a, b = 1 - x[0], x[1] - x[0] ** 2
    ...     return a * a + 100 * b * b, np.array([-2 * a - 400 * x[0] * b, 200 * b])
    >>> found = fastopt.minimize(rosenbrock, [-1.2, 1.0], jac=True)
    >>> found.success, found.x.round(4).tolist()
    (True, [1.0, 1.0])
    >>> found = fastopt.minimize(rosenbrock, [-1.2, 1.0], jac=True, bounds=[(None, 0.5), (0, None)])
    >>> found.x.round(4).tolist()
    [0.5, 0.25]
    """
    start = as_point("x0", x0)
    limits = _bounds(bounds, start)
    name = method_name(method, limits is not None)
    if limits is not None:
        if name not in BOUNDED:
            raise ValueError(f"method {name!r} has no bounds: use one of {BOUNDED}")
        start = np.clip(start, *limits).astype(start.dtype)
    check_callable("callback", callback)
    args = args if isinstance(args, tuple) else (args,)
    objective = Objective(fun, start, args, jac, hess, hessp, limits)
    own, common = _options(name, options, tol)
    if name == "random-search":
        return random(objective, start, teller(callback), **own)
    common = _common(common, objective)
    if "gtol" in inspect.signature(METHODS[name]).parameters:
        own["gtol"] = common["gtol"]
    steps = METHODS[name](objective, start, **own)
    return drive(steps, objective, start, callback=callback, **common)


def method_name(method: str | None, bounded: bool = False) -> str:
    """Return the key of `METHODS` that is meant."""
    if method is None:
        return "l-bfgs-b" if bounded else "l-bfgs"
    name = method.lower() if isinstance(method, str) else method
    if name not in METHODS:
        one_of("method", method, tuple(METHODS))
    return name


def _bounds(bounds: Any, x0: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    if bounds is None:
        return None
    n = x0.size
    try:
        if hasattr(bounds, "lb") and hasattr(bounds, "ub"):
            low, high = (np.broadcast_to(np.asarray(b, "f8"), n) for b in (bounds.lb, bounds.ub))
        else:
            pairs = [tuple(pair) for pair in bounds]
            low = np.array([-math.inf if a is None else a for a, _ in pairs], "f8")
            high = np.array([math.inf if b is None else b for _, b in pairs], "f8")
    except (TypeError, ValueError) as error:
        raise type(error)(f"bounds must be {n} pairs (low, high), got {bounds!r}") from None
    if len(low) != n:
        raise ValueError(
            f"bounds must be {n} pairs (low, high), one for each of x0, got {len(low)}"
        )
    if not (low <= high).all() or (low == math.inf).any() or (high == -math.inf).any():
        raise ValueError("bounds must have low <= high")
    return _nearest(low, x0.dtype, math.inf), _nearest(high, x0.dtype, -math.inf)


def _nearest(bound: np.ndarray, dtype: np.dtype, inside: float) -> np.ndarray:
    """Return bounds that the dtype has, none of them outside."""
    rounded = bound.astype(dtype)
    outside = rounded < bound if inside > 0 else rounded > bound
    return np.where(outside, np.nextafter(rounded, dtype.type(inside)), rounded).astype("f8")


def _options(
    name: str, options: dict[str, Any] | None, tol: float | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the method's own options and the common ones."""
    if options is not None and not isinstance(options, dict):
        raise TypeError(f"options must be a dict or None, got {options!r}")
    given = dict(options or {})
    parameters = inspect.signature(METHODS[name]).parameters.values()
    own = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.name != "gtol"]
    common = {} if name == "random-search" else COMMON
    for key in given:
        if key not in own and key not in common:
            known = sorted([*own, *common])
            raise ValueError(f"method {name!r} has no option {key!r}: it has {', '.join(known)}")
    if tol is not None:
        given.setdefault("gtol", number("tol", tol, 0))
    return (
        {key: value for key, value in given.items() if key in own},
        {key: given.get(key, default) for key, default in common.items()},
    )


def _common(common: dict[str, Any], objective: Objective) -> dict[str, Any]:
    """Return the common options, checked, with their defaults."""
    single = objective.dtype == np.float32
    gtol, maxiter, maxfev = common["gtol"], common["maxiter"], common["maxfev"]
    if gtol is None:
        gtol = 1e-4 if single else 1e-5
        if single and objective.differences and objective.jac != "cs":
            gtol = 1e-2  # eps ** (2 / 3) is the relative error of a central difference
    return {
        "gtol": number("gtol", gtol, 0),
        "ftol": number("ftol", common["ftol"], 0),
        "maxiter": (
            max(15_000, 200 * objective.n) if maxiter is None else count("maxiter", maxiter, 0)
        ),
        "maxfev": math.inf if maxfev is None else count("maxfev", maxfev, 1),
    }
