"""Rules with a rate for each array, against their formulas and optax's values."""

import json
from pathlib import Path

import numpy as np
import pytest

import fastopt

GOLDEN = json.loads((Path(__file__).parent / "golden" / "peers.json").read_text())


def lars(p, grads, lr, mu, eta, wd, nesterov=False):
    v = np.zeros_like(p)
    for g in grads:
        size, slope = np.sqrt((p * p).sum()), np.sqrt((g * g).sum())
        ratio = eta * size / (slope + wd * size) if size > 0 and slope > 0 else 1.0
        u = lr * ratio * (g + wd * p)
        v = mu * v + u
        p = p - (mu * v + u if nesterov else v)
        yield p


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("wd", [0.0, 0.1])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_lars_equals_its_formula_for_each_array(dtype, wd, nesterov):
    rng = np.random.default_rng(0)
    shapes = {"a": (7, 9), "b": (200, 301), "c": (2, 3, 4)}
    params = {k: rng.standard_normal(s).astype(dtype) for k, s in shapes.items()}
    steps = [{k: rng.standard_normal(s).astype(dtype) for k, s in shapes.items()} for _ in range(6)]
    steps[2]["a"][...] = 0
    ends = {}
    for k, p in params.items():
        grads = [g[k].astype("f8") for g in steps]
        *_, ends[k] = lars(p.astype("f8"), grads, 0.5, 0.9, 0.02, wd, nesterov)
    opt = fastopt.LARS(params, lr=0.5, trust_coefficient=0.02, weight_decay=wd, nesterov=nesterov)
    for g in steps:
        opt.step(g)
    for k, end in ends.items():
        np.testing.assert_allclose(params[k], end, rtol=1e-4 if dtype == "f4" else 1e-11, atol=1e-6)


def test_lars_equals_optax_without_decay():
    """With decay optax has the norm of g + wd * w below, the paper the sum of the norms."""
    cases = [c for c in GOLDEN["cases"] if c["library"] == "optax" and c["class"] == "lars"]
    assert cases
    ran = 0
    for case in cases:
        kwargs = case["kwargs"]
        if kwargs.get("weight_decay"):
            continue
        problem = GOLDEN["problems"][case["problem"]]
        w = np.array(problem["start"] if "start" in problem else problem["p0"])
        options = {
            "lr": kwargs["learning_rate"],
            "momentum": kwargs.get("momentum", 0.9),
            "nesterov": kwargs.get("nesterov", False),
            "trust_coefficient": kwargs.get("trust_coefficient", 0.001),
        }
        opt = fastopt.LARS(w, exclude_vectors=False, **options)
        grads = problem["gradients"] if "gradients" in problem else problem["grads"]
        for g, wanted in zip(grads, case["params"], strict=True):
            opt.step(np.array(g, "f8"))
            np.testing.assert_allclose(w, wanted, rtol=case["rtol"], atol=case["rtol"])
        ran += 1
    assert ran


def test_vectors_have_the_plain_rate_and_no_decay():
    w, b = np.ones((2, 2)), np.ones(2)
    opt = fastopt.LARS({"w": w, "b": b}, lr=0.1, momentum=0.0, weight_decay=0.5)
    opt.step({"w": np.ones((2, 2)), "b": np.full(2, 3.0)})
    np.testing.assert_allclose(b, 1 - 0.1 * 3, rtol=1e-15)


def test_clipping_is_seen_by_the_rates():
    a, b = np.ones((2, 2)), np.ones((2, 2))
    one = fastopt.LARS(a, lr=1.0, momentum=0.0, weight_decay=0.5, clip_norm=1.0)
    two = fastopt.LARS(b, lr=1.0, momentum=0.0, weight_decay=0.5)
    one.step(np.full((2, 2), 5.0))
    two.step(np.full((2, 2), 0.5))
    np.testing.assert_allclose(a, b, rtol=1e-15)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({}, "lr is required"),
        ({"lr": 1, "trust_coefficient": 0}, "trust_coefficient must be a finite number > 0"),
        ({"lr": 1, "clip_per": "row", "clip_norm": 1}, "clip_per must be 'all'"),
        ({"lr": 1, "nesterov": "lookahead"}, "nesterov must be True or False"),
        ({"lr": 1, "clip_value": 1.0}, "clip_value must be None"),
        ({"lr": 1, "l1": 0.1}, "and l1 0 unless proximal"),
    ],
)
def test_lars_refuses_what_it_cannot_do(options, match):
    w = np.ones((2, 2))
    with pytest.raises((TypeError, ValueError), match=match):
        fastopt.LARS(w, **options).step(np.ones((2, 2)))
    assert (w == 1).all()


