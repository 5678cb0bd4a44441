"""Adafactor: second moments of whole rows and columns, in place of one for each element."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from typing import TYPE_CHECKING, Any

import numpy as np

from fastopt.rules import precision
from fastopt.rules.base import Common, Optimizer
from fastopt.rules.groups import Group
from fastopt.rules.optimizers import refuse_momentum
from fastopt.rules.parameters import aligned_full, transposed

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["Adafactor"]


class Adafactor(Optimizer):
    r"""Adafactor: Adam's second moments in next to no memory, and steps that scale with w.

    The states of an array with two or more axes are one float64 number for each row and each
    column of its matrices, the last two axes; those of a vector or scalar are as large as it is.

    Parameters
    ----------
    params
        See `Optimizer`.
    lr : float or schedule
        The largest relative step, >= 0; also the rate of weight_decay.
    beta2_decay : float
        :math:`\tau` <= 0.
    eps1 : float or None
        :math:`\epsilon_1` >= 0; None for the machine epsilon of float32 or float64, in which the
        step is computed.
    eps2 : float
        :math:`\epsilon_2` >= 0.
    d : float or None
        Bound of the direction's root mean square, > 0; None for none.
    momentum : float
        :math:`\beta_1` in [0, 1], decay of an average of the steps, which is as large as w;
        0 for none.
    weight_decay : float
        :math:`\lambda` >= 0, decoupled: w loses lr * weight_decay * w before the step.
    relative_step : bool
        The relative step is min(lr, 1 / sqrt(t)), else lr.
    scale_parameter : bool
        The step is the relative one times RMS(w), else lr is the step.
    eps1_form : {"added", "floor"}
        Add eps1 to the squares, or let it be the least that is divided by, as torch does.
    min_dim_size_to_factor : int
        Arrays with fewer rows or fewer columns keep a second moment for each element; a constant,
        the same in all groups.
    decay : {"lr", "independent"}
        "independent" takes weight_decay * w, without lr.
    decay_first : bool
        RMS(w) is that after the decay, as in keras.
    maximize, threads, clip_norm
        See `Optimizer`.

    Raises
    ------
    ValueError
        If groups differ in min_dim_size_to_factor, or it changes so that other states are needed.

    Notes
    -----
    For a matrix, with :math:`\beta_{2,t} = 1 - t^\tau` and RMS, the root mean square of all
    elements: :math:`\rho_t = \min(\eta, 1 / \sqrt t),\; \alpha_t = \max(\epsilon_2,
    \mathrm{RMS}(w)) \rho_t,\; R \leftarrow \beta_{2,t} R + (1 - \beta_{2,t}) (g^2 + \epsilon_1) 1,
    \; C \leftarrow \beta_{2,t} C + (1 - \beta_{2,t}) 1^\top (g^2 + \epsilon_1),\; V = R C /
    (1^\top R),\; U = g / \sqrt V,\; w \leftarrow w - \alpha_t U / \max(1, \mathrm{RMS}(U) / d)`
    (Shazeer and Stern, 2018, Algorithm 4; for a vector :math:`V \leftarrow \beta_{2,t} V + (1 -
    \beta_{2,t}) (g^2 + \epsilon_1)`, Algorithm 5; the defaults are Algorithm 6). The states
    "row_var" and "col_var" are means where the paper has sums, which is the same V. Momentum:
    :math:`m \leftarrow \beta_1 m + (1 - \beta_1) \alpha_t U',\; w \leftarrow w - m`, U' being the
    bounded U. With eps1_form="floor", :math:`V = R C / \max(\mathrm{mean}(R), \epsilon_1)` and
    :math:`U = g / \sqrt{\max(V, \epsilon_1^2)}`.

    Three passes read the gradient: for the means, for RMS(U), and for the step.

    Examples
    --------
    >>> import numpy as np, fastopt
    >>> w = np.full((2, 3), 2.0)
    >>> opt = fastopt.Adafactor({"w": w}, lr=0.1)
    >>> info = opt.step({"w": np.full((2, 3), 100.0)})
    >>> w  # a tenth of its size, whatever the gradient's is
    array([[1.8, 1.8, 1.8],
           [1.8, 1.8, 1.8]])
    >>> opt.state["w"]["row_var"].shape, opt.state["w"]["col_var"].shape
    ((2, 1), (1, 3))
    """

    by_rows = False
    rule = "adafactor"
    state_names = {"m": "exp_avg"}
    state_kinds = {"m": "signed"}
    decoupled = True

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-2,
        *,
        beta2_decay: Any = -0.8,
        eps1: Any = 1e-30,
        eps2: Any = 1e-3,
        d: Any = 1.0,
        momentum: Any = 0.0,
        weight_decay: Any = 0.0,
        relative_step: bool = True,
        scale_parameter: bool = True,
        eps1_form: str = "added",
        min_dim_size_to_factor: int = 0,
        decay: str = "lr",
        decay_first: bool = False,
        **common: Unpack[Common],
    ) -> None:
        values = {
            "lr": lr,
            "beta2_decay": beta2_decay,
            "eps1": eps1,
            "eps2": eps2,
            "d": d,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "relative_step": relative_step,
            "scale_parameter": scale_parameter,
            "eps1_form": eps1_form,
            "min_dim_size_to_factor": min_dim_size_to_factor,
            "decay": decay,
            "decay_first": decay_first,
        }
        super().__init__(params, values, **common)

    def choose_rule(self) -> str:
        """Return the rule, with an average of steps if any group has momentum."""
        least = [group["min_dim_size_to_factor"] for group in self.param_groups]
        if any(map(callable, least)):
            raise ValueError("Adafactor: min_dim_size_to_factor must be constant")
        if len(set(least)) > 1:
            raise ValueError("Adafactor: min_dim_size_to_factor must be the same in all groups")
        self._least_size = least[0]
        momentum = any(group["momentum"] != 0 for group in self.param_groups)
        return "adafactor_momentum" if momentum else "adafactor"

    def may_turn(self, array: np.ndarray) -> bool:
        """Return whether the last two axes stay the last two when axes are reversed."""
        return array.ndim <= 2

    def _make_state(self, groups: Sequence[Group]) -> None:
        super()._make_state(groups)
        for group in groups:
            for name, array in group["params"].items():
                state, shape = self._state[name], array.shape
                if is_factored(array, self._least_size):
                    state["row_var"] = zeros((*shape[:-1], 1))
                    state["col_var"] = zeros((*shape[:-2], 1, shape[-1]))
                else:
                    state["variance"] = precision.like(array, precision.working_dtype(array))
                if transposed(array) and not self.may_turn(array):
                    for key, values in state.items():
                        state[key] = zeros(values.shape, values.dtype)
                        state[key][...] = values

    def _prepare(self, t: int) -> None:
        super()._prepare(t)
        moments: list[Any] = []
        for k, name in enumerate(self._order):
            state = self._state[name]
            turned = k in self._transposed  # then its rows are columns
            if "variance" in state:
                moments.append(state["variance"].T if turned else state["variance"])
            else:
                pair = state["row_var"], state["col_var"]
                moments.append(pair[::-1] if turned else pair)
        self._plan.factor(moments)

    def decay(self, h: dict[str, Any]) -> float:
        """Return lr * weight_decay, or weight_decay alone."""
        return h["weight_decay"] * (h["lr"] if h["decay"] == "lr" else 1.0)

    def scalars(self, h: dict[str, Any], t: int) -> dict[str, float]:
        """Return the relative step and the numbers that the direction is made with."""
        if h["min_dim_size_to_factor"] != self._least_size:
            self._refuse_other_states(h["min_dim_size_to_factor"])
        rho = min(h["lr"], 1 / sqrt(t)) if h["relative_step"] else h["lr"]
        eps1 = -1.0 if h["eps1"] is None else h["eps1"]
        added = h["eps1_form"] == "added"
        numbers = {
            "weight": float(t) ** h["beta2_decay"],
            "eps1": eps1 if added else 0.0,
            "eps1_least": 0.0 if added else eps1,
            "eps2": h["eps2"] if h["scale_parameter"] else -1.0,
            "d": h["d"] or 0.0,
            "late": float(h["decay_first"]),
        }
        if self.rule == "adafactor":
            refuse_momentum("Adafactor", h["momentum"])
            return {"lr": rho, **numbers}
        return {"b": h["momentum"], "c": (1 - h["momentum"]) * rho, **numbers}

    def _refuse_other_states(self, least: Any) -> None:
        for name, array in self._arrays.items():
            if is_factored(array, least) != ("row_var" in self._state[name]):
                raise ValueError(
                    f"Adafactor: min_dim_size_to_factor={least!r} needs other states for {name!r}: "
                    "make a new optimizer"
                )


def is_factored(array: np.ndarray, least: float) -> bool:
    """Return whether `array` has rows and columns, and `least` or more of each."""
    return array.ndim >= 2 and min(array.shape[-2:]) >= least


def zeros(shape: tuple[int, ...], dtype: Any = np.float64) -> np.ndarray:
    """Return zeros in C order, on a cache line."""
    return aligned_full(np.broadcast_to(np.zeros((), dtype), shape), 0.0)
