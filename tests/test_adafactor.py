"""Adafactor against the paper's formulas, with sums; other libraries' values; torch itself."""

import copy
import json
import pickle
from pathlib import Path

import numpy as np
import pytest

import fastopt

GOLDEN = json.loads((Path(__file__).parent / "golden" / "peers.json").read_text())
CASES = [c for c in GOLDEN["cases"] if c["class"].lower() == "adafactor"]
SHAPES = {
    "matrix": (7, 9),
    "wide": (3, 5001),  # more columns than a block
    "tall": (400, 37),  # more rows than a part
    "big": (300, 2100),
    "narrow": (1000, 3),
    "column": (50, 1),
    "row": (1, 50),
    "stack": (3, 4, 5, 6),
    "kernels": (200, 30, 3, 3),  # more than one group of matrices
    "points": (70, 30, 1, 1),
    "vector": (70_001,),
    "scalar": (),
    "none": (0, 4),
}


def rms(x):
    return np.sqrt((x * x).mean())


def adafactor(
    p,
    grads,
    lr=1e-2,
    decay=-0.8,
    eps1=1e-30,
    eps2=1e-3,
    d=1.0,
    beta1=0.0,
    wd=0.0,
    relative=True,
    scaled=True,
    floor=False,
    factored=True,
    independent=False,
    decay_first=False,
):
    """Algorithms 4 and 5, with R and C the sums of rows and columns; yields each p."""
    rows = columns = full = m = 0.0
    for t, g in enumerate(grads, 1):
        beta = 1 - t**decay
        rho = min(lr, 1 / np.sqrt(t)) if relative else lr
        decayed = p - wd * p * (1 if independent else lr)
        size = max(eps2, rms(decayed if decay_first else p)) if scaled else 1.0
        squares = g * g + (0 if floor else eps1)
        if p.ndim >= 2 and factored:
            rows = beta * rows + (1 - beta) * squares.sum(-1, keepdims=True)
            columns = beta * columns + (1 - beta) * squares.sum(-2, keepdims=True)
            total = rows.sum(-2, keepdims=True)
            if floor:
                total = np.maximum(total, eps1 * p.shape[-1] * p.shape[-2])
            v = rows * columns / total
        else:
            v = full = beta * full + (1 - beta) * squares
        u = g / np.sqrt(np.maximum(v, eps1 * eps1) if floor else v)
        u = rho * size * u / (max(1.0, rms(u) / d) if d else 1.0)
        m = beta1 * m + (1 - beta1) * u
        p = decayed - m
        yield p


# Our keywords and the formula's.
OPTIONS = {
    "default": ({}, {}),
    "torch": (
        {"eps1": 1e-2, "eps1_form": "floor", "weight_decay": 0.1},
        {"eps1": 1e-2, "floor": True, "wd": 0.1},
    ),
    "keras": (
        {"weight_decay": 0.3, "decay_first": True, "lr": 0.3},
        {"wd": 0.3, "decay_first": True, "lr": 0.3},
    ),
    "optax": (
        {"relative_step": False, "decay": "independent", "weight_decay": 0.1, "momentum": 0.9},
        {"relative": False, "independent": True, "wd": 0.1, "beta1": 0.9},
    ),
    "unfactored": ({"min_dim_size_to_factor": 10**6}, {"factored": False}),
    "unscaled": ({"scale_parameter": False, "d": None}, {"scaled": False, "d": None}),
    "numbers": (
        {"beta2_decay": -0.5, "eps2": 2.0, "d": 0.3, "eps1": 0.5},
        {"decay": -0.5, "eps2": 2.0, "d": 0.3, "eps1": 0.5},
    ),
    "momentum": ({"momentum": 0.5}, {"beta1": 0.5}),
}


def problem(shape, dtype="f8", steps=4, seed=0):
    rng = np.random.default_rng(seed)
    sizes = 10.0 ** rng.integers(-3, 3, (steps, *shape[:-1], 1)) if shape else np.ones(steps)
    grads = [rng.standard_normal(shape) * size for size in sizes]
    return rng.standard_normal(shape).astype(dtype), [np.asarray(g, dtype) for g in grads]


def follow(w, grads, **options):
    opt = fastopt.Adafactor(w, **options)
    for g in grads:
        opt.step(g)
    return opt


