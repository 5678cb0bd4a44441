"""Optimizers: hyper-parameters, schedules, groups, copies, and what they refuse."""

import copy
import math

import numpy as np
import pytest

import fastopt


def test_hyper_parameters_are_read_at_every_step():
    w = np.zeros(1)
    opt = fastopt.SGD(w, lr=1.0)
    opt.step(np.ones(1))
    opt.param_groups[0]["lr"] = 0.25
    opt.step(np.ones(1))
    assert w[0] == -1.25


def test_zero_lr_leaves_parameters_as_they_are():
    for cls in fastopt.Optimizer.registry.values():
        if cls in (fastopt.Rprop, fastopt.FTRL):  # first length of steps; must be > 0
            continue
        w = np.array([[1.5, -2.25e-20, 3e20]])
        before = w.copy()
        cls(w, lr=0.0).step(np.array([[1.0, -3.0, 1e5]]))
        assert w.tobytes() == before.tobytes(), cls


def test_groups_have_their_own_hyper_parameters():
    a, b, c = np.zeros(1), np.zeros(1), np.zeros(1)
    opt = fastopt.SGD([{"params": {"a": a}, "lr": 0.5}, {"params": [b, c]}], lr=1.0)
    assert [list(g["params"]) for g in opt.param_groups] == [["a"], ["1", "2"]]
    opt.step({"a": np.ones(1), "1": np.ones(1), "2": 2 * np.ones(1)})
    assert (a[0], b[0], c[0]) == (-0.5, -1.0, -2.0)
    opt.step([{"params": np.ones(1)}, {"params": [np.ones(1), np.ones(1)]}])
    assert (a[0], b[0], c[0]) == (-1.0, -2.0, -3.0)


def test_one_pair_may_hold_a_schedule():
    w = np.zeros(1)
    opt = fastopt.Adam(w, lr=1.0, betas=(lambda t: 0.5 if t else 0.0, 0.9), eps=0.0)
    opt.step(np.array([2.0]))
    assert w[0] == -1.0
    opt.step(np.array([2.0]))
    np.testing.assert_allclose(w[0], -1 - (0.5 * 2 + 0.5 * 2) / 0.75 / 2, rtol=1e-15)


def test_schedules_set_any_hyper_parameter():
    w = np.zeros(1)
    opt = fastopt.SGD(
        w,
        lr=fastopt.schedules.step(1.0, every=2, factor=0.5),
        momentum=fastopt.schedules.inverse_time(0.5, 1.0),
    )
    seen = [opt.step(np.ones(1)).lr for _ in range(4)]
    assert seen == [1.0, 1.0, 0.5, 0.5]
    v, p = 0.0, 0.0
    for t in range(4):
        v = 0.5 / (1 + t) * v + 1
        p -= seen[t] * v
    assert w[0] == pytest.approx(p, rel=1e-15)


def test_float32_and_float64_parameters_mix():
    a, b = np.ones(3, "float32"), np.ones(2)
    fastopt.SGD([a, b], lr=0.5).step([np.ones(3, "float32"), np.ones(2)])
    assert (a == 0.5).all() and (b == 0.5).all() and a.dtype == np.float32


def test_long_training_does_not_drift():
    """The bias correction is right at steps where running float32 products are not."""
    w = np.zeros(1)
    opt = fastopt.Adam(w, lr=1.0, eps=0.0)
    opt.load_state_dict(opt.state_dict() | {"t": 10**12})
    opt.step(np.ones(1))
    np.testing.assert_allclose(w[0], -(1 - 0.9) / math.sqrt(1 - 0.999), rtol=1e-12)
    assert opt.t == 10**12 + 1


def test_a_copy_may_have_another_order_of_axes():
    w = np.asfortranarray(np.zeros((6, 4), "f4"))[::2]
    opt = fastopt.Adam(w)
    opt.step(np.ones((3, 4), "f4"))
    other = copy.deepcopy(opt)
    other.step(np.ones((3, 4), "f4"))
    opt.step(np.ones((3, 4), "f4"))
    np.testing.assert_array_equal(other._arrays["0"], w)
    assert other.t == 2


