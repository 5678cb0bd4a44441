"""Schedules are closed forms: their values against the formulas, torch, optax and Keras."""

import copy
import math
import pickle
import sys
from bisect import bisect
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastopt
from fastopt import schedules as s


def half_cosine(high, low, done):
    return low + (high - low) * (1 + math.cos(math.pi * done)) / 2


def restarted(t, value, every, growth, end, factor):
    """SGDR period by period."""
    if growth == 1:
        n, done, length = t // every, t % every, every
    else:
        n, done, length = 0, t, every
        while done >= length:
            n, done, length = n + 1, done - length, length * growth
    return half_cosine(end + (value - end) * factor**n, end, done / length)


def one_cycle(t, knots, way):
    """Through all (t, value) of `knots`, then constant."""
    for (t0, a), (t1, b) in pairwise(knots):
        if t <= t1:
            return way(a, b, (t - t0) / (t1 - t0))
    return knots[-1][1]


def triangle(t, low, high, up, down):
    return low + (high - low) * np.interp(t % (up + down), [0, up, up + down], [0, 1, 0])


def a_line(a, b, done):
    return a + (b - a) * done


def shifted(t):
    """Any callable is a schedule."""
    return 0.1 + 0.2 / (t + 1)


def made(name, *args, **kwargs):
    return lambda: getattr(s, name)(*args, **kwargs)


