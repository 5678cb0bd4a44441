"""Losses against their formulas in float64, torch, SciPy, scikit-learn and numerical gradients."""

import itertools

import numpy as np
import pytest
from scipy.special import expit, log_softmax, softmax

import fastopt
from fastopt import _core, losses
from fastopt.calculus import assert_grad

EPS = {"f4": 2.0**-23, "f8": 2.0**-52}
SHAPES = [(1, 1), (1, 2), (3, 3), (7, 10), (100, 31), (33, 32), (5, 100), (2, 2048), (2, 5000)]


def softmax_formula(s, y, a):
    value = -log_softmax(s, axis=1)[np.arange(len(y)), y]
    g = softmax(s, axis=1)
    g[np.arange(len(y)), y] -= 1
    return value, g


def weston_watkins_formula(s, y, a):
    value, g = np.zeros(len(y)), np.zeros(s.shape)
    for i, row in enumerate(s):
        for j in range(len(row)):
            margin = row[j] - row[y[i]] + a
            if j != y[i] and margin > 0:
                value[i] += margin
                g[i, j] += 1
                g[i, y[i]] -= 1
    return value, g


def crammer_singer_formula(s, y, a):
    value, g = np.zeros(len(y)), np.zeros(s.shape)
    for i, row in enumerate(s):
        others = [j for j in range(len(row)) if j != y[i]]
        if others:
            j = max(others, key=lambda j: row[j])
            margin = row[j] - row[y[i]] + a
            if margin > 0:
                value[i], g[i, j], g[i, y[i]] = margin, 1, -1
    return value, g


CLASSES = {
    "softmax_cross_entropy": (softmax_formula, {}),
    "multiclass_hinge": (weston_watkins_formula, {"delta": 1.0}),
    "crammer_singer": (crammer_singer_formula, {"delta": 1.0}),
}
ELEMENTS = {
    "logistic": lambda s, y: (np.logaddexp(0, -y * s), -y * expit(-y * s)),
    "hinge": lambda s, y: (np.maximum(0, 1 - y * s), np.where(y * s < 1, -y, 0)),
    "squared_hinge": lambda s, y: (
        np.maximum(0, 1 - y * s) ** 2,
        -2 * y * np.maximum(0, 1 - y * s),
    ),
    "mse": lambda s, y: ((s - y) ** 2, 2 * (s - y)),
    "mae": lambda s, y: (np.abs(s - y), np.sign(s - y)),
    "huber": lambda s, y: (
        np.where(np.abs(s - y) <= 1, (s - y) ** 2 / 2, np.abs(s - y) - 0.5),
        np.clip(s - y, -1, 1),
    ),
    "quantile": lambda s, y: (
        np.where(s < y, 0.3 * (y - s), 0.7 * (s - y)),
        np.where(s < y, -0.3, np.where(s > y, 0.7, 0)),
    ),
    "poisson": lambda s, y: (np.exp(s) - y * s, np.exp(s) - y),
}
OPTIONS = {"quantile": {"quantile": 0.3}}
SIGNED = ("logistic", "hinge", "squared_hinge")


def targets(name, rng, shape):
    if name in SIGNED:
        return rng.choice([-1.0, 1.0], shape)
    return rng.integers(0, 5, shape).astype(float) if name == "poisson" else rng.normal(size=shape)


def loss(name, *arguments, **options):
    return getattr(losses, name)(*arguments, **OPTIONS.get(name, {}), **options)


@pytest.fixture
def rng():
    return np.random.default_rng(3)


@pytest.fixture(params=["f4", "f8"])
def dtype(request):
    return request.param


