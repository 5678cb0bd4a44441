"""Comparisons of the solvers of `fastopt.minimize`."""

import numpy as np
import pytest

pytest.importorskip("fastopt.solvers.minimize", reason="this fastopt has no solvers")

import fastopt
from fastopt.convergence import PROBLEMS, Problem
from fastopt.convergence.comparison import DEFAULT, known_solvers


def test_newton_is_exact_on_a_quadratic_and_quadratic_elsewhere():
    assert fastopt.compare("valley", ["newton"])["newton"].rate.kind == "exact"
    h = fastopt.compare("beale", ["trust-exact"])["trust-exact"]
    assert h.rate.kind == "quadratic" and h.status == "converged" and np.isnan(h.lr)


@pytest.mark.parametrize("surface", ["rosenbrock", "beale", "valley"])
def test_every_solver_with_derivatives_gets_down(surface):
    names = [name for name in known_solvers() if name not in ("random-search", "gd")]
    assert len(names) >= 9
    for h in fastopt.compare(surface, names, steps=300, tol=1e-6):
        assert h.status == "converged" and h.errors[-1] < 1e-6, h.method
        assert h.points.shape == (h.steps + 1, 2)


@pytest.mark.parametrize("name", ["bfgs", "newton", "random-search"])
def test_evaluations_are_the_calls_made(name):
    p, calls = PROBLEMS["beale"], []

    def counted(function):
        def call(x):
            calls.append(1)
            return function(x)

        return call

    q = Problem(counted(p.fun), counted(p.grad), p.x0, None, counted(p.hess), limits=p.limits)
    h = fastopt.compare(q, [name], steps=12)[name]
    written = 2 * (h.steps + 1)  # value and gradient at each point written down
    assert h.evaluations[-1] <= len(calls) - written <= h.evaluations[-1] + 4
    assert (np.diff(h.evaluations) > 0).all()


def test_random_search_needs_limits():
    with pytest.raises(ValueError, match="limits of a Problem"):
        fastopt.compare((lambda x: 0.0, lambda x: 0 * x, [1.0]), ["random-search"])


def test_the_default_methods_are_all_there():
    assert tuple(h.method for h in fastopt.compare("valley", steps=5, lr=0.01)) == DEFAULT


def test_options_of_a_solver():
    found = fastopt.compare("beale", [("l-bfgs", {"memory": 3}), "l-bfgs"], steps=50)
    assert [h.method for h in found] == ["l-bfgs memory=3", "l-bfgs"]
