"""Compare how update rules and solvers converge on one problem."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import numpy as np

import fastopt
from fastopt.checks import count, number
from fastopt.convergence.problems import PROBLEMS, Problem
from fastopt.convergence.runs import Done, History, Recorder, run_rule, run_solver
from fastopt.rules.base import Optimizer
from fastopt.rules.wrappers import Wrapper

__all__ = ["DEFAULT", "Comparison", "compare", "known_rules", "known_solvers"]

DEFAULT = ("SGD", "Momentum", "Nesterov", "Adagrad", "RMSprop", "Adam", "bfgs", "newton")
RATES = tuple(float(f"{m}e{k}") for k in range(-4, 2) for m in (1, 2, 5))  # tried for a rule's lr
ON_SADDLES = 0.05
TINY = 1e-30  # of the part of the first error: below it runs are equal

# Names for what is an option in the library, and what a comparison needs to be one.
ALIASES: dict[str, tuple[str, dict[str, Any]]] = {
    "Momentum": ("SGD", {"momentum": 0.9}),
    "Nesterov": ("SGD", {"momentum": 0.9, "nesterov": True}),
}
FAIR: dict[str, dict[str, Any]] = {  # without the penalty that a default adds; vectors not left out
    "AdamW": {"weight_decay": 0.0},
    "Muon": {"weight_decay": 0.0},
    "LARS": {"exclude_vectors": False},
    "LAMB": {"weight_decay": 0.0},
    "ScheduleFreeAdamW": {"weight_decay": 0.0},
}


@dataclass(frozen=True, eq=False)
class Comparison:
    """What `compare` returns: a history for each method; `print` shows a table.

    Attributes
    ----------
    problem : Problem
        What was minimized.
    histories : tuple of History
        In the order of the methods; `comparison["Adam"]` is one by its label.
    """

    problem: Problem
    histories: tuple[History, ...]

    def __getitem__(self, method: str) -> History:
        for history in self.histories:
            if history.method == method:
                return history
        raise KeyError(f"{method!r} is not one of {[h.method for h in self.histories]}")

    def __iter__(self) -> Iterator[History]:
        return iter(self.histories)

    def __len__(self) -> int:
        return len(self.histories)

    def rows(self) -> list[dict[str, Any]]:
        """Return one mapping for each method, with values that JSON knows.

        Returns
        -------
        list of dict
            With method, lr (None for a solver), status, steps, evaluations, seconds, f, grad_norm,
            rate (a kind), rate_value (None if it has none) and rate_text.
        """
        return [
            {
                "method": h.method,
                "lr": None if math.isnan(h.lr) else h.lr,
                "status": h.status,
                "steps": h.steps,
                "evaluations": int(h.evaluations[-1]),
                "seconds": float(h.seconds[-1]),
                "f": float(h.f[-1]),
                "grad_norm": float(h.grad_norm[-1]),
                "rate": h.rate.kind,
                "rate_value": None if math.isnan(h.rate.value) else h.rate.value,
                "rate_text": str(h.rate),
            }
            for h in self.histories
        ]

    def cells(self) -> tuple[list[str], list[list[str]]]:
        """Return the table's heading and rows as text."""
        head = ["method", "lr", "steps", "evaluations", "seconds", "f", "|g|", "ended", "rate"]
        return head, [
            [
                row["method"],
                "" if row["lr"] is None else f"{row['lr']:g}",
                f"{row['steps']}",
                f"{row['evaluations']}",
                f"{row['seconds']:.2g}",
                f"{row['f']:.3g}",
                f"{row['grad_norm']:.2g}",
                row["status"],
                row["rate_text"],
            ]
            for row in self.rows()
        ]

    def __str__(self) -> str:
        head, rows = self.cells()
        widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
        left = (0, 7, 8)  # words; the rest are numbers

        def line(cells: Sequence[str]) -> str:
            return "  ".join(
                cell.ljust(width) if k in left else cell.rjust(width)
                for k, (cell, width) in enumerate(zip(cells, widths, strict=True))
            ).rstrip()

        return "\n".join(map(line, [head, *rows]))


