"""Training that changes between torch and fastopt goes on as if it had not."""

import inspect

import numpy as np
import pytest
from torch_pairs import (
    CASES,
    HALF,
    L2,
    SHAPES,
    as_numpy,
    build,
    build_torch,
    choosing,
    close,
    in_double,
    run,
    run_torch,
    start,
    through_file,
    whole,
)

import fastopt
from fastopt.rules.torch_forms import FORMS

fixture = pytest.fixture(name="torch")(in_double)


@pytest.mark.parametrize("kind", ["file", "numpy"])
@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize(("name", "options"), CASES)
def test_from_torch_within_1e_12(torch, name, options, missing, kind):
    expected, state, point = whole(torch, name, options, missing)
    params = {n: a.copy() for n, a in zip(SHAPES, point, strict=True)}
    params["W"] = np.asfortranarray(params["W"])
    opt = build(name, params, choosing(options), lr=0.9)
    fastopt.load_torch_state(opt, state if kind == "file" else as_numpy(state))
    close(run(opt, range(HALF, 2 * HALF), missing), expected[HALF:])


@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize(("name", "options"), CASES)
def test_to_torch_within_1e_12(torch, name, options, missing):
    expected, _, _ = whole(torch, name, options, missing)
    params = start()
    params["W"] = np.asfortranarray(params["W"])
    opt = build(name, params, options)
    close(run(opt, range(HALF), missing), expected[:HALF])
    state = through_file(torch, fastopt.to_torch_state(opt))
    made, peer = build_torch(torch, name, params, {}, lr=0.9)
    peer.load_state_dict(state)
    close(run_torch(torch, made, peer, range(HALF, 2 * HALF), missing), expected[HALF:])


@pytest.mark.parametrize(("name", "options"), CASES)
def test_there_and_back_is_the_same_to_the_last_bit(torch, name, options):
    opt = build(name, start(), options)
    run(opt, range(HALF))
    other = build(name, {n: a.copy() for n, a in opt._arrays.items()}, options)
    fastopt.load_torch_state(other, fastopt.to_torch_state(opt), t=opt.t)
    close_to_bits = run(other, range(HALF, 2 * HALF)), run(opt, range(HALF, 2 * HALF))
    for one, same in zip(*close_to_bits, strict=True):
        assert all(a.tobytes() == b.tobytes() for a, b in zip(one, same, strict=True))


@pytest.mark.parametrize("fresh", [True, False])
@pytest.mark.parametrize(("name", "options"), CASES)
def test_before_the_first_step(torch, name, options, fresh):
    """Torch's states are then not there; ours begin as new ones do, even after other steps."""
    made, peer = build_torch(torch, name, start(), options)
    state = through_file(torch, peer.state_dict())
    params = start()
    opt = build(name, params, options)
    if not fresh:
        run(opt, range(3))
        for n, a in start().items():
            params[n][...] = a
    fastopt.load_torch_state(opt, state, t=0)
    close(run(opt, range(HALF)), run_torch(torch, made, peer, range(HALF)))
    made, peer = build_torch(torch, name, start(), {})
    opt = build(name, start(), options)
    peer.load_state_dict(through_file(torch, fastopt.to_torch_state(opt)))
    close(run(opt, range(HALF)), run_torch(torch, made, peer, range(HALF)))


