"""`LBFGS` with the directions by the passes of fastopt's solvers."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch.optim import lbfgs as theirs

from fastopt import _core
from fastopt.threads import resolve
from fastopt.torch.memory import view as array
from fastopt.torch.native import plain

__all__ = ["LBFGS"]

LEAST = 1e-10  # the least y.s of a pair that is kept
KEPT = ("d", "t", "old_dirs", "old_stps", "ro", "H_diag", "prev_flat_grad", "prev_loss")


class LBFGS(torch.optim.LBFGS):
    """`torch.optim.LBFGS`, whose directions take one pass for what torch does in two.

    Parameters, arguments, states and line search are torch's. Parameters that are not all
    float32 or complex64, or all float64 or complex128, in this machine's memory are left to torch.

    Parameters
    ----------
    threads : int, optional
        Threads of a pass; by default `torch.get_num_threads()`.

    Notes
    -----
    Inner products are summed in float64, whatever the parameters' dtype.
    """

    threads: int | None = None

    # No types here: the signature is that of torch's class, and a keyword more.
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.threads = kwargs.pop("threads", None)
        resolve(self.threads)
        super().__init__(*args, **kwargs)

    def step(self, closure: Callable[[], Any]) -> Any:
        """Take up to `max_iter` iterations, and return the first loss.

        Parameters
        ----------
        closure : callable
            Computes the loss and the gradients anew, with gradients enabled.
        """
        kinds = {(p.dtype.to_real(), p.device.type) for p in self._params}
        if kinds not in ({(torch.float32, "cpu")}, {(torch.float64, "cpu")}):
            step = torch.optim.LBFGS.step
            step = step.__wrapped__ if getattr(step, "hooked", False) else step
            return step(self, closure)
        with torch.no_grad():
            return _Step(self, torch.enable_grad()(closure)).run()

    def _gather_flat_grad(self) -> torch.Tensor:
        """Return all gradients as one vector; torch's own takes contiguous ones alone."""
        for p in self._params:
            if p.grad is not None and p.grad.layout == torch.strided:
                p.grad = p.grad.contiguous()
        return super()._gather_flat_grad()

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {
            "threads": self.threads, "_params": self._params, "_numel_cache": self._numel_cache,
        }  # fmt: skip


_parameters = inspect.signature(torch.optim.LBFGS.__init__).parameters.values()
LBFGS.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
    [
        *[p for p in _parameters if p.name != "self"],
        inspect.Parameter("threads", inspect.Parameter.KEYWORD_ONLY, default=None),
    ]
)


