"""Shared by all tests: what is tested, where real data is, and Python in a process of its own."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import fastopt

ROOT = Path(__file__).resolve().parent.parent


def pytest_configure():
    """With FASTOPT_TEST_INSTALLED=1 refuse to test the source tree."""
    where = Path(fastopt.__file__).resolve()
    if os.environ.get("FASTOPT_TEST_INSTALLED") == "1" and (ROOT / "fastopt") in where.parents:
        raise pytest.UsageError(f"an installed fastopt should be tested, but this is {where}")


def pytest_report_header():
    """Say which fastopt is tested."""
    return f"fastopt {fastopt.__version__} from {fastopt.__file__}, {fastopt.get_isa()}"


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real data sets: $FASTOPT_DATA, else ../shared/data."""
    folder = Path(os.environ.get("FASTOPT_DATA") or ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip("no real data here (FASTOPT_DATA names its folder)")
    return folder


@pytest.fixture
def run_python(tmp_path):
    """Run a program in a fresh interpreter, away from the source tree; return what it printed."""

    def run(code, timeout=120, prefix=(), **env):
        script = tmp_path / "program.py"
        script.write_text(textwrap.dedent(code))
        names = ("FASTOPT_NUM_THREADS", "OMP_NUM_THREADS", "FASTOPT_ISA", "FASTOPT_SHARE_OPENMP")
        clean = {k: v for k, v in os.environ.items() if k not in names}
        result = subprocess.run(
            [*prefix, sys.executable, str(script)],
            cwd=tmp_path,
            env=clean | env,
            timeout=timeout,
            capture_output=True,
            text=True,
        )
        assert result.returncode == 0, result.stderr
        return result.stdout + result.stderr

    return run


@pytest.fixture
def need_threads():
    """Skip in a build without OpenMP."""
    if fastopt._core.openmp() == "none":
        pytest.skip("this build has no OpenMP")