# Every schedule, its formula in plain Python, and its value after 10**15 steps.
FORMS = {
    "constant": (made("constant", 0.3), lambda t: 0.3, 0.3),
    "step": (made("step", 0.3, every=7, factor=0.2), lambda t: 0.3 * 0.2 ** (t // 7), 0.0),
    "multi_step": (
        made("multi_step", 0.3, [3, 10, 11], factor=0.5),
        lambda t: 0.3 * 0.5 ** ((t >= 3) + (t >= 10) + (t >= 11)),
        0.0375,
    ),
    "exponential": (made("exponential", 0.3, factor=0.99), lambda t: 0.3 * 0.99**t, 0.0),
    "exponential every": (
        made("exponential", 0.3, factor=0.5, every=9),
        lambda t: 0.3 * 0.5 ** (t / 9),
        0.0,
    ),
    "exponential staircase": (
        made("exponential", 0.3, factor=0.5, every=9, staircase=True),
        lambda t: 0.3 * 0.5 ** (t // 9),
        0.0,
    ),
    "inverse_time": (
        made("inverse_time", 0.3, rate=0.01),
        lambda t: 0.3 / (1 + 0.01 * t),
        0.3 / (1 + 1e13),
    ),
    "inverse_scaling": (
        made("inverse_scaling", 0.3, power=0.25),
        lambda t: 0.3 / (t + 1) ** 0.25,
        0.3 / (10**15 + 1) ** 0.25,
    ),
    "inverse_sqrt": (
        made("inverse_sqrt", 0.3, warmup=4),
        lambda t: 0.3 * min((t + 1) / 4, math.sqrt(4 / (t + 1))),
        0.3 * math.sqrt(4 / (10**15 + 1)),
    ),
    "linear": (
        made("linear", 0.3, 0.01, steps=13),
        lambda t: a_line(0.3, 0.01, min(t / 13, 1)),
        0.01,
    ),
    "linear up": (
        made("linear", 0.5, 0.99, steps=9),
        lambda t: a_line(0.5, 0.99, min(t / 9, 1)),
        0.99,
    ),
    "polynomial": (
        made("polynomial", 0.3, 0.01, steps=13, power=2.5),
        lambda t: 0.01 + 0.29 * (1 - min(t / 13, 1)) ** 2.5,
        0.01,
    ),
    "cosine": (
        made("cosine", 0.3, 20, end=0.01),
        lambda t: half_cosine(0.3, 0.01, min(t / 20, 1)),
        0.01,
    ),
    "cosine warmup": (
        made("cosine", 0.3, 25, end=0.01, warmup=5),
        lambda t: 0.3 * t / 5 if t < 5 else half_cosine(0.3, 0.01, min((t - 5) / 20, 1)),
        0.01,
    ),
    "momentum_annealing": (
        made("momentum_annealing", 0.99, every=10),
        lambda t: min(1 - 2 ** (-1 - math.log2(t // 10 + 1)), 0.99),
        0.99,
    ),
    "warm_restarts": (
        made("warm_restarts", 0.3, every=6, end=0.01, factor=0.9),
        lambda t: restarted(t, 0.3, 6, 1, 0.01, 0.9),
        0.01,
    ),
    "warm_restarts growth": (
        made("warm_restarts", 0.3, every=6, growth=2, end=0.01),
        lambda t: restarted(t, 0.3, 6, 2, 0.01, 1.0),
        restarted(10**15, 0.3, 6, 2, 0.01, 1.0),
    ),
    "warm_restarts growth factor": (
        made("warm_restarts", 0.3, every=1, growth=3, factor=0.5),
        lambda t: restarted(t, 0.3, 1, 3, 0.0, 0.5),
        restarted(10**15, 0.3, 1, 3, 0.0, 0.5),
    ),
    "one_cycle": (
        made("one_cycle", 0.3, 21),
        lambda t: one_cycle(t, [(0, 0.012), (5.3, 0.3), (20, 1.2e-6)], half_cosine_up),
        1.2e-6,
    ),
    "one_cycle linear": (
        made("one_cycle", 0.85, 20, start=0.95, end=0.9, rise=0.4, anneal="linear"),
        lambda t: one_cycle(t, [(0, 0.95), (7, 0.85), (19, 0.9)], a_line),
        0.9,
    ),
    "one_cycle three phases": (
        made("one_cycle", 0.3, 30, start=0.1, end=0.02, rise=0.4, three_phase=True),
        lambda t: one_cycle(t, [(0, 0.1), (11, 0.3), (22, 0.1), (29, 0.02)], half_cosine_up),
        0.02,
    ),
    "cyclic": (made("cyclic", 0.1, 0.3, up=4), lambda t: triangle(t, 0.1, 0.3, 4, 4), 0.1),
    "cyclic triangular2": (
        made("cyclic", 0.1, 0.3, up=4, down=7, mode="triangular2"),
        lambda t: 0.1 + (triangle(t, 0.1, 0.3, 4, 7) - 0.1) * 0.5 ** (t // 11),
        0.1,
    ),
    "cyclic exp_range": (
        made("cyclic", 0.9, 0.8, up=4, down=3, mode="exp_range", factor=0.99),
        lambda t: 0.9 + (triangle(t, 0.9, 0.8, 4, 3) - 0.9) * 0.99**t,
        0.9,
    ),
    "warmup": (
        lambda: s.warmup(s.step(0.3, every=7, factor=0.2), 5, start=0.1),
        lambda t: a_line(0.1, 0.3, t / 5) if t < 5 else 0.3 * 0.2 ** ((t - 5) // 7),
        0.0,
    ),
    "warmup to a number": (made("warmup", 0.3, 6), lambda t: 0.3 * min(t / 6, 1), 0.3),
    "warmup to a function": (
        made("warmup", shifted, 4),
        lambda t: shifted(0) * t / 4 if t < 4 else shifted(t - 4),
        0.1 + 0.2 / (10**15 - 3),
    ),
    "join": (
        lambda: s.join([0.3, s.linear(0.2, 0.1, 5), shifted, 0.05], [3, 6, 10]),
        lambda t: [0.3, 0.2 - 0.02 * min(t - 3, 5), 0.1 + 0.2 / (max(t - 6, 0) + 1), 0.05][
            bisect([3, 6, 10], t)
        ],
        0.05,
    ),
    "product": (
        lambda: s.product(0.5, s.linear(0.0, 1.0, 10), s.inverse_time(0.6, 0.1), shifted),
        lambda t: 0.5 * min(t / 10, 1) * 0.6 / (1 + 0.1 * t) * shifted(t),
        0.5 * 0.6 / (1 + 1e14) * 0.1,
    ),
}


def half_cosine_up(a, b, done):
    return half_cosine(a, b, done)


def test_every_schedule_is_in_the_table():
    assert {name.split()[0] for name in FORMS} == set(s.__all__)


@pytest.mark.parametrize("name", FORMS)
def test_first_steps_equal_the_formula(name):
    """All borders lie within: one step more or less shows."""
    make, formula, _ = FORMS[name]
    schedule = make()
    for t in range(200):
        assert schedule(t) == pytest.approx(formula(t), rel=1e-12, abs=1e-16), t


@given(ts=st.lists(st.integers(0, 10**6), min_size=1, max_size=20))
def test_value_depends_on_t_alone(ts):
    for name, (make, formula, _) in FORMS.items():
        one, other = make(), make()
        forwards = [one(t) for t in ts]
        assert forwards == [other(t) for t in reversed(ts)][::-1] == [make()(t) for t in ts], name
        assert forwards == pytest.approx([formula(t) for t in ts], rel=1e-9, abs=1e-15), name


@given(t=st.integers(0, 10**15) | st.integers(0, 61).map(lambda n: 2**n))
def test_value_is_a_finite_float_at_any_t(t):
    for name, (make, _, _) in FORMS.items():
        value = make()(t)
        assert type(value) is float and math.isfinite(value) and 0 <= value <= 1, name
        # NumPy divides integers beyond 2**53 less exactly.
        assert make()(np.int64(t)) == pytest.approx(value, rel=1e-14), name


@pytest.mark.parametrize("name", FORMS)
def test_value_after_very_many_steps(name):
    make, _, late = FORMS[name]
    assert make()(10**15) == pytest.approx(late, rel=1e-9)


@pytest.mark.parametrize("name", FORMS)
def test_schedules_print_compare_and_pickle(name):
    make, _, _ = FORMS[name]
    one = make()
    assert repr(one).startswith(name.split()[0] + "(")
    for other in (make(), pickle.loads(pickle.dumps(one)), copy.deepcopy(one)):
        assert other == one and hash(other) == hash(one) and repr(other) == repr(one)
        assert [other(t) for t in range(40)] == [one(t) for t in range(40)]
    if "function" not in repr(one):
        assert eval(repr(one), vars(s)) == one
    with pytest.raises(AttributeError):
        one.value = 1.0


def test_reprs():
    assert repr(s.constant(0.3)) == "constant(value=0.3)"
    assert repr(s.step(0.3, every=7)) == "step(value=0.3, every=7, factor=0.1)"
    assert repr(s.inverse_time(0.3, rate=0.01)) == "inverse_time(value=0.3, rate=0.01)"
    assert repr(s.product(0.5, s.constant(1.0))) == "product(0.5, constant(value=1.0))"


def test_numpy_and_integer_arguments_become_floats_and_ints():
    schedule = s.step(np.float32(0.1), every=np.int64(3), factor=np.float32(0.5))
    assert schedule == s.step(float(np.float32(0.1)), every=3, factor=0.5)
    assert [type(part) for part in vars(schedule).values()] == [float, int, float]
    assert type(s.constant(1)(0)) is float
    assert type(s.product(1, 2)(0)) is float
    assert s.multi_step(1, (np.int64(3),)).milestones == (3,)
    assert s.exponential(1, 0.5, staircase=np.True_).staircase is True
    assert s.one_cycle(1, 9, three_phase=np.True_).three_phase is True


def test_defaults():
    assert s.step(1.0, 5) == s.step(1.0, every=5, factor=0.1)
    assert s.multi_step(1.0, [5]) == s.multi_step(1.0, [5], factor=0.1)
    assert s.exponential(1.0, 0.5) == s.exponential(1.0, 0.5, every=1, staircase=False)
    assert s.inverse_scaling(1.0) == s.inverse_scaling(1.0, power=0.5)
    assert s.polynomial(1.0, 0.5, 9) == s.polynomial(1.0, 0.5, 9, power=1.0)
    assert s.cosine(1.0, 9) == s.cosine(1.0, 9, end=0.0, warmup=0)
    assert s.momentum_annealing() == s.momentum_annealing(0.99, every=250)
    assert s.warm_restarts(1.0, 9) == s.warm_restarts(1.0, 9, growth=1, end=0.0, factor=1.0)
    assert s.one_cycle(1.0, 9) == s.one_cycle(
        1.0, 9, start=1 / 25, end=1 / 25 / 10_000, rise=0.3, anneal="cosine", three_phase=False
    )
    assert s.cyclic(0.1, 1.0, 9) == s.cyclic(0.1, 1.0, 9, 9, mode="triangular", factor=1.0)
    assert s.warmup(1.0, 9) == s.warmup(1.0, 9, start=0.0)


# Exact values on both sides of each border.
BORDERS = [
    (s.step(1.0, 4, 0.5), {0: 1.0, 3: 1.0, 4: 0.5, 7: 0.5, 8: 0.25}),
    (s.multi_step(1.0, [1, 4], 0.5), {0: 1.0, 1: 0.5, 3: 0.5, 4: 0.25, 10**15: 0.25}),
    (s.exponential(1.0, 0.25, every=2), {0: 1.0, 1: 0.5, 2: 0.25, 3: 0.125}),
    (s.exponential(1.0, 0.25, every=2, staircase=True), {0: 1.0, 1: 1.0, 2: 0.25, 3: 0.25}),
    (s.inverse_scaling(1.0, 1.0), {0: 1.0, 1: 0.5, 3: 0.25}),
    (s.inverse_scaling(1.0, 0.0), {0: 1.0, 10**15: 1.0}),
    (s.inverse_sqrt(1.0, 1), {0: 1.0, 3: 0.5}),
    (s.inverse_sqrt(1.0, 4), {0: 0.25, 2: 0.75, 3: 1.0, 4: math.sqrt(0.8), 15: 0.5}),
    (s.linear(1.0, 0.5, 1), {0: 1.0, 1: 0.5, 2: 0.5}),
    (s.linear(0.0, 1.0, 4), {0: 0.0, 1: 0.25, 3: 0.75, 4: 1.0, 5: 1.0}),
    (s.polynomial(1.0, 0.0, 4, 2.0), {0: 1.0, 1: 0.5625, 3: 0.0625, 4: 0.0, 5: 0.0}),
    (s.cosine(1.0, 2), {0: 1.0, 1: 0.5, 2: 0.0, 3: 0.0, 4: 0.0}),
    (s.cosine(1.0, 3, end=0.5, warmup=1), {0: 0.0, 1: 1.0, 2: 0.75, 3: 0.5, 4: 0.5}),
    (s.cosine(1.0, 4, warmup=2), {0: 0.0, 1: 0.5, 2: 1.0, 3: 0.5, 4: 0.0}),
    (s.warm_restarts(1.0, 2), {0: 1.0, 1: 0.5, 2: 1.0, 3: 0.5, 4: 1.0}),
    (s.warm_restarts(1.0, 2, growth=2), {1: 0.5, 2: 1.0, 4: 0.5, 6: 1.0, 10: 0.5, 14: 1.0}),
    (s.warm_restarts(1.5, 2, end=0.5, factor=0.5), {0: 1.5, 1: 1.0, 2: 1.0, 3: 0.75, 4: 0.75}),
    (s.warm_restarts(1.0, 1), {0: 1.0, 1: 1.0, 10**15: 1.0}),
    (
        s.one_cycle(1.0, 10, start=0.5, end=0.0, rise=0.3, anneal="linear"),
        {0: 0.5, 1: 0.75, 2: 1.0, 9: 0.0, 10: 0.0},
    ),
    (
        s.one_cycle(1.0, 10, start=0.5, end=0.0, rise=0.3, anneal="linear", three_phase=True),
        {0: 0.5, 1: 0.75, 2: 1.0, 3: 0.75, 4: 0.5, 5: 0.4, 8: 0.1, 9: 0.0, 10: 0.0},
    ),
    (s.one_cycle(1.0, 2, start=0.5, end=0.0, rise=0.75), {0: 0.5, 1: 0.0, 2: 0.0}),
    (
        s.one_cycle(1.0, 8, start=0.5, end=0.25, rise=0.5, three_phase=True),
        {0: 0.5, 3: 1.0, 6: 0.5, 7: 0.25},
    ),
    (s.cyclic(0.0, 1.0, 2), {0: 0.0, 1: 0.5, 2: 1.0, 3: 0.5, 4: 0.0, 5: 0.5, 6: 1.0}),
    (s.cyclic(0.0, 1.0, 1, 2), {0: 0.0, 1: 1.0, 2: 0.5, 3: 0.0, 4: 1.0}),
    (s.cyclic(0.0, 1.0, 1, mode="triangular2"), {1: 1.0, 2: 0.0, 3: 0.5, 5: 0.25, 2201: 0.0}),
    (s.cyclic(0.0, 1.0, 1, mode="exp_range", factor=0.5), {1: 0.5, 2: 0.0, 3: 0.125}),
    (s.momentum_annealing(1.0, 2), {0: 0.5, 1: 0.5, 2: 0.75, 3: 0.75, 4: 1 - 0.5 / 3, 6: 0.875}),
    (s.momentum_annealing(0.0), {0: 0.0, 10**15: 0.0}),
    (s.warmup(1.0, 0), {0: 1.0, 1: 1.0}),
    (s.warmup(s.linear(1.0, 0.0, 4), 0), {0: 1.0, 1: 0.75, 4: 0.0}),
    (s.warmup(s.linear(1.0, 0.0, 4), 2, start=0.5), {0: 0.5, 1: 0.75, 2: 1.0, 3: 0.75, 6: 0.0}),
    (s.join([1.0], []), {0: 1.0, 9: 1.0}),
    (s.join([s.linear(1.0, 0.0, 4), s.linear(1.0, 0.0, 4)], [2]), {1: 0.75, 2: 1.0, 3: 0.75}),
    (s.join([3.0, 2.0, 1.0], (1, 2)), {0: 3.0, 1: 2.0, 2: 1.0}),
    (s.product(2.0), {0: 2.0}),
    (s.product(s.linear(0.0, 1.0, 4), s.step(1.0, 3, 0.5)), {0: 0.0, 2: 0.5, 3: 0.375, 4: 0.5}),
]


@pytest.mark.parametrize(("schedule", "values"), BORDERS, ids=lambda x: repr(x)[:60])
def test_values_at_borders(schedule, values):
    # Half a cosine is half of the way only up to the rounding of pi.
    assert {t: schedule(t) for t in values} == pytest.approx(values, rel=4e-16, abs=0)


@pytest.mark.parametrize("every", [1, 7, 10, 999])
@pytest.mark.parametrize("growth", [1, 2, 3, 7, 10, 1000])
def test_warm_restarts_are_at_the_very_step(every, growth):
    """A float logarithm alone misses some: log(1000, 10) < 3, and log2(2**53 - 1) == 53."""
    schedule = s.warm_restarts(1.0, every, growth, end=0.25)
    start, length = 0, every
    for n in range(61):
        assert schedule(start) == 1.0, n
        last = half_cosine(1.0, 0.25, (length - 1) / length)
        assert schedule(start + length - 1) == pytest.approx(last, rel=1e-12), n
        start, length = start + length, length * growth
        if start > 10**18:
            break


@given(
    a=st.floats(-1e300, 1e300),
    b=st.floats(-1e300, 1e300),
    steps=st.integers(1, 10**6),
    t=st.integers(0, 10**6),
)
def test_ways_stay_between_start_and_end(a, b, steps, t):
    """Not even a rounding leads beyond: a momentum of 1 + 2**-52 would be refused."""
    assert s.linear(a, b, steps)(0) == a and s.linear(a, b, steps)(steps) == b
    for schedule in (
        s.linear(a, b, steps),
        s.polynomial(a, b, steps, power=0.7),
        s.cosine(a, steps, end=b),
        s.warm_restarts(a, steps, growth=2, end=b),
        s.one_cycle(a, steps + 3, start=b, end=b, rise=0.9),
        s.cyclic(a, b, steps),
        s.warmup(b, steps, start=a),
    ):
        assert min(a, b) <= schedule(t) <= max(a, b)


@pytest.mark.parametrize(
    "schedule",
    [
        s.exponential(1.0, 10.0),
        s.exponential(1e300, 10.0, every=3),
        s.step(1e300, 1, 1e300),
        s.multi_step(1.0, [1, 2, 3], 1e200),
    ],
)
def test_growth_beyond_any_float_is_named(schedule):
    assert math.isfinite(schedule(0))
    for t in (400, 10**15):
        with pytest.raises(ArithmeticError, match=f"{type(schedule).__name__}.*grown beyond") as e:
            schedule(t)
        assert not isinstance(e.value, OverflowError)


def test_growth_is_exact_as_long_as_it_is_finite():
    assert s.exponential(1.0, 10.0)(300) == 1e300
    assert s.exponential(1.0, 2.0, every=2)(4) == 4.0
    assert s.step(-1.0, 2, 2.0)(5) == -4.0


def test_extreme_rates_and_powers_fall_to_zero():
    assert s.inverse_time(1.0, rate=1e308)(10**15) == 0.0
    assert s.inverse_scaling(1.0, power=1e308)(10**15) == 0.0
    assert s.step(1.0, 1, 5e-324)(10**15) == 0.0


# Any hyper-parameter.


def test_schedules_set_lr_momentum_and_weight_decay():
    """A scheduled step is the step with the schedules' numbers, bit for bit."""
    scheduled = {
        "lr": s.one_cycle(0.1, 12),
        "momentum": s.one_cycle(0.85, 12, start=0.95, end=0.95),
        "weight_decay": s.cosine(0.1, 8, warmup=2),
    }
    w, v = np.linspace(-1, 1, 5), np.linspace(-1, 1, 5)
    ours = fastopt.SGD(w, **scheduled)
    plain = fastopt.SGD(v, **{name: schedule(0) for name, schedule in scheduled.items()})
    for t in range(15):
        plain.param_groups[0].update({name: one(t) for name, one in scheduled.items()})
        assert ours.step(w * w).lr == scheduled["lr"](t)
        plain.step(v * v)
    assert (w == v).all()


def test_schedules_set_one_of_the_betas():
    w, v = np.linspace(-1, 1, 5), np.linspace(-1, 1, 5)
    beta = s.momentum_annealing(0.9, every=3)
    ours = fastopt.Adam(w, lr=s.warmup(0.1, 4), betas=(beta, 0.99))
    plain = fastopt.Adam(v)
    for t in range(15):
        plain.param_groups[0].update(lr=min(0.1 * t / 4, 0.1), betas=(beta(t), 0.99))
        ours.step(w * w)
        plain.step(v * v)
    assert (w == v).all()


def test_training_goes_on_after_loading(tmp_path):
    def make():
        w = np.linspace(-1, 1, 5)
        return w, fastopt.SGD(w, lr=s.join([s.cosine(0.1, 5), s.step(0.05, 3)], [5]))

    w, opt = make()
    for _ in range(4):
        opt.step(w * w)
    v, other = make()
    opt.save(tmp_path / "opt.npz")
    other.load(tmp_path / "opt.npz")
    v[:] = w
    for _ in range(9):
        assert opt.step(w * w).lr == other.step(v * v).lr
    assert (w == v).all()


# Peers.


def linear_then_exponential(lr, opt):
    parts = [lr.LinearLR(opt, 0.2, 1.0, 4), lr.ExponentialLR(opt, 0.9)]
    return lr.SequentialLR(opt, parts, [5])


TORCH = {
    "StepLR": (s.step(0.5, 3, 0.1), lambda lr, o: lr.StepLR(o, 3, 0.1)),
    "MultiStepLR": (
        s.multi_step(0.5, [3, 4, 9], 0.5),
        lambda lr, o: lr.MultiStepLR(o, [3, 4, 9], 0.5),
    ),
    "ExponentialLR": (s.exponential(0.5, 0.9), lambda lr, o: lr.ExponentialLR(o, 0.9)),
    "LinearLR": (s.linear(0.125, 0.5, 8), lambda lr, o: lr.LinearLR(o, 0.25, 1.0, 8)),
    "PolynomialLR": (s.polynomial(0.5, 0, 8, 2), lambda lr, o: lr.PolynomialLR(o, 8, 2.0)),
    "PolynomialLR default power": (s.polynomial(0.5, 0, 8), lambda lr, o: lr.PolynomialLR(o, 8)),
    "ConstantLR": (s.join([0.1, 0.5], [5]), lambda lr, o: lr.ConstantLR(o, 0.2, 5)),
    "CosineAnnealingLR": (
        s.cosine(0.5, 29, end=0.01),  # to its end: torch's goes up again
        lambda lr, o: lr.CosineAnnealingLR(o, 29, 0.01),
    ),
    "CosineAnnealingWarmRestarts": (
        s.warm_restarts(0.5, 4, end=0.01),
        lambda lr, o: lr.CosineAnnealingWarmRestarts(o, 4, 1, 0.01),
    ),
    "CosineAnnealingWarmRestarts T_mult=2": (
        s.warm_restarts(0.5, 3, 2, end=0.01),
        lambda lr, o: lr.CosineAnnealingWarmRestarts(o, 3, 2, 0.01),
    ),
    "LambdaLR": (
        s.inverse_sqrt(0.5, 6),
        lambda lr, o: lr.LambdaLR(o, lambda t: min((t + 1) / 6, (6 / (t + 1)) ** 0.5)),
    ),
    "SequentialLR": (
        s.join([s.linear(0.1, 0.5, 4), s.exponential(0.5, 0.9)], [5]),
        linear_then_exponential,
    ),
    "ChainedScheduler": (
        s.product(s.linear(0.2, 1.0, 4), s.exponential(0.5, 0.9)),
        lambda lr, o: lr.ChainedScheduler(
            [lr.LinearLR(o, 0.2, 1.0, 4), lr.ExponentialLR(o, 0.9)], o
        ),
    ),
}


def torch_values(theirs, steps, key="lr"):
    torch = pytest.importorskip("torch")
    opt = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5, momentum=0.9)
    schedule = theirs(torch.optim.lr_scheduler, opt)
    values = []
    for t in range(steps):
        values.append(opt.param_groups[0][key])
        opt.step()
        if t < steps - 1:
            schedule.step()
    return values


@pytest.mark.parametrize("name", TORCH)
def test_values_equal_torch(name):
    ours, theirs = TORCH[name]
    # torch goes on from the value before, so that roundings add up.
    assert [ours(t) for t in range(30)] == pytest.approx(torch_values(theirs, 30), rel=1e-10)


@pytest.mark.parametrize("steps", [5, 10, 17, 30])
@pytest.mark.parametrize("rise", [0.25, 0.3, 0.45])
@pytest.mark.parametrize("anneal", ["cosine", "linear"])
@pytest.mark.parametrize("three", [False, True])
def test_one_cycle_equals_torch_for_lr_and_momentum(steps, rise, anneal, three):
    strategy = {"cosine": "cos", "linear": "linear"}[anneal]

    def theirs(lr, opt):
        options = {"pct_start": rise, "anneal_strategy": strategy, "three_phase": three}
        return lr.OneCycleLR(opt, 0.3, steps, **options)

    same = {"rise": rise, "anneal": anneal, "three_phase": three}
    lr = s.one_cycle(0.3, steps, **same)
    momentum = s.one_cycle(0.85, steps, start=0.95, end=0.95, **same)
    for key, ours in (("lr", lr), ("momentum", momentum)):
        assert [ours(t) for t in range(steps)] == pytest.approx(
            torch_values(theirs, steps, key), rel=1e-10
        )


@pytest.mark.parametrize(("up", "down"), [(4, None), (3, 5), (5, 1), (1, 1)])
@pytest.mark.parametrize("mode", ["triangular", "triangular2", "exp_range"])
def test_cyclic_equals_torch_for_lr_and_momentum(up, down, mode):
    factor = 0.95 if mode == "exp_range" else 1.0

    def theirs(lr, opt):
        return lr.CyclicLR(opt, 0.1, 0.6, up, down, mode=mode, gamma=factor)

    lr = s.cyclic(0.1, 0.6, up, down, mode=mode, factor=factor)
    momentum = s.cyclic(0.9, 0.8, up, down, mode=mode, factor=factor)
    for key, ours in (("lr", lr), ("momentum", momentum)):
        assert [ours(t) for t in range(40)] == pytest.approx(torch_values(theirs, 40, key))


def sgdr(every, growth, factor):
    return s.warm_restarts(0.3, every, growth, end=0.01, factor=factor)


# fmt: off
OPTAX = {  # printed by optax 0.2.8 in float64
    "exponential_decay(0.3, 7, 0.9)": (s.exponential(0.3, 0.9, every=7), {
        0: 0.3, 1: 0.29551836163233464, 6: 0.27409464356998264, 7: 0.27, 8: 0.26596652546910116,
        100: 0.06659518322440576}),
    "exponential_decay(0.3, 7, 0.9, staircase=True)": (
        s.exponential(0.3, 0.9, every=7, staircase=True),
        {0: 0.3, 1: 0.3, 6: 0.3, 7: 0.27, 13: 0.27, 14: 0.243, 100: 0.06863037736488302}),
    "piecewise_constant_schedule(0.3, {10: 0.5, 20: 0.5})": (s.multi_step(0.3, [10, 20], 0.5), {
        0: 0.3, 9: 0.3, 10: 0.15, 11: 0.15, 19: 0.15, 20: 0.075, 21: 0.075}),
    "linear_schedule(0.3, 0.01, 100)": (s.linear(0.3, 0.01, 100), {
        0: 0.3, 1: 0.2971, 50: 0.155, 99: 0.0129, 100: 0.01, 101: 0.01}),
    "polynomial_schedule(0.3, 0.01, 2, 100)": (s.polynomial(0.3, 0.01, 100, 2), {
        0: 0.3, 1: 0.294229, 50: 0.0825, 99: 0.010029, 100: 0.01, 101: 0.01}),
    "polynomial_schedule(0.01, 0.3, 0.5, 100)": (s.polynomial(0.01, 0.3, 100, 0.5), {
        0: 0.01, 1: 0.011453643239080213, 50: 0.09493903345590121, 99: 0.271, 100: 0.3, 101: 0.3}),
    "cosine_decay_schedule(0.3, 100, alpha=0.1)": (s.cosine(0.3, 100, end=0.03), {
        0: 0.3, 1: 0.2999333856493738, 25: 0.2604594154601839, 50: 0.165,
        99: 0.030066614350626235, 100: 0.03, 101: 0.03, 1000: 0.03}),
    "warmup_cosine_decay_schedule(0.01, 0.3, 10, 100, end_value=0.001)": (
        s.warmup(s.cosine(0.3, 90, end=0.001), 10, start=0.01), {
        0: 0.01, 1: 0.039, 9: 0.271, 10: 0.3, 11: 0.2999089286393548, 55: 0.1505,
        99: 0.0010910713606451835, 100: 0.001, 101: 0.001, 1000: 0.001}),
    "warmup_exponential_decay_schedule(0.05, 0.3, 4, 10, 0.5, staircase=True)": (
        s.warmup(s.exponential(0.3, 0.5, every=10, staircase=True), 4, start=0.05),
        {0: 0.05, 1: 0.1125, 3: 0.2375, 4: 0.3, 13: 0.3, 14: 0.15, 24: 0.075}),
    "join_schedules([linear_schedule(0.0, 0.3, 10), exponential_decay(0.3, 1, 0.9), "
    "constant_schedule(0.05)], [10, 20])": (
        s.join([s.linear(0.0, 0.3, 10), s.exponential(0.3, 0.9), 0.05], [10, 20]), {
        0: 0.0, 9: 0.27, 10: 0.3, 11: 0.27, 19: 0.11622614670000002, 20: 0.05, 21: 0.05,
        100: 0.05}),
    "sgdr_schedule, 4 of 10 steps": (sgdr(10, 1, 1.0), {
        0: 0.3, 1: 0.29290319486279726, 9: 0.01709680513720274, 10: 0.3, 11: 0.29290319486279726,
        19: 0.01709680513720274, 20: 0.3, 35: 0.155}),
    "sgdr_schedule, of 10 * 2**n steps from 0.01 + 0.29 * 0.5**n": (sgdr(10, 2, 0.5), {
        0: 0.3, 1: 0.29290319486279726, 9: 0.01709680513720274, 10: 0.155,
        11: 0.1541074046931475, 29: 0.01089259530685252, 30: 0.0825, 31: 0.08238825334782589,
        69: 0.010111746652174111, 70: 0.04625, 71: 0.0462360262818631, 149: 0.010013973718136898}),
}
KERAS = {  # printed by Keras 3.15.1, in float32
    "CosineDecay(0.0, 90, alpha=0.1, warmup_target=0.3, warmup_steps=10)": (
        s.cosine(0.3, 100, end=0.03, warmup=10), {
        0: 0.0, 5: 0.15, 9: 0.27, 10: 0.3, 11: 0.29991776347160337, 55: 0.16499998569488525,
        99: 0.030082236975431442, 100: 0.03, 101: 0.03}),
    "CosineDecayRestarts(0.3, 10, t_mul=2.0, m_mul=0.5, alpha=0.1)": (
        s.warm_restarts(0.3, 10, 2, end=0.03, factor=0.5), {
        0: 0.3, 1: 0.29339262485504153, 5: 0.16499999195337295, 9: 0.036607375144958494,
        11: 0.1641689604520798, 15: 0.14522971093654632, 29: 0.030831035524606705,
        31: 0.09739595711231232, 45: 0.07666556462645531, 71: 0.06373698860406875,
        100: 0.05333278231322765}),
    "PolynomialDecay(0.3, 90, end_learning_rate=0.01, power=2.0)": (
        s.polynomial(0.3, 0.01, 90, 2), {
        0: 0.3, 5: 0.2686728395061728, 45: 0.0825, 89: 0.010035802469135803, 90: 0.01, 101: 0.01}),
    "InverseTimeDecay(0.3, 10, 0.5)": (s.inverse_time(0.3, rate=0.05), {
        0: 0.3, 1: 0.2857142857142857, 10: 0.2, 100: 0.05}),
}
# fmt: on


@pytest.mark.parametrize("name", OPTAX)
def test_values_equal_optax(name):
    ours, values = OPTAX[name]
    assert {t: ours(t) for t in values} == pytest.approx(values, rel=1e-13)


@pytest.mark.parametrize("name", KERAS)
def test_values_equal_keras_within_float32(name):
    ours, values = KERAS[name]
    assert {t: ours(t) for t in values} == pytest.approx(values, rel=1e-6)


# Wrong arguments.

HUGE = int(sys.float_info.max) * 2

WRONG = [
    (lambda: s.constant(math.nan), ValueError, "constant: value must be .* got nan"),
    (lambda: s.constant("0.1"), TypeError, "constant: value must be .* got '0.1'"),
    (lambda: s.constant(None), TypeError, "constant: value must be .* got None"),
    (lambda: s.constant(True), TypeError, "constant: value must be .* got True"),
    (lambda: s.constant(HUGE), ValueError, "constant: value must be a finite number"),
    (lambda: s.step(0.1, every=0), ValueError, "step: every must be at least 1, got 0"),
    (lambda: s.step(0.1, every=2.5), TypeError, "step: every must be an integer, got 2.5"),
    (lambda: s.step(0.1, every=True), TypeError, "step: every must be an integer, got True"),
    (lambda: s.step(0.1, 5, factor=0.0), ValueError, r"step: factor .* \(0, inf\), got 0.0"),
    (lambda: s.step(-math.inf, 5), ValueError, "step: value must be .* got -inf"),
    (lambda: s.multi_step(0.1, 5), TypeError, "multi_step: milestones must be a list .* got 5"),
    (lambda: s.multi_step(0.1, [0]), ValueError, r"multi_step: milestones\[0\] .* 1, got 0"),
    (lambda: s.multi_step(0.1, [1, 2.5]), TypeError, r"milestones\[1\] must be an integer"),
    (lambda: s.multi_step(0.1, [3, 3]), ValueError, r"multi_step: milestones must ascend, got \[3"),
    (lambda: s.multi_step(0.1, [3, 5, 4]), ValueError, "multi_step: milestones must ascend"),
    (lambda: s.multi_step(0.1, [3], -0.1), ValueError, "multi_step: factor must be .* got -0.1"),
    (lambda: s.multi_step(0.1, [3], 0), ValueError, "multi_step: factor must be .* got 0"),
    (lambda: s.multi_step(None, [3]), TypeError, "multi_step: value must be"),
    (lambda: s.exponential(0.1, factor=-1), ValueError, "exponential: factor must be .* got -1"),
    (lambda: s.exponential(0.1, factor=0), ValueError, "exponential: factor must be .* got 0"),
    (lambda: s.exponential(math.inf, factor=0.5), ValueError, "exponential: value must be"),
    (lambda: s.exponential(0.1, 0.5, every=0), ValueError, "exponential: every must be at least 1"),
    (lambda: s.exponential(0.1, 0.5, 2, 1), TypeError, "exponential: staircase must be True or"),
    (lambda: s.inverse_time(0.1, rate=-1), ValueError, r"inverse_time: rate .* \[0, inf\), got -1"),
    (lambda: s.inverse_time(math.nan, 1), ValueError, "inverse_time: value must be"),
    (lambda: s.inverse_scaling(0.1, power=-1), ValueError, "inverse_scaling: power must be"),
    (lambda: s.inverse_scaling("a"), TypeError, "inverse_scaling: value must be"),
    (lambda: s.inverse_sqrt(0.1, warmup=0), ValueError, "inverse_sqrt: warmup must be at least 1"),
    (lambda: s.inverse_sqrt(math.inf, 5), ValueError, "inverse_sqrt: value must be"),
    (lambda: s.linear(0.1, math.nan, 5), ValueError, "linear: end must be"),
    (lambda: s.linear(None, 0.1, 5), TypeError, "linear: start must be"),
    (lambda: s.linear(0.1, 0.2, 0), ValueError, "linear: steps must be at least 1, got 0"),
    (lambda: s.polynomial(0.1, 0.2, 5, 0), ValueError, "polynomial: power must be .* got 0"),
    (lambda: s.polynomial(0.1, 0.2, 0, 1), ValueError, "polynomial: steps must be at least 1"),
    (lambda: s.polynomial(0.1, "b", 5), TypeError, "polynomial: end must be"),
    (lambda: s.polynomial(math.nan, 1, 5), ValueError, "polynomial: start must be"),
    (lambda: s.cosine(0.1, 0), ValueError, "cosine: steps must be at least 1, got 0"),
    (lambda: s.cosine(0.1, 1e3), TypeError, "cosine: steps must be an integer, got 1000.0"),
    (lambda: s.cosine(None, 5), TypeError, "cosine: value must be"),
    (lambda: s.cosine(0.1, 5, end=math.nan), ValueError, "cosine: end must be"),
    (lambda: s.cosine(0.1, 5, warmup=-1), ValueError, "cosine: warmup must be at least 0, got -1"),
    (lambda: s.cosine(0.1, 5, warmup=5), ValueError, "cosine: warmup .* less than .* 5, got 5"),
    (lambda: s.momentum_annealing(1.5), ValueError, r"momentum_annealing: limit .* \[0, 1\]"),
    (lambda: s.momentum_annealing(-0.1), ValueError, "momentum_annealing: limit must be"),
    (lambda: s.momentum_annealing(0.9, 0), ValueError, "momentum_annealing: every must be at"),
    (lambda: s.warm_restarts(None, 5), TypeError, "warm_restarts: value must be"),
    (lambda: s.warm_restarts(0.1, 0), ValueError, "warm_restarts: every must be at least 1"),
    (lambda: s.warm_restarts(0.1, 5, 0), ValueError, "warm_restarts: growth must be at least 1"),
    (lambda: s.warm_restarts(0.1, 5, 1.5), TypeError, "warm_restarts: growth must be an integer"),
    (lambda: s.warm_restarts(0.1, 5, end="x"), TypeError, "warm_restarts: end must be"),
    (lambda: s.warm_restarts(0.1, 5, factor=0), ValueError, "warm_restarts: factor must be"),
    (lambda: s.warm_restarts(0.1, 5, factor=1.1), ValueError, r"factor .* in \(0, 1\], got 1.1"),
    (lambda: s.one_cycle(None, 10), TypeError, "one_cycle: peak must be"),
    (lambda: s.one_cycle(0.1, 1), ValueError, "one_cycle: steps must be at least 2, got 1"),
    (lambda: s.one_cycle(0.1, 10, start=math.nan), ValueError, "one_cycle: start must be"),
    (lambda: s.one_cycle(0.1, 10, end="x"), TypeError, "one_cycle: end must be"),
    (lambda: s.one_cycle(0.1, 10, rise=0), ValueError, "one_cycle: rise must be .* got 0"),
    (lambda: s.one_cycle(0.1, 10, rise=math.nan), ValueError, "one_cycle: rise must be .* got nan"),
    (lambda: s.one_cycle(0.1, 10, rise=1), ValueError, "one_cycle: rise .* less than 1, got 1.0"),
    (lambda: s.one_cycle(0.1, 10, rise=1.5), ValueError, "one_cycle: rise must be .* got 1.5"),
    (lambda: s.one_cycle(0.1, 10, rise=0.1), ValueError, "rise must be more than .* = 0.1"),
    (lambda: s.one_cycle(0.1, 3), ValueError, "rise must be more than 1 / steps = 0.333333"),
    (
        lambda: s.one_cycle(0.1, 10, rise=0.6, three_phase=True),
        ValueError,
        "one_cycle: rise .* at most 0.5 with three_phase, got 0.6",
    ),
    (lambda: s.one_cycle(0.1, 10, anneal="cos"), ValueError, "anneal must be one of 'cosine', 'li"),
    (lambda: s.one_cycle(0.1, 10, three_phase=1), TypeError, "one_cycle: three_phase must be True"),
    (lambda: s.cyclic(None, 1, 5), TypeError, "cyclic: start must be"),
    (lambda: s.cyclic(0.1, math.inf, 5), ValueError, "cyclic: peak must be"),
    (lambda: s.cyclic(0.1, 1, 0), ValueError, "cyclic: up must be at least 1, got 0"),
    (lambda: s.cyclic(0.1, 1, 5, 0), ValueError, "cyclic: down must be at least 1, got 0"),
    (lambda: s.cyclic(0.1, 1, 5, mode="x"), ValueError, "cyclic: mode must be one of 'triangular'"),
    (lambda: s.cyclic(0.1, 1, 5, factor=0.9), ValueError, "cyclic: factor must be 1 with mode 't"),
    (
        lambda: s.cyclic(0.1, 1, 5, mode="exp_range", factor=1.1),
        ValueError,
        r"cyclic: factor must be a number in \(0, 1\], got 1.1",
    ),
    (lambda: s.warmup("x", 5), TypeError, "warmup: schedule must be a callable .* got 'x'"),
    (lambda: s.warmup(math.nan, 5), ValueError, "warmup: schedule must be .* got nan"),
    (lambda: s.warmup(HUGE, 5), ValueError, "warmup: schedule must be a finite number"),
    (lambda: s.warmup(0.1, -1), ValueError, "warmup: steps must be at least 0, got -1"),
    (lambda: s.warmup(0.1, 5, start=None), TypeError, "warmup: start must be"),
    (lambda: s.join(0.1, []), TypeError, "join: schedules must be a list .* got 0.1"),
    (lambda: s.join([0.1, None], [5]), TypeError, r"join: schedules\[1\] must be a callable"),
    (lambda: s.join([0.1, 0.2], 5), TypeError, "join: boundaries must be a list .* got 5"),
    (lambda: s.join([0.1, 0.2], [0]), ValueError, r"join: boundaries\[0\] must be at least 1"),
    (lambda: s.join([0.1, 0.2], []), ValueError, r"join: boundaries .* are 2, got \(\)"),
    (lambda: s.join([0.1], [5]), ValueError, "join: boundaries must be one less"),
    (lambda: s.join([], []), ValueError, "join: boundaries must be one less .* are 0"),
    (lambda: s.join([1, 2, 3], [5, 5]), ValueError, "join: boundaries must ascend"),
    (lambda: s.product(), TypeError, "product: schedules must be at least one"),
    (lambda: s.product(0.1, "x"), TypeError, r"product: schedules\[1\] must be a callable"),
]


@pytest.mark.parametrize(("call", "error", "match"), WRONG, ids=[match for *_, match in WRONG])
def test_wrong_arguments_are_named(call, error, match):
    with pytest.raises(error, match=match):
        call()