def last(w, grads, **numbers):
    *_, end = adafactor(w.astype("f8"), [g.astype("f8") for g in grads], **numbers)
    return end


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_equals_the_formula(dtype, name, shape):
    ours, theirs = OPTIONS[name]
    w, grads = problem(SHAPES[shape], dtype)
    if w.size == 0:
        follow(w, grads, **ours)
        return
    end = last(w, grads, **theirs)
    follow(w, grads, **ours)
    tolerance = 3e-6 if dtype == "f4" else 1e-12
    np.testing.assert_allclose(w, end, rtol=tolerance, atol=tolerance)


def test_small_gradients_by_hand():
    """One step of two rows: R = (5, 40), C = (9, 36) in sums, V = R C / 45, RMS(U) = 1."""
    w = np.array([[3.0, 4.0], [0.0, 0.0]])
    fastopt.Adafactor(w, lr=0.1, eps1=0.0, d=None).step(np.array([[1.0, 2.0], [2.0, 6.0]]))
    v = np.array([[5 * 5, 5 * 40], [40 * 5, 40 * 40]]) / 45
    u = np.array([[1.0, 2.0], [2.0, 6.0]]) / np.sqrt(v)
    np.testing.assert_allclose(w, [[3, 4], [0, 0]] - 0.1 * 2.5 * u, rtol=1e-15)


# ---- libraries


def translated(library, kwargs):
    """Return a case's keywords in fastopt's names."""
    names = {
        "learning_rate": "lr",
        "clip_threshold": "d",
        "clipping_threshold": "d",
        "multiply_by_parameter_scale": "scale_parameter",
        "weight_decay_rate": "weight_decay",
    }
    ours = {names.get(k, k): v for k, v in kwargs.items()}
    if "eps" in ours:
        ours["eps1"], ours["eps2"] = ours.pop("eps")
    if library == "keras":
        ours.pop("relative_step", None)  # without effect there: rho has 1 / sqrt(t) in any case
    return ours


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c['library']}-{c['name']}-{c['problem']}")
def test_a_preset_equals_the_library(case):
    made = GOLDEN["problems"][case["problem"]]
    w = np.array(made["start"])
    opt = fastopt.Adafactor(
        w, preset=case["library"], **translated(case["library"], case["kwargs"])
    )
    for g, wanted in zip(made["gradients"], case["params"], strict=True):
        opt.step(np.array(g))
        np.testing.assert_allclose(w, wanted, rtol=case["rtol"], atol=case["rtol"])


def test_all_libraries_and_problems_are_there():
    seen = {(case["library"], case["problem"]) for case in CASES}
    assert seen >= {
        (library, shape)
        for library in ("torch", "keras", "optax")
        for shape in ("vector", "wide", "tall", "dead", "stack")
    } - {("optax", "tall")}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"lr": 0.1, "weight_decay": 0.1},
        {"maximize": True, "weight_decay": 0.2},
        {"d": 2.0, "beta2_decay": -0.5, "lr": 2.0},
    ],
)
def test_torch_itself_in_float64_within_1e_12(options):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    ours = {k: rng.standard_normal(s) for k, s in SHAPES.items() if k not in ("kernels", "none")}
    theirs = {k: torch.nn.Parameter(torch.tensor(a.copy())) for k, a in ours.items()}
    opt = fastopt.Adafactor(ours, preset="torch", **options)
    peer = torch.optim.Adafactor(theirs.values(), foreach=False, **options)
    for t in range(20):
        grads = {
            k: np.asarray(rng.standard_normal(a.shape) * 10.0 ** rng.integers(-9, 3) * (t != 3))
            for k, a in ours.items()
        }
        opt.step(grads)
        for k, p in theirs.items():
            p.grad = torch.tensor(grads[k])
        peer.step()
    for k, p in theirs.items():
        np.testing.assert_allclose(ours[k], p.detach().numpy(), rtol=1e-12, atol=1e-12)
        for key, state in opt.state[k].items():
            np.testing.assert_allclose(state, peer.state[p][key].numpy(), rtol=1e-12, atol=1e-14)


def test_torchs_eps_is_that_of_the_dtype():
    for dtype in "f4", "f8":
        eps = float(np.finfo(dtype).eps)
        ends = []
        for eps1 in None, eps:
            w, grads = problem((5, 6), dtype)
            follow(w, [g * 1e-9 for g in grads], eps1=eps1, eps1_form="floor")
            ends.append(w.tobytes())
        assert ends[0] == ends[1]


