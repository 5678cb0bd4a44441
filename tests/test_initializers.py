"""Initializers against the formulas and torch's, penalties against torch and SciPy."""

import numpy as np
import pytest

from fastopt import initializers as init
from fastopt import penalties

torch = pytest.importorskip("torch")

PAIRS = {
    "xavier_uniform": ("xavier_uniform_", {}),
    "xavier_normal": ("xavier_normal_", {}),
    "he_uniform": ("kaiming_uniform_", {"nonlinearity": "relu"}),
    "he_normal": ("kaiming_normal_", {"nonlinearity": "relu"}),
    "lecun_uniform": ("kaiming_uniform_", {"nonlinearity": "linear"}),
    "lecun_normal": ("kaiming_normal_", {"nonlinearity": "linear"}),
}


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("shape", [(400, 900), (900, 400), (300, 40, 5, 5)])
def test_statistics_are_torchs(name, shape):
    other, options = PAIRS[name]
    theirs = getattr(torch.nn.init, other)(torch.empty(shape), **options).numpy()
    ours = getattr(init, name)(shape, seed=0, layout="out-in", dtype="f4")
    assert ours.shape == shape and ours.dtype == np.float32
    assert abs(ours.mean()) < 5 * theirs.std() / np.sqrt(theirs.size)
    assert ours.std() == pytest.approx(theirs.std(), rel=0.01)
    if "uniform" in name:
        assert np.abs(ours).max() == pytest.approx(np.abs(theirs).max(), rel=1e-3)
        assert np.mean(np.abs(ours)) == pytest.approx(np.abs(ours).max() / 2, rel=0.01)


@pytest.mark.parametrize(
    ("name", "variance"),
    [
        ("xavier", lambda i, o: 2 / (i + o)),
        ("glorot", lambda i, o: 2 / (i + o)),
        ("he", lambda i, o: 2 / i),
        ("lecun", lambda i, o: 1 / i),
    ],
)
def test_variances_are_the_formulas_in_both_layouts(name, variance):
    for i, o in ((900, 400), (300, 1200)):
        for kind in ("uniform", "normal"):
            f = getattr(init, f"{name}_{kind}")
            for shape, layout in (((i, o), "in-out"), ((o, i), "out-in")):
                found = f(shape, seed=1, layout=layout)
                assert found.var() == pytest.approx(variance(i, o), rel=0.02)


def test_fans_are_torchs():
    for shape in ((3, 4), (16, 3, 5, 5), (2, 7, 3)):
        theirs = torch.nn.init._calculate_fan_in_and_fan_out(torch.empty(shape))
        assert init.fans(shape, "out-in") == theirs
        if len(shape) == 2:
            assert init.fans(shape[::-1]) == theirs
    assert init.fans((5, 5, 3, 16)) == (75, 400)  # Keras's convolutions


@pytest.mark.parametrize("shape", [(5, 5), (8, 3), (3, 8), (6, 2, 4)])
def test_orthogonal(shape):
    W = init.orthogonal(shape, gain=2.0, seed=0).reshape(shape[0], -1)
    few = W if W.shape[0] <= W.shape[1] else W.T
    np.testing.assert_allclose(few @ few.T, 4 * np.eye(len(few)), atol=1e-12)


def test_orthogonal_is_uniform():
    """The first entry of a random rotation of 3 axes is uniform in [-1, 1] (Archimedes)."""
    rng = np.random.default_rng(0)
    first = np.array([init.orthogonal((3, 3), seed=rng)[0, 0] for _ in range(4000)])
    assert abs(first.mean()) < 0.05 and first.var() == pytest.approx(1 / 3, rel=0.05)


def test_seeds_types_and_simple_ones():
    for f in (init.small_random, init.xavier_normal, init.he_uniform, init.orthogonal):
        a, b, c = (f((4, 6), seed=s, dtype=t) for s, t in ((0, "f8"), (0, "f4"), (1, "f8")))
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)
        assert b.dtype == np.float32 and not np.allclose(a, c)
    assert init.small_random(10000, 0.02, seed=0).std() == pytest.approx(0.02, rel=0.03)
    assert not init.zeros((2, 3)).any() and (init.constant(4, 0.1, "f4") == np.float32(0.1)).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: init.xavier_normal(5), "two axes"),
        (lambda: init.orthogonal(5), "two axes"),
        (lambda: init.zeros((2, -1)), "shape"),
        (lambda: init.zeros(2, "f2"), "float32 or float64"),
        (lambda: init.small_random(2, -1.0), "scale"),
        (lambda: init.he_normal((2, 2), layout="ab"), "layout"),
        (lambda: penalties.l2([1.0], -1.0), "strength"),
        (lambda: penalties.elastic_net([1.0], 1.0, 2.0), "l1_ratio"),
        (lambda: penalties.l1([1.0], 1.0, grad=np.zeros(2)), "grad"),
        (lambda: penalties.max_norm([1.0], 1.0), "writable array"),
    ],
)
def test_what_is_refused(call, message):
    with pytest.raises((TypeError, ValueError), match=message):
        call()


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_penalties_against_torch(dtype):
    r = np.random.default_rng(0)
    w = r.normal(size=(4, 5)).astype(dtype)
    w[0, 0] = 0
    g = r.normal(size=(4, 5)).astype(dtype)
    t = torch.tensor(w, requires_grad=True)
    wanted = 0.3 * (0.7 * t.abs().sum() + 0.3 / 2 * (t**2).sum())
    wanted.backward()
    grad = g.copy()
    value, same = penalties.elastic_net(w, 0.3, 0.7, grad=grad)
    tolerance = 1e-6 if dtype == "f4" else 1e-14
    assert same is grad and value == pytest.approx(wanted.item(), rel=tolerance)
    np.testing.assert_allclose(grad - g, t.grad.numpy(), atol=4 * tolerance)
    assert penalties.l2(w, 0.3)[0] == pytest.approx(0.15 * (w.astype(float) ** 2).sum(), rel=1e-6)
    assert penalties.l1(w, 0.3)[0] == pytest.approx(0.3 * np.abs(w.astype(float)).sum(), rel=1e-6)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("scale", [1.0, 1e30])
def test_max_norm_is_torchs_renorm(dtype, scale):
    w = (np.random.default_rng(0).normal(size=(6, 4)) * scale).astype(dtype)
    for axis in (0, 1):
        theirs = torch.renorm(torch.tensor(w, dtype=torch.float64), 2, 1 - axis, 2 * scale).numpy()
        ours = penalties.max_norm(w.copy(), 2 * scale, axis=axis)
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)
    whole = penalties.max_norm(w.copy(), scale)
    assert np.linalg.norm(whole / scale) == pytest.approx(1, rel=1e-6)
    assert np.array_equal(penalties.max_norm(w.copy(), 100 * scale), w)
