"""What is installed, what it says about itself, and what the environment can force."""

import importlib.metadata
import platform
import re
import shutil
import sys
from pathlib import Path

import pytest

import fastopt
from fastopt import _buildinfo, _core
from fastopt.config import config


def test_version_is_the_installed_one():
    try:
        assert fastopt.__version__ == importlib.metadata.version("fastopt")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("built in place, not installed")
    assert re.fullmatch(r"\d+\.\d+\.\d+([a-z.].*)?", fastopt.__version__)


def test_all_public_names_exist():
    assert len(set(fastopt.__all__)) == len(fastopt.__all__)
    for name in fastopt.__all__:
        assert hasattr(fastopt, name), name


def test_installed_package_is_typed_and_has_no_sources():
    folder = Path(fastopt.__file__).parent
    assert (folder / "py.typed").exists()
    if not (folder.parent / "setup.py").exists():  # not an editable install
        assert not [p.name for p in folder.iterdir() if p.suffix in (".pyx", ".pxi", ".c", ".h")]


def test_only_numpy_is_imported(run_python):
    code = """
        import sys
        before = set(sys.modules)
        import fastopt
        new = {name.partition(".")[0] for name in set(sys.modules) - before}
        print(sorted(name for name in new - set(sys.stdlib_module_names) if 'cython' not in name))
    """
    assert run_python(code).strip() == "['fastopt', 'numpy']"


def test_config_says_what_runs():
    c = config()
    assert c["version"] == fastopt.__version__
    assert c["isa"] == fastopt.get_isa() in c["isa_available"]
    assert c["isa_available"][-1] == "base"
    assert set(c["isa_available"]) <= set(c["flags_by_isa"])
    assert c["threads"] == fastopt.get_num_threads() and c["threads_why"]
    assert (c["openmp"] == "none") == (_core.openmp() == "none")
    assert "-ffast-math" not in c["flags"] and "-march=native" not in c["flags"]
    if sys.platform == "linux" and c["openmp"] == "gomp":
        assert any("libgomp" in path for path in c["openmp_loaded"])


def test_show_config_prints_all_of_it(capsys):
    fastopt.show_config()
    text = capsys.readouterr().out
    for part in (fastopt.__version__, fastopt.get_isa(), _buildinfo.compiler, _buildinfo.flags):
        assert part in text
    assert config()["threads_why"] in text
    if _buildinfo.openmp == "none":
        assert "everything runs on one thread" in text


@pytest.mark.parametrize("isa", fastopt.isa_available())
def test_isa_can_be_forced_by_the_environment(run_python, isa):
    assert run_python("import fastopt; print(fastopt.get_isa())", FASTOPT_ISA=isa).strip() == isa


def test_unknown_isa_in_the_environment_is_a_warning(run_python):
    text = run_python("import fastopt; print(fastopt.get_isa())", FASTOPT_ISA="sse9")
    assert "FASTOPT_ISA='sse9' is ignored" in text and "base" in text
    assert fastopt.isa_available()[0] in text


@pytest.mark.skipif(
    platform.machine() != "x86_64" or not shutil.which("qemu-x86_64"),
    reason="needs an x86-64 machine and qemu-x86_64",
)
@pytest.mark.skipif(bool(_buildinfo.sanitize), reason="sanitizers do not run in qemu")
@pytest.mark.parametrize(("cpu", "isa"), [("SandyBridge", "base"), ("Haswell", "avx2")])
def test_older_processors_get_what_they_can_run(run_python, cpu, isa):
    code = """
        import numpy as np, fastopt
        w = np.ones(1001, np.float32)
        fastopt.SGD(w, lr=0.5).step(np.full_like(w, 0.5))
        assert (w == 0.75).all()
        print("runs", fastopt.get_isa())
    """
    assert f"runs {isa}\n" in run_python(code, prefix=["qemu-x86_64", "-cpu", cpu])


def test_isa_can_be_forced_by_a_call():
    before = fastopt.get_isa()
    try:
        for isa in fastopt.isa_available():
            fastopt.set_isa(isa)
            assert fastopt.get_isa() == isa
        for wrong in ("sse9", "", None, 3):
            with pytest.raises(ValueError, match="name must be one of"):
                fastopt.set_isa(wrong)
    finally:
        fastopt.set_isa(before)
