"""Gradients that are rows: against whole gradients, torch's sparse optimizers, and formulas."""

import copy
import math
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastopt

SHAPES = [(40,), (40, 1), (40, 3), (40, 63), (40, 64), (12, 2, 33), (7, 3000)]


def batches(shape, steps=15, count=5, seed=0, dtype="f8"):
    """Return row gradients, rows coming twice, and none in one of them."""
    r = np.random.default_rng(seed)
    found = []
    for t in range(steps):
        rows = r.integers(0, shape[0], 0 if t == 3 else count)
        found.append((rows, r.normal(size=(len(rows), *shape[1:])).astype(dtype)))
    return found


def whole(shape, rows, values):
    g = np.zeros(shape, values.dtype)
    np.add.at(g, rows, values)
    return g


def start(shape, dtype="f8", seed=1):
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(dtype)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("rule", ["SGD", "AdamW", "LAMB"])
def test_dense_is_the_whole_gradient(rule, shape, dtype):
    make = getattr(fastopt, rule)
    a, b = start(shape, dtype), start(shape, dtype)
    one, two = make(a, lr=0.1, lazy="dense"), make(b, lr=0.1)
    for rows, values in batches(shape, dtype=dtype):
        one.step((rows, values))
        two.step(whole(shape, rows, values))
    np.testing.assert_array_equal(a, b)


def test_dense_of_a_transposed_and_a_16_bit_parameter():
    a, b = start((30, 4)).T, start((30, 4)).T
    half, other = start((9, 5)).astype("f2"), start((9, 5)).astype("f2")
    one = fastopt.Adam([a, half], lr=0.1, lazy="dense")
    two = fastopt.Adam([b, other], lr=0.1)
    for (rows, values), (r2, v2) in zip(batches((4, 30)), batches((9, 5), dtype="f4"), strict=True):
        one.step([(rows, values), (r2, v2)])
        two.step([whole((4, 30), rows, values), whole((9, 5), r2, v2)])
    np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(half, other)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_row_is_adam_on_the_rows(shape, dtype):
    """Adam with decoupled decay, written out: nothing happens to a row without gradient."""
    w, expected = start(shape, dtype), start(shape, "f8").astype(dtype).astype("f8")
    m, v = np.zeros(shape), np.zeros(shape)
    opt = fastopt.AdamW(w, lr=0.05, weight_decay=0.1, lazy="row")
    for t, (rows, values) in enumerate(batches(shape, dtype=dtype), 1):
        info = opt.step((rows, values))
        assert info.t == t
        g = whole(shape, rows, values.astype("f8"))
        at = np.unique(rows)
        m[at] = 0.9 * m[at] + 0.1 * g[at]
        v[at] = 0.999 * v[at] + 0.001 * g[at] ** 2
        expected[at] -= 0.05 * 0.1 * expected[at]
        step = m[at] / (1 - 0.9**t) / (np.sqrt(v[at] / (1 - 0.999**t)) + 1e-8)
        expected[at] -= 0.05 * step
    np.testing.assert_allclose(w, expected, rtol=1e-12 if dtype == "f8" else 1e-4, atol=1e-6)


@pytest.mark.parametrize("rule", ["SparseAdam", "SGD", "Adagrad"])
@pytest.mark.parametrize("shape", [(40,), (40, 3), (40, 80)])
def test_against_torch(rule, shape):
    torch = pytest.importorskip("torch")
    w = start(shape)
    p = torch.nn.Parameter(torch.tensor(w))
    if rule == "SparseAdam":  # its eps is beside the root of the raw average
        ours = fastopt.Adam(w, lr=0.1, eps_hat=True, lazy="row")
        theirs = torch.optim.SparseAdam([p], lr=0.1)
    elif rule == "SGD":
        ours, theirs = fastopt.SGD(w, lr=0.1, lazy="row"), torch.optim.SGD([p], lr=0.1)
    else:
        ours, theirs = fastopt.Adagrad(w, lr=0.1, lazy="row"), torch.optim.Adagrad([p], lr=0.1)
    for rows, values in batches(shape):
        with torch.sparse.check_sparse_tensor_invariants():
            p.grad = torch.sparse_coo_tensor(rows[None], torch.tensor(values), shape)
        theirs.step()
        ours.step((rows, values))
    np.testing.assert_allclose(w, p.detach().numpy(), rtol=1e-12, atol=1e-13)


