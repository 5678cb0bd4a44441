"""Muon against the iteration on singular values, other libraries' values, and torch itself."""

import copy
import json
import pickle
import signal
import tracemalloc
import warnings
from pathlib import Path

import numpy as np
import pytest
import threadpoolctl

import fastopt

GOLDEN = json.loads((Path(__file__).parent / "golden" / "peers.json").read_text())
CASES = [c for c in GOLDEN["cases"] if c["class"] in ("Muon", "contrib.muon")]
SHAPES = [(5, 7), (7, 5), (6, 6), (1, 9), (9, 1), (1, 1), (300, 40), (130, 170)]
COEFFICIENTS = 3.4445, -4.7750, 2.0315


@pytest.fixture(autouse=True, scope="module")
def one_thread_for_products():
    """Small products on all cores of a busy machine take seconds."""
    with threadpoolctl.threadpool_limits(1, "blas"):
        yield


def orthogonal(h, eps=1e-7, steps=5, added=False, coefficients=COEFFICIENTS):
    """U p(S) V' of the matrix U S V' / norm: the iteration is a polynomial p of singular values."""
    u, s, v = np.linalg.svd(h, full_matrices=False)
    norm = np.sqrt((h * h).sum())
    s = s / (norm + eps if added else max(norm, eps))
    a, b, c = coefficients
    for _ in range(steps):
        s = a * s + b * s**3 + c * s**5
    return u * s @ v


def muon(p, grads, lr=1e-3, mu=0.95, nesterov=True, wd=0.1, factor=None, corrected=False, **how):
    """Yield each p; m is an average."""
    m, (n, k) = np.zeros_like(p), p.shape
    rate = np.sqrt(max(1, n / k)) if factor is None else factor
    for t, g in enumerate(grads, 1):
        m = mu * m + (1 - mu) * g
        if corrected:
            late, now = 1 - mu ** (t + 1), 1 - mu**t
            h = mu * m / late + (1 - mu) * g / now if nesterov else m / now
        else:
            h = mu * m + (1 - mu) * g if nesterov else m
        p = p - lr * wd * p - lr * rate * orthogonal(h, **how)
        yield p