# ---- bits, memory, layouts


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"momentum": 0.9, "weight_decay": 0.1, "clip_norm": 5.0},
        {"clip_norm": 1.0, "clip_per": "row", "l1": 0.01, "ema": 0.9},
        {"clip_value": 0.3, "nonfinite": "mask", "eps1_form": "floor", "eps1": None},
        {"min_dim_size_to_factor": 10**6, "clip_norm": 1.0, "clip_per": "tensor"},
    ],
)
@pytest.mark.parametrize("shape", [(301, 4100), (70_000, 3), (500, 20, 6)])
def test_same_bits_with_any_threads_strides_and_instruction_set(shape, options):
    start, grads = problem(shape, "f4", 2)
    seen, before = set(), fastopt.get_isa()
    for isa in fastopt.isa_available():
        fastopt.set_isa(isa)
        for threads in 1, 2, 3:
            for strided in False, True:
                w = np.repeat(start, 2, 0)[::2] if strided else start.copy()
                opt = fastopt.Adafactor(w, threads=threads, **options)
                for g in grads:
                    opt.step(np.repeat(g, 2, -1)[..., ::2] if strided else g)
                states = b"".join(s.tobytes() for s in opt.state["0"].values())
                seen.add(w.tobytes() + states)
    fastopt.set_isa(before)
    assert len(seen) == 1


def test_states_are_rows_and_columns():
    w = np.zeros((1000, 2000), "f4")
    opt = fastopt.Adafactor({"w": w, "stack": np.zeros((2, 3, 4)), "b": np.zeros(5, "f4")})
    assert sum(s.nbytes for s in opt.state["w"].values()) == 3000 * 8
    shapes = {k: {n: s.shape for n, s in one.items()} for k, one in opt.state.items()}
    assert shapes == {
        "w": {"row_var": (1000, 1), "col_var": (1, 2000)},
        "stack": {"row_var": (2, 3, 1), "col_var": (2, 1, 4)},
        "b": {"variance": (5,)},
    }
    small = fastopt.Adafactor(np.zeros((127, 300), "f4"), preset="optax")
    assert {n: s.shape for n, s in small.state["0"].items()} == {"variance": (127, 300)}
    assert set(fastopt.Adafactor(np.zeros((128, 300)), preset="optax").state["0"]) == {
        "row_var",
        "col_var",
    }


def test_means_of_float32_are_those_of_float64():
    rng = np.random.default_rng(0)
    g = (1 + 1e-4 * rng.standard_normal((700, 5000))).astype("f4")
    opt = fastopt.Adafactor(np.ones(g.shape, "f4"), eps1=0.0)
    opt.step(g)
    squares = g.astype("f8") ** 2
    rows, columns = squares.mean(1, keepdims=True), squares.mean(0, keepdims=True)
    np.testing.assert_allclose(opt.state["0"]["row_var"], rows, rtol=1e-14)
    np.testing.assert_allclose(opt.state["0"]["col_var"], columns, rtol=1e-14)


@pytest.mark.parametrize("least", [0, 10**6])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("shape", [(30, 41), (3, 4, 5), (1, 4, 5), (3, 4, 1), (2, 3, 4, 5)])
def test_another_order_of_axes_changes_nothing_but_rounding(shape, momentum, least):
    start, grads = problem(shape)
    options = {"momentum": momentum, "min_dim_size_to_factor": least, "weight_decay": 0.1}
    options |= {"ema": 0.5} if momentum else {}
    plain, turned = start.copy(), np.asfortranarray(start)
    a = follow(plain, grads, **options)
    b = follow(turned, [np.asfortranarray(g) for g in grads], **options)
    np.testing.assert_allclose(plain, turned, rtol=1e-13, atol=1e-14)
    for key, state in a.state["0"].items():
        np.testing.assert_allclose(state, b.state["0"][key], rtol=1e-13, atol=1e-14)
    twin = copy.deepcopy(b)
    for opt in a, b, twin:
        opt.step(np.asfortranarray(grads[0]))
    np.testing.assert_array_equal(turned, twin.param_groups[0]["params"]["0"])
    np.testing.assert_allclose(plain, turned, rtol=1e-13, atol=1e-14)


# ---- what may go wrong


