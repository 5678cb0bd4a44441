"""Adam and its relatives: names, defaults, and the scalars of each step, in double."""

from __future__ import annotations

from functools import lru_cache
from math import prod, sqrt
from typing import TYPE_CHECKING, Any

from fastopt._core import bias_correction
from fastopt.rules.base import Common, Optimizer

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["AdaBelief", "Adam", "AdamW", "Adamax", "NAdam", "RAdam"]


class Adam(Optimizer):
    r"""Adam.

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
    eps_root : float
        Added inside the root, >= 0.
    weight_decay : float
        L2 penalty: the rule sees g + weight_decay * w. For decoupled decay use `AdamW`.
    amsgrad : bool or "corrected"
        Divide by the root of the largest v so far instead (Reddi, Kale and Kumar, 2018), which is
        then corrected for bias, as in torch; "corrected", as in optax: the largest corrected v.
    bias_correction : bool
        Without it, m and v stand for their corrected values; with amsgrad, that is Algorithm 2
        of the paper.
    eps_hat : bool
        Add eps to the root of v before its correction, as at the end of section 2 of the paper
        and in keras: :math:`\eta \sqrt{1 - \beta_2^t} / (1 - \beta_1^t)\; m / (\sqrt{v +
        \epsilon_r} + \epsilon)`.
    maximize, threads, clip_norm
        See `Optimizer`.

    Notes
    -----
    :math:`m \leftarrow \beta_1 m + (1 - \beta_1) g,\;
    v \leftarrow \beta_2 v + (1 - \beta_2) g^2,\;
    w \leftarrow w - \eta \hat m / (\sqrt{\hat v + \epsilon_r} + \epsilon)` with
    :math:`\hat m = m / (1 - \beta_1^t),\; \hat v = v / (1 - \beta_2^t)`
    (Kingma and Ba, 2015, Algorithm 1). Where the denominator is 0, which only eps = eps_root = 0
    allows, there is no step; the same holds in Adam's relatives.

    Examples
    --------
    >>> import numpy as np, fastopt
    >>> w = np.zeros(3, np.float32)
    >>> opt = fastopt.Adam({"w": w}, lr=0.1)
    >>> info = opt.step({"w": np.array([1, -2, 3], np.float32)})
    >>> w.round(4)
    array([-0.1,  0.1, -0.1], dtype=float32)
    """

    rule = "adam"
    state_names = {"m": "exp_avg", "v": "exp_avg_sq", "x": "max_exp_avg_sq"}
    state_kinds = {"m": "signed", "v": "unsigned"}

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        *,
        betas: Any = (0.9, 0.999),
        eps: Any = 1e-8,
        eps_root: Any = 0.0,
        weight_decay: Any = 0.0,
        amsgrad: bool | str = False,
        bias_correction: bool = True,
        eps_hat: bool = False,
        **common: Unpack[Common],
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "betas": betas,
                "eps": eps,
                "eps_root": eps_root,
                "weight_decay": weight_decay,
                "amsgrad": amsgrad,
                "bias_correction": bias_correction,
                "eps_hat": eps_hat,
            },
            **common,
        )

    def choose_rule(self) -> str:
        """Return "amsgrad" or "adam", the same for all groups."""
        chosen = {bool(group["amsgrad"]) for group in self.param_groups}
        if len(chosen) > 1:
            raise ValueError(f"{type(self).__name__}: amsgrad must be the same in all groups")
        if not chosen.pop():
            return "adam"
        if self._state_dtype is not None:
            raise ValueError(
                f"{type(self).__name__}: amsgrad keeps the largest v, which rounding at random "
                "would raise: state_dtype must be None"
            )
        return "amsgrad"

    def scalars(self, h: dict[str, Any], t: int) -> dict[str, float]:
        """Return the averages' weights, the bias corrections inside lr and a, and the two eps."""
        if bool(h["amsgrad"]) != (self.rule == "amsgrad"):
            raise ValueError(
                f"{type(self).__name__}: amsgrad is {h['amsgrad']!r} in this step, but this "
                f"optimizer was built with the states of {self.rule!r}: build another one"
            )
        b1, b2 = h["betas"]
        lr, a, eps, eps_root = h["lr"], 1.0, h["eps"], h["eps_root"]
        if h["bias_correction"]:
            lr /= bias_correction(b1, t)
            a /= bias_correction(b2, t)
        if h["eps_hat"]:
            eps, eps_root = eps * sqrt(a), eps_root * a
        late = h["amsgrad"] != "corrected"
        return {
            "lr": lr,
            "b1": b1,
            "c1": 1 - b1,
            "b2": b2,
            "c2": 1 - b2,
            "a": a,
            "a_v": 1.0 if late else a,
            "a_x": a if late else 1.0,
            "eps": eps,
            "eps_root": eps_root,
        }


