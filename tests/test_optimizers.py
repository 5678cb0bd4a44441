"""Optimizers equal their published formulas, written out here in plain Python, and torch."""

import copy
import math

import numpy as np
import pytest

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


def sgd(lr, wd=0.0):
    def run():
        while True:
            p, g = yield
            yield p - lr * (g + wd * p)

    return run


def momentum_torch(lr, mu, dampening=0.0, nesterov=False):
    def run():
        v = None
        while True:
            p, g = yield
            v = g if v is None else mu * v + (1 - dampening) * g
            yield p - lr * (g + mu * v if nesterov else v)

    return run


def momentum_classic(lr, mu, nesterov=False):
    def run():
        v = 0.0
        while True:
            p, g = yield
            v = mu * v - lr * g
            yield p + (mu * v - lr * g if nesterov else v)

    return run


def adagrad(lr, eps, init=0.0, lr_decay=0.0, inside=0.0):
    def run():
        s, t = init, 0
        while True:
            p, g = yield
            s += g * g
            yield p - lr / (1 + t * lr_decay) * g / (math.sqrt(s + inside) + eps)
            t += 1

    return run


def rmsprop(lr, rho, eps, inside=0.0):
    def run():
        s = 0.0
        while True:
            p, g = yield
            s = rho * s + (1 - rho) * g * g
            yield p - lr * g / (math.sqrt(s + inside) + eps)

    return run


def adam(lr, b1, b2, eps, wd=0.0, decoupled=False, inside=0.0):
    def run():
        m = v = 0.0
        t = 0
        while True:
            p, g = yield
            t += 1
            if decoupled:
                p -= lr * wd * p
            else:
                g += wd * p
            m = b1 * m + (1 - b1) * g
            v = b2 * v + (1 - b2) * g * g
            yield p - lr * (m / (1 - b1**t)) / (math.sqrt(v / (1 - b2**t) + inside) + eps)

    return run


def adadelta(lr, rho, eps):
    def run():
        s = d = 0.0
        while True:
            p, g = yield
            s = rho * s + (1 - rho) * g * g
            x = math.sqrt(d + eps) / math.sqrt(s + eps) * g
            d = rho * d + (1 - rho) * x * x
            yield p - lr * x

    return run


def rprop(lr, down, up, least, most, forget):
    def run():
        before, d = 0.0, lr
        while True:
            p, g = yield
            if g * before > 0:
                d = min(d * up, most)
            elif g * before < 0:
                d = max(d * down, least)
                if forget:
                    g = 0.0
            before = g
            yield p - d if g > 0 else p + d if g < 0 else p

    return run


def adamax(lr, b1, b2, eps):
    def run():
        m = u = t = 0.0
        while True:
            p, g = yield
            t += 1
            m = b1 * m + (1 - b1) * g
            u = max(b2 * u, abs(g) + eps)
            yield p - lr / (1 - b1**t) * m / u

    return run


def amsgrad(lr, b1, b2, eps):
    def run():
        m = v = most = t = 0.0
        while True:
            p, g = yield
            t += 1
            m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
            most = max(most, v)
            yield p - lr * m / (1 - b1**t) / (math.sqrt(most / (1 - b2**t)) + eps)

    return run


def nadam(lr, b1, b2, eps, psi):
    def run():
        m = v = t = 0.0
        product = 1.0
        while True:
            p, g = yield
            t += 1
            mu, after = (b1 * (1 - 0.5 * 0.96 ** (i * psi)) for i in (t, t + 1))
            product *= mu
            m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
            mean = (1 - mu) * g / (1 - product) + after * m / (1 - product * after)
            yield p - lr * mean / (math.sqrt(v / (1 - b2**t)) + eps)

    return run