def test_nothing_is_divided_by_zero():
    for dtype in "f4", "f8":
        for eps1 in 0.0, 1e-30:
            for shape in (3, 4), (4,), ():
                w = np.ones(shape, dtype)
                follow(w, [np.zeros(shape, dtype)] * 3, eps1=eps1)
                assert (w == 1).all()
        g = np.full((4, 5), 1e10, dtype)
        g[1], g[:, 2] = 0, 0
        for options in {}, {"eps1": 0.0}, {"eps1": None, "eps1_form": "floor"}:
            w = np.ones((4, 5), dtype)
            follow(w, [g, g], **options)
            assert np.isfinite(w).all() and (w[1] == 1).all() and (w[:, 2] == 1).all()
            assert (w[g != 0] < 1).all()


@pytest.mark.parametrize("shape", [(40, 50), (2000,)])
@pytest.mark.parametrize("factor", [2.0**40, 2.0**-20])
def test_the_size_of_gradients_does_not_matter(shape, factor):
    """In float32, where squares of 2^80 are far from overflow, but 2^100 and more are not."""
    w, grads = problem(shape, "f4")
    v = w.copy()
    follow(w, grads, eps1=0.0)
    follow(v, [g * np.float32(factor) for g in grads], eps1=0.0)
    np.testing.assert_allclose(w, v, rtol=1e-6)


def test_squares_beyond_float32_are_averaged_in_float64():
    w, grads = problem((40, 50), "f4")
    v = w.copy()
    follow(w, grads)
    follow(v, [g * np.float32(2.0**110) for g in grads])
    np.testing.assert_allclose(w, v, rtol=1e-6)


def test_huge_gradients_are_clipped_before_they_are_squared():
    for dtype, huge in ("f4", 2.0**110), ("f8", 2.0**1000):
        w, grads = problem((20, 30), dtype)
        v = w.copy()
        follow(w, grads, clip_norm=1.0)
        follow(v, [g * np.asarray(huge, dtype) for g in grads], clip_norm=1.0)
        np.testing.assert_allclose(w, v, rtol=1e-6 if dtype == "f4" else 1e-13)


def test_parameters_whose_squares_overflow_have_their_size():
    w = np.full((3, 4), 1e200)
    fastopt.Adafactor(w, lr=0.25).step(np.ones((3, 4)))
    np.testing.assert_allclose(w, 0.75e200, rtol=1e-14)


def test_nan_reaches_its_whole_array_and_is_counted_once():
    for shape in (5, 6), (6,):
        w, other = np.ones(shape), np.ones((2, 2))
        g = np.ones(shape)
        g.flat[3] = np.nan
        info = fastopt.Adafactor({"w": w, "other": other}).step({"w": g, "other": other * 1})
        assert info.nonfinite == 1 and np.isfinite(other).all()
        assert np.isnan(w).all() if len(shape) > 1 else np.isnan(w[3])


@pytest.mark.parametrize("nonfinite", ["skip", "raise"])
def test_a_step_that_is_left_out_leaves_the_averages(nonfinite):
    w, grads = problem((5, 6))
    opt = follow(w, grads[:2], nonfinite=nonfinite)
    before = w.tobytes(), {k: s.tobytes() for k, s in opt.state["0"].items()}
    grads[2][1, 1] = np.inf
    if nonfinite == "raise":
        with pytest.raises(FloatingPointError, match="index"):
            opt.step(grads[2])
    else:
        assert opt.step(grads[2]).skipped
    opt.param_groups[0]["lr"] = lambda t: -1.0 if t else 0.1
    for bad, match in (grads[3], "lr must be"), (np.ones((5, 7)), "shape"):
        with pytest.raises(ValueError, match=match):
            opt.step(bad)
    assert before == (w.tobytes(), {k: s.tobytes() for k, s in opt.state["0"].items()})
    assert opt.t == 2


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"beta2_decay": 0.8}, "beta2_decay must be a finite number <= 0, got 0.8"),
        ({"eps1": -1.0}, "eps1 must be None or a finite number >= 0"),
        ({"eps1_form": "sum"}, "eps1_form must be 'added' or 'floor'"),
        ({"d": 0.0}, "d must be None or a finite number > 0"),
        ({"momentum": 1.5}, r"momentum must be a finite number in \[0, 1\]"),
        ({"min_dim_size_to_factor": 1.5}, "min_dim_size_to_factor must be a whole number >= 0"),
        ({"min_dim_size_to_factor": lambda t: 3}, "min_dim_size_to_factor must be constant"),
        ({"state_dtype": "8bit"}, "needs a rule with averages"),
        ({"relative_step": 1}, "relative_step must be True or False"),
    ],
)
def test_wrong_keywords(options, match):
    with pytest.raises(ValueError, match=match):
        fastopt.Adafactor(np.ones((2, 2)), **options)