class _Step:
    """One call of `LBFGS.step`: torch's algorithm, its passes over vectors fused."""

    def __init__(self, opt: LBFGS, closure: Callable[[], Any]) -> None:
        self.opt, self.closure, self.group = opt, closure, opt.param_groups[0]
        self.state = opt.state[opt._params[0]]
        self.state.setdefault("func_evals", 0)
        self.state.setdefault("n_iter", 0)

    def run(self) -> Any:
        """Return the first loss."""
        opt, group, state = self.opt, self.group, self.state
        first = self.closure()
        loss = float(first)
        state["func_evals"] += 1
        evaluations = 1
        g = opt._gather_flat_grad()
        if g.abs().max() <= group["tolerance_grad"]:
            return first
        threads = resolve(torch.get_num_threads() if opt.threads is None else opt.threads)
        name = {torch.float32: "float32", torch.float64: "float64"}[g.dtype]
        self.passes = _core.Vectors(g.numel(), name, threads)
        for key in KEPT:
            setattr(self, key, contiguous(state.get(key)))
        rate, tolerance = plain(group["lr"]), group["tolerance_change"]
        for k in range(1, group["max_iter"] + 1):
            state["n_iter"] += 1
            slope = self.direct(g)
            self.remember(g, loss)
            if state["n_iter"] == 1:
                self.t = min(1.0, 1.0 / g.abs().sum()) * rate
            else:
                self.t = rate
            if slope > -tolerance:
                break
            before, used = loss, 0
            if group["line_search_fn"] is not None:
                loss, g, used = self.search(loss, g, slope, group["max_eval"] - evaluations)
            opt._add_grad(self.t, self.d)
            if group["line_search_fn"] is None and k != group["max_iter"]:
                loss, used = float(self.closure()), 1
                g = opt._gather_flat_grad()
            evaluations += used
            state["func_evals"] += used
            if k == group["max_iter"] or evaluations >= group["max_eval"]:
                break
            if self.passes.dot(array(g), array(g))[2] <= group["tolerance_grad"]:
                break
            if float(self.t) * self.longest <= tolerance or abs(loss - before) < tolerance:
                break
        state |= {key: getattr(self, key) for key in KEPT}
        return first

    def direct(self, g: torch.Tensor) -> float:
        """Make d the direction at this gradient; return d.g."""
        passes, state = self.passes, self.state
        if state["n_iter"] == 1:
            self.d, self.H_diag = g.neg(), 1
            self.old_dirs, self.old_stps, self.ro = [], [], []
            slope, _, self.longest = passes.dot(array(self.d), array(g))
            return slope
        state.setdefault("al", [None] * self.group["history_size"])  # torch's scratch
        y, s = torch.empty_like(g), torch.empty_like(g)
        flat = array(g)
        passes.combine(array(s), float(self.t), array(self.d), 0.0, array(self.d), flat)
        passes.combine(array(y), 1.0, flat, -1.0, array(self.prev_flat_grad), flat)
        ys, yy, _ = (float(x) for x in passes.dot(array(y), array(s)))
        if ys > LEAST:
            if len(self.old_dirs) == self.group["history_size"]:
                for one in (self.old_dirs, self.old_stps, self.ro):
                    one.pop(0)
            self.old_dirs.append(y)
            self.old_stps.append(s)
            self.ro.append(g.new_tensor(1.0 / ys))
            self.H_diag = g.new_tensor(ys / yy)
        self.d = torch.empty_like(g)
        if not self.old_dirs:
            slope, self.longest = passes.combine(
                array(self.d), -float(self.H_diag), flat, 0.0, flat, flat
            )
            return slope
        newest = passes.dot(array(self.old_stps[-1]), flat)[0]
        slope, self.longest = passes.two_loop_of(
            array(self.d), flat, [array(one) for one in self.old_stps],
            [array(one) for one in self.old_dirs], [float(one) for one in self.ro],
            float(self.H_diag), newest,
        )  # fmt: skip
        return slope

    def remember(self, g: torch.Tensor, loss: float) -> None:
        """Keep the gradient and the loss that this iteration began with."""
        if self.prev_flat_grad is None:
            self.prev_flat_grad = g.clone(memory_format=torch.contiguous_format)
        else:
            self.prev_flat_grad.copy_(g)
        self.prev_loss = loss

    def search(
        self, loss: float, g: torch.Tensor, slope: float, most: int
    ) -> tuple[float, torch.Tensor, int]:
        """Find t by torch's line search; return the loss, gradient and evaluations."""
        opt = self.opt
        if self.group["line_search_fn"] != "strong_wolfe":
            raise RuntimeError("only 'strong_wolfe' is supported")
        x = opt._clone_param()
        loss, g, self.t, used = theirs._strong_wolfe(
            lambda x, t, d: opt._directional_evaluate(self.closure, x, t, d),
            x, self.t, self.d, loss, g, g.new_tensor(slope), max_ls=most,
        )  # fmt: skip
        return loss, g, used


def contiguous(value: Any) -> Any:
    """Return tensors, or lists of them, as they can be passed over."""
    if isinstance(value, list):
        return [contiguous(one) for one in value]
    return value.contiguous() if isinstance(value, torch.Tensor) else value
