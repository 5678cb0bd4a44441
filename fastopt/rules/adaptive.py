"""Rules with a learning rate for each element, other than Adam: names, defaults, scalars."""

from __future__ import annotations

from math import sqrt
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np

from fastopt.rules.base import Common, Optimizer
from fastopt.rules.lookahead import LookAhead
from fastopt.rules.optimizers import momentum_scalars, refuse_momentum

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["FTRL", "Adadelta", "Adagrad", "DeltaBarDelta", "RMSprop", "Rprop"]


class Adagrad(Optimizer):
    r"""AdaGrad.

    Parameters
    ----------
    params
        See `Optimizer`.
    lr : float or schedule
        Learning rate, >= 0.
    lr_decay : float
        The rate is divided by 1 + (t - 1) * lr_decay, >= 0.
    weight_decay : float
        L2 penalty: the rule sees g + weight_decay * w.
    initial_accumulator_value : float
        What the sum of squares starts from, >= 0.
    eps : float
        Added outside the root, >= 0.
    eps_root : float
        Added inside the root, >= 0.
    maximize, threads, clip_norm
        See `Optimizer`.

    Notes
    -----
    :math:`s \leftarrow s + g^2,\; w \leftarrow w - \eta g / (\sqrt{s + \epsilon_r} + \epsilon)`
    (Duchi, Hazan and Singer, 2011). optax's and keras' form: ``eps=0, eps_root=1e-7,
    initial_accumulator_value=0.1``.

    Where the denominator is 0, which only eps = eps_root = 0 allows, there is no step.
    """

    rule = "adagrad"
    state_names = {"s": "sum"}

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-2,
        *,
        lr_decay: Any = 0.0,
        weight_decay: Any = 0.0,
        initial_accumulator_value: float = 0.0,
        eps: Any = 1e-10,
        eps_root: Any = 0.0,
        **common: Unpack[Common],
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "lr_decay": lr_decay,
                "weight_decay": weight_decay,
                "initial_accumulator_value": initial_accumulator_value,
                "eps": eps,
                "eps_root": eps_root,
            },
            **common,
        )

    def initial(self, h: dict[str, Any]) -> dict[str, float]:
        """Return what the sum of squares starts from."""
        return {"s": h["initial_accumulator_value"]}

    def scalars(self, h: dict[str, Any], t: int) -> dict[str, float]:
        """Return the decayed rate and the two eps."""
        return {
            "lr": h["lr"] / (1 + (t - 1) * h["lr_decay"]),
            "eps": h["eps"],
            "eps_root": h["eps_root"],
        }