@pytest.mark.parametrize(("name", "options"), CASES)
def test_the_dictionary_has_what_torchs_has(torch, name, options):
    """The same keys, kinds and shapes; torch fills in only how it computes."""
    made, peer = build_torch(torch, name, start(), options)
    run_torch(torch, made, peer, range(2), missing=True)
    opt = build(name, start(), options)
    run(opt, range(2), missing=True)
    ours, theirs = fastopt.to_torch_state(opt), peer.state_dict()
    assert ours["state"].keys() == theirs["state"].keys()
    for place, entry in theirs["state"].items():
        entry = {k: v for k, v in entry.items() if v is not None}
        assert ours["state"][place].keys() == entry.keys()
        for key, value in entry.items():
            mine = ours["state"][place][key]
            assert torch.is_tensor(mine) and mine.shape == value.shape
            assert mine.dtype == value.dtype and mine.is_contiguous()
    computing = {"foreach", "fused", "capturable", "differentiable"}
    for mine, group in zip(ours["param_groups"], theirs["param_groups"], strict=True):
        assert mine.keys() == group.keys() - computing
        assert mine == {k: group[k] for k in mine}
    peer.load_state_dict(ours)
    assert [*map(set, peer.state_dict()["param_groups"])] == [*map(set, theirs["param_groups"])]


def test_every_rule_of_torch_is_covered(torch):
    ours = {name for name in dir(torch.optim) if isinstance(getattr(fastopt, name, None), type)}
    ours &= {name for name in dir(torch.optim) if name in fastopt.Optimizer.registry}
    assert ours == set(FORMS) == {name for name, _ in CASES} | {"Muon"}
    for name, form in FORMS.items():
        parameters = inspect.signature(getattr(torch.optim, name)).parameters
        names = form.joined(dict.fromkeys([*form.names, *form.fixed]))
        assert names.keys() - {"decoupled_weight_decay"} <= parameters.keys()


def test_muon_takes_over_and_gives_back_its_buffers(torch):
    """Torch's later steps are in bfloat16, so that only what depends on no product is compared."""
    rng = np.random.default_rng(0)
    w, grads = rng.standard_normal((5, 4)), rng.standard_normal((6, 5, 4))
    options = {"lr": 0.02, "momentum": 0.8, "weight_decay": 0.3, "nesterov": False}
    made = torch.nn.Parameter(torch.tensor(w))
    peer = torch.optim.Muon([made], adjust_lr_fn="match_rms_adamw", **options)
    opt = fastopt.Muon({"w": w})
    fastopt.load_torch_state(opt, through_file(torch, peer.state_dict()))  # before the first step
    assert opt.t == 0 and not opt.state["w"]["momentum_buffer"].any()
    for g in grads[:3]:
        made.grad = torch.tensor(g)
        peer.step()
    fastopt.load_torch_state(opt, through_file(torch, peer.state_dict()), t=3)
    assert opt.t == 3
    assert {k: opt.param_groups[0][k] for k in options} == options
    assert opt.param_groups[0]["adjust_lr_fn"] == "match_rms_adamw"
    buffer = 0.2 * (0.64 * grads[0] + 0.8 * grads[1] + grads[2])
    np.testing.assert_allclose(opt.state["w"]["momentum_buffer"], buffer, rtol=1e-12, atol=1e-14)
    opt.step(grads[3])
    made.grad = torch.tensor(grads[3])
    again = torch.optim.Muon([made])
    again.load_state_dict(through_file(torch, fastopt.to_torch_state(opt)))
    np.testing.assert_array_equal(
        again.state[made]["momentum_buffer"].numpy(), opt.state["w"]["momentum_buffer"]
    )
    assert again.param_groups[0].keys() == peer.param_groups[0].keys()
    for key, value in peer.param_groups[0].items():
        assert key == "params" or again.param_groups[0][key] == value
    other = fastopt.Muon({"w": w.copy()})
    fastopt.load_torch_state(other, fastopt.to_torch_state(opt), t=opt.t)
    for o in opt, other:
        o.step(grads[4])
    assert other._arrays["w"].tobytes() == opt._arrays["w"].tobytes()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"adjust_lr_fn": "columns"}, "adjust_lr_fn is 'columns', which torch does not have"),
        ({"adjust_lr_fn": "constant"}, "adjust_lr_fn is 'constant', which torch does not have"),
        ({"average": False}, "average is False, torch has only True"),
        ({"maximize": True}, "maximize is True, torch has only False"),
    ],
)
def test_what_torchs_muon_lacks_is_refused(torch, options, words):
    opt = fastopt.Muon(np.ones((2, 3)), **options)
    with pytest.raises(ValueError, match=words):
        fastopt.to_torch_state(opt)
    peer = torch.optim.Muon([torch.nn.Parameter(torch.ones(2, 3))])
    if "adjust_lr_fn" not in options:  # which is taken over
        with pytest.raises(ValueError, match=words):
            fastopt.load_torch_state(opt, peer.state_dict())


