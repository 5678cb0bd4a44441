"""Live progress: the curve, and where it is shown."""

from __future__ import annotations

import io
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from fastopt.progress import Live, sparkline


def at(epoch, objective=None, problem=0, problems=1, epochs=4):
    return SimpleNamespace(
        epoch=epoch, epochs=epochs, nnz_per_second=2.5e8, objective=objective, problem=problem,
        problems=problems,
    )  # fmt: skip


def test_sparkline_is_the_curve():
    assert sparkline([1, 2, 4, 8, 16, 32, 64, 128]) == "▁▂▃▄▅▆▇█"  # logarithmic
    assert sparkline([-3.5, 0, 3.5]) == "▁▅█"  # not above 0: linear (4.5 rounds to even, 4)
    assert sparkline([5, np.nan, np.inf, 1]) == "█▁"
    assert sparkline(np.exp(np.linspace(7, 0, 1000)), width=8) == "█▇▆▅▄▃▂▁"[: len("█▇▆▅▄▃▂▁")]
    assert len(sparkline(range(1, 100))) == 24
    assert sparkline([32, 1], ascii=True) == "#_"


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self):
        return True


def test_a_terminal_has_one_line_per_fit(monkeypatch):
    stream = Terminal()
    monkeypatch.setattr(sys, "stdout", stream)
    live = Live()
    for epoch, objective in [(1, 0.8), (2, 0.4), (3, 0.2), (4, 0.1)]:
        live.shown = -np.inf
        live(at(epoch, objective))
    live.close()
    shown = stream.getvalue()
    assert shown.count("\n") == 1 and shown.endswith("\n") and shown.count("\r") == 4
    assert shown.rstrip().endswith("epoch 4/4, 250 M non-zeros/s, objective 0.1  █▆▃▁")


def test_lines_elsewhere(capsys):
    live = Live()
    live(at(1, 0.5, problems=2))
    live(at(2, 0.4, problems=2))  # too soon
    live(at(4, 0.25, problems=2))
    live.shown = -np.inf
    live(at(1, 0.7, 1, 2))  # another problem has a curve of its own
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[1].startswith("problem 1/2, epoch 4/4") and "objective 0.25" in lines[1]
    assert lines[2].split()[-1] in ("▁", "_")


def test_ascii_and_no_objective(monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    live = Live()
    live(at(4, 0.5))
    live(at(4))
    stream.flush()
    text = stream.buffer.getvalue().decode("ascii")
    assert text == (
        "epoch 4/4, 250 M non-zeros/s, objective 0.5  _\nepoch 4/4, 250 M non-zeros/s  _\n"
    )


def test_notebook(monkeypatch):
    """In a notebook the text is shown in place; IPython itself is not needed for this test."""
    shown = []

    class ZMQInteractiveShell:
        pass

    class Handle:
        def update(self, data, raw):
            shown.append(data["text/plain"])

    fake = SimpleNamespace(get_ipython=ZMQInteractiveShell)
    module = SimpleNamespace(display=lambda data, raw, display_id: Handle())
    monkeypatch.setitem(sys.modules, "IPython", fake)
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    Live()(at(4, 0.5))
    assert shown == ["epoch 4/4, 250 M non-zeros/s, objective 0.5  ▁"]


def test_estimator(capsys):
    pytest.importorskip("sklearn")
    from fastopt import SGDClassifier

    X = np.random.default_rng(0).normal(size=(300, 4))
    model = SGDClassifier(verbose=1, max_iter=5, tol=None, random_state=0).fit(X, X[:, 0] > 0)
    out = capsys.readouterr().out
    assert (
        f"epoch 5/5, {1:d}"[:11] in out
        and f"objective {model.history_[-1]['objective']:.6g}" in out
    )
