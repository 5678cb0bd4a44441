"""SGD, momentum and signs: names, defaults, and the scalars of each step, in double."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastopt.checks import count
from fastopt.rules.base import Common, Optimizer
from fastopt.rules.lookahead import LookAhead

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["ASGD", "SGD", "Lion", "SignSGD"]


def momentum_scalars(h: dict[str, Any], c: float = 1.0) -> dict[str, float]:
    """Return the four numbers that make the momentum rule each of its forms.

    `c` is the weight with which what is accumulated enters the buffer.
    """
    lr, mu = h["lr"], h["momentum"]
    if h["nesterov"] == "lookahead":  # w is w + mu v already
        return {"mu": mu, "c": -lr, "lr_v": 0.0, "lr_g": lr}
    if h["momentum_form"] == "torch":
        if h["nesterov"]:
            return {"mu": mu, "c": c, "lr_v": lr * mu, "lr_g": lr}
        return {"mu": mu, "c": c, "lr_v": lr, "lr_g": 0.0}
    if h["nesterov"]:
        return {"mu": mu, "c": -lr * c, "lr_v": -mu, "lr_g": lr}
    return {"mu": mu, "c": -lr * c, "lr_v": -1.0, "lr_g": 0.0}


def refuse_momentum(owner: str, mu: float) -> None:
    """Raise if there is momentum in a step of an optimizer without a buffer."""
    if mu != 0:
        raise ValueError(
            f"{owner}: momentum was 0 when this optimizer was built, so it has no buffer: "
            f"build one with momentum={mu!r}"
        )


class SGD(LookAhead, Optimizer):
    r"""Stochastic gradient descent, with momentum and Nesterov momentum.

    Full-batch, mini-batch and stochastic descent differ only in the gradient that is passed in.

    Parameters
    ----------
    params
        See `Optimizer`.
    lr : float or schedule
        Learning rate, >= 0; required.
    momentum : float
        :math:`\mu` in [0, 1]; 0 needs no state.
    dampening : float
        In [0, 1]: the gradient enters the buffer times 1 - dampening, except in the first step.
    nesterov : bool or "lookahead"
        Nesterov's momentum, rewritten so that the stored parameters are the look-ahead point, or
        as it was published, with the gradient taken in `lookahead`; then in the classic form.
    weight_decay : float
        L2 penalty: the rule sees g + weight_decay * w.
    momentum_form : {"torch", "classic"}
        "torch" keeps lr outside the buffer, "classic" inside.
    maximize, threads, clip_norm
        See `Optimizer`.

    Notes
    -----
    Without momentum :math:`w \leftarrow w - \eta g`. With it, in torch's form
    :math:`v \leftarrow \mu v + (1 - d) g,\; w \leftarrow w - \eta v`, Nesterov
    :math:`w \leftarrow w - \eta (g + \mu v)`; in the classic form (Polyak, 1964)
    :math:`v \leftarrow \mu v - \eta g,\; w \leftarrow w + v`, Nesterov
    :math:`w \leftarrow w + \mu v - \eta g` (Bengio, Boulanger-Lewandowski and Pascanu, 2012).

    Examples
    --------
    >>> import numpy as np, fastopt
    >>> w = np.array([1.0, 2.0])
    >>> opt = fastopt.SGD(w, lr=0.1)
    >>> opt.step(np.array([1.0, -1.0])).t
    1
    >>> w
    array([0.9, 2.1])
    """

    rule = "momentum"
    state_names = {"v": "momentum_buffer"}
    state_kinds = {"v": "signed"}

    def __init__(
        self,
        params: Any,
        lr: Any = None,
        *,
        momentum: Any = 0.0,
        dampening: Any = 0.0,
        nesterov: bool | str = False,
        weight_decay: Any = 0.0,
        momentum_form: str = "torch",
        **common: Unpack[Common],
    ) -> None:
        if lr is None and common.keys() <= Common.__annotations__.keys():
            raise TypeError("SGD: lr is required: pass a learning rate or a schedule")
        super().__init__(
            params,
            {
                "lr": lr,
                "momentum": momentum,
                "dampening": dampening,
                "nesterov": nesterov,
                "weight_decay": weight_decay,
                "momentum_form": momentum_form,
            },
            **common,
        )
        self._start()

    def choose_rule(self) -> str:
        """Return "sgd", which has no state, if no group has momentum."""
        for group in self.param_groups:
            if group["nesterov"] and (group["momentum"] == 0 or group["dampening"] != 0):
                self.refuse_nesterov(group)
        return "momentum" if any(group["momentum"] != 0 for group in self.param_groups) else "sgd"

    def refuse_nesterov(self, h: dict[str, Any]) -> None:
        """Raise for a combination without a meaning."""
        raise ValueError(
            f"SGD: nesterov={h['nesterov']!r} needs momentum > 0 and dampening = 0, got "
            f"momentum={h['momentum']!r}, dampening={h['dampening']!r}"
        )

    def scalars(self, h: dict[str, Any], t: int) -> dict[str, float]:
        """Return lr, or the four numbers that make the momentum rule each of its forms."""
        mu = h["momentum"]
        if self.rule == "sgd":
            refuse_momentum("SGD", mu)
            return {"lr": h["lr"]}
        if h["nesterov"] and (mu == 0 or h["dampening"] != 0):
            self.refuse_nesterov(h)
        plain = t == 1 or mu == 0  # dampening is for a buffer
        return momentum_scalars(h, 1.0 if plain else 1.0 - h["dampening"])


@dataclass(frozen=True)
class _mean:
    """What an average of the points after step t0 keeps of itself in step t = 0, 1, ..."""

    t0: int

    def __call__(self, t: int) -> float:
        return 1 - 1 / max(1, t + 1 - self.t0)


class ASGD(Optimizer):
    r"""Averaged SGD: gradient descent that keeps the mean of its points.

    The mean is in the state "ema" of each parameter; `averaged` puts it into the parameters.

    Parameters
    ----------
    params
        See `Optimizer`.
    lr : float or schedule
        Learning rate, >= 0; required.
    t0 : int
        The mean is over the points after step t0, >= 0.
    weight_decay : float
        L2 penalty: the rule sees g + weight_decay * w.
    maximize, threads, clip_norm
        See `Optimizer`; not ema, whose place the mean takes.

    Notes
    -----
    :math:`w \leftarrow w - \eta g,\; a \leftarrow a + (w - a) / \max(1, t - t_0)` (Polyak and
    Juditsky, 1992). torch's ASGD begins one step later, has t0 = 10^6 and a schedule of its own;
    any schedule may be passed as lr here.

    Examples
    --------
    >>> import numpy as np, fastopt
    >>> w = np.array([0.0])
    >>> opt = fastopt.ASGD(w, lr=1.0)
    >>> for g in -1.0, -2.0:
    ...     info = opt.step(np.array([g]))
    >>> w, opt.state["0"]["ema"]  # the mean of 1 and 3
    (array([3.]), array([2.]))
    """

    rule = "sgd"

    def __init__(
        self,
        params: Any,
        lr: Any = None,
        *,
        t0: int = 0,
        weight_decay: Any = 0.0,
        **common: Unpack[Common],
    ) -> None:
        if lr is None:
            raise TypeError("ASGD: lr is required: pass a learning rate or a schedule")
        if common.get("ema") is not None:
            raise TypeError("ASGD: its mean takes the place of ema: use SGD with ema")
        mean = _mean(count("t0", t0, 0))
        super().__init__(
            params, {"lr": lr, "weight_decay": weight_decay}, **{**common, "ema": mean}
        )

    def scalars(self, h: dict[str, Any], t: int) -> dict[str, float]:
        """Return the rate."""
        return {"lr": h["lr"]}


class SignSGD(Optimizer):
    r"""Sign descent: each element moves by the same distance; with momentum, Signum.

    Parameters
    ----------
    params
        See `Optimizer`.
    lr : float or schedule
        The distance, >= 0.
    momentum : float
        Decay :math:`\mu` of the average of gradients, in [0, 1]; 0 needs no state.
    eps : float
        Softens the sign to :math:`x / (|x| + \epsilon)`, >= 0.
    weight_decay : float
        L2 penalty: the rule sees g + weight_decay * w.
    maximize, threads, clip_norm
        See `Optimizer`.

    Notes
    -----
    signSGD is :math:`w \leftarrow w - \eta\, \mathrm{sign}(g)`, Signum :math:`m \leftarrow \mu m
    + (1 - \mu) g,\; w \leftarrow w - \eta\, \mathrm{sign}(m)` (Bernstein et al., 2018);
    sign(0) = 0. With eps > 0 it is the step of a fixed distance, :math:`w \leftarrow w - \eta g /
    (|g| + \epsilon)`, or m in place of g, which fades out where :math:`|g|` is below eps.

    Examples
    --------
    >>> import numpy as np, fastopt
    >>> w = np.zeros(3)
    >>> info = fastopt.SignSGD(w, lr=0.25).step(np.array([3.0, -1e-5, 0.0]))
    >>> w
    array([-0.25,  0.25,  0.  ])
    """

    rule = "signsgd"
    state_names = {"m": "momentum_buffer"}

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-4,
        *,
        momentum: Any = 0.0,
        eps: Any = 0.0,
        weight_decay: Any = 0.0,
        **common: Unpack[Common],
    ) -> None:
        values = {"lr": lr, "momentum": momentum, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, values, **common)

    def choose_rule(self) -> str:
        """Return the rule with a state if a group has momentum, with eps if a group has one."""
        momentum = any(group["momentum"] != 0 for group in self.param_groups)
        eps = any(group["eps"] != 0 for group in self.param_groups)
        return ("signum" if momentum else "signsgd") + ("_eps" if eps else "")

    def scalars(self, h: dict[str, Any], t: int) -> dict[str, float]:
        """Return the distance, and what the rule has of the average's weights and eps."""
        mu, eps = h["momentum"], h["eps"]
        if self.rule.startswith("signsgd"):
            refuse_momentum("SignSGD", mu)
        if eps != 0 and not self.rule.endswith("_eps"):
            raise ValueError(
                "SignSGD: eps was 0 when this optimizer was built, which chose the plain sign: "
                f"build one with eps={eps!r}"
            )
        return {"lr": h["lr"], "b": mu, "c": 1 - mu, "eps": eps}


