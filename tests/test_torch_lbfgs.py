"""`fastopt.torch.LBFGS`: the path of torch's, its states, and what is left to torch."""

from __future__ import annotations

import copy
import inspect
import io
import pickle

import pytest

torch = pytest.importorskip("torch")

import fastopt.torch as ft  # noqa: E402

OPTIONS = [
    {},
    {"lr": 0.01, "max_iter": 5},
    {"lr": torch.tensor(0.01), "tolerance_grad": 1e-6},
    {"line_search_fn": "strong_wolfe"},
    {"line_search_fn": "strong_wolfe", "history_size": 3, "max_iter": 9, "max_eval": 11},
    {"history_size": 2, "lr": 0.1, "max_iter": 7},
    {"max_iter": 1, "lr": 0.05},
    {"line_search_fn": "strong_wolfe", "tolerance_change": 1e-3},
]


def problem(dtype=torch.float64):
    """Parameters of several shapes, one without a gradient, and a closure."""
    make = torch.Generator().manual_seed(0)
    shapes = [(3, 4), (5,), (), (2, 3)]
    params = [torch.nn.Parameter(torch.randn(s, generator=make, dtype=dtype)) for s in shapes]
    A = torch.randn(30, 18, generator=make, dtype=dtype)

    def bind(opt):
        def closure():
            opt.zero_grad()
            w = torch.cat([p.reshape(-1) for p in params[:3]])  # not the last one
            loss = (A @ w).cosh().log().mean() + 0.01 * w.square().sum()
            loss.backward()
            return loss

        return closure

    return params, bind


def path(library, options, dtype=torch.float64, steps=4, state=None, start=None, **more):
    params, bind = problem(dtype)
    if start is not None:
        for p, q in zip(params, start, strict=True):
            p.data.copy_(q)
    opt = library.LBFGS(params, **options, **more)
    if state is not None:
        opt.load_state_dict(copy.deepcopy(state))
    losses = [opt.step(bind(opt)).item() for _ in range(steps)]
    return losses, [p.detach().clone() for p in params], opt


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("options", OPTIONS)
def test_the_path_of_torch(options, threads):
    for steps in (1, 2, 4):
        ours, theirs = path(ft, options, steps=steps, threads=threads), path(
            torch.optim, options, steps=steps
        )  # fmt: skip
        torch.testing.assert_close(ours[0], theirs[0], rtol=1e-12, atol=1e-12)
        # near the optimum a difference of 1e-16 in a gradient is one of 1e-9 of it
        torch.testing.assert_close(ours[1], theirs[1], rtol=1e-9, atol=1e-9)
        mine, other = (o.state[o._params[0]] for o in (ours[2], theirs[2]))
        assert mine.keys() == other.keys()
        for key in ("func_evals", "n_iter"):
            assert mine[key] == other[key]
        assert len(mine.get("old_dirs") or []) == len(other.get("old_dirs") or [])


@pytest.mark.parametrize("options", OPTIONS[:4])
def test_single_steps_agree_to_rounding(options):
    """Before differences grow: the first directions."""
    few = {**options, "max_iter": 3}
    ours, theirs = path(ft, few, steps=1), path(torch.optim, few, steps=1)
    torch.testing.assert_close(ours[1], theirs[1], rtol=1e-12, atol=1e-13)


def test_strided_parameters():
    """Torch's own refuses their gradients."""
    found = []
    for transposed in (False, True):
        make = torch.Generator().manual_seed(0)
        w = torch.randn(3, 4, generator=make, dtype=torch.float64)
        p = torch.nn.Parameter(w.t().contiguous().t() if transposed else w)
        opt = ft.LBFGS([p], lr=0.1, max_iter=5)

        def closure(opt=opt, p=p):
            opt.zero_grad()
            loss = (p.cosh().log() * torch.arange(12.0).reshape(3, 4)).sum()
            loss.backward()
            return loss

        opt.step(closure)
        found.append(p.detach())
    torch.testing.assert_close(*found, rtol=1e-12, atol=1e-12)


