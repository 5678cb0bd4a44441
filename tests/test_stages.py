"""What a step does beside the rule: clipping, penalties, bounds, averages, non-finite gradients.

Expected values are written out in NumPy; every stage is also run on strided arrays and by several
threads, which must not change a bit.
"""

import math

import numpy as np
import pytest

import fastopt


def problem(shape=(37, 300), dtype="f8", seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal(shape).astype(dtype), [
        rng.standard_normal(shape).astype(dtype) * 3 for _ in range(4)
    ]


OPTIONS = {
    "clip_value": {"clip_value": 0.7},
    "clip all": {"clip_norm": 1.5},
    "clip tensor": {"clip_norm": 1.5, "clip_per": "tensor"},
    "clip row": {"clip_norm": 1.5, "clip_per": "row"},
    "l1": {"l1": 0.3},
    "proximal": {"l1": 0.3, "weight_decay": 0.2, "proximal": True},
    "box": {"lower": -0.5, "upper": 0.25},
    "max_norm": {"max_norm": 2.0},
    "ema": {"ema": 0.9},
    "ema of bounded rows": {"ema": 0.9, "max_norm": 2.0},
    "mask": {"nonfinite": "mask"},
    "zero_grad": {"zero_grad": True},
    "all": {
        "clip_value": 2.0,
        "l1": 0.01,
        "weight_decay": 0.1,
        "lower": -1.0,
        "max_norm": 9.0,
        "ema": 0.5,
        "nonfinite": "mask",
    },
}


def expected(w, grads, lr, o):
    """Plain SGD with all stages, in NumPy."""
    w, e = w.copy(), w.copy()
    clip, per = o.get("clip_norm"), o.get("clip_per", "all")
    l1, wd, prox = o.get("l1", 0), o.get("weight_decay", 0), o.get("proximal", False)
    for g in grads:
        g = g.copy()
        if clip and per == "row":
            norms = np.sqrt((g * g).reshape(len(g), -1).sum(1)).reshape(-1, *[1] * (g.ndim - 1))
            g *= np.minimum(1, clip / norms)
        elif clip:
            g *= min(1, clip / math.sqrt((g * g).sum()))
        if o.get("nonfinite") == "mask":
            g[~np.isfinite(g)] = 0
        g = np.clip(g, -o.get("clip_value", np.inf), o.get("clip_value", np.inf))
        if not prox:
            g = g + l1 * np.sign(w) + wd * w
        w = w - lr * g
        if prox:
            w = np.sign(w) * np.maximum(np.abs(w) - lr * l1, 0) / (1 + lr * wd)
        w = np.clip(w, o.get("lower", -np.inf), o.get("upper", np.inf))
        if "max_norm" in o:
            norms = np.sqrt((w * w).reshape(len(w), -1).sum(1)).reshape(-1, *[1] * (w.ndim - 1))
            w = w * np.minimum(1, o["max_norm"] / norms)
        e = o.get("ema", 0) * e + (1 - o.get("ema", 0)) * w
    return w, e


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("shape", [(37, 300), (3, 5000), (11, 2, 3)])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("name", OPTIONS)
def test_each_stage_equals_its_formula(name, order, shape, dtype):
    options = OPTIONS[name]
    w, grads = problem(shape, dtype)
    if options.get("nonfinite") == "mask":
        grads[1][1, 1], grads[2][0, 1], grads[2][1, 0] = math.nan, math.inf, -math.inf
    ours, given = w.copy(order), [g.copy(order) for g in grads]
    opt = fastopt.SGD(ours, lr=0.1, **options)
    for g in given:
        opt.step(g)
    ref, average = expected(w.astype("f8"), [g.astype("f8") for g in grads], 0.1, options)
    tolerance = {"rtol": 1e-12, "atol": 1e-14} if dtype == "f8" else {"rtol": 2e-5, "atol": 2e-6}
    np.testing.assert_allclose(ours, ref, **tolerance)
    if "ema" in options:
        np.testing.assert_allclose(opt.state["0"]["ema"], average, **tolerance)
    for g, before in zip(given, grads, strict=True):
        np.testing.assert_array_equal(g, 0 if name == "zero_grad" else before)


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("cls", [fastopt.SGD, fastopt.Adam])
def test_threads_strides_and_instruction_sets_do_not_change_a_bit(name, cls):
    w, grads = problem((61, 1500), "f4")
    seen = set()
    before = fastopt.get_isa()
    for isa in fastopt.isa_available():
        fastopt.set_isa(isa)
        for threads in 1, 2, 3:
            for strided in False, True:
                owner = np.zeros((122, 1500), "f4")
                ours = owner[::2] if strided else owner[:61]
                ours[...] = w
                opt = cls(ours, lr=0.1, threads=threads, **OPTIONS[name])
                for g in grads:
                    opt.step(np.repeat(g, 2, 0)[::2] if strided else g.copy())
                average = opt.state["0"].get("ema", ours)
                seen.add(ours.tobytes() + average.tobytes())
    fastopt.set_isa(before)
    assert len(seen) == 1


def test_row_norms_are_right_where_squares_overflow():
    for dtype, huge in ("f4", 1e30), ("f8", 1e300), ("f8", 1e-300):
        w, g = np.zeros((2, 4), dtype), np.full((2, 4), huge, dtype)
        g[1] = 0
        fastopt.SGD(w, lr=1.0, clip_norm=huge / 2, clip_per="row").step(g)
        np.testing.assert_allclose(w[0], -huge / 4, rtol=1e-6)
        assert not w[1].any()


def test_a_vector_is_one_row_and_a_scalar_too():
    for shape in (5,), ():
        w, g = np.zeros(shape), np.full(shape, 3.0)
        fastopt.SGD(w, lr=1.0, clip_norm=1.0, clip_per="row").step(g)
        np.testing.assert_allclose(np.sqrt((w * w).sum()), 1, rtol=1e-15)
        w = np.full(shape, 2.0)
        fastopt.SGD(w, lr=0.0, max_norm=1.0).step(g)
        np.testing.assert_allclose(np.sqrt((w * w).sum()), 1, rtol=1e-15)


def test_clip_by_value_bounds_the_gradient_before_l2_and_whatever_its_sign():
    w = np.array([10.0, -10.0])
    fastopt.SGD(w, lr=1.0, clip_value=1.0, weight_decay=0.1, maximize=True).step(
        np.array([5.0, -0.5])
    )
    np.testing.assert_allclose(w, [10 + 1 - 1, -10 - 0.5 + 1], rtol=1e-15)


@pytest.mark.parametrize("per", ["all", "tensor", "row"])
def test_without_clip_norm_nothing_is_clipped_also_after_it_was(per):
    g = np.full((3, 4), 2.0)
    w = np.zeros((3, 4))
    opt = fastopt.SGD(w, lr=1.0, clip_per=per)
    opt.step(g)
    np.testing.assert_array_equal(w, -g)
    opt.clip_norm = 1.0
    opt.step(g)
    at = w.copy()
    assert (at > -3).all()
    opt.clip_norm = None
    opt.step(g)
    np.testing.assert_array_equal(w, at - g)


def test_clip_value_and_clip_norm_exclude_each_other():
    with pytest.raises(ValueError, match="clip_norm and clip_value: pass one"):
        fastopt.SGD(np.ones(2), lr=1.0, clip_norm=1.0, clip_value=1.0)
    opt = fastopt.SGD(np.ones(2), lr=1.0, clip_norm=1.0)
    with pytest.raises(ValueError, match="pass one"):
        opt.clip_value = 1.0


@pytest.mark.parametrize("many", [3, 100_000])
def test_nonfinite_gradients_are_counted_masked_skipped_or_raised(many):
    g = np.zeros(many)
    g[1], g[-1] = math.nan, math.inf
    for strided in False, True:
        grad = np.repeat(g, 2)[::2] if strided else g
        w = np.ones(many)
        opt = fastopt.Adam({"w": w}, lr=0.1)
        info = opt.step({"w": grad})
        assert info.nonfinite == 2 and not info.skipped and np.isnan(w[[1, -1]]).all()

        w = np.ones(many)
        info = fastopt.Adam({"w": w}, lr=0.1, nonfinite="mask").step({"w": grad})
        assert info.nonfinite == 2 and (w == 1).all()

        for clip in None, 1.0:
            w = np.ones(many)
            opt = fastopt.Adam({"w": w}, lr=0.1, nonfinite="skip", clip_norm=clip)
            info = opt.step({"w": grad})
            assert (info.nonfinite, info.skipped, info.t, opt.t) == (2, True, 0, 0)
            assert (w == 1).all() and not opt.state["w"]["exp_avg"].any()
            assert not opt.step({"w": np.ones(many)}).skipped and opt.t == 1

        opt = fastopt.Adam({"w": w}, lr=0.1, nonfinite="raise")
        with pytest.raises(FloatingPointError, match=r"gradient of 'w' is nan at index \(1,\)"):
            opt.step({"w": grad})
        assert opt.t == 0 and not opt.state["w"]["exp_avg"].any()


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("per", ["all", "tensor", "row"])
def test_what_is_masked_is_not_in_the_norms(per, order, bad):
    w, grads = problem((40, 90))
    ours = w.copy(order)
    opt = fastopt.SGD(ours, lr=0.1, clip_norm=1.5, clip_per=per, nonfinite="mask")
    for g in grads:
        g[3, 5] = g[7, 2] = bad
        info = opt.step(g.copy(order))
        g[3, 5] = g[7, 2] = 0
        assert info.nonfinite == 2
        assert per != "all" or info.grad_norm == pytest.approx(math.sqrt((g * g).sum()))
    ref, _ = expected(w, grads, 0.1, {"clip_norm": 1.5, "clip_per": per})
    np.testing.assert_allclose(ours, ref, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("nonfinite", ["propagate", "mask"])
def test_what_clip_value_makes_finite_is_counted_too(nonfinite):
    w = np.zeros(5000)
    g = np.full(5000, -3.0)
    g[[1, 7, 4999]] = math.inf, -math.inf, math.nan
    opt = fastopt.SGD(w, lr=1.0, clip_value=2.0, nonfinite=nonfinite)
    assert opt.step(g).nonfinite == 3
    g = g if nonfinite == "propagate" else np.where(np.isfinite(g), g, 0)
    np.testing.assert_array_equal(w, -np.clip(g, -2, 2))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_all_that_is_not_finite_is_counted_and_nothing_else(dtype):
    for n in 1, 7, 8, 65, 3000:
        huge = np.full(n, np.finfo(dtype).max, dtype)  # whose sum is not finite
        assert fastopt.SGD(np.ones(n, dtype), lr=0.0).step(huge).nonfinite == 0
        both = np.full(n, math.inf, dtype)
        both[::2] = -math.inf
        assert fastopt.SGD(np.ones(n, dtype), lr=0.0).step(both).nonfinite == n
        for k in {0, n // 2, n - 1}:
            for bad in math.nan, math.inf, -math.inf:
                g = np.ones(n, dtype)
                g[k] = bad
                assert fastopt.SGD(np.ones(n, dtype), lr=0.0).step(g).nonfinite == 1


def test_raise_names_the_index_of_a_transposed_gradient():
    w, g = np.zeros((4, 3)).T, np.zeros((4, 3)).T
    g[2, 1] = -math.inf
    opt = fastopt.SGD({"a": w}, lr=1.0, nonfinite="raise")
    with pytest.raises(FloatingPointError, match=r"'a' is -inf at index \(2, 1\)"):
        opt.step({"a": g})


def test_averaged_puts_the_average_in_and_the_weights_back():
    w, grads = problem((5, 4))
    opt = fastopt.SGD({"w": w}, lr=0.1, ema=0.5)
    for g in grads:
        opt.step({"w": g})
    before, average = w.copy(), opt.state["w"]["ema"].copy()
    with pytest.raises(KeyError, match="inside"), opt.averaged():
        np.testing.assert_array_equal(w, average)
        raise KeyError("inside")
    np.testing.assert_array_equal(w, before)
    with pytest.raises(ValueError, match="no average is kept"), fastopt.SGD(w, lr=1.0).averaged():
        pass


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("cls", [fastopt.SGD, fastopt.AdamW])
def test_accumulated_gradients_equal_their_mean(cls, dtype):
    w, grads = problem((50, 60), dtype)
    other = w.copy()
    opt, peer = cls(w, lr=0.1, accumulate=4, clip_norm=2.0), cls(other, lr=0.1, clip_norm=2.0)
    for _ in range(2):
        infos = [opt.step(g) for g in grads]
        mean = grads[0] + grads[1] + grads[2] + grads[3]
        info = peer.step((mean / 4).astype(dtype))
        assert [i.skipped for i in infos] == [True] * 3 + [False]
        assert infos[-1].grad_norm == pytest.approx(info.grad_norm, rel=1e-6)
        assert infos[-1].clip_coef == pytest.approx(info.clip_coef, rel=1e-6)
    assert opt.t == 2
    np.testing.assert_allclose(w, other, rtol=1e-5 if dtype == "f4" else 1e-13, atol=1e-6)


def test_a_masked_element_leaves_the_other_accumulated_gradients_of_it():
    w = np.zeros(3)
    opt = fastopt.SGD(w, lr=1.0, accumulate=3, nonfinite="mask")
    bad = [
        opt.step(np.array(g, "f8")).nonfinite
        for g in ([math.nan, 1, -math.inf], [3, 2, 3], [6, math.inf, 3])
    ]
    np.testing.assert_array_equal(w, [-3, -1, -2])
    assert bad == [2, 0, 1]
    opt = fastopt.SGD(w, lr=1.0, accumulate=2)
    bad = [opt.step(np.array([math.nan, x, 1])).nonfinite for x in (1, math.inf)]
    assert bad == [1, 2] and np.isnan(w[0])


def test_accumulation_resumes_in_the_middle():
    w, grads = problem((5, 4))
    other = w.copy()
    opt = fastopt.Adam(w, accumulate=4)
    opt.step(grads[0])
    twin = fastopt.Adam(other, accumulate=4)
    twin.load_state_dict(opt.state_dict())
    for g in grads[1:]:
        opt.step(g)
        twin.step(g)
    assert opt.t == twin.t == 1 and w.tobytes() == other.tobytes()


def test_frozen_parameters_need_no_gradient_and_keep_their_own_time():
    a, b, c = (np.ones(3) for _ in range(3))
    opt = fastopt.Adam({"a": a, "b": b}, lr=0.1)
    opt.freeze("b")
    for _ in range(50):
        opt.step({"a": np.ones(3)})
    assert (b == 1).all() and (a < 1).all() and not opt.state["b"]["exp_avg"].any()
    opt.step([np.ones(3), None])
    opt.unfreeze("b")
    with pytest.raises(ValueError, match="gradient of 'b' is missing"):
        opt.step({"a": np.ones(3)})
    fresh = fastopt.Adam(c, lr=0.1)
    for g in np.ones(3), np.full(3, -0.3):
        opt.step({"a": np.ones(3), "b": g})
        fresh.step(g)
    assert b.tobytes() == c.tobytes()
    with pytest.raises(ValueError, match="no parameter is named 'bb'; did you mean 'b'"):
        opt.freeze("bb")


def test_frozen_parameters_accumulate_nothing():
    a, b = np.zeros(2), np.zeros(2)
    opt = fastopt.SGD({"a": a, "b": b}, lr=1.0, accumulate=2)
    both = {"a": np.ones(2), "b": np.ones(2)}
    opt.step(both)
    opt.freeze("b")
    opt.step({"a": np.ones(2)})
    opt.step(both)
    opt.step([np.ones(2), None])
    assert (a == -2).all() and not b.any() and not opt.state["b"]["accumulated"].any()
    opt.unfreeze("b")
    opt.step(both)
    opt.step(both)
    assert opt.t == 3 and (a == -3).all() and (b == -1).all()


def test_frozen_time_survives_saving(tmp_path):
    a, b = np.ones(3), np.ones(3)
    opt = fastopt.Adam({"a": a, "b": b}, lr=0.1)
    opt.freeze("b")
    for _ in range(5):
        opt.step({"a": np.ones(3)})
    opt.unfreeze("b")
    opt.save(tmp_path / "s")
    a2, b2 = a.copy(), b.copy()
    twin = fastopt.Adam({"a": a2, "b": b2}, lr=0.1)
    twin.load(tmp_path / "s")
    for one in opt, twin:
        one.step({"a": np.ones(3), "b": np.full(3, 0.5)})
    assert a.tobytes() == a2.tobytes() and b.tobytes() == b2.tobytes()


def test_added_groups_start_at_their_first_step():
    a, b, c = (np.ones(3) for _ in range(3))
    opt = fastopt.Adam({"a": a}, lr=0.1)
    for _ in range(10):
        opt.step({"a": np.ones(3)})
    opt.add_param_group({"params": {"b": b}, "lr": 0.3})
    assert [g["lr"] for g in opt.param_groups] == [0.1, 0.3]
    fresh = fastopt.Adam(c, lr=0.3)
    for _ in range(3):
        opt.step({"a": np.ones(3), "b": np.full(3, 2.0)})
        fresh.step(np.full(3, 2.0))
    assert b.tobytes() == c.tobytes() and opt.t == 13
    for wrong, match in [
        ({"params": {"b": c}}, "'b' is in two groups"),
        ({"params": {"d": a}}, "share memory"),
        ({"params": {"d": c}, "rate": 1}, "unknown hyper-parameter 'rate'"),
        ({"params": {"d": c}, "amsgrad": True}, "amsgrad must be the same"),
        ([c], "must be a mapping with 'params'"),
    ]:
        with pytest.raises((ValueError, TypeError), match=match):
            opt.add_param_group(wrong)
    assert len(opt.param_groups) == 2 and list(opt.state) == ["a", "b"]
    opt.step({"a": np.ones(3), "b": np.ones(3)})


def test_hooks_are_called_until_they_are_removed():
    w, seen = np.zeros(2), []
    opt = fastopt.SGD(w, lr=1.0)
    remove = opt.add_step_hook(
        before=lambda o, g: seen.append(("before", float(w[0]))),
        after=lambda o, info: seen.append(("after", info.t, float(w[0]))),
    )
    opt.step(np.ones(2))
    assert seen == [("before", 0.0), ("after", 1, -1.0)]
    remove()
    opt.step(np.ones(2))
    assert len(seen) == 2

    def refuse(opt, grads):
        raise RuntimeError("no")

    opt.add_step_hook(before=refuse)
    with pytest.raises(RuntimeError, match="no"):
        opt.step(np.ones(2))
    assert opt.t == 2 and w[0] == -2
    with pytest.raises(TypeError, match="must be callable"):
        opt.add_step_hook(before=3)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"l1": -1}, "l1 must be a finite number >= 0"),
        ({"lower": "a"}, "lower must be None or a finite number"),
        ({"lower": 2, "upper": 1}, "lower must be <= upper"),
        ({"max_norm": 0}, "max_norm must be None or a finite number > 0"),
        ({"clip_per": "column"}, "clip_per must be one of 'all', 'tensor', 'row'"),
        ({"nonfinite": "ignore"}, "nonfinite must be one of"),
        ({"ema": 1.0}, r"ema must be a finite number in \[0, 1\)"),
        ({"accumulate": 0}, "accumulate must be at least 1"),
        ({"zero_grad": 1}, "zero_grad must be True or False"),
        ({"rounding": "up"}, "rounding must be one of"),
        ({"state_dtype": "int8"}, "state_dtype must be one of None, 'bfloat16', '8bit'"),
        ({"state_dtype": "8bit"}, "needs a rule with averages"),
        ({"proximal": 1}, "proximal must be True or False"),
    ],
)
def test_wrong_options_are_refused_by_name(options, match):
    w = np.ones(2)
    with pytest.raises((ValueError, TypeError), match=match):
        fastopt.SGD(w, lr=1.0, **options).step(np.ones(2))
    assert (w == 1).all()


