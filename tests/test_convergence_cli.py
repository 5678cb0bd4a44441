"""The commands that show convergence: compare, plot."""

import json

import pytest

pytest.importorskip("typer", reason="the command line needs the cli extra")
pytest.importorskip("rich", reason="the command line needs the cli extra")
pytest.importorskip("matplotlib", reason="pictures need the plot extra")

import fastopt
from fastopt.cli import main
from fastopt.cli.convergence_commands import SCHEDULES, schedule


@pytest.fixture(autouse=True)
def here(monkeypatch, tmp_path):
    """Lines are not wrapped; files and modules are the test's own."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine_to_test.py").write_text(
        "import numpy as np\n"
        "problem = (lambda x: float(x @ x), lambda x: 2 * x, np.ones(3), np.zeros(3))\n"
        "def made(): return problem\n"
        "def bad(): return 1 / 0\n"
    )
    return tmp_path


def run(capsys, line):
    code = main(line.split() if isinstance(line, str) else line)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_compare_prints_what_compare_returns(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    code, out, err = run(capsys, "compare valley --methods sgd,Momentum --lr 0.015 --steps 60")
    assert (code, err) == (0, "")
    assert "…" not in out
    found = fastopt.compare("valley", ["SGD", "Momentum"], lr=0.015, steps=60)
    for history in found:
        line = next(line for line in out.splitlines() if line.startswith(history.method))
        assert line.split()[1:4] == ["0.015", "60", "60"] and str(history.rate) in line
        assert f"{history.f[-1]:.3g}" in line


@pytest.mark.parametrize("name", ["problem", "made"])
def test_compare_of_the_users_own_problem_as_json(capsys, name):
    line = f"compare mine_to_test:{name} --methods sgd --lr 0.25 --steps 9 --json"
    code, out, _ = run(capsys, line)
    (row,) = json.loads(out)["methods"]
    # x is halved by each step
    assert code == 0 and row["f"] == 3 * 0.25**9 and row["rate_value"] == pytest.approx(0.25)


def test_help_teaches(capsys):
    for line, words in {
        "compare --help": ["quadratic", "linear", "Examples", "rosenbrock, beale", "module:name"],
        "plot --help": ["trajectories", "losses", "schedules"],
        "plot trajectories --help": [".gif", "--methods", "Examples"],
        "plot losses --help": ["evaluations", "Examples"],
        "plot schedules --help": ["cosine(0.1, 100, warmup=10)"],
    }.items():
        code, out, _ = run(capsys, line)
        assert code == 0 and not [word for word in words if word not in out], line


@pytest.mark.slow
def test_pictures(capsys, here):
    for line in (
        "plot trajectories beale --methods sgd,adam --lr 0.01 --steps 5 -o a.png",
        "plot losses --methods sgd --lr 0.01 --steps 20 --against evaluations -o b.svg",
        "plot schedules -o c.png",
        "plot trajectories saddle --methods sgd --steps 2 -o d.gif",
        "compare --methods sgd --lr 0.01 --steps 20 --plot e.png",
    ):
        code, _, err = run(capsys, line)
        assert (code, err) == (0, ""), line
    heads = {"a.png": b"\x89PNG", "b.svg": b"<?xml", "c.png": b"\x89PNG", "d.gif": b"GIF8",
             "e.png": b"\x89PNG"}  # fmt: skip
    for name, head in heads.items():
        assert (here / name).read_bytes().startswith(head), name


def test_schedules_are_read_as_calls():
    assert schedule("cosine(0.1, 100, warmup=10)") == fastopt.schedules.cosine(0.1, 100, warmup=10)
    assert all(callable(schedule(text)) for text in SCHEDULES)


@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        ("compare nope", 1, ["'rosenbrock', 'beale'"]),
        ("compare --methods adm", 1, ["did you mean 'Adam'"]),
        ("compare --lr 0", 2, ["--lr"]),
        ("compare --steps 0", 2, ["--steps"]),
        ("compare --plot no/such/a.png", 2, ["--plot", "no/such"]),
        ("compare mine_to_test:bad", 1, ["mine_to_test:bad", "ZeroDivisionError"]),
        ("compare mine_to_test:absent", 1, ["absent"]),
        ("compare absent_module:x", 1, ["absent_module"]),
        ("plot schedules", 2, ["--out"]),
        (["plot", "schedules", "__import__('os')", "-o", "a.png"], 2, ["schedules are constant"]),
        (["plot", "schedules", "cosine", "-o", "a.png"], 2, ["as a call"]),
        (["plot", "schedules", "cosine(1)", "-o", "a.png"], 2, ["cosine(1)"]),
        ("plot schedules -o a.xyz", 2, ["--out", ".png", "a.xyz"]),
        ("plot losses -o a.gif", 2, ["--out", ".png"]),
        ("compare --plot a.xyz", 2, ["--plot", ".gif"]),
        ("plot trajectories mine_to_test:problem --methods sgd --steps 2 -o a.png", 1, ["2 vari"]),
    ],
)
def test_mistakes_are_one_line(capsys, line, code, words):
    found, _, err = run(capsys, line)
    assert found == code and err.startswith("fastopt: ") and err.count("\n") == 1
    for word in words:
        assert word in err
