"""`fastopt.torch.Offload`: the bits of the optimizer itself, wherever and whenever it steps."""

from __future__ import annotations

import copy
import gc
import io
import weakref

import pytest

torch = pytest.importorskip("torch")

import fastopt.torch as ft  # noqa: E402
from fastopt.torch import offload  # noqa: E402

STEPS = 6
CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


@pytest.fixture(params=["in place", "copied", "copied in a thread"])
def how(request, monkeypatch):
    """Where parameters in this memory are stepped; small buckets."""
    monkeypatch.setattr(offload, "BUCKET", 100)
    monkeypatch.setattr(ft.Offload, "_separate", request.param != "in place")
    monkeypatch.setattr(ft.Offload, "_asynchronous", request.param == "copied in a thread")
    return request.param


def net(dtype=torch.bfloat16, device="cpu"):
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(2, 4, 3).to(memory_format=torch.channels_last),
        torch.nn.ReLU(),
        torch.nn.Flatten(),
        torch.nn.Linear(64, 12),
        torch.nn.Tanh(),
        torch.nn.Linear(12, 3),
    ).to(device, dtype)


def groups(model):
    return [
        {"params": model[0].parameters(), "lr": 3e-3},
        {"params": [*model[3].parameters(), *model[5].parameters()]},
    ]


def backward(model, k):
    like = next(model.parameters())
    x = torch.randn(5, 2, 6, 6, generator=torch.Generator().manual_seed(k)).to(like)
    loss = model(x).square().mean()
    loss.backward()
    return loss.item()


def trained(model, optimizer, steps=STEPS, first=0, schedule=True):
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9) if schedule else None
    losses = []
    for k in range(first, first + steps):
        optimizer.zero_grad()
        losses.append(backward(model, k))
        optimizer.step()
        if scheduler:
            scheduler.step()
    return losses


def same(model, other):
    for p, q in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(p, q)


RULES = {
    "AdamW": {"lr": 1e-2, "weight_decay": 0.1},
    "SGD": {"lr": 1e-2, "momentum": 0.9},
    "Adafactor": {"lr": 1e-2},
    "Lion": {"lr": 1e-3},
    "NAdam": {"lr": 1e-2},
}


@pytest.mark.parametrize("in_backward", [False, True])
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_same_bits_as_the_optimizer_itself(rule, dtype, in_backward, how):
    cls, options = getattr(ft, rule), RULES[rule]
    model, other = net(dtype), net(dtype)
    optimizer = ft.Offload(groups(model), cls, in_backward=in_backward, **options)
    plain = cls(groups(other), rounding="master", **options)
    assert trained(model, optimizer) == trained(other, plain)
    same(model, other)
    for p, q in zip(model.parameters(), other.parameters(), strict=True):
        assert optimizer.state[p].keys() == plain.state[q].keys()
        for key, value in plain.state[q].items():
            assert torch.equal(torch.as_tensor(optimizer.state[p][key]), torch.as_tensor(value))
        assert (p.grad is None) == in_backward


def side_by_side(model, optimizer, other, theirs, here):
    """Train a model, and another whose parameters are those `here` that `theirs` steps."""
    for k in range(STEPS):
        optimizer.zero_grad()
        other.zero_grad()
        backward(model, k)
        backward(other, k)
        optimizer.step()
        for p, q in zip(here, other.parameters(), strict=True):
            p.grad = q.grad.to(p)
        theirs.step()
        with torch.no_grad():
            for p, q in zip(here, other.parameters(), strict=True):
                q.copy_(p)


