"""A pytest plugin that puts fastopt's solvers, roots and differences in the place of SciPy's.

`pytest -p swap_solvers --pyargs scipy.optimize.tests.test_optimize` then tests ours.
"""

import warnings

import numpy as np
import scipy.optimize
from scipy.optimize import _linesearch, _numdiff, _zeros_py

import fastopt

OURS = {"bfgs", "l-bfgs-b", "cg", "newton-cg", "trust-ncg", "trust-exact"}
original = scipy.optimize.minimize


def minimize(fun, x0, args=(), method=None, jac=None, hess=None, hessp=None, bounds=None, **rest):
    """Call ours with the options that it has, where it has the method."""
    constraints = rest.pop("constraints", ())
    if callable(method) or constraints or not (method is None or method.lower() in OURS):
        if constraints:
            rest["constraints"] = constraints
        return original(fun, x0, args, method, jac, hess, hessp, bounds, **rest)
    options = dict(rest.pop("options", None) or {})
    for name in "disp", "return_all", "finite_diff_rel_step", "maxls", "workers":
        options.pop(name, None)
    if "maxfun" in options:
        options["maxfev"] = options.pop("maxfun")
    r = fastopt.minimize(
        fun, x0, args, method, jac, None if isinstance(hess, str) else hess, hessp, bounds,
        options=options, **rest,
    )  # fmt: skip
    if r.reason == "callback":
        r.message = "`callback` raised `StopIteration`."  # SciPy's words
    return r


def wolfe(
    f, fprime, x, p, gfk=None, fk=None, old=None, args=(), c1=1e-4, c2=0.9, amax=1e100, **rest
):
    """Call ours as `line_search_wolfe1` and 2 are called."""
    calls = {"f": 0, "g": 0}

    def value(x):
        calls["f"] += 1
        return f(x, *args)

    def gradient(x):
        calls["g"] += 1
        return fprime(x, *args)

    r = fastopt.strong_wolfe(value, x, p, jac=gradient, c1=c1, c2=c2, max_step=amax or np.inf)
    if not r.success:
        warnings.warn("did not converge", _linesearch.LineSearchWarning, stacklevel=2)
    before = fk if fk is not None else f(x, *args)
    step = r.step if r.success or r.step == amax else None  # as SciPy's where amax is the end
    return step, calls["f"], calls["g"], r.fun, before, r.jac


def scalar_wolfe(phi, derphi, phi0=None, old=None, derphi0=None, c1=1e-4, c2=0.9, amax=1e100):
    """Call ours as `scalar_search_wolfe2` is called."""
    r = fastopt.strong_wolfe(
        lambda x: phi(x[0]), [0.0], [1.0], jac=lambda x: np.array([derphi(x[0])]), c1=c1, c2=c2,
        max_step=amax,
    )  # fmt: skip
    if not r.success:
        return None, None, phi(0.0), None
    return r.step, r.fun, phi(0.0), r.jac[0]


def armijo(f, x, p, g, f0, args=(), c1=1e-4, alpha0=1):
    """Call ours as `line_search_armijo` is called."""
    r = fastopt.backtracking(f, x, p, args=args, jac=lambda x, *_: g, step=alpha0, c1=c1)
    return r.step, r.nfev, r.fun


def scalar_armijo(phi, phi0, derphi0, c1=1e-4, alpha0=1, amin=0):
    """Call ours as `scalar_search_armijo` is called, which has phi(0) already."""
    values = {0.0: phi0}
    r = fastopt.backtracking(
        lambda x: values[x[0]] if x[0] in values else phi(x[0]), [0.0], [1.0],
        jac=lambda x: np.array([derphi0]), step=alpha0, c1=c1,
    )  # fmt: skip
    return r.step, r.fun


def newton(f, x0, fprime=None, args=(), tol=1.48e-8, maxiter=50, fprime2=None, x1=None, rtol=0.0,
           full_output=False, disp=True):  # fmt: skip
    """Call ours as `newton` is called with a number."""
    if np.size(x0) > 1 or np.iscomplexobj(x0):
        raise NotImplementedError("ours is of one real variable")
    r = fastopt.root(
        f, float(x0), fprime, fprime2, args=args, x1=x1, tol=tol, rtol=rtol, maxiter=maxiter
    )
    if disp and not r.success:
        raise RuntimeError(r.message)
    if not full_output:
        return r.x
    found = _zeros_py.RootResults(np.float64(r.x), r.nit, r.nfev, 0 if r.success else -2, "newton")
    return np.float64(r.x), found


METHODS = {"2-point": "forward", "3-point": "central", "cs": "complex"}


def approx_derivative(
    fun, x0, method="3-point", rel_step=None, abs_step=None, f0=None, bounds=None, args=(),
    kwargs=None, workers=None,
):  # fmt: skip
    """Call ours as `approx_derivative` is called without bounds, sparsity and relative steps."""
    if (rel_step is not None and abs_step is None) or bounds is not None:
        raise NotImplementedError("ours has one absolute step, and no bounds")
    return fastopt.calculus.numerical_jacobian(
        lambda x: fun(x, *args, **(kwargs or {})), np.atleast_1d(x0), METHODS[method], abs_step
    )


_numdiff.approx_derivative = approx_derivative
scipy.optimize.minimize = minimize
_linesearch.line_search_wolfe1 = _linesearch.line_search_wolfe2 = wolfe
_linesearch.scalar_search_wolfe2 = scalar_wolfe
_linesearch.scalar_search_wolfe1 = lambda *a, **k: scalar_wolfe(*a, **k)[:3]
_linesearch.line_search_armijo, _linesearch.scalar_search_armijo = armijo, scalar_armijo
_zeros_py.newton = newton
scipy.optimize.newton = newton