def test_what_would_need_other_states_is_refused():
    w = np.ones((3, 4))
    opt = fastopt.Adafactor(w)
    opt.param_groups[0]["momentum"] = 0.9
    with pytest.raises(ValueError, match="Adafactor: momentum was 0"):
        opt.step(np.ones((3, 4)))
    opt.param_groups[0]["momentum"] = 0.0
    opt.param_groups[0]["min_dim_size_to_factor"] = 4
    with pytest.raises(ValueError, match="min_dim_size_to_factor=4 needs other states for '0'"):
        opt.step(np.ones((3, 4)))
    assert (w == 1).all() and opt.t == 0
    opt.param_groups[0]["min_dim_size_to_factor"] = 3  # needs the same
    opt.step(np.ones((3, 4)))
    groups = [{"params": np.ones(1), "min_dim_size_to_factor": 2}, {"params": np.ones(1)}]
    with pytest.raises(ValueError, match="must be the same in all groups"):
        fastopt.Adafactor(groups)


# ---- with everything else that an optimizer does


@pytest.mark.parametrize("through", ["dict", "file", "pickle", "copy"])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_resumed_training_is_bit_identical(tmp_path, dtype, momentum, through):
    shapes = {"W": (30, 41), "stack": (2, 3, 4), "b": (5,)}
    made = {k: problem(s, dtype, 6) for k, s in shapes.items()}
    params = {k: w.copy() for k, (w, _) in made.items()}
    opt = fastopt.Adafactor(params, momentum=momentum, weight_decay=0.1, lr=0.1)
    steps = [{k: grads[t] for k, (_, grads) in made.items()} for t in range(6)]
    for g in steps[:3]:
        opt.step(g)
    if through in ("pickle", "copy"):
        other = pickle.loads(pickle.dumps(opt)) if through == "pickle" else copy.deepcopy(opt)
        again = other.param_groups[0]["params"]
    else:
        again = {k: w.copy() for k, w in params.items()}
        other = fastopt.Adafactor(again, momentum=momentum, weight_decay=0.1, lr=0.1)
        opt.save(tmp_path / "opt.npz")
        if through == "file":
            other.load(tmp_path / "opt.npz")
        else:
            other.load_state_dict(opt.state_dict())
    for g in steps[3:]:
        opt.step(g)
        other.step(g)
    for k, w in params.items():
        assert w.tobytes() == again[k].tobytes()
        for key, state in opt.state[k].items():
            assert state.tobytes() == other.state[k][key].tobytes()


def test_states_of_another_kind_do_not_fit():
    state = fastopt.Adafactor(np.ones((3, 4))).state_dict()
    other = fastopt.Adafactor(np.ones((3, 4)), min_dim_size_to_factor=9)
    with pytest.raises(ValueError, match="state 'row_var' of '0' is unknown here"):
        other.load_state_dict(state)


def test_frozen_and_later_parameters_have_their_own_step_numbers():
    (a, ga), (b, gb), (c, gc) = (problem((4, 5), seed=k) for k in range(3))
    ends = [last(a, ga[:3]), last(b, [gb[0], gb[2]]), last(c, gc[2:3])]
    opt = fastopt.Adafactor({"a": a, "b": b})
    opt.step({"a": ga[0], "b": gb[0]})
    opt.freeze("b")
    opt.step({"a": ga[1]})
    opt.unfreeze("b")
    opt.add_param_group({"params": {"c": c}})
    opt.step({"a": ga[2], "b": gb[2], "c": gc[2]})
    for w, end in zip((a, b, c), ends, strict=True):
        np.testing.assert_allclose(w, end, rtol=1e-13)


def test_groups_and_schedules():
    (a, ga), (b, gb) = problem((4, 5)), problem((6, 3), seed=1)
    schedule = fastopt.schedules.exponential(0.5, 0.5)
    ends = []
    for w, grads, eps2 in (a, ga, 1e-3), (b, gb, 7.0):
        p, rows, columns = w, 0.0, 0.0
        for t, g in enumerate(grads, 1):
            beta, rho = 1 - t**-0.8, min(schedule(t - 1), t**-0.5)
            rows = beta * rows + (1 - beta) * (g * g).sum(1, keepdims=True)
            columns = beta * columns + (1 - beta) * (g * g).sum(0, keepdims=True)
            u = g / np.sqrt(rows * columns / rows.sum())
            p = p - rho * max(eps2, rms(p)) * u / max(1, rms(u))
        ends.append(p)
    opt = fastopt.Adafactor([{"params": {"a": a}}, {"params": {"b": b}, "eps2": 7.0}], lr=schedule)
    for g, h in zip(ga, gb, strict=True):
        opt.step({"a": g, "b": h})
    np.testing.assert_allclose(a, ends[0], rtol=1e-12)
    np.testing.assert_allclose(b, ends[1], rtol=1e-12)


