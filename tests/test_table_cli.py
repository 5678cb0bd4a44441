"""`fastopt table`: the columns of the Hogwild! paper's Figure 2 for any data."""

import json

import numpy as np
import pytest

pytest.importorskip("typer")
pytest.importorskip("rich")

from fastopt.cli import main
from fastopt.cli.modes_table import MODES, compare
from fastopt.cli.training import file_data
from fastopt.data import CSR


def run(*argv, capsys):
    code = main([str(arg) for arg in argv])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def rows(n=6000, d=30, kind="two", seed=0):
    """Rows of half of all columns, and labels of two or three classes or numbers."""
    r = np.random.default_rng(seed)
    dense = (r.normal(size=(n, d)) * (r.random((n, d)) < 0.5)).astype("f4")
    at, columns = np.nonzero(dense)
    ends = np.searchsorted(at, np.arange(n + 1))
    X = CSR(dense[at, columns], columns.astype("i4"), ends, (n, d))
    p = dense @ r.normal(size=d)
    y = {"two": np.where(p > 0, 1.0, -1.0), "three": np.digitize(p, [-1, 1]) * 1.0, "numbers": p}
    return X, y[kind], dense


@pytest.mark.parametrize("kind", ["two", "three", "numbers"])
def test_every_mode_and_column(kind):
    X, y, dense = rows(kind=kind)
    loss = "squared" if kind == "numbers" else "hinge"
    found = compare(file_data("x", X, y, None, loss), 2, loss=loss, epochs=5)
    assert [row.mode for row in found.rows] == list(MODES)
    there = dense[:5400] != 0
    assert found.stats.rows == 5400 and found.stats.omega <= there.shape[1]
    assert found.stats.rho > 0.99 and 0.45 < found.stats.delta < 0.55
    by = {row.mode: row for row in found.rows}
    for row in found.rows:
        assert row.seconds > 0 and row.status == "finished"
        assert row.speedup == pytest.approx(by["serial"].seconds / row.seconds)
        assert row.against_rr == pytest.approx(by["rr"].seconds / row.seconds)
        assert row.against_aig == pytest.approx(by["aig"].seconds / row.seconds)
        most = {"two": 0.06, "three": 0.3, "numbers": 0.3}[kind]
        assert 0 <= row.train_error < most and 0 <= row.test_error < most + 0.05
        assert (row.overwritten is None) == (row.mode != "shared" or row.ran == "serial")


def test_errors_are_those_of_the_model():
    X, y, _ = rows(n=400)
    y[:40] *= -1  # of rows that nothing can learn
    data = file_data("x", X, y, (X, y), "hinge")
    (row,) = compare(data, 1, ["serial"], epochs=30).rows
    assert row.train_error == row.test_error and 0.05 < row.train_error < 0.2
    assert row.speedup == 1 and row.against_rr is None


def svm(path, n=600):
    _, y, dense = rows(n=n, d=8)
    path.write_text("".join(
        f"{int(label)} " + " ".join(f"{j + 1}:{x:g}" for j, x in enumerate(row) if x) + "\n"
        for row, label in zip(dense, y, strict=True)
    ))  # fmt: skip
    return path


def test_the_command(tmp_path, capsys):
    file = svm(tmp_path / "a.svm")
    code, out, _ = run("table", file, "--epochs", "3", "--threads", "2", capsys=capsys)
    assert code == 0
    for text in ("Ω ", "Δ ", "ρ ", "test error", "× serial", "× rr", "× aig", "lost"):
        assert text in out
    assert "rounds was serial here: the same bits for any threads; rows are too few" in out
    code, out, _ = run("table", file, "--test", file, "--modes", "serial,aig", "--json",
                         "--loss", "logistic", capsys=capsys)  # fmt: skip
    found = json.loads(out)
    assert code == 0 and out.count("\n") == 1 and found["loss"] == "logistic"
    assert [row["mode"] for row in found["rows"]] == ["serial", "aig"]
    assert {"omega", "delta", "rho"} <= set(found["stats"])
    assert found["rows"][0]["test_error"] is not None


@pytest.mark.parametrize("argv, code, words", [
    ("table none.svm", 1, ["none.svm", "No such file"]),
    ("table a.svm --modes serial,fast", 2, ["'fast' is not one of serial, shared"]),
    ("table a.svm --step -1", 2, ["--step"]),
    ("table a.svm --loss squared --step 1e9 --schedule constant --l2 0", 1,
     ["training diverged in mode serial"]),
])  # fmt: skip
def test_mistakes_are_one_line(argv, code, words, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    svm(tmp_path / "a.svm")
    found, _, err = run(*argv.split(), capsys=capsys)
    assert found == code and err.count("\n") == 1
    for word in words:
        assert word in err


def test_help_teaches(capsys):
    code, out, _ = run("table", "--help", capsys=capsys)
    assert code == 0 and "Examples" in out and "fastopt table demo" in out
    assert "Figure 2" in out and "How the data is read" in out