def problem(shape, dtype="f8", steps=4, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal(shape).astype(dtype), [
        (rng.standard_normal(shape) * 10.0 ** rng.integers(-2, 3)).astype(dtype)
        for _ in range(steps)
    ]


def follow(w, grads, **options):
    opt = fastopt.Muon(w, **options)
    for g in grads:
        opt.step(g)
    return opt


def last(w, grads, **numbers):
    *_, end = muon(w.astype("f8"), [g.astype("f8") for g in grads], **numbers)
    return end


OPTIONS = {
    "default": ({}, {}),
    "plain": ({"nesterov": False, "weight_decay": 0.0}, {"nesterov": False, "wd": 0.0}),
    "three": (
        {"ns_steps": 3, "ns_coefficients": (2.0, -1.5, 0.5), "momentum": 0.5},
        {"steps": 3, "coefficients": (2.0, -1.5, 0.5), "mu": 0.5},
    ),
    "corrected": (
        {"bias_correction": True, "eps": 1e-3, "eps_form": "added"},
        {"corrected": True, "eps": 1e-3, "added": True},
    ),
    "corrected, plain": (
        {"bias_correction": True, "nesterov": False},
        {"corrected": True, "nesterov": False},
    ),
    "constant": ({"adjust_lr_fn": "constant"}, {"factor": 1.0}),
    "none": ({"ns_steps": 0}, {"steps": 0}),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_equals_the_iteration_on_singular_values(dtype, name, shape):
    ours, theirs = OPTIONS[name]
    w, grads = problem(shape, dtype)
    end = last(w, grads, lr=0.1, **theirs)
    follow(w, grads, lr=0.1, **ours)
    tolerance = 2e-5 if dtype == "f4" else 1e-12
    np.testing.assert_allclose(w, end, rtol=tolerance, atol=tolerance)


def test_the_factor_of_the_rate_goes_by_the_shape():
    for shape, kind, factor in [
        ((8, 2), None, 2.0),
        ((8, 2), "original", 2.0),
        ((2, 8), "original", 1.0),
        ((2, 8), "columns", 2.0),
        ((8, 2), "columns", 1.0),
        ((4, 9), "match_rms_adamw", 0.6),
        ((8, 2), "constant", 1.0),
    ]:
        w, grads = problem(shape)
        end = last(w, grads, factor=factor)
        follow(w, grads, adjust_lr_fn=kind)
        np.testing.assert_allclose(w, end, rtol=1e-13)


def test_a_sum_is_an_average_with_another_eps():
    w, grads = problem((5, 7))
    v = w.copy()
    opt = follow(w, grads, average=False, momentum=0.75, eps=0.4, eps_form="added")
    peer = follow(v, grads, momentum=0.75, eps=0.1, eps_form="added")
    np.testing.assert_allclose(w, v, rtol=1e-13)
    buffers = (one.state["0"]["momentum_buffer"] for one in (opt, peer))
    np.testing.assert_allclose(next(buffers), 4 * next(buffers), rtol=1e-14)


def test_directions_end_near_orthogonal():
    w, grads = problem((40, 60), steps=1)
    before = w.copy()
    follow(w, grads, lr=1.0, weight_decay=0.0)
    values = np.linalg.svd(before - w, compute_uv=False)
    assert 0.65 < values.min() and values.max() < 1.2
    u, _, v = np.linalg.svd(grads[0], full_matrices=False)
    assert (u.T @ (before - w) @ v.T).diagonal().min() > 0.65  # the same singular vectors


# ---- libraries


def translated(case):
    """Return a case's keywords in fastopt's names, or None."""
    kwargs = dict(case["kwargs"])
    if kwargs.pop("adaptive", False):
        return None  # scaled by the dual norm, which is not here
    names = {"learning_rate": "lr", "beta": "momentum"}
    ours = {names.get(k, k): v for k, v in kwargs.items()}
    if "rms_rate" in ours:
        assert ours.pop("rms_rate") is None
        ours["adjust_lr_fn"] = "constant"
    if "consistent_rms" in ours:
        assert ours.pop("consistent_rms") == 0.2
        ours["adjust_lr_fn"] = "match_rms_adamw"
    return ours


@pytest.mark.parametrize(
    "case",
    [c for c in CASES if translated(c) is not None],
    ids=lambda c: f"{c['library']}-{c['name']}-{c['problem']}",
)
def test_a_preset_equals_the_library(case):
    made = GOLDEN["problems"][case["problem"]]
    w = np.array(made["start"])
    opt = fastopt.Muon(w, preset=case["library"], **translated(case))
    for g, wanted in zip(made["gradients"], case["params"], strict=True):
        opt.step(np.array(g))
        np.testing.assert_allclose(w, wanted, rtol=case["rtol"], atol=case["rtol"])


def test_all_but_one_of_the_libraries_cases_are_compared():
    left_out = [c for c in CASES if translated(c) is None]
    assert [c["kwargs"]["adaptive"] for c in left_out] == [True, True]
    assert {c["library"] for c in CASES} == {"torch", "keras", "optax"}


@pytest.mark.parametrize("options", [{}, {"nesterov": False}, {"adjust_lr_fn": "match_rms_adamw"}])
def test_torch_in_bfloat16_is_within_a_tenth_of_a_step(options):
    """Each of 15 products there is rounded by 2^-9 of its size, 3 % in all if nothing grew.

    What is small grows as fast as its error, by up to 3.4 in each iteration; large singular values
    have slopes of up to 1.6, in absolute value. A step's length in any direction is at most
    1.2 * lr * f; the bound of 0.1 * lr * f is on the length of the difference in any direction.
    """
    torch = pytest.importorskip("torch")
    for shape in (30, 50), (50, 30):
        w, grads = problem(shape, "f4", 6)
        p = torch.nn.Parameter(torch.tensor(w))
        options = {"lr": 0.01, "weight_decay": 0.1, **options}
        opt, peer = fastopt.Muon(w, preset="torch", **options), torch.optim.Muon([p], **options)
        original = options.get("adjust_lr_fn") is None
        f = np.sqrt(max(1, shape[0] / shape[1])) if original else 0.2 * np.sqrt(50)
        for t, g in enumerate(grads, 1):
            p.grad = torch.tensor(g)
            peer.step()
            opt.step(g)
            apart = np.linalg.norm(w - p.detach().numpy(), 2)
            assert apart < 0.1 * t * 0.01 * f
        np.testing.assert_allclose(  # the averages are in float32 there, too
            opt.state["0"]["momentum_buffer"],
            peer.state[p]["momentum_buffer"].numpy(),
            rtol=1e-5,
            atol=1e-5,
        )


@pytest.mark.parametrize("options", [{}, {"weight_decay": 0.0, "momentum": 0.5, "ns_steps": 4}])
def test_torch_in_float64_within_1e_12(options, monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.Tensor, "bfloat16", torch.Tensor.clone)
    for shape in SHAPES:
        w, grads = problem(shape, steps=10)
        p = torch.nn.Parameter(torch.tensor(w))
        opt = fastopt.Muon(w, preset="torch", lr=0.1, **options)
        peer = torch.optim.Muon([p], lr=0.1, **options)
        for g in grads:
            p.grad = torch.tensor(g)
            peer.step()
            opt.step(g)
        np.testing.assert_allclose(w, p.detach().numpy(), rtol=1e-12, atol=1e-12)


# ---- bits, memory, layouts


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"clip_norm": 5.0, "l1": 0.01, "ema": 0.9},
        {"clip_norm": 1.0, "clip_per": "row", "nonfinite": "mask", "max_norm": 9.0},
        {"clip_value": 0.3, "state_dtype": "bfloat16"},
    ],
)
def test_same_bits_with_any_threads_strides_and_instruction_set(options):
    start, grads = problem((301, 260), "f4", 2)
    seen, before = set(), fastopt.get_isa()
    for isa in fastopt.isa_available():
        fastopt.set_isa(isa)
        for threads in 1, 2, 3:
            for strided in False, True:
                w = np.repeat(start, 2, 0)[::2] if strided else start.copy()
                opt = fastopt.Muon(w, threads=threads, **options)
                for g in grads:
                    opt.step(np.repeat(g, 2, 1)[:, ::2] if strided else g)
                seen.add(w.tobytes() + opt.state["0"]["momentum_buffer"].tobytes())
    fastopt.set_isa(before)
    assert len(seen) == 1


