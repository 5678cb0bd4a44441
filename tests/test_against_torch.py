"""Optimizers equal torch's, where torch has them."""

import numpy as np
import pytest

import fastopt

TORCH = {
    "SGD": [
        {},
        {"momentum": 0.9},
        {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1},
        {"momentum": 0.9, "dampening": 0.3},
        {"maximize": True, "weight_decay": 0.1},
    ],
    "Adagrad": [
        {},
        {"lr_decay": 0.1, "initial_accumulator_value": 0.2, "weight_decay": 0.1},
        {"maximize": True},
    ],
    "RMSprop": [
        {},
        {"alpha": 0.8, "weight_decay": 0.1},
        {"maximize": True},
        {"momentum": 0.9},
        {"centered": True, "alpha": 0.9, "maximize": True},
        {"centered": True, "momentum": 0.8, "weight_decay": 0.1},
    ],
    "Adam": [
        {},
        {"betas": (0.8, 0.95), "weight_decay": 0.1},
        {"maximize": True},
        {"amsgrad": True, "weight_decay": 0.1},
    ],
    "AdamW": [
        {},
        {"betas": (0.8, 0.95), "weight_decay": 0.3},
        {"maximize": True},
        {"amsgrad": True},
    ],
    "Adadelta": [{}, {"rho": 0.8, "eps": 1e-3, "weight_decay": 0.1}, {"maximize": True}],
    "Adamax": [{}, {"betas": (0.8, 0.95), "weight_decay": 0.1}, {"maximize": True}],
    "NAdam": [
        {},
        {"betas": (0.8, 0.95), "momentum_decay": 0.1, "weight_decay": 0.1},
        {"maximize": True},
    ],
    "RAdam": [{}, {"betas": (0.8, 0.95), "weight_decay": 0.1}, {"maximize": True}],
    "Rprop": [{}, {"etas": (0.3, 1.5), "step_sizes": (1e-3, 0.1)}, {"maximize": True}],
}


@pytest.mark.parametrize(
    ("name", "options"), [(name, options) for name, many in TORCH.items() for options in many]
)
def test_equals_torch_in_float64_within_1e_12(name, options):
    """Not bit for bit: torch orders the same operations differently."""
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    ours = {"a": rng.standard_normal((5, 4)), "b": rng.standard_normal(3)}
    theirs = [torch.nn.Parameter(torch.tensor(a.copy())) for a in ours.values()]
    opt = getattr(fastopt, name)(ours, lr=0.05, **options)
    peer = getattr(torch.optim, name)(theirs, lr=0.05, foreach=False, **options)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)  # in which torch keeps NAdam's product
    for _ in range(50):
        grads = {k: rng.standard_normal(a.shape) * rng.integers(0, 3) for k, a in ours.items()}
        opt.step(grads)
        for p, g in zip(theirs, grads.values(), strict=True):
            p.grad = torch.tensor(g)
        peer.step()
    torch.set_default_dtype(before)
    for name_, p in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(ours[name_], p.detach().numpy(), rtol=1e-12, atol=1e-12)
        for key, array in opt.state[name_].items():
            np.testing.assert_allclose(array, peer.state[p][key].numpy(), rtol=1e-12, atol=1e-14)


def test_a_group_without_momentum_beside_one_with_it():
    """Dampening is for a buffer, also where a group shares the rule of another that has one."""
    torch = pytest.importorskip("torch")
    ours = {"a": np.ones(3), "b": np.ones(3)}
    theirs = [torch.nn.Parameter(torch.tensor(a.copy())) for a in ours.values()]
    options = {"lr": 0.1, "momentum": 0.9, "dampening": 0.5}
    opt = fastopt.SGD(
        [{"params": {"a": ours["a"]}, "momentum": 0.0}, {"params": {"b": ours["b"]}}], **options
    )
    groups = [{"params": theirs[:1], "momentum": 0.0}, {"params": theirs[1:]}]
    peer = torch.optim.SGD(groups, **options)
    for k in range(5):
        opt.step({name: np.full(3, k + 1.0) for name in ours})
        for p in theirs:
            p.grad = torch.full_like(p, k + 1.0)
        peer.step()
    for array, p in zip(ours.values(), theirs, strict=True):
        np.testing.assert_allclose(array, p.detach().numpy(), rtol=1e-12)
