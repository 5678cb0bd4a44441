"""Graph cuts between two or more labels with all cores and no locks; needs numpy alone."""

from __future__ import annotations

import inspect
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fastopt import _core, memory
from fastopt.checks import check_callable, count, flag, number, one_of
from fastopt.graphcut import rounding
from fastopt.graphcut.graphs import Problem
from fastopt.slices import next_slice
from fastopt.threads import resolve, why_serial

METHODS, SCHEDULES = _core.CUT_METHODS, _core.CUT_SCHEDULES
CALLBACK_EVERY = 0.05  # seconds, at least
EDGES_PER_WORKER = 16384  # with fewer edges, a thread costs more than it brings
CHECK = 10  # epochs between two looks at the cut, at first
SEED = 1e30  # z of a seed: no step changes it, and its projection is 0 or 1 exactly


@dataclass
class GraphCutResult:
    """What `graph_cut` returns.

    Attributes
    ----------
    labels : ndarray of shape (n_nodes,), int32
    cut : float
        Weight of the edges between different labels, plus the labels' costs.
    lower_bound : float
        No cut is below it. With ``method="subgradient"`` only what the costs alone say.
    gap : float
        (cut - lower_bound) / abs(cut): the cut is at most so far from the best one.
    x : ndarray of shape (n_nodes,) for two labels, else (n_nodes, n_labels)
        The relaxed solution: each node's share in label 1, or in each label.
    objective : float
        The exact value of `x`.
    status : {"converged", "finished", "stopped", "interrupted"}
        "converged": `gap` is at most `tol`.
    message : str
        The status in a sentence.
    mode : {"serial", "shared"}
    reason : str
        Why that mode and that many threads.
    method : {"flow", "subgradient"}
    threads : int
        Threads really used.
    step : float
    epochs : int
        Whole passes over the edges.
    edges : int
        Edges visited, about.
    seconds : float
        Time of all but the checks of the input.
    history : list of dict
        Each time the cut was looked at: epoch, seconds, cut (the best so far), lower_bound,
        objective.
    """

    labels: np.ndarray
    cut: float
    lower_bound: float
    x: np.ndarray
    objective: float
    status: str = "finished"
    message: str = ""
    mode: str = ""
    reason: str = ""
    method: str = ""
    threads: int = 1
    step: float = 0.0
    epochs: int = 0
    edges: int = 0
    seconds: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)

    @property
    def gap(self) -> float:
        """How far the cut may be from the best one, relative to itself."""
        return gap_of(self.cut, self.lower_bound)


Callback = Callable[[dict[str, Any]], Any]


def gap_of(cut: float, bound: float) -> float:
    """Return (cut - bound) / |cut|."""
    if cut <= bound:
        return 0.0
    return (cut - bound) / abs(cut) if cut else math.inf


@dataclass(frozen=True)
class Settings:
    """Checked arguments apart from the problem; `step` is None for "auto"."""

    method: str
    epochs: int
    tol: float
    step: float | None
    schedule: str
    decay: float
    average: bool
    threads: int
    seed: int

    @classmethod
    def check(
        cls,
        *,
        method: str,
        epochs: int,
        tol: float,
        step: float | str,
        schedule: str,
        decay: float,
        average: bool,
        threads: int | None,
        seed: int,
    ) -> Settings:
        """Return the settings, or raise naming the argument and what it may be."""
        if isinstance(step, str) and step != "auto":
            raise ValueError(f"step must be 'auto' or a positive number, got {step!r}")
        return cls(
            method=one_of("method", method, METHODS),
            epochs=count("epochs", epochs, 0),
            tol=number("tol", tol, 0),
            step=None if isinstance(step, str) else number("step", step, 0, open_below=True),
            schedule=one_of("schedule", schedule, SCHEDULES),
            decay=number("decay", decay, 0, 1, open_below=True),
            average=flag("average", average),
            threads=resolve(None if threads is None else count("threads", threads, 1)),
            seed=count("seed", seed, 0) % (1 << 64),
        )


