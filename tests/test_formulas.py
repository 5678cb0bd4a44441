"""Optimizers equal their published formulas, which formulas.py has in plain Python."""

import math

import numpy as np
import pytest
from formulas import (
    adabelief,
    adadelta,
    adagrad,
    adam,
    adamax,
    amsgrad,
    delta_bar_delta,
    ftrl,
    lion,
    momentum_classic,
    momentum_torch,
    nadam,
    radam,
    rmsprop,
    rprop,
    schedule_free,
    sgd,
    signsgd,
)

import fastopt

GRADS = [2.0, -1.0, 0.0, 1e-3, -1e3, 0.0, 0.5]


def trajectory(cls, start=1.0, dtype="float64", grads=GRADS, **options):
    w = np.array([start, 7.0], dtype)
    opt = cls(w, **options)
    seen = []
    for g in grads:
        opt.step(np.array([g, g], dtype))
        seen.append(float(w[0]))
    return seen


def formula(rule, start=1.0, grads=GRADS):
    """Run `rule`, a generator that is sent (p, g) and yields the new p."""
    p, seen, running = start, [], rule()
    next(running)
    for g in grads:
        p = running.send((p, g))
        next(running)
        seen.append(p)
    return seen


CASES = {
    "SGD": (fastopt.SGD, {"lr": 0.1}, sgd(0.1)),
    "SGD L2": (fastopt.SGD, {"lr": 0.1, "weight_decay": 0.3}, sgd(0.1, 0.3)),
    "momentum": (fastopt.SGD, {"lr": 0.1, "momentum": 0.9}, momentum_torch(0.1, 0.9)),
    "dampening": (
        fastopt.SGD,
        {"lr": 0.1, "momentum": 0.9, "dampening": 0.4},
        momentum_torch(0.1, 0.9, 0.4),
    ),
    "Nesterov": (
        fastopt.SGD,
        {"lr": 0.1, "momentum": 0.9, "nesterov": True},
        momentum_torch(0.1, 0.9, nesterov=True),
    ),
    "classic": (
        fastopt.SGD,
        {"lr": 0.1, "momentum": 0.9, "momentum_form": "classic"},
        momentum_classic(0.1, 0.9),
    ),
    "classic Nesterov": (
        fastopt.SGD,
        {"lr": 0.1, "momentum": 0.9, "momentum_form": "classic", "nesterov": True},
        momentum_classic(0.1, 0.9, nesterov=True),
    ),
    "Adagrad": (fastopt.Adagrad, {"lr": 0.1, "eps": 0.5}, adagrad(0.1, 0.5)),
    "Adagrad, all options": (
        fastopt.Adagrad,
        {
            "lr": 0.1,
            "eps": 0.0,
            "eps_root": 1e-7,
            "initial_accumulator_value": 0.1,
            "lr_decay": 0.2,
        },
        adagrad(0.1, 0.0, 0.1, 0.2, 1e-7),
    ),
    "RMSprop": (fastopt.RMSprop, {"lr": 0.1, "alpha": 0.9, "eps": 0.5}, rmsprop(0.1, 0.9, 0.5)),
    "RMSprop, eps inside": (
        fastopt.RMSprop,
        {"lr": 0.1, "alpha": 0.9, "eps": 0.0, "eps_root": 0.5},
        rmsprop(0.1, 0.9, 0.0, 0.5),
    ),
    **{
        f"RMSprop, {form}{', Nesterov' * nesterov}{', centered' * centered}": (
            fastopt.RMSprop,
            {
                "lr": 0.1,
                "alpha": 0.9,
                "eps": 0.5,
                "momentum": 0.8,
                "momentum_form": form,
                "nesterov": nesterov,
                "centered": centered,
            },
            rmsprop(0.1, 0.9, 0.5, 0.0, centered, 0.8, form == "classic", nesterov),
        )
        for form in ("torch", "classic")
        for nesterov in (False, True)
        for centered in (False, True)
    },
    "RMSprop, Graves": (
        fastopt.RMSprop,
        {
            "lr": 1e-2,
            "alpha": 0.95,
            "eps": 0.0,
            "eps_root": 1e-4,
            "momentum": 0.9,
            "momentum_form": "classic",
            "centered": True,
        },
        rmsprop(1e-2, 0.95, 0.0, 1e-4, True, 0.9, True),
    ),
    "RMSprop, centered": (
        fastopt.RMSprop,
        {"lr": 0.1, "alpha": 0.9, "eps_root": 0.25, "centered": True},
        rmsprop(0.1, 0.9, 1e-8, 0.25, True),
    ),
    "SignSGD": (fastopt.SignSGD, {"lr": 0.1}, signsgd(0.1)),
    "SignSGD, eps": (fastopt.SignSGD, {"lr": 0.1, "eps": 0.5}, signsgd(0.1, eps=0.5)),
    "Signum": (fastopt.SignSGD, {"lr": 0.1, "momentum": 0.9}, signsgd(0.1, 0.9)),
    "Signum, eps": (
        fastopt.SignSGD,
        {"lr": 0.1, "momentum": 0.9, "eps": 0.5},
        signsgd(0.1, 0.9, 0.5),
    ),
    "DeltaBarDelta": (
        fastopt.DeltaBarDelta,
        {"lr": 0.1, "kappa": 0.02, "phi": 0.3, "theta": 0.6},
        delta_bar_delta(0.1, 0.02, 0.3, 0.6),
    ),
    "FTRL": (fastopt.FTRL, {"lr": 0.1}, ftrl(0.1, 1.0, 0.0, 0.0, 0.0, 1.0)),
    "FTRL, all options": (
        fastopt.FTRL,
        {"lr": 0.5, "beta": 0.3, "l1": 0.7, "l2": 0.2, "initial_accumulator_value": 0.1},
        ftrl(0.5, 0.3, 0.7, 0.2, 0.1, 1.0),
    ),
    "ScheduleFreeSGD": (fastopt.ScheduleFreeSGD, {"lr": 0.1}, schedule_free(0.1, 0.9)),
    "ScheduleFreeSGD, all options": (
        fastopt.ScheduleFreeSGD,
        {
            "lr": lambda t: 0.1 / (1 + t),
            "momentum": 0.7,
            "warmup_steps": 3,
            "r": 0.5,
            "weight_lr_power": 1.5,
            "weight_decay": 0.3,
        },
        schedule_free(lambda t: 0.1 / (1 + t), 0.7, 3, 0.5, 1.5, 0.3),
    ),
    "ScheduleFreeAdamW": (
        fastopt.ScheduleFreeAdamW,
        {"lr": 0.1},
        schedule_free(0.1, 0.9, b2=0.999, eps=1e-8),
    ),
    "ScheduleFreeAdamW, all options": (
        fastopt.ScheduleFreeAdamW,
        {
            "lr": 0.1,
            "betas": (0.8, 0.9),
            "eps": 0.5,
            "warmup_steps": 4,
            "r": 1.0,
            "weight_lr_power": 1.0,
            "weight_decay": 0.3,
        },
        schedule_free(0.1, 0.8, 4, 1.0, 1.0, 0.3, 0.9, 0.5),
    ),
    "Adam": (fastopt.Adam, {"lr": 0.1}, adam(0.1, 0.9, 0.999, 1e-8)),
    "Adam, all options": (
        fastopt.Adam,
        {"lr": 0.1, "betas": (0.7, 0.8), "eps": 0.5, "eps_root": 0.25, "weight_decay": 0.3},
        adam(0.1, 0.7, 0.8, 0.5, 0.3, inside=0.25),
    ),
    "Adam, eps hat": (
        fastopt.Adam,
        {"lr": 0.1, "eps": 0.5, "eps_root": 0.25, "eps_hat": True},
        adam(0.1, 0.9, 0.999, 0.5, inside=0.25, hat=True),
    ),
    "Adam, no correction": (
        fastopt.Adam,
        {"lr": 0.1, "eps": 0.5, "bias_correction": False},
        adam(0.1, 0.9, 0.999, 0.5, correct=False),
    ),
    "Adam without averages": (
        fastopt.Adam,
        {"lr": 0.1, "betas": (0.0, 0.0), "eps": 0.5},
        adam(0.1, 0.0, 0.0, 0.5),
    ),
    "AdamW": (
        fastopt.AdamW,
        {"lr": 0.1, "weight_decay": 0.3},
        adam(0.1, 0.9, 0.999, 1e-8, 0.3, decoupled=True),
    ),
    "AdamW, independent": (
        fastopt.AdamW,
        {"lr": 0.1, "weight_decay": 0.03, "decay": "independent"},
        adam(0.1, 0.9, 0.999, 1e-8, 0.03, decoupled=True, independent=True),
    ),
    "Adadelta": (fastopt.Adadelta, {"lr": 0.7, "eps": 1e-3}, adadelta(0.7, 0.9, 1e-3)),
    "Rprop, iminus": (fastopt.Rprop, {}, rprop(0.01, 0.5, 1.2, 1e-6, 50, "iminus")),
    "Rprop, minus": (
        fastopt.Rprop,
        {"variant": "minus", "etas": (0.3, 1.5), "step_sizes": (0.005, 0.012)},
        rprop(0.01, 0.3, 1.5, 0.005, 0.012, "minus"),
    ),
    "Rprop, plus": (fastopt.Rprop, {"variant": "plus"}, rprop(0.01, 0.5, 1.2, 1e-6, 50, "plus")),
    "Adamax": (fastopt.Adamax, {"lr": 0.1, "eps": 0.5}, adamax(0.1, 0.9, 0.999, 0.5)),
    "Adam, amsgrad": (
        fastopt.Adam,
        {"lr": 0.1, "betas": (0.9, 0.5), "amsgrad": True},
        amsgrad(0.1, 0.9, 0.5, 1e-8),
    ),
    "Adamax, eps outside": (
        fastopt.Adamax,
        {"lr": 0.1, "eps": 0.0, "eps_outside": 0.5},
        adamax(0.1, 0.9, 0.999, 0.0, 0.5),
    ),
    **{
        f"AMSGrad, {form}": (
            fastopt.Adam,
            {"lr": 0.1, "betas": (0.9, 0.5), "eps": 0.5, **options},
            amsgrad(0.1, 0.9, 0.5, 0.5, form),
        )
        for form, options in {
            "optax": {"amsgrad": "corrected"},
            "keras": {"amsgrad": True, "eps_hat": True},
            "paper": {"amsgrad": True, "bias_correction": False},
        }.items()
    },
    "NAdam, no schedule": (
        fastopt.NAdam,
        {"lr": 0.1, "momentum_decay": None},
        nadam(0.1, 0.9, 0.999, 1e-8, None),
    ),
    "NAdam": (fastopt.NAdam, {"lr": 0.1, "momentum_decay": 0.3}, nadam(0.1, 0.9, 0.999, 1e-8, 0.3)),
    "RAdam": (fastopt.RAdam, {"lr": 0.1, "eps": 0.0}, radam(0.1, 0.9, 0.999)),
    "RAdam, the paper's threshold": (
        fastopt.RAdam,
        {"lr": 0.1, "eps": 0.0, "threshold": 4},
        radam(0.1, 0.9, 0.999, 4),
    ),
    "AdaBelief": (
        fastopt.AdaBelief,
        {"lr": 0.1, "eps": 1e-3, "eps_root": 1e-3},
        adabelief(0.1, 0.9, 0.999, 1e-3),
    ),
    "Lion": (fastopt.Lion, {"lr": 0.1, "weight_decay": 0.3}, lion(0.1, 0.9, 0.99, 0.3)),
}