@pytest.fixture
def every_isa():
    before = _core.get_isa()
    yield _core.isa_available()
    _core.set_isa(before)


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("weighted", [False, True])
def test_losses_of_classes_are_their_formulas(rng, name, shape, dtype, weighted):
    formula, options = CLASSES[name]
    scores = (3 * rng.normal(size=shape)).astype(dtype)
    y = rng.integers(0, shape[1], shape[0])
    w = rng.random(shape[0]).astype(dtype) if weighted else None
    each = np.ones(shape[0]) if w is None else w.astype(float)
    values, gradients = formula(scores.astype(float), y, 1.0)
    tolerance = 40 * EPS[dtype]
    for reduction, total in (("mean", each.sum()), ("sum", 1.0)):
        value, g = loss(name, scores, y, weight=w, reduction=reduction, **options)
        assert value == pytest.approx((values * each).sum() / total, rel=tolerance, abs=tolerance)
        assert g.dtype == scores.dtype
        wanted = gradients * each[:, None] / total
        np.testing.assert_allclose(g, wanted, rtol=tolerance, atol=tolerance * shape[1] / total)
    value, g = loss(name, scores, y, weight=w, reduction="none")
    assert value.dtype == scores.dtype
    np.testing.assert_allclose(value, values * each, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", ELEMENTS)
@pytest.mark.parametrize("shape", [(), (1,), (17,), (5, 7), (2047,), (2049,), (3, 5000)], ids=str)
@pytest.mark.parametrize("weighted", [False, True])
def test_losses_of_elements_are_their_formulas(rng, name, shape, dtype, weighted):
    scores = np.asarray(3 * rng.normal(size=shape)).astype(dtype)
    y = np.asarray(targets(name, rng, shape)).astype(dtype)
    w = np.asarray(rng.random(shape)).astype(dtype) if weighted else None
    each = np.ones(shape) if w is None else w.astype(float)
    values, gradients = ELEMENTS[name](scores.astype(float), y.astype(float))
    tolerance = 20 * EPS[dtype]
    for reduction, total in (("mean", each.sum()), ("sum", 1.0)):
        value, g = loss(name, scores, y, weight=w, reduction=reduction)
        assert value == pytest.approx((values * each).sum() / total, rel=100 * tolerance)
        scale = np.max(np.abs(gradients)) / total
        np.testing.assert_allclose(
            g, gradients * each / total, rtol=tolerance, atol=tolerance * scale
        )
    value, g = loss(name, scores, y, weight=w, reduction="none")
    atol = tolerance * (1 + np.max(np.abs(values)))
    np.testing.assert_allclose(value, values * each, rtol=tolerance, atol=atol)
    assert value.shape == g.shape == shape


def test_torch_says_the_same(rng, dtype):
    torch = pytest.importorskip("torch")
    f = torch.nn.functional
    scores = rng.normal(size=(40, 12)).astype(dtype)
    y, counts = rng.integers(0, 12, 40), rng.integers(0, 4, (40, 12)).astype(dtype)
    other = rng.normal(size=(40, 12)).astype(dtype)
    signs = rng.choice([-1.0, 1.0], (40, 12)).astype(dtype)
    t = lambda a: torch.tensor(a)  # noqa: E731
    for ours, theirs in (
        (losses.softmax_cross_entropy(scores, y), lambda s: f.cross_entropy(s, t(y))),
        # torch divides the hinges by the number of classes
        (losses.multiclass_hinge(scores, y), lambda s: 12 * f.multi_margin_loss(s, t(y))),
        (losses.logistic(scores, signs), lambda s: f.soft_margin_loss(s, t(signs))),
        (losses.mse(scores, other), lambda s: f.mse_loss(s, t(other))),
        (losses.mae(scores, other), lambda s: f.l1_loss(s, t(other))),
        (losses.huber(scores, other, delta=0.7), lambda s: f.huber_loss(s, t(other), delta=0.7)),
        (losses.poisson(scores, counts), lambda s: f.poisson_nll_loss(s, t(counts))),
    ):
        s = torch.tensor(scores, requires_grad=True)
        value = theirs(s)
        value.backward()
        tolerance = 20 * EPS[dtype]
        assert ours[0] == pytest.approx(value.item(), rel=tolerance)
        np.testing.assert_allclose(ours[1], s.grad.numpy(), rtol=tolerance, atol=tolerance / 40)


def test_scikit_learn_says_the_same(rng):
    metrics = pytest.importorskip("sklearn.metrics")
    scores, y, w = rng.normal(size=(50, 6)), rng.integers(0, 6, 50), rng.random(50)
    p = softmax(scores, axis=1)
    wanted = metrics.log_loss(y, p, sample_weight=w)
    assert losses.softmax_cross_entropy(scores, y, weight=w)[0] == pytest.approx(wanted, rel=1e-12)
    wanted = metrics.hinge_loss(y, scores, sample_weight=w)
    assert losses.crammer_singer(scores, y, weight=w)[0] == pytest.approx(wanted, rel=1e-12)
    wanted = metrics.mean_pinball_loss(y, scores[:, 0], sample_weight=w, alpha=0.2)
    got = losses.quantile(scores[:, 0], y, weight=w, quantile=0.2)[0]
    assert got == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize("name", [*CLASSES, *ELEMENTS])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_gradients_are_those_of_the_values(rng, name, reduction):
    scores = rng.normal(size=(6, 5))
    y = rng.integers(0, 5, 6) if name in CLASSES else targets(name, rng, (6, 5))
    w = rng.random(6) if name in CLASSES else rng.random((6, 5))
    assert_grad(lambda s: loss(name, s, y, weight=w, reduction=reduction), True, scores)


@pytest.mark.parametrize("name", [*CLASSES, *ELEMENTS])
@pytest.mark.parametrize("shape", [(513, 9), (3, 4099), (40, 3001)], ids=str)
def test_same_bits_everywhere_in_place_and_out(rng, name, shape, dtype, every_isa):
    scores = (4 * rng.normal(size=shape)).astype(dtype)
    of_classes = name in CLASSES
    y = rng.integers(0, shape[1], shape[0]) if of_classes else targets(name, rng, shape)
    found = set()
    for isa, threads in itertools.product(every_isa, (1, 2, 3)):
        _core.set_isa(isa)
        fastopt.set_num_threads(threads)
        try:
            for out in (None, np.full(shape, np.nan, dtype), scores.copy()):
                source = out if out is not None and not np.isnan(out).any() else scores
                value, g = loss(name, source, y, out=out)
                assert out is None or g is out
                found.add((value, g.tobytes()))
        finally:
            fastopt.set_num_threads(None)
    assert len(found) == 1


def test_large_scores_do_not_overflow(dtype):
    top = float(np.finfo(dtype).max) / 4
    for size in (1e3, 1e30, top):
        value, g = losses.softmax_cross_entropy(np.array([[size, -size, 0]], dtype), [1])
        assert value == pytest.approx(2 * size) and g.tolist() == [[1, -1, 0]]
        value, g = losses.softmax_cross_entropy(np.array([[size, -size, 0]], dtype), [0])
        assert value == 0 and not g.any()
        value, g = losses.logistic(np.array([size, -size], dtype), [1, 1], reduction="none")
        assert value.tolist() == [0, np.dtype(dtype).type(size)] and g.tolist() == [0, -1]
    assert losses.poisson(np.array([1e3], dtype), [1])[0] == np.inf
    masked, g = losses.softmax_cross_entropy(np.array([[0, -np.inf, 0]], dtype), [0])
    assert masked == pytest.approx(np.log(2)) and g.tolist() == [[-0.5, 0, 0.5]]


def test_small_losses_keep_their_digits(dtype):
    for gap in (5, 20, 30):
        value, _ = losses.softmax_cross_entropy(np.array([[gap, 0.0]], dtype), [0])
        assert value == pytest.approx(np.log1p(np.exp(-gap)), rel=1e-3 if gap > 20 else 1e-6)
        value, _ = losses.logistic(np.array([gap], dtype), [1])
        assert value == pytest.approx(np.log1p(np.exp(-gap)), rel=10 * EPS[dtype])


@pytest.mark.parametrize("name", [*CLASSES, *ELEMENTS])
def test_what_is_not_a_number_becomes_none(rng, name, dtype):
    scores = rng.normal(size=(4, 40)).astype(dtype)
    scores[1, 2] = np.nan
    of_classes = name in CLASSES
    y = np.array([3, 5, 2, 0]) if of_classes else targets(name, rng, (4, 40))
    value, g = loss(name, scores, y, reduction="none")
    assert np.isnan(loss(name, scores, y)[0])
    if of_classes:
        assert np.isnan(value).tolist() == [False, True, False, False]
        assert np.isnan(g[1]).any() and np.isfinite(g[[0, 2, 3]]).all()
    else:
        assert np.isnan(value[1, 2]) and np.isnan(g[1, 2])
        assert np.isnan(value).sum() == np.isnan(g).sum() == 1


def test_layouts_and_types_of_labels(rng):
    scores = rng.normal(size=(9, 4))
    y = rng.integers(0, 4, 9)
    wanted = losses.softmax_cross_entropy(scores, y)
    for s in (np.asfortranarray(scores), np.repeat(scores, 2, axis=0)[::2], scores.tolist()):
        for labels in (y.astype("i4"), y.astype("u1"), y.tolist(), np.repeat(y, 2)[::2]):
            value, g = losses.softmax_cross_entropy(s, labels)
            assert value == wanted[0] and np.array_equal(g, wanted[1])
    assert losses.softmax_cross_entropy(np.zeros((0, 3)), [], reduction="sum")[0] == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s, y: losses.softmax_cross_entropy(s[0], y), r"shape \(n, classes\)"),
        (lambda s, y: losses.softmax_cross_entropy(s, y[:2]), "y must have shape"),
        (lambda s, y: losses.softmax_cross_entropy(s, y + 3), r"y must be in \[0, 3\), got 3 at 0"),
        (lambda s, y: losses.softmax_cross_entropy(s, y - 9), r"y must be in \[0, 3\), got -9"),
        (lambda s, y: losses.softmax_cross_entropy(s, y * 1.0), "y must be integers"),
        (lambda s, y: losses.softmax_cross_entropy(s.astype("f2"), y), "scores must be float32"),
        (lambda s, y: losses.softmax_cross_entropy(s, y, reduction="max"), "reduction"),
        (lambda s, y: losses.softmax_cross_entropy(s, y, weight=[1, 1, -1, 1]), "not negative"),
        (lambda s, y: losses.softmax_cross_entropy(s, y, weight=[0, 0, 0, 0]), "weight that"),
        (lambda s, y: losses.softmax_cross_entropy(s, y, weight=[1, 1]), "weight must have shape"),
        (lambda s, y: losses.softmax_cross_entropy(s, y, out=s.T), "out must"),
        (lambda s, y: losses.softmax_cross_entropy(s, y, out=np.asfortranarray(s)), "C's order"),
        (lambda s, y: losses.softmax_cross_entropy(s[:0], y[:0]), "needs a sample"),
        (lambda s, y: losses.multiclass_hinge(s, y, delta=-1), "delta"),
        (lambda s, y: losses.logistic(s, np.zeros((4, 3))), "-1 or 1"),
        (lambda s, y: losses.logistic(s, np.ones(4)), "y must have shape"),
        (lambda s, y: losses.poisson(s, -np.ones((4, 3))), "not negative"),
        (lambda s, y: losses.mse(s, np.full((4, 3), np.nan)), "finite"),
        (lambda s, y: losses.huber(s, s, delta=0), "delta"),
        (lambda s, y: losses.quantile(s, s, quantile=1.5), "quantile"),
        (lambda s, y: losses.mse(s, y.astype(str)), "shape|numbers"),
    ],
)
def test_what_is_refused_writes_nothing(rng, call, message):
    s, y = rng.normal(size=(4, 3)), np.array([0, 1, 2, 0])
    before = s.copy()
    with pytest.raises((TypeError, ValueError), match=message):
        call(s, y)
    assert np.array_equal(s, before)


