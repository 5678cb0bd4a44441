"""scikit-learn's callbacks (`sklearn.callback`, since 1.9) in a fit of the estimators."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastopt.sparse.multiclass import rows_of

try:
    from sklearn.callback import CallbackSupportMixin, with_callbacks
except ImportError:  # an older scikit-learn: the estimators have no set_callbacks then

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Nothing, where scikit-learn has no callbacks."""

    def with_callbacks(method: Any) -> Any:
        """Return the method as it is."""
        return method


__all__ = ["CallbackSupportMixin", "Told", "told_of", "with_callbacks"]


class Told:
    """Tells the callbacks of one fit when epochs begin and end.

    The tasks are fit > epoch, and with several classes, each against the rest, fit > class > epoch.
    """

    def __init__(
        self, estimator: Any, X: Any, y: np.ndarray, weight: Any, W: np.ndarray, b: np.ndarray
    ) -> None:
        self.estimator, self.W, self.b = estimator, W.copy(), b.copy()
        self.given = {"X": X, "y": y}
        if weight is not None:
            self.given["metadata"] = {"sample_weight": weight}
        several = len(W) > 1 and not estimator._together
        self.root = estimator._init_callback_context(
            max_subtasks=len(W) if several else estimator.max_iter
        )
        self.several, self.problem, self.epoch = several, self.root, None
        self._begin(self.root)

    def _begin(self, context: Any) -> Any:
        context.call_on_fit_task_begin(estimator=self.estimator, **self.given)
        return context

    def _end(self, context: Any, attributes: Any = None) -> bool:
        if attributes is None:
            return context.call_on_fit_task_end(estimator=self.estimator)
        return context.call_on_fit_task_end(
            estimator=self.estimator, **self.given, reconstruction_attributes=attributes
        )

    def _close(self) -> None:
        """End an epoch that did not take place, and the problem."""
        if self.epoch is not None:
            self._end(self.epoch)
            self.epoch = None
        if self.several and self.problem is not self.root:
            self._end(self.problem, self._attributes)

    def begin(self, k: int) -> Callable[[np.ndarray, Any], bool]:
        """Begin a problem; return what is to be called after each of its epochs."""
        self._close()
        if self.several:
            context = self.root.subcontext("class", max_subtasks=self.estimator.max_iter)
            self.problem = self._begin(context)
        self.epoch, done = self._begin(self.problem.subcontext("epoch")), 0

        def after(w: np.ndarray, intercept: Any) -> bool:
            nonlocal done
            done += 1
            if self.estimator._together:
                self.W[:], self.b[:] = rows_of(w, self.W.shape), intercept
            else:
                self.W[k], self.b[k] = w, intercept
            stop, self.epoch = self._end(self.epoch, self._attributes), None
            if not stop and done < self.estimator.max_iter:
                self.epoch = self._begin(self.problem.subcontext("epoch"))
            return stop

        return after

    def _attributes(self) -> dict[str, Any]:
        """Return what makes a copy of the estimator predict with the models as they are."""
        W = self.W.copy()
        coef = W if self.estimator._kind == "SGDClassifier" else W[0]
        return {"coef_": coef, "intercept_": self.b.astype(W.dtype)}

    def end(self) -> None:
        """End the fit; the estimator is fitted."""
        self._close()
        self._end(self.root, {})


def told_of(
    estimator: Any, X: Any, y: np.ndarray, weight: Any, W: np.ndarray, b: np.ndarray
) -> Told | None:
    """Return what tells the callbacks of an estimator, None if it has none."""
    if not getattr(estimator, "_skl_callbacks", None):
        return None
    return Told(estimator, X, y, weight, W, b)
