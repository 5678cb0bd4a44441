"""L-BFGS of jaxopt and optax on the chained Rosenbrock function, for bench_solvers.

Function and iteration are compiled together, in float64, as these libraries are meant to be used;
what is outside the function is not to be told from it, and evaluations are not counted.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

jax.config.update("jax_enable_x64", True)


def chained_rosenbrock(x: Any) -> Any:
    """Return sum of 100 (x[i+1] - x[i]^2)^2 + (1 - x[i])^2."""
    return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def jaxopts() -> Callable[[Any], Iterator[tuple[Any, Any]]]:
    """Return what yields point and gradient after each iteration of jaxopt's L-BFGS."""
    import jaxopt

    solver = jaxopt.LBFGS(chained_rosenbrock, history_size=10, linesearch="zoom", maxiter=10_000)
    update = jax.jit(solver.update)

    def steps(x: Any) -> Iterator[tuple[Any, Any]]:
        state = solver.init_state(x)
        while True:
            x, state = update(x, state)
            yield x, state.grad

    return steps


def optaxs() -> Callable[[Any], Iterator[tuple[Any, Any]]]:
    """Return the same of optax."""
    import optax

    solver = optax.lbfgs(memory_size=10)
    value_and_grad = optax.value_and_grad_from_state(chained_rosenbrock)

    @jax.jit
    def update(x: Any, state: Any) -> Any:
        value, grad = value_and_grad(x, state=state)
        change, state = solver.update(
            grad, state, x, value=value, grad=grad, value_fn=chained_rosenbrock
        )
        return optax.apply_updates(x, change), state, optax.tree.get(state, "grad")

    def steps(x: Any) -> Iterator[tuple[Any, Any]]:
        state = solver.init(x)
        while True:
            x, state, grad = update(x, state)
            yield x, grad

    return steps


def rows(problem: str, x0: np.ndarray, gtol: float, rounds: int) -> list[dict[str, object]]:
    """Return one row for each library that is installed."""
    found: list[dict[str, object]] = []
    for name, make in ("jaxopt LBFGS, jitted", jaxopts), ("optax lbfgs, jitted", optaxs):
        try:
            steps = make()
        except ImportError:
            continue
        next(steps(jnp.asarray(x0)))  # compiles
        best: tuple[float, ...] = (np.inf,)
        for _ in range(rounds):
            start = time.perf_counter()
            iterations, norm = 0, np.inf
            walk = steps(jnp.asarray(x0))
            while norm > gtol and iterations < 1000:
                x, grad = next(walk)
                iterations, norm = iterations + 1, float(jnp.abs(grad).max())
            seconds = time.perf_counter() - start
            best = min(best, (seconds, iterations, norm, float(chained_rosenbrock(x))))
        seconds, iterations, norm, value = best
        found.append({
            "problem": problem, "solver": name, "value": value, "largest |g|": norm,
            "iterations": iterations, "evaluations": None,
            "ms/iteration outside the function": None, "seconds": seconds,
            "times SciPy's speed": None,
        })  # fmt: skip
    return found
