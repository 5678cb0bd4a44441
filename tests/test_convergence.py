"""Comparisons: problems, rates of sequences that are known, runs against formulas, pictures."""

import json
import math

import numpy as np
import pytest

import fastopt
from fastopt.convergence import PROBLEMS, Problem, Rate, compare, rate_of
from fastopt.convergence.comparison import known_rules

n = np.arange(1, 201)


def bowl(x0=(1.0, -2.0, 3.0)):
    """f = x·x, minimal at 0."""
    x0 = np.asarray(x0)
    return Problem(lambda x: float(x @ x), lambda x: 2 * x, x0, np.zeros_like(x0))


# --- problems --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PROBLEMS)
def test_gradients_and_hessians_by_complex_steps(name):
    p = PROBLEMS[name]
    for point in np.random.default_rng(0).uniform(-2, 2, (20, 2)):
        steps = point + 1e-30j * np.eye(2)
        gradient = [complex(p.fun(s)).imag / 1e-30 for s in steps]
        np.testing.assert_allclose(p.grad(point), gradient, rtol=1e-12, atol=1e-12)
        rows = [np.imag(p.grad(s)) / 1e-30 for s in steps]
        np.testing.assert_allclose(p.hess(point), rows, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "minimum"),
    [("rosenbrock", 0.0), ("beale", 0.0), ("valley", 0.0), ("saddle", None), ("monkey", None)],
)
def test_published_minima(name, minimum):
    p = PROBLEMS[name]
    assert p.minimum == minimum
    if minimum is not None:
        assert (p.grad(p.optimum) == 0).all()
        assert (np.linalg.eigvalsh(p.hess(p.optimum)) > 0).all()
    else:
        assert (p.grad(np.zeros(2)) == 0).all() and math.isfinite(p.floor)


def test_values_at_the_starts_that_collections_of_problems_print():
    # More, Garbow and Hillstrom (1981), problems 1 and 5
    assert PROBLEMS["rosenbrock"].fun([-1.2, 1.0]) == pytest.approx(24.2)
    assert PROBLEMS["beale"].fun([1.0, 1.0]) == pytest.approx(14.203125)


# --- rates -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("errors", "kind", "value", "tolerance"),
    [
        (0.5**2.0 ** np.arange(8), "quadratic", 2.0, 1e-6),
        (0.5**3.0 ** np.arange(6), "quadratic", 3.0, 1e-6),
        ([2, 1.5, 1.4, 1.2, 1e-1, 1e-2, 1e-4, 1e-8], "quadratic", 2.0, 0.1),
        (0.5**1.5 ** np.arange(12), "superlinear", 1.5, 1e-6),
        (0.9**n, "linear", 0.9, 1e-9),
        (7e3 * 0.999**n, "linear", 0.999, 1e-9),
        (1e-3 * 0.1 ** n[:20], "linear", 0.1, 1e-9),
        (0.9**n * (1.01 + np.cos(n)), "linear", 0.9, 0.01),
        (1 / n, "sublinear", 1.0, 1e-9),
        (5 / (n + 3), "sublinear", 1.0, 0.05),
        (1 / n**2, "sublinear", 2.0, 1e-9),
        (1 / np.sqrt(n), "sublinear", 0.5, 0.01),
        ((1.5 + np.sin(n)) / n, "sublinear", 1.0, 0.15),
        ([3.0, 0.0], "exact", 1.0, 0),
        ([0.0], "exact", 0.0, 0),
        ([1.0, 0.1, 1e-17], "exact", 2.0, 0),
        (np.ones(50), "stalled", math.nan, 0),
        (np.r_[1 / n, np.full(300, 1 / 200)], "stalled", math.nan, 0),
        (1.1**n, "diverging", math.nan, 0),
        ([1, 0.5, math.inf], "diverging", math.nan, 0),
        ([1, 0.5, math.nan, 0.1], "diverging", math.nan, 0),
        ([1, 0.5, 0.3, 0.2], "too short to tell", math.nan, 0),
        ([1.0], "too short to tell", math.nan, 0),
        ([], "too short to tell", math.nan, 0),
    ],
)
def test_rates_of_known_sequences(errors, kind, value, tolerance):
    found = rate_of(errors, floor=1e-16 if kind == "exact" else 0.0)
    assert found.kind == kind
    assert found.value == pytest.approx(value, abs=tolerance, nan_ok=True)