def test_partly_shared_memory_is_refused(rng):
    both = rng.normal(size=12)
    with pytest.raises(ValueError, match="apart"):
        losses.mse(both[:8], np.zeros(8), out=both[4:])
    with pytest.raises(ValueError, match="y or weight"):
        losses.mse(both[:4], both[4:8], out=both[4:8])


def test_exponentials_are_within_two_units_in_the_last_place(rng):
    """Through the losses that are them: poisson of y = 0, and logistic's log1p(exp(-s))."""
    for dtype, low, high in (("f4", -87, 88.7), ("f8", -708, 709.7)):
        for x in (rng.uniform(low, high, 200_000), rng.uniform(-1, 1, 200_000)):
            x = x.astype(dtype)
            exact = np.exp(x.astype(np.longdouble))
            value, g = losses.poisson(x, np.zeros_like(x), reduction="none")
            unit = np.spacing(exact.astype(dtype)).astype(np.longdouble)
            assert np.max(np.abs(value - exact) / unit) < 2
            assert np.array_equal(value, g)
        x = rng.uniform(0, -low, 200_000).astype(dtype)
        exact = np.log1p(np.exp(-x.astype(np.longdouble)))
        value, _ = losses.logistic(x, np.ones_like(x), reduction="none")
        unit = np.spacing(exact.astype(dtype)).astype(np.longdouble)
        assert np.max(np.abs(value - exact) / unit) < 3