class RMSprop(LookAhead, Optimizer):
    r"""RMSProp, plain or centered, with momentum and Nesterov momentum.

    Parameters
    ----------
    params
        See `Optimizer`.
    lr : float or schedule
        Learning rate, >= 0.
    alpha : float
        Decay :math:`\rho` of the averages, in [0, 1).
    eps : float
        Added outside the root, >= 0.
    eps_root : float
        Added inside the root, >= 0.
    weight_decay : float
        L2 penalty: the rule sees g + weight_decay * w.
    momentum : float
        :math:`\mu` in [0, 1]; 0 needs no buffer.
    centered : bool
        Divide by an estimate of the standard deviation instead; the same in all groups.
    nesterov : bool or "lookahead"
        Nesterov's momentum, rewritten so that the stored parameters are the look-ahead point, or
        as it was published, with the gradient taken in `lookahead`; then in the classic form.
    momentum_form : {"torch", "classic"}
        "torch" keeps lr outside the buffer, "classic" inside.
    maximize, threads, clip_norm
        See `Optimizer`.

    Notes
    -----
    :math:`s \leftarrow \rho s + (1 - \rho) g^2,\; x = g / (\sqrt{s + \epsilon_r} + \epsilon),\;
    w \leftarrow w - \eta x` (Tieleman and Hinton, 2012). The form of Goodfellow, Bengio and
    Courville's *Deep Learning*, Algorithm 8.5: ``eps=0, eps_root=1e-6``; its Algorithm 8.6 is
    ``nesterov="lookahead"`` with ``eps=eps_root=0``, where the book says nothing on division by 0.

    With momentum, x takes the place of the gradient in the formulas of `SGD`. Centered (Graves,
    2013), with :math:`a \leftarrow \rho a + (1 - \rho) g`, s under the root is
    :math:`\max(0, s - a^2)`. Where the denominator is 0, which only eps = eps_root = 0 allows,
    x is 0.
    """

    rule = "rmsprop"
    state_names = {"s": "square_avg", "v": "momentum_buffer", "a": "grad_avg"}

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-2,
        *,
        alpha: Any = 0.99,
        eps: Any = 1e-8,
        eps_root: Any = 0.0,
        weight_decay: Any = 0.0,
        momentum: Any = 0.0,
        centered: bool = False,
        nesterov: bool | str = False,
        momentum_form: str = "torch",
        **common: Unpack[Common],
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "alpha": alpha,
                "eps": eps,
                "eps_root": eps_root,
                "weight_decay": weight_decay,
                "momentum": momentum,
                "centered": centered,
                "nesterov": nesterov,
                "momentum_form": momentum_form,
            },
            **common,
        )
        self._start()

    def choose_rule(self) -> str:
        """Return the rule with the states that are needed, the same for all groups."""
        chosen = {group["centered"] for group in self.param_groups}
        if len(chosen) > 1:
            raise ValueError("RMSprop: centered must be the same in all groups")
        for group in self.param_groups:
            self.refuse_nesterov(group)
        momentum = any(group["momentum"] != 0 for group in self.param_groups)
        return "rmsprop" + "_centered" * chosen.pop() + "_momentum" * momentum

    def refuse_nesterov(self, h: dict[str, Any]) -> None:
        """Raise for a combination without a meaning."""
        if h["nesterov"] and h["momentum"] == 0:
            raise ValueError(f"RMSprop: nesterov={h['nesterov']!r} needs momentum > 0")

    def scalars(self, h: dict[str, Any], t: int) -> dict[str, float]:
        """Return the averages' two weights, the two eps, and the rate or momentum's numbers."""
        if h["centered"] != ("centered" in self.rule):
            raise ValueError(
                f"RMSprop: centered was {not h['centered']} when this optimizer was built, and "
                "its states are for that: build another one"
            )
        self.refuse_nesterov(h)
        rho = h["alpha"]
        made = {"rho": rho, "c": 1 - rho, "eps": h["eps"], "eps_root": h["eps_root"]}
        if not self.rule.endswith("momentum"):
            refuse_momentum("RMSprop", h["momentum"])
            return {**made, "lr": h["lr"]}
        buffer = momentum_scalars(h)
        return {**buffer, **made, "c_v": buffer["c"]}


class Adadelta(Optimizer):
    r"""AdaDelta.

    Parameters
    ----------
    params
        See `Optimizer`.
    lr : float or schedule
        Multiplies the step, >= 0; 1 in the paper.
    rho : float
        Decay :math:`\rho` of both averages, in [0, 1).
    eps : float
        :math:`\epsilon` > 0: without it no step is ever taken.
    weight_decay : float
        L2 penalty: the rule sees g + weight_decay * w.
    maximize, threads, clip_norm
        See `Optimizer`.

    Notes
    -----
    :math:`s \leftarrow \rho s + (1 - \rho) g^2,\;
    x = \sqrt{d + \epsilon} / \sqrt{s + \epsilon}\, g,\;
    d \leftarrow \rho d + (1 - \rho) x^2,\; w \leftarrow w - \eta x` (Zeiler, 2012). The paper takes
    rho = 0.95.
    """

    rule = "adadelta"
    state_names = {"s": "square_avg", "d": "acc_delta"}

    def __init__(
        self,
        params: Any,
        lr: Any = 1.0,
        *,
        rho: Any = 0.9,
        eps: Any = 1e-6,
        weight_decay: Any = 0.0,
        **common: Unpack[Common],
    ) -> None:
        values = {"lr": lr, "rho": rho, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, values, **common)

    def scalars(self, h: dict[str, Any], t: int) -> dict[str, float]:
        """Return the rate, the averages' weights and eps."""
        return {"lr": h["lr"], "rho": h["rho"], "c": 1 - h["rho"], "eps": h["eps"]}