class Lion(Optimizer):
    r"""Lion: the sign of a momentum, with decoupled weight decay.

    Parameters
    ----------
    params
        See `Optimizer`.
    lr : float or schedule
        Learning rate, >= 0.
    betas : pair of float
        Weights of the momentum in the step and in its own average, each in [0, 1).
    weight_decay : float
        :math:`\lambda` >= 0.
    maximize, threads, clip_norm
        See `Optimizer`.

    Notes
    -----
    :math:`w \leftarrow w - \eta (\mathrm{sign}(\beta_1 m + (1 - \beta_1) g) + \lambda w),\;
    m \leftarrow \beta_2 m + (1 - \beta_2) g` (Chen et al., 2023, Algorithm 2); sign(0) = 0.
    """

    rule = "lion"
    state_names = {"m": "exp_avg"}
    state_kinds = {"m": "signed"}
    decoupled = True

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-4,
        *,
        betas: Any = (0.9, 0.99),
        weight_decay: Any = 0.0,
        **common: Unpack[Common],
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay}, **common)

    def scalars(self, h: dict[str, Any], t: int) -> dict[str, float]:
        """Return the rate and the weights of both averages."""
        b1, b2 = h["betas"]
        return {"lr": h["lr"], "b1": b1, "c1": 1 - b1, "b2": b2, "c2": 1 - b2}
