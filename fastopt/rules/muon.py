"""Muon: steps along the nearest matrix with orthogonal rows or columns."""

from __future__ import annotations

from math import sqrt
from typing import TYPE_CHECKING, Any

from fastopt._core import Plan, bias_correction
from fastopt.rules.base import Common, Optimizer

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["Muon"]


class Muon(Optimizer):
    r"""Muon: momentum, made nearly orthogonal by Newton-Schulz iterations; for matrices only.

    Give the vectors and scalars of a model to another optimizer, such as `AdamW`, and, its authors
    advise, its embeddings and its last layer. Of a convolution's kernel pass a matrix that is a
    view of it, such as ``k.reshape(len(k), -1)`` where the first axis is the output.

    Parameters
    ----------
    params
        See `Optimizer`; every array must have two axes.
    lr : float or schedule
        Learning rate, >= 0.
    momentum : float
        :math:`\mu` in [0, 1].
    nesterov : bool
        Nesterov's momentum, rewritten.
    weight_decay : float
        :math:`\lambda` >= 0, decoupled: w loses lr * weight_decay * w before the step.
    ns_coefficients : three floats
        a, b and c of the iteration.
    ns_steps : int
        Iterations, in [0, 99].
    eps : float
        :math:`\epsilon` >= 0.
    adjust_lr_fn : {None, "original", "match_rms_adamw", "columns", "constant"}
        The factor f of lr, by the matrix's shape: :math:`\sqrt{\max(1, n / m)}` for n rows and m
        columns (None too), :math:`0.2 \sqrt{\max(n, m)}`, with which lr and weight_decay are as
        AdamW's (Liu et al., 2025), :math:`\sqrt{\max(1, m / n)}`, or 1.
    average : bool
        m is an average of the gradients, as in torch, or their sum; only eps sees the difference.
    bias_correction : bool
        Correct the average for its start from 0, as optax does; needs average=True, momentum < 1.
    eps_form : {"floor", "added"}
        Divide by the norm, which is at least eps, or by their sum.
    maximize, threads, clip_norm
        See `Optimizer`; threads are not those of the products, which are NumPy's BLAS's.

    Raises
    ------
    ValueError
        Naming the parameter that is not a matrix.

    Notes
    -----
    :math:`m \leftarrow \mu m + (1 - \mu) g`, without the factor of g for a sum;
    :math:`h = \mu m + (1 - \mu) g` with Nesterov's momentum, else m;
    :math:`X = h / \max(\|h\|_F, \epsilon)`; ns_steps times
    :math:`X \leftarrow a X + b A X + c A^2 X,\; A = X X^\top`;
    :math:`w \leftarrow w - \eta \lambda w - \eta f X` (Jordan et al., 2024). With the default
    coefficients the singular values of X end near 1 (0.7 to 1.2), not at 1.

    The products are in the parameter's precision (torch computes them in bfloat16) and take most
    of the time; A and :math:`A^2` are symmetric, and NumPy makes half of them. A step needs memory
    for two more matrices of the largest parameter's size, and two of the square of its shorter
    side. The bits are the same for any strides, threads and instruction set as far as BLAS goes
    along.

    Examples
    --------
    >>> import numpy as np, fastopt
    >>> w = np.zeros((2, 3))
    >>> opt = fastopt.Muon(w, lr=1.0)
    >>> info = opt.step(np.array([[300.0, 0.0, 0.0], [0.0, 0.1, 0.0]]))
    >>> bool(0.6 < -w[0, 0] < 1.3), bool(abs(w[0, 1:]).max() < 1e-9)
    (True, True)
    """

    by_rows = False
    rule = "muon"
    state_names = {"m": "momentum_buffer"}
    state_kinds = {"m": "signed"}
    decoupled = True
    layerwise = True

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        *,
        momentum: Any = 0.95,
        nesterov: bool = True,
        weight_decay: Any = 0.1,
        ns_coefficients: Any = (3.4445, -4.7750, 2.0315),
        ns_steps: int = 5,
        eps: Any = 1e-7,
        adjust_lr_fn: str | None = None,
        average: bool = True,
        bias_correction: bool = False,
        eps_form: str = "floor",
        **common: Unpack[Common],
    ) -> None:
        values = {
            "lr": lr,
            "momentum": momentum,
            "nesterov": nesterov,
            "weight_decay": weight_decay,
            "ns_coefficients": ns_coefficients,
            "ns_steps": ns_steps,
            "eps": eps,
            "adjust_lr_fn": adjust_lr_fn,
            "average": average,
            "bias_correction": bias_correction,
            "eps_form": eps_form,
        }
        super().__init__(params, values, **common)

    def choose_rule(self) -> str:
        """Return the rule; refuse what is not a matrix."""
        for group in self.param_groups:
            for name, array in group["params"].items():
                if array.ndim != 2:
                    raise ValueError(
                        f"Muon: parameter {name!r} must have two axes, got shape {array.shape}: "
                        "give vectors and scalars to another optimizer, such as AdamW; of a "
                        "convolution's kernel pass a matrix, such as k.reshape(len(k), -1)"
                    )
        return self.rule

    def _prepare(self, t: int) -> None:
        super()._prepare(t)
        self._plan.orthogonalize("muon_moments")

    def trust(self, plan: Plan, threads: int, scale: float) -> None:
        """Set the factor of each matrix's rate, by its shape."""
        k = 0
        for group in self.param_groups:
            kind = group.at(self.t)["adjust_lr_fn"]
            for array in group["params"].values():
                plan.set_rate(k, rate_factor(kind, *array.shape))
                k += 1

    def scalars(self, h: dict[str, Any], t: int) -> dict[str, float]:
        """Return lr, the numbers that make m and h, and what makes h orthogonal."""
        mu, nesterov = h["momentum"], h["nesterov"]
        if nesterov == "lookahead":
            raise ValueError("Muon: nesterov must be True or False, got 'lookahead'")
        new = 1 - mu if h["average"] else 1.0
        a_m, a_g = (mu, new) if nesterov else (1.0, 0.0)
        if h["bias_correction"]:
            if not h["average"] or mu == 1:
                raise ValueError("Muon: bias_correction needs average=True and momentum < 1")
            a_m /= bias_correction(mu, t + 1 if nesterov else t)
            a_g /= bias_correction(mu, t)
        first, third, fifth = h["ns_coefficients"]
        return {
            "lr": h["lr"],
            "mu": mu,
            "c": new,
            "a_m": a_m,
            "a_g": a_g,
            "eps": h["eps"],
            "sum": float(h["eps_form"] == "added"),
            "steps": float(h["ns_steps"]),
            "x1": first,
            "x3": third,
            "x5": fifth,
        }


def rate_factor(kind: str | None, rows: int, columns: int) -> float:
    """Return what lr is multiplied by for a matrix of that shape."""
    if not rows or not columns or kind == "constant":
        return 1.0
    if kind == "match_rms_adamw":
        return 0.2 * sqrt(max(rows, columns))
    return sqrt(max(1.0, columns / rows if kind == "columns" else rows / columns))