class Rprop(Optimizer):
    r"""Resilient backpropagation, for full batches: only the signs of gradients count.

    Parameters
    ----------
    params
        See `Optimizer`.
    lr : float
        The first step length of every element, >= 0; later values have no effect.
    etas : pair of float
        What the length is multiplied by when the gradient's sign has changed, in (0, 1), and when
        it has not, > 1.
    step_sizes : pair of float
        The least and the largest length that these lead to.
    variant : {"iminus", "minus", "plus", "iplus"}
        What an element does in a step in which its sign has changed: stay where it is ("iminus",
        as torch), move ("minus"), take back its last step ("plus"), or take it back only if the
        loss has got worse ("iplus", which must be told the `loss` before every step).
    maximize, threads, clip_norm
        See `Optimizer`.

    Notes
    -----
    With p the gradient before, an element's length d is multiplied by one of the etas if neither
    g nor p is 0, and :math:`w \leftarrow w - \mathrm{sign}(g)\, d`. "minus" is Rprop-, "plus"
    Rprop+ (Riedmiller and Braun, 1993), "iminus" iRprop-, "iplus" iRprop+ (Igel and Huesken, 2003).
    In all but "minus", where the sign has changed, g counts as 0, in the next step too.

    Examples
    --------
    >>> import numpy as np, fastopt
    >>> w = np.array([1.0])
    >>> opt = fastopt.Rprop(w, lr=0.5, variant="iplus")
    >>> for _ in range(20):
    ...     opt.loss = float(w[0] ** 2)  # where the gradient is taken
    ...     info = opt.step(2 * w)
    >>> bool(abs(w[0]) < 0.01)
    True
    """

    rule = "rprop"
    state_names = {"p": "prev", "d": "step_size"}

    def __init__(
        self,
        params: Any,
        lr: float = 1e-2,
        *,
        etas: Any = (0.5, 1.2),
        step_sizes: Any = (1e-6, 50.0),
        variant: str = "iminus",
        **common: Unpack[Common],
    ) -> None:
        values = {"lr": lr, "etas": etas, "step_sizes": step_sizes, "variant": variant}
        super().__init__(params, values, **common)
        # The loss last set, the step that it is for, and the loss of the step before that.
        self.extra: dict[str, Any] = {"loss": None, "loss_t": 0, "loss_before": None}

    @property
    def loss(self) -> float | None:
        """The loss at the parameters as they are, for "iplus"; None until set for this step."""
        return self.extra["loss"] if self.extra["loss_t"] == self.t + 1 else None

    @loss.setter
    def loss(self, value: float) -> None:
        if not isinstance(value, Real) or isinstance(value, bool) or value != value:
            raise ValueError(f"Rprop: loss must be a number, got {value!r}")
        extra, t = self.extra, self.t + 1
        if extra["loss_t"] != t:
            extra["loss_before"] = extra["loss"] if extra["loss_t"] == t - 1 else None
        extra["loss"], extra["loss_t"] = float(value), t

    def choose_rule(self) -> str:
        """Return the rule that can take steps back if a group's variant does."""
        undo = any(group["variant"] in ("plus", "iplus") for group in self.param_groups)
        return "rprop_undo" if undo else "rprop"

    def initial(self, h: dict[str, Any]) -> dict[str, float]:
        """Return the first step length."""
        return {"d": h["lr"]}

    def scalars(self, h: dict[str, Any], t: int) -> dict[str, float]:
        """Return the factors, the limits and the variant."""
        down, up = h["etas"]
        least, most = h["step_sizes"]
        variant = h["variant"]
        undo = variant == "plus"
        if variant in ("plus", "iplus") and self.rule != "rprop_undo":
            raise ValueError(
                f"Rprop: variant is {variant!r} in this step, but was one that takes no step back "
                "when this optimizer was built: build another one"
            )
        if variant == "iplus":
            if self.extra["loss_t"] != t:
                raise ValueError(
                    "Rprop: loss is missing: with variant='iplus', set opt.loss to the loss "
                    "before every step"
                )
            now, before = self.extra["loss"], self.extra["loss_before"]
            undo = before is not None and (now < before if h["maximize"] else now > before)
        return {
            "up": up,
            "down": down,
            "least": least,
            "most": most,
            "forget": float(variant != "minus"),
            "undo": float(undo),
        }