def test_adafactor_needs_torchs_form(torch):
    opt = fastopt.Adafactor(np.ones((2, 3)), relative_step=False, momentum=0.9)
    with pytest.raises(ValueError, match=r"momentum is 0.9.*relative_step is False.*'added'"):
        fastopt.to_torch_state(opt)
    peer = torch.optim.Adafactor([torch.nn.Parameter(torch.ones(2, 3))], eps=(None, 0.5))
    opt = fastopt.Adafactor(np.ones((2, 3)), eps1_form="floor")
    state = peer.state_dict()
    fastopt.load_torch_state(opt, state)
    assert opt.param_groups[0]["eps1"] is None and opt.param_groups[0]["eps2"] == 0.5
    for wrong in (0.1, (0.1,), (0.1, 0.2, 0.3)):
        state["param_groups"][0]["eps"] = wrong
        with pytest.raises(ValueError, match=r"group 0: eps must be a tuple of 2 \(eps1, eps2\)"):
            fastopt.load_torch_state(opt, state)
    state["param_groups"][0]["eps"] = (0.1, -1.0)
    with pytest.raises(ValueError, match="eps2 must be"):
        fastopt.load_torch_state(opt, state)
    assert opt.param_groups[0]["eps2"] == 0.5


def test_torchs_own_schedule_of_asgd(torch):
    """Its lambda is weight decay, and its rate falls with the steps: ours is a schedule."""
    options = {"lambd": 0.3, "alpha": 0.6, "t0": 2}
    expected, state, point = whole(torch, "ASGD", {**options, **L2})
    params = {n: a.copy() for n, a in zip(SHAPES, point, strict=True)}

    def rate(lr):
        return lambda t: lr / (1 + 0.3 * lr * t) ** 0.6

    groups = [
        {"params": {"W": params["W"]}, "lr": rate(0.025)},
        {"params": {"b": params["b"], "s": params["s"]}},
    ]
    opt = fastopt.ASGD(groups, lr=rate(0.05), t0=3)
    fastopt.load_torch_state(opt, state)
    assert opt.param_groups[0]["weight_decay"] == 0.1 + 0.3
    close(run(opt, range(HALF, 2 * HALF)), expected[HALF:])
    with pytest.raises(ValueError, match=r"lr=lambda t: 0.05 / \(1 \+ 0.3 \* 0.05 \* t\) \*\* 0.6"):
        fastopt.load_torch_state(build("ASGD", params, {"t0": 2, "lambd": 0}), state)
    with pytest.raises(
        ValueError, match=r"group 0: t0 is 2.0, which is t0=3.0 here, where it is 1"
    ):
        fastopt.load_torch_state(build("ASGD", params, {"t0": 0, "lambd": 0}), state)


@pytest.mark.parametrize("foreach", [True, False])
def test_a_momentum_of_0_in_one_group(torch, foreach):
    """Torch keeps no buffer for it, and its dampening has no effect."""
    for dampening in (0.0, 0.3):
        made = [torch.nn.Parameter(torch.tensor(a)) for a in start().values()]
        groups = [{"params": made[:1], "momentum": 0.0}, {"params": made[1:]}]
        options = {"lr": 0.1, "momentum": 0.9, "dampening": dampening}
        peer = torch.optim.SGD(groups, foreach=foreach, **options)
        first = run_torch(torch, made, peer, range(HALF))
        state = through_file(torch, peer.state_dict())
        assert set(state["state"]) == {1, 2}
        params = {n: a.copy() for n, a in zip(SHAPES, first[-1], strict=True)}
        opt = build("SGD", params, {"momentum": 0.5})
        fastopt.load_torch_state(opt, state)
        expected = run_torch(torch, made, peer, range(HALF, 2 * HALF))
        close(run(opt, range(HALF, 2 * HALF)), expected)
        assert set(fastopt.to_torch_state(opt)["state"]) == {1, 2}