class AdamW(Adam):
    r"""Adam with decoupled weight decay.

    Before each step :math:`w \leftarrow (1 - \eta \lambda) w` (Loshchilov and Hutter, 2019, with
    torch's scaling of the decay by lr); then as `Adam`, without an L2 term in the gradient.

    Parameters
    ----------
    params, lr, betas, eps, eps_root, amsgrad, bias_correction, eps_hat
        See `Adam`.
    weight_decay : float
        :math:`\lambda` >= 0.
    decay : {"lr", "independent"}
        With "independent", as in the paper, w is multiplied by :math:`1 - \lambda` instead; where
        the paper scales both lr and the decay by a schedule, give `weight_decay` the schedule too.
    maximize, threads, clip_norm
        See `Optimizer`.
    """

    decoupled = True

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        *,
        betas: Any = (0.9, 0.999),
        eps: Any = 1e-8,
        eps_root: Any = 0.0,
        weight_decay: Any = 1e-2,
        amsgrad: bool | str = False,
        bias_correction: bool = True,
        eps_hat: bool = False,
        decay: str = "lr",
        **common: Unpack[Common],
    ) -> None:
        Optimizer.__init__(
            self,
            params,
            {
                "lr": lr,
                "betas": betas,
                "eps": eps,
                "eps_root": eps_root,
                "weight_decay": weight_decay,
                "amsgrad": amsgrad,
                "bias_correction": bias_correction,
                "eps_hat": eps_hat,
                "decay": decay,
            },
            **common,
        )

    def decay(self, h: dict[str, Any]) -> float:
        """Return the part of w that a step takes away."""
        return h["weight_decay"] * (1.0 if h["decay"] == "independent" else h["lr"])


class Adamax(Optimizer):
    r"""Adamax: Adam with a decaying maximum in place of the root of the average of squares.

    Parameters
    ----------
    params
        See `Optimizer`.
    lr : float or schedule
        Learning rate, >= 0.
    betas : pair of float
        Decay of the average of gradients and of the maximum, each in [0, 1).
    eps : float
        Added to :math:`|g|` inside the maximum, as in torch, >= 0.
    eps_outside : float
        Added to u, as in keras with eps=0, >= 0.
    weight_decay : float
        L2 penalty: the rule sees g + weight_decay * w.
    maximize, threads, clip_norm
        See `Optimizer`.

    Notes
    -----
    :math:`m \leftarrow \beta_1 m + (1 - \beta_1) g,\;
    u \leftarrow \max(\beta_2 u, |g| + \epsilon),\;
    w \leftarrow w - \frac{\eta}{1 - \beta_1^t} m / (u + \epsilon_o)` (Kingma and Ba, 2015,
    Algorithm 2, which has neither eps). Where the denominator is 0, which only eps = eps_outside =
    0 allows, there is no step.
    """

    rule = "adamax"
    state_names = {"m": "exp_avg", "u": "exp_inf"}

    def __init__(
        self,
        params: Any,
        lr: Any = 2e-3,
        *,
        betas: Any = (0.9, 0.999),
        eps: Any = 1e-8,
        eps_outside: Any = 0.0,
        weight_decay: Any = 0.0,
        **common: Unpack[Common],
    ) -> None:
        values = {"lr": lr, "betas": betas, "eps": eps, "eps_outside": eps_outside}
        values["weight_decay"] = weight_decay
        super().__init__(params, values, **common)

    def scalars(self, h: dict[str, Any], t: int) -> dict[str, float]:
        """Return the corrected rate, the averages' weights and both eps."""
        b1, b2 = h["betas"]
        return {
            "lr": h["lr"] / bias_correction(b1, t),
            "b1": b1,
            "c1": 1 - b1,
            "b2": b2,
            "eps": h["eps"],
            "eps_outside": h["eps_outside"],
        }