class DeltaBarDelta(Optimizer):
    r"""Delta-bar-delta, for full batches: every element has a learning rate that adapts.

    Parameters
    ----------
    params
        See `Optimizer`.
    lr : float
        The first rate of every element, >= 0; later values have no effect.
    kappa : float
        Added to a rate when gradient and average agree in sign, >= 0.
    phi : float
        The part of a rate that is taken away when they do not, in [0, 1].
    theta : float
        Decay :math:`\theta` of the average of gradients, in [0, 1).
    weight_decay : float
        L2 penalty: the rule sees g + weight_decay * w.
    maximize, threads, clip_norm
        See `Optimizer`.

    Notes
    -----
    With a the average *before* this gradient, an element's rate is :math:`r \leftarrow r + \kappa`
    where :math:`a g > 0`, :math:`r \leftarrow (1 - \varphi) r` where :math:`a g < 0`; then
    :math:`w \leftarrow w - r g,\; a \leftarrow \theta a + (1 - \theta) g` (Jacobs, 1988).
    """

    rule = "delta_bar_delta"
    state_names = {"a": "grad_avg", "r": "rate"}

    def __init__(
        self,
        params: Any,
        lr: float = 1e-2,
        *,
        kappa: Any = 1e-3,
        phi: Any = 0.1,
        theta: Any = 0.7,
        weight_decay: Any = 0.0,
        **common: Unpack[Common],
    ) -> None:
        values = {"lr": lr, "kappa": kappa, "phi": phi, "theta": theta}
        super().__init__(params, {**values, "weight_decay": weight_decay}, **common)

    def initial(self, h: dict[str, Any]) -> dict[str, float]:
        """Return the first rate."""
        return {"r": h["lr"]}

    def scalars(self, h: dict[str, Any], t: int) -> dict[str, float]:
        """Return how rates grow and shrink, and the average's weights."""
        theta = h["theta"]
        return {"kappa": h["kappa"], "down": 1 - h["phi"], "theta": theta, "c": 1 - theta}


class FTRL(Optimizer):
    r"""FTRL-proximal: follow the regularized leader, with exact zeros from an L1 penalty.

    Parameters
    ----------
    params
        See `Optimizer`.
    lr : float
        :math:`\alpha` > 0; the sums are for one value, so let it be constant.
    beta : float
        :math:`\beta` >= 0: rates are at most alpha / beta.
    l1, l2 : float
        The penalties :math:`\lambda_1, \lambda_2` >= 0; let them be constant.
    initial_accumulator_value : float
        What the sum of squares starts from, >= 0.
    maximize, threads, clip_norm
        See `Optimizer`.

    Notes
    -----
    :math:`\sigma = (\sqrt{n + g^2} - \sqrt{n}) / \alpha,\; z \leftarrow z + g - \sigma w,\;
    n \leftarrow n + g^2`; then w is 0 where :math:`|z| \le \lambda_1`, elsewhere :math:`-(z -
    \mathrm{sign}(z) \lambda_1) / ((\beta + \sqrt{n}) / \alpha + \lambda_2)` (McMahan et al., 2013,
    Algorithm 1). The paper starts from w = 0; here z starts so that a w that is not 0 is kept, to
    rounding, which takes :math:`\beta`, the first n or :math:`\lambda_2` to be > 0. Without
    penalties this is then `Adagrad` with eps = beta, to rounding.

    Examples
    --------
    >>> import numpy as np, fastopt
    >>> w = np.array([0.5, 0.0])
    >>> opt = fastopt.FTRL(w, lr=0.1, l1=1.0)
    >>> info = opt.step(np.array([0.25, 0.5]))
    >>> w.round(4)
    array([0.48, 0.  ])
    """

    rule = "ftrl"
    state_names = {"z": "z", "s": "sum"}

    def __init__(
        self,
        params: Any,
        lr: float = 0.1,
        *,
        beta: float = 1.0,
        l1: float = 0.0,
        l2: float = 0.0,
        initial_accumulator_value: float = 0.0,
        **common: Unpack[Common],
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "beta": beta,
                "l1": l1,
                "l2": l2,
                "initial_accumulator_value": initial_accumulator_value,
            },
            **common,
        )

    def initial(self, h: dict[str, Any]) -> dict[str, Any]:
        """Return the z that belongs to the parameters, and what the sum of squares starts from."""
        first = h["initial_accumulator_value"]
        slope = (h["beta"] + sqrt(first)) / self.rate(h) + h["l2"]
        return {"z": lambda w: -(slope * w + h["l1"] * np.sign(w)), "s": first}

    def rate(self, h: dict[str, Any]) -> float:
        """Return lr, which is divided by."""
        if h["lr"] == 0:
            raise ValueError("FTRL: lr must be > 0, got 0")
        return h["lr"]

    def scalars(self, h: dict[str, Any], t: int) -> dict[str, float]:
        """Return the rate's two numbers and the penalties."""
        return {"lr": self.rate(h), "b": h["beta"], "k1": h["l1"], "k2": h["l2"]}
