"""When to stop: scikit-learn's rule over epochs, and a target."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

LEAST_STEP = 1e-6  # below it, the adaptive schedule stops


class Watch:
    """Looks at the model after each epoch.

    Parameters
    ----------
    tol : float or None
        An epoch counts as better if the objective is at least `tol` below the best so far (or the
        score above it). None: never stop for that.
    patience : int
        Stop after so many epochs in a row that were not better.
    adaptive : bool
        Divide the step by 5 instead, until it is below 1e-6.
    score : callable, optional
        Of (w, intercept); higher is better. It is judged instead of the objective.
    target : float, optional
        Stop once the objective is at or below it.
    tell : callable, optional
        Called with (w, intercept) of each epoch; stop if it returns True.

    Attributes
    ----------
    improved : bool
        Whether the last epoch was the best so far.
    slower : bool
        Whether the step is to be divided by 5.
    reason : str
        Why to stop, or "".
    value : float or None
        The last score.
    """

    def __init__(
        self,
        tol: float | None,
        patience: int,
        *,
        adaptive: bool = False,
        score: Callable[[np.ndarray, float], float] | None = None,
        target: float | None = None,
        tell: Callable[[np.ndarray, float], bool] | None = None,
    ) -> None:
        self.tol, self.patience, self.adaptive = tol, patience, adaptive
        self.score, self.target, self.tell = score, target, tell
        self.best, self.bad = math.inf, 0
        self.improved = self.slower = False
        self.reason, self.value = "", None

    def after(self, objective: float, w: np.ndarray, intercept: float, step: float) -> None:
        """Look at the model of an epoch that ended with this step size."""
        now, what = objective, "objective"
        if self.score is not None:
            self.value = self.score(w, intercept)
            now, what = -self.value, "validation score"
        worse = self.tol is not None and not now <= self.best - self.tol
        self.improved, self.slower = now < self.best, False
        self.best = min(self.best, now) if now == now else self.best
        self.bad = self.bad + 1 if worse else 0
        if self.bad >= self.patience:
            if self.adaptive and step > LEAST_STEP:
                self.slower, self.bad = True, 0
            else:
                self.reason = f"the {what} no longer improves"
        if self.target is not None and objective <= self.target:
            self.reason = f"the objective has reached the target {self.target:g}"
        if self.tell is not None and self.tell(w, intercept):
            self.reason = "a callback asked to stop"