def test_against_torch_in_float32(how):
    """bfloat16 gradients, float32 weights and averages, rounded once a step: as torch would."""
    model, other = net(), net()
    optimizer = ft.Offload(model.parameters(), ft.AdamW, lr=1e-2)
    exact = [torch.nn.Parameter(p.detach().float()) for p in other.parameters()]
    theirs = torch.optim.AdamW(exact, lr=1e-2)
    side_by_side(model, optimizer, other, theirs, exact)
    same(model, other)
    for p, q in zip(model.parameters(), exact, strict=True):
        torch.testing.assert_close(optimizer.state[p]["master"], q.detach(), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("in_backward", [False, True])
def test_checkpoints_go_both_ways(in_backward, how):
    model, other = net(), net()
    optimizer = ft.Offload(groups(model), ft.AdamW, in_backward=in_backward, lr=1e-2)
    plain = ft.AdamW(groups(other), rounding="master", lr=1e-2)
    trained(model, optimizer, schedule=False)
    trained(other, plain, schedule=False)
    for source, start in ((optimizer, model), (plain, other)):
        file = io.BytesIO()
        torch.save((source.state_dict(), start.state_dict()), file)
        file.seek(0)
        state, weights = torch.load(file)
        goes_on, also = net(), net()
        goes_on.load_state_dict(weights)
        also.load_state_dict(weights)
        first = ft.Offload(groups(goes_on), ft.AdamW, in_backward=in_backward, lr=9.0)
        second = ft.AdamW(groups(also), rounding="master", lr=9.0)
        first.load_state_dict(state)
        second.load_state_dict(state)
        assert first.param_groups[0]["lr"] == 3e-3 and first.param_groups[1]["lr"] == 1e-2
        trained(goes_on, first, first=STEPS, schedule=False)
        trained(also, second, first=STEPS, schedule=False)
        same(goes_on, also)
        whole = copy.deepcopy(start)
        assert not torch.equal(next(whole.parameters()), next(goes_on.parameters()))


def test_state_of_torch(how):
    """What torch's AdamW saved goes on."""
    model, other = net(torch.float32), net(torch.float32)
    theirs = torch.optim.AdamW(other.parameters(), lr=1e-2)
    trained(other, theirs, schedule=False)
    model.load_state_dict(other.state_dict())
    optimizer = ft.Offload(model.parameters(), ft.AdamW)
    optimizer.load_state_dict(theirs.state_dict())
    trained(model, optimizer, first=STEPS, schedule=False)
    trained(other, theirs, first=STEPS, schedule=False)
    for p, q in zip(model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("in_backward", [False, True])
def test_parameters_without_gradients(in_backward, how):
    """Frozen ones and such that a loss does not reach stay, and are no obstacle."""
    model, other = net(), net()
    for one in (model, other):
        one[0].weight.requires_grad_(False)
    optimizer = ft.Offload(model.parameters(), ft.AdamW, in_backward=in_backward, lr=1e-2)
    plain = ft.AdamW(other.parameters(), rounding="master", lr=1e-2)
    before = model[0].weight.clone()
    for k in range(4):
        for one, opt in ((model, optimizer), (other, plain)):
            opt.zero_grad()
            x = torch.full((1, 64), 0.1 * (k + 1), dtype=torch.bfloat16)
            rest = one[3:] if k % 2 else one[3:4]
            rest(x).square().sum().backward()
            opt.step()
    same(model, other)
    assert torch.equal(before, model[0].weight) and model[0].bias not in optimizer.state


def test_what_others_write_counts(how):
    model, other = net(), net()
    optimizer = ft.Offload(model.parameters(), ft.AdamW, lr=1e-2)
    plain = ft.AdamW(other.parameters(), rounding="master", lr=1e-2)
    for k in range(3):
        for one, opt in ((model, optimizer), (other, plain)):
            trained(one, opt, steps=2, first=2 * k, schedule=False)
            with torch.no_grad():
                one[3].weight.mul_(0.5)
    same(model, other)


def test_a_second_backward_is_refused(how):
    model = net()
    optimizer = ft.Offload(model.parameters(), ft.AdamW, in_backward=True, lr=1e-2)
    backward(model, 0)
    with pytest.raises(RuntimeError, match="a gradient came twice before step"):
        backward(model, 1)
    optimizer.step()
    optimizer.zero_grad()
    backward(model, 2)
    optimizer.step()


def test_gradients_may_be_summed_and_clipped_without_in_backward(how):
    model, other = net(torch.float32), net(torch.float32)
    optimizer = ft.Offload(model.parameters(), ft.SGD, lr=0.5)
    plain = ft.SGD(other.parameters(), lr=0.5)
    for one, opt in ((model, optimizer), (other, plain)):
        backward(one, 0)
        backward(one, 1)
        torch.nn.utils.clip_grad_norm_(one.parameters(), 0.1)
        opt.step()
    same(model, other)


def test_scaler_and_closure(how):
    model, other = net(torch.float32), net(torch.float32)
    optimizer = ft.Offload(model.parameters(), ft.SGD, lr=0.5)
    plain = ft.SGD(other.parameters(), lr=0.5)
    for one, opt in ((model, optimizer), (other, plain)):
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**40)
        for k in range(3):
            opt.zero_grad()
            x = torch.randn(5, 2, 6, 6, generator=torch.Generator().manual_seed(k))
            scaler.scale(one(x).square().mean() * (1e30 if k == 1 else 1)).backward()
            scaler.step(opt)
            scaler.update()
        assert scaler.get_scale() < 2.0**40
        opt.zero_grad()
        assert opt.step(lambda one=one: backward(one, 9)) > 0
    same(model, other)


def test_frozen_parameters_may_be_trained_later(how):
    model, other = net(torch.float32), net(torch.float32)
    for one in (model, other):
        one[0].weight.requires_grad_(False)
    optimizer = ft.Offload(model.parameters(), ft.SGD, in_backward=True, lr=0.1)
    plain = ft.SGD(other.parameters(), lr=0.1)
    for k in range(4):
        for one, opt in ((model, optimizer), (other, plain)):
            one[0].weight.requires_grad_(k % 2 == 1)
            opt.zero_grad()
            backward(one, k)
            opt.step()
    same(model, other)
    for one, opt in ((model, optimizer), (other, plain)):
        for p in one.parameters():
            p.grad = torch.ones_like(p)  # by hand
        opt.step()
    same(model, other)


def test_zero_grad_forgets_a_backward_that_failed(how):
    model, other = net(torch.float32), net(torch.float32)
    optimizer = ft.Offload(model.parameters(), ft.SGD, in_backward=True, lr=0.1)
    plain = ft.SGD(other.parameters(), lr=0.1)

    def fail(grad):
        raise ZeroDivisionError

    handle = model[0].weight.register_hook(fail)
    with pytest.raises(ZeroDivisionError):
        backward(model, 0)
    handle.remove()
    stepped = [p.detach().clone() for p in model.parameters()]
    optimizer.zero_grad()
    with torch.no_grad():  # what was complete has been stepped
        for p, q in zip(other.parameters(), stepped, strict=True):
            p.copy_(q)
    for k in range(2):
        for one, opt in ((model, optimizer), (other, plain)):
            opt.zero_grad()
            backward(one, k)
            opt.step()
    same(model, other)


def test_a_dropped_optimizer_is_gone(how):
    model = net(torch.float32)
    optimizer = ft.Offload(model.parameters(), ft.SGD, in_backward=True, lr=1.0)
    backward(model, 0)
    optimizer.step()
    gone = weakref.ref(optimizer)
    del optimizer
    gc.collect()
    assert gone() is None
    before = [p.detach().clone() for p in model.parameters()]
    backward(model, 1)
    for p, q in zip(model.parameters(), before, strict=True):
        assert torch.equal(p, q) and p.grad is not None


def test_states_in_fewer_bits_take_less(how):
    model, other = net(), net()
    sizes = []
    for one, low in ((model, None), (other, "8bit")):
        optimizer = ft.Offload(one.parameters(), ft.AdamW, state_dtype=low)
        trained(one, optimizer, steps=1, schedule=False)
        stores = {}
        for state in optimizer.state.values():
            for value in state.values():
                stores[value.untyped_storage().data_ptr()] = value.untyped_storage().nbytes()
        sizes.append(sum(stores.values()))
    assert sizes[1] < 0.8 * sizes[0]


def test_errors_in_a_step_reach_the_caller(how):
    model = net()
    optimizer = ft.Offload(model.parameters(), ft.AdamW, in_backward=True, lr=1e-2)
    trained(model, optimizer, schedule=False)
    del optimizer.state[model[3].weight]["exp_avg"]  # as if somebody had
    with pytest.raises(KeyError, match="exp_avg"):
        backward(model, 0)
        optimizer.step()


def test_what_is_refused():
    model = net()
    with pytest.raises(TypeError, match=r"must be a class of fastopt.torch.*got.*torch.optim"):
        ft.Offload(model.parameters(), torch.optim.AdamW)
    for cls in offload.OTHERS:
        with pytest.raises(TypeError, match="and none of LBFGS, SparseAdam, ScheduleFree"):
            ft.Offload(model.parameters(), cls)
    with pytest.raises(ValueError, match="Invalid learning rate: -1"):
        ft.Offload(model.parameters(), ft.AdamW, lr=-1)
    with pytest.raises(ValueError, match="rounding must be one of"):
        ft.Offload(model.parameters(), ft.AdamW, rounding="up")
    with pytest.raises(TypeError, match="in_backward must be"):
        ft.Offload(model.parameters(), ft.AdamW, in_backward=3)
    optimizer = ft.Offload(model.parameters(), ft.AdamW)
    with pytest.raises(TypeError, match="save its state_dict"):
        copy.deepcopy(optimizer)
    state = optimizer.state_dict()
    with pytest.raises(ValueError, match="different number of parameter groups"):
        ft.Offload(groups(net()), ft.AdamW).load_state_dict(state)
    with pytest.raises(ValueError, match="doesn't match the size"):
        ft.Offload([model[0].weight], ft.AdamW).load_state_dict(state)
    table = torch.nn.Embedding(9, 2, sparse=True)
    optimizer = ft.Offload(table.parameters(), ft.AdamW)
    table(torch.tensor([1])).sum().backward()
    with pytest.raises(RuntimeError, match="sparse"):
        optimizer.step()


def test_states_lie_in_one_piece(monkeypatch):
    monkeypatch.setattr(ft.Offload, "_separate", True)
    model = net()
    optimizer = ft.Offload(model.parameters(), ft.AdamW)
    trained(model, optimizer, steps=1, schedule=False)
    for p in model.parameters():
        for key in ("exp_avg", "exp_avg_sq", "master"):
            value = optimizer.state[p][key]
            assert value.dtype == torch.float32 and value.data_ptr() % 64 == 0
    found = [optimizer.state[p]["exp_avg"].untyped_storage() for p in model.parameters()]
    assert len({store.data_ptr() for store in found}) == 1


def test_a_parameter_twice():
    p, q = (torch.nn.Parameter(torch.ones(3)) for _ in range(2))
    with pytest.warns(UserWarning, match="duplicate parameters"):
        with pytest.raises(ValueError, match="a parameter twice"):
            ft.Offload([p, p], ft.AdamW)
    optimizer = ft.Offload([q], ft.AdamW)
    with pytest.raises(ValueError, match="more than one parameter group"):
        optimizer.add_param_group({"params": [p, q]})
    with pytest.warns(UserWarning), pytest.raises(ValueError, match="a parameter twice"):
        optimizer.add_param_group({"params": [p, p]})
    assert len(optimizer.param_groups) == 1
    q.grad = torch.ones(3)
    optimizer.step()
    assert (q < 1).all()


def test_states_that_somebody_changes(how):
    """What there is to see is what counts: states taken away begin anew, others are taken."""
    model, other = net(), net()
    optimizer = ft.Offload(model.parameters(), ft.AdamW, lr=1e-2)
    trained(model, optimizer, steps=2, schedule=False)
    optimizer.state.clear()
    for p, q in zip(model.parameters(), other.parameters(), strict=True):
        q.data.copy_(p.detach())
    anew = ft.Offload(other.parameters(), ft.AdamW, lr=1e-2)
    trained(model, optimizer, steps=2, first=2, schedule=False)
    trained(other, anew, steps=2, first=2, schedule=False)
    same(model, other)
    weight, twin = model[3].weight, other[3].weight
    assert optimizer.state[weight]["step"] == 2
    optimizer.state[weight] = copy.deepcopy(anew.state[twin])
    trained(model, optimizer, steps=1, first=4, schedule=False)
    trained(other, anew, steps=1, first=4, schedule=False)
    same(model, other)
    assert optimizer.state[weight]["step"] == 3


def test_states_before_the_first_step(how):
    """torch's Adagrad has its sums from the beginning."""
    p, q = (torch.nn.Parameter(torch.ones(3)) for _ in range(2))
    found = ft.Offload([p], ft.Adagrad, initial_accumulator_value=0.5).state[p]
    expected = torch.optim.Adagrad([q], initial_accumulator_value=0.5).state[q]
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value)


@CUDA
@pytest.mark.parametrize("in_backward", [False, True])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_on_a_gpu(dtype, in_backward):
    """Against the same gradients stepped on the CPU."""
    model, other = net(dtype, "cuda"), net(dtype, "cuda")
    optimizer = ft.Offload(groups(model), ft.AdamW, in_backward=in_backward, lr=1e-2)
    here = [torch.nn.Parameter(p.detach().cpu()) for p in other.parameters()]
    plain = ft.AdamW([{"params": here[:2], "lr": 3e-3}, {"params": here[2:]}], lr=1e-2,
                     rounding="master")  # fmt: skip
    side_by_side(model, optimizer, other, plain, here)
    torch.cuda.synchronize()
    for p, q in zip(model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=2e-2 if dtype == torch.bfloat16 else 1e-4, atol=1e-4)
        assert optimizer.state[p]["exp_avg"].device.type == "cpu"
