"""Lookahead and SAM: their formulas in NumPy, optax's numbers, what goes wrong, and resuming."""

import json
from pathlib import Path

import numpy as np
import pytest

import fastopt
from fastopt.rules.wrappers import SAM, Lookahead

GOLDEN = json.loads((Path(__file__).parent / "golden/peers.json").read_text())


def golden(name):
    case = next(c for c in GOLDEN["cases"] if c["name"].startswith(name))
    problem = GOLDEN["problems"][case["problem"]]
    return case, np.array(problem["start"]), [np.array(g) for g in problem["gradients"]]


def grads(n, shape=(5, 3), dtype="f8", seed=0):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape).astype(dtype) for _ in range(n)]


def test_lookahead_equals_optax():
    case, w, given = golden("lookahead")
    opt = Lookahead(fastopt.SGD(w, lr=0.1), k=3, alpha=0.5)
    for g, fast, slow in zip(given, case["params"], case["slow"], strict=True):
        opt.step(g)
        np.testing.assert_allclose(w, fast, rtol=case["rtol"], atol=case["rtol"])
        np.testing.assert_allclose(opt.slow["0"], slow, rtol=case["rtol"], atol=case["rtol"])


@pytest.mark.parametrize("cls", [fastopt.SGD, fastopt.Adam, fastopt.Rprop])
@pytest.mark.parametrize("order", ["C", "F", "strided"])
def test_lookahead_equals_its_formula(cls, order):
    start = grads(1, seed=1)[0]
    owner = np.empty((10, 3))
    ours = {"C": start.copy(), "F": np.asfortranarray(start), "strided": owner[::2]}[order]
    ours[...] = start
    fast, slow = start.copy(), start.copy()
    opt, plain = Lookahead(cls(ours, lr=0.1), k=4, alpha=0.3), cls(fast, lr=0.1)
    for t, g in enumerate(grads(10), 1):
        opt.step(g)
        plain.step(g)
        if t % 4 == 0:
            slow = slow + 0.3 * (fast - slow)
            fast[...] = slow
        np.testing.assert_array_equal(ours, fast)
    assert opt.t == 10 and opt.fast_steps == 2


def test_lookahead_with_alpha_1_is_the_optimizer():
    a, b = (grads(1, dtype="f4", seed=1)[0] for _ in range(2))
    one, two = Lookahead(fastopt.Adam(a), k=2, alpha=1), fastopt.Adam(b)
    for g in grads(5, dtype="f4"):
        one.step(g)
        two.step(g)
    assert a.tobytes() == b.tobytes()