def rate(t):
    return 0.1 / (1 + t)


CATCHUP = {
    "L2": (fastopt.SGD, {"lr": 0.1, "weight_decay": 0.3}),
    "schedules": (fastopt.SGD, {"lr": rate, "weight_decay": lambda t: 0.1 * t}),
    "clipped": (fastopt.SGD, {"lr": rate, "weight_decay": 0.2, "clip_norm": 0.5}),
    "maximize": (fastopt.SGD, {"lr": rate, "weight_decay": 0.2, "maximize": True}),
    "elastic net": (
        fastopt.SGD,
        {"lr": rate, "weight_decay": 0.2, "l1": lambda t: 0.2 / (1 + t), "proximal": True},
    ),
    "bounds": (
        fastopt.SGD,
        {"lr": 0.1, "weight_decay": 0.1, "l1": 0.1, "proximal": True, "lower": 0.25, "upper": 2},
    ),
    "adagrad": (fastopt.Adagrad, {"lr": 0.1, "l1": 0.1, "weight_decay": 0.2, "proximal": True}),
}


@pytest.mark.parametrize("case", CATCHUP)
@pytest.mark.parametrize("shape", SHAPES)
def test_catchup_is_the_whole_gradient(case, shape):
    """Where gradient 0 moves nothing but by decay, the flushed rows are those of whole steps."""
    make, options = CATCHUP[case]
    a, b = start(shape), start(shape)
    if "lower" in options:
        a.clip(0.25, 2, out=a), b.clip(0.25, 2, out=b)
    one, two = make(a, lazy="catchup", **options), make(b, **options)
    for t, (rows, values) in enumerate(batches(shape)):
        one.step((rows, values))
        two.step(whole(shape, rows, values))
        if t % 6 == 5:
            one.flush()
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-13)
    assert not np.array_equal(a, b)
    one.flush()
    np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-13)
    before = a.copy()
    one.flush()
    np.testing.assert_array_equal(a, before)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.data())
def test_catchup_in_any_order(data):
    shape = (6, 2)
    l1 = data.draw(st.sampled_from([0.0, 0.05]))
    options = {"lr": rate, "weight_decay": 0.5, "proximal": l1 > 0, "l1": l1}
    a, b = start(shape), start(shape)
    one, two = fastopt.SGD(a, lazy="catchup", **options), fastopt.SGD(b, **options)
    for seed in range(data.draw(st.integers(1, 12))):
        rows = np.array(data.draw(st.lists(st.integers(0, 5), max_size=8)), "i4")
        values = start((len(rows), 2), seed=seed)
        kind = data.draw(st.sampled_from(["rows", "dense", "flush", "freeze", "unfreeze"]))
        if kind in ("freeze", "unfreeze"):
            getattr(one, kind)("0"), getattr(two, kind)("0")
        if kind == "flush":
            one.flush()
        one.step(whole(shape, rows, values) if kind == "dense" else (rows, values))
        two.step(whole(shape, rows, values))
    one.flush()
    np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)


def test_catchup_of_adamw():
    """The rows' decay is made up for; their averages stay as they are."""
    shape = (8, 3)
    w, expected = start(shape), start(shape)
    m, v = np.zeros(shape), np.zeros(shape)
    opt = fastopt.AdamW(w, lr=0.05, weight_decay=0.1, lazy="catchup")
    for t, (rows, values) in enumerate(batches(shape, count=3), 1):
        opt.step((rows, values))
        g, at = whole(shape, rows, values), np.unique(rows)
        expected *= 1 - 0.05 * 0.1
        m[at] = 0.9 * m[at] + 0.1 * g[at]
        v[at] = 0.999 * v[at] + 0.001 * g[at] ** 2
        expected[at] -= 0.05 * m[at] / (1 - 0.9**t) / (np.sqrt(v[at] / (1 - 0.999**t)) + 1e-8)
    opt.flush()
    np.testing.assert_allclose(w, expected, rtol=1e-12)


