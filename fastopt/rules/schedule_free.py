"""Schedule-free SGD and AdamW: the average of all points, in training and in its place."""

from __future__ import annotations

from threading import get_ident
from typing import TYPE_CHECKING, Any

from fastopt._core import StepInfo, bias_correction
from fastopt.rules.base import Common, Optimizer

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["ScheduleFreeAdamW", "ScheduleFreeSGD"]


class ScheduleFreeSGD(Optimizer):
    r"""Schedule-free SGD: momentum and averaging that need no schedule of the learning rate.

    In training the parameters hold y, where gradients are taken. `eval()` puts the average x there,
    which is the result, and `train()` y again; a new optimizer is in training.

    Parameters
    ----------
    params
        See `Optimizer`.
    lr : float or schedule
        Learning rate, >= 0; larger than without averaging.
    momentum : float
        :math:`\beta` in (0, 1], the weight of x in y; a constant.
    weight_decay : float
        L2 penalty at y: the rule sees g + weight_decay * y.
    warmup_steps : float
        Over so many steps, lr rises linearly to its value, >= 0.
    r : float
        Point t has the weight :math:`t^r` in the average, >= 0, times
    weight_lr_power : float
        the largest lr so far, warm-up included, to this power, >= 0.
    maximize, threads, clip_norm
        See `Optimizer`.

    Notes
    -----
    With :math:`c = \omega_t / \sum_{i \le t} \omega_i` and :math:`\omega_t = t^r (\max_{i \le t}
    \eta_i)^p`: :math:`y = (1 - \beta) z + \beta x,\; z \leftarrow z - \eta g(y),\;
    x \leftarrow (1 - c) x + c z` (Defazio et al., 2024). x is not stored: the step is
    :math:`y \leftarrow y + c (z - y) - \eta (1 - \beta (1 - c)) g`, and
    :math:`x = z + (y - z) / \beta`.

    Examples
    --------
    >>> import numpy as np, fastopt
    >>> w = np.array([4.0])
    >>> opt = fastopt.ScheduleFreeSGD(w, lr=0.5)
    >>> for _ in range(100):
    ...     info = opt.step(1.0 * w)  # the gradient of w**2 / 2
    >>> opt.eval()
    >>> bool(abs(w[0]) < 0.1)
    True
    """

    by_rows = False
    rule = "schedule_free_sgd"
    state_names = {"z": "z", "v": "exp_avg_sq"}

    def __init__(
        self,
        params: Any,
        lr: Any = 1.0,
        *,
        momentum: float = 0.9,
        weight_decay: Any = 0.0,
        warmup_steps: float = 0,
        r: float = 0.0,
        weight_lr_power: float = 2.0,
        **common: Unpack[Common],
    ) -> None:
        values = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "warmup_steps": warmup_steps,
            "r": r,
            "weight_lr_power": weight_lr_power,
        }
        super().__init__(params, values, **common)
        self._start()

    def _start(self) -> None:
        groups = len(self.param_groups)
        # What the states do not hold: by group, the sum of the weights and the largest lr.
        self.extra: dict[str, Any] = {
            "weight_sum": [0.0] * groups,
            "lr_max": [0.0] * groups,
            "training": True,
        }
        # By thread, the same after the step that runs, group by group.
        self._after: dict[int, list[tuple[float, float]]] = {}

    def choose_rule(self) -> str:
        """Return the rule; refuse a weight of x in y from which x would not come back."""
        for group in self.param_groups:
            if callable(self.beta(group)):
                raise ValueError(f"{type(self).__name__}: {self.beta_name} must be constant")
            if self.beta(group) == 0:
                raise ValueError(f"{type(self).__name__}: {self.beta_name} must be > 0, got 0")
        return self.rule

    beta_name = "momentum"

    def beta(self, h: dict[str, Any]) -> Any:
        """Return the weight of x in y."""
        return h["momentum"]

    def initial(self, h: dict[str, Any]) -> dict[str, Any]:
        """Return what z starts from: the parameters."""
        return {"z": lambda w: w}

    def step(self, grads: Any = None) -> StepInfo:
        """Update the parameters in place, as `Optimizer.step` does; in training only.

        Parameters
        ----------
        grads : array, sequence of arrays, or mapping name -> array, optional
            The gradients at y, as in `Optimizer.step`.

        Returns
        -------
        StepInfo
            With t, lr, grad_norm, clip_coef; lr is without warm-up.
        """
        if not self.extra["training"]:
            raise ValueError(
                f"{type(self).__name__}.step: the parameters hold the average; call train() first"
            )
        after = self._after[get_ident()] = []
        try:
            info = super().step(grads)
        finally:
            del self._after[get_ident()]
        if not info.skipped:
            self.extra["weight_sum"] = [total for total, _ in after]
            self.extra["lr_max"] = [most for _, most in after]
        return info

    def weigh(self, h: dict[str, Any], t: int) -> dict[str, float]:
        """Return the rate with warm-up, the weight of z in x, and the part of the step y takes."""
        after = self._after[get_ident()]  # groups come in their order, once in a step
        k = len(after)
        lr = h["lr"] * (min(1.0, t / h["warmup_steps"]) if h["warmup_steps"] else 1.0)
        most = max(lr, self.extra["lr_max"][k])
        weight = t ** h["r"] * most ** h["weight_lr_power"]
        total = self.extra["weight_sum"][k] + weight
        after.append((total, most))
        c = weight / total if total else 0.0
        return {"lr": lr, "c": c, "lr_y": lr * (1 - self.beta(h) * (1 - c))}

    def scalars(self, h: dict[str, Any], t: int) -> dict[str, float]:
        """Return the rate, the weight of z in x, and the part of the step that y takes."""
        return self.weigh(h, t)

    def freeze(self, *names: str) -> None:
        """Refuse: the weights of the average are those of whole groups."""
        raise TypeError(f"{type(self).__name__}: parameters cannot be frozen")

    def add_param_group(self, group: Any) -> None:
        """Refuse: the weights of the average began with the first step."""
        raise TypeError(f"{type(self).__name__}: groups cannot be added")

    def eval(self) -> None:
        """Put the average x in the parameters; does nothing if it is there."""
        self._switch(False)

    def train(self) -> None:
        """Put y in the parameters, where gradients are taken; does nothing if it is there."""
        self._switch(True)

    def _switch(self, training: bool) -> None:
        if self.extra["training"] == training:
            return
        with self._plan:
            for group in self.param_groups:
                beta = self.beta(group)
                factor = beta if training else 1 / beta
                for name, w in group["params"].items():
                    state = self._state[name]
                    z, exact = state[self.state_names["z"]], state.get("master", w)
                    moved = exact - z
                    moved *= factor
                    moved += z
                    exact[...] = moved
                    if exact is not w:
                        w[...] = exact
                    if "rest" in state:
                        state["rest"][...] = 0
            self.extra["training"] = training