def test_another_order_of_axes_changes_nothing_but_rounding():
    for shape in (30, 50), (50, 30):
        start, grads = problem(shape)
        plain, turned = start.copy(), np.asfortranarray(start)
        follow(plain, grads)
        follow(turned, [np.asfortranarray(g) for g in grads])
        np.testing.assert_allclose(plain, turned, rtol=1e-12, atol=1e-13)


def test_a_step_needs_four_matrices_of_the_largest_size():
    ws = {k: np.ones((500, 400), "f4") for k in "abcd"}
    opt = fastopt.Muon(ws)
    grads = {k: np.ones((500, 400), "f4") for k in ws}
    opt.step(grads)
    tracemalloc.start()
    try:
        opt.step(grads)
        now, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2 * 4 * (500 * 400 + 400 * 400) + 20_000 and now < 20_000
    assert sum(s.nbytes for one in opt.state.values() for s in one.values()) == 4 * 4 * 500 * 400


# ---- what may go wrong


@pytest.mark.parametrize("shape", [(), (3,), (2, 3, 4)])
def test_only_matrices(shape):
    with pytest.raises(ValueError, match=r"Muon: parameter 'k' must have two axes, got shape"):
        fastopt.Muon({"w": np.ones((2, 2)), "k": np.ones(shape)})
    w = np.ones((2, 2))
    opt = fastopt.Muon({"w": w})
    with pytest.raises(ValueError, match=r"'k' must have two axes.*AdamW.*reshape"):
        opt.add_param_group({"params": {"k": np.ones(shape)}})
    opt.step({"w": w * 1})
    assert list(opt.state) == ["w"]


