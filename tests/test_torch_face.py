"""fastopt.torch against torch.optim itself: the default path of torch in float64 is the oracle."""

import copy
import inspect
import io
import pickle
import re

import numpy as np
import pytest

torch = pytest.importorskip("torch")
try:
    from torch.testing._internal.common_optimizers import optim_db as TABLES
except ImportError:  # they need expecttest
    TABLES = []

import fastopt.torch as ft  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.utils._pytree|.*lr_scheduler.step")

SHARED = [name for name in ft.__all__ if hasattr(torch.optim, name)]
DENSE = [name for name in SHARED if name not in ("SparseAdam", "LBFGS")]


def cases():
    """Every constructor call of torch's own tables, for each optimizer that is in both."""
    for info in TABLES:
        name = info.optim_cls.__name__
        if name not in DENSE:
            continue
        for k, one in enumerate(info.optim_inputs_func(device="cpu")):
            if one.kwargs.get("capturable"):
                continue  # refused by torch on the CPU, by us in its words: see below
            yield pytest.param(name, one.kwargs, id=f"{name}-{k}-{one.desc}")


def model(dtype=torch.float64, seed=0):
    """Parameters of many shapes and layouts: dense, transposed, without axes."""
    make = torch.Generator().manual_seed(seed)
    sizes = [(3,), (4, 5), (2, 3, 2, 2), (), (1, 6), (70, 41)]
    params = [torch.randn(s, generator=make, dtype=torch.float64).to(dtype) for s in sizes]
    params.append(torch.randn(6, 4, generator=make, dtype=torch.float64).to(dtype).t())
    params.append(torch.randn(2, 3, 4, 4, dtype=torch.float64, generator=make).to(dtype)
                  .contiguous(memory_format=torch.channels_last))  # fmt: skip
    return [torch.nn.Parameter(p) for p in params]


def gradients(params, step):
    make = torch.Generator().manual_seed(1000 + step)
    for p in params:
        g = torch.randn(p.shape, generator=make, dtype=torch.float64).to(p.dtype)
        p.grad = g if p.dim() != 4 else g.contiguous(memory_format=torch.channels_last)


def run(opt, params, steps, first=0):
    for step in range(first, first + steps):
        gradients(params, step)
        opt.step()


def agree(ours, theirs, rtol=1e-12, atol=1e-12):
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a.detach(), b.detach(), rtol=rtol, atol=atol)


def built(name, params, kwargs):
    kwargs = copy.deepcopy(kwargs)
    return getattr(ft, name)(params, **kwargs)


def theirs_of(name, params, kwargs):
    """torch's optimizer on its default path, one tensor at a time."""
    kwargs = copy.deepcopy(kwargs) | {"foreach": False}
    kwargs.pop("fused", None)
    return getattr(torch.optim, name)(params, **kwargs)


@pytest.mark.parametrize(("name", "kwargs"), list(cases()))
def test_every_option_of_torchs_tables_in_float64(name, kwargs):
    ours, theirs = model(), model()
    a, b = built(name, ours, kwargs), theirs_of(name, theirs, kwargs)
    for first in (0, 3, 7):
        run(a, ours, 4, first)
        run(b, theirs, 4, first)
        agree(ours, theirs)
    for p, q in zip(ours, theirs, strict=True):
        assert set(a.state[p]) == set(b.state[q])
        for key, value in b.state[q].items():
            torch.testing.assert_close(
                a.state[p][key], value, rtol=1e-11, atol=1e-12, check_dtype=False
            )


@pytest.mark.parametrize("name", DENSE)
def test_float32_is_within_rounding_of_float64(name):
    exact, ours = model(), model(torch.float32)
    for p, q in zip(exact, ours, strict=True):
        p.data.copy_(q.data)
    a, b = getattr(ft, name)(ours), getattr(torch.optim, name)(exact, foreach=False)
    for step in range(10):
        gradients(ours, step)
        for p, q in zip(exact, ours, strict=True):
            p.grad = q.grad.double()
        a.step()
        b.step()
    # Rprop and Adafactor: signs, and root mean squares, of what has been rounded
    loose = 1e-5 if name in ("Adafactor", "Adadelta") else 2e-6
    agree([p.double() for p in ours], exact, rtol=loose, atol=loose)


