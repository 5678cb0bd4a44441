"""The optimizers that torch.optim has, with its arguments, states and numbers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

import fastopt
from fastopt.torch import memory
from fastopt.torch.lbfgs import LBFGS
from fastopt.torch.native import Native, Numbers

__all__ = [
    "ASGD",
    "LBFGS",
    "SGD",
    "Adadelta",
    "Adafactor",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "NAdam",
    "RAdam",
    "RMSprop",
    "Rprop",
    "SparseAdam",
]

_ADAM = {"eps_root": 0.0, "bias_correction": True, "eps_hat": False, "decay": "lr"}


class SGD(Native, torch.optim.SGD):
    """`torch.optim.SGD`, with the options of `Native`."""

    native = fastopt.SGD
    counters = ()

    def _rule(self, group: dict[str, Any]) -> str:
        return "momentum" if group["momentum"] != 0 else "sgd"

    def _hyper(self, group: dict[str, Any]) -> dict[str, Any]:
        return {**group, "momentum_form": "torch"}

    def _by_rows(self, group: dict[str, Any]) -> bool:
        return group["momentum"] == 0 and group["weight_decay"] == 0

    def _counters(self, p: Any, state: dict[str, Any]) -> list[Any]:
        # torch counts nothing here: what matters is whether the buffer is new
        return [0.0 if (p, "momentum_buffer") in self._fresh else 1.0]


class Adagrad(Native, torch.optim.Adagrad):
    """`torch.optim.Adagrad`, with the options of `Native`."""

    native = fastopt.Adagrad

    def _hyper(self, group: dict[str, Any]) -> dict[str, Any]:
        return {**group, "eps_root": 0.0}

    def _by_rows(self, group: dict[str, Any]) -> bool:
        return group["weight_decay"] == 0


class RMSprop(Native, torch.optim.RMSprop):
    """`torch.optim.RMSprop`, with the options of `Native`."""

    native = fastopt.RMSprop

    def _rule(self, group: dict[str, Any]) -> str:
        return (
            "rmsprop"
            + "_centered" * bool(group["centered"])
            + "_momentum" * (group["momentum"] > 0)
        )

    def _hyper(self, group: dict[str, Any]) -> dict[str, Any]:
        fixed = {"eps_root": 0.0, "nesterov": False, "momentum_form": "torch"}
        return {**fixed, **group, "centered": bool(group["centered"])}


class Adadelta(Native, torch.optim.Adadelta):
    """`torch.optim.Adadelta`, with the options of `Native`."""

    native = fastopt.Adadelta


class Rprop(Native, torch.optim.Rprop):
    """`torch.optim.Rprop`, with the options of `Native`."""

    native = fastopt.Rprop

    def _hyper(self, group: dict[str, Any]) -> dict[str, Any]:
        least, most = group["step_sizes"]
        lr = min(max(float(group["lr"]), least), most)  # torch bounds the first length as well
        return {**group, "lr": lr, "variant": "iminus"}


class Adam(Native, torch.optim.Adam):
    """`torch.optim.Adam`, with the options of `Native`."""

    native = fastopt.Adam

    def _rule(self, group: dict[str, Any]) -> str:
        return "amsgrad" if group["amsgrad"] else "adam"

    def _hyper(self, group: dict[str, Any]) -> dict[str, Any]:
        return {**group, **_ADAM}

    def _l2(self, group: dict[str, Any]) -> bool:
        return not group.get("decoupled_weight_decay", False)

    def _stand_in(self, rule: str) -> Any:
        one = object.__new__(fastopt.AdamW)  # its decay is asked for where it is decoupled
        one.rule = rule
        return one


class AdamW(Native, torch.optim.AdamW):
    """`torch.optim.AdamW`, with the options of `Native`."""

    native = fastopt.AdamW
    _rule, _hyper = Adam._rule, Adam._hyper


class Adamax(Native, torch.optim.Adamax):
    """`torch.optim.Adamax`, with the options of `Native`."""

    native = fastopt.Adamax

    def _hyper(self, group: dict[str, Any]) -> dict[str, Any]:
        return {**group, "eps_outside": 0.0}


class NAdam(Native, torch.optim.NAdam):
    """`torch.optim.NAdam`, with the options of `Native`."""

    native = fastopt.NAdam
    counters = ("step", "mu_product")
    _l2 = Adam._l2

    def _first_count(self, name: str, group: dict[str, Any]) -> float:
        return float(name == "mu_product")

    def _numbers(
        self, rule: Any, group: dict[str, Any], counts: tuple[float, ...]
    ) -> tuple[Numbers, tuple[float, ...]]:
        made, _ = super()._numbers(rule, group, counts)
        h, t = self._values(group), counts[0] + 1
        (b1, _), psi, lr = h["betas"], h["momentum_decay"], h["lr"]
        mu, after = (b1 * (1 - 0.5 * 0.96 ** (k * psi)) for k in (t, t + 1))
        product = counts[1] * mu
        if counter_is_single(self, group):  # then torch multiplies in float32
            product = float(np.float32(counts[1]) * np.float32(mu))
        made.scalars["lr_g"] = lr * (1 - mu) / (1 - product)
        made.scalars["lr_m"] = lr * after / (1 - product * after)
        return made, (t, product)


class RAdam(Native, torch.optim.RAdam):
    """`torch.optim.RAdam`, with the options of `Native`."""

    native = fastopt.RAdam
    _l2 = Adam._l2

    def _hyper(self, group: dict[str, Any]) -> dict[str, Any]:
        return {**group, "threshold": 5.0}


class ASGD(Native, torch.optim.ASGD):
    """`torch.optim.ASGD`, with the options of `Native`."""

    native = fastopt.ASGD
    counters = ("step", "eta", "mu")

    def _first_count(self, name: str, group: dict[str, Any]) -> float:
        return {"step": 0.0, "eta": float(group["lr"]), "mu": 1.0}[name]

    def _beside(self, p: Any) -> Iterator[tuple[str, str]]:
        yield "ax", "average"
        yield from super()._beside(p)

    def _begin(self, p: Any, state: dict[str, Any], group: dict[str, Any], rule: Any) -> None:
        if "ax" not in state:
            state["ax"] = memory.zeros(p, memory.REAL[p.dtype])
            self._fresh.add((p, "ax"))
        super()._begin(p, state, group, rule)

    def _numbers(
        self, rule: Any, group: dict[str, Any], counts: tuple[float, ...]
    ) -> tuple[Numbers, tuple[float, ...]]:
        h = self._values(group)
        (t, eta, mu), lr, lambd = counts, h["lr"], h["lambd"]
        made = Numbers({"lr": eta}, scale=-1.0 if h["maximize"] else 1.0, l2=h["weight_decay"])
        made.decay, made.average = lambd * eta, mu
        t += 1
        eta, mu = lr / (1 + lambd * lr * t) ** h["alpha"], 1 / max(1, t - h["t0"])
        if torch.get_default_dtype() == torch.float32:  # in which torch makes them
            eta, mu = float(np.float32(eta)), float(np.float32(mu))
        return made, (t, eta, mu)


class Adafactor(Native, torch.optim.Adafactor):
    """`torch.optim.Adafactor`, with the options of `Native`."""

    native = fastopt.Adafactor
    _factored = True

    def _hyper(self, group: dict[str, Any]) -> dict[str, Any]:
        eps1, eps2 = group["eps"]
        return {
            **group, "eps1": eps1, "eps2": eps2, "eps1_form": "floor", "momentum": 0.0,
            "relative_step": True, "scale_parameter": True, "decay": "lr", "decay_first": False,
            "min_dim_size_to_factor": 0,
        }  # fmt: skip

    def _stand_in(self, rule: str) -> Any:
        one = super()._stand_in(rule)
        one._least_size = 0
        return one

    def _moments(self, p: Any, state: dict[str, Any]) -> list[str]:
        return ["row_var", "col_var"] if p.dim() > 1 else ["variance"]

    def _begin(self, p: Any, state: dict[str, Any], group: dict[str, Any], rule: Any) -> None:
        if p.is_complex():
            raise RuntimeError("Adafactor does not support complex parameters")
        shapes = {
            "row_var": (*p.shape[:-1], 1),
            "col_var": (*p.shape[:-2], 1, *p.shape[-1:]),
            "variance": p.shape,
        }
        for key in self._moments(p, state):
            # averages of rows and columns are small, their squares are not: in float64
            dtype = memory.REAL[p.dtype] if key == "variance" else torch.float64
            if key not in state:
                state[key] = torch.zeros(shapes[key], dtype=dtype, device="cpu")
                self._fresh.add((p, key))
            if state[key].shape != shapes[key]:
                raise ValueError(
                    f"state {key!r} has shape {tuple(state[key].shape)}, not {shapes[key]}"
                )
            state[key] = state[key].to(dtype).contiguous()
        super()._begin(p, state, group, rule)

    def _wire(self, plan: Any, states: list[dict[str, Any]]) -> None:
        moments = [
            (memory.view(s["row_var"]), memory.view(s["col_var"]))
            if "row_var" in s
            else memory.view(s["variance"])
            for s in states
        ]
        plan.factor(moments)


class SparseAdam(Native, torch.optim.SparseAdam):
    """`torch.optim.SparseAdam`, with the options of `Native`."""

    native = fastopt.Adam
    counters = ()
    _counts_itself = True

    def _hyper(self, group: dict[str, Any]) -> dict[str, Any]:
        return {**group, **_ADAM, "eps_hat": True, "amsgrad": False}

    def _by_rows(self, group: dict[str, Any]) -> bool:
        return True

    def _counters(self, p: Any, state: dict[str, Any]) -> list[Any]:
        if "step" not in state:
            state["step"] = 0
            self._fresh.add((p, "step"))
        return [float(state["step"])]

    def _counts_after(self, params: list[Any]) -> list[tuple[dict[str, Any], str, Any]]:
        states = [self.state[p] for p in params]
        return [(state, "step", state["step"] + 1) for state in states]  # Python's, in torch

    def _look_at_gradients(self) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None and not p.grad.is_sparse:
                    raise RuntimeError(
                        "SparseAdam does not support dense gradients, please consider Adam instead"
                    )


def counter_is_single(opt: Native, group: dict[str, Any]) -> bool:
    """Return whether the counters of a group are kept in float32."""
    for p in group["params"]:
        product = opt.state[p].get("mu_product") if p in opt.state else None
        if product is not None:
            return product.dtype == torch.float32
    return False
