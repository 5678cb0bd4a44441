"""PyTorch's own tests of its optimizers, with ours in their place."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
TESTS = os.environ.get("FASTOPT_TORCH_TESTS", "")


@pytest.mark.slow
@pytest.mark.skipif(
    not TESTS, reason="FASTOPT_TORCH_TESTS does not name test/test_optim.py of a PyTorch checkout"
)
def test_torchs_own_tests_pass():
    """Without the three imports of other tests, which need the rest of the checkout."""
    text = re.sub(r"(?m)^from optim\..*\n", "", Path(TESTS).read_text())
    copy = Path(TESTS).with_name("optim_without_imports_test.py")
    copy.write_text(text)
    try:
        command = [sys.executable, "-m", "pytest", "-q", "-p", "swap_torch", str(copy)]
        environment = {**os.environ, "PYTHONPATH": os.path.dirname(__file__)}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=900)
    finally:
        copy.unlink()
    summary = done.stdout.strip().splitlines()[-1]
    assert done.returncode == 0 and int(re.search(r"(\d+) passed", summary)[1]) > 500, summary