def compare(
    problem: Any,
    methods: Any = None,
    *,
    steps: int = 200,
    lr: float | None = None,
    tol: float = 1e-10,
) -> Comparison:
    """Run update rules and solvers on one problem, and say how fast each converges.

    Parameters
    ----------
    problem : str, Problem or tuple
        "rosenbrock", "beale", "valley", "saddle", "monkey"; a `fastopt.convergence.Problem`; or
        its first arguments (fun, grad, x0) or (fun, grad, x0, optimum).
    methods : sequence or mapping label -> method, optional
        A method is the name or class of an update rule ("Adam", `fastopt.Adam`; "Momentum" and
        "Nesterov" are SGD with momentum 0.9; "Lookahead" and "SAM" are around SGD), the name of
        a solver of `fastopt.minimize` ("bfgs"), one of these with options as a pair
        ("Adam", {"betas": (0.8, 0.99)}), an optimizer that has one parameter equal to x0 and has
        taken no step yet, of which a copy is used, or a function that takes an array and returns
        an optimizer of it. Without it: SGD, Momentum, Nesterov, Adagrad, RMSprop, Adam, bfgs
        and newton, the solvers where there are any.
    steps : int
        At most so many, >= 1.
    lr : float, optional
        The learning rate of rules that are not given one. Without it each gets the best of 1, 2
        and 5 times 1e-4 to 10, found by runs that count nowhere: of those in which f never gets
        above its start, if there are any, that with the least mean of log(f - f(optimum)), or the
        least last f where no optimum is known. On saddles nothing is best, and it is 0.05.
    tol : float
        A run ends when the norm of the gradient is at most this, >= 0.

    Returns
    -------
    Comparison
        One `History` for each method. `str` makes a table of them; `fastopt.convergence.plots`
        draws them.

    Raises
    ------
    TypeError, ValueError
        Naming the argument. Errors of the problem's functions go to the caller.

    Notes
    -----
    A rule that decays weights by default is run without it; LARS does not leave out vectors;
    Muon sees a matrix of one row. A schedule-free rule is measured at its average. Writing down
    stops the clock and is not counted in evaluations. How rates are estimated:
    `fastopt.convergence.rate_of`.

    Examples
    --------
    >>> import fastopt
    >>> found = fastopt.compare("valley", ["SGD", "Momentum"], steps=300)
    >>> found["SGD"].rate.kind, found["Momentum"].rate.kind
    ('linear', 'linear')
    >>> bool(found["Momentum"].rate.value < found["SGD"].rate.value)
    True
    """
    chosen = _problem(problem)
    runs = _methods(methods)
    steps = count("steps", steps, 1)
    tol = number("tol", tol, 0)
    lr = None if lr is None else number("lr", lr, 0, open_below=True)
    found = tuple(run(chosen, steps, lr, tol) for run in runs)
    if chosen.optimum is not None:
        minimum = float(chosen.fun(chosen.optimum.copy()))
        best = min(found, key=lambda history: history.f.min())
        if best.f.min() < minimum - 1e-6 * max(1.0, abs(minimum)):
            warnings.warn(
                f"optimum is no minimizer: fun is {minimum:.6g} there, {best.method} came to "
                f"{best.f.min():.6g}; errors and rates mean nothing",
                RuntimeWarning,
                stacklevel=2,
            )
    return Comparison(chosen, found)


def known_rules() -> list[str]:
    """Return the names of update rules that `compare` takes."""
    own = {n for n, cls in Optimizer.registry.items() if cls.__module__.startswith("fastopt.")}
    return sorted({*own, *ALIASES, "Lookahead", "SAM"})


def known_solvers() -> list[str]:
    """Return the names of solvers that `compare` takes: none in a fastopt without `minimize`."""
    try:
        from fastopt.solvers.minimize import METHODS
    except ImportError:
        return []
    return list(METHODS)


def _problem(given: Any) -> Problem:
    """Return the problem that the user means."""
    if isinstance(given, Problem):
        return given
    if isinstance(given, str):
        if given not in PROBLEMS:
            raise ValueError(
                f"problem must be one of {', '.join(map(repr, PROBLEMS))}, a Problem or "
                f"(fun, grad, x0[, optimum]), got {given!r}"
            )
        return PROBLEMS[given]
    if isinstance(given, tuple) and len(given) in (3, 4):
        return Problem(*given)
    raise TypeError(
        f"problem must be a name, a Problem or a tuple (fun, grad, x0[, optimum]), got {given!r}"
    )


Run = Callable[[Problem, int, "float | None", float], History]


def _methods(given: Any) -> list[Run]:
    """Return what runs each method."""
    if given is None:
        given = [name for name in DEFAULT if name in known_rules() or name in known_solvers()]
    if isinstance(given, str) or not isinstance(given, (Mapping, Sequence)):
        raise TypeError(f"methods must be a sequence or mapping of methods, got {given!r}")
    pairs = list(given.items()) if isinstance(given, Mapping) else [(None, m) for m in given]
    if not pairs:
        raise ValueError("methods is empty: name at least one")
    found = [_method(label, method) for label, method in pairs]
    labels = [label for label, _ in found]
    for label in labels:
        if labels.count(label) > 1:
            raise ValueError(f"methods: {label!r} is there twice: pass a mapping label -> method")
    return [run for _, run in found]


