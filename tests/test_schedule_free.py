"""Schedule-free optimizers: the switch between training and the average, and running sums."""

import copy
import pickle

import numpy as np
import pytest

import fastopt

CLASSES = [fastopt.ScheduleFreeSGD, fastopt.ScheduleFreeAdamW]
BETA = {"ScheduleFreeSGD": "momentum", "ScheduleFreeAdamW": "betas"}


def run(opt, ws, steps, seed=0):
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        opt.step([w + 0.1 * rng.standard_normal(w.shape).astype(w.dtype) for w in ws])


@pytest.mark.parametrize("cls", CLASSES)
def test_eval_holds_the_weighted_average_of_z(cls):
    """x = sum of w_t z_t / sum of w_t, from the states themselves."""
    w, lr, r, power, warmup = np.array([4.0, -1.0]), 0.3, 0.5, 1.5, 5
    opt = cls(w, lr=lr, r=r, weight_lr_power=power, warmup_steps=warmup)
    total, mean = 0.0, np.zeros(2)
    for t in range(1, 30):
        opt.step(w * 1.0)
        weight = t**r * (lr * min(1, t / warmup)) ** power
        total += weight
        mean += weight * opt.state["0"]["z"]
    opt.eval()
    np.testing.assert_allclose(w, mean / total, rtol=1e-12)


def test_two_constant_weights_by_hand():
    w = np.array([1.0])
    opt = fastopt.ScheduleFreeSGD(w, lr=0.5, momentum=0.5)
    opt.step(np.array([1.0]))  # z = x = y = 0.5
    assert w[0] == 0.5
    opt.step(np.array([1.0]))  # z = 0, x = 0.25, y = 0.125
    assert w[0] == 0.125
    opt.eval()
    assert w[0] == 0.25


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("cls", CLASSES)
def test_train_undoes_eval_and_twice_is_once(cls, dtype):
    base = np.random.default_rng(0).standard_normal((6, 8)).astype(dtype)
    ws = [base[::2, ::2], base.T[1::2], np.asfortranarray(base)]
    opt = cls(ws, lr=0.1, warmup_steps=3)
    opt.train()
    run(opt, ws, 7)
    y = [w.copy() for w in ws]
    opt.eval()
    x = [w.copy() for w in ws]
    opt.eval()
    for k, w in enumerate(ws):
        np.testing.assert_array_equal(w, x[k])
        z = opt.state[str(k)]["z"]
        np.testing.assert_allclose(y[k], 0.1 * z + 0.9 * x[k], rtol=1e-5, atol=1e-6)
        assert not np.allclose(x[k], y[k], rtol=1e-4, atol=0)
    opt.train()
    opt.train()
    for w, before in zip(ws, y, strict=True):
        np.testing.assert_allclose(w, before, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("cls", CLASSES)
def test_a_step_in_eval_is_refused_and_changes_nothing(cls):
    w = np.array([1.0])
    opt = cls(w)
    run(opt, [w], 2)
    opt.eval()
    before, extra = w.copy(), copy.deepcopy(opt.extra)
    with pytest.raises(ValueError, match=r"call train\(\) first"):
        opt.step(np.ones(1))
    assert w == before and opt.extra == extra and opt.t == 2
    opt.train()
    extra = copy.deepcopy(opt.extra)
    with pytest.raises(ValueError, match="gradient"):
        opt.step(np.ones(2))
    assert opt.extra == extra
    opt.param_groups[0]["lr"] = 1e200
    with pytest.raises((ValueError, OverflowError)):
        opt.param_groups[0]["weight_lr_power"] = 400.0
        opt.step(np.ones(1))
    assert opt.extra == extra and opt.t == 2


@pytest.mark.parametrize("cls", CLASSES)
def test_every_group_has_its_own_sums_and_copies_go_on_alike(cls):
    def optimizer():
        ws = [np.array([2.0]), np.array([-3.0])]
        return ws, cls(
            [{"params": ws[0], "lr": 0.1}, {"params": ws[1]}], lr=lambda t: 0.2 / (1 + t)
        )

    ws, opt = optimizer()
    alone = [cls(ws[0].copy(), lr=0.1), cls(ws[1].copy(), lr=lambda t: 0.2 / (1 + t))]
    inner = [one.param_groups[0]["params"]["0"] for one in alone]
    run(opt, ws, 6)
    for one, w in zip(alone, inner, strict=True):
        rng = np.random.default_rng(0)
        for _ in range(6):
            noise = [0.1 * rng.standard_normal(1) for _ in ws]
            one.step(w + noise[alone.index(one)])
    assert [w[0] for w in ws] == [w[0] for w in inner]
    assert opt.extra["weight_sum"][0] != opt.extra["weight_sum"][1]
    twin = copy.deepcopy(opt)
    theirs = [twin.param_groups[k]["params"][str(k)] for k in range(2)]
    for one, arrays in ((opt, ws), (twin, theirs)):
        run(one, arrays, 3, seed=1)
        one.eval()
    assert [w[0] for w in ws] == [w[0] for w in theirs]
    fixed = pickle.loads(pickle.dumps(alone[0]))
    assert fixed.extra == alone[0].extra and fixed.extra is not alone[0].extra


@pytest.mark.parametrize("cls", CLASSES)
def test_a_smaller_lr_counts_as_much_as_the_largest_before(cls):
    w = np.array([1.0])
    opt = cls(w, lr=0.5)
    opt.step(np.ones(1))
    opt.param_groups[0]["lr"] = 0.1
    opt.step(np.ones(1))
    assert opt.extra["lr_max"] == [0.5] and opt.extra["weight_sum"] == [0.5]


@pytest.mark.parametrize("cls", CLASSES)
def test_the_weight_of_the_average_is_a_constant_above_0(cls):
    name = BETA[cls.__name__]
    for value in (0.0, lambda t: 0.9):
        pair = (value, 0.999) if name == "betas" else value
        with pytest.raises(ValueError, match=rf"{name}.*must be"):
            cls(np.ones(1), **{name: pair})