@pytest.mark.parametrize("name", SHARED)
def test_signatures_and_defaults_are_torchs(name):
    ours = inspect.signature(getattr(ft, name)).parameters
    theirs = inspect.signature(getattr(torch.optim, name)).parameters
    for key, parameter in theirs.items():
        assert ours[key].default == parameter.default and ours[key].kind == parameter.kind
    p = torch.nn.Parameter(torch.zeros(2))
    assert getattr(ft, name)([p]).defaults == getattr(torch.optim, name)([p]).defaults
    assert isinstance(getattr(ft, name)([p]), getattr(torch.optim, name))


@pytest.mark.parametrize("info", [i for i in TABLES if i.optim_cls.__name__
                                  in SHARED], ids=lambda i: i.optim_cls.__name__)  # fmt: skip
def test_wrong_arguments_are_refused_in_torchs_words(info):
    for one in info.optim_error_inputs_func(device="cpu", dtype=torch.float32):
        optim_input, kind, pattern = one.optimizer_error_input, one.error_type, one.error_regex
        if one.error_on.name != "CONSTRUCTION_ERROR":
            continue
        expect = pytest.warns if issubclass(kind, Warning) else pytest.raises
        with expect(kind) as caught:
            getattr(ft, info.optim_cls.__name__)(optim_input.params, **optim_input.kwargs)
        found = [w.message for w in caught] if issubclass(kind, Warning) else [caught.value]
        assert any(pattern in str(one) or re.search(pattern, str(one)) for one in found)


def test_capturable_is_refused_as_in_torch():
    p = torch.nn.Parameter(torch.zeros(2))
    p.grad = torch.ones(2)
    messages = []
    for library in (torch.optim, ft):
        with pytest.raises((AssertionError, RuntimeError)) as caught:
            library.Adam([p], capturable=True, foreach=False).step()
        messages.append(str(caught.value))
    assert messages[0] == messages[1]


@pytest.mark.parametrize("name", DENSE)
@pytest.mark.parametrize("into_ours", [True, False])
def test_training_goes_on_in_the_other_library(name, into_ours):
    kwargs = {"momentum": 0.9} if name in ("SGD", "RMSprop") else {}
    first, second, whole = model(), model(), model()
    libraries = (torch.optim, ft) if into_ours else (ft, torch.optim)
    a = getattr(libraries[0], name)(first, **kwargs)
    run(a, first, 5)
    with torch.no_grad():
        for p, q in zip(second, first, strict=True):
            p.copy_(q)
    b = getattr(libraries[1], name)(second, lr=123.0, **kwargs)
    stream = io.BytesIO()
    torch.save(a.state_dict(), stream)
    stream.seek(0)
    b.load_state_dict(torch.load(stream, weights_only=True))
    run(b, second, 5, first=5)
    # torch itself goes on a little differently after a checkpoint, which widens its counters
    c, d = [getattr(torch.optim, name)(whole, foreach=False, **kwargs) for _ in range(2)]
    run(c, whole, 5)
    d.load_state_dict(copy.deepcopy(c.state_dict()))
    run(d, whole, 5, first=5)
    agree(second, whole, rtol=1e-11)


@pytest.mark.parametrize("name", DENSE)
def test_copies_and_pickles_go_on_alike(name):
    params = model()
    opt = getattr(ft, name)(params, threads=1)
    run(opt, params, 2)
    (many, one) = copy.deepcopy((params, opt))
    gradients(params, 2), gradients(many, 2)
    opt.step(), one.step()
    agree(params, many, 0, 0)
    assert one.threads == 1 and one.state is not opt.state
    again, pair = pickle.loads(pickle.dumps((params, opt)))
    gradients(params, 3), gradients(again, 3)
    opt.step(), pair.step()
    agree(params, again, 0, 0)


