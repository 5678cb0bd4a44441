"""ReduceOnPlateau: its counting by hand, against torch, and as state."""

import copy
import json
import math
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastopt
from fastopt.schedules.plateau import ReduceOnPlateau


def sgd(*lrs):
    return fastopt.SGD([{"params": np.zeros(1), "lr": lr} for lr in lrs or (1.0,)], lr=0.1)


def rates(opt):
    return [group["lr"] for group in opt.param_groups]


def lowered(metrics, opt=None, **options):
    """The epochs, counted from 0, after which the rates were lowered."""
    plateau = ReduceOnPlateau(opt or sgd(), **options)
    return [epoch for epoch, metric in enumerate(metrics) if plateau.step(metric)]


def test_the_rate_is_lowered_in_the_epoch_after_patience():
    assert lowered([1.0] * 8, patience=2) == [3, 6]
    assert lowered([1.0] * 5, patience=0) == [1, 2, 3, 4]
    assert lowered([1.0] * 24) == [11, 22]  # the default patience is 10
    assert lowered([3.0, 2.0, 1.0, 1.0, 0.5, 0.5, 0.5], patience=1) == [6]


def test_lowered_by_the_factor_until_the_least_rate():
    opt = sgd(1.0)
    plateau = ReduceOnPlateau(opt, factor=0.5, patience=0, min_lr=0.3)
    told = []
    for _ in range(5):
        told.append((plateau.step(1.0), *rates(opt)))
    assert told == [(False, 1.0), (True, 0.5), (True, 0.3), (False, 0.3), (False, 0.3)]
    opt = sgd()
    assert lowered([1.0, 1.0], opt, patience=0) == [1] and rates(opt) == [0.1]


def test_every_group_has_its_rate_and_its_least_rate():
    opt = sgd(1.0, 0.5, 0.25)
    plateau = ReduceOnPlateau(opt, factor=0.5, patience=0, min_lr=[0.0, 0.5, 0.2])
    assert [plateau.step(1.0), plateau.step(1.0)] == [False, True]
    assert rates(opt) == [0.5, 0.5, 0.2]
    both = sgd(1.0, 0.5)
    assert lowered([1.0, 1.0], both, factor=0.5, patience=0) == [1] and rates(both) == [0.5, 0.25]


def test_a_rate_below_its_least_stays():
    opt = sgd(0.1)
    assert lowered([1.0] * 3, opt, patience=0, min_lr=0.5) == [] and rates(opt) == [0.1]


def test_a_change_of_eps_is_none():
    for eps, epochs in ((0.5, []), (0.49, [1])):
        assert lowered([1.0] * 2, factor=0.5, patience=0, eps=eps) == epochs
    assert lowered([1.0] * 2, sgd(1e-8), patience=0) == []  # the default eps is 1e-8


@pytest.mark.parametrize(
    ("mode", "threshold_mode", "best", "bound"),
    [
        ("min", "rel", 8.0, 6.0),
        ("min", "rel", -8.0, -10.0),
        ("min", "rel", 0.0, 0.0),
        ("min", "abs", 8.0, 7.75),
        ("min", "abs", -8.0, -8.25),
        ("max", "rel", 8.0, 10.0),
        ("max", "rel", -8.0, -6.0),
        ("max", "rel", 0.0, 0.0),
        ("max", "abs", 8.0, 8.25),
        ("max", "abs", -8.0, -7.75),
    ],
)
def test_better_by_more_than_the_threshold(mode, threshold_mode, best, bound):
    options = {"mode": mode, "threshold_mode": threshold_mode, "threshold": 0.25, "patience": 0}
    better = -math.inf if mode == "min" else math.inf
    assert lowered([best, bound], **options) == [1]
    assert lowered([best, np.nextafter(bound, better)], **options) == []
    assert lowered([best, -better], **options) == [1]
    plateau = ReduceOnPlateau(sgd(), **options)
    plateau.step(best)
    plateau.step(bound)
    assert plateau.best == best
    plateau.step(better)
    assert plateau.best == better and plateau.step(better)


def test_the_default_threshold():
    assert lowered([1.0, 1 - 1e-4], patience=0) == [1]
    assert lowered([1.0, 1 - 1.01e-4], patience=0) == []