def test_schedulers_of_torch_leave_marks_in_the_groups(torch):
    made, peer = build_torch(torch, "Adam", start(), {})
    scheduler = torch.optim.lr_scheduler.OneCycleLR(peer, max_lr=0.3, total_steps=20)
    run_torch(torch, made, peer, range(3))
    scheduler.step()
    torch.optim.swa_utils.SWALR(peer, swa_lr=0.01)
    opt = build("Adam", start(), {})
    fastopt.load_torch_state(opt, peer.state_dict())
    for ours, theirs in zip(opt.param_groups, peer.param_groups, strict=True):
        assert ours["lr"] == theirs["lr"] and ours["betas"] == tuple(theirs["betas"])
    assert opt.t == 3


def test_computing_options_of_torch_are_ignored(torch):
    made, peer = build_torch(torch, "Adam", start(), {"fused": True})
    expected = run_torch(torch, made, peer, range(HALF))
    params = {n: a.copy() for n, a in zip(SHAPES, expected[-1], strict=True)}
    opt = build("Adam", params, {})
    fastopt.load_torch_state(opt, through_file(torch, peer.state_dict()))
    assert opt.t == HALF
    expected = run_torch(torch, made, peer, range(HALF, 2 * HALF))
    close(run(opt, range(HALF, 2 * HALF)), expected)


def test_numbers_that_are_tensors(torch):
    made = [torch.nn.Parameter(torch.zeros(3))]
    peer = torch.optim.Adam(made, lr=torch.tensor(0.25), foreach=False)
    opt = fastopt.Adam({"w": np.zeros(3)})
    fastopt.load_torch_state(opt, peer.state_dict())
    assert opt.param_groups[0]["lr"] == 0.25 and type(opt.param_groups[0]["lr"]) is float


@pytest.mark.parametrize("ours", ["float32", "float64"])
@pytest.mark.parametrize("theirs", ["bfloat16", "float16", "float32"])
@pytest.mark.parametrize("name", ["Adam", "NAdam", "Adagrad"])
def test_states_of_fewer_bits_are_widened(torch, name, theirs, ours):
    torch.set_default_dtype(torch.float32)
    p = torch.nn.Parameter(torch.arange(6, dtype=getattr(torch, theirs)).reshape(2, 3))
    peer = getattr(torch.optim, name)([p])
    for k in range(3):
        p.grad = torch.full_like(p, 0.1 * k)
        peer.step()
    again = getattr(torch.optim, name)([p])
    again.load_state_dict(peer.state_dict())  # which gives NAdam's product the parameter's dtype
    opt = getattr(fastopt, name)({"w": np.zeros((2, 3), ours)})
    fastopt.load_torch_state(opt, again.state_dict())
    for key, array in opt.state["w"].items():
        assert array.dtype == ours
        assert (array == again.state[p][key].double().numpy()).all()


def test_states_of_more_bits_are_refused(torch):
    made, peer = build_torch(torch, "Adam", start(), {})
    run_torch(torch, made, peer, range(2))
    small = {n: a.astype("float32") for n, a in start().items()}
    with pytest.raises(ValueError, match=r"'exp_avg' of 'W' is float64\[5, 4\], here float32"):
        fastopt.load_torch_state(build("Adam", small, {}), peer.state_dict())


