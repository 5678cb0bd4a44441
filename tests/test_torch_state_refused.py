"""State dictionaries of torch as plain ones, by hand; and all that is refused, on both sides."""

import re

import numpy as np
import pytest
from torch_pairs import build, build_torch, in_double, run_torch, start

import fastopt
from fastopt.rules.torch_forms import FORMS

fixture = pytest.fixture(name="torch")(in_double)

ADAM = {"lr": 0.5, "betas": (0.5, 0.25), "eps": 1e-3, "weight_decay": 0.0, "amsgrad": False}
SGD = {"lr": 0.5, "momentum": 0.5, "dampening": 0.0, "weight_decay": 0.0, "nesterov": False}


def plain(group=ADAM, **changes):
    entries = {
        k: {
            "step": np.float32(2),
            "exp_avg": np.full(2, 1.0 + k),
            "exp_avg_sq": np.full(2, 3.0 + k),
        }
        for k in range(2)
    }
    return {"state": entries, "param_groups": [{**group, "params": [0, 1], **changes}]}


def adam(**options):
    opt = fastopt.Adam({"a": np.zeros(2), "b": np.zeros(2)}, lr=0.1, **options)
    opt.step([np.full(2, 7.0), np.full(2, 8.0)])
    return opt


def test_a_plain_dictionary():
    """By hand: m = (m + g) / 2, v = v / 4 + 3 g^2 / 4, corrections for t = 3."""
    opt = adam()
    opt._arrays["a"][...] = opt._arrays["b"][...] = 0.0
    fastopt.load_torch_state(opt, plain())
    assert opt.t == 2 and opt.param_groups[0]["betas"] == (0.5, 0.25)
    opt.step([np.full(2, 2.0), np.full(2, 2.0)])
    for k, name in enumerate("ab"):
        m, v = (1 + k + 2) / 2, (3 + k) / 4 + 3 * 4 / 4
        step = 0.5 * (m / (1 - 0.5**3)) / ((v / (1 - 0.25**3)) ** 0.5 + 1e-3)
        np.testing.assert_allclose(opt._arrays[name], -step, rtol=1e-14)


def test_torch_is_not_needed_for_a_plain_dictionary(run_python):
    code = """
        import sys, numpy as np, fastopt
        opt = fastopt.SGD({"w": np.zeros(2)}, lr=1.0)
        group = {"lr": 0.5, "momentum": 0, "dampening": 0, "weight_decay": 0, "nesterov": False}
        fastopt.load_torch_state(opt, {"state": {}, "param_groups": [{**group, "params": [0]}]})
        print(opt.param_groups[0]["lr"], "torch" in sys.modules)
        sys.modules["torch"] = None
        try:
            fastopt.to_torch_state(opt)
        except ImportError as error:
            print(error)
    """
    said = "to_torch_state needs torch: pip install 'fastopt[torch]'"
    assert run_python(code).splitlines() == ["0.5 False", said]


def test_a_schedule_here_stays_and_goes_by_t():
    opt = fastopt.Adam(
        {"a": np.zeros(2), "b": np.zeros(2)}, lr=fastopt.schedules.linear(1.0, 0.0, 100)
    )
    fastopt.load_torch_state(opt, plain())
    assert opt.step([np.ones(2)] * 2).lr == pytest.approx(0.98)
    fastopt.load_torch_state(opt, plain(), t=50)
    assert opt.t == 50 and opt.state_dict()["missed"] == {"a": 48, "b": 48}
    assert opt.step([np.ones(2)] * 2).lr == pytest.approx(0.5)
    assert opt.param_groups[0]["eps"] == 1e-3
    sgd = fastopt.SGD({"w": np.zeros(2)}, lr=lambda t: t, momentum=0.9)
    state = {
        "state": {0: {"momentum_buffer": np.ones(2)}},
        "param_groups": [{**SGD, "params": [0]}],
    }
    fastopt.load_torch_state(sgd, state)
    assert sgd.t == 1
    fastopt.load_torch_state(sgd, state, t=7)
    assert sgd.t == 7 and sgd.step(np.ones(2)).lr == 7
    fastopt.load_torch_state(sgd, state)
    assert sgd.t == 8


def test_a_schedule_goes_out_as_its_next_value():
    pytest.importorskip("torch")
    opt = fastopt.SGD({"w": np.zeros(2)}, lr=lambda t: 10.0 + t)
    opt.step(np.ones(2))
    assert fastopt.to_torch_state(opt)["param_groups"][0]["lr"] == 11.0


