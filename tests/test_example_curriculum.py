"""The example on curricula: its claim holds, beyond what chance does."""

import importlib.util
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parent.parent / "examples" / "curriculum.py"


@pytest.mark.skipif(not SCRIPT.exists(), reason="no examples here")
def test_easy_rows_first_help_here():
    spec = importlib.util.spec_from_file_location("curriculum_example", SCRIPT)
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    found = example.compare(6, n=1000, d=60)
    for better, worse in (("easy-first", "random"), ("random", "hard-first")):
        (m, e), (n, f) = found[better], found[worse]
        assert m[2] - n[2] > 2 * (e[2] ** 2 + f[2] ** 2) ** 0.5
