"""Schedules are closed forms: their values against the formulas, and on t alone."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastopt import schedules

FORMS = {
    "constant": (lambda: schedules.constant(0.3), lambda t: 0.3),
    "step": (lambda: schedules.step(0.3, every=7, factor=0.2), lambda t: 0.3 * 0.2 ** (t // 7)),
    "exponential": (lambda: schedules.exponential(0.3, factor=0.99), lambda t: 0.3 * 0.99**t),
    "inverse_time": (
        lambda: schedules.inverse_time(0.3, rate=0.01),
        lambda t: 0.3 / (1 + 0.01 * t),
    ),
}


@pytest.mark.parametrize("name", FORMS)
@given(ts=st.lists(st.integers(0, 10**6), min_size=1, max_size=20))
def test_value_depends_on_t_alone(name, ts):
    make, formula = FORMS[name]
    one, other = make(), make()
    forwards = [one(t) for t in ts]
    assert forwards == [other(t) for t in reversed(ts)][::-1]
    assert forwards == pytest.approx([formula(t) for t in ts], rel=1e-12)


@pytest.mark.parametrize("name", FORMS)
def test_first_step_has_the_start_value_and_schedules_print_and_compare(name):
    make, _ = FORMS[name]
    assert make()(0) == 0.3 and make() == make() and repr(make()).startswith(f"{name}(value=0.3")


def test_step_and_exponential_equal_torch():
    torch = pytest.importorskip("torch")
    lr = torch.optim.lr_scheduler
    for ours, theirs in [
        (schedules.step(0.5, every=3, factor=0.1), lambda o: lr.StepLR(o, 3, 0.1)),
        (schedules.exponential(0.5, factor=0.9), lambda o: lr.ExponentialLR(o, 0.9)),
    ]:
        peer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
        schedule = theirs(peer)
        for t in range(20):
            assert ours(t) == pytest.approx(peer.param_groups[0]["lr"], rel=1e-12)
            peer.step()
            schedule.step()


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: schedules.constant(math.nan), "value must be a finite number"),
        (lambda: schedules.step(0.1, every=0), "every must be > 0"),
        (lambda: schedules.step(0.1, every=5, factor=0.0), "factor must be > 0"),
        (lambda: schedules.exponential(0.1, factor=-1), "factor must be > 0"),
        (lambda: schedules.exponential(math.inf, factor=0.5), "value must be"),
        (lambda: schedules.inverse_time(0.1, rate=-1), "rate must be >= 0"),
    ],
)
def test_wrong_numbers_are_refused(call, match):
    with pytest.raises(ValueError, match=match):
        call()