def test_what_torch_does_not_have_begins_anew():
    opt = adam(ema=0.5, accumulate=2, lower=-5.0, clip_norm=3.0)
    assert opt.state_dict()["gathered"] == 1
    opt._arrays["a"][...] = 9.0
    fastopt.load_torch_state(opt, plain())
    assert (opt.state["a"]["ema"] == 9.0).all() and (opt.state["a"]["accumulated"] == 0).all()
    assert opt.state_dict()["gathered"] == 0
    assert opt.param_groups[0]["lower"] == -5.0 and opt.clip_norm == 3.0


@pytest.mark.parametrize(("rounding", "key"), [("master", "master"), ("kahan", "rest")])
def test_what_is_kept_beside_16_bits_begins_anew(rounding, key):
    group = {**SGD, "params": [0]}
    opt = fastopt.SGD({"w": np.ones(3, np.float16)}, lr=1e-5, momentum=0.5, rounding=rounding)
    opt.step(np.ones(3, np.float16))
    opt._arrays["w"][...] = 4.0
    buffer = {"momentum_buffer": np.full(3, 2.0, np.float16)}
    fastopt.load_torch_state(opt, {"state": {0: buffer}, "param_groups": [group]})
    assert (opt.state["w"][key] == (4.0 if key == "master" else 0)).all()
    opt.step(np.zeros(3, np.float16))  # v = 0.5 * 2, w = 4 - 0.5 * 1
    assert (opt._arrays["w"] == 3.5).all()


def refused(opt, state, *words, t=None):
    """Check that all the words are in the one message, and that nothing has changed."""
    before = opt.state_dict()
    with pytest.raises(ValueError, match=r"the state of torch\.optim does not fit this") as caught:
        fastopt.load_torch_state(opt, state, t=t)
    for word in words:
        assert word in str(caught.value)
    after = opt.state_dict()
    assert repr({**before, "state": None}) == repr({**after, "state": None})
    for name, arrays in before["state"].items():
        for key, array in arrays.items():
            assert array.tobytes() == after["state"][name][key].tobytes()


def changed(place, **changes):
    state = plain()
    entry = {**state["state"][place], **changes}
    state["state"][place] = {k: v for k, v in entry.items() if v is not ...}
    return state


