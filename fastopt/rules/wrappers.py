"""Optimizers around an optimizer: Lookahead's slow weights, SAM's step from a worse point."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable, Iterator, Mapping
from os import PathLike
from typing import Any

import numpy as np

from fastopt.checks import count, number
from fastopt.rules import checkpoint, gradients, precision, statefiles
from fastopt.rules.base import Optimizer, StepInfo
from fastopt.rules.groups import Group
from fastopt.rules.parameters import transposed

__all__ = ["SAM", "Lookahead"]


class Wrapper:
    """What wrappers share: the face of the optimizer inside, which is `inner`."""

    format: str
    fields: tuple[str, ...] = ()  # what a state dictionary has beside format and optimizer

    def __init__(self, opt: Optimizer) -> None:
        if not isinstance(opt, Optimizer):
            raise TypeError(
                f"{type(self).__name__}: opt must be a fastopt optimizer, got {type(opt).__name__}"
            )
        if opt.lazy in ("row", "catchup"):
            raise ValueError(
                f"{type(self).__name__}: lazy={opt.lazy!r} does not go with it, because it changes "
                "all rows: use lazy='dense'"
            )
        self.inner = opt

    @property
    def param_groups(self) -> tuple[Group, ...]:
        """The parameter groups of the optimizer inside, read at every step."""
        return self.inner.param_groups

    @property
    def t(self) -> int:
        """Steps done."""
        return self.inner.t

    @property
    def state(self) -> Mapping[str, Mapping[str, np.ndarray]]:
        """The states of the optimizer inside, by parameter and name."""
        return self.inner.state

    def _parameters(self) -> list[tuple[str, np.ndarray]]:
        return [pair for group in self.param_groups for pair in group["params"].items()]

    def bind(self, grads: Any) -> None:
        """Hold `grads` for all steps to come, as `Optimizer.bind` does."""
        self.inner.bind(grads)

    def unbind(self) -> None:
        """Let go of bound gradients."""
        self.inner.unbind()

    def zero_grad(self) -> None:
        """Set bound gradients to zero."""
        self.inner.zero_grad()

    def state_dict(self) -> dict[str, Any]:
        """Return a copy of what the wrapper keeps, and the inner `state_dict()` as "optimizer"."""
        return {"format": self.format, **self._own(), "optimizer": self.inner.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over `state`, from `state_dict()` of the same wrapper of the same optimizer.

        Raises
        ------
        ValueError
            Listing every difference; nothing has changed then.
        """
        self._load(state, "state")

    def save(self, path: str | PathLike[str]) -> None:
        """Write `state_dict()` to `path`, as `Optimizer.save` does."""
        arrays: dict[str, np.ndarray] = {}
        header = _without_arrays(self.state_dict(), arrays)
        statefiles.write(path, header, arrays)

    def load(self, path: str | PathLike[str]) -> None:
        """Read what `save` wrote and take it over, as `load_state_dict` does."""
        state = statefiles.read(path, f"file of {type(self).__name__}", _with_arrays)
        self._load(state, f"{os.fspath(path)!r}")

    def _load(self, state: Mapping[str, Any], where: str) -> None:
        owner = type(self).__name__
        found = self._differences(state)
        if not found:
            found = checkpoint.differences(self.inner, state["optimizer"])
        if found:
            raise ValueError(f"{where} does not fit this {owner}: " + "; ".join(found))
        self.inner.load_state_dict(state["optimizer"])  # may still refuse a hyper-parameter
        self._take(state)

    def _differences(self, state: Any) -> list[str]:
        """Return, in words, everything in which `state` does not fit, beside the optimizer's."""
        if not isinstance(state, Mapping):
            return [f"it is a {type(state).__name__}, not a mapping"]
        known = ("format", *self.fields, "optimizer")
        missing = [key for key in known if key not in state]
        if missing:
            return [f"it has no {', '.join(map(repr, missing))}"]
        if state["format"] != self.format:
            return [f"its format is {state['format']!r}, this is {self.format!r}"]
        unknown = [key for key in state if key not in known]
        return [f"it has an unknown {key!r}" for key in unknown] + self._unlike(state)

    def _own(self) -> dict[str, Any]:
        """Return copies of `fields` by name."""
        raise NotImplementedError

    def _unlike(self, state: Mapping[str, Any]) -> list[str]:
        """Return, in words, which of `fields` do not fit."""
        raise NotImplementedError

    def _take(self, state: Mapping[str, Any]) -> None:
        """Take over `fields`, which fit."""
        raise NotImplementedError