def test_optimizers_pickle_and_copy_with_their_parameters():
    import copy
    import pickle

    w = np.ones(3)
    opt = fastopt.Adam({"w": w}, lr=0.1)
    opt.step({"w": np.ones(3)})
    for twin in (copy.deepcopy(opt), pickle.loads(pickle.dumps(opt))):
        inner = twin.param_groups[0]["params"]["w"]
        assert not np.shares_memory(inner, w)
        twin.step({"w": np.ones(3)})
        assert (inner < w).all() and twin.t == 2 and opt.t == 1


@pytest.mark.parametrize(
    ("cls", "name", "value", "options"),
    [
        (fastopt.SGD, "momentum", 0.9, {"lr": 1.0}),
        (fastopt.SignSGD, "momentum", 0.9, {}),
        (fastopt.SignSGD, "eps", 0.1, {}),
        (fastopt.RMSprop, "momentum", 0.9, {}),
        (fastopt.RMSprop, "centered", True, {}),
        (fastopt.RMSprop, "centered", False, {"centered": True}),
        (fastopt.RMSprop, "nesterov", True, {}),
        (fastopt.Adam, "amsgrad", "corrected", {}),
        (fastopt.AdamW, "amsgrad", False, {"amsgrad": True}),
        (fastopt.FTRL, "lr", 0, {}),
        (fastopt.Rprop, "variant", "plus", {}),
    ],
)
def test_what_would_need_other_states_is_refused_by_name(cls, name, value, options):
    w = np.ones(3)
    opt = cls(w, **options)
    opt.param_groups[0][name] = value
    with pytest.raises(ValueError, match=f"{cls.__name__}: .*{name}"):
        opt.step(np.ones(3))
    assert (w == 1).all() and opt.t == 0


@pytest.mark.parametrize(
    ("cls", "name"), [(fastopt.RMSprop, "centered"), (fastopt.Adam, "amsgrad")]
)
def test_groups_need_the_same_states(cls, name):
    with pytest.raises(ValueError, match=f"{name} must be the same in all groups"):
        cls([{"params": np.ones(1), name: True}, {"params": np.ones(1)}])
    both = [{"params": np.ones(1), "eps": 1e-3}, {"params": np.ones(1)}]
    assert len(cls(both, **{name: True}).state) == 2


def test_amsgrad_may_differ_in_form_between_groups():
    ws = [np.ones(1), np.ones(1)]
    opt = fastopt.Adam(
        [{"params": ws[0], "amsgrad": True}, {"params": ws[1], "amsgrad": "corrected"}], lr=0.1
    )
    for g in (2.0, -1.0):
        opt.step([{"params": np.array([g])}, {"params": np.array([g])}])
    np.testing.assert_allclose([w[0] for w in ws], [0.8733663, 0.8789474], atol=6e-8)


def test_iplus_asks_for_the_loss_of_every_step():
    w = np.ones(2)
    opt = fastopt.Rprop(w, variant="iplus")
    assert opt.loss is None
    with pytest.raises(ValueError, match="loss is missing"):
        opt.step(np.ones(2))
    with pytest.raises(ValueError, match="loss must be a number, got nan"):
        opt.loss = math.nan
    opt.loss = 1
    with pytest.raises(ValueError, match="gradient"):
        opt.step(np.ones(3))
    assert opt.loss == 1.0
    opt.step(np.ones(2))
    assert opt.loss is None and opt.t == 1
    after = w.copy()
    with pytest.raises(ValueError, match="loss is missing"):
        opt.step(np.ones(2))
    assert (w == after).all() and opt.t == 1
    twin = copy.deepcopy(opt)
    for one in (opt, twin):
        one.loss = 0.5
        one.loss = 2.0  # the last one counts
        one.step(-np.ones(2))
        np.testing.assert_array_equal(one.param_groups[0]["params"]["0"], 1.0)


def test_nadam_without_a_schedule_survives_a_file(tmp_path):
    w = np.ones(2)
    opt = fastopt.NAdam(w, momentum_decay=None)
    opt.step(np.ones(2))
    opt.save(tmp_path / "opt.npz")
    other = fastopt.NAdam(np.ones(2))
    other.load(tmp_path / "opt.npz")
    assert other.param_groups[0]["momentum_decay"] is None