def test_float32_and_complex():
    ours, theirs = (path(lib, {"lr": 0.1}, torch.float32) for lib in (ft, torch.optim))
    torch.testing.assert_close(ours[1], theirs[1], rtol=1e-4, atol=1e-5)
    found = []
    for library in (ft, torch.optim):
        z = torch.nn.Parameter(torch.tensor([1 + 2j, -0.5j], dtype=torch.complex128))
        opt = library.LBFGS([z], line_search_fn="strong_wolfe", max_iter=6)

        def closure(opt=opt, z=z):
            opt.zero_grad()
            loss = (z - (3 - 1j)).abs().pow(4).sum() + z.abs().square().sum()
            loss.backward()
            return loss

        opt.step(closure)
        found.append(z.detach())
    torch.testing.assert_close(*found, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("options", [OPTIONS[3], OPTIONS[5]])
def test_checkpoints_go_both_ways(options):
    for first, second in ((ft, torch.optim), (torch.optim, ft)):
        _, start, opt = path(first, options, steps=1)
        file = io.BytesIO()
        torch.save(opt.state_dict(), file)
        file.seek(0)
        state = torch.load(file)
        losses, found, _ = path(second, options, state=state, start=start)
        expected = path(first, options, state=state, start=start)
        torch.testing.assert_close(losses, expected[0], rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(found, expected[1], rtol=1e-7, atol=1e-8)


def test_copies_go_on():
    params, bind = problem()
    opt = ft.LBFGS(params, lr=0.1, max_iter=3, threads=1)
    opt.step(bind(opt))
    twin, twins = copy.deepcopy((opt, params))
    again = pickle.loads(pickle.dumps(opt))
    assert again.threads == twin.threads == 1
    assert twin._params[0] is twins[0]


def test_what_is_left_to_torch_and_refused():
    p = torch.nn.Parameter(torch.ones(3, dtype=torch.bfloat16))
    q = torch.nn.Parameter(torch.ones(3, dtype=torch.bfloat16))
    for library, w in ((ft, p), (torch.optim, q)):
        seen = []
        opt = library.LBFGS([w], lr=0.1, max_iter=2)
        opt.register_step_post_hook(lambda *_, seen=seen: seen.append(1))

        def closure(opt=opt, w=w):
            opt.zero_grad()
            loss = w.square().sum()
            loss.backward()
            return loss

        opt.step(closure)
        assert seen == [1]
    assert torch.equal(p, q)
    with pytest.raises(ValueError, match="Invalid learning rate: -1"):
        ft.LBFGS([p], lr=-1)
    with pytest.raises(ValueError, match="threads must be"):
        ft.LBFGS([p], threads=0)
    with pytest.raises(RuntimeError, match="only 'strong_wolfe' is supported"):
        path(ft, {"line_search_fn": "armijo"})
    with pytest.raises(ValueError, match="per-parameter options"):
        ft.LBFGS([{"params": [p]}, {"params": [q]}])
    names = list(inspect.signature(ft.LBFGS).parameters)
    assert names == [*inspect.signature(torch.optim.LBFGS).parameters, "threads"]


def test_an_infinite_loss_ends_as_in_torch():
    for library in (ft, torch.optim):
        w = torch.nn.Parameter(torch.ones(3, dtype=torch.float64))
        opt = library.LBFGS([w], lr=1e200, max_iter=4)

        def closure(opt=opt, w=w):
            opt.zero_grad()
            loss = w.pow(4).sum()
            loss.backward()
            return loss

        opt.step(closure)
        assert not torch.isfinite(w).all()


def test_the_default_device_may_be_elsewhere():
    expected = path(ft, {})[:2]
    torch.set_default_device("meta")
    try:
        with torch.device("cpu"):
            params, bind = problem()
        opt = ft.LBFGS(params)
        losses = [opt.step(bind(opt)).item() for _ in range(4)]
    finally:
        torch.set_default_device(None)
    assert losses == expected[0]
    for p, q in zip(params, expected[1], strict=True):
        assert torch.equal(p.detach(), q)


def test_complex_beside_real_parameters():
    """The same bits as with the complex ones seen as real numbers."""

    def found(seen_as_real):
        z = torch.tensor([1 + 2j, -0.5j, 3], dtype=torch.complex64)
        z = torch.view_as_real(z).clone() if seen_as_real else z
        params = [torch.nn.Parameter(z), torch.nn.Parameter(torch.tensor([2.0, -1.0]))]
        opt = ft.LBFGS(params, line_search_fn="strong_wolfe")

        def closure():
            opt.zero_grad()
            parts = params[0] if seen_as_real else torch.view_as_real(params[0])
            loss = (parts**4).sum() + (params[1].sum() - parts.sum()) ** 2
            loss.backward()
            return loss

        losses = [opt.step(closure).item() for _ in range(2)]
        z = params[0].detach()
        return losses, z if seen_as_real else torch.view_as_real(z), params[1].detach()

    (losses, z, x), (expected, parts, y) = found(False), found(True)
    assert losses == expected and torch.equal(z, parts) and torch.equal(x, y)
    assert losses[-1] < 1e-2 * losses[0]