def test_columns_of_a_matrix():
    """torch's fused step and DeepSpeed's write to the wrong elements here without a word."""
    for name in DENSE:
        bases = [torch.arange(12.0, dtype=torch.float64).reshape(4, 3) for _ in range(2)]
        before = bases[0].clone()
        columns = [torch.nn.Parameter(base[:, 1]) for base in bases]
        for base, p in zip(bases, columns, strict=True):
            assert p.data_ptr() == base[:, 1].data_ptr()
        opts = [getattr(ft, name)([columns[0]], lr=0.1), theirs_of(name, [columns[1]], {"lr": 0.1})]
        for opt, p in zip(opts, columns, strict=True):
            for step in range(3):
                p.grad = torch.tensor([1.0, -2.0, 3.0, 0.5], dtype=torch.float64) * (step + 1)
                opt.step()
        torch.testing.assert_close(bases[0], bases[1], rtol=1e-12, atol=1e-12)
        assert torch.equal(bases[0][:, 0], before[:, 0]) and torch.equal(bases[0][:, 2],
                                                                         before[:, 2])  # fmt: skip


def test_gradients_in_another_layout_and_expanded():
    ours, theirs = [torch.nn.Parameter(torch.ones(5, 7, dtype=torch.float64)) for _ in range(2)]
    a, b = ft.Adam([ours]), torch.optim.Adam([theirs], foreach=False)
    make = torch.Generator().manual_seed(0)
    base = torch.randn(7, 5, generator=make, dtype=torch.float64)
    wide = torch.randn(9, 20, generator=make, dtype=torch.float64)
    for grad in (base.t(), wide[2:7, 1:15:2], torch.full((1, 7), 2.0).double().expand(5, 7),
                 torch._neg_view(base).t()):  # fmt: skip
        ours.grad = theirs.grad = grad
        a.step(), b.step()
        agree([ours], [theirs])


def test_parameters_without_gradient_frozen_and_late():
    ours, theirs = model(), model()
    a, b = ft.AdamW(ours, amsgrad=True), torch.optim.AdamW(theirs, amsgrad=True, foreach=False)
    for step in range(8):
        gradients(ours, step), gradients(theirs, step)
        for params in (ours, theirs):
            params[step % 3].grad = None
            params[5].requires_grad_(step < 4)
            if step < 2:
                params[1].grad = None
            if step == 6:  # re-allocated
                params[1].data = params[1].data.clone()
                params[4].grad = None
        a.step(), b.step()
        agree(ours, theirs)
    for p, q in zip(ours, theirs, strict=True):
        assert float(a.state[p]["step"]) == float(b.state[q]["step"])


def test_groups_added_and_hyper_parameters_changed_between_steps():
    ours, theirs = model(), model()
    opts = []
    for library, params in ((ft, ours), (torch.optim, theirs)):
        opt = library.SGD([{"params": params[:2], "lr": 0.5}, {"params": params[2:5]}], lr=0.1,
                          momentum=0.9)  # fmt: skip
        run(opt, params[:5], 2)
        opt.add_param_group({"params": params[5:], "momentum": 0.0, "weight_decay": 0.1})
        run(opt, params, 2)
        opt.param_groups[0]["lr"] = 0.01
        opt.param_groups[1].update(nesterov=True, weight_decay=0.3)
        opt.param_groups[2]["momentum"] = 0.5
        run(opt, params, 2)
        opts.append(opt)
    agree(ours, theirs)


def test_states_changed_by_hand_count():
    ours, theirs = model(), model()
    a, b = ft.Adam(ours), torch.optim.Adam(theirs, foreach=False)
    run(a, ours, 2), run(b, theirs, 2)
    for opt, params in ((a, ours), (b, theirs)):
        state = opt.state[params[1]]
        state["exp_avg"] = state["exp_avg"] * 2
        state["step"].fill_(7)
        one = torch.ones_like(params[2])
        step = opt.state[params[3]]["step"].clone()
        opt.state[params[2]] = {"step": step, "exp_avg": one, "exp_avg_sq": one.clone()}
    run(a, ours, 2, 2), run(b, theirs, 2, 2)
    agree(ours, theirs)