def test_catchup_of_much():
    """Totals that exp cannot hold."""
    a, b = np.full((3, 2), 1e300), np.full((3, 2), 1e300)
    options = {"lr": 1.0, "weight_decay": 2.0, "l1": 1e-3, "proximal": True}
    one, two = fastopt.SGD(a, lazy="catchup", **options), fastopt.SGD(b, **options)
    for t in range(1500):
        rows, values = np.array([t % 2]), np.ones((1, 2))
        one.step((rows, values))
        two.step(whole((3, 2), rows, values))
    one.flush()
    np.testing.assert_allclose(a, b, rtol=1e-9)


@pytest.mark.parametrize("lazy", ["row", "catchup", "dense"])
@pytest.mark.parametrize("shape", [(3000, 20), (500, 200), (60000,)])
def test_same_bits_for_all_threads_and_instruction_sets(lazy, shape):
    before, results = fastopt.get_isa(), []
    runs = [(isa, threads) for isa in fastopt._core.isa_available() for threads in (1, 2, 3, 4)]
    for isa, threads in runs:
        fastopt.set_isa(isa)
        w = start(shape, "f4")
        opt = fastopt.AdamW(w, lr=0.1, lazy=lazy, threads=threads, clip_norm=1.0)
        for rows, values in batches(shape, steps=4, count=shape[0] * 2 // 3, dtype="f4"):
            opt.step((rows, values))
        opt.flush()
        results.append(w)
    fastopt.set_isa(before)
    for w in results[1:]:
        np.testing.assert_array_equal(w, results[0])


def test_other_parameters_and_forms():
    e1, w1, e2, w2 = start((20, 4)), start((3,)), start((20, 4)), start((3,))
    one = fastopt.SGD({"e": e1, "w": w1}, lr=0.1, lazy="row", clip_norm=0.5, max_norm=1.0)
    two = fastopt.SGD({"e": e2, "w": w2}, lr=0.1, clip_norm=0.5)
    for rows, values in batches((20, 4)):
        g = start((3,), seed=int(rows.sum()))
        given = {"e": (list(map(int, rows)), values), "w": g}
        if rows.sum() % 2:
            given = [(rows.astype("u2"), values[:, ::-1][:, ::-1]), g]
        a = one.step(given)
        b = two.step({"e": whole((20, 4), rows, values), "w": g})
        assert a.grad_norm == pytest.approx(b.grad_norm, rel=1e-14)
        for k in {*map(int, rows)}:  # max_norm, of the rows that were stepped
            e2[k] *= min(1, 1 / np.linalg.norm(e2[k]))
        w2 *= min(1, 1 / np.linalg.norm(w2))
    np.testing.assert_allclose(e1, e2, rtol=1e-12)
    np.testing.assert_allclose(w1, w2, rtol=1e-12)


@pytest.mark.parametrize(
    "clip",
    [
        {"clip_value": 0.3},
        {"clip_norm": 0.4, "clip_per": "row"},
        {"clip_norm": 0.4, "clip_per": "tensor"},
        {"l1": 0.1},
    ],
)
@pytest.mark.parametrize("shape", [(20, 4), (20, 90)])
def test_stages(clip, shape):
    a, b = start(shape), start(shape)
    one, two = fastopt.SGD(a, lr=0.1, lazy="row", **clip), fastopt.SGD(b, lr=0.1, **clip)
    for rows, values in batches(shape):
        kept = b.copy()
        one.step((rows, values))
        two.step(whole(shape, rows, values))
        others = np.setdiff1d(np.arange(20), rows)
        b[others] = kept[others]
    np.testing.assert_allclose(a, b, rtol=1e-13)


def test_gradients_are_not_written_to():
    rows, values = np.array([1, 3]), np.ones((2, 2))
    opt = fastopt.SGD(np.ones((5, 2)), lr=0.1, lazy="row", zero_grad=True, clip_value=0.5)
    opt.step((rows, values))
    assert (values == 1).all()
    values.flags.writeable = rows.flags.writeable = False
    opt.step((rows, values))


@pytest.mark.parametrize("lazy", ["row", "catchup"])
def test_resumes(tmp_path, lazy):
    def make(w):
        return fastopt.SGD(w, lr=rate, weight_decay=0.2, l1=0.01, proximal=True, lazy=lazy)

    shape = (30, 5)
    a = start(shape)
    one = make(a)
    given = batches(shape)
    for batch in given[:8]:
        one.step(batch)
    one.save(tmp_path / "x.npz")
    b = a.copy()
    two = make(b)
    two.load(tmp_path / "x.npz")
    three = pickle.loads(pickle.dumps(make(start(shape))))
    assert three.lazy == lazy
    four = copy.deepcopy(one)
    for batch in given[8:]:
        for opt in (one, two, four):
            opt.step(batch)
    for opt in (one, two, four):
        opt.flush()
    np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(a, four.param_groups[0]["params"]["0"])


@pytest.mark.parametrize("lazy", ["row", "catchup", "dense"])
@pytest.mark.parametrize("mode", ["mask", "skip", "raise", "propagate"])
def test_nonfinite(lazy, mode):
    w = start((6, 2))
    opt = fastopt.SGD(w, lr=0.1, weight_decay=0.1, lazy=lazy, nonfinite=mode)
    before = w.copy()
    rows, values = np.array([4, 1]), np.array([[1.0, 2.0], [3.0, math.nan]])
    if mode == "raise":
        with pytest.raises(FloatingPointError, match=r"'0' is nan at index \(1, 1\)"):
            opt.step((rows, values))
    else:
        assert opt.step((rows, values)).nonfinite == 1
    opt.flush()
    if mode in ("raise", "skip"):
        np.testing.assert_array_equal(w, before)
    else:
        assert np.isnan(w[1, 1]) == (mode == "propagate")
        assert np.isfinite(np.delete(w.ravel(), 3)).all()
        assert w[4, 0] == pytest.approx(before[4, 0] * 0.99 - 0.1)


def test_refusals_change_nothing():
    w = start((5, 2))
    opt = fastopt.AdamW({"e": w}, lr=0.1, lazy="catchup")
    opt.step((np.array([1]), np.ones((1, 2))))
    before, state = w.copy(), opt.state_dict()
    ones = np.ones((1, 2))
    for grad, error, text in [
        ((np.array([5]), ones), ValueError, r"'e': row 5, at position 0, is not in \[0, 5\)"),
        ((np.array([-1]), ones), ValueError, "row -1"),
        ((np.array([1, 0, 7]), np.ones((3, 2))), ValueError, "row 7, at position 2"),
        ((np.array([2**64 - 1], "u8"), ones), ValueError, "row 18446744073709551615"),
        ((np.array([1.0]), ones), TypeError, "rows must be integers"),
        ((np.array([[1]]), ones), TypeError, "rows must be integers in one dimension"),
        ((np.array([True]), ones), TypeError, "rows must be integers"),
        ((np.array([1]), np.ones((2, 2))), ValueError, r"must be \(1, 2\)"),
        ((np.array([1]), np.ones(2)), ValueError, r"must be \(1, 2\)"),
        ((np.array([1]), ones.astype("f4")), TypeError, "values must be float64"),
        ((np.array([1]), w[:1]), ValueError, "shares memory"),
        ([(np.array([1]), ones, 3)], ValueError, "a tuple of 3"),
        ([(np.array([1]), np.ma.masked_array(ones))], TypeError, "masked"),
    ]:
        with pytest.raises(error, match=text):
            opt.step(grad)
        np.testing.assert_array_equal(w, before)
        assert opt.t == 1
    for key, array in opt.state["e"].items():
        np.testing.assert_array_equal(array, state["state"]["e"][key])
    with pytest.raises(ValueError, match=r"pass \(rows, values\) to step"):
        opt.bind((np.array([1]), ones))


def test_refused_options():
    ones = (np.array([1]), np.ones((1, 2)))
    with pytest.raises(ValueError, match="needs an optimizer with lazy="):
        fastopt.SGD(start((5, 2)), lr=0.1).step([ones])
    for options in ({"ema": 0.9}, {"accumulate": 2}, {"momentum": 0.9, "state_dtype": "8bit"}):
        with pytest.raises(ValueError, match=f"lazy='row' does not go with {[*options][-1]}"):
            fastopt.SGD(start((5, 2), "f4"), lr=0.1, lazy="row", **options)
    with pytest.raises(ValueError, match="lookahead"):
        fastopt.SGD(start((5, 2)), lr=0.1, momentum=0.9, nesterov="lookahead", lazy="row")
    for make in (fastopt.LAMB, fastopt.LARS, fastopt.ScheduleFreeSGD, fastopt.ScheduleFreeAdamW,
                 fastopt.ASGD):  # fmt: skip
        with pytest.raises(ValueError, match=f"{make.__name__}: lazy='catchup' does not go with"):
            make(start((5, 2)), lr=0.1, lazy="catchup")
    with pytest.raises(ValueError, match="lazy must be one of"):
        fastopt.SGD(start((5, 2)), lr=0.1, lazy="rows")
    for make, options, text in [
        (fastopt.Adam, {"weight_decay": 0.1}, "L2 penalty in SGD without momentum only"),
        (fastopt.SGD, {"weight_decay": 0.1, "momentum": 0.9}, "L2 penalty"),
        (fastopt.SGD, {"l1": 0.1}, "proximal=True"),
        (fastopt.SGD, {"weight_decay": 10.0}, "lr \\* weight_decay < 1"),
    ]:
        w = start((5, 2))
        opt = make(w, lr=0.1, lazy="catchup", **options)
        with pytest.raises(ValueError, match=text):
            opt.step(ones)
        np.testing.assert_array_equal(w, start((5, 2)))
    for w in (start((2, 5)).T, start((5, 2), "f4").astype("f2"), start((5, 4))[:, ::2]):
        values = np.ones((1, 2), "f4" if w.dtype == np.float16 else "f8")
        with pytest.raises(ValueError, match="use lazy='dense'"):
            fastopt.SGD(w, lr=0.1, lazy="row").step((np.array([1]), values))
    for options in ({"clip_norm": 1.0, "clip_per": "row"}, {"max_norm": 1.0}):
        with pytest.raises(ValueError, match="a vector is one row"):
            opt = fastopt.SGD(start((5,)), lr=0.1, lazy="row", **options)
            opt.step((np.array([1]), np.ones(1)))
    with pytest.raises(ValueError, match="SAM: lazy='row' does not go with it"):
        fastopt.SAM(fastopt.SGD(start((5, 2)), lr=0.1, lazy="row"))
    with pytest.raises(ValueError, match="lazy is of no use"):
        fastopt.functional.make(fastopt.SGD, lr=0.1, lazy="row")
    with pytest.raises(ValueError, match="has no rows"):
        fastopt.SGD(np.array(1.0), lr=0.1, lazy="row").step((np.array([0]), np.ones(1)))


def test_empty_parameters():
    for shape in ((0, 3), (3, 0)):
        for lazy in ("row", "catchup", "dense"):
            opt = fastopt.SGD(np.zeros(shape), lr=0.1, weight_decay=0.1, lazy=lazy)
            rows = np.arange(min(shape[0], 1))
            assert opt.step((rows, np.zeros((len(rows), *shape[1:])))).t == 1
            opt.flush()