def test_a_convolutions_kernel_is_updated_through_its_view():
    kernel = np.ones((4, 3, 2, 2))
    rng = np.random.default_rng(0)
    g = rng.standard_normal(kernel.shape)
    end = last(np.ones((4, 12)), [g.reshape(4, 12)])
    fastopt.Muon(kernel.reshape(len(kernel), -1)).step(g.reshape(4, 12))
    np.testing.assert_allclose(kernel, end.reshape(kernel.shape), rtol=1e-13)


def test_nothing_to_do():
    empty, w = np.ones((0, 3)), np.ones((2, 3))
    opt = fastopt.Muon({"empty": empty, "w": w}, weight_decay=0.0)
    for eps in 1e-7, 0.0:
        opt.param_groups[0]["eps"] = eps
        opt.step({"empty": empty * 1, "w": np.zeros((2, 3))})
    assert (w == 1).all() and opt.t == 2


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_the_size_of_gradients_does_not_matter(dtype):
    w, grads = problem((20, 30), dtype)
    ends = []
    largest = 2.0**110 if dtype == "f4" else 2.0**1000
    for size in 1.0, largest, 1 / largest:
        v = w.copy()
        follow(v, [g * np.asarray(size, dtype) for g in grads], eps=0.0)
        ends.append(v)
    for end in ends[1:]:
        np.testing.assert_allclose(end, ends[0], rtol=1e-5 if dtype == "f4" else 1e-12)


@pytest.mark.parametrize("how", ["ignore", "raise", "warn"])
def test_nan_stays_in_its_matrix_is_counted_and_no_error_of_numpy_comes_between(how):
    ws = {k: np.ones((3, 4)) for k in "abc"}
    g = np.random.default_rng(0).standard_normal((3, 4))
    bad = g.copy()
    bad[1, 2], bad[0, 0] = np.nan, np.inf
    opt = fastopt.Muon(ws)
    with warnings.catch_warnings(), np.errstate(all=how):
        warnings.simplefilter("error")
        info = opt.step({"a": g, "b": bad, "c": g})
    assert info.nonfinite == 2 and opt.t == 1
    assert np.isnan(ws["b"]).all() and (ws["a"] == ws["c"]).all() and np.isfinite(ws["a"]).all()


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timers here")
def test_a_signal_comes_before_or_after_all_parameters():
    class Stop(Exception):
        pass

    def stop(*_):
        raise Stop

    rng = np.random.default_rng(0)
    start = {k: rng.standard_normal((60, 50)) for k in "abcdef"}
    g = {k: rng.standard_normal((60, 50)) for k in start}

    def bits(opt):
        return [
            opt._arrays[k].tobytes() + s["momentum_buffer"].tobytes() for k, s in opt.state.items()
        ]

    def make():
        return fastopt.Muon({k: w.copy() for k, w in start.items()})

    opt, after = make(), []
    after.append(bits(opt))
    for _ in range(4):
        opt.step(g)
        after.append(bits(opt))
    before, stopped = signal.signal(signal.SIGALRM, stop), 0
    try:
        for delay in np.geomspace(1e-4, 2e-2, 60):
            opt = make()
            try:
                try:
                    signal.setitimer(signal.ITIMER_REAL, delay)
                    for _ in range(4):
                        opt.step(g)
                finally:
                    signal.setitimer(signal.ITIMER_REAL, 0)
            except Stop:
                stopped += 1
            assert bits(opt) == after[opt.t]
    finally:
        signal.signal(signal.SIGALRM, before)
    assert stopped