@pytest.mark.parametrize("metric", [-3.0, 0.0, 3.0])
@pytest.mark.parametrize("threshold_mode", ["rel", "abs"])
@pytest.mark.parametrize("mode", ["min", "max"])
def test_a_constant_metric_is_a_plateau(mode, threshold_mode, metric):
    """Also below 0, where torch's `best * (1 + threshold)` lies on the wrong side."""
    options = {"mode": mode, "threshold_mode": threshold_mode, "patience": 3}
    assert lowered([metric] * 9, **options) == [4, 8]


def test_nan_is_no_improvement_and_never_the_best():
    assert lowered([1.0, math.nan, math.nan], patience=1) == [2]
    assert lowered([1.0, math.nan, 0.5, math.nan], patience=1) == []
    plateau = ReduceOnPlateau(sgd(), patience=1)
    plateau.step(math.nan)
    assert plateau.best is None and plateau.num_bad_epochs == 1
    plateau.step(2.0)
    assert plateau.best == 2.0 and plateau.num_bad_epochs == 0
    assert lowered([math.nan] * 3, patience=1) == [1]


@pytest.mark.parametrize(("mode", "worst"), [("min", math.inf), ("max", -math.inf)])
def test_the_worst_metric_is_no_improvement(mode, worst):
    assert lowered([worst] * 3, mode=mode, patience=1) == [1]
    assert lowered([worst, 1.0, 1.0], mode=mode, patience=1) == []


def test_cooldown_epochs_are_not_counted():
    assert lowered([1.0] * 12, patience=1, cooldown=3) == [2, 7]
    assert lowered([1.0] * 9, patience=0, cooldown=1) == [1, 3, 5, 7]
    # A better metric meanwhile is the best all the same.
    assert lowered([5.0, 5.0, 1.0, 2.0, 2.0], patience=0, cooldown=2) == [1, 4]


@pytest.mark.parametrize(
    "metric", [2, np.float32(2.0), np.float64(2.0), np.array(2.0), True + np.int64(1)]
)
def test_metrics_of_all_kinds(metric):
    plateau = ReduceOnPlateau(sgd())
    assert plateau.step(metric) is False
    assert plateau.best == 2.0 and type(plateau.best) is float


def test_it_drives_training():
    w = np.array([1.0, -2.0])
    opt = fastopt.SGD(w, lr=1.0)
    plateau = ReduceOnPlateau(opt, factor=0.5, patience=0)
    for _ in range(3):  # with lr = 1, w goes to -w and back for ever
        opt.step(2 * w)
        plateau.step(float(w @ w))
    assert opt.param_groups[0]["lr"] == 0.5 and not w.any()


# Torch.


