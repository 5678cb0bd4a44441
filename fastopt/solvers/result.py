"""What a solver returns: SciPy's fields, and why it ended and how it went."""

from __future__ import annotations

from typing import Any

import numpy as np

#: reason -> SciPy's status; 0 is success.
STATUS = {
    "converged": 0,
    "iterations": 1,
    "evaluations": 1,
    "precision": 2,
    "line search": 2,
    "non-finite": 3,
    "unbounded": 4,
    "budget": 5,
    "callback": 99,
    "interrupted": 130,
}

TRACE = np.dtype(
    [("fun", "f8"), ("grad_norm", "f8"), ("step", "f8"), ("seconds", "f8"), ("evaluations", "i8")]
)


class OptimizeResult(dict):
    """A result whose items are attributes too, as SciPy's.

    Attributes
    ----------
    x : numpy.ndarray
        The best point with a finite value; x0 if there was none.
    fun, jac : float, numpy.ndarray
        The value and the gradient there.
    nit, nfev, njev, nhev : int
        Iterations; evaluations of the function, its gradient and its Hessian or products with it.
    success : bool
        Whether the first-order condition holds to the tolerance asked for (`fastopt.minimize`).
    status : int
        0 if it does.
    reason : str
        Why it ended: "converged", "iterations", "evaluations", "precision", "line search",
        "non-finite", "unbounded", "budget", "callback" or "interrupted".
    message : str
        The same as a sentence.
    trace : numpy.ndarray
        For the start and each iteration: fun, grad_norm (the largest component of what must
        vanish), step, seconds since the start, evaluations of the function so far.

    Examples
    --------
    >>> import fastopt
    >>> found = fastopt.minimize(lambda x: ((x - 3) ** 2).sum(), [0.0, 0.0])
    >>> found.success, found["reason"], found.x.round(3).tolist()
    (True, 'converged', [3.0, 3.0])
    """

    def __getattr__(self, name: str) -> Any:
        """Return an item."""
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None

    __setattr__ = dict.__setitem__
    __delattr__ = dict.__delitem__

    def __dir__(self) -> list[str]:
        return sorted([*super().__dir__(), *self])

    def __repr__(self) -> str:
        width = max(map(len, self), default=0)
        shown = {k: f"{len(v)} rows" if k == "trace" else repr(v) for k, v in self.items()}
        return "\n".join(f"{name.rjust(width)}: {value}" for name, value in shown.items())