class ScheduleFreeAdamW(ScheduleFreeSGD):
    r"""Schedule-free AdamW: momentum and averaging that need no schedule of the learning rate.

    In training the parameters hold y, where gradients are taken. `eval()` puts the average x there,
    which is the result, and `train()` y again; a new optimizer is in training.

    Parameters
    ----------
    params
        See `Optimizer`.
    lr : float or schedule
        Learning rate, >= 0.
    betas : pair of float
        The weight :math:`\beta_1` of x in y, in (0, 1), a constant, and the decay of the average
        of squares, in [0, 1).
    eps : float
        Added outside the root, >= 0.
    weight_decay : float
        :math:`\lambda` >= 0, decoupled, at y.
    warmup_steps, r, weight_lr_power
        See `ScheduleFreeSGD`.
    maximize, threads, clip_norm
        See `Optimizer`.

    Notes
    -----
    As `ScheduleFreeSGD` with :math:`\beta_1` and with :math:`g / (\sqrt{\hat v} + \epsilon) +
    \lambda y` in place of g, where :math:`v \leftarrow \beta_2 v + (1 - \beta_2) g^2,\;
    \hat v = v / (1 - \beta_2^t)` (Defazio et al., 2024; the correction as in the authors' code,
    version 1.4: earlier ones put it into lr, from where it changes the weights too).
    """

    rule = "schedule_free_adamw"
    decoupled = True
    beta_name = "betas[0]"

    def __init__(
        self,
        params: Any,
        lr: Any = 2.5e-3,
        *,
        betas: Any = (0.9, 0.999),
        eps: Any = 1e-8,
        weight_decay: Any = 0.0,
        warmup_steps: float = 0,
        r: float = 0.0,
        weight_lr_power: float = 2.0,
        **common: Unpack[Common],
    ) -> None:
        values = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "warmup_steps": warmup_steps,
            "r": r,
            "weight_lr_power": weight_lr_power,
        }
        Optimizer.__init__(self, params, values, **common)
        self._start()

    def beta(self, h: dict[str, Any]) -> Any:
        """Return the weight of x in y."""
        return h["betas"] if callable(h["betas"]) else h["betas"][0]

    def decay(self, h: dict[str, Any]) -> float:
        """Return 0: the rule itself decays, at y."""
        return 0.0

    def scalars(self, h: dict[str, Any], t: int) -> dict[str, float]:
        """Return what `weigh` does, the average's weights and correction, eps and the decay."""
        b2 = h["betas"][1]
        return {
            **self.weigh(h, t),
            "b2": b2,
            "c2": 1 - b2,
            "a": 1 / bias_correction(b2, t),
            "eps": h["eps"],
            "wd": h["weight_decay"],
        }