@pytest.mark.parametrize("name", CASES)
def test_equals_the_published_formula(name):
    cls, options, rule = CASES[name]
    np.testing.assert_allclose(trajectory(cls, **options), formula(rule), rtol=1e-13)
    np.testing.assert_allclose(
        trajectory(cls, dtype="float32", **options), formula(rule), rtol=2e-4, atol=2e-4
    )


@pytest.mark.parametrize("name", CASES)
def test_maximize_is_minus_the_gradient(name):
    cls, options, _ = CASES[name]
    up = trajectory(cls, grads=[-g for g in GRADS], maximize=True, **options)
    np.testing.assert_allclose(up, trajectory(cls, **options), rtol=1e-15)


@pytest.mark.parametrize(
    ("cls", "options", "expected"),
    [
        (fastopt.Adagrad, {"eps": 0.5}, [0.92, 0.9565488]),
        (
            fastopt.Adagrad,
            {"eps": 0, "eps_root": 0.5, "initial_accumulator_value": 0.1},
            [0.9067495, 0.9490072],
        ),
        (fastopt.RMSprop, {"alpha": 0.9, "eps": 0.5}, [0.8233926, 0.9082655]),
        (fastopt.RMSprop, {"alpha": 0.9, "eps": 0, "eps_root": 0.5}, [0.7891815, 0.8912436]),
        (fastopt.Adam, {"eps": 0.5}, [0.92, 0.8997659]),
        (fastopt.SGD, {"momentum": 0.9, "nesterov": True}, [0.62, 0.648]),
        (fastopt.Adam, {"eps": 0.5, "eps_hat": True}, [0.9887712, 0.9854725]),
        (fastopt.Adam, {"amsgrad": True}, [0.9, 0.8733663]),
        (fastopt.Adam, {"amsgrad": "corrected"}, [0.9, 0.8789474]),
        (fastopt.AdamW, {"weight_decay": 0.1}, [0.89, 0.8544663]),
        (fastopt.NAdam, {"momentum_decay": None}, [0.8526316, 0.8691179]),
        (fastopt.Adamax, {"eps": 0.5}, [0.92, 0.9031410]),
        (fastopt.Adamax, {"eps": 0, "eps_outside": 0.5}, [0.92, 0.9031444]),
        (fastopt.RAdam, {}, [0.8, 0.7578947]),
    ],
)
def test_two_steps_equal_values_printed_by_others(cls, options, expected):
    """p0 = 1, g = (2, -1), lr = 0.1; run once in torch 2.13, optax 0.2.8 and keras 3.15."""
    seen = trajectory(cls, grads=[2.0, -1.0], lr=0.1, **options)
    np.testing.assert_allclose(seen, expected, atol=6e-8)