def test_zero_grad_refuses_read_only_gradients_before_anything_changes():
    w, g = np.ones(2), np.ones(2)
    g.flags.writeable = False
    with pytest.raises(ValueError, match="gradient of '0' is read-only"):
        fastopt.SGD(w, lr=1.0, zero_grad=True).step(g)
    assert (w == 1).all()


def test_accumulated_gradients_are_not_bound():
    w = np.ones(2)
    opt = fastopt.SGD(w, lr=1.0, accumulate=2)
    with pytest.raises(ValueError, match=r"bind: with accumulate=2, pass each gradient to step"):
        opt.bind(np.ones(2))
    opt.step(np.ones(2))
    opt.step(np.full(2, 3.0))
    assert (w == -1).all()


@pytest.mark.parametrize("nonfinite", ["skip", "raise"])
def test_what_is_not_finite_is_dropped_from_what_is_accumulated(nonfinite):
    w = np.ones(3)
    opt = fastopt.SGD(w, lr=1.0, accumulate=2, nonfinite=nonfinite)
    opt.step(np.array([1.0, math.nan, 1.0]))
    if nonfinite == "skip":
        info = opt.step(np.ones(3))
        assert info.skipped and info.nonfinite == 1
    else:
        with pytest.raises(FloatingPointError, match=r"nan at index \(1,\)"):
            opt.step(np.ones(3))
    assert (w == 1).all() and opt.t == 0
    for _ in range(2):
        info = opt.step(np.full(3, 0.5))
    assert (w == 0.5).all() and opt.t == 1 and not info.skipped


