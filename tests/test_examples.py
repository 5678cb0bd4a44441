"""The programs in examples/ come out as they say, at reduced size."""

import ast
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fastopt

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
if not EXAMPLES.exists():
    pytest.skip("no examples/ beside the tests", allow_module_level=True)
NAMES = sorted(path.stem for path in EXAMPLES.glob("*.py"))


@pytest.fixture
def run(capsys):
    """Run an example at reduced size; return its outcome."""

    def run(name):
        spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        outcome = module.main(quick=True)
        assert capsys.readouterr().out.count("\n") >= 2
        return outcome

    return run


def test_random_search_is_hopeless_and_descent_is_not(run, data_dir, monkeypatch):
    monkeypatch.setenv("FASTOPT_DATA", str(data_dir))
    found = run("random_search")
    # the loss of tiny weights is that of 9 margins of 1, and guessing is right for 10 %
    assert 8.9 < found["random loss"] < 9.1 and found["random accuracy"] < 0.25
    assert found["descent loss"] < 0.5 and found["descent accuracy"] > 0.8


def test_numerical_gradients_cost_more_the_more_parameters(run):
    found = run("gradient_cost")
    assert found[100]["ratio"] > found[20]["ratio"] > 1
    for row in found.values():
        assert row["complex"] < 1e-13 < row["central"] < 1e-7 < row["forward"] < 1e-4


def test_momentum_overshoots_and_is_faster(run):
    found = run("momentum")
    assert found["descent, best"]["overshoot"] <= 0
    assert found["momentum 0.9"]["overshoot"] > 0.5 and found["Nesterov 0.9"]["overshoot"] > 0.5
    slowest = found["descent, best"]["steps"]
    for name, row in found.items():
        assert row["factor"] == pytest.approx(row["theory"], abs=6e-3)
        assert name == "descent, best" or row["steps"] < slowest / 2


def test_adagrads_step_vanishes_and_rmsprops_does_not(run):
    found = run("adagrad")
    for name, n in (("10", 10), ("100", 100), ("last", 1000)):
        assert found["AdaGrad"][name] == pytest.approx(n**-0.5, rel=1e-6)
    assert found["AdaGrad"]["distance"] == pytest.approx(np.sum(np.arange(1, 1001) ** -0.5))
    assert found["RMSProp"]["last"] == pytest.approx(1, rel=1e-6)
    # the steep start is remembered for ever, or forgotten
    assert found["AdaGrad, steep start"]["last"] < 0.0011
    assert found["RMSProp, steep start"]["last"] == pytest.approx(1, rel=1e-3)


def test_bias_correction_is_what_keeps_the_first_step_at_lr(run):
    for (b2, corrected), row in run("adam_bias").items():
        first = 1.0 if corrected else (1 - 0.9) / np.sqrt(1 - b2)
        assert row["first"] == pytest.approx(first, rel=1e-6)
        assert row["largest"] == pytest.approx(1.0) if corrected else row["largest"] > 2 * first


def test_learning_rates_and_their_decay(run):
    found = run("learning_rates")
    assert 1 > found["0.02 / L"] > found["0.2 / L"] > found["1.8 / L"]
    assert found["2.1 / L"] > 1e3
    for decay in ("step decay", "exponential", "1 / t", "cosine"):
        assert found[decay] < 0.5 * found["constant 0.1"]


def test_small_weights_say_nothing_and_large_ones_explode(run):
    found = run("initialization")
    # each layer multiplies by 0.01 sqrt(100), or by about sqrt(100) before its tanh
    assert found["small, 0.01"]["first"] == pytest.approx(0.1, rel=0.05)
    assert found["small, 0.01"]["last"] == pytest.approx(1e-10, rel=0.2)
    assert found["large, 1"]["alive"] < 0.3 < 0.99 < found["Xavier"]["alive"]
    gradients = [found[name]["gradient"] for name in ("small, 0.01", "Xavier", "large, 1")]
    assert gradients[0] < 1e-6 * gradients[1] and gradients[1] < 1e-2 * gradients[2]
    assert (
        found["Xavier"]["loss"]
        < 0.2
        < 0.4
        < min(found["small, 0.01"]["loss"], found["large, 1"]["loss"])
    )


def test_rates_are_those_of_theory(run):
    found = run("rates")
    assert found["Newton, valley"] == ("exact", 1)
    assert found["Newton, e^x - x"] == ("quadratic", pytest.approx(2, abs=0.05))
    assert found["descent, valley"] == ("linear", pytest.approx((1 - 0.015) ** 2, abs=1e-4))
    assert found["descent, log(1 + e^-x)"] == ("sublinear", pytest.approx(1, abs=0.1))
    assert found["descent, x^4"] == ("sublinear", pytest.approx(2, abs=0.1))


def test_hogwild_costs_no_quality(run):
    serial, *parallel = run("hogwild_speedup")
    assert serial["threads"] == 1 and len(parallel) == 2 * (fastopt.get_num_threads() > 1)
    for row in parallel:
        assert row["objective"] == pytest.approx(serial["objective"], rel=0.1)


def test_sparse_svm_is_near_the_optimum(run, data_dir, monkeypatch):
    monkeypatch.setenv("FASTOPT_DATA", str(data_dir))
    found = run("sparse_svm")
    assert found["accuracy"] > 0.84 > found["most frequent"]
    assert found["optimum, at least"] <= found["objective"] < 1.05 * found["optimum, at least"]


def test_matrix_completion_comes_near_the_noise(run):
    found = run("matrix_completion")
    assert found["noise"] < found["error"] < 0.1 * found["spread"]


def test_the_cut_is_within_a_percent_of_the_least(run):
    pytest.importorskip("sklearn", reason="the picture is scikit-learn's")
    pytest.importorskip("PIL", reason="scikit-learn reads it with Pillow")
    found = run("graph_cut")
    assert found["proven bound"] <= found["cut"] <= 1.01 * found["proven bound"]
    assert 0.15 < found["flower's part"] < 0.35


@pytest.mark.parametrize("name", NAMES)
def test_programs_are_small_and_say_how_they_are_run(name):
    text = (EXAMPLES / f"{name}.py").read_text()
    assert f"{name}.py" in ast.get_docstring(ast.parse(text))
    assert text.count("\n") <= 90 and 'if __name__ == "__main__":' in text


def test_an_example_runs_as_a_program(tmp_path):
    package = str(Path(fastopt.__file__).parents[1])
    found = subprocess.run(
        [sys.executable, str(EXAMPLES / "adagrad.py")],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": package},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert found.returncode == 0 and "AdaGrad" in found.stdout