@pytest.mark.parametrize("nonfinite", ["mask", "skip", "raise"])
def test_what_to_do_with_nan(nonfinite):
    w, grads = problem((5, 6))
    opt = follow(w, grads[:1], nonfinite=nonfinite)
    before = w.copy(), opt.state["0"]["momentum_buffer"].copy()
    bad = grads[1].copy()
    bad[1, 1] = np.nan
    if nonfinite == "mask":
        v, (start, _) = before[0], problem((5, 6))
        assert opt.step(bad).nonfinite == 1
        end = last(start, [grads[0], np.where(np.isnan(bad), 0, bad)])
        np.testing.assert_allclose(w, end, rtol=1e-13)
        assert (v != w).any()
        return
    if nonfinite == "skip":
        assert opt.step(bad).skipped
    else:
        with pytest.raises(FloatingPointError, match="index"):
            opt.step(bad)
    np.testing.assert_array_equal(w, before[0])
    np.testing.assert_array_equal(opt.state["0"]["momentum_buffer"], before[1])


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"ns_steps": 100}, r"ns_steps must be a whole number in \[0, 99\], got 100"),
        ({"ns_steps": 2.5}, "ns_steps must be a whole number"),
        ({"ns_coefficients": (1, 2)}, "ns_coefficients must be three finite numbers"),
        ({"ns_coefficients": (1, 2, None)}, "ns_coefficients must be three finite numbers"),
        ({"adjust_lr_fn": "rms"}, "adjust_lr_fn must be None, 'original', 'match_rms_adamw'"),
        ({"eps_form": "sum"}, "eps_form must be 'added' or 'floor'"),
        ({"nesterov": "lookahead"}, "nesterov must be True or False"),
        ({"bias_correction": True, "average": False}, "bias_correction needs average=True"),
        ({"bias_correction": True, "momentum": 1.0}, "bias_correction needs .* momentum < 1"),
    ],
)
def test_wrong_keywords(options, match):
    w = np.ones((2, 2))
    with pytest.raises(ValueError, match=match):
        fastopt.Muon(w, **options).step(np.ones((2, 2)))
    assert (w == 1).all()


# ---- with everything else that an optimizer does


@pytest.mark.parametrize("through", ["dict", "file", "pickle", "copy"])
@pytest.mark.parametrize("options", [{}, {"state_dtype": "8bit"}])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_resumed_training_is_bit_identical(tmp_path, dtype, options, through):
    if options and dtype == "f8":
        pytest.skip("float64 states are not compressed")
    w, grads = problem((30, 41), dtype, 6)
    w = w.copy()
    opt = follow(w, grads[:3], lr=0.1, **options)
    if through in ("pickle", "copy"):
        other = pickle.loads(pickle.dumps(opt)) if through == "pickle" else copy.deepcopy(opt)
        again = other.param_groups[0]["params"]["0"]
    else:
        again = w.copy()
        other = fastopt.Muon(again, **options)
        opt.save(tmp_path / "opt.npz")
        if through == "file":
            other.load(tmp_path / "opt.npz")
        else:
            other.load_state_dict(opt.state_dict())
    for g in grads[3:]:
        opt.step(g)
        other.step(g)
    assert w.tobytes() == again.tobytes()
    for key, state in opt.state["0"].items():
        assert state.tobytes() == other.state["0"][key].tobytes()


def test_groups_frozen_and_later_parameters():
    made = {k: problem((4, 5), seed=n) for n, k in enumerate("abc")}
    (a, ga), (b, gb), (c, gc) = made.values()
    numbers = {"corrected": True, "wd": 0.0}
    ends = [
        last(a, ga[:3], **numbers),
        last(b, [gb[0], gb[2]], mu=0.5, **numbers),
        last(c, gc[2:3], **numbers),
    ]
    groups = [{"params": {"a": a}}, {"params": {"b": b}, "momentum": 0.5}]
    opt = fastopt.Muon(groups, bias_correction=True, weight_decay=0.0)
    opt.step({"a": ga[0], "b": gb[0]})
    opt.freeze("b")
    opt.step({"a": ga[1]})
    opt.unfreeze("b")
    opt.add_param_group({"params": {"c": c}})
    opt.step({"a": ga[2], "b": gb[2], "c": gc[2]})
    for w, end in zip((a, b, c), ends, strict=True):
        np.testing.assert_allclose(w, end, rtol=1e-13)