@pytest.mark.parametrize("rounding", ["stochastic", "nearest", "kahan", "master"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_lookahead_of_16_bits(rounding, dtype):
    if dtype == "bfloat16":
        dtype = pytest.importorskip("ml_dtypes").bfloat16
    w = np.ones(6, dtype)
    opt = Lookahead(fastopt.SGD(w, lr=0.125, rounding=rounding), k=2, alpha=0.5)
    for _ in range(2):
        opt.step(np.ones(6, dtype))
    assert opt.slow["0"].dtype == np.float32
    np.testing.assert_array_equal(w.astype("f4"), 0.875)
    np.testing.assert_array_equal(opt.slow["0"], 0.875)
    if rounding == "master":
        np.testing.assert_array_equal(opt.state["0"]["master"], 0.875)
    if rounding == "kahan":
        assert not opt.state["0"]["rest"].any()


def test_lookahead_counts_no_skipped_step_and_leaves_frozen_parameters():
    w = np.zeros(2)
    opt = Lookahead(fastopt.SGD(w, lr=1.0, nonfinite="skip"), k=2)
    opt.step(np.ones(2))
    assert opt.step(np.array([1.0, np.nan])).skipped and opt.fast_steps == 1
    np.testing.assert_array_equal(w, -1)
    opt.step(np.ones(2))
    np.testing.assert_array_equal(w, -1)  # halfway to -2

    a, b = np.zeros(1), np.zeros(1)
    opt = Lookahead(fastopt.SGD({"a": a, "b": b}, lr=1.0), k=2)
    opt.step([np.ones(1), np.ones(1)])
    opt.inner.freeze("b")
    opt.step({"a": np.ones(1)})
    assert a[0] == -1 and b[0] == -1


def test_lookahead_covers_parameters_that_come_later():
    a, b = np.zeros(1), np.zeros(1)
    opt = Lookahead(fastopt.SGD({"a": a}, lr=1.0), k=1)
    opt.inner.add_param_group({"params": {"b": b}})
    opt.step([np.ones(1), np.ones(1)])
    assert a[0] == b[0] == -0.5


@pytest.mark.parametrize("through", ["dict", "file"])
def test_lookahead_resumes_bit_for_bit(tmp_path, through):
    a, b = (grads(1, seed=1)[0] for _ in range(2))
    one = Lookahead(fastopt.Adam(a), k=3, alpha=0.4)
    two = Lookahead(fastopt.Adam(b))
    given = grads(10)
    for g in given[:5]:
        one.step(g)
    b[...] = a
    if through == "dict":
        two.load_state_dict(one.state_dict())
    else:
        one.save(tmp_path / "a.npz")
        two.load(tmp_path / "a.npz")
    assert (two.k, two.alpha, two.fast_steps, two.t) == (3, 0.4, 2, 5)
    for g in given[5:]:
        one.step(g)
        two.step(g)
    assert a.tobytes() == b.tobytes()


def test_states_that_do_not_fit_are_refused_whole(tmp_path):
    opt = Lookahead(fastopt.Adam({"W": np.zeros(2)}))
    good = opt.state_dict()
    for change, message in [
        ({"k": 0}, "k must be at least 1"),
        ({"alpha": 2}, "alpha must be"),
        ({"slow": {"V": np.zeros(2)}}, "'V' are for a parameter.*'W' are missing"),
        ({"slow": {"W": np.zeros(3)}}, r"float64\[3\], here float64\[2\]"),
        ({"more": 1}, "unknown 'more'"),
        ({"format": "x"}, "its format is 'x'"),
        ({"optimizer": fastopt.SGD(np.ones(2), lr=1).state_dict()}, "optimizer is 'SGD'"),
    ]:
        with pytest.raises(ValueError, match=message):
            opt.load_state_dict({**good, **change})
    with pytest.raises(ValueError, match="it has no 'slow'"):
        opt.load_state_dict({k: v for k, v in good.items() if k != "slow"})
    (tmp_path / "bad.npz").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="not a complete file of Lookahead"):
        opt.load(tmp_path / "bad.npz")
    sam = SAM(fastopt.Adam({"W": np.zeros(2)}), rho=0.5)
    with pytest.raises(ValueError, match="rho must be"):
        sam.load_state_dict({**sam.state_dict(), "rho": -1})
    other = SAM(fastopt.Adam({"W": np.zeros(2)}))
    other.load_state_dict(sam.state_dict())
    assert other.rho == 0.5


def test_what_cannot_be_wrapped():
    with pytest.raises(TypeError, match="must be a fastopt optimizer, got int"):
        SAM(3)
    for cls in fastopt.FTRL, fastopt.ScheduleFreeSGD, fastopt.ScheduleFreeAdamW:
        with pytest.raises(TypeError, match="computes the parameters from its states"):
            Lookahead(cls(np.ones(2)))
    with pytest.raises(ValueError, match="k must be at least 1"):
        Lookahead(fastopt.Adam(np.ones(2)), k=0)
    with pytest.raises(ValueError, match="alpha must be"):
        Lookahead(fastopt.Adam(np.ones(2)), alpha=0)
    with pytest.raises(ValueError, match="rho must be"):
        SAM(fastopt.Adam(np.ones(2)), rho=-1)


def test_sam_equals_optax():
    case, w, given = golden("contrib.sam")
    sam = SAM(fastopt.SGD(w, lr=0.1), rho=0.05)
    for k in range(0, len(given) - 1, 2):
        with sam.perturbed(given[k]):
            np.testing.assert_allclose(w, case["params"][k], rtol=case["rtol"])
        sam.step(given[k + 1])
        np.testing.assert_allclose(w, case["params"][k + 1], rtol=case["rtol"])


@pytest.mark.parametrize("maximize", [False, True])
def test_sam_equals_its_formula(maximize):
    W, b = grads(2, (3,), seed=4)
    start = W.copy(), b.copy()
    gW, gb = grads(2, (3,), seed=5)
    sam = SAM(fastopt.SGD({"W": W, "b": b}, lr=0.5, maximize=maximize), rho=0.3)
    length = (-0.3 if maximize else 0.3) / np.sqrt(gW @ gW + gb @ gb)
    with sam.perturbed({"W": gW, "b": gb}):
        np.testing.assert_allclose(W, start[0] + length * gW, rtol=1e-14)
        np.testing.assert_allclose(b, start[1] + length * gb, rtol=1e-14)
    assert W.tobytes() == start[0].tobytes() and b.tobytes() == start[1].tobytes()


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_sam_puts_the_bits_back_also_after_an_exception(dtype):
    w = np.array([-0.0, np.nan, 1e-3, 3.0], dtype)
    before = w.tobytes()
    sam = SAM(fastopt.SGD(w, lr=1.0), rho=1)
    with pytest.raises(KeyError), sam.perturbed(np.ones(4, dtype)):
        assert w[3] == 3.5
        raise KeyError
    assert w.tobytes() == before
    with pytest.raises(ValueError, match="no perturbed block since the last step"):
        sam.step(np.ones(4, dtype))


def test_sam_of_bfloat16():
    w = np.ones(4, pytest.importorskip("ml_dtypes").bfloat16)
    sam = SAM(fastopt.SGD(w, lr=0.5, rounding="master"), rho=1)
    with sam.perturbed(np.ones_like(w)):
        assert w[0] == 1.5
    sam.step(np.ones_like(w))
    assert w[0] == 0.5


def test_sam_norms_do_not_overflow_and_zeros_do_not_move():
    w = np.zeros(2)
    sam = SAM(fastopt.SGD(w, lr=1.0), rho=1.0)
    for huge in 1e300, 1e-300:
        with sam.perturbed(np.array([3 * huge, 4 * huge])):
            np.testing.assert_allclose(w, [0.6, 0.8], rtol=1e-15)
    with sam.perturbed(np.zeros(2)):
        assert not w.any()
    for bad in np.nan, np.inf:
        with pytest.raises(ValueError, match=r"norm of the gradients is .*gradient of '0'"):
            sam.perturbed(np.array([1.0, bad])).__enter__()
    with pytest.raises(ValueError, match=r"float64\[3\], the parameter float64\[2\]"):
        sam.perturbed(np.ones(3)).__enter__()
    assert not w.any()


def test_sam_order_of_calls_and_bound_gradients():
    w, g = np.array([3.0, 4.0]), np.zeros(2)
    sam = SAM(fastopt.SGD(w, lr=0.5), rho=1.0)
    with pytest.raises(ValueError, match="grads is missing"):
        sam.perturbed().__enter__()
    sam.bind(g)
    g[...] = w
    with sam.perturbed():
        g[...] = w
        with pytest.raises(ValueError, match="leave the block first"):
            sam.step()
        with pytest.raises(ValueError, match="perturbed already"):
            sam.perturbed().__enter__()
    sam.step()
    np.testing.assert_allclose(w, [1.2, 1.6], rtol=1e-15)
    sam.unbind()
    w[...] = 3, 4
    assert sam.minimize_step(lambda: w.copy()).t == 2
    np.testing.assert_allclose(w, [1.2, 1.6], rtol=1e-15)
