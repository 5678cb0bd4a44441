"""The update rules' Python side: names, defaults, and the scalars of each step, in double."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastopt.base import Common, Optimizer

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["SGD", "Adadelta", "Adagrad", "Lion", "RMSprop", "Rprop"]


class SGD(Optimizer):
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
    nesterov : bool
        Nesterov's momentum, rewritten so that the stored parameters are the look-ahead point.
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
        nesterov: bool = False,
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

    def choose_rule(self) -> str:
        """Return "sgd", which has no state, if no group has momentum."""
        for group in self.param_groups:
            if group["nesterov"] and (group["momentum"] == 0 or group["dampening"] != 0):
                self.refuse_nesterov(group)
        return "momentum" if any(group["momentum"] != 0 for group in self.param_groups) else "sgd"

    def refuse_nesterov(self, h: dict[str, Any]) -> None:
        """Raise for a combination without a meaning."""
        raise ValueError(
            "SGD: nesterov=True needs momentum > 0 and dampening = 0, got "
            f"momentum={h['momentum']!r}, dampening={h['dampening']!r}"
        )

    def scalars(self, h: dict[str, Any], t: int) -> dict[str, float]:
        """Return lr, or the four numbers that make the momentum rule each of its forms."""
        lr, mu = h["lr"], h["momentum"]
        if self.rule == "sgd":
            if mu != 0:
                raise ValueError(
                    "SGD: momentum was 0 when this optimizer was built, so it has no "
                    f"buffer: build one with momentum={mu!r}"
                )
            return {"lr": lr}
        if h["nesterov"] and (mu == 0 or h["dampening"] != 0):
            self.refuse_nesterov(h)
        c = 1.0 if t == 1 else 1.0 - h["dampening"]
        if h["momentum_form"] == "torch":
            if h["nesterov"]:
                return {"mu": mu, "c": c, "lr_v": lr * mu, "lr_g": lr}
            return {"mu": mu, "c": c, "lr_v": lr, "lr_g": 0.0}
        if h["nesterov"]:
            return {"mu": mu, "c": -lr, "lr_v": -mu, "lr_g": lr}
        return {"mu": mu, "c": -lr * c, "lr_v": -1.0, "lr_g": 0.0}


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

    With eps = eps_root = 0, a coordinate whose gradients have all been zero becomes 0/0.
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


class RMSprop(Optimizer):
    r"""RMSProp.

    Parameters
    ----------
    params
        See `Optimizer`.
    lr : float or schedule
        Learning rate, >= 0.
    alpha : float
        Decay :math:`\rho` of the average of squares, in [0, 1).
    eps : float
        Added outside the root, >= 0.
    eps_root : float
        Added inside the root, >= 0.
    weight_decay : float
        L2 penalty: the rule sees g + weight_decay * w.
    maximize, threads, clip_norm
        See `Optimizer`.

    Notes
    -----
    :math:`s \leftarrow \rho s + (1 - \rho) g^2,\;
    w \leftarrow w - \eta g / (\sqrt{s + \epsilon_r} + \epsilon)`
    (Tieleman and Hinton, 2012). The form of Goodfellow, Bengio and Courville's *Deep Learning*,
    Algorithm 8.5: ``eps=0, eps_root=1e-6``.
    """

    rule = "rmsprop"
    state_names = {"s": "square_avg"}

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-2,
        *,
        alpha: Any = 0.99,
        eps: Any = 1e-8,
        eps_root: Any = 0.0,
        weight_decay: Any = 0.0,
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
            },
            **common,
        )

    def scalars(self, h: dict[str, Any], t: int) -> dict[str, float]:
        """Return the rate, the average's two weights and the two eps."""
        rho = h["alpha"]
        return {"lr": h["lr"], "rho": rho, "c": 1 - rho, "eps": h["eps"], "eps_root": h["eps_root"]}


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
    variant : {"iminus", "minus"}
        Whether an element stays where it is in a step in which its sign has changed ("iminus",
        as torch) or not.
    maximize, threads, clip_norm
        See `Optimizer`.

    Notes
    -----
    With p the gradient before, an element's length d is multiplied by one of the etas if neither
    g nor p is 0, and :math:`w \leftarrow w - \mathrm{sign}(g)\, d`. "minus" is Rprop- (Riedmiller
    and Braun, 1993, without undoing steps), "iminus" iRprop- (Igel and Huesken, 2003): where the
    sign has changed, g counts as 0, in the next step too.
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

    def initial(self, h: dict[str, Any]) -> dict[str, float]:
        """Return the first step length."""
        return {"d": h["lr"]}

    def scalars(self, h: dict[str, Any], t: int) -> dict[str, float]:
        """Return the factors, the limits and the variant."""
        down, up = h["etas"]
        least, most = h["step_sizes"]
        forget = float(h["variant"] == "iminus")
        return {"up": up, "down": down, "least": least, "most": most, "forget": forget}


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