NO_EPS = {
    "Adagrad": (fastopt.Adagrad, {"eps": 0}, adagrad(0.1, 0.0)),
    "RMSprop": (fastopt.RMSprop, {"eps": 0, "alpha": 0.9}, rmsprop(0.1, 0.9, 0.0)),
    "RMSprop, momentum": (
        fastopt.RMSprop,
        {"eps": 0, "alpha": 0.9, "momentum": 0.9},
        rmsprop(0.1, 0.9, 0.0, mu=0.9),
    ),
    "RMSprop, centered": (
        fastopt.RMSprop,
        {"eps": 0, "alpha": 0.9, "centered": True},
        rmsprop(0.1, 0.9, 0.0, centered=True),
    ),
    "RMSprop, centered, momentum": (
        fastopt.RMSprop,
        {"eps": 0, "alpha": 0.9, "centered": True, "momentum": 0.9},
        rmsprop(0.1, 0.9, 0.0, centered=True, mu=0.9),
    ),
    "SignSGD": (fastopt.SignSGD, {}, signsgd(0.1)),
    "Signum": (fastopt.SignSGD, {"momentum": 0.9}, signsgd(0.1, 0.9)),
    "Adam": (fastopt.Adam, {"eps": 0}, adam(0.1, 0.9, 0.999, 0.0)),
    "Adam, eps hat": (
        fastopt.Adam,
        {"eps": 0, "eps_hat": True},
        adam(0.1, 0.9, 0.999, 0.0, hat=True),
    ),
    "NAdam": (fastopt.NAdam, {"eps": 0, "momentum_decay": 0.3}, nadam(0.1, 0.9, 0.999, 0.0, 0.3)),
    "RAdam": (fastopt.RAdam, {"eps": 0, "betas": (0.9, 0.99)}, radam(0.1, 0.9, 0.99)),
    "AdaBelief": (fastopt.AdaBelief, {"eps": 0, "eps_root": 0}, adabelief(0.1, 0.9, 0.999, 0.0)),
    "ScheduleFreeAdamW": (fastopt.ScheduleFreeAdamW, {"eps": 0}, schedule_free(0.1, 0.9, b2=0.999)),
    "AMSGrad, Algorithm 2": (
        fastopt.Adam,
        {"eps": 0, "amsgrad": True, "bias_correction": False},
        amsgrad(0.1, 0.9, 0.999, 0.0, "paper"),
    ),
    "Adamax, Algorithm 2": (fastopt.Adamax, {"eps": 0}, adamax(0.1, 0.9, 0.999, 0.0)),
    "FTRL": (fastopt.FTRL, {"beta": 0, "initial_accumulator_value": 1}, ftrl(0.1, 0, 0, 0, 1, 1)),
}