def torch_rates(metrics, lrs, **options):
    torch = pytest.importorskip("torch")
    opt = torch.optim.SGD(
        [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": lr} for lr in lrs], lr=0.1
    )
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(opt, **options)
    told = []
    for metric in metrics:
        schedule.step(metric)
        told.append([group["lr"] for group in opt.param_groups])
    return told


def our_rates(metrics, lrs, **options):
    opt = sgd(*lrs)
    plateau = ReduceOnPlateau(opt, **options)
    told = []
    for metric in metrics:
        before = rates(opt)
        assert plateau.step(metric) is (rates(opt) != before)
        told.append(rates(opt))
    return told


OPTIONS = [
    {},
    {"patience": 0},
    {"patience": 2, "factor": 0.5, "cooldown": 2},
    {"patience": 1, "threshold": 0.1, "min_lr": 0.02},
    {"patience": 1, "threshold": 0.25, "min_lr": [0.5, 0.001], "cooldown": 1},
    {"patience": 0, "factor": 0.9, "eps": 0.03},
]


@pytest.mark.parametrize("options", OPTIONS, ids=repr)
@pytest.mark.parametrize("threshold_mode", ["rel", "abs"])
@pytest.mark.parametrize("mode", ["min", "max"])
def test_rates_equal_torch(mode, threshold_mode, options):
    rng = np.random.default_rng(0)
    options = options | {"mode": mode, "threshold_mode": threshold_mode}
    for kind in range(4):
        metrics = (
            1 + rng.random(60) if kind % 2 else np.geomspace(5, 1, 60) * rng.choice([1, 2], 60)
        )
        metrics[rng.integers(0, 60, 5)] = [math.nan, math.inf, -math.inf, math.nan, 3.0]
        if kind > 1:
            metrics = np.where(np.isinf(metrics), 4.0, metrics)
        metrics = metrics.tolist()
        assert our_rates(metrics, (1.0, 0.1), **options) == torch_rates(
            metrics, (1.0, 0.1), **options
        )


@given(
    metrics=st.lists(st.integers(0, 16).map(lambda n: n / 4) | st.just(math.nan), max_size=40),
    mode=st.sampled_from(["min", "max"]),
    threshold_mode=st.sampled_from(["rel", "abs"]),
    threshold=st.sampled_from([0.0, 0.25, 0.5]),
    patience=st.integers(0, 3),
    cooldown=st.integers(0, 3),
)
def test_rates_equal_torch_for_any_metrics(metrics, **options):
    assert our_rates(metrics, (1.0,), **options) == torch_rates(metrics, (1.0,), **options)


# State.

METRICS = [3.0, 2.0, 2.5, math.nan, 2.2, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.9, 1.0, 1.0, 1.0]
SETTINGS = {"patience": 1, "cooldown": 2, "factor": 0.5}


@pytest.mark.parametrize("at", range(len(METRICS)))
def test_it_goes_on_after_loading(at):
    opt = sgd()
    whole = ReduceOnPlateau(opt, **SETTINGS)
    for metric in METRICS[:at]:
        whole.step(metric)
    other = sgd()
    resumed = ReduceOnPlateau(other, **SETTINGS)
    other.load_state_dict(opt.state_dict())
    state = json.loads(json.dumps(whole.state_dict()))
    resumed.load_state_dict(state)
    assert resumed.state_dict() == whole.state_dict() == state
    for metric in METRICS[at:]:
        assert resumed.step(metric) is whole.step(metric) and rates(other) == rates(opt)
    assert rates(opt) != [1.0]


def test_state_is_a_copy_with_these_keys():
    plateau = ReduceOnPlateau(sgd(), "max", patience=0, cooldown=3)
    before = plateau.state_dict()
    for metric in (1.0, 1.0, 1.0):
        plateau.step(metric)
    assert before == {
        "format": "fastopt.plateau/1",
        "mode": "max",
        "best": None,
        "num_bad_epochs": 0,
        "cooldown_counter": 0,
    }
    assert plateau.state_dict() == before | {"best": 1.0, "cooldown_counter": 2}


@pytest.mark.parametrize("again", [copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
def test_copies_lower_their_own_optimizer(again):
    plateau = ReduceOnPlateau(sgd(), patience=0)
    plateau.step(1.0)
    other = again(plateau)
    assert other.step(1.0)
    assert rates(other.opt) == [0.1] and rates(plateau.opt) == [1.0]


GOOD = ReduceOnPlateau(sgd()).state_dict() | {"best": 1.0}


@pytest.mark.parametrize(
    ("state", "match"),
    [
        (None, "it is a NoneType, not a mapping"),
        ({k: v for k, v in GOOD.items() if k != "best"}, "it has no 'best'"),
        ({}, "it has no 'format'; it has no 'mode'; .*it has no 'cooldown_counter'"),
        (GOOD | {"patience": 5}, "it has an unknown 'patience'"),
        (GOOD | {"format": "x"}, "format is 'x', here 'fastopt.plateau/1'"),
        (GOOD | {"mode": "max"}, "mode is 'max', here 'min'"),
        (GOOD | {"best": math.nan}, "best must be a float or None, got nan"),
        (GOOD | {"best": "1"}, "best must be a float or None, got '1'"),
        (GOOD | {"best": True}, "best must be a float or None, got True"),
        (GOOD | {"num_bad_epochs": -1}, "num_bad_epochs must be an integer >= 0, got -1"),
        (GOOD | {"num_bad_epochs": 1.5}, "num_bad_epochs must be an integer >= 0, got 1.5"),
        (GOOD | {"cooldown_counter": True}, "cooldown_counter must be an integer >= 0, got True"),
        (GOOD | {"mode": "max", "best": None, "cooldown_counter": None}, "mode is .*; cooldown_c"),
    ],
)
def test_a_state_that_does_not_fit_changes_nothing(state, match):
    plateau = ReduceOnPlateau(sgd(), patience=0, cooldown=3)
    for metric in (2.0, 2.0):
        plateau.step(metric)
    before = plateau.state_dict()
    with pytest.raises(ValueError, match=f"state does not fit this ReduceOnPlateau: {match}"):
        plateau.load_state_dict(state)
    assert plateau.state_dict() == before


# Wrong arguments.


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"mode": "least"}, ValueError, "mode must be one of 'min', 'max', got 'least'"),
        ({"factor": 1.0}, ValueError, "factor must be less than 1, got 1.0"),
        ({"factor": 1.5}, ValueError, "factor must be .* got 1.5"),
        ({"factor": 0}, ValueError, r"factor must be a number in \(0, 1\], got 0"),
        ({"factor": None}, TypeError, "factor must be .* got None"),
        ({"patience": -1}, ValueError, "patience must be at least 0, got -1"),
        ({"patience": 1.5}, TypeError, "patience must be an integer, got 1.5"),
        ({"threshold": -1}, ValueError, r"threshold must be .* \[0, inf\), got -1"),
        ({"threshold": math.nan}, ValueError, "threshold must be .* got nan"),
        ({"threshold_mode": "x"}, ValueError, "threshold_mode must be one of 'rel', 'abs'"),
        ({"cooldown": -1}, ValueError, "cooldown must be at least 0, got -1"),
        ({"min_lr": -0.1}, ValueError, "min_lr must be .* got -0.1"),
        ({"min_lr": [0.1, -0.1]}, ValueError, r"min_lr\[1\] must be .* got -0.1"),
        ({"min_lr": [0.1]}, ValueError, "min_lr must be .* for each of the 2 groups, got"),
        ({"min_lr": [0.1, "x"]}, TypeError, r"min_lr\[1\] must be .* got 'x'"),
        ({"min_lr": 10**400}, ValueError, "min_lr must be a finite number"),
        ({"eps": -1}, ValueError, "eps must be .* got -1"),
    ],
)
def test_wrong_arguments_are_named(options, error, match):
    with pytest.raises(error, match="ReduceOnPlateau: " + match):
        ReduceOnPlateau(sgd(1.0, 2.0), **options)