class Lookahead(Wrapper):
    r"""Lookahead: slow weights that follow the optimizer's, which start from them again.

    Parameters
    ----------
    opt : Optimizer
        The optimizer that takes the steps. Not FTRL nor a schedule-free one: they compute the
        parameters from their states, and would undo what is done to the parameters alone.
    k : int
        Steps from one synchronization to the next, >= 1.
    alpha : float
        The part of the way that the slow weights go, in (0, 1]; 1 changes nothing.

    Attributes
    ----------
    inner : Optimizer
        The optimizer inside.
    slow : mapping
        name -> the slow weights, float32 for 16-bit parameters.
    fast_steps : int
        Steps since the last synchronization.

    Notes
    -----
    After every k-th step :math:`\phi \leftarrow \phi + \alpha (w - \phi),\; w \leftarrow \phi`,
    where :math:`\phi` starts as the initial w (Zhang, Lucas, Hinton and Ba, 2019,
    arXiv:1907.08610, Algorithm 1). The optimizer's states, momentum included, stay as they are.
    Skipped steps do not count, and frozen parameters are left alone. Where the optimizer keeps
    more of 16-bit parameters than these hold, the float32 original gets :math:`\phi`, and what
    was left over from rounding becomes 0. An average (`ema`) and step hooks see the parameters
    before the synchronization.

    Examples
    --------
    >>> import numpy as np, fastopt
    >>> from fastopt.rules.wrappers import Lookahead
    >>> w = np.array([1.0, 2.0])
    >>> opt = Lookahead(fastopt.SGD(w, lr=0.25), k=2, alpha=0.5)
    >>> for _ in range(2):
    ...     info = opt.step(np.ones(2))
    >>> w
    array([0.75, 1.75])
    """

    format = "fastopt.lookahead/1"
    fields = ("k", "alpha", "fast_steps", "slow")

    def __init__(self, opt: Optimizer, k: int = 5, alpha: float = 0.5) -> None:
        super().__init__(opt)
        name = type(opt).__name__
        if opt.rule.startswith(("ftrl", "schedule_free")):
            raise TypeError(
                f"Lookahead: {name} computes the parameters from its states, and would undo what "
                "Lookahead does to them"
            )
        self.k = count("k", k, 1)
        self.alpha = number("alpha", alpha, 0, 1, open_below=True)
        self.fast_steps = 0
        self.slow: dict[str, np.ndarray] = {}
        self._cover()

    def _cover(self) -> None:
        """Make the slow weights of parameters that have none, and room for a difference."""
        for name, w in self._parameters():
            if name not in self.slow:
                slow = precision.like(w, precision.working_dtype(w))
                slow[...] = self.inner.state[name].get("master", w)
                self.slow[name] = slow
        self._room = np.empty(max(slow.nbytes for slow in self.slow.values()), np.uint8)

    def step(self, grads: Any = None) -> StepInfo:
        """Take the optimizer's step, and synchronize after every k-th.

        Parameters
        ----------
        grads : array, sequence of arrays, or mapping name -> array, optional
            As in `Optimizer.step`.

        Returns
        -------
        StepInfo
            The optimizer's.
        """
        if len(self.slow) != len(self.inner.state):
            self._cover()
        info = self.inner.step(grads)
        if not info.skipped:
            self.fast_steps += 1
            if self.fast_steps >= self.k:
                self.synchronize()
        return info

    def synchronize(self) -> None:
        """Move the slow weights towards the parameters, and put them there; k steps start anew."""
        opt = self.inner
        with opt._plan, np.errstate(over="ignore", invalid="ignore"):
            for name, w in self._parameters():
                if name in opt._frozen or name not in self.slow:
                    continue
                slow, state = self.slow[name], opt.state[name]
                exact = state.get("master", w)
                if self.alpha == 1:
                    slow[...] = exact  # slow + (exact - slow) may differ in the last bit
                    continue
                order = "F" if transposed(slow) else "C"
                way = self._room[: slow.nbytes].view(slow.dtype).reshape(slow.shape, order=order)
                way[...] = exact
                way -= slow
                way *= self.alpha
                slow += way
                exact[...] = slow
                if exact is not w:
                    w[...] = slow
                if "rest" in state:
                    state["rest"][...] = 0
        self.fast_steps = 0

    def _own(self) -> dict[str, Any]:
        slow = {name: array.copy() for name, array in self.slow.items()}
        return {"k": self.k, "alpha": self.alpha, "fast_steps": self.fast_steps, "slow": slow}

    def _unlike(self, state: Mapping[str, Any]) -> list[str]:
        self._cover()
        found = []
        for check in (
            lambda: count("k", state["k"], 1),
            lambda: number("alpha", state["alpha"], 0, 1, open_below=True),
            lambda: count("fast_steps", state["fast_steps"], 0),
        ):
            try:
                check()
            except (TypeError, ValueError) as error:
                found.append(str(error))
        if not isinstance(state["slow"], Mapping):
            return [*found, f"slow must be a mapping, got {type(state['slow']).__name__}"]
        for name in sorted({*state["slow"], *self.slow}, key=str):
            if name not in state["slow"]:
                found.append(f"slow weights of {name!r} are missing")
            elif name not in self.slow:
                found.append(f"slow weights of {name!r} are for a parameter that is not here")
            else:
                theirs, ours = np.asarray(state["slow"][name]), self.slow[name]
                if theirs.shape != ours.shape or theirs.dtype != ours.dtype:
                    found.append(
                        f"slow weights of {name!r} are {theirs.dtype}{list(theirs.shape)}, here "
                        f"{ours.dtype}{list(ours.shape)}"
                    )
        return found

    def _take(self, state: Mapping[str, Any]) -> None:
        self.k, self.alpha = int(state["k"]), float(state["alpha"])
        self.fast_steps = int(state["fast_steps"])
        for name, array in state["slow"].items():
            self.slow[name][...] = array

    def __repr__(self) -> str:
        return f"Lookahead({self.inner!r}, k={self.k}, alpha={self.alpha!r})"