def test_a_dip_of_an_oscillation_is_no_quadratic_rate():
    errors = 0.9 ** np.arange(60)
    errors[-4:] *= [0.5, 0.1, 0.01, 1e-4]
    assert rate_of(errors).kind != "quadratic"


def test_errors_below_the_floor_do_not_count():
    errors = np.maximum(0.5 ** np.arange(80), 1e-16)
    assert rate_of(errors).value != pytest.approx(0.5, abs=1e-3)
    assert rate_of(errors, floor=1e-15) == Rate("linear", pytest.approx(0.5))


@pytest.mark.parametrize(
    ("errors", "error", "words"),
    [
        ([1, -2], ValueError, "negative, got -2.0 at 1"),
        ([[1, 2]], ValueError, "one axis"),
        ("abc", TypeError, "sequence of numbers"),
    ],
)
def test_refused_errors(errors, error, words):
    with pytest.raises(error, match=words):
        rate_of(errors)


# --- comparisons against formulas ------------------------------------------------------------


def test_gradient_descent_on_the_valley_goes_as_its_formula():
    lr, k = 0.012, np.arange(101)
    h = compare("valley", ["SGD"], steps=100, lr=lr)["SGD"]
    path = np.stack([-8.0 * (1 - lr) ** k, 1.5 * (1 - 100 * lr) ** k], axis=1)
    np.testing.assert_allclose(h.points, path, rtol=1e-12, atol=1e-300)
    np.testing.assert_allclose(h.f, (path[:, 0] ** 2 + 100 * path[:, 1] ** 2) / 2, rtol=1e-12)
    np.testing.assert_allclose(h.grad_norm, np.hypot(path[:, 0], 100 * path[:, 1]), rtol=1e-12)
    assert (h.errors == h.f).all() and h.status == "steps" and h.lr == lr and h.steps == 100


def test_rates_of_descent_and_heavy_ball_are_those_of_theory():
    # descent: f falls by (1 - lr)^2 a step in the end; heavy ball with complex roots: by momentum
    found = compare("valley", ["SGD", "Momentum"], steps=400, lr=0.015)
    assert found["SGD"].rate == Rate("linear", pytest.approx((1 - 0.015) ** 2, abs=1e-6))
    assert found["Momentum"].rate == Rate("linear", pytest.approx(0.9, abs=5e-3))


def test_the_best_rate_is_found_and_named():
    # of the tried rates, the one whose slower factor is least: max(|1 - lr|, |1 - 100 lr|)
    found = compare("valley", ["SGD"], steps=2000)["SGD"]
    rates = [m * 10.0**k for k in range(-4, 2) for m in (1, 2, 5)]
    best = min(rates, key=lambda r: max(abs(1 - r), abs(1 - 100 * r)))
    assert found.lr == pytest.approx(best)


def test_sublinear_descent_on_a_flat_function():
    # f = x^4 / 4 has O(1/n^2) values under gradient descent: x ~ (2 lr n)^(-1/2)
    flat = (lambda x: float(x[0] ** 4) / 4, lambda x: x**3, [1.0], [0.0])
    rate = compare(flat, ["SGD"], steps=4000, lr=0.1)["SGD"].rate
    assert rate == Rate("sublinear", pytest.approx(2.0, abs=0.05))


def test_divergence_is_named_and_only_finite_points_are_kept():
    h = compare("rosenbrock", ["SGD"], steps=100, lr=0.1)["SGD"]
    assert h.status == "diverged" and h.rate.kind == "diverging" and h.steps < 20
    assert np.isfinite(h.f).all() and np.isfinite(h.x).all() and np.isfinite(h.points).all()


