"""Random search: points, ties, values that are not finite, and what stops it."""

import math

import numpy as np
import pytest

from fastopt.search import random_search


def bowl(x):
    return float(((x - 0.5) ** 2).sum())


def test_it_returns_the_best_of_the_points_seen():
    seen = []

    def fun(x):
        seen.append(x.copy())
        value = bowl(x)
        x[...] = 99  # its argument is its own
        return value

    found = random_search(fun, [(-1, 1), (0, 3)], 50, seed=3)
    values = [bowl(x) for x in seen]
    assert found.fun == min(values) and found.nfev == found.nit == 50 and found.success
    np.testing.assert_array_equal(found.x, seen[int(np.argmin(values))])
    np.testing.assert_array_equal(found.history, np.minimum.accumulate(values))
    most = random_search(bowl, [(-1, 1), (0, 3)], 50, seed=3, maximize=True)
    assert most.fun == max(values)
    assert np.all(np.array(seen) >= [-1, 0]) and np.all(np.array(seen) <= [1, 3])


def test_the_seed_decides_and_n_only_adds_points():
    first, more = [], []
    random_search(lambda x: first.append(x.copy()) or 0, [(0, 1)] * 3, 5, seed=1)
    random_search(lambda x: more.append(x.copy()) or 0, [(0, 1)] * 3, 9, np.random.default_rng(1))
    np.testing.assert_array_equal(first, more[:5])


def test_names_logarithms_and_samplers():
    rates = []

    def fun(p):
        rates.append(p["lr"])
        return abs(math.log10(p["lr"]) + 3) + p["momentum"]

    found = random_search(fun, {"lr": (1e-6, 1.0, "log"), "momentum": (0, 0.9)}, 400, seed=0)
    assert list(found.x) == ["lr", "momentum"] and 1e-4 < found.x["lr"] < 1e-2
    assert 0.4 < np.mean(np.array(rates) < 1e-3) < 0.6
    found = random_search(lambda k: -k, lambda rng: int(rng.integers(6)), 100, seed=0)
    assert found.x == 5
    assert random_search(lambda x: x[0], [(2, 2)], 1).x[0] == 2
    assert math.isfinite(random_search(lambda x: x[0] / 2, [(-1.7e308, 1.7e308)], 3).fun)


def test_values_that_are_not_finite_never_win():
    values = iter([math.nan, -math.inf, 2.0, math.nan, 1.0, math.inf])
    found = random_search(lambda x: next(values), [(0, 1)], 6, seed=0)
    assert found.fun == 1 and found.success
    np.testing.assert_array_equal(found.history, [math.nan, math.nan, 2, 2, 1, 1])
    found = random_search(lambda x: math.nan, [(0, 1)], 4)
    assert not found.success and found.x is None and math.isnan(found.fun)
    assert found.message == "none of 4 values was finite"


def test_a_callback_sees_all_and_can_stop():
    sizes = []

    def callback(result):
        sizes.append(len(result.history))
        return len(sizes) == 3

    found = random_search(bowl, [(0, 1)], 10, seed=0, callback=callback)
    assert sizes == [1, 2, 3] and found.nfev == 3 and found.success
    assert found.message == "stopped by the callback after 3 of 10 points"


def test_an_interrupt_goes_to_the_caller():
    def fun(x):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        random_search(fun, [(0, 1)], 3)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"fun": 3}, TypeError, "fun must be callable"),
        ({"n": 0}, ValueError, "n must be at least 1"),
        ({"n": 1.5}, TypeError, "n must be an integer"),
        ({"seed": "a"}, (TypeError, ValueError), "seed: "),
        ({"callback": 3}, TypeError, "callback must be callable"),
        ({"bounds_or_sampler": []}, ValueError, "bounds is empty"),
        ({"bounds_or_sampler": 3}, TypeError, "bounds must be a sequence"),
        ({"bounds_or_sampler": [(0, 1), (2, 1)]}, ValueError, "bounds of 1 must be finite"),
        ({"bounds_or_sampler": {"lr": (0, math.inf)}}, ValueError, "bounds of 'lr'"),
        ({"bounds_or_sampler": {"lr": 3}}, TypeError, "bounds of 'lr' must be"),
        ({"bounds_or_sampler": [(0, 1, "log")]}, ValueError, "takes low > 0"),
        ({"fun": lambda x: "a"}, TypeError, "fun must return one number, got 'a' at"),
        ({"fun": lambda x: np.ones(2)}, TypeError, "fun must return one number"),
        ({"fun": lambda x: None}, TypeError, "fun must return one number"),
    ],
)
def test_errors_name_the_argument(change, error, message):
    given = {"fun": bowl, "bounds_or_sampler": [(0, 1)], "n": 2, "seed": 0, **change}
    with pytest.raises(error, match=message):
        random_search(**given)