def _momentum_at(b1: float, psi: float, t: int) -> float:
    return b1 * (1 - 0.5 * 0.96 ** (t * psi))


STRETCH = 16  # steps whose product is kept


@lru_cache(maxsize=4096)
def _product(b1: float, psi: float, stretch: int) -> float:
    first = stretch * STRETCH + 1
    return prod(_momentum_at(b1, psi, t) for t in range(first, first + STRETCH))


def scheduled_momentum(b1: float, psi: float, t: int) -> tuple[float, float, float]:
    """Return NAdam's momentum in step t and in the next, and the product of all up to t."""
    product, whole = 1.0, t // STRETCH
    for stretch in range(whole):
        product *= _product(b1, psi, stretch)
        if product < 1e-17:  # then 1 - product is 1
            break
    else:
        for step in range(whole * STRETCH + 1, t + 1):
            product *= _momentum_at(b1, psi, step)
    return _momentum_at(b1, psi, t), _momentum_at(b1, psi, t + 1), product


class NAdam(Optimizer):
    r"""NAdam: Adam with Nesterov's momentum.

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
        L2 penalty: the rule sees g + weight_decay * w.
    momentum_decay : float or None
        :math:`\psi` >= 0; None for :math:`\mu_t = \beta_1`, as in optax.
    maximize, threads, clip_norm
        See `Optimizer`.

    Notes
    -----
    With :math:`\mu_t = \beta_1 (1 - 0.96^{t \psi} / 2)` and m, v and :math:`\hat v` as in Adam,
    :math:`w \leftarrow w - \eta \left(\frac{(1 - \mu_t) g}{1 - \prod_{i \le t} \mu_i} +
    \frac{\mu_{t+1} m}{1 - \prod_{i \le t+1} \mu_i}\right) / (\sqrt{\hat v} + \epsilon)`
    (Dozat, 2016, as in torch). The product is worked out from t: both betas and psi are taken to
    have been what they are.
    """

    rule = "nadam"
    state_names = {"m": "exp_avg", "v": "exp_avg_sq"}

    def __init__(
        self,
        params: Any,
        lr: Any = 2e-3,
        *,
        betas: Any = (0.9, 0.999),
        eps: Any = 1e-8,
        weight_decay: Any = 0.0,
        momentum_decay: Any = 4e-3,
        **common: Unpack[Common],
    ) -> None:
        values = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "momentum_decay": momentum_decay,
        }
        super().__init__(params, values, **common)

    def scalars(self, h: dict[str, Any], t: int) -> dict[str, float]:
        """Return the two rates, the averages' weights, the correction of v and eps."""
        b1, b2 = h["betas"]
        psi = h["momentum_decay"]
        if psi is None:
            mu, after = b1, b1
            left, left_after = bias_correction(b1, t), bias_correction(b1, t + 1)
        else:
            mu, after, product = scheduled_momentum(b1, psi, t)
            left, left_after = 1 - product, 1 - product * after
        return {
            "lr_m": h["lr"] * after / left_after,
            "lr_g": h["lr"] * (1 - mu) / left,
            "b1": b1,
            "c1": 1 - b1,
            "b2": b2,
            "c2": 1 - b2,
            "a": 1 / bias_correction(b2, t),
            "eps": h["eps"],
        }


