"""scikit-learn's own tests of its SGD estimators, run on ours: docs/scikit-learn.md says more."""

from __future__ import annotations

import os
import subprocess
import sys
import xml.etree.ElementTree
from pathlib import Path

import pytest

sklearn = pytest.importorskip("sklearn", minversion="1.9")
SUITE = "sklearn.linear_model.tests.test_sgd"
ONE_CLASS = "OneClass or oneclass or one_class or ocsvm"  # an estimator that is not here

#: They compare with an SGD that trains the intercept 0.01 times as fast where X is sparse.
SPARSE_INTERCEPT = {
    "test_average_binary_computed_correctly[SparseSGDClassifier]",
    "test_average_sparse[SparseSGDRegressor]",
    "test_late_onset_averaging_reached[SparseSGDClassifier]",
    "test_late_onset_averaging_reached[SparseSGDRegressor]",
    "test_sgd_averaged_computed_correctly[SparseSGDRegressor]",
    "test_sgd_averaged_partial_fit[SparseSGDRegressor]",
    "test_sgd_multiclass_average[SparseSGDClassifier]",
}
OTHERS = {
    # Replaces a private function of scikit-learn's estimator.
    "test_validation_mask_correctly_subsets",
    # Wants no better validation score after 20 epochs; ours still improves after 80.
    "test_multi_thread_multi_class_and_early_stopping",
    # Of equal probabilities, 0 and 0, it wants the second to be the smallest.
    "test_sgd_proba[SparseSGDClassifier]",
}


def run(folder, wanted, **environment):
    """Run tests of the suite on ours; return how many ran, and the names of those that failed."""
    if not sklearn.__version__.startswith("1.9."):
        pytest.skip("the misses are those of scikit-learn 1.9")
    report = folder / "report.xml"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "swap_sgd", "-p", "no:cacheprovider"),
            *("-c", os.devnull, f"--rootdir={folder}", f"--junitxml={report}", "-k", wanted),
            *("--pyargs", SUITE),
        ],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent), **environment},
        capture_output=True,
        text=True,
    )
    if "no tests ran" in done.stdout or "not found" in done.stderr:
        pytest.skip("scikit-learn's tests are not installed")
    assert report.exists(), done.stdout + done.stderr
    cases = list(xml.etree.ElementTree.parse(report).iter("testcase"))
    bad = {c.get("name") for c in cases if c.find("failure") is not None or c.find("error")}
    return len(cases), bad


def test_scikit_learns_suite(tmp_path):
    ran, failed = run(tmp_path, f"not ({ONE_CLASS})")
    assert failed == SPARSE_INTERCEPT | OTHERS
    assert ran == 211


def test_its_updates_on_sparse_rows(tmp_path):
    """With intercept_rate="sklearn" the updates are scikit-learn's on sparse X too, to rounding."""
    names = " or ".join({name.split("[")[0] for name in SPARSE_INTERCEPT})
    ran, failed = run(tmp_path, f"({names}) and not ({ONE_CLASS})", SWAP_INTERCEPT_RATE="sklearn")
    assert failed == set() and ran == 14
