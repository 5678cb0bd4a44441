"""The measurements of the update rules run, cover every rule, and notice a peer that differs."""

import math
import os
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import fastopt
from fastopt import _core

ROOT = Path(__file__).resolve().parent.parent
if not (ROOT / "bench" / "bench_rules.py").exists():
    pytest.skip("no bench/ beside the tests", allow_module_level=True)
if sys.platform != "linux" or not (os.environ.get("CC") or shutil.which("gcc")):
    pytest.skip("bench/limit.c needs Linux and a C compiler", allow_module_level=True)
sys.path.append(str(ROOT))  # last: the installed fastopt is the one that is tested

from bench import bench_peers, bench_rules, cases, peers  # noqa: E402
from bench.limit import Limit, words  # noqa: E402
from bench.shapes import SHAPES, elements  # noqa: E402


def test_bench_rules_has_a_row_for_every_rule():
    rows = bench_rules.measure(0.0, {"L1": 1000}, dtypes=("float32",))
    assert {row["rule"] for row in rows} == set(cases.cases())
    for row in rows:
        for key in "ns/element", "limit", "ratio", "GB/s":
            assert math.isfinite(row[key]) and row[key] > 0, row


def test_the_cases_are_all_classes_and_all_compiled_rules():
    w = cases.filled(1000, "float32", 0.5)
    classes = {cls for cls, _ in cases.cases().values()}
    assert classes == set(fastopt.Optimizer.registry) - cases.COMPUTING
    reached = {cases.build(name, w).rule for name in cases.cases()}
    others = {"lamb_moments", "muon_moments", "muon"}  # LAMB's other pass; not bound by memory
    assert reached | others >= set(_core.rules()), "a rule that no case in bench/cases.py chooses"


def test_the_limit_moves_what_it_says():
    # w <- g - w, twice; m <- g + w - m, v likewise, then w <- m + v - w: worked out by hand.
    assert words([("g", "w")]) == 3 and words([("gw", "ab"), ("ab", "w")]) == 10
    limit = Limit()
    for passes, once, twice in [
        ([("g", "w")], {"w": 0.0}, {"w": 0.25}),
        ([("gw", "ab"), ("ab", "w")], {"a": 0.25, "w": 0.25}, {"a": 0.25, "w": 0.25}),
        ([("gw", "a")], {"a": 0.25}, {"a": 0.25}),
        ([("g", "abcw")], {"w": 0.0, "b": 0.0}, {"w": 0.25, "c": 0.25}),
    ]:
        for dtype in "float32", "float64":
            for threads in 1, 2:
                for count, expected in (1, once), (2, twice):
                    call = limit(passes, 1001, dtype, threads, count)
                    call()
                    arrays = call.__defaults__[0]
                    for letter, value in expected.items():
                        assert (arrays[letter] == value).all(), (passes, letter, count)
                    assert (arrays["g"] == 0.25).all()


def library(lr):
    """Return Adam in NumPy as a peer."""

    def contenders(rule, data):
        b1, b2 = peers.BETAS
        params = data.copies()
        m, v = ([np.zeros_like(w) for w in params] for _ in range(2))
        t = 0

        def step():
            nonlocal t
            t += 1
            for k, (w, g) in enumerate(zip(params, data.grads, strict=True)):
                m[k] = b1 * m[k] + (1 - b1) * g
                v[k] = b2 * v[k] + (1 - b2) * g * g
                m_hat, v_hat = m[k] / (1 - b1**t), v[k] / (1 - b2**t)
                w -= lr * m_hat / (np.sqrt(v_hat) + peers.EPS)

        return {"torch default": peers.Contender(step, lambda: params, lambda: 8 * len(m))}

    return SimpleNamespace(RULES={"Adam"}, contenders=contenders)


@pytest.mark.parametrize(("wrong", "named"), [(1.0, None), (1.01, "torch default")])
def test_bench_peers_names_who_differs(wrong, named):
    data = peers.make_data([(3, 7), (5,)])
    row = bench_peers.measure(
        "Adam", "flat 10^4", data, 1, 0.0, {"numpy": library(wrong * peers.LR)}, Limit()
    )
    assert row["differs"] == named
    assert row["elements"] == 26 and row["tensors"] == 2
    assert row["best peer"] == "torch default" and row["best"] == row["torch default"] > 0
    assert row["torch fused"] is None and row["ratio"] is None  # of 26 elements


def test_bench_peers_without_any_peer():
    rows = bench_peers.all_rows(1, 0.0, ["Adam", "LAMB"], ["tiny", "flat 10^4"], {})
    assert [(row["shape"], row["rule"]) for row in rows] == [
        ("tiny", "Adam"), ("flat 10^4", "Adam"), ("flat 10^4", "LAMB")
    ]  # fmt: skip
    assert all(row["best"] is None and row["us"] > 0 for row in rows)
    assert all(math.isfinite(row["ratio"]) and row["ratio"] > 0 for row in rows[1:])


def test_shapes_have_the_parameters_of_the_models():
    # torchvision's resnet50 has 25,557,032 parameters, Hugging Face's gpt2 124,439,808.
    assert elements(SHAPES["ResNet-50"]) == 25_557_032
    assert elements(SHAPES["GPT-2 small"]) == 124_439_808


def test_the_peers_are_given_the_rules_that_we_have():
    modules, _ = peers.installed(("torch",))
    for module in modules.values():
        assert set(module.RULES) <= set(bench_peers.ours.RULES)