class RAdam(Optimizer):
    r"""RAdam: Adam that adapts only once its average of squares is worth it.

    Parameters
    ----------
    params
        See `Optimizer`.
    lr : float or schedule
        Learning rate, >= 0.
    betas : pair of float
        Decay of the averages of gradients and of their squares, each in [0, 1).
    eps : float
        Added to the root of v, >= 0.
    weight_decay : float
        L2 penalty: the rule sees g + weight_decay * w.
    threshold : float
        How large :math:`\rho_t` must be for adaptation, >= 4.
    maximize, threads, clip_norm
        See `Optimizer`.

    Notes
    -----
    With :math:`\rho_\infty = 2 / (1 - \beta_2) - 1` and
    :math:`\rho_t = \rho_\infty - 2 t \beta_2^t / (1 - \beta_2^t)`: if :math:`\rho_t` is above the
    threshold, a step is Adam's times :math:`\sqrt{\frac{(\rho_t - 4)(\rho_t - 2) \rho_\infty}
    {(\rho_\infty - 4)(\rho_\infty - 2) \rho_t}}`, else :math:`\eta \hat m` (Liu et al., 2020; the
    paper says 4, its authors' code and torch 5).
    """

    rule = "radam"
    state_names = {"m": "exp_avg", "v": "exp_avg_sq"}

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        *,
        betas: Any = (0.9, 0.999),
        eps: Any = 1e-8,
        weight_decay: Any = 0.0,
        threshold: Any = 5.0,
        **common: Unpack[Common],
    ) -> None:
        values = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, {**values, "threshold": threshold}, **common)

    def scalars(self, h: dict[str, Any], t: int) -> dict[str, float]:
        """Return the rate with or without adaptation, the averages' weights and eps."""
        b1, b2 = h["betas"]
        lr, left = h["lr"] / bias_correction(b1, t), bias_correction(b2, t)
        most = 2 / (1 - b2) - 1
        rho = most - 2 * t * b2**t / left
        adapted = 0.0
        if rho > h["threshold"]:
            adapted = sqrt((rho - 4) * (rho - 2) * most / ((most - 4) * (most - 2) * rho) * left)
        return {
            "lr_m": 0.0 if adapted else lr,
            "lr_r": lr * adapted,
            "b1": b1,
            "c1": 1 - b1,
            "b2": b2,
            "c2": 1 - b2,
            "eps": h["eps"],
        }


class AdaBelief(Optimizer):
    r"""AdaBelief: Adam that divides by how far gradients are from their average.

    Parameters
    ----------
    params
        See `Optimizer`.
    lr : float or schedule
        Learning rate, >= 0.
    betas : pair of float
        Decay of the averages of gradients and of squared deviations, each in [0, 1).
    eps : float
        Added outside the root, >= 0.
    eps_root : float
        Added to the average of squares in every step, >= 0.
    weight_decay : float
        L2 penalty: the rule sees g + weight_decay * w.
    maximize, threads, clip_norm
        See `Optimizer`.

    Notes
    -----
    :math:`m \leftarrow \beta_1 m + (1 - \beta_1) g,\;
    s \leftarrow \beta_2 s + (1 - \beta_2) (g - m)^2 + \epsilon_r,\;
    w \leftarrow w - \eta \hat m / (\sqrt{\hat s} + \epsilon)` with the bias corrections of Adam
    (Zhuang et al., 2020).
    """

    rule = "adabelief"
    state_names = {"m": "exp_avg", "s": "exp_avg_var"}

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        *,
        betas: Any = (0.9, 0.999),
        eps: Any = 1e-16,
        eps_root: Any = 1e-16,
        weight_decay: Any = 0.0,
        **common: Unpack[Common],
    ) -> None:
        values = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "eps_root": eps_root,
            "weight_decay": weight_decay,
        }
        super().__init__(params, values, **common)

    def scalars(self, h: dict[str, Any], t: int) -> dict[str, float]:
        """Return the averages' weights, the bias corrections inside lr and a, and both eps."""
        b1, b2 = h["betas"]
        return {
            "lr": h["lr"] / bias_correction(b1, t),
            "b1": b1,
            "c1": 1 - b1,
            "b2": b2,
            "c2": 1 - b2,
            "a": 1 / bias_correction(b2, t),
            "eps": h["eps"],
            "eps_root": h["eps_root"],
        }
