"""Rules with a rate for each parameter array: names, defaults, scalars and factors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastopt._core import Plan, bias_correction
from fastopt.rules.base import Common, Optimizer
from fastopt.rules.optimizers import momentum_scalars

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["LAMB", "LARS"]


class LARS(Optimizer):
    r"""Layer-wise adaptive rate scaling: momentum, with a rate for each parameter array.

    Parameters
    ----------
    params
        See `Optimizer`.
    lr : float or schedule
        Learning rate, >= 0; required.
    momentum : float
        :math:`\mu` in [0, 1].
    trust_coefficient : float
        :math:`\eta` > 0.
    eps : float
        Added to the denominator, >= 0.
    weight_decay : float
        :math:`\lambda` >= 0.
    nesterov : bool
        Nesterov's momentum, rewritten.
    exclude_vectors : bool
        Take scalars and vectors (biases, norms) with the plain rate and without decay.
    maximize, threads, clip_norm
        See `Optimizer`; clip_per must be "all", clip_value None, and l1 0 unless proximal.

    Notes
    -----
    For each array, with 2-norms over it, :math:`\rho = \eta \|w\| / (\|g\| + \lambda \|w\|
    + \epsilon),\; v \leftarrow \mu v + \alpha \rho (g + \lambda w),\; w \leftarrow w - v`
    (You, Gitman and Ginsburg, 2017), :math:`\alpha` being lr; :math:`\rho = 1` where one of the
    norms is 0.

    Examples
    --------
    >>> import numpy as np, fastopt
    >>> w = np.full((2, 2), 2.0)
    >>> opt = fastopt.LARS(w, lr=1.0, momentum=0.0, trust_coefficient=0.1)
    >>> info = opt.step(np.full((2, 2), 100.0))
    >>> w  # a tenth of the norm, whatever the gradient's is
    array([[1.8, 1.8],
           [1.8, 1.8]])
    """

    by_rows = False
    rule = "momentum"
    state_names = {"v": "momentum_buffer"}
    state_kinds = {"v": "signed"}
    layerwise = True

    def __init__(
        self,
        params: Any,
        lr: Any = None,
        *,
        momentum: Any = 0.9,
        trust_coefficient: Any = 1e-3,
        eps: Any = 0.0,
        weight_decay: Any = 0.0,
        nesterov: bool = False,
        exclude_vectors: bool = True,
        **common: Unpack[Common],
    ) -> None:
        if lr is None:
            raise TypeError("LARS: lr is required: pass a learning rate or a schedule")
        if common.get("clip_per", "all") != "all":
            raise ValueError("LARS: clip_per must be 'all': the rates of arrays follow their norms")
        values = {
            "lr": lr,
            "momentum": momentum,
            "trust_coefficient": trust_coefficient,
            "eps": eps,
            "weight_decay": weight_decay,
            "nesterov": nesterov,
            "exclude_vectors": exclude_vectors,
        }
        super().__init__(params, values, **common)

    def scalars(self, h: dict[str, Any], t: int) -> dict[str, float]:
        """Return momentum's numbers, lr being inside the buffer."""
        if h["nesterov"] == "lookahead":
            raise ValueError("LARS: nesterov must be True or False, got 'lookahead'")
        if self._clip_value is not None or (h["l1"] != 0 and not h["proximal"]):
            raise ValueError(
                "LARS: clip_value must be None, and l1 0 unless proximal: the rates of arrays "
                "follow the norms of gradients without them"
            )
        return momentum_scalars({**h, "momentum_form": "classic"})

    def trust(self, plan: Plan, threads: int, scale: float) -> None:
        """Set the factor of each array."""
        k = -1
        for group in self.param_groups:
            h = group.at(self.t)
            decay = 0.0 if h["proximal"] else h["weight_decay"]
            for name, array in group["params"].items():
                k += 1
                if name in self._frozen:
                    continue
                if h["exclude_vectors"] and array.ndim < 2:
                    plan.set_gain(k, 1.0, 0.0)
                    continue
                size, slope = plan.norm(threads, k, True), scale * plan.norm(threads, k)
                below = slope + decay * size + h["eps"]
                ratio = h["trust_coefficient"] * size / below if size != 0 != slope else 1.0
                plan.set_gain(k, ratio, ratio)


class LAMB(Optimizer):
    r"""Layer-wise adaptive moments: Adam's direction, with a rate for each parameter array.

    Parameters
    ----------
    params
        See `Optimizer`.
    lr : float or schedule
        Learning rate, >= 0.
    betas : pair of float
        Decay of the averages of gradients and of their squares, each in [0, 1).
    eps : float
        Added outside the root, >= 0.
    weight_decay : float
        :math:`\lambda` >= 0.
    bias_correction : bool
        Correct m and v for their start from 0.
    max_trust : float, optional
        Bound of :math:`\|w\|` in the ratio, such as 10.
    maximize, threads, clip_norm
        See `Optimizer`.

    Notes
    -----
    With m, v of `Adam` and 2-norms over each array, :math:`r = \hat m / (\sqrt{\hat v} + \epsilon)
    + \lambda w,\; w \leftarrow w - \eta \|w\| / \|r\|\, r` (You et al., 2020, Algorithm 2); the
    ratio is 1 where one of the norms is 0. Two passes: the averages, then, with the norms, the
    step.
    """

    by_rows = False
    rule = "lamb"
    state_names = {"m": "exp_avg", "v": "exp_avg_sq"}
    decoupled = True

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        *,
        betas: Any = (0.9, 0.999),
        eps: Any = 1e-6,
        weight_decay: Any = 0.0,
        bias_correction: bool = True,
        max_trust: float | None = None,
        **common: Unpack[Common],
    ) -> None:
        values = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "bias_correction": bias_correction,
            "max_trust": max_trust,
        }
        super().__init__(params, values, **common)

    def decay(self, h: dict[str, Any]) -> float:
        """Return 0: the decay is in the direction."""
        return 0.0

    def _prepare(self, t: int) -> None:
        super()._prepare(t)
        self._plan.direct("lamb_moments")

    def scalars(self, h: dict[str, Any], t: int) -> dict[str, float]:
        """Return the averages' weights and corrections, eps and the decay."""
        b1, b2 = h["betas"]
        corrected = h["bias_correction"]
        return {
            "lr": h["lr"],
            "b1": b1,
            "c1": 1 - b1,
            "b2": b2,
            "c2": 1 - b2,
            "a_m": 1 / bias_correction(b1, t) if corrected else 1.0,
            "a": 1 / bias_correction(b2, t) if corrected else 1.0,
            "eps": h["eps"],
            "wd": 0.0 if h["proximal"] else h["weight_decay"],
            "most": 3e38 if h["max_trust"] is None else h["max_trust"],  # float32 holds it
        }