def test_a_schedule_of_the_rate():
    w, grads = problem((4, 5))
    p, m = w, 0.0
    for t, g in enumerate(grads):
        m = 0.95 * m + 0.05 * g
        p = p - 0.5**t * 0.1 * p - 0.5**t * orthogonal(0.95 * m + 0.05 * g)
    follow(w, grads, lr=fastopt.schedules.exponential(1.0, 0.5))
    np.testing.assert_allclose(w, p, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_the_rule_sees_the_gradient_after_its_stages(dtype):
    """Every option equals the plain optimizer on gradients that are changed beforehand."""

    def by_row(g, w):
        return g * np.minimum(1, 2 / np.sqrt((g * g).sum(1, keepdims=True)))

    stages = {
        "clip_norm": ({"clip_norm": 2.0}, lambda g, w: g * min(1, 2 / np.sqrt((g * g).sum()))),
        "tensor": (
            {"clip_norm": 2.0, "clip_per": "tensor"},
            lambda g, w: g * min(1, 2 / np.sqrt((g * g).sum())),
        ),
        "row": ({"clip_norm": 2.0, "clip_per": "row"}, by_row),
        "value": ({"clip_value": 0.5}, lambda g, w: np.clip(g, -0.5, 0.5)),
        "l1": ({"l1": 0.5}, lambda g, w: g + 0.5 * np.sign(w)),
        "maximize": ({"maximize": True}, lambda g, w: -g),
    }
    for name, (options, change) in stages.items():
        w, grads = problem((6, 70), dtype)
        v = w.astype("f8")
        ours, peer = fastopt.Muon(w, lr=0.1, **options), fastopt.Muon(v, lr=0.1)
        for g in grads:
            peer.step(change(g.astype("f8"), v))
            ours.step(g)
        tolerance = 3e-5 if dtype == "f4" else 1e-12
        np.testing.assert_allclose(w, v, rtol=tolerance, atol=tolerance, err_msg=name)


def test_what_is_done_beside_the_rule():
    w, grads = problem((6, 70))
    start = w.copy()
    opt = fastopt.Muon(w, lr=0.5, ema=0.75, zero_grad=True, lower=-0.5, max_norm=4.0)
    peer = fastopt.Muon(start, lr=0.5)
    average = start.copy()
    for g in grads:
        peer.step(g)
        start[...] = np.maximum(start, -0.5)
        start *= np.minimum(1, 4 / np.sqrt((start * start).sum(1, keepdims=True)))
        average = 0.75 * average + 0.25 * start
        given = g.copy()
        opt.step(given)
        assert not given.any()
    np.testing.assert_allclose(w, start, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(opt.state["0"]["ema"], average, rtol=1e-12, atol=1e-13)


def test_gradients_are_accumulated_before_they_are_averaged():
    w, grads = problem((6, 70))
    v = w.copy()
    opt = follow(w, grads, accumulate=2, lr=0.1)
    peer = fastopt.Muon(v, lr=0.1)
    for a, b in zip(grads[::2], grads[1::2], strict=True):
        peer.step((a + b) / 2)
    np.testing.assert_allclose(w, v, rtol=1e-12)
    assert opt.t == 2


def test_16_bits_with_a_float32_original_are_float32():
    bf16 = pytest.importorskip("ml_dtypes").bfloat16
    for dtype in np.float16, bf16:
        w, grads = problem((30, 41), "f4")
        low, grads = w.astype(dtype), [(g / 1000).astype(dtype) for g in grads]
        plain = low.astype("f4")
        opt = follow(low, grads, rounding="master")
        follow(plain, [g.astype("f4") for g in grads])
        np.testing.assert_array_equal(opt.state["0"]["master"], plain)


def test_float32_and_float64_matrices_mix():
    (a, ga), (b, gb) = problem((6, 7), "f4"), problem((9, 3), seed=1)
    ends = last(a, ga), last(b, gb)
    opt = fastopt.Muon({"a": a, "b": b})
    for g, h in zip(ga, gb, strict=True):
        opt.step({"a": g, "b": h})
    np.testing.assert_allclose(a, ends[0], rtol=1e-5)
    np.testing.assert_allclose(b, ends[1], rtol=1e-13)
