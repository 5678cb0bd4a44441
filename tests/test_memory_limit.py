"""A model that cannot fit is refused before the kernel ends the process."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

import fastopt
from fastopt import memory


def test_available_is_the_least_of_machine_and_control_group(tmp_path):
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 9999 kB\nMemAvailable:    1000 kB\n")
    assert memory.available(str(meminfo), str(tmp_path)) == 1_024_000
    (tmp_path / "memory.max").write_text("5000\n")
    (tmp_path / "memory.current").write_text("1000\n")
    assert memory.available(str(meminfo), str(tmp_path)) == 4000
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.available(str(meminfo), str(tmp_path)) == 1_024_000
    assert memory.available(str(tmp_path / "none"), str(tmp_path)) == math.inf


def test_a_huge_index_is_refused(monkeypatch):
    monkeypatch.setattr(memory, "available", lambda: 1e9)
    X = SimpleNamespace(
        data=np.ones(2, "f4"),
        indices=np.array([0, 2_000_000_000]),
        indptr=np.array([0, 1, 2]),
        shape=(2, 2_000_000_001),
    )
    with pytest.raises(MemoryError, match=r"2,000,000,001 columns needs about .* 1\.0 GB are"):
        fastopt.hogwild(X, [1, -1])


def test_a_little_is_not_asked_for(monkeypatch):
    asked = []
    monkeypatch.setattr(memory, "available", lambda: asked.append(1) or 1e9)
    memory.need("a model", 1e6)
    assert not asked
    memory.need("a model", 1e8)
    assert asked