@pytest.mark.parametrize("shape", [(6, 70), (9,)])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_the_rule_sees_the_gradient_after_its_stages(dtype, shape):
    """Every option equals the plain optimizer on gradients that are changed beforehand."""

    def rows_of(x):
        return x.reshape(1 if x.ndim == 1 else len(x), -1)

    def by_row(g, w):
        norms = np.sqrt((rows_of(g) ** 2).sum(1, keepdims=True))
        return (rows_of(g) * np.minimum(1, 2 / norms)).reshape(g.shape)

    stages = {
        "clip_norm": ({"clip_norm": 2.0}, lambda g, w: g * min(1, 2 / np.sqrt((g * g).sum()))),
        "row": ({"clip_norm": 2.0, "clip_per": "row"}, by_row),
        "value": ({"clip_value": 0.5}, lambda g, w: np.clip(g, -0.5, 0.5)),
        "mask": ({"nonfinite": "mask"}, lambda g, w: np.where(np.isfinite(g), g, 0)),
        "l1": ({"l1": 0.5}, lambda g, w: g + 0.5 * np.sign(w)),
        "maximize": ({"maximize": True}, lambda g, w: -g),
    }
    for name, (options, change) in stages.items():
        w, grads = problem(shape, dtype)
        if name == "mask":
            grads[1].flat[1], grads[2].flat[2] = np.nan, np.inf
        v = w.astype("f8")
        ours = fastopt.Adafactor(w, **options)
        peer = fastopt.Adafactor(v)
        for g in grads:
            peer.step(change(g.astype("f8"), v))
            ours.step(g)
        tolerance = 3e-5 if dtype == "f4" else 1e-12
        np.testing.assert_allclose(w, v, rtol=tolerance, atol=tolerance, err_msg=name)


def test_what_is_done_beside_the_rule():
    w, grads = problem((6, 70))
    start = w.copy()
    opt = fastopt.Adafactor(w, ema=0.75, zero_grad=True, lower=-0.5, max_norm=4.0)
    peer = fastopt.Adafactor(start)
    average = start.copy()
    for g in grads:
        peer.step(g)
        start[...] = np.maximum(start, -0.5)
        start *= np.minimum(1, 4 / np.sqrt((start * start).sum(1, keepdims=True)))
        average = 0.75 * average + 0.25 * start
        given = g.copy()
        opt.step(given)
        assert not given.any()
    np.testing.assert_allclose(w, start, rtol=1e-13)
    np.testing.assert_allclose(opt.state["0"]["ema"], average, rtol=1e-13)


def test_gradients_are_accumulated_before_they_are_squared():
    w, grads = problem((6, 70))
    v = w.copy()
    info = [follow(w, grads, accumulate=2, clip_norm=3.0)]
    peer = fastopt.Adafactor(v, clip_norm=3.0)
    for a, b in zip(grads[::2], grads[1::2], strict=True):
        peer.step((a + b) / 2)
    np.testing.assert_allclose(w, v, rtol=1e-13)
    assert info[0].t == 2


def test_16_bits_with_a_float32_original_are_float32():
    bf16 = pytest.importorskip("ml_dtypes").bfloat16
    for dtype in np.float16, bf16:
        w, grads = problem((30, 41), "f4")
        low, grads = w.astype(dtype), [(g / 1000).astype(dtype) for g in grads]
        plain = low.astype("f4")
        opt = follow(low, grads, rounding="master", momentum=0.9)
        follow(plain, [g.astype("f4") for g in grads], momentum=0.9)
        np.testing.assert_array_equal(opt.state["0"]["master"], plain)


@pytest.mark.parametrize("dtype", ["bfloat16", "8bit"])
def test_momentum_may_be_compressed(dtype):
    w, grads = problem((30, 41), "f4")
    v = w.copy()
    start = w.copy()
    follow(w, grads, momentum=0.9, state_dtype=dtype)
    follow(v, grads, momentum=0.9)
    assert rms(w - v) < 0.05 * rms(v - start)