def choose_mode(edges: int, threads: int) -> tuple[str, int, str]:
    """Return mode, threads, and why."""
    if why := why_serial(threads):
        return "serial", 1, why
    useful = min(threads, edges // EDGES_PER_WORKER)
    if useful < 2:
        return "serial", 1, f"{edges} edges are too few for more than one thread"
    return "shared", useful, f"{edges} edges are enough for {useful} threads"


class Run:
    """The relaxed problem's state, its workers, and the best cut found so far."""

    def __init__(self, problem: Problem, settings: Settings) -> None:
        self.problem, self.settings = problem, settings
        self.mode, self.threads, self.reason = choose_mode(problem.m, settings.threads)
        item, shares = problem.dtype.itemsize, problem.n * problem.width
        flow = problem.m * problem.width if settings.method == "flow" else 0
        memory.need("the cut", item * (3.0 * shares + flow) + 8.0 * 2 * shares)
        degrees = np.zeros(problem.n)
        problem.edges.degrees(degrees)
        mean = float(degrees.mean())
        # Flow: so long that a few epochs turn a node over; subgradient: an edge turns it over.
        auto = (8.0 if settings.method == "flow" else 2.0) / mean if mean > 0 else 1.0
        self.step = settings.step or auto
        if not 1e-25 < self.step < 1e25:
            raise ValueError(
                f"weights must have a mean that gives a step in [1e-25, 1e25], got {self.step:.3g}:"
                " multiply them"
            )
        self.z = problem.start()
        self.p = self.z.copy()
        self.f = slope = fixed = None
        if settings.method == "flow":
            self.f = np.zeros(problem.m * problem.width, problem.dtype)
        else:
            fixed = (~problem.free).astype(np.uint8)
            slope = self.slope(degrees)
        self.native = _core.Cut(
            problem.edges,
            settings.method,
            settings.schedule,
            self.step,
            settings.decay,
            settings.seed,
            self.z.reshape(-1),
            self.p.reshape(-1),
            self.f,
            None if slope is None else slope.reshape(-1),
            fixed,
        )
        self.cut, self.labels = math.inf, np.zeros(problem.n, np.int32)
        self.lower_bound = problem.trivial
        self.x, self.objective = self.z, math.inf
        self.look()

    def slope(self, degrees: np.ndarray) -> np.ndarray | None:
        """Return each node's costs in equal parts for its edges; without edges it is decided."""
        problem = self.problem
        if problem.linear is None:
            return None
        edges = _core.Graph(
            problem.ends, np.ones(problem.m, problem.dtype), problem.n, problem.width
        )
        number = np.zeros(problem.n)
        edges.degrees(number)
        alone = np.flatnonzero((number == 0) & problem.free)
        if problem.width == 1:
            self.z[alone, 0] = problem.linear[alone, 0] < 0
        else:
            self.z[alone] = 0
            self.z[alone, problem.linear[alone].argmin(axis=1)] = 1
        self.p[...] = self.z
        return (problem.linear / np.maximum(number, 1)[:, None]).astype(problem.dtype)

    def look(self, thorough: bool = False) -> None:
        """Compute objective, lower bound and cut of what there is now."""
        problem = self.problem
        if self.f is None:
            averaged = self.settings.average and self.native.done >= self.native.blocks
            x = (self.p if averaged else self.z).copy()
        else:
            outflow = np.zeros((problem.n, problem.width))
            self.native.outflow(outflow.reshape(-1))
            self.lower_bound = max(self.lower_bound, problem.bound(outflow))
            # z again from the flows: updates that other threads have overwritten are lost no more.
            if problem.linear is not None:
                outflow += problem.linear
            outflow *= -self.step
            outflow += self.p
            self.z[...] = outflow
            seeded = np.flatnonzero(~problem.free)
            if problem.width == 1:
                self.z[seeded, 0] = np.where(problem.seeds[seeded] == 1, SEED, -SEED)
            else:
                self.z[seeded] = -SEED
                self.z[seeded, problem.seeds[seeded]] = 0
            x = np.empty_like(self.z)
            self.native.shares(x.reshape(-1))
        self.objective = problem.objective(x)
        self.x = x
        cut, labels = (rounding.thorough if thorough else rounding.quick)(problem, x)
        if cut < self.cut:
            self.cut, self.labels = cut, labels
        # Sums in another order may differ in the last digits.
        self.lower_bound = min(self.lower_bound, self.cut)

    @property
    def gap(self) -> float:
        """How far the best cut may be from the best of all."""
        return gap_of(self.cut, self.lower_bound)


def solve(problem: Problem, settings: Settings, callback: Callback | None = None) -> GraphCutResult:
    """Find a cut."""
    start = called = time.perf_counter()
    history: list[dict[str, Any]] = []
    run = Run(problem, settings)
    blocks, per_epoch = 1, run.native.blocks

    def record() -> dict[str, Any]:
        return {
            "epoch": run.native.done // per_epoch,
            "seconds": time.perf_counter() - start,
            "cut": run.cut,
            "lower_bound": run.lower_bound,
            "objective": run.objective,
        }

    def finish(status: str, message: str) -> GraphCutResult:
        run.look(thorough=status != "interrupted")
        if status == "finished" and run.gap <= settings.tol:
            status, message = "converged", "the cut is proven to be within tol of the best one"
        done = run.native.done
        history.append(record())
        return GraphCutResult(
            labels=run.labels,
            cut=run.cut,
            lower_bound=run.lower_bound,
            x=run.x[:, 0] if problem.width == 1 else run.x,
            objective=run.objective,
            status=status,
            message=message,
            mode=run.mode,
            reason=run.reason,
            method=settings.method,
            threads=run.threads,
            step=run.step,
            epochs=done // per_epoch,
            edges=round(done / per_epoch * problem.m),
            seconds=time.perf_counter() - start,
            history=history,
        )

    check = CHECK
    try:
        while run.gap > settings.tol and run.native.done < settings.epochs * per_epoch:
            before = time.perf_counter()
            end = min(check, settings.epochs) * per_epoch
            done = min(blocks, end - run.native.done)
            run.native.slice(done, run.threads)
            now = time.perf_counter()
            blocks = next_slice(done, now - before)
            if run.native.done == end and check <= settings.epochs:
                run.look()
                history.append(record())
                check += max(CHECK, check // 10)
            if callback is not None and time.perf_counter() - called >= CALLBACK_EVERY:
                called = time.perf_counter()
                if callback(record()) is True:
                    return finish("stopped", "the callback asked to stop")
    except KeyboardInterrupt as interrupt:
        interrupt.result = finish("interrupted", "interrupted; labels are the best so far")
        raise
    done = run.native.done // per_epoch
    return finish("finished", f"{done} epochs done; the gap is not yet within tol")


def graph_cut(
    edges: Any,
    weights: Any = None,
    *,
    seeds: Any = None,
    costs: Any = None,
    n_nodes: int | None = None,
    n_labels: int | None = None,
    method: str = "flow",
    epochs: int = 2000,
    tol: float = 0.01,
    step: float | str = "auto",
    schedule: str = "epoch_decay",
    decay: float = 0.9,
    average: bool = True,
    threads: int | None = None,
    seed: int = 0,
    callback: Callback | None = None,
) -> GraphCutResult:
    """Label the nodes of a graph so that little weight lies between different labels.

    Minimises the sum over edges of ``w_uv * [label_u != label_v]`` plus the sum over nodes of
    ``costs[u, label_u]``, seeds keeping their labels: a minimum cut if there are two labels, a
    multi-way cut if there are more. The relaxation, ``w_uv / 2 * |x_u - x_v|_1`` with each x_u in
    the simplex, is solved edge by edge, lock-free on several threads [1]_, and rounded.

    Parameters
    ----------
    edges : array_like of shape (m, 2), or sparse matrix
        Pairs of different nodes 0, 1, ...; int32 and int64 are used in place. Pairs may repeat. Or
        a symmetric adjacency matrix with `tocsr`, as in scipy.sparse, of weights.
    weights : array_like of shape (m,), optional
        In [0, 1e15] if float32, [0, 1e100] if float64; others are made float64. Default 1.
    seeds : array_like of shape (n_nodes,) of int, or mapping, optional
        The label of each node, -1 where it is free; or label -> nodes.
    costs : array_like of shape (n_nodes, n_labels), optional
        In [-1e15, 1e15]: what a label costs a node. Seeds or costs must be given.
    n_nodes : int, optional
        By default from seeds, costs or the matrix, else the largest node + 1.
    n_labels : int, optional
        From 2 to 64; by default from costs, or the seeds' largest + 1.
    method : {"flow", "subgradient"}
        "flow" remembers a flow for each edge, and moves it until its ends agree or the edge is
        full: coordinate ascent in the dual, around a point that each epoch moves on. Flows prove a
        lower bound. "subgradient" is the algorithm of [1]_: a step of `step` along the
        subgradient of one edge, then the projection of its two nodes. No bound, and far slower.
    epochs : int, default 2000
        Passes over the edges, at most. 0 rounds the start.
    tol : float, default 0.01
        Stop when the cut is proven to be within this part of the best one.
    step : "auto" or float
        "auto" is 8 over the mean weight of a node's edges for "flow", 2 over it otherwise.
    schedule : {"epoch_decay", "constant", "inverse", "inverse_sqrt"}
        Of "subgradient", in epoch e = 0, 1, ...: step * decay ** e; step; step / (1 + e);
        step / sqrt(1 + e).
    decay : float in (0, 1], default 0.9
    average : bool, default True
        Of "subgradient": x is the mean over epochs, later ones counting more [2]_.
    threads : int, optional
        Default: as many as this process may use. One thread gives the same bits for the same
        `seed`; more threads do not, but their bound and cut are as valid.
    seed : int, default 0
        Of the order of edges, whose blocks of 64 are permuted in each epoch.
    callback : callable, optional
        Called with a dict (epoch, seconds, cut, lower_bound, objective of the last look) at most
        every 50 ms on the calling thread. If it returns True, the run stops.

    Returns
    -------
    GraphCutResult

    Raises
    ------
    ValueError, TypeError
        Naming the argument.
    KeyboardInterrupt
        On Ctrl-C; its attribute `result` is the GraphCutResult so far.

    Notes
    -----
    Two labels: the relaxation has whole optima (the coarea formula), and all thresholds are tried.
    More: the problem is NP-hard; labels are the largest shares, or a sweep of thresholds [3]_ if
    that is better, and the gap may stay open. The best cut ever seen is kept.

    References
    ----------
    .. [1] Niu, Recht, Re, Wright, "Hogwild!: A Lock-Free Approach to Parallelizing Stochastic
       Gradient Descent", 2011, https://arxiv.org/abs/1106.5730
    .. [2] Shamir, Zhang, "Stochastic Gradient Descent for Non-smooth Optimization", 2013,
       https://arxiv.org/abs/1212.1824
    .. [3] Calinescu, Karloff, Rabani, "An improved approximation algorithm for multiway cut", 2000

    Examples
    --------
    >>> import fastopt
    >>> result = fastopt.graph_cut([[0, 1], [1, 2], [2, 3]], [3.0, 1.0, 2.0], seeds={0: 0, 1: 3})
    >>> result.labels.tolist(), result.cut, result.status
    ([0, 0, 1, 1], 1.0, 'converged')
    """
    settings = Settings.check(
        method=method,
        epochs=epochs,
        tol=tol,
        step=step,
        schedule=schedule,
        decay=decay,
        average=average,
        threads=threads,
        seed=seed,
    )
    check_callable("callback", callback)
    problem = Problem(edges, weights, seeds, costs, n_nodes, n_labels)
    return solve(problem, settings, callback)


class GraphCut:
    """Graph cuts as an estimator: `fit`, then `labels_`; works with `sklearn.base.clone`.

    Parameters
    ----------
    n_labels, method, epochs, tol, step, schedule, decay, average
        As of `graph_cut`.
    n_jobs : int, optional
        Threads inside one fit.
    random_state : int, default 0
        The order of edges: `seed` of `graph_cut`.

    Attributes
    ----------
    labels_ : ndarray of shape (n_nodes,), int32
    cut_, lower_bound_ : float
    result_ : GraphCutResult

    Examples
    --------
    >>> import fastopt
    >>> model = fastopt.GraphCut(tol=0.0)
    >>> model.fit_predict([[0, 1], [1, 2]], [1.0, 2.0], seeds={0: [0], 1: [2]}).tolist()
    [0, 1, 1]
    >>> model.cut_, model.lower_bound_
    (1.0, 1.0)
    """

    def __init__(
        self,
        *,
        n_labels: int | None = None,
        method: str = "flow",
        epochs: int = 2000,
        tol: float = 0.01,
        step: float | str = "auto",
        schedule: str = "epoch_decay",
        decay: float = 0.9,
        average: bool = True,
        n_jobs: int | None = None,
        random_state: int = 0,
    ) -> None:
        self.n_labels = n_labels
        self.method = method
        self.epochs = epochs
        self.tol = tol
        self.step = step
        self.schedule = schedule
        self.decay = decay
        self.average = average
        self.n_jobs = n_jobs
        self.random_state = random_state

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters by name."""
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    def set_params(self, **params: Any) -> GraphCut:
        """Set parameters by name; return self.

        Raises
        ------
        ValueError
            If there is no such parameter; nothing is set then.
        """
        known = self.get_params()
        for name in params:
            if name not in known:
                raise ValueError(f"{name} is no parameter; there are {', '.join(known)}")
        for name, value in params.items():
            setattr(self, name, value)
        return self

    def fit(
        self, edges: Any, weights: Any = None, *, seeds: Any = None, costs: Any = None
    ) -> GraphCut:
        """Find the labels of a graph's nodes; arguments and errors are those of `graph_cut`."""
        params = self.get_params()
        params["threads"], params["seed"] = params.pop("n_jobs"), params.pop("random_state")
        result = graph_cut(edges, weights, seeds=seeds, costs=costs, **params)
        self.labels_, self.cut_, self.lower_bound_ = result.labels, result.cut, result.lower_bound
        self.result_ = result
        return self

    def fit_predict(
        self, edges: Any, weights: Any = None, *, seeds: Any = None, costs: Any = None
    ) -> np.ndarray:
        """Return `labels_` after `fit`."""
        return self.fit(edges, weights, seeds=seeds, costs=costs).labels_

    def __repr__(self) -> str:
        default = inspect.signature(type(self)).parameters
        given = (f"{k}={v!r}" for k, v in self.get_params().items() if v != default[k].default)
        return f"{type(self).__name__}({', '.join(given)})"