class SAM(Wrapper):
    r"""Sharpness-aware minimization: step with the gradient at a worse point near by.

    Parameters
    ----------
    opt : Optimizer
        The optimizer that takes the steps.
    rho : float
        The distance :math:`\rho` to the worse point, >= 0.

    Attributes
    ----------
    inner : Optimizer
        The optimizer inside.

    Notes
    -----
    With g the gradient at w, :math:`\hat\epsilon = \rho\, g / \|g\|_2`, and the step is taken at
    w with the gradient at :math:`w + \hat\epsilon` (Foret, Kleiner, Mobahi and Neyshabur, 2021,
    arXiv:2010.01412, equations 2 and 3). The norm is that of all gradients together but those of
    frozen parameters, which stay where they are. A group that maximizes is moved by
    :math:`-\hat\epsilon`. Weight decay, clipping and penalties belong to the step alone.

    Examples
    --------
    >>> import numpy as np, fastopt
    >>> from fastopt.rules.wrappers import SAM
    >>> w = np.array([3.0, 4.0])  # of the loss |w|^2 / 2, whose gradient is w
    >>> sam = SAM(fastopt.SGD(w, lr=0.5), rho=1.0)
    >>> with sam.perturbed(w.copy()):
    ...     g = w.copy()
    >>> g
    array([3.6, 4.8])
    >>> info = sam.step(g)
    >>> w
    array([1.2, 1.6])
    """

    format = "fastopt.sam/1"
    fields = ("rho",)

    def __init__(self, opt: Optimizer, rho: float = 0.05) -> None:
        super().__init__(opt)
        self.rho = number("rho", rho, 0)
        self._perturbed = False  # since the last step
        self._inside = False

    @contextlib.contextmanager
    def perturbed(self, grads: Any = None) -> Iterator[None]:
        """Put w + rho * g / ||g|| into the parameters for the length of a `with` block.

        At the end the parameters have their former bits, also after an exception. If g is all
        zeros, they do not move.

        Parameters
        ----------
        grads : array, sequence of arrays, or mapping name -> array, optional
            The gradients g at w, as in `Optimizer.step`; left out, the bound ones.

        Raises
        ------
        ValueError
            If the norm of the gradients is not finite, naming the gradient; nothing has moved.
        """
        if self._inside:
            raise ValueError("SAM.perturbed: the parameters are perturbed already")
        moves = self._moves(grads)
        kept = [(w, w.copy()) for w, _ in moves]
        self._inside, self._perturbed = True, False
        try:
            for w, move in moves:
                w[...] = w + move
            moves.clear()
            yield
            self._perturbed = True
        finally:
            for w, original in kept:
                w[...] = original
            self._inside = False

    def _moves(self, grads: Any) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return each parameter that moves, and by what."""
        opt, arrays = self.inner, dict(self._parameters())
        if grads is None:
            if not opt._bound:
                raise ValueError("SAM.perturbed: grads is missing: pass them, or bind(grads) once")
            grads = list(opt._bound_arrays)
        names = tuple(arrays)
        found = gradients.ordered(grads, names, opt.param_groups, opt._frozen)
        scaled: dict[str, np.ndarray] = {}
        for name, grad in zip(names, found, strict=True):
            if name in opt._frozen:
                continue
            array, w = gradients.as_array(name, grad), arrays[name]
            if array.shape != w.shape or array.dtype != w.dtype:
                raise ValueError(
                    f"gradient of {name!r} is {array.dtype}{list(array.shape)}, the parameter "
                    f"{w.dtype}{list(w.shape)}"
                )
            scaled[name] = array.astype(np.float64)  # where squares of float32 do not overflow
        largest = 0.0
        for name, grad in scaled.items():
            most = float(np.abs(grad).max(initial=0.0))
            if not math.isfinite(most):
                raise ValueError(
                    f"SAM.perturbed: the norm of the gradients is {most}: gradient of {name!r} is "
                    "not finite; nothing was changed"
                )
            largest = max(largest, most)
        if largest == 0 or self.rho == 0:
            return []
        for grad in scaled.values():
            grad /= largest
        norm = math.sqrt(sum(float(np.vdot(grad, grad)) for grad in scaled.values()))
        moves = []
        for group in self.param_groups:
            length = -self.rho if group["maximize"] else self.rho
            for name, w in group["params"].items():
                if name in scaled:
                    move = scaled.pop(name)
                    move *= length / norm
                    moves.append((w, move.astype(precision.working_dtype(w), copy=False)))
        return moves

    def step(self, grads: Any = None) -> StepInfo:
        """Take the optimizer's step with the gradients at the worse point.

        Parameters
        ----------
        grads : array, sequence of arrays, or mapping name -> array, optional
            The gradients found in the `perturbed` block, as in `Optimizer.step`.

        Returns
        -------
        StepInfo
            The optimizer's.

        Raises
        ------
        ValueError
            If there was no `perturbed` block since the last step, or it has not ended.
        """
        if self._inside:
            raise ValueError("SAM.step: the parameters are perturbed: leave the block first")
        if not self._perturbed:
            raise ValueError(
                "SAM.step: there was no perturbed block since the last step: take the gradients "
                "in `with sam.perturbed(grads):`"
            )
        info = self.inner.step(grads)
        self._perturbed = False
        return info

    def minimize_step(self, gradient: Callable[[], Any]) -> StepInfo:
        """Take one whole step: `gradient()` is called at w and again at the worse point.

        Parameters
        ----------
        gradient : callable
            Returns the gradients at the parameters' current values; it may fill the same arrays.

        Returns
        -------
        StepInfo
            The optimizer's.
        """
        with self.perturbed(gradient()):
            grads = gradient()
        return self.step(grads)

    def _own(self) -> dict[str, Any]:
        return {"rho": self.rho}

    def _unlike(self, state: Mapping[str, Any]) -> list[str]:
        try:
            number("rho", state["rho"], 0)
        except (TypeError, ValueError) as error:
            return [str(error)]
        return []

    def _take(self, state: Mapping[str, Any]) -> None:
        self.rho, self._perturbed = float(state["rho"]), False

    def __repr__(self) -> str:
        return f"SAM({self.inner!r}, rho={self.rho!r})"


def _without_arrays(value: Any, arrays: dict[str, np.ndarray]) -> Any:
    """Return `value` as JSON can hold it, its arrays put under new names into `arrays`."""
    if isinstance(value, np.ndarray):
        name = f"array{len(arrays)}"
        arrays[name] = value
        return {"array": name}
    if isinstance(value, Mapping):
        return {key: _without_arrays(part, arrays) for key, part in value.items()}
    return value


def _with_arrays(value: Any, file: Mapping[str, np.ndarray]) -> Any:
    """Undo `_without_arrays`."""
    if not isinstance(value, dict):
        return value
    if value.keys() == {"array"} and isinstance(value["array"], str):
        return file[value["array"]]
    return {key: _with_arrays(part, file) for key, part in value.items()}
