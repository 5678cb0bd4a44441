"""fastopt.torch in the hands of demanding users: states, memory and gradients that change shape."""

import copy

import pytest

torch = pytest.importorskip("torch")

import fastopt.torch as ft  # noqa: E402


def pair(name, shape=(5,), dtype=torch.float64, **kwargs):
    """The same parameter in ours and in torch's optimizer."""
    make = torch.Generator().manual_seed(0)
    first = torch.randn(shape, generator=make, dtype=torch.float64).to(dtype)
    ours, theirs = [torch.nn.Parameter(first.clone()) for _ in range(2)]
    a = getattr(ft, name)([ours], **kwargs)
    return a, ours, getattr(torch.optim, name)([theirs], foreach=False, **kwargs), theirs


def both(a, p, b, q, grad):
    p.grad, q.grad = grad.clone(), grad.clone()
    a.step(), b.step()
    torch.testing.assert_close(p.data, q.data, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("how", ["clear", "del", "dict", "step", "data"])
@pytest.mark.parametrize("name", ["Adam", "SGD"])
def test_states_taken_away_begin_anew(name, how):
    options = {"momentum": 0.9, "dampening": 0.5} if name == "SGD" else {}
    if name == "SGD" and how in ("step", "data", "dict"):
        pytest.skip("it counts nothing")
    a, p, b, q = pair(name, lr=0.1, **options)
    for step in range(6):
        if step == 3:
            for opt, one in ((a, p), (b, q)):
                if how == "clear":
                    opt.state.clear()
                elif how == "del":
                    del opt.state[one]
                elif how == "dict":
                    opt.state[one] = copy.deepcopy(opt.state[one])
                    opt.state[one]["exp_avg"] *= 3
                elif how == "step":
                    opt.state[one]["step"] = torch.tensor(0.0)
                else:
                    opt.state[one]["step"].data = torch.tensor(1.0)
        both(a, p, b, q, torch.full((5,), 1.0 + step, dtype=torch.float64))
    assert len(a.state) == 1


def test_a_counter_may_move():
    p = torch.nn.Parameter(torch.ones(3))
    opt = ft.Adam([p])
    p.grad = torch.ones(3)
    opt.step()
    opt.state[p]["step"].data = torch.zeros(1 << 22)[0]
    opt.step()
    opt.state[p]["step"].data = torch.tensor(5.0)
    opt.step()
    assert float(opt.state[p]["step"]) == 6


def test_memory_of_a_parameter_may_go_and_come_back():
    """As sharded training does between steps; a tensor whose memory NumPy holds cannot."""
    a, p, b, q = pair("Adam")
    g = torch.ones(5, dtype=torch.float64)
    both(a, p, b, q, g)
    kept = p.data.clone()
    p.untyped_storage().resize_(0)
    p.grad = g
    with pytest.raises(RuntimeError, match="memory"):
        a.step()
    p.untyped_storage().resize_(5 * 8)
    p.data.copy_(kept)
    both(a, p, b, q, g)


def test_a_parameter_of_another_dtype_in_the_same_place():
    p, q = [torch.nn.Parameter(torch.ones(4, dtype=torch.float16)) for _ in range(2)]
    opt = ft.SGD([p, q], lr=0.1)
    p.grad = q.grad = torch.ones(4, dtype=torch.float16)
    opt.step()
    bits = torch.ones(4, dtype=torch.bfloat16).view(torch.float16)
    p.data.copy_(bits)
    p.data = p.data.view(torch.bfloat16)
    p.grad = torch.ones(4, dtype=torch.bfloat16)
    opt.step()
    torch.testing.assert_close(p.data, torch.full((4,), 0.9, dtype=torch.bfloat16))


def test_gradients_of_the_wrong_shape_are_refused():
    p = torch.nn.Parameter(torch.randn(4, 3, 2, 2).to(memory_format=torch.channels_last))
    opt = ft.SGD([p], lr=0.1)
    p.grad = torch.ones_like(p)
    opt.step()
    p.data = torch.randn(3, 4).t()
    with pytest.raises(RuntimeError, match="gradient"):
        opt.step()


def test_gradients_of_wrapper_classes_are_left_to_torch_or_refused():
    from torch._subclasses import FakeTensorMode

    p = torch.nn.Parameter(torch.ones(5))
    with FakeTensorMode(allow_non_fake_inputs=True):
        fake = torch.ones(5)
    p.grad = fake
    with pytest.raises(RuntimeError, match="FakeTensor"):
        ft.SGD([p], lr=0.1).step()


@pytest.mark.parametrize("name", ["SGD", "Adagrad", "SparseAdam"])
def test_sparse_gradients_that_claim_too_much(name):
    """Said to be coalesced, which they are not: rows beyond the end, or twice."""
    for rows, right in (([3, 100_000_000], False), ([-7, 3], False), ([2, 2], True)):
        p = torch.nn.Parameter(torch.ones(6, 2))
        p.grad = torch.sparse_coo_tensor(
            torch.tensor([rows]), torch.ones(2, 2), (6, 2), is_coalesced=True,
            check_invariants=False,
        )  # fmt: skip
        opt = getattr(ft, name)([p], lr=0.1)
        if right:
            opt.step()
            assert (p[2] != 1).all() and (p[3] == 1).all()
        else:
            with pytest.raises(IndexError, match="row"):
                opt.step()
            assert (p == 1).all()


def test_sparse_gradients_in_bfloat16():
    for name in ("SGD", "Adagrad", "SparseAdam"):
        table = torch.nn.Embedding(10, 4, sparse=True, dtype=torch.bfloat16)
        start = table.weight.detach().clone()
        opt = getattr(ft, name)(table.parameters(), lr=0.5)
        table(torch.tensor([1, 1, 3])).sum().backward()
        opt.step()
        moved = (table.weight != start).any(1)
        assert moved.tolist() == [k in (1, 3) for k in range(10)]
        if name == "SGD":
            torch.testing.assert_close(table.weight[1].data, (start[1].float() - 1).bfloat16())


def test_a_scaler_unscales_once_when_torch_takes_the_step():
    whole = torch.randn(6)
    p, q = torch.nn.Parameter(whole[:4]), torch.nn.Parameter(whole[2:])
    opt = ft.SGD([p, q], lr=0.1, fused=True)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    before = whole.clone()
    scaler.scale(p.sum() + q.sum()).backward()
    scaler.step(opt)
    torch.testing.assert_close(before - whole, 0.1 * torch.tensor([1.0, 1, 2, 2, 1, 1]))


def test_dampening_is_not_for_the_first_step_whoever_takes_it():
    a, p, b, q = pair("SGD", lr=0.1, momentum=0.9, dampening=0.5)
    for opt, one in ((a, p), (b, q)):
        one.grad = one.data
        opt.step()
    torch.testing.assert_close(p.data, q.data)


def overlapping(case):
    """A parameter, and a gradient between its elements, in its place, or shifted along it."""
    whole = torch.arange(1.0, 9.0)
    if case == "between":
        return torch.nn.Parameter(whole.reshape(4, 2)[:, 0]), whole.reshape(4, 2)[:, 1]
    p = torch.nn.Parameter(whole[:4])
    return p, (p.data if case == "same" else whole[2:6])


@pytest.mark.parametrize("name", ["Lion", "Adam", "SGD"])
@pytest.mark.parametrize("case", ["between", "same", "shifted"])
def test_gradients_that_lie_in_the_parameter_or_between(name, case):
    p, grad = overlapping(case)
    q = torch.nn.Parameter(p.detach().clone())
    q.grad = grad.clone()
    p.grad = grad
    for one in (p, q):
        getattr(ft, name)([one], lr=0.1).step()
    assert torch.equal(p, q)


@pytest.mark.parametrize("rounding", ["master", "kahan"])
def test_what_others_write_to_16_bit_parameters_counts(rounding):
    net = torch.nn.Linear(2, 1).bfloat16()
    opt = ft.AdamW(net.parameters(), lr=0.0, rounding=rounding)
    net(torch.ones(1, 2).bfloat16()).sum().backward()
    opt.step()
    net.load_state_dict({"weight": torch.full((1, 2), 7.0), "bias": torch.full((1,), 255.0)})
    opt.step()
    assert net.weight.tolist() == [[7, 7]] and net.bias.item() == 255
    with torch.no_grad():
        net.bias.fill_(0.001)
    opt.step()
    torch.testing.assert_close(net.bias.item(), 0.001, rtol=0.01, atol=0)
    net.float()
    for p in net.parameters():
        p.grad = torch.ones_like(p)
    opt.step()
    assert not any({"master", "rest"} & set(state) for state in opt.state.values())


def test_hyper_parameters_changed_in_place():
    beta = torch.tensor(0.9, dtype=torch.float64)
    for change in ("tensor", "list"):
        a, p, b, q = pair("Adam", lr=0.1)
        betas = (beta, 0.99) if change == "tensor" else [0.9, 0.99]
        for opt in (a, b):
            opt.param_groups[0]["betas"] = betas
        for step in range(4):
            if step == 2:
                if change == "tensor":
                    beta.fill_(0.5)
                else:
                    betas[0] = 0.5
            p.grad = q.grad = torch.full((5,), 1.0 + step, dtype=torch.float64)
            a.step()
            b.param_groups[0]["betas"] = tuple(float(x) for x in betas)
            b.step()
        torch.testing.assert_close(p.data, q.data, rtol=1e-12, atol=1e-12)
        beta.fill_(0.9)


@pytest.mark.parametrize("lr", [60.0, 1e-7])
def test_rprops_first_length_is_within_bounds(lr):
    a, p, b, q = pair("Rprop", lr=lr)
    for _ in range(3):
        both(a, p, b, q, torch.ones(5, dtype=torch.float64))


def test_checkpoints_that_do_not_fit_are_refused():
    p, q = torch.nn.Parameter(torch.ones(3, 4)), torch.nn.Parameter(torch.ones(4, 3))
    a, b = ft.Adam([p]), ft.Adam([q])
    p.grad, q.grad = torch.ones(3, 4), torch.ones(4, 3)
    a.step()
    b.load_state_dict(a.state_dict())
    with pytest.raises(ValueError, match=r"'exp_avg' has shape \(3, 4\)"):
        b.step()
    del a.state[p]["exp_avg_sq"]
    with pytest.raises(KeyError, match="exp_avg_sq"):
        a.step()


def test_states_in_our_form_do_not_stop_torch():
    for name, dtype, options in (
        ("Adafactor", torch.float32, {}),
        ("AdamW", torch.bfloat16, {}),
        ("AdamW", torch.float32, {"state_dtype": "8bit"}),
    ):
        whole = torch.randn(600, 3, dtype=dtype)
        p, q = torch.nn.Parameter(whole[:400]), torch.nn.Parameter(whole[400:])
        opt = getattr(ft, name)([p, q], **options)
        p.grad, q.grad = torch.ones_like(p), torch.ones_like(q)
        opt.step()
        q.data = whole[300:500]
        opt.step()  # torch
        q.data = q.data.clone()
        opt.step()  # here again
        assert float(opt.state[p]["step"]) == 3 and torch.isfinite(p.float()).all()


def test_compressed_states_under_other_defaults():
    torch.set_default_dtype(torch.float64)
    try:
        p = torch.nn.Parameter(torch.randn(300, dtype=torch.float32))
        opt = ft.Adam([p], state_dtype="8bit")
        p.grad = torch.ones(300, dtype=torch.float32)
        opt.step()
    finally:
        torch.set_default_dtype(torch.float32)
    for name in ("Adam", "ASGD", "NAdam", "Adafactor"):
        q = torch.nn.Parameter(torch.randn(3, 4))
        q.grad = torch.ones(3, 4)
        opt = getattr(ft, name)([q])
        with torch.device("meta"):
            opt.step()
        assert all(v.device.type == "cpu" for v in opt.state[q].values())


def test_8_bit_states_of_channels_last_tensors_are_read_in_their_order():
    make = torch.Generator().manual_seed(0)
    g = torch.randn(4, 9, 5, 5, generator=make) * torch.logspace(-3, 0, 9)[None, :, None, None]
    means = {}
    for layout in (torch.contiguous_format, torch.channels_last):
        p = torch.nn.Parameter(torch.zeros(4, 9, 5, 5).to(memory_format=layout))
        opt = ft.Adam([p], state_dtype="8bit", lr=0.01)
        p.grad = g.to(memory_format=layout)
        opt.step()
        other = ft.Adam([torch.nn.Parameter(p.detach().clone())], lr=0.01)
        other.load_state_dict(opt.state_dict())
        q = other.param_groups[0]["params"][0]
        q.grad = torch.zeros_like(q)
        other.step()
        means[layout] = other.state[q]["exp_avg"]
        # exp_avg = 0.9 * 0.1 * g, in blocks of 256 with 8 bits
        assert (means[layout] - 0.09 * g).abs().max() < 0.09 * g.abs().max() / 10


def test_parameters_that_move_between_groups():
    params = [torch.nn.Parameter(torch.zeros(1)) for _ in range(3)]
    opt = ft.SGD([{"params": params[:2], "lr": 1.0}, {"params": params[2:], "lr": 10.0}])
    for p in params:
        p.grad = torch.ones(1)
    opt.step()
    opt.param_groups[0]["params"], opt.param_groups[1]["params"] = params[:1], params[1:]
    opt.step()
    assert [p.item() for p in params] == [-2, -11, -20]


def test_schedule_free_optimizers_keep_their_books():
    p = torch.nn.Parameter(torch.ones(3))
    opt = ft.ScheduleFreeAdamW([p], lr=torch.tensor(0.1))
    p.grad = torch.ones(3)
    opt.step()
    opt.eval()
    q = torch.nn.Parameter(torch.ones(2))
    opt.add_param_group({"params": [q]})
    assert not opt.param_groups[1]["train_mode"]
    assert "pending" not in opt.state_dict()["param_groups"][0]
    with pytest.raises(ValueError, match="must be > 0"):
        ft.ScheduleFreeSGD([p], momentum=0.0)


def test_many_dimensions_are_refused_or_left_to_torch():
    p = torch.nn.Parameter(torch.ones((1,) * 16))
    p.grad = torch.ones((1,) * 16)
    with pytest.raises(RuntimeError, match="dimensions"):
        ft.SGD([p], lr=0.5).step()
    ft.SGD([p], lr=0.5, fallback="torch").step()
    assert p.item() == 0.5