def test_a_function_without_minimum_is_left():
    h = compare("saddle", ["SGD"], lr=0.1, steps=500)["SGD"]
    # x is multiplied by 0.8 a step, y by 1.2
    steps = next(k for k in range(500) if (1.5 * 0.8**k) ** 2 - (1e-3 * 1.2**k) ** 2 < -2)
    assert (h.status, h.steps) == ("left", steps)


def test_tolerance_ends_a_run():
    found = compare(bowl(), ["SGD"], lr=0.25, tol=1e-3)["SGD"]
    steps = next(k for k in range(99) if 2 * math.sqrt(14) * 0.5**k <= 1e-3)
    assert (found.status, found.steps) == ("converged", steps)
    assert compare(bowl(np.zeros(3)), ["SGD"])["SGD"].rate == Rate("exact", 0.0)


@pytest.mark.parametrize(
    ("method", "each"), [("Adam", 1), ("SAM", 2), (("Rprop", {"variant": "iplus"}), 2)]
)
def test_evaluations_are_what_the_method_asks_for(method, each):
    h = compare("beale", [method], steps=10, lr=0.01)
    (h,) = h
    assert h.evaluations.tolist() == [each * k for k in range(11)]
    assert (np.diff(h.seconds) >= 0).all() and h.seconds[-1] > 0


def test_writing_down_stops_the_clock():
    import time

    def slow(x):
        time.sleep(0.002)
        return float(x @ x)

    h = compare((slow, lambda x: 2 * x, np.ones(3)), ["SGD"], lr=0.1, steps=50)["SGD"]
    assert h.seconds[-1] < 50 * 0.002 / 2  # fun is called for writing down alone


@pytest.mark.parametrize("surface", PROBLEMS)
def test_every_rule_runs_on_every_surface(surface):
    found = compare(surface, known_rules(), steps=20, lr=0.01)
    assert [h.method for h in found] == known_rules()
    for h in found:
        assert h.points.shape == (h.steps + 1, 2) and len(h.f) == h.steps + 1
        assert (h.points[0] == PROBLEMS[surface].x0).all()
        assert (h.points[-1] == h.x).all() and (h.points[-1] != h.points[0]).any()
    assert {"Adam", "Muon", "SAM", "Lookahead", "Nesterov", "FTRL"} <= set(known_rules())


def test_a_run_is_that_of_the_rule_itself():
    p = PROBLEMS["beale"]
    for name in ("Adam", "ScheduleFreeSGD"):
        w = p.x0.copy()
        opt = getattr(fastopt, name)(w, lr=0.01)
        for _ in range(15):
            opt.step(p.grad(w))
        if hasattr(opt, "eval"):
            opt.eval()
        assert (compare(p, [name], steps=15, lr=0.01)[name].x == w).all()


# --- forms of methods and problems -----------------------------------------------------------


def test_methods_in_every_form_are_the_same_run():
    p, kept = PROBLEMS["beale"], PROBLEMS["beale"].x0.copy()
    opt = fastopt.Adam(kept, lr=0.02)
    forms = {
        "name": ("adam", {"lr": 0.02}),
        "class": (fastopt.Adam, {"lr": 0.02}),
        "instance": opt,
        "function": lambda w: fastopt.Adam(w, lr=0.02),
    }
    found = compare(p, forms, steps=25)
    for h in found:
        assert (h.points == found["name"].points).all() and h.lr == 0.02
    assert opt.t == 0 and (kept == p.x0).all()


def test_labels_and_schedules():
    lr = fastopt.schedules.exponential(0.5, 0.9)
    found = compare(bowl(), [("SGD", {"lr": lr}), ("SGD", {"momentum": 0.5})], lr=0.1, steps=5)
    assert [h.method for h in found] == [f"SGD lr={lr}", "SGD momentum=0.5"]
    assert found.histories[0].lr == 0.5 and found.histories[0].points is None
    np.testing.assert_allclose(found.histories[0].x, 0, atol=1e-15)