def _method(label: str | None, method: Any) -> tuple[str, Run]:
    """Return the label of one method, and what runs it."""
    options: dict[str, Any] = {}
    if isinstance(method, tuple):
        if len(method) != 2 or not isinstance(method[1], Mapping):
            raise TypeError(f"methods: a tuple must be (method, options), got {method!r}")
        method, options = method[0], dict(method[1])
    if isinstance(method, str):
        names = {name.lower(): name for name in (*known_solvers(), *known_rules())}
        name = names.get(method.lower())
        if name is None:
            near = get_close_matches(method.lower(), names, 1)
            hint = f"; did you mean {names[near[0]]!r}?" if near else ""
            raise ValueError(f"methods: no update rule or solver is named {method!r}{hint}")
        label = label or _labelled(name, options)
        if name in known_solvers():
            return label, lambda *how: _solve(label, name, options, *how)
        base, own = ALIASES.get(name, (name, {}))
        return label, _tuned(label, _maker(getattr(fastopt, base), {**own, **options}), options)
    if isinstance(method, type) and issubclass(method, (Optimizer, Wrapper)):
        label = label or _labelled(method.__name__, options)
        return label, _tuned(label, _maker(method, options), options)
    if options:
        raise TypeError(f"methods: options go with a name or a class, got {method!r}")
    if isinstance(method, (Optimizer, Wrapper)):
        label = label or type(method).__name__
        return label, lambda *how: _run(label, lambda w, lr: _copied(method, w), None, *how)
    if callable(method):
        label = label or getattr(method, "__name__", type(method).__name__)
        return label, lambda *how: _run(label, lambda w, lr: (method(w), w), None, *how)
    raise TypeError(
        "methods: each must be a name, an optimizer's class, an optimizer or a function that "
        f"makes one, got {method!r}"
    )


def _labelled(name: str, options: Mapping[str, Any]) -> str:
    """Return a name with its options."""
    return " ".join([name, *(f"{key}={value}" for key, value in options.items())])


Maker = Callable[[np.ndarray, Any], tuple[Any, np.ndarray]]


def _maker(cls: type, options: Mapping[str, Any]) -> Maker:
    """Return what makes an optimizer of a class, and the array that it moves."""

    def make(w: np.ndarray, lr: Any) -> tuple[Any, np.ndarray]:
        if issubclass(cls, Wrapper):
            own = {key: value for key, value in options.items() if key != "lr"}
            return cls(fastopt.SGD(w, lr=lr), **own), w
        w = w.reshape(1, -1) if cls is fastopt.Muon else w
        return cls(w, **{**FAIR.get(cls.__name__, {}), **options, "lr": lr}), w

    return make


def _copied(opt: Any, w: np.ndarray) -> tuple[Any, np.ndarray]:
    """Return a copy of a new optimizer, and the array that it moves."""
    arrays = [array for group in opt.param_groups for array in group["params"].values()]
    if opt.t or len(arrays) != 1 or not np.array_equal(arrays[0].ravel(), w):
        raise ValueError(
            f"methods: {type(opt).__name__} must have one parameter equal to x0 and no step taken: "
            "its states may depend on where it starts"
        )
    if arrays[0].dtype != w.dtype:
        raise ValueError(
            f"methods: the parameter of {type(opt).__name__} is {arrays[0].dtype}, x0 {w.dtype}"
        )
    own = copy.deepcopy(opt)
    return own, next(iter(own.param_groups[0]["params"].values()))


def _tuned(label: str, make: Maker, options: Mapping[str, Any]) -> Run:
    """Return what runs a rule with its own, the given, or the best learning rate."""

    def run(problem: Problem, steps: int, lr: float | None, tol: float) -> History:
        wanted = options.get("lr", lr)
        if wanted is None and problem.floor > -math.inf:
            wanted = ON_SADDLES
        if wanted is not None:
            return _run(label, make, wanted, problem, steps, lr, tol)
        runs = [_run(label, make, rate, problem, steps, lr, tol) for rate in RATES]
        best = min(runs, key=lambda history: _merit(problem, history))
        return _run(label, make, best.lr, problem, steps, lr, tol)

    return run


def _merit(problem: Problem, history: History) -> tuple[bool, bool, float, float]:
    """Return what is less for a better run."""
    bad, above = history.status == "diverged", bool(history.f.max() > history.f[0])
    last = float(history.f[-1])
    if problem.minimum is None:
        return bad, above, last, 0.0
    errors = np.maximum(history.errors, TINY * history.errors[0] or TINY)
    return bad, above, float(np.log(errors).mean()), last


def _run(
    label: str, make: Maker, lr: Any, problem: Problem, steps: int, _: Any, tol: float
) -> History:
    """Run one optimizer once."""
    opt, w = make(problem.x0.copy(), lr)
    rate = opt.param_groups[0]["lr"]
    rate = math.nan if rate is None else float(rate(0) if callable(rate) else rate)
    recorder = Recorder(problem, tol, steps)
    with np.errstate(all="ignore"):  # what is not finite ends the run
        try:
            run_rule(recorder, opt, w)
        except Done:
            pass
    return recorder.history(label, rate, "")


def _solve(
    label: str, name: str, options: dict[str, Any], problem: Problem, steps: int, _: Any, tol: float
) -> History:
    """Run one solver once."""
    recorder, message = Recorder(problem, tol, steps), ""
    with np.errstate(all="ignore"):
        try:
            message = run_solver(recorder, name, options)
        except Done:
            pass
    return recorder.history(label, math.nan, message)