def lamb(p, grads, lr, b1, b2, eps, wd, most=np.inf, corrected=True):
    m, v = np.zeros_like(p), np.zeros_like(p)
    for t, g in enumerate(grads, 1):
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
        c1, c2 = (1 - b1**t, 1 - b2**t) if corrected else (1, 1)
        r = (m / c1) / (np.sqrt(v / c2) + eps) + wd * p
        size, length = np.sqrt((p * p).sum()), np.sqrt((r * r).sum())
        p = p - lr * (min(size, most) / length if size > 0 and length > 0 else 1.0) * r
        yield p


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("options", [{}, {"weight_decay": 0.1}, {"max_trust": 1.5}])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_lamb_equals_its_formula_for_each_array(dtype, options, threads):
    rng = np.random.default_rng(0)
    shapes = {"a": (7, 9), "b": (200, 301), "c": (4,), "zero": (3, 3)}
    params = {k: rng.standard_normal(s).astype(dtype) for k, s in shapes.items()}
    params["zero"][...] = 0
    steps = [{k: rng.standard_normal(s).astype(dtype) for k, s in shapes.items()} for _ in range(6)]
    steps[2]["a"][...] = 0
    ends = {}
    for k, p in params.items():
        grads = [g[k].astype("f8") for g in steps]
        wd, most = options.get("weight_decay", 0.0), options.get("max_trust", np.inf)
        *_, ends[k] = lamb(p.astype("f8"), grads, 0.05, 0.9, 0.999, 1e-6, wd, most)
    opt = fastopt.LAMB(params, lr=0.05, threads=threads, **options)
    for g in steps:
        opt.step(g)
    for k, end in ends.items():
        np.testing.assert_allclose(params[k], end, rtol=2e-4 if dtype == "f4" else 1e-11, atol=2e-6)


def test_lamb_has_the_same_bits_with_any_threads_strides_and_instruction_set():
    rng = np.random.default_rng(0)
    start, grads = rng.standard_normal((301, 400)), rng.standard_normal((3, 301, 400))
    seen, before = set(), fastopt.get_isa()
    for isa in fastopt.isa_available():
        fastopt.set_isa(isa)
        for threads in 1, 2, 3:
            for strided in False, True:
                w = np.repeat(start, 2, 0)[::2] if strided else start.copy()
                opt = fastopt.LAMB(w, lr=0.1, threads=threads, weight_decay=0.1, clip_norm=9.0)
                for g in grads:
                    opt.step(g)
                seen.add(w.tobytes())
    fastopt.set_isa(before)
    assert len(seen) == 1


def test_lamb_equals_optax():
    ran = 0
    for case in GOLDEN["cases"]:
        if case["library"] != "optax" or case["class"] != "lamb":
            continue
        problem, kwargs = GOLDEN["problems"][case["problem"]], case["kwargs"]
        if set(kwargs) - {"learning_rate", "weight_decay", "eps"}:
            continue
        w = np.array(problem["start"] if "start" in problem else problem["p0"])
        opt = fastopt.LAMB(
            w,
            lr=kwargs["learning_rate"],
            weight_decay=kwargs.get("weight_decay", 0.0),
            eps=kwargs.get("eps", 1e-6),
        )
        grads = problem["gradients"] if "gradients" in problem else problem["grads"]
        for g, wanted in zip(grads, case["params"], strict=True):
            opt.step(np.array(g, "f8"))
            np.testing.assert_allclose(w, wanted, rtol=case["rtol"], atol=case["rtol"])
        ran += 1
    assert ran


def test_nan_reaches_its_whole_array_through_the_norm():
    w, b = np.ones((2, 2)), np.ones((2, 2))
    opt = fastopt.LAMB({"w": w, "b": b}, lr=0.1)
    info = opt.step({"w": np.array([[1.0, np.nan], [1, 1]]), "b": np.ones((2, 2))})
    assert info.nonfinite == 1 and np.isnan(w).all() and np.isfinite(b).all()