@pytest.mark.parametrize("opt", [None, fastopt.SGD, {"lr": 1.0}])
def test_only_an_optimizer_can_be_lowered(opt):
    with pytest.raises(TypeError, match="ReduceOnPlateau: opt must be an optimizer of fastopt"):
        ReduceOnPlateau(opt)


@pytest.mark.parametrize("metric", [None, "1.0", b"1", True, [1.0, 2.0], 10**400, 1j])
def test_a_metric_that_is_no_number_is_refused(metric):
    plateau = ReduceOnPlateau(sgd())
    plateau.step(1.0)
    before = plateau.state_dict()
    with pytest.raises(TypeError, match=r"ReduceOnPlateau.step: metric must be a number, got"):
        plateau.step(metric)
    assert plateau.state_dict() == before


def test_a_schedule_is_refused_when_built_and_when_set_later():
    schedule = fastopt.schedules.constant(0.1)
    with pytest.raises(TypeError, match=r"lr of group 1 must be a number .* schedule, got const"):
        ReduceOnPlateau(sgd(1.0, schedule))
    opt = sgd(1.0, 1.0)
    plateau = ReduceOnPlateau(opt, patience=0)
    plateau.step(1.0)
    opt.param_groups[0]["lr"] = schedule
    before = plateau.state_dict()
    with pytest.raises(TypeError, match="ReduceOnPlateau: lr of group 0 must be a number"):
        plateau.step(1.0)
    assert plateau.state_dict() == before and rates(opt) == [schedule, 1.0]


def test_options_are_keywords():
    with pytest.raises(TypeError, match="positional"):
        ReduceOnPlateau(sgd(), "min", 0.1)
