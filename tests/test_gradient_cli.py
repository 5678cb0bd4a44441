"""The command that checks gradients."""

import json

import pytest

pytest.importorskip("typer", reason="the command line needs the cli extra")
pytest.importorskip("rich", reason="the command line needs the cli extra")

from fastopt.cli import main

MODULE = """
import numpy as np
from fastopt.convergence import PROBLEMS

w0 = np.arange(1.0, 7.0)
def point(): return w0
def f(w): return float(w @ w)
def both(w): return f(w), 2 * w
right = (f, lambda w: 2 * w, w0)
double = (f, lambda w: 4 * w, w0)
together = (both, True, w0)
beale = PROBLEMS["beale"]
def made(): return double
def named():
    x = {"W1": np.ones((2, 3)), "W2": np.ones(3)}
    return (lambda x: float(np.sum(x["W1"] ** 2) + np.sum(x["W2"] ** 2)),
            lambda x: {"W1": 2 * x["W1"], "W2": -2 * x["W2"]}, x)
def broken(): raise ZeroDivisionError("oh")
number = 3
nowhere = (f, lambda w: 2 * w)
"""


@pytest.fixture(autouse=True)
def here(monkeypatch, tmp_path):
    """A folder with a module of the user's."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "checked_module.py").write_text(MODULE)
    return tmp_path


def run(capsys, line):
    code = main(["check-grad", *line.split()])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.mark.parametrize(
    ("what", "code", "words"),
    [
        ("right", 0, ""),
        ("together", 0, ""),
        ("beale", 0, ""),
        ("both --at w0", 0, ""),
        ("both --at point", 0, ""),
        ("both --at checked_module:w0", 0, ""),
        ("nowhere --at w0", 0, ""),
        ("double", 1, "factor 2"),
        ("made", 1, "factor 2"),
        ("named", 1, "W2"),
    ],
)
def test_every_form_and_what_is_said(capsys, what, code, words):
    found, out, err = run(capsys, f"checked_module:{what}")
    assert (found, err) == (code, "")
    assert words in out.splitlines()[0] and out.splitlines()[1].split()[0] == "component"


def test_json_and_rows(capsys):
    code, out, _ = run(capsys, "checked_module:double --json --rows 2")
    found = json.loads(out)
    assert code == 1 and not found["ok"] and len(found["rows"]) == 2
    for row in found["rows"]:
        assert row["analytic"] == pytest.approx(2 * row["numeric"], rel=1e-6)
    _, out, _ = run(capsys, "checked_module:right --rows 3")
    assert "and 3 more" in out


def test_heat_map(capsys, here):
    pytest.importorskip("matplotlib", reason="pictures need the plot extra")
    assert run(capsys, "checked_module:named --plot a.png")[0] == 1
    assert (here / "a.png").read_bytes().startswith(b"\x89PNG")


def test_help_teaches(capsys):
    code, out, _ = run(capsys, "--help")
    assert code == 0
    for words in ("(f, g, x)", "--at", "value and gradient", "factor 2 everywhere", "Examples"):
        assert words in out


@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        ("", 2, "MODULE:NAME"),
        ("checked_module:both", 2, "--at"),
        ("checked_module:number", 2, "must be (f, g, x)"),
        ("checked_module:broken", 1, "ZeroDivisionError: oh"),
        ("checked_module:absent", 1, "absent"),
        ("checked_module:both --at absent", 1, "absent"),
        ("no_such_module:f", 1, "no_such_module"),
        ("checked_module:right --plot no/such/a.png", 2, "no/such"),
    ],
)
def test_mistakes_are_one_line(capsys, line, code, words):
    found, _, err = run(capsys, line)
    assert found == code and err.startswith("fastopt: ") and err.count("\n") == 1 and words in err
