"""True look-ahead Nesterov momentum: the gradient is taken where the momentum leads."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from fastopt._core import Plan, StepInfo
from fastopt.rules import precision
from fastopt.rules.parameters import hulls
from fastopt.threads import resolve

if TYPE_CHECKING:
    from fastopt.rules.base import Optimizer as Base
else:
    Base = object


class LookAhead(Base):
    """For an `Optimizer` whose `nesterov` may be "lookahead"; stands before it among the bases."""

    def _start(self) -> None:
        """Check and note whether this optimizer looks ahead; call at the end of `__init__`."""
        owner = type(self).__name__
        kinds = {group["nesterov"] == "lookahead" for group in self.param_groups}
        if len(kinds) > 1:
            raise ValueError(f"{owner}: nesterov='lookahead' must be in all groups or in none")
        if not kinds.pop():
            return
        self.extra["ahead"] = False
        if self._state_dtype is not None or any(map(precision.is_low, self._arrays.values())):
            raise ValueError(
                f"{owner}: nesterov='lookahead' needs float32 or float64 parameters and states"
            )

    @contextlib.contextmanager
    def lookahead(self) -> Iterator[None]:
        r"""Move the parameters to :math:`w + \mu v`, where the next gradient is to be taken.

        They stay there until `step`, which goes on from there: no copy is made, and nothing is
        rounded back. If the block ends with an error, the next `lookahead` finds them there.

        Raises
        ------
        ValueError
            If the optimizer was not made with nesterov="lookahead".

        Examples
        --------
        >>> import numpy as np, fastopt
        >>> w = np.array([1.0])
        >>> opt = fastopt.SGD(w, lr=0.1, momentum=0.9, nesterov="lookahead")
        >>> for _ in range(100):
        ...     with opt.lookahead():
        ...         g = 2 * w
        ...     info = opt.step(g)
        >>> bool(abs(w[0]) < 1e-3)
        True
        """
        if "ahead" not in self.extra:
            raise ValueError(
                f"{type(self).__name__}.lookahead: build the optimizer with nesterov='lookahead'"
            )
        with self._plan:
            if not self.extra["ahead"]:
                self._advance()
                self.extra["ahead"] = True
        yield

    def _advance(self) -> None:
        names = [name for name in self._order if name not in self._frozen]
        if not names:
            return

        def view(name: str, array: np.ndarray) -> np.ndarray:
            return array.T if self._order.index(name) in self._transposed else array

        buffer = self.state_names["v"]
        arrays = [view(name, self._arrays[name]) for name in names]
        buffers = [view(name, self._state[name][buffer]) for name in names]
        whose = [
            k for name in names for k, group in enumerate(self._groups) if name in group["params"]
        ]
        plan = Plan("sgd", tuple(names), arrays, [[] for _ in names], whose, hulls([]))
        for k, group in enumerate(self._groups):
            if k <= max(whose):
                mu = group.at(self.t)["momentum"]
                plan.set_group(k, 1.0, 0.0, 0.0, {"lr": -mu})
        with plan:
            plan.hold(buffers, None, True)
            plan.run(resolve(self._threads), 0.0, 0.0, 1.0)

    def freeze(self, *names: str) -> None:
        """Leave these parameters alone, see `Optimizer.freeze`; not while they look ahead."""
        self._refuse_ahead("freeze")
        super().freeze(*names)

    def unfreeze(self, *names: str) -> None:
        """Let these parameters take part again; not while the others look ahead."""
        self._refuse_ahead("unfreeze")
        super().unfreeze(*names)

    def _refuse_ahead(self, what: str) -> None:
        if self.extra.get("ahead"):
            raise ValueError(
                f"{type(self).__name__}.{what}: the parameters are where the momentum leads: take "
                "the step first"
            )

    def step(self, grads: Any = None) -> StepInfo:
        """Update all parameters in place, see `Optimizer.step`.

        Raises
        ------
        ValueError
            Also if nesterov is "lookahead" and the gradient was not taken there.
        """
        if not self.extra.get("ahead", True):
            raise ValueError(
                f"{type(self).__name__}.step: take the gradient inside `with opt.lookahead():`"
            )
        info = super().step(grads)
        if "ahead" in self.extra and not info.skipped:
            self.extra["ahead"] = False
        return info