def test_complex_parameters():
    for name in ("SGD", "Adagrad", "RMSprop", "Adadelta", "Adam", "AdamW", "NAdam", "RAdam"):
        ours, theirs = [torch.nn.Parameter(torch.ones(3, 4, dtype=torch.complex128) * (1 + 2j))
                        for _ in range(2)]  # fmt: skip
        a, b = getattr(ft, name)([ours], lr=0.1), theirs_of(name, [theirs], {"lr": 0.1})
        make = torch.Generator().manual_seed(0)
        for _ in range(4):
            ours.grad = theirs.grad = torch.randn(3, 4, generator=make, dtype=torch.complex128)
            a.step(), b.step()
        agree([ours], [theirs])


def test_parameters_that_overlap_are_left_to_torch():
    bases = [torch.arange(6.0, dtype=torch.float64) for _ in range(2)]
    ours, theirs = [[torch.nn.Parameter(b[:4]), torch.nn.Parameter(b[2:])] for b in bases]
    a, b = ft.SGD(ours, lr=0.1, momentum=0.9), torch.optim.SGD(theirs, lr=0.1, momentum=0.9,
                                                               foreach=False)  # fmt: skip
    for params in (ours, theirs):
        for p in params:
            p.grad = torch.arange(4.0, dtype=torch.float64)
    for _ in range(3):
        a.step(), b.step()
    torch.testing.assert_close(bases[0], bases[1], rtol=0, atol=0)


def test_autograd_knows_that_parameters_have_changed():
    p = torch.nn.Parameter(torch.ones(3))
    opt = ft.SGD([p], lr=0.1)
    loss = (p**2).sum()
    p.grad = torch.ones(3)
    opt.step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_closures_hooks_and_schedulers():
    p = torch.nn.Parameter(torch.tensor([3.0]))
    opt = ft.SGD([p], lr=1.0)
    seen = []
    opt.register_step_pre_hook(lambda o, args, kwargs: seen.append("before"))
    opt.register_step_post_hook(lambda o, args, kwargs: seen.append("after"))
    scheduler = torch.optim.lr_scheduler.ExponentialLR(opt, 0.5)

    def closure():
        opt.zero_grad()
        loss = p.sum()
        loss.backward()
        return loss

    with torch.no_grad():
        assert opt.step(closure).item() == 3.0
    scheduler.step()
    opt.step(closure)
    assert p.item() == 1.5 and seen == ["before", "after"] * 2
    assert opt.param_groups[0]["lr"] == 0.5


def test_a_step_for_each_gradient_in_backward():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))
    twin = copy.deepcopy(net)
    opts = {p: ft.Adam([p]) for p in net.parameters()}

    def hook(p):
        opts[p].step()
        opts[p].zero_grad()

    for p in net.parameters():
        p.register_post_accumulate_grad_hook(hook)
    whole = torch.optim.Adam(twin.parameters(), foreach=False)
    x = torch.randn(5, 4)
    for _ in range(3):
        net(x).square().mean().backward()
        whole.zero_grad()
        twin(x).square().mean().backward()
        whole.step()
    agree(net.parameters(), twin.parameters(), rtol=1e-5, atol=1e-6)


def test_a_gradient_scaler_skips_and_unscales():
    results = []
    for library, fused in ((ft, True), (ft, False), (torch.optim, True)):
        torch.manual_seed(0)
        p = torch.nn.Parameter(torch.ones(4))
        opt = library.Adam([p], lr=0.1, fused=fused)
        scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
        for factor in (1.0, float("inf"), 2.0):
            opt.zero_grad()
            scaler.scale((p * torch.arange(4.0) * factor).sum()).backward()
            scaler.step(opt)
            scaler.update()
        results.append((p.detach().clone(), float(opt.state[p]["step"])))
    for other in results[1:]:
        torch.testing.assert_close(results[0][0], other[0])
        assert results[0][1] == other[1] == 2