def radam(lr, b1, b2):
    def run():
        m = v = t = 0.0
        most = 2 / (1 - b2) - 1
        while True:
            p, g = yield
            t += 1
            m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
            rho, mean = most - 2 * t * b2**t / (1 - b2**t), m / (1 - b1**t)
            if rho > 5:
                r = ((rho - 4) * (rho - 2) * most / ((most - 4) * (most - 2) * rho)) ** 0.5
                mean *= r / (math.sqrt(v / (1 - b2**t)))
            yield p - lr * mean

    return run


def adabelief(lr, b1, b2, eps):
    def run():
        m = s = t = 0.0
        while True:
            p, g = yield
            t += 1
            m = b1 * m + (1 - b1) * g
            s = b2 * s + (1 - b2) * (g - m) ** 2 + eps
            yield p - lr * m / (1 - b1**t) / (math.sqrt(s / (1 - b2**t)) + eps)

    return run


def lion(lr, b1, b2, wd):
    def run():
        m = 0.0
        while True:
            p, g = yield
            u = b1 * m + (1 - b1) * g
            m = b2 * m + (1 - b2) * g
            yield p - lr * ((u > 0) - (u < 0) + wd * p)

    return run


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
    "Adam": (fastopt.Adam, {"lr": 0.1}, adam(0.1, 0.9, 0.999, 1e-8)),
    "Adam, all options": (
        fastopt.Adam,
        {"lr": 0.1, "betas": (0.7, 0.8), "eps": 0.5, "eps_root": 0.25, "weight_decay": 0.3},
        adam(0.1, 0.7, 0.8, 0.5, 0.3, inside=0.25),
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
    "Adadelta": (fastopt.Adadelta, {"lr": 0.7, "eps": 1e-3}, adadelta(0.7, 0.9, 1e-3)),
    "Rprop, iminus": (fastopt.Rprop, {}, rprop(0.01, 0.5, 1.2, 1e-6, 50, True)),
    "Rprop, minus": (
        fastopt.Rprop,
        {"variant": "minus", "etas": (0.3, 1.5), "step_sizes": (0.005, 0.012)},
        rprop(0.01, 0.3, 1.5, 0.005, 0.012, False),
    ),
    "Adamax": (fastopt.Adamax, {"lr": 0.1, "eps": 0.5}, adamax(0.1, 0.9, 0.999, 0.5)),
    "Adam, amsgrad": (
        fastopt.Adam,
        {"lr": 0.1, "betas": (0.9, 0.5), "amsgrad": True},
        amsgrad(0.1, 0.9, 0.5, 1e-8),
    ),
    "NAdam": (fastopt.NAdam, {"lr": 0.1, "momentum_decay": 0.3}, nadam(0.1, 0.9, 0.999, 1e-8, 0.3)),
    "RAdam": (fastopt.RAdam, {"lr": 0.1, "eps": 0.0}, radam(0.1, 0.9, 0.999)),
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
    ],
)
def test_two_steps_equal_values_printed_by_torch_and_optax(cls, options, expected):
    """p0 = 1, g = (2, -1), lr = 0.1; run once in torch 2.13 and optax 0.2.8 in float64."""
    seen = trajectory(cls, grads=[2.0, -1.0], lr=0.1, **options)
    np.testing.assert_allclose(seen, expected, atol=6e-8)


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
    "RMSprop": [{}, {"alpha": 0.8, "weight_decay": 0.1}, {"maximize": True}],
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


def test_hyper_parameters_are_read_at_every_step():
    w = np.zeros(1)
    opt = fastopt.SGD(w, lr=1.0)
    opt.step(np.ones(1))
    opt.param_groups[0]["lr"] = 0.25
    opt.step(np.ones(1))
    assert w[0] == -1.25


def test_zero_lr_leaves_parameters_as_they_are():
    for cls in fastopt.Optimizer.registry.values():
        if cls is fastopt.Rprop:  # lr is only the first length of its steps
            continue
        w = np.array([1.5, -2.25e-20, 3e20])
        before = w.copy()
        cls(w, lr=0.0).step(np.array([1.0, -3.0, 1e5]))
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
