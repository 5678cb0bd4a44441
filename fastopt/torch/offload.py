"""Optimizer states and float32 originals in this machine's memory, for parameters anywhere."""

from __future__ import annotations

import concurrent.futures
import os
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import torch

from fastopt.checks import flag
from fastopt.torch import memory
from fastopt.torch.engine import RULES
from fastopt.torch.namesakes import LBFGS, SparseAdam
from fastopt.torch.native import LISTS, Native
from fastopt.torch.own import ScheduleFreeAdamW, ScheduleFreeSGD

__all__ = ["Offload"]

BUCKET = 1 << 22  # elements that are stepped together while others are on their way
LINE = 64  # bytes
OTHERS = (LBFGS, SparseAdam, ScheduleFreeAdamW, ScheduleFreeSGD)


class Flat:
    """Tensors one after the other in one piece of memory, each from a cache line on."""

    def __init__(self, pinned: bool) -> None:
        self.pinned = pinned
        self._rooms: dict[torch.dtype, tuple[torch.Tensor, int]] = {}

    def reserve(self, like: list[torch.Tensor], dtype: torch.dtype) -> None:
        """Make room for a tensor like each of these."""
        size = sum(self._padded(p.numel(), dtype) for p in like)
        room = torch.zeros(size, dtype=dtype, device="cpu", pin_memory=self.pinned)
        self._rooms[dtype] = room, 0

    def holds(self, like: torch.Tensor, dtype: torch.dtype) -> bool:
        """Whether there is room for such a tensor."""
        if dtype not in self._rooms:
            return False
        room, at = self._rooms[dtype]
        return at + self._padded(like.numel(), dtype) <= room.numel()

    def zeros(self, like: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """Return zeros of the shape of a parameter, in its order of axes where it has one."""
        size = self._padded(like.numel(), dtype)
        if not self.holds(like, dtype):
            self.reserve([like], dtype)
        room, at = self._rooms[dtype]
        self._rooms[dtype] = room, at + size
        strides = torch.empty_like(like, device="meta").stride()
        return room[at : at + size].as_strided(tuple(like.shape), strides)

    @staticmethod
    def _padded(size: int, dtype: torch.dtype) -> int:
        per_line = LINE // dtype.itemsize
        return -(-max(size, 1) // per_line) * per_line


class Bucket:
    """Some parameters of one group, and the optimizer that steps them here.

    `hosts` are the parameters as this machine has them: themselves, or copies of those elsewhere.
    """

    def __init__(self, opt: Offload, group: int, params: list[Any], separate: bool) -> None:
        self.opt, self.group, self.params, self.separate = opt, group, params, separate
        self.hosts = params
        if separate:
            room = Flat(opt._pinned)
            for dtype in {p.dtype for p in params}:  # parameters, then their gradients
                room.reserve([p for p in params if p.dtype == dtype] * 2, dtype)
            self.hosts = [
                torch.nn.Parameter(room.zeros(p, p.dtype), requires_grad=p.requires_grad)
                for p in params
            ]
            self.grads = [room.zeros(p, p.dtype) for p in params]
            self.versions = [-1] * len(params)
        self.inner = opt._class(self.hosts, **opt._options)
        self._states = Flat(False)
        self.inner._room = self._zeros
        self.begin()

    def begin(self) -> None:
        """Forget what arrived for the step that is over."""
        self.came: set[int] = set()  # parameters whose gradients are complete
        self.done, self.found = False, [False] * len(self.params)
        self.arrived: Any = None
        self.work: concurrent.futures.Future[None] | None = None

    def _low(self, p: Any) -> bool:
        """Whether a parameter's states are kept in fewer bits."""
        return self.inner.state_dtype is not None and p.dtype != torch.float64

    def _zeros(self, p: Any, dtype: torch.dtype) -> torch.Tensor:
        """Return a new state: a slice of what holds those of all parameters."""
        if self._low(p):  # they are replaced by codes
            return memory.zeros(p, dtype)
        if not self._states.holds(p, dtype):
            states = len(RULES[self.inner._rule(self.inner.param_groups[0])][0])
            states += sum(1 for _ in self.inner._beside(p))
            self._states.reserve(self.hosts * states, dtype)
        return self._states.zeros(p, dtype)

    def fetch(self) -> None:
        """Let the gradients, and parameters that somebody has written to, begin to come here."""
        with self.opt._copying():
            for k, p in enumerate(self.params):
                if p.grad is not None:
                    self._fetch_one(k, p)
            self.arrived = self.opt._mark()

    def complete(self) -> bool:
        """Whether all parameters that get gradients have had theirs."""
        return all(k in self.came or not p.requires_grad for k, p in enumerate(self.params))

    def fetch_one(self, k: int) -> None:
        """Let one gradient begin to come here, and go from where it was."""
        p = self.params[k]
        with self.opt._copying():
            self._fetch_one(k, p)
            self.arrived = self.opt._mark()
        p.grad = None

    def _fetch_one(self, k: int, p: Any) -> None:
        if p.grad.layout != torch.strided:
            raise RuntimeError("Offload takes no sparse gradients")
        self.found[k] = True
        self.grads[k].copy_(p.grad.detach(), non_blocking=self.opt._asynchronous)
        self.opt._used_here(p.grad)
        if p._version != self.versions[k]:
            with torch.no_grad():
                self.hosts[k].copy_(p.detach(), non_blocking=self.opt._asynchronous)

    def step(self) -> None:
        """Step these parameters, once their gradients are here, and send them back."""
        group = self.opt.param_groups[self.group]
        for p, host in zip(self.params, self.hosts, strict=True):
            shown = self.opt.state.get(p)
            if shown is not self.inner.state.get(host):  # somebody changed what there is to see
                self.inner.state.pop(host, None)
                if shown:
                    self.inner.state[host] = shown
        self.inner.param_groups[0].update({k: v for k, v in group.items() if k not in LISTS})
        if not self.separate:
            self.inner.step()
            return
        if self.arrived is not None:
            self.arrived.synchronize()
        for host, grad, found in zip(self.hosts, self.grads, self.found, strict=True):
            host.grad = grad if found else None
        self.inner.step()
        # what used p in backward was before its gradient, and that before its copy on this stream
        with self.opt._copying(wait=False), torch.no_grad():
            for k, (p, host) in enumerate(zip(self.params, self.hosts, strict=True)):
                if self.found[k]:
                    p.copy_(host, non_blocking=self.opt._asynchronous)
                    self.versions[k] = p._version


class Offload(torch.optim.Optimizer):
    """Step parameters, wherever they are, by an optimizer in this machine's memory.

    The optimizer's states, and the float32 originals of bfloat16 and float16 parameters, are here,
    and the accelerator has none of them. Gradients come in the parameters' dtype; parameters go out
    in it, rounded in the pass that computes them. In a step, some parameters travel while others
    are computed. Parameters in this machine's memory are stepped where they are.

    Parameters
    ----------
    params : iterable
        Parameters or groups of them, as for any optimizer of torch.
    optimizer_class : type
        A class of `fastopt.torch`, but not LBFGS, SparseAdam or a schedule-free one.
    in_backward : bool, default False
        Step parameters during `backward`, some at a time as soon as their gradients are complete,
        while it goes on; gradients are then freed, and `step` waits for the last of them. Not with
        gradients that are summed over several calls of `backward`, clipped or unscaled.
    **options
        Of the class: hyper-parameters, `threads`, `state_dtype`, and `rounding`, which is "master"
        unless it is given.

    Raises
    ------
    TypeError
        If the class is none of fastopt.torch's; if the optimizer is pickled or copied, in place of
        its `state_dict`.
    ValueError
        As the class; if parameters are on several GPUs.
    RuntimeError
        From `backward` with in_backward, if it comes a second time before `step`.

    Notes
    -----
    What is written to a parameter that is elsewhere counts from the next step on, unless it is
    written through its `data`.
    Hyper-parameters are read from `param_groups` when a parameter is stepped. `state_dict` is that
    of the class, and may be loaded into it or the other way round, on any machine. With CUDA,
    copies run on a stream of their own from and to page-locked memory.

    Examples
    --------
    >>> import torch
    >>> from fastopt.torch import AdamW, Offload
    >>> model = torch.nn.Linear(4, 1, dtype=torch.bfloat16)
    >>> optimizer = Offload(model.parameters(), AdamW, lr=0.01, in_backward=True)
    >>> model(torch.ones(2, 4, dtype=torch.bfloat16)).sum().backward()
    >>> optimizer.step()
    >>> optimizer.state[model.weight]["master"].dtype, model.weight.grad
    (torch.float32, None)
    """

    _separate = False  # whether even parameters that are here have copies, as those elsewhere
    _asynchronous = False  # whether copies take place while Python goes on

    def __init__(
        self, params: Any, optimizer_class: type[Any], *, in_backward: bool = False, **options: Any
    ) -> None:
        known = isinstance(optimizer_class, type) and issubclass(optimizer_class, Native)
        if not known or issubclass(optimizer_class, OTHERS):
            names = ", ".join(cls.__name__ for cls in OTHERS)
            raise TypeError(
                "optimizer_class must be a class of fastopt.torch, such as fastopt.torch.AdamW, "
                f"and none of {names}; got {optimizer_class!r}"
            )
        self._class, self._options = optimizer_class, {"rounding": "master", **options}
        self._in_backward = flag("in_backward", in_backward)
        self._buckets: list[Bucket] = []
        self._places: dict[Any, tuple[Bucket, int]] = {}
        self._stream: Any = None
        self._pinned = False
        self._worker: concurrent.futures.ThreadPoolExecutor | None = None
        self._process = os.getpid()
        pattern = optimizer_class([torch.nn.Parameter(torch.zeros(1))], **self._options)
        super().__init__(params, pattern.defaults)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters, as for any optimizer of torch."""
        super().add_param_group(param_group)
        group = len(self.param_groups) - 1
        params = self.param_groups[group]["params"]
        if len(set(params)) < len(params):
            self.param_groups.pop()
            raise ValueError("params must not have a parameter twice")
        for separate, params in self._divided(self.param_groups[group]["params"]):
            bucket = Bucket(self, group, params, separate)
            self._buckets.append(bucket)
            for k, p in enumerate(params):
                self._places[p] = bucket, k
                if self._in_backward and (p.is_floating_point() or p.is_complex()):
                    self._hook(p)
        self._link()  # some rules have states before the first step

    def _divided(self, params: list[Any]) -> Iterator[tuple[bool, list[Any]]]:
        """Yield whether parameters need copies here, and those that are stepped together."""
        some: list[Any] = []
        size, before = 0, False
        for p in params:
            separate = self._separate or p.device.type != "cpu"
            if p.device.type == "cuda" and self._stream is None:
                self._stream = torch.cuda.Stream(p.device)
                self._pinned = self._asynchronous = True
            if p.device.type != "cpu" and self._stream is not None:
                if p.device != self._stream.device:
                    raise ValueError(
                        f"params must be on one device besides this machine's memory, got "
                        f"{self._stream.device} and {p.device}: make an Offload for each"
                    )
            if some and (separate != before or size >= BUCKET):
                yield before, some
                some, size = [], 0
            some.append(p)
            size, before = size + p.numel(), separate
        if some:
            yield before, some

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take a step, or with in_backward wait until it is taken.

        Parameters
        ----------
        closure : callable, optional
            Computes the loss and the gradients anew, with gradients enabled; its loss is returned.

        Raises
        ------
        RuntimeError
            As the class.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        try:
            if self._in_backward:
                self._finish()
            else:
                for bucket in self._buckets:
                    if bucket.separate:
                        bucket.fetch()
                for bucket in self._buckets:
                    bucket.step()
        finally:
            for bucket in self._buckets:
                bucket.begin()
            self._link()
        if self._stream is not None:  # what comes next needs the parameters
            torch.cuda.current_stream(self._stream.device).wait_stream(self._stream)
        return loss

    # ---- during backward ----

    def _hook(self, p: Any) -> None:
        """Be told of a parameter's gradients, as long as there is such an optimizer."""
        alive = weakref.ref(self)

        def arrived(p: Any) -> None:
            opt = alive()
            if opt is not None:
                opt._arrived(p)

        needs = p.requires_grad
        p.requires_grad_(True)  # a frozen one may be trained later
        weakref.finalize(self, p.register_post_accumulate_grad_hook(arrived).remove)
        p.requires_grad_(needs)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget gradients, and with in_backward what a backward that failed has left."""
        super().zero_grad(set_to_none)
        concurrent.futures.wait([b.work for b in self._buckets if b.work is not None])
        for bucket in self._buckets:
            bucket.begin()

    def _arrived(self, p: Any) -> None:
        """Take a gradient that is complete."""
        bucket, k = self._places[p]
        if p.grad is None:
            raise RuntimeError("somebody else took a gradient before Offload: another Offload?")
        if k in bucket.came:
            raise RuntimeError(
                "a gradient came twice before step(): with in_backward=True a parameter is stepped "
                "by its first one. Call step() after each backward(), or zero_grad() to forget "
                "what a failed one has left, or give in_backward=False"
            )
        bucket.came.add(k)
        if bucket.separate:
            bucket.fetch_one(k)
        if bucket.complete():
            self._run(bucket)

    def _run(self, bucket: Bucket) -> None:
        bucket.done = True
        if bucket.separate and self._asynchronous:
            if self._worker is None or self._process != os.getpid():  # a child has no threads
                self._worker = concurrent.futures.ThreadPoolExecutor(1, "fastopt-offload")
                self._process = os.getpid()
                weakref.finalize(self, self._worker.shutdown, wait=False)
            bucket.work = self._worker.submit(bucket.step)
            return
        bucket.step()
        if not bucket.separate:
            for p in bucket.params:
                p.grad = None

    def _finish(self) -> None:
        for bucket in self._buckets:
            for k, p in enumerate(bucket.params if bucket.separate else ()):
                if p.grad is not None and not bucket.done:  # by hand, or not frozen any more
                    bucket.fetch_one(k)
            if not bucket.done:  # some of its parameters have had no gradient
                self._run(bucket)
        work = [bucket.work for bucket in self._buckets if bucket.work is not None]
        concurrent.futures.wait(work)  # all of it, before any error
        for one in work:
            one.result()

    # ---- copies ----

    def _copying(self, wait: bool = True) -> Any:
        """Return a context in which copies go to a stream of their own, after what there is."""
        if self._stream is None:
            return torch.no_grad()
        if wait:
            self._stream.wait_stream(torch.cuda.current_stream(self._stream.device))
        return torch.cuda.stream(self._stream)

    def _mark(self) -> Any:
        """Return what tells when the copies so far are here."""
        if self._stream is None:
            return None
        return self._stream.record_event()

    def _used_here(self, tensor: Any) -> None:
        """Keep the memory of a gradient until its copy is made."""
        if self._stream is not None:
            tensor.record_stream(self._stream)

    # ---- states ----

    def _link(self) -> None:
        """Show the states of all parameters as any optimizer does."""
        for bucket in self._buckets:
            for p, host in zip(bucket.params, bucket.hosts, strict=True):
                if host in bucket.inner.state:
                    self.state[p] = bucket.inner.state[host]

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over the state of such an optimizer, or of one of its class.

        Raises
        ------
        ValueError
            If groups or their parameters are not as many.
        """
        for hook in self._optimizer_load_state_dict_pre_hooks.values():
            state_dict = hook(self, state_dict) or state_dict
        saved = state_dict["param_groups"]
        sizes = [[len(g["params"]) for g in groups] for groups in (saved, self.param_groups)]
        if len(sizes[0]) != len(sizes[1]):
            raise ValueError("loaded state dict has a different number of parameter groups")
        if sizes[0] != sizes[1]:
            raise ValueError(
                "loaded state dict contains a parameter group that doesn't match the size of "
                "optimizer's group"
            )
        for group, theirs in zip(self.param_groups, saved, strict=True):
            for p, number in zip(group["params"], theirs["params"], strict=True):
                bucket, k = self._places[p]
                found = state_dict["state"].get(number)
                bucket.inner.state.pop(bucket.hosts[k], None)
                if found is not None:
                    here = bucket.hosts[k]
                    bucket.inner.state[here] = {
                        key: value.detach().to("cpu", copy=True)
                        if isinstance(value, torch.Tensor)
                        else value
                        for key, value in found.items()
                    }
            group.update({k: v for k, v in theirs.items() if k not in LISTS})
        self.state.clear()
        self._link()
        for post in self._optimizer_load_state_dict_post_hooks.values():
            post(self)

    def __getstate__(self) -> dict[str, Any]:
        raise TypeError("Offload cannot be pickled or copied: save its state_dict()")