def test_all_differences_are_listed_at_once():
    state = changed(1, exp_avg=np.zeros(3), exp_avg_sq=..., what=1)
    state["state"][0]["step"] = -1
    state["state"][7] = {}
    state["param_groups"][0] |= {"eps": -1.0, "amsgrad": True}
    refused(
        adam(),
        state,
        "group 0: Adam: eps must be a finite number >= 0, got -1.0",
        "step of 'a' must be a whole number >= 0, got -1",
        "state 'exp_avg' of 'b' is float64[3], here float64[2]",
        "state 'exp_avg_sq' of 'b' is missing",
        "state 'what' of 'b' is unknown here",
        "it has a state of 7, which is in no group",
    )


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (3, "it is a int, not a mapping"),
        ({}, "it has no 'state', 'param_groups'"),
        ({"state": {}, "param_groups": 3}, "param_groups must be a list of mappings"),
        ({"state": {}, "param_groups": [3]}, "param_groups must be a list of mappings"),
        ({"state": {}, "param_groups": [{}]}, "a list 'params' in each"),
        ({"state": [], "param_groups": []}, "state a mapping of mappings"),
        ({"state": {0: 3}, "param_groups": []}, "state a mapping of mappings"),
        ({"state": {}, "param_groups": []}, "it has 0 groups, here 1"),
        (plain(params=[0, 0]), "a parameter is in 'params' twice"),
        (plain(params=[0, [1]]), "must be numbers or names"),
        (plain(params=[0]), "group 0 has 1 parameters, here 2"),
        (plain(param_names=3), "param_groups must be"),
        (plain(param_names=["a"]), "group 0 has 2 parameters and 1 names"),
        (plain(lr=-1.0), "lr must be a finite number >= 0, got -1.0"),
        (plain(lr=np.zeros(2)), "lr must be a finite number"),
        (plain(decoupled_weight_decay=np.zeros(2)), "decoupled_weight_decay is array"),
        (changed(0, step=10**400), "step of 'a' must be a whole number"),
        (changed(0, step=1e300), "t must be an integer"),
        (plain(lr="x"), "lr must be a finite number >= 0, got 'x'"),
        (plain(betas=(0.5, 1.0)), "betas must be two finite numbers"),
        (plain(rho=0.5), "group 0 has an unknown hyper-parameter 'rho'"),
        (plain(decoupled_weight_decay=True), "decoupled_weight_decay is True, in this rule False"),
        (plain(amsgrad="corrected"), "amsgrad is 'corrected', which torch does not have"),
        (plain({k: v for k, v in ADAM.items() if k != "eps"}), "group 0 has no 'eps'"),
        (changed(0, step=...), "step of 'a' must be a whole number >= 0, got None"),
        (changed(0, step=1.5), "step of 'a' must be a whole number >= 0, got 1.5"),
        (changed(0, step=float("nan")), "got nan"),
        (changed(0, step=np.zeros(2)), "step of 'a' must be"),
        (
            changed(0, exp_avg=np.zeros((2, 1))),
            "'exp_avg' of 'a' is float64[2, 1], here float64[2]",
        ),
        (changed(0, exp_avg=np.zeros(2, complex)), "'exp_avg' of 'a' is complex128[2]"),
        (changed(0, exp_avg=np.zeros(2, int)), "'exp_avg' of 'a' is int64[2]"),
        (changed(0, exp_avg="x"), "'exp_avg' of 'a' is <U1[]"),
        (changed(0, exp_avg=[[1.0], [2.0, 3.0]]), "'exp_avg' of 'a' is not an array"),
        (changed(0, exp_avg=...), "state 'exp_avg' of 'a' is missing"),
        (plain(amsgrad=True), "state 'max_exp_avg_sq' of 'a' is missing"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_refused(state, words):
    refused(adam(amsgrad="max_exp_avg_sq" in words), state, words)


def test_states_of_the_wrong_kind_name_what_to_build():
    refused(
        adam(), plain(amsgrad=True), "amsgrad is True in this step, but this optimizer was built"
    )
    opt = fastopt.SGD({"w": np.zeros(2)}, lr=0.1)
    entry = {"momentum_buffer": np.ones(2)}
    state = {"state": {0: entry}, "param_groups": [{**SGD, "params": [0]}]}
    refused(opt, state, "build one with momentum=0.5")
    refused(adam(), plain(), "t is 1, but a parameter has done at least 2 steps", t=1)
    with pytest.raises(ValueError, match="t must be"):
        fastopt.load_torch_state(adam(), plain(), t=-1)


@pytest.mark.parametrize(
    ("opt", "words"),
    [
        (lambda w: fastopt.Adam(w, eps_root=1e-3), "eps_root is 0.001, torch has only 0.0"),
        (lambda w: fastopt.Adam(w, preset="keras"), "eps_hat is True, torch has only False"),
        (lambda w: fastopt.Adam(w, bias_correction=False), "bias_correction is False, torch has"),
        (lambda w: fastopt.Adam(w, amsgrad="corrected"), "amsgrad is 'corrected', which torch"),
        (lambda w: fastopt.AdamW(w, decay="independent"), "decay is 'independent', torch has"),
        (lambda w: fastopt.Adamax(w, eps_outside=0.1), "eps_outside is 0.1, torch has only 0.0"),
        (lambda w: fastopt.RAdam(w, preset="paper"), "threshold is 4.0, torch has only 5.0"),
        (lambda w: fastopt.NAdam(w, momentum_decay=None), "momentum_decay is None, which torch"),
        (lambda w: fastopt.Rprop(w, variant="plus"), "variant is 'plus', torch has only 'iminus'"),
        (lambda w: fastopt.RMSprop(w, momentum=0.5, nesterov=True), "nesterov is True, torch has"),
        (lambda w: fastopt.RMSprop(w, eps_root=lambda t: 0.0), "eps_root is <function"),
        (
            lambda w: fastopt.SGD(w, 0.1, momentum=0.5, momentum_form="classic"),
            "group 0: momentum_form is 'classic', torch has only 'torch'",
        ),
        (
            lambda w: fastopt.SGD(w, 0.1, momentum=0.5, nesterov="lookahead"),
            "nesterov is 'lookahead', which torch does not have",
        ),
        (
            lambda w: fastopt.Adam({"w": np.zeros(2, np.float32)}, state_dtype="8bit"),
            "state_dtype is '8bit', which torch does not have",
        ),
    ],
)
def test_optimizers_that_are_not_torchs_are_refused_both_ways(opt, words):
    pytest.importorskip("torch")
    opt = opt({"w": np.zeros(2)})
    with pytest.raises(ValueError, match=r"torch\.optim cannot hold this") as caught:
        fastopt.to_torch_state(opt)
    assert words in str(caught.value)
    refused(opt, {"state": {}, "param_groups": []}, words)


def test_options_of_the_step_that_torch_lacks_stay_here_but_do_not_go_out():
    pytest.importorskip("torch")
    opt = fastopt.SGD({"w": np.zeros(2)}, 0.1, l1=0.5, lower=0, upper=1, max_norm=2, proximal=True)
    with pytest.raises(
        ValueError, match=r"cannot hold this SGD: group 0: l1 is 0\.5, which"
    ) as caught:
        fastopt.to_torch_state(opt)
    for words in ("proximal is True", "lower is 0", "upper is 1", "max_norm is 2"):
        assert words in str(caught.value)
    opt = fastopt.SGD({"w": np.zeros(2)}, 0.1, accumulate=2, clip_norm=1.0)
    opt.step(np.ones(2))
    with pytest.raises(ValueError, match="1 accumulated gradients wait for a step"):
        fastopt.to_torch_state(opt)
    opt.step(np.ones(2))
    assert fastopt.to_torch_state(opt)["param_groups"][0]["lr"] == 0.1
    group = {**SGD, "momentum": 0, "params": [0]}
    keras = fastopt.SGD({"w": np.zeros(2)}, preset="keras")  # without momentum there is one form
    fastopt.load_torch_state(keras, {"state": {}, "param_groups": [group]})


def test_optimizers_that_torch_does_not_have():
    class Mine(fastopt.Adam):
        pass

    Mine.__name__ = "Adam"
    mine = Mine({"w": np.zeros(2)})
    del fastopt.Optimizer.registry["Mine"]
    for opt in (fastopt.Lion({"w": np.zeros(2)}), mine):
        for function in (fastopt.to_torch_state, lambda opt: fastopt.load_torch_state(opt, {})):
            with pytest.raises(
                TypeError, match=f"nothing like a {type(opt).__name__}; there are SGD"
            ):
                function(opt)
    with pytest.raises(TypeError, match="must be a fastopt optimizer, got Lookahead"):
        fastopt.to_torch_state(fastopt.Lookahead(adam()))


def test_a_torch_optimizer_in_place_of_its_state(torch):
    _, peer = build_torch(torch, "Adam", start(), {})
    refused(build("Adam", start(), {}), peer, "it is a Adam, not a mapping: pass its state_dict()")


def test_the_state_of_another_rule_is_refused(torch):
    for theirs in FORMS:
        made, peer = build_torch(torch, theirs, start(theirs), {})
        run_torch(torch, made, peer, range(2))
        for ours in FORMS:
            if ours != theirs:
                refused(build(ours, start(ours), {}), peer.state_dict())


@pytest.mark.parametrize("name", FORMS)
def test_anything_anywhere_is_refused_or_taken(torch, name):
    odd = [None, -1, 1.5, np.nan, "x", [], {}, (1, 2), object(), True, b"x", 10**400]
    odd += [np.zeros(3), np.zeros((2, 2), complex), torch.zeros(3), torch.zeros(3).to_sparse()]
    odd += [torch.tensor([1, 2]), torch.zeros(3, device="meta"), torch.zeros(3, requires_grad=True)]
    options = {"lambd": 0, "t0": 0} if name == "ASGD" else {}
    made, peer = build_torch(torch, name, start(name), options)
    run_torch(torch, made, peer, range(2))
    opt = build(name, start(name), options)

    def tried(state):
        try:
            fastopt.load_torch_state(opt, state)
        except ValueError as error:
            assert "the state of torch.optim does not fit this" in str(error)
        opt.state_dict()

    for value in odd:
        state = peer.state_dict()
        for key in ("state", "param_groups"):
            tried({**state, key: value})
        for key in state["param_groups"][0]:
            groups = [{**state["param_groups"][0], key: value}, state["param_groups"][1]]
            tried({**state, "param_groups": groups})
        for place, entry in state["state"].items():
            tried({**state, "state": {**state["state"], place: value}})
            for key in entry:
                tried({**state, "state": {**state["state"], place: {**entry, key: value}}})


def test_numbers_that_have_changed_in_torch_are_noticed(torch):
    """Torch multiplies NAdam's momenta up; ours come from the hyper-parameters of today."""
    made, peer = build_torch(torch, "NAdam", start(), {})
    run_torch(torch, made, peer, range(2))
    peer.param_groups[1]["betas"] = (0.8, 0.999)
    words = "state 'mu_product' of 'b' is 0.2"
    refused(build("NAdam", start(), {}), peer.state_dict(), words, "had they always been the same")
    made, peer = build_torch(torch, "ASGD", start(), {"lambd": 0, "t0": 0})
    run_torch(torch, made, peer, range(2))
    peer.param_groups[1]["lr"] = 0.01  # torch's next step still has the old one
    opt = build("ASGD", start(), {"lambd": 0, "t0": 0})
    refused(opt, peer.state_dict(), "state 'eta' of 'b' is 0.05", "0.01")
    with pytest.raises(ValueError, match="'mu' of 'b' is missing"):
        state = peer.state_dict()
        del state["state"][1]["mu"]
        fastopt.load_torch_state(opt, state)
    assert not re.search("'mu' of 'W'", str(state))