def test_float32_stays_float32():
    seen = []

    def grad(x):
        seen.append(x.dtype)
        return 2 * x

    x0 = np.ones(4, np.float32)
    h = compare((lambda x: float(x @ x), grad, x0), ["Adam"], lr=0.1, steps=5)["Adam"]
    assert set(seen) == {np.dtype("float32")} and h.x.dtype == np.float32
    assert (h.errors == h.grad_norm).all()  # no optimum is known


def new(w):
    return fastopt.SGD(np.asarray(w), lr=0.1)


def stepped():
    opt = new(np.ones(3))
    opt.step(np.ones(3))
    return opt


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"problem": "rosenbrok"}, ValueError, "'rosenbrock', 'beale', 'valley'"),
        ({"problem": 3}, TypeError, "a name, a Problem or a tuple"),
        ({"problem": (1, 2, 3)}, TypeError, "fun must be callable"),
        ({"problem": (bowl().fun, None, [1.0])}, TypeError, "fun and grad must be callable"),
        ({"problem": (bowl().fun, bowl().grad, [[1.0]])}, ValueError, "x0 must have one axis"),
        ({"problem": (bowl().fun, bowl().grad, [np.nan])}, ValueError, "x0 must be finite"),
        ({"problem": (bowl().fun, bowl().grad, ["a"])}, TypeError, "x0 must be an array of real"),
        ({"problem": (bowl().fun, bowl().grad, [1.0], [1.0, 2.0])}, ValueError, "shape of x0"),
        ({"problem": (lambda x: math.nan, bowl().grad, [1.0], [1.0])}, ValueError, "optimum must"),
        ({"problem": (bowl().fun, lambda x: x[:1], np.ones(3))}, ValueError, "grad must return"),
        ({"methods": "Adam"}, TypeError, "sequence or mapping"),
        ({"methods": []}, ValueError, "empty"),
        ({"methods": ["Adm"]}, ValueError, "did you mean 'Adam'"),
        ({"methods": ["Adam", "adam"]}, ValueError, "'Adam' is there twice"),
        ({"methods": [3]}, TypeError, "each must be a name"),
        ({"methods": [("Adam", 3)]}, TypeError, "a tuple must be"),
        ({"methods": [("Adam", {"beta": 3})]}, TypeError, "unknown keyword 'beta'"),
        ({"methods": [new(np.zeros(3))]}, ValueError, "equal to x0"),
        ({"methods": [stepped()]}, ValueError, "no step taken"),
        ({"methods": [new(np.float32([1, -2, 3]))]}, ValueError, "float32, x0 float64"),
        ({"steps": 0}, ValueError, "steps must be at least 1"),
        ({"lr": 0}, ValueError, "lr must be"),
        ({"tol": -1}, ValueError, "tol must be"),
    ],
)
def test_refused(change, error, words):
    arguments = {"problem": bowl(), "methods": ["SGD"], "steps": 3, **change}
    with pytest.raises(error, match=words):
        compare(**arguments)


def test_table_and_rows():
    found = fastopt.compare("valley", ["SGD", "Adam"], steps=30, lr=0.01)
    head, *lines = str(found).splitlines()
    assert head.split() == "method lr steps evaluations seconds f |g| ended rate".split()
    assert [line.split()[:4] for line in lines] == [
        ["SGD", "0.01", "30", "30"],
        ["Adam", "0.01", "30", "30"],
    ]
    rows = json.loads(json.dumps(found.rows()))
    assert [row["method"] for row in rows] == ["SGD", "Adam"] and rows[0]["f"] == found["SGD"].f[-1]
    assert len(found) == 2 and [h.method for h in found] == ["SGD", "Adam"]
    with pytest.raises(KeyError, match="'SGD', 'Adam'"):
        found["adam"]


def test_a_wrong_optimum_is_noticed():
    start = np.array([3.0, 3.0])
    problem = fastopt.convergence.Problem(
        lambda x: float(x @ x), lambda x: 2 * x, start, optimum=np.ones(2)
    )
    with pytest.warns(RuntimeWarning, match="optimum is no minimizer: fun is 2 there, SGD"):
        fastopt.compare(problem, ["SGD"], steps=50, lr=0.1)