def test_bfloat16_states(torch):
    torch.set_default_dtype(torch.float32)
    w = np.zeros((2, 3), np.float32)
    opt = fastopt.Adam({"w": w}, state_dtype="bfloat16")
    opt.step(np.arange(6, dtype=np.float32).reshape(2, 3) / 7)
    state = through_file(torch, fastopt.to_torch_state(opt))
    assert state["state"][0]["exp_avg"].dtype == torch.bfloat16
    expected = opt.state_value("w", "exp_avg")
    assert (state["state"][0]["exp_avg"].float().numpy() == expected).all()
    other = fastopt.Adam({"w": w.copy()}, state_dtype="bfloat16")
    fastopt.load_torch_state(other, state)
    for key in ("exp_avg", "exp_avg_sq"):
        assert (other.state["w"][key] == opt.state["w"][key]).all()
    state["state"][0]["exp_avg"] = torch.full((2, 3), 1 / 3, dtype=torch.float32)
    with pytest.raises(ValueError, match="'exp_avg' of 'w' would be rounded to bfloat16"):
        fastopt.load_torch_state(other, state)


def test_steps_that_float32_would_stop_counting(torch):
    torch.set_default_dtype(torch.float32)
    opt = fastopt.Adam({"w": np.zeros(3)})
    opt.step(np.ones(3))
    for t, dtype in [(2**24 - 1, torch.float32), (2**24, torch.float64)]:
        opt.load_state_dict({**opt.state_dict(), "t": t})
        step = fastopt.to_torch_state(opt)["state"][0]["step"]
        assert step.dtype == dtype and int(step) == t and int(step + 1) == t + 1
        fastopt.load_torch_state(opt, fastopt.to_torch_state(opt))
        assert opt.t == t


def test_tensors_are_copies(torch):
    opt = fastopt.Adam({"w": np.zeros(3)})
    opt.step(np.ones(3))
    state = fastopt.to_torch_state(opt)
    opt.step(np.ones(3))
    np.testing.assert_allclose(state["state"][0]["exp_avg"].numpy(), 0.1)
    state = fastopt.to_torch_state(opt)
    fastopt.load_torch_state(opt, state)
    state["state"][0]["exp_avg"].zero_()
    assert (opt.state["w"]["exp_avg"] > 0.1).all()


def test_names_are_matched_where_both_sides_have_them(torch):
    a, b = (torch.nn.Parameter(torch.zeros(3)) for _ in range(2))
    peer = torch.optim.Adam([("a", a), ("b", b)])
    a.grad, b.grad = torch.ones(3), 2 * torch.ones(3)
    peer.step()
    state = through_file(torch, peer.state_dict())
    opt = fastopt.Adam({"b": np.zeros(3), "a": np.zeros(3)})
    fastopt.load_torch_state(opt, state)
    np.testing.assert_allclose(opt.state["a"]["exp_avg"], 0.1)
    np.testing.assert_allclose(opt.state["b"]["exp_avg"], 0.2)
    opt = fastopt.Adam([np.zeros(3), np.zeros(3)])  # these have none: by order
    fastopt.load_torch_state(opt, state)
    np.testing.assert_allclose(opt.state["0"]["exp_avg"], 0.1)
    names = {"state": dict(zip("ab", state["state"].values(), strict=True))}
    names["param_groups"] = [{**state["param_groups"][0], "params": ["a", "b"]}]
    del names["param_groups"][0]["param_names"]  # as torch.distributed.checkpoint has it
    opt = fastopt.Adam({"b": np.zeros(3), "a": np.zeros(3)})
    fastopt.load_torch_state(opt, names)
    np.testing.assert_allclose(opt.state["b"]["exp_avg"], 0.2)
    opt = fastopt.Adam({"x": np.zeros(3), "a": np.zeros(3)})
    match = r"group 0 has parameters \['a', 'b'\], here \['x', 'a'\]"
    with pytest.raises(ValueError, match=match):
        fastopt.load_torch_state(opt, state)
    del state["param_groups"][0]["param_names"]
    fastopt.load_torch_state(opt, state)
    np.testing.assert_allclose(opt.state["x"]["exp_avg"], 0.1)