@pytest.mark.parametrize("wrong", ["lr", "ema", "gradient"])
def test_an_error_in_the_last_of_accumulated_gradients_adds_nothing(wrong):
    bad, w, grads = [], *problem((5, 4))
    other = w.copy()
    opt = fastopt.Adam(
        w,
        lr=lambda t: -1.0 if "lr" in bad else 0.1,
        ema=lambda t: 2.0 if "ema" in bad else 0.5,
        accumulate=2,
    )
    twin = fastopt.Adam(other, lr=0.1, ema=0.5, accumulate=2)
    for k, g in enumerate(grads):
        if k % 2:
            before = [s.copy() for s in opt.state["0"].values()]
            bad.append(wrong)
            with pytest.raises(ValueError, match=f"{wrong} "):
                opt.step(g[:1] if wrong == "gradient" else g)
            bad.clear()
            for now, then in zip(opt.state["0"].values(), before, strict=True):
                assert now.tobytes() == then.tobytes()
        opt.step(g)
        twin.step(g)
    assert opt.t == twin.t == 2 and w.tobytes() == other.tobytes()


def test_a_gradient_that_is_refused_is_not_zeroed():
    w, g = np.ones(3), np.array([1.0, math.nan, 1.0])
    opt = fastopt.SGD(w, lr=1.0, zero_grad=True, nonfinite="raise")
    opt.bind(g)
    with pytest.raises(FloatingPointError, match="nan at index"):
        opt.step()
    np.testing.assert_array_equal(g, [1.0, math.nan, 1.0])
    assert (w == 1).all()


def test_skipped_gradients_are_zeroed_too():
    w, g = np.ones(3), np.array([1.0, math.nan, 1.0])
    opt = fastopt.SGD(w, lr=1.0, zero_grad=True, nonfinite="skip")
    opt.bind(g)
    assert opt.step().skipped and not g.any() and (w == 1).all()