@pytest.mark.parametrize("name", NO_EPS)
def test_without_eps_zero_gradients_leave_parameters_as_they_are(name):
    cls, options, rule = NO_EPS[name]
    grads = [0.0, 0.0, 1e-200, 1e30, 0.0, -1e-30, -3.0, 0.0]
    seen = trajectory(cls, lr=0.1, grads=grads, **options)
    assert seen[:2] == [1.0, 1.0]
    np.testing.assert_allclose(seen, formula(rule, grads=grads), rtol=1e-12)
    assert math.isnan(trajectory(cls, lr=0.1, grads=[0.0, math.nan], **options)[1])


LOSSES = [3.0, 4.0, 4.0, 2.0, 5.0, 1.0, 1.0, 0.5, 0.5]


@pytest.mark.parametrize("sign", [1, -1])
def test_iplus_takes_a_step_back_only_where_the_loss_has_got_worse(sign):
    grads = [2.0, -1.0, -1.0, 3.0, -2.0, 0.5, -0.5, -1.0, 1e-200]
    w = np.array([1.0])
    opt = fastopt.Rprop(w, variant="iplus", maximize=sign < 0)
    seen = []
    for g, loss in zip(grads, LOSSES, strict=True):
        opt.loss = sign * loss
        opt.step(np.array([sign * g]))
        seen.append(w[0])
    rule = rprop(0.01, 0.5, 1.2, 1e-6, 50, "iplus", LOSSES)
    np.testing.assert_allclose(seen, formula(rule, grads=grads), rtol=1e-14)
    others = [
        formula(rprop(0.01, 0.5, 1.2, 1e-6, 50, variant), grads=grads)
        for variant in ("plus", "iminus")
    ]
    assert all(not np.allclose(seen, other, rtol=1e-6) for other in others)


def test_rprop_equals_a_sequence_printed_by_torch():
    seen = trajectory(fastopt.Rprop, lr=0.1, grads=[2, 1, 0.5, -1, -1, 2, 2])
    np.testing.assert_allclose(seen, [0.9, 0.78, 0.636, 0.636, 0.708, 0.708, 0.672], atol=1e-12)


def test_ftrl_without_penalties_is_adagrad_from_any_start():
    ours = trajectory(fastopt.FTRL, start=-3.0, lr=0.2, beta=0.5)
    np.testing.assert_allclose(
        ours, trajectory(fastopt.Adagrad, start=-3.0, lr=0.2, eps=0.5), rtol=1e-13
    )


def test_ftrl_keeps_where_it_starts_and_makes_exact_zeros():
    w = np.array([0.3, -2.0, 0.0, 1e-3])
    before = w.copy()
    opt = fastopt.FTRL(w, lr=0.1, beta=0.7, l1=0.5, l2=0.3)
    opt.step(np.zeros(4))
    np.testing.assert_allclose(w, before, rtol=1e-13)
    assert w[2] == 0
    for _ in range(20):
        opt.step(w - np.array([0.3, -2.0, 0.01, 0.01]))
    assert w[2] == 0 and w[1] < -0.5
