"""Look-ahead Nesterov and averaged SGD against their published formulas."""

import math

import numpy as np
import pytest

import fastopt

CURVES = np.array([1.0, 3.0, 10.0])


def slope(w):
    return CURVES * w + np.array([0.5, 0.0, -1.0])


def train(opt, w, steps=40):
    seen = []
    for _ in range(steps):
        with opt.lookahead():
            g = slope(w)
        opt.step(g)
        seen.append(w.copy())
    return seen


@pytest.mark.parametrize("order", ["C", "strided"])
def test_sgd_equals_sutskevers_formula(order):
    w = np.array([1.0, -2.0, 0.5])
    p, v = w.copy(), np.zeros(3)
    if order == "strided":
        w = np.repeat(w, 2)[::2]
    opt = fastopt.SGD(w, lr=0.05, momentum=0.9, nesterov="lookahead")
    for seen in train(opt, w):
        v = 0.9 * v - 0.05 * slope(p + 0.9 * v)
        p = p + v
        np.testing.assert_allclose(seen, p, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(opt.state["0"]["momentum_buffer"], v, rtol=1e-12, atol=1e-14)


def test_a_schedule_of_the_momentum_has_the_published_index():
    w = np.array([1.0, -2.0, 0.5])
    p, v = w.copy(), np.zeros(3)
    opt = fastopt.SGD(w, lr=0.05, momentum=lambda t: 1 - 1 / (t + 2), nesterov="lookahead")
    for t, seen in enumerate(train(opt, w, 10)):
        mu = 1 - 1 / (t + 2)
        v = mu * v - 0.05 * slope(p + mu * v)
        p = p + v
        np.testing.assert_allclose(seen, p, rtol=1e-12, atol=1e-14)


def test_rmsprop_equals_algorithm_8_6_and_takes_no_step_at_0_over_0():
    w = np.array([1.0, -2.0, 0.1])  # the third gradient is 0 at first
    p, v, r = w.copy(), np.zeros(3), np.zeros(3)
    opt = fastopt.RMSprop(
        w, lr=0.01, alpha=0.9, momentum=0.8, eps=0.0, nesterov="lookahead", eps_root=0.0
    )
    for seen in train(opt, w):
        g = slope(p + 0.8 * v)
        r = 0.9 * r + 0.1 * g * g
        v = 0.8 * v - np.array(
            [0.01 / math.sqrt(ri) * gi if ri else 0.0 for ri, gi in zip(r, g, strict=True)]
        )
        p = p + v
        np.testing.assert_allclose(seen, p, rtol=1e-9, atol=1e-12)


def test_a_step_needs_its_look_ahead_and_an_error_inside_loses_nothing(tmp_path):
    w = np.array([1.0, -2.0, 0.5])
    twin = w.copy()
    opt = fastopt.SGD(w, lr=0.05, momentum=0.9, nesterov="lookahead")
    peer = fastopt.SGD(twin, lr=0.05, momentum=0.9, nesterov="lookahead")
    with pytest.raises(ValueError, match=r"inside `with opt\.lookahead"):
        opt.step(slope(w))
    train(opt, w, 3)
    train(peer, twin, 3)
    with pytest.raises(KeyError), opt.lookahead():
        raise KeyError
    opt.save(tmp_path / "ahead")
    train(opt, w, 1)
    train(peer, twin, 1)
    assert w.tobytes() == twin.tobytes()
    with pytest.raises(ValueError, match="build the optimizer with nesterov='lookahead'"):
        with fastopt.SGD(w, lr=1.0).lookahead():
            pass
    with pytest.raises(ValueError, match="needs momentum > 0"):
        fastopt.SGD(w, lr=1.0, nesterov="lookahead")
    with pytest.raises(ValueError, match="needs float32 or float64"):
        fastopt.SGD(w.astype("f2"), lr=1.0, momentum=0.5, nesterov="lookahead")
    with pytest.raises(ValueError, match="in all groups or in none"):
        fastopt.SGD([{"params": w, "nesterov": "lookahead"}, {"params": twin}], lr=1, momentum=0.5)


def test_frozen_parameters_do_not_look_ahead():
    w, b = np.array([1.0, -2.0, 0.5]), np.ones(2)
    opt = fastopt.SGD({"w": w, "b": b}, lr=0.05, momentum=0.9, nesterov="lookahead")
    with opt.lookahead():
        pass
    opt.step({"w": slope(w), "b": b.copy()})
    opt.freeze("b")
    before = b.copy()
    for _ in range(3):
        with opt.lookahead():
            g = slope(w)
        opt.step({"w": g})
    np.testing.assert_array_equal(b, before)


def test_nothing_is_frozen_between_the_look_ahead_and_the_step():
    """A parameter frozen there would stay ahead, one unfrozen there would not have moved."""
    a, b = np.ones(2), np.ones(2)
    opt = fastopt.SGD({"a": a, "b": b}, lr=0.1, momentum=0.9, nesterov="lookahead")
    grads = {"a": np.ones(2), "b": np.ones(2)}
    with opt.lookahead():
        for change in opt.freeze, opt.unfreeze:
            with pytest.raises(ValueError, match=f"SGD.{change.__name__}: .* take the step first"):
                change("b")
    opt.step(grads)
    opt.freeze("b")
    with opt.lookahead():
        pass
    opt.step(grads)
    opt.unfreeze("b")
    with opt.lookahead():
        np.testing.assert_allclose(b, 0.9 - 0.9 * 0.1, rtol=1e-15)
    opt.step(grads)


@pytest.mark.parametrize("t0", [0, 1, 7])
def test_averaged_sgd_keeps_the_mean_of_the_points_after_t0(t0):
    w = np.array([1.0, -2.0, 0.5])
    opt, points = fastopt.ASGD({"w": w}, lr=0.05, t0=t0), []
    for t in range(1, 30):
        opt.step({"w": slope(w)})
        points.append(w.copy())
        mean = np.mean(points[t0:], axis=0) if t > t0 else w
        np.testing.assert_allclose(opt.state["w"]["ema"], mean, rtol=1e-12)


def test_averaged_sgd_equals_torch_which_begins_one_step_later():
    torch = pytest.importorskip("torch")
    w = np.array([1.0, -2.0, 0.5])
    theirs = torch.nn.Parameter(torch.tensor(w.copy()))
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    peer = torch.optim.ASGD([theirs], lr=0.05, lambd=0, alpha=0, t0=3, foreach=False)
    opt = fastopt.ASGD(w, lr=0.05, t0=4)
    for _ in range(20):
        theirs.grad = torch.tensor(slope(w))
        opt.step(slope(w))
        peer.step()
    torch.set_default_dtype(before)
    np.testing.assert_allclose(w, theirs.detach().numpy(), rtol=1e-12)
    np.testing.assert_allclose(opt.state["0"]["ema"], peer.state[theirs]["ax"].numpy(), rtol=1e-12)


def test_averaged_sgd_refuses_what_it_has_no_place_for():
    for call, match in [
        (lambda: fastopt.ASGD(np.ones(2)), "lr is required"),
        (lambda: fastopt.ASGD(np.ones(2), lr=1, t0=-1), "t0 must be at least 0"),
        (lambda: fastopt.ASGD(np.ones(2), lr=1, ema=0.9), "takes the place of ema"),
    ]:
        with pytest.raises((TypeError, ValueError), match=match):
            call()