@pytest.mark.parametrize("name", ["SGD", "Adagrad", "SparseAdam"])
@pytest.mark.parametrize("coalesced", [True, False])
def test_sparse_gradients(name, coalesced):
    results = []
    for library in (ft, torch.optim):
        torch.manual_seed(0)
        table = torch.nn.Embedding(20, 3, sparse=True, dtype=torch.float64)
        opt = getattr(library, name)(table.parameters(), lr=0.1)
        for step in range(4):
            opt.zero_grad()
            rows = torch.tensor([3, 5, 3, step, 19, 5])
            (table(rows) * torch.arange(18.0).reshape(6, 3)).sum().backward()
            if coalesced:
                table.weight.grad = table.weight.grad.coalesce()
            opt.step()
        results.append(table.weight.detach())
    torch.testing.assert_close(*results, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dampening", [0.0, 0.5])
def test_sparse_gradients_that_torch_takes_otherwise(dampening):
    """With momentum, its buffer is sparse too: torch does it."""
    results = []
    for library in (ft, torch.optim):
        torch.manual_seed(0)
        table = torch.nn.Embedding(20, 3, sparse=True, dtype=torch.float64)
        opt = library.SGD(table.parameters(), lr=0.1, momentum=0.9, dampening=dampening)
        for _ in range(3):
            opt.zero_grad()
            table(torch.tensor([3, 5, 3])).sum().backward()
            opt.step()
        results.append(table.weight.detach())
    torch.testing.assert_close(*results, rtol=1e-12, atol=1e-12)


def low(rounding, steps, dtype=torch.bfloat16, name="Adam", **kwargs):
    torch.manual_seed(0)
    p = torch.nn.Parameter(torch.ones(4096, dtype=dtype))
    opt = getattr(ft, name)([p], rounding=rounding, **kwargs)
    for _ in range(steps):
        p.grad = torch.full((4096,), 1e-3, dtype=dtype)
        opt.step()
    return p.detach().float(), opt


def test_bfloat16_parameters():
    """To nearest, steps below half a unit vanish, as in torch; what is kept beside saves them."""
    nearest, opt = low("nearest", 20, lr=1e-4)
    assert (nearest == 1).all()  # a unit below 1 is 2 ** -8
    p = torch.nn.Parameter(torch.ones(4096, dtype=torch.bfloat16))
    theirs = torch.optim.Adam([p], lr=1e-4)
    for _ in range(20):
        p.grad = torch.full((4096,), 1e-3, dtype=torch.bfloat16)
        theirs.step()
    assert (p == 1).all()
    assert next(iter(opt.state.values()))["exp_avg"].dtype == torch.float32
    wanted = 1 - 20 * 1e-4
    stochastic, _ = low("stochastic", 20, lr=1e-4)
    assert abs(stochastic.mean().item() - wanted) < 3e-4  # 4096 draws of 2 ** -8
    master, opt = low("master", 20, lr=1e-4)
    exact = next(iter(opt.state.values()))["master"]
    torch.testing.assert_close(exact, torch.full_like(exact, wanted), rtol=1e-6, atol=0)
    assert torch.equal(master, exact.bfloat16().float())
    kahan, opt = low("kahan", 20, lr=1e-4)
    whole = kahan + next(iter(opt.state.values()))["rest"].float()
    torch.testing.assert_close(whole, torch.full_like(whole, wanted), rtol=1e-5, atol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_is_within_a_unit_of_torch(dtype):
    """torch rounds states and every operation as well; ours is float32 up to the last rounding."""
    for name in ("SGD", "Adam", "AdamW", "Adagrad", "RMSprop"):
        ours, theirs, exact = [model(d) for d in (dtype, dtype, torch.float64)]
        for p, q in zip(exact, ours, strict=True):
            p.data.copy_(q.data)
        a, b, c = [lib(params, lr=0.01) for lib, params in (
            (getattr(ft, name), ours), (getattr(torch.optim, name), theirs),
            (getattr(torch.optim, name), exact))]  # fmt: skip
        gradients(ours, 0)
        for p, q, r in zip(ours, theirs, exact, strict=True):
            q.grad, r.grad = p.grad.clone(), p.grad.double()
        a.step(), b.step(), c.step()
        for p, r in zip(ours, exact, strict=True):  # one step: correctly rounded
            torch.testing.assert_close(p.data, r.data.to(dtype), rtol=0, atol=1e-6)


def test_states_of_low_precision_survive_a_checkpoint():
    _, opt = low("kahan", 5, lr=1e-3)
    p = torch.nn.Parameter(next(iter(opt.state)).detach().clone())
    other = ft.Adam([p], lr=1e-3, rounding="kahan")
    stream = io.BytesIO()
    torch.save(opt.state_dict(), stream)
    stream.seek(0)
    other.load_state_dict(torch.load(stream, weights_only=True))
    q = next(iter(opt.state))
    for one, params in ((opt, q), (other, p)):
        params.grad = torch.full((4096,), 1e-3, dtype=torch.bfloat16)
        one.step()
    assert torch.equal(p, q)
    assert torch.equal(other.state[p]["exp_avg"], opt.state[q]["exp_avg"])
    assert other.state[p]["exp_avg"].dtype == torch.float32


@pytest.mark.parametrize("state_dtype", ["8bit", "bfloat16"])
def test_compressed_states_and_their_checkpoints(state_dtype):
    def trained(dtype, state=None):
        torch.manual_seed(0)
        p = torch.nn.Parameter(torch.randn(64, 70))
        target = torch.randn(64, 70)
        opt = ft.AdamW([p], lr=0.01, state_dtype=dtype)
        for step in range(60):
            if step == 30 and state is not None:
                opt.load_state_dict(state)
            p.grad = p.detach() - target
            opt.step()
            if step == 29:
                half = copy.deepcopy(opt.state_dict())
        return p.detach(), opt.state[p], half

    exact, _, whole = trained(None)
    close, state, compressed = trained(state_dtype)
    assert state["exp_avg"].dtype == {"8bit": torch.uint8, "bfloat16": torch.bfloat16}[state_dtype]
    assert (close - exact).abs().mean() < 0.02
    widened, state, _ = trained(None, compressed)
    assert state["exp_avg"].dtype == torch.float32 and set(state) == {"step", "exp_avg",
                                                                      "exp_avg_sq"}  # fmt: skip
    assert (widened - exact).abs().mean() < 0.02
    narrowed, state, _ = trained(state_dtype, whole)
    assert (narrowed - exact).abs().mean() < 0.02


def test_what_is_not_in_memory():
    p = torch.nn.Parameter(torch.ones(3, device="meta"))
    p.grad = torch.ones(3, device="meta")
    with pytest.raises(RuntimeError, match=r"on meta.*fallback='torch'"):
        ft.SGD([p], lr=0.1).step()
    ft.SGD([p], lr=0.1, fallback="torch").step()
    with pytest.raises(ValueError, match="fallback must be one of"):
        ft.SGD([p], fallback="cuda")
    with pytest.raises(TypeError, match="threads"):
        ft.SGD([p], threads="two")


def test_steps_beyond_2_to_the_24():
    p = torch.nn.Parameter(torch.ones(3))
    opt = ft.Adam([p])
    p.grad = torch.ones(3)
    opt.step()
    opt.state[p]["step"].fill_(2.0**24)
    opt.step(), opt.step()
    assert float(opt.state[p]["step"]) == 2**24 + 2  # torch stays at 2 ** 24


def test_inference_tensors():
    with torch.inference_mode():
        p = torch.ones(3)
        p.grad = torch.ones(3)
        ft.SGD([p], lr=0.5).step()
    assert p.tolist() == [0.5] * 3


def test_without_dlpacks_table(monkeypatch):
    """As with versions of torch that do not have it."""
    from fastopt.torch import engine

    monkeypatch.setattr(engine, "TABLE", None)
    ours, theirs = model(), model()
    a, b = ft.AdamW(ours), torch.optim.AdamW(theirs, foreach=False)
    run(a, ours, 3), run(b, theirs, 3)
    agree(ours, theirs)


def test_the_step_is_the_same_on_any_threads():
    results = []
    for threads in (1, 2, 3):
        params = model(torch.float32)
        params.append(torch.nn.Parameter(torch.randn(300, 301, generator=torch.Generator()
                                                     .manual_seed(5))))  # fmt: skip
        opt = ft.Adam(params, threads=threads)
        run(opt, params, 3)
        results.append([p.detach().clone() for p in params])
    for other in results[1:]:
        agree(results[0], other, 0, 0)


OWN = {
    "Lion": {}, "LAMB": {"weight_decay": 0.1}, "AdaBelief": {}, "DeltaBarDelta": {}, "FTRL": {"l1":
    0.01}, "ScheduleFreeSGD": {"lr": 0.1}, "ScheduleFreeAdamW": {"weight_decay": 0.1,
    "warmup_steps": 3}, "NesterovRMSprop": {"momentum": 0.9},
}  # fmt: skip


@pytest.mark.parametrize("name", OWN)
def test_rules_that_torch_lacks_are_those_of_fastopt(name):
    import fastopt

    kwargs = OWN[name]
    ours = [p for p in model() if p.numel()]
    arrays = {str(k): p.detach().numpy().copy(order="K") for k, p in enumerate(ours)}
    native = fastopt.RMSprop if name == "NesterovRMSprop" else getattr(fastopt, name)
    more = {"nesterov": True} if name == "NesterovRMSprop" else {}
    reference = native(arrays, **kwargs, **more)
    opt = getattr(ft, name)(ours, **kwargs)
    for step in range(6):
        gradients(ours, step)
        reference.step({str(k): p.grad.numpy() for k, p in enumerate(ours)})
        opt.step()
        if step == 2:
            clone = getattr(ft, name)(ours, **kwargs)
            clone.load_state_dict(copy.deepcopy(opt.state_dict()))
            opt = clone
    for k, p in enumerate(ours):
        np.testing.assert_allclose(p.detach().numpy(), arrays[str(k)], rtol=1e-12, atol=1e-14)
    if name.startswith("ScheduleFree"):
        opt.eval(), reference.eval()
        for k, p in enumerate(ours):
            np.testing.assert_allclose(p.detach().numpy(), arrays[str(k)], rtol=1e-12, atol=1e-13)
        with pytest.raises(RuntimeError, match="call train"):
            opt.step()
        opt.train()
        opt.step()


def test_rules_that_torch_lacks_check_their_arguments():
    p = torch.nn.Parameter(torch.ones(2))
    with pytest.raises(ValueError, match="Lion: lr must be"):
        ft.Lion([p], lr=-1)
    with pytest.raises(TypeError, match="momentum"):
        ft.Lion([p], momentum=0.9)
    with pytest.raises(ValueError, match="LAMB: weight_decay"):
        ft.LAMB([{"params": [p], "weight_decay": -1}])


def test_parameters_without_elements():
    for name in DENSE:
        p, q = [torch.nn.Parameter(torch.ones(shape)) for shape in ((0, 3), (2,))]
        p.grad, q.grad = torch.ones(0, 3), torch.ones(2)
        opt = getattr(ft, name)([p, q])
        opt.step(), opt.step()
        assert torch.isfinite(q).all() and (q != 1).all()


SCHEDULERS = {
    "StepLR": {"step_size": 2},
    "MultiStepLR": {"milestones": [2, 5]},
    "LambdaLR": {"lr_lambda": lambda t: 0.9**t},
    "MultiplicativeLR": {"lr_lambda": lambda t: 0.8},
    "ConstantLR": {"total_iters": 3},
    "LinearLR": {"total_iters": 4},
    "PolynomialLR": {"total_iters": 6},
    "ExponentialLR": {"gamma": 0.7},
    "CosineAnnealingLR": {"T_max": 5},
    "CosineAnnealingWarmRestarts": {"T_0": 3},
    "CyclicLR": {"base_lr": 0.01, "max_lr": 0.1, "step_size_up": 3},
    "OneCycleLR": {"max_lr": 0.2, "total_steps": 9},
}


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("rule", ["SGD", "Adam"])
def test_torchs_schedulers(name, rule):
    """Those that cycle momentum, or betas, too."""
    results = []
    for library in (ft, torch.optim):
        params = model()
        opt = getattr(library, rule)(params, lr=0.1, **({"momentum": 0.9} if rule == "SGD" else {}))
        scheduler = getattr(torch.optim.lr_scheduler, name)(opt, **SCHEDULERS[name])
        for step in range(8):
            gradients(params, step)
            opt.step()
            scheduler.step()
        results.append(params)
    agree(*results)


def test_averaged_models():
    nets = []
    for library in (ft, torch.optim):
        torch.manual_seed(0)
        net = torch.nn.Linear(3, 2).double()
        opt = library.SGD(net.parameters(), lr=0.1)
        mean = torch.optim.swa_utils.AveragedModel(net)
        rate = torch.optim.swa_utils.SWALR(opt, swa_lr=0.05, anneal_epochs=2)
        for _ in range(5):
            opt.zero_grad()
            net(torch.ones(4, 3).double()).square().sum().backward()
            opt.step()
            mean.update_parameters(net)
            rate.step()
        nets.append(mean)
    agree(nets[0].parameters(), nets[1].parameters())


def test_a_learning_rate_in_a_tensor_may_change_in_place():
    lr = torch.tensor(0.5)
    p = torch.nn.Parameter(torch.zeros(2))
    opt = ft.SGD([p], lr=lr)
    p.grad = torch.ones(2)
    opt.step()
    lr.fill_(0.25)
    opt.step()
    assert p.tolist() == [-0.75, -0.75]


class Rows(torch.utils.data.Dataset):
    def __len__(self):
        return 64

    def __getitem__(self, k):
        return torch.full((8,), float(k % 5)), torch.tensor([float(k % 3)])


@pytest.mark.parametrize("start", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")
def test_loaders_with_workers(start):
    """Steps on several threads before and while workers of a DataLoader live."""
    net = torch.nn.Sequential(torch.nn.Linear(8, 400), torch.nn.Tanh(), torch.nn.Linear(400, 1))
    opt = ft.AdamW(net.parameters(), lr=1e-3, threads=2)
    loader = torch.utils.data.DataLoader(
        Rows(), batch_size=16, num_workers=1 + (start == "fork"), multiprocessing_context=start
    )
    losses = []
    for _ in range(2):
        for x, y in loader:
            opt.zero_grad()
            loss = torch.nn.functional.mse_loss(net(x), y)
            loss.backward()
            opt.step()
            losses.append(loss.item())
    assert losses[-1] < losses[0]


def test_steps_of_several_python_threads():
    import threading

    def train(seed, out):
        params = model(seed=seed)
        opt = ft.Adam(params, threads=2)
        run(opt, params, 20)
        out[seed] = params

    alone, together = {}, {}
    for seed in range(4):
        train(seed, alone)
    threads = [threading.Thread(target=train, args=(seed, together)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed in range(4):
        agree(alone[seed], together[seed], 0, 0)


def test_groups_that_need_different_loops():
    """AMSGrad in one group and not in the other: two plans, one step."""
    ours, theirs = model(), model()
    opts = [
        library.Adam([{"params": p[:3], "amsgrad": True}, {"params": p[3:]}], **more)
        for library, p, more in ((ft, ours, {}), (torch.optim, theirs, {"foreach": False}))
    ]
    for opt, params in zip(opts, (ours, theirs), strict=True):
        run(opt, params, 4)
    agree(ours, theirs)
