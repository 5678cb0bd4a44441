"""The command line, in this process and in processes of its own."""

import os
import pty
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("typer", reason="the command line needs the cli extra")
pytest.importorskip("rich", reason="the command line needs the cli extra")

import fastopt
from fastopt.cli import commands, main, quickbench, training
from fastopt.data import demo, load_svmlight
from fastopt.sparse import models

DATA = Path(os.environ.get("FASTOPT_DATA", Path(__file__).parents[1] / ".." / "shared" / "data"))


@pytest.fixture(autouse=True)
def wide(monkeypatch, tmp_path):
    """Lines of output are not wrapped, the demo's cache is the test's own."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("FASTOPT_CACHE", str(tmp_path / "cache"))


def write(path: Path, labels, seed=0, columns=30, first=1, noise=0.0) -> Path:
    """Write rows whose label can be told from their columns; return the path."""
    rng = np.random.default_rng(seed)
    names = np.unique(labels)
    lines = []
    for label in labels:
        k = int(np.searchsorted(names, label))
        if rng.random() < noise:
            k = int(rng.integers(len(names)))
        chosen = np.unique(np.r_[first + k, rng.integers(first + len(names), first + columns, 4)])
        lines.append(f"{label:g} " + " ".join(f"{c}:{rng.uniform(0.5, 1):.3f}" for c in chosen))
    path.write_text("\n".join(lines) + "\n")
    return path


def run(*argv, capsys):
    """Run the command line; return the exit code, the standard output and the error output."""
    code = main([str(arg) for arg in argv])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def cells(output: str) -> list[dict[str, str]]:
    """Return the rows of the table at the end, by column."""
    lines = output.splitlines()
    at = next(k for k, line in enumerate(lines) if line.startswith("threads"))
    names = re.split(r" {2,}", lines[at].strip())
    rows = [re.split(r" {2,}", line.strip()) for line in lines[at + 2 :]]
    return [dict(zip(names, row, strict=True)) for row in rows if len(row) == len(names)]


def one_line(err: str) -> str:
    assert err.startswith("fastopt: ") and err.count("\n") == 1 and "Traceback" not in err
    return err


# --- help and mistakes -----------------------------------------------------------------------


@pytest.mark.parametrize("argv", [[], ["--help"], ["-h"]])
def test_help_names_the_commands(argv, capsys):
    code, out, _ = run(*argv, capsys=capsys)
    assert code == 0
    assert all(name in out for name in ("train", "predict", "info", "bench", "fastopt train demo"))


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("train", ["--test", "--loss", "--l2", "--epochs", "--threads", "--step", "--schedule",
                   "--seed", "--out", "--quiet", "hinge|logistic|squared", "Examples", "1e-4"]),
        ("predict", ["--out", "--proba", "MODEL", "Examples"]),
        ("info", ["instruction set"]),
        ("bench", ["--threads", "Examples"]),
    ],
)  # fmt: skip
def test_help_of_each_command(command, words, capsys):
    code, out, _ = run(command, "--help", capsys=capsys)
    assert code == 0
    for word in words:
        assert word in out


@pytest.mark.parametrize(
    ("argv", "code", "words"),
    [
        ("nonsense", 2, ["nonsense"]),
        ("train", 2, ["FILE"]),
        ("train demo --lss hinge", 2, ["--lss", "--loss"]),
        ("train demo --loss foo", 2, ["--loss", "'foo'", "'hinge', 'logistic', 'squared'"]),
        ("train demo --schedule foo", 2, ["--schedule", "inverse_time", "constant", "epoch_decay"]),
        ("train demo --l2 -1", 2, ["--l2", "at least 0"]),
        ("train demo --l2 nan", 2, ["--l2", "at least 0"]),
        ("train demo --l2 x", 2, ["--l2", "valid"]),
        ("train demo --epochs 0", 2, ["--epochs", "1"]),
        ("train demo --epochs 1.5", 2, ["--epochs", "integer"]),
        ("train demo --step 0", 2, ["--step", "'auto'", "above 0"]),
        ("train demo --step inf", 2, ["--step", "'auto'", "above 0"]),
        ("train demo --threads 0", 2, ["--threads", "at least 1"]),
        ("train demo --threads 1,,2", 2, ["--threads", "at least 1"]),
        ("train demo --threads two", 2, ["--threads", "'two'"]),
        ("train demo --seed -1", 2, ["--seed", "0"]),
        ("train demo --test x.svm", 2, ["--test"]),
        ("train demo --loss squared", 2, ["--loss", "hinge or logistic"]),
        ("train demo --out no/such/folder/m.npz", 2, ["--out", "no/such/folder"]),
        ("train demo --out .", 2, ["--out", "folder"]),
        ("train no.svm", 1, ["no.svm", "No such file"]),
        ("train .", 1, [".", "directory"]),
        ("train good.svm --test no.svm", 1, ["--test", "no.svm", "No such file"]),
        ("train bad.svm", 1, ["bad.svm:2: byte 5", "'x'"]),
        ("train good.svm --test bad.svm", 1, ["--test", "bad.svm:2: byte 5"]),
        ("train empty.svm", 1, ["empty.svm", "no rows"]),
        ("train bare.svm", 1, ["bare.svm", "no values"]),
        ("train same.svm", 1, ["same.svm", "labels", "at least 2"]),
        ("train real.svm", 1, ["real.svm", "labels", "--loss squared"]),
        ("predict no.npz good.svm", 1, ["no.npz", "No such file"]),
        ("predict good.svm good.svm", 1, ["good.svm", "not a fastopt linear model"]),
        ("predict model.npz no.svm", 1, ["no.svm", "No such file"]),
        ("predict model.npz bad.svm", 1, ["bad.svm:2: byte 5"]),
        ("predict model.npz good.svm --proba", 2, ["--proba", "--loss logistic", "hinge"]),
        ("predict model.npz good.svm --out no/such/f", 2, ["--out", "no/such"]),
        ("bench --threads -3", 2, ["--threads", "at least 1"]),
    ],
)
def test_mistakes_are_one_line(argv, code, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write(Path("good.svm"), [1, -1] * 20)
    Path("bad.svm").write_text("1 1:2\n1 3:x\n")
    Path("empty.svm").write_text("")
    Path("bare.svm").write_text("1\n0\n" * 20)
    Path("same.svm").write_text("1 1:2\n" * 30)
    Path("real.svm").write_text("".join(f"{k / 7} 1:{k}\n" for k in range(30)))
    settings = {"loss": "hinge"}
    models.save(
        "model.npz", models.LinearModel(np.ones((1, 9)), np.zeros(1), np.array([-1, 1]), settings)
    )
    before = sorted(os.listdir())
    found, out, err = run(*argv.split(), capsys=capsys)
    assert found == code
    assert out == ""
    for word in words:
        assert word in one_line(err)
    assert sorted(os.listdir()) == before


def test_only_users_mistakes_lose_their_traceback(monkeypatch, tmp_path):
    def broken(*args, **kwargs):
        raise RuntimeError("a bug")

    monkeypatch.setattr(training, "file_data", broken)
    with pytest.raises(RuntimeError, match="a bug"):
        main(["train", str(write(tmp_path / "a.svm", [0, 1] * 20))])


# --- training and predicting -----------------------------------------------------------------


@pytest.mark.parametrize("loss", ["logistic", "hinge"])
@pytest.mark.parametrize("names", [[0, 1], [-1, 1], [2.5, 7], [3, 5, 9], [-4, 0, 1, 2, 8]])
def test_train_and_predict_give_back_the_files_labels(names, loss, tmp_path, capsys):
    train = write(tmp_path / "train.svm", names * 200)
    test = write(tmp_path / "test.svm", names * 50, seed=1)
    model = tmp_path / "m.npz"
    code, out, err = run(
        "train", train, "--test", test, "--loss", loss, "--out", model, "--threads", 1,
        capsys=capsys,
    )  # fmt: skip
    assert (code, err) == (0, "")
    [row] = cells(out)
    assert row["threads"] == "1" and "speed-up" not in row
    assert float(row["test accuracy"]) == 1.0
    assert f"{len(names) * 200:,} rows" in out and "MB/s" in out and "mode" in out
    for name in names:
        assert f"{name} ({200})" in out
    code, out, err = run("predict", model, test, capsys=capsys)
    assert code == 0
    assert [float(line) for line in out.splitlines()] == names * 50
    assert out.splitlines()[: len(names)] == [str(name) for name in names]
    assert "accuracy 1.0000" in err


def test_predict_reproduces_the_accuracy_of_train(tmp_path, capsys):
    train = write(tmp_path / "train.svm", [1, 2, 3] * 2000, noise=0.4)
    test = write(tmp_path / "test.svm", [1, 2, 3] * 100, seed=1, noise=0.4)
    model, labels = tmp_path / "m.npz", tmp_path / "labels.txt"
    code, out, _ = run(
        "train", train, "--test", test, "--out", model, "--threads", "1,2", capsys=capsys
    )
    assert code == 0
    rows = cells(out)
    assert [row["threads"] for row in rows] == ["1", "2"]
    assert rows[0]["speed-up"] == "1.00×" and "last row saved" in out
    code, out, err = run("predict", model, test, "--out", labels, capsys=capsys)
    assert (code, out) == (0, "")
    said = float(re.search(r"accuracy ([\d.]+)", err)[1])
    y = load_svmlight(test)[1]
    exact = np.mean(np.loadtxt(labels) == y)
    assert said == float(rows[1]["test accuracy"]) == round(exact, 4)
    assert 0.5 < exact < 0.9
    assert exact == training.evaluate(models.load(model), *training.read(str(test))[:2])["accuracy"]


def test_without_a_test_file_a_tenth_is_held_out(tmp_path, capsys):
    file = write(tmp_path / "a.svm", [0, 1] * 500)
    code, out, _ = run("train", file, capsys=capsys)
    assert code == 0
    assert "100 rows of them (10 %, always the same), held out" in out
    train, test = training.split(1000)
    assert len(test) == 100 and sorted([*train, *test]) == list(range(1000))
    X, y, *_ = training.read(str(file))
    data = training.file_data("a", X, y, None, "logistic")
    assert np.array_equal(data.y, y[train]) and np.array_equal(data.y_test, y[test])
    for part, rows in ((data.X, train), (data.X_test, test)):
        assert (part.to_scipy() != X.to_scipy()[rows]).nnz == 0


def test_few_rows_train_without_a_test(tmp_path, capsys):
    code, out, _ = run("train", write(tmp_path / "a.svm", [0, 1] * 5), capsys=capsys)
    assert code == 0
    assert "none held out" in out and "accuracy" not in out


def test_regression(tmp_path, capsys):
    rng = np.random.default_rng(0)
    w = rng.normal(size=8)
    for name, n in (("train", 2000), ("test", 300)):
        X = rng.normal(size=(n, 8))
        lines = [
            f"{x @ w + 0.5 + 0.1 * e:.6f} " + " ".join(f"{k + 1}:{v:.6f}" for k, v in enumerate(x))
            for x, e in zip(X, rng.normal(size=n), strict=True)
        ]
        (tmp_path / f"{name}.svm").write_text("\n".join(lines))
    model = tmp_path / "m.npz"
    code, out, _ = run(
        "train", tmp_path / "train.svm", "--test", tmp_path / "test.svm", "--loss", "squared",
        "--out", model, capsys=capsys,
    )  # fmt: skip
    assert code == 0
    [row] = cells(out)
    assert 0.09 < float(row["RMSE"]) < 0.12 and float(row["R²"]) > 0.98
    code, out, err = run("predict", model, tmp_path / "test.svm", capsys=capsys)
    assert f"RMSE {row['RMSE']}, R² {row['R²']}" in err
    y = load_svmlight(tmp_path / "test.svm")[1]
    error = np.array([float(line) for line in out.splitlines()]) - y
    assert f"{np.sqrt(np.mean(error**2)):.4f}" == row["RMSE"]


def test_proba_adds_the_classes_probabilities(tmp_path, capsys):
    file = write(tmp_path / "a.svm", [3, 5, 9] * 100)
    model = tmp_path / "m.npz"
    assert run("train", file, "--out", model, capsys=capsys)[0] == 0
    code, out, err = run("predict", model, file, "--proba", capsys=capsys)
    assert code == 0 and "Probabilities of: 3 5 9" in err
    rows = np.array([line.split() for line in out.splitlines()], float)
    assert rows.shape == (300, 4)
    np.testing.assert_allclose(rows[:, 1:].sum(1), 1, atol=1e-5)
    assert (np.array([3, 5, 9])[rows[:, 1:].argmax(1)] == rows[:, 0]).all()


def test_columns_and_labels_that_were_not_in_training_are_counted_aloud(tmp_path, capsys):
    train = write(tmp_path / "train.svm", [0, 1] * 100, columns=10)
    test = tmp_path / "test.svm"
    test.write_text("0 1:1 50:3 70:1\n1 2:1 50:1\n7 2:1\n")
    model = tmp_path / "m.npz"
    code, out, _ = run("train", train, "--test", test, "--out", model, capsys=capsys)
    assert code == 0
    [row] = cells(out)
    assert row["test accuracy"] == "0.6667"
    assert "1 test rows of" in out and "labels that were not in training" in out
    assert "2 columns (3 values)" in out and "were not in training" in out
    code, out, err = run("predict", model, test, capsys=capsys)
    assert code == 0 and out.split() == ["0", "1", "1"]
    assert "2 columns (3 values)" in err and "labels that were not in training" in err


def test_a_file_without_index_0_is_not_shifted_against_one_with_it(tmp_path, capsys):
    train = write(tmp_path / "train.svm", [0, 1, 2] * 100, first=0)
    assert " 0:" in train.read_text()
    test = tmp_path / "test.svm"
    test.write_text("1 1:1\n2 2:1\n" * 20)  # no index 0: "auto" would read it one-based
    model = tmp_path / "m.npz"
    code, out, _ = run("train", train, "--test", test, "--out", model, capsys=capsys)
    assert code == 0 and cells(out)[0]["test accuracy"] == "1.0000"
    code, out, _ = run("predict", model, test, capsys=capsys)
    assert out.split() == ["1", "2"] * 20


def test_quiet_prints_the_table_only(tmp_path, capsys):
    file = write(tmp_path / "a.svm", [0, 1] * 100)
    code, out, err = run("train", file, "-q", "--threads", "1,2", capsys=capsys)
    assert (code, err) == (0, "")
    assert out.startswith("threads") and len(out.splitlines()) == 4 and len(cells(out)) == 2


def test_odd_file_names_are_printed_as_they_are(tmp_path, capsys):
    file = write(tmp_path / "[bold]a[1] :smile: é.svm", [0, 1] * 100)
    model = tmp_path / "[red].npz"
    code, out, _ = run("train", file, "--out", model, capsys=capsys)
    assert code == 0 and f"{file}: 200 rows" in out and f"saved to {model}" in out
    code, _, err = run("predict", model, file, capsys=capsys)
    assert code == 0 and f"{file}: 200 rows" in err


def test_divergence_is_an_error_and_saves_nothing(tmp_path, capsys):
    file = tmp_path / "a.svm"
    file.write_text("".join(f"{k} 1:{k}e15 2:1\n" for k in range(1, 101)))
    model = tmp_path / "m.npz"
    argv = ("--loss", "squared", "--step", 1, "--l2", 0, "--schedule", "constant")
    code, out, err = run("train", file, *argv, "--out", model, capsys=capsys)
    assert code == 1 and len(cells(out)) == 1 and not model.exists()
    assert "diverged" in one_line(err) and "nothing saved" in err and "step below 1" in err


def test_an_option_that_the_runner_refuses_is_named(tmp_path, capsys):
    file = write(tmp_path / "a.svm", [0, 1] * 100)
    code, _, err = run("train", file, "--step", 1e9, "--l2", 1, capsys=capsys)
    assert code == 2 and one_line(err).startswith("fastopt: --step must be")


def test_a_model_that_cannot_be_written_does_not_lose_the_table(tmp_path, monkeypatch, capsys):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(models, "save", full)
    file = write(tmp_path / "a.svm", [0, 1] * 100)
    code, out, err = run("train", file, "--out", tmp_path / "m.npz", capsys=capsys)
    assert code == 1 and len(cells(out)) == 1
    assert one_line(err) == "fastopt: --out: No space left on device\n"


def test_fewer_threads_than_asked_for_are_not_hidden(tmp_path, capsys):
    file = write(tmp_path / "a.svm", [0, 1] * 100)
    code, out, _ = run("train", file, "--threads", 2, capsys=capsys)
    assert code == 0 and cells(out)[0]["threads"] == "1 of 2"
    assert re.search(r"^mode +serial: 180 rows are too few", out, re.M)


def test_settings_are_kept_in_the_model(tmp_path, capsys):
    file = write(tmp_path / "a.svm", [0, 1] * 100)
    model = tmp_path / "m.npz"
    argv = "--loss hinge --l2 1e-3 --epochs 3 --step 0.05 --schedule constant --seed 5 --threads 1"
    assert run("train", file, "--out", model, *argv.split(), capsys=capsys)[0] == 0
    settings = models.load(model).settings
    want = {"loss": "hinge", "l2": 1e-3, "epochs": 3, "step": 0.05, "schedule": "constant",
            "seed": 5, "threads": 1, "data": str(file), "rows": 180}  # fmt: skip
    assert {name: settings[name] for name in want} == want
    assert settings["fastopt"] and settings["mode"]


def test_one_thread_and_one_seed_give_one_model(tmp_path, capsys):
    file = write(tmp_path / "a.svm", [0, 1] * 300, noise=0.3)
    found = []
    for seed in (1, 1, 2):
        model = tmp_path / "m.npz"
        run("train", file, "--out", model, "--threads", 1, "--seed", seed, capsys=capsys)
        found.append(models.load(model).W.tobytes())
    assert found[0] == found[1] != found[2]


# --- the demo --------------------------------------------------------------------------------


@pytest.fixture
def library(tmp_path, monkeypatch):
    """A demo of three small packages."""
    rng = np.random.default_rng(0)
    for name in ("alpha", "beta", "gamma"):
        words = [f"{name}_{k}" for k in range(20)] + ["shared"] * 5
        lines = {f"{a} = {b}({k})" for k, (a, b) in enumerate(rng.choice(words, (2000, 2)))}
        (tmp_path / "lib").mkdir(exist_ok=True)
        (tmp_path / "lib" / f"{name}.py").write_text("\n".join(sorted(lines)))
    monkeypatch.setattr(demo, "default_folders", lambda: [("", str(tmp_path / "lib"))])


def test_demo_compares_one_thread_with_all(library, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(commands, "resolve", lambda n=None: n or 2)
    model = tmp_path / "m.npz"
    code, out, _ = run("train", "demo", "--epochs", 5, "--out", model, capsys=capsys)
    assert code == 0
    rows = cells(out)
    assert [row["threads"] for row in rows] == ["1", "2"]
    assert all(float(row["test accuracy"]) > 0.9 for row in rows)
    assert "distinct lines of" in out and "would be right on" in out and "alpha, beta" in out
    assert models.load(model).settings["l2"] == 1e-6
    code, out, err = run("predict", model, "demo", capsys=capsys)
    assert code == 0 and set(out.split()) == {"alpha", "beta", "gamma"}
    assert f"accuracy {rows[1]['test accuracy']}" in err
    file = write(tmp_path / "a.svm", [0, 1])
    code, out, err = run("predict", model, file, capsys=capsys)
    assert code == 0 and len(out.split()) == 2 and "No accuracy" in err


def test_demo_on_one_cpu_has_one_row_and_says_why(library, monkeypatch, capsys):
    monkeypatch.setattr(commands, "resolve", lambda n=None: n or 1)
    code, out, _ = run("train", "demo", "--epochs", 2, capsys=capsys)
    assert code == 0 and len(cells(out)) == 1 and "may use one CPU" in out


def test_demo_without_sources_is_one_line(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(demo, "default_folders", lambda: [("", str(tmp_path / "nothing"))])
    code, _, err = run("train", "demo", capsys=capsys)
    assert code == 1 and "needs the source files" in one_line(err)


# --- info and bench --------------------------------------------------------------------------


def test_info_shows_what_runs(capsys):
    code, out, _ = run("info", capsys=capsys)
    assert code == 0
    for word in ("instruction set", "threads", "OpenMP", "compiler", "flags"):
        assert word in out


def test_bench_shows_every_rule_and_loss(library, monkeypatch, capsys):
    monkeypatch.setattr(quickbench, "SIZE", 10_000)
    code, out, _ = run("bench", "--threads", "1,2", capsys=capsys)
    assert code == 0
    for word in ("SGD", "Momentum", "Adagrad", "RMSprop", "Adam", "logistic", "hinge", "squared"):
        assert word in out
    assert len(re.findall(r"^ *(?:\w+ +)?[12] +[\d.]+ ", out, re.M)) == 16


# --- in processes of their own ---------------------------------------------------------------


def start(*argv, **options):
    """Start the command, in a folder without a fastopt that would come before the installed one."""
    return subprocess.Popen(
        [sys.executable, "-m", "fastopt", *map(str, argv)], stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, cwd=tempfile.gettempdir(), **options,
    )  # fmt: skip


def test_module_runs_and_output_without_a_terminal_is_plain(tmp_path):
    file = write(tmp_path / "a.svm", [0, 1] * 500)
    process = start("train", file, "--epochs", 20_000, "--threads", 1)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (0, "")
    assert "\x1b" not in out and "\r" not in out
    if float(cells(out)[0]["seconds"]) > 1.2:
        line = r"^1 thread: \d+%, epoch +\d+/20000, .* rows, .* nnz/s, .* left$"
        assert re.search(line, out, re.M)


def test_ascii_output_does_not_fail(tmp_path):
    file = write(tmp_path / "a.svm", [0, 1] * 50)
    env = {**os.environ, "PYTHONIOENCODING": "ascii"}
    process = start("train", file, env=env)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "") and "test accuracy" in out


def test_a_terminal_gets_a_bar_that_moves(tmp_path):
    file = write(tmp_path / "a.svm", [0, 1] * 500)
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "fastopt", "train", str(file), "--epochs", "20000"],
        stdout=theirs, stderr=theirs, cwd=tempfile.gettempdir(),
        env={**os.environ, "TERM": "xterm", "COLUMNS": "120"},
    )  # fmt: skip
    os.close(theirs)
    seen = b""
    while select.select([ours], [], [], 120)[0]:
        try:
            piece = os.read(ours, 65536)
        except OSError:
            break
        seen += piece
    process.wait()
    os.close(ours)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen.decode())
    assert process.returncode == 0
    shares = {int(share) for share in re.findall(r"(\d+)% epoch", text)}
    assert 100 in shares and b"\x1b[" in seen
    assert "20000/20000" in text and "nnz/s" in text
    assert re.search(r"0\.\d+ [▁▂▃▄▅▆▇█]{6}", text)  # the objective and its curve


def interrupt(process) -> tuple[str, str, float]:
    """Send Ctrl-C once training has begun; return the output and the seconds until the end."""
    lines = []
    while not (lines and lines[-1].startswith("labels")):
        line = process.stdout.readline()
        assert line, process.stderr.read()
        lines.append(line)
    time.sleep(0.5)
    sent = time.perf_counter()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    return "".join(lines) + out, err, time.perf_counter() - sent


@pytest.mark.parametrize("names", [[0, 1], [1, 2, 3]])
def test_ctrl_c_stops_at_once_shows_the_table_and_saves_the_model(names, tmp_path):
    file = write(tmp_path / "a.svm", names * 2000)
    model = tmp_path / "m.npz"
    env = {**os.environ, "PYTHONUNBUFFERED": "1"}
    process = start("train", file, "--epochs", 10**7, "--threads", "1,2", "--out", model, env=env)
    out, err, seconds = interrupt(process)
    assert process.returncode == 130
    assert "stopped early" in one_line(err)
    [row] = cells(out)  # training with 2 threads does not begin
    # the classifiers of several classes are trained one after the other: some have not begun
    assert row["threads"] == "1" and float(row["test accuracy"]) > (
        0.99 if len(names) == 2 else 0.3
    )
    assert models.load(model).classes.tolist() == names
    assert seconds < 1.0  # of which training may take 0.2; the rest is evaluating and leaving


def test_ctrl_c_while_reading_ends_with_130(tmp_path):
    fifo = tmp_path / "slow.svm"
    os.mkfifo(fifo)
    process = start("train", fifo)
    with open(fifo, "wb") as pipe:
        pipe.write(b"1 1:1\n")
        pipe.flush()
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "interrupted while reading" in one_line(err)


def test_a_closed_pipe_is_no_traceback(tmp_path):
    classes = np.array([10**17, 10**18])  # long lines: more than any pipe holds
    model = models.LinearModel(np.ones((1, 40)), np.zeros(1), classes, {"loss": "hinge"})
    models.save(tmp_path / "m.npz", model)
    many = tmp_path / "many.svm"
    many.write_text("1 1:1\n0 2:-1\n" * 150_000)
    process = start("predict", tmp_path / "m.npz", many)
    assert process.stdout.readline() == f"{10**18}\n"
    process.stdout.close()
    assert "Traceback" not in process.stderr.read()
    assert process.wait(timeout=60) == 0


@pytest.mark.parametrize("missing", ["typer", "rich"])
def test_without_the_extra_one_line_names_it(missing):
    script = (
        f"import sys; sys.modules[{missing!r}] = None\n"
        "from fastopt.cli import main\nsys.exit(main(['info']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=tempfile.gettempdir()
    )
    assert done.returncode == 1 and done.stdout == ""
    assert "pip install 'fastopt[cli]'" in one_line(done.stderr)


def test_the_package_does_not_import_the_extra():
    script = "import sys, fastopt, fastopt.cli; print({'typer', 'rich'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=tempfile.gettempdir()
    )
    assert done.stdout == "set()\n"


# --- real files ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("train", "test", "least"),
    [
        ("a9a.svm.gz", "a9a.t.svm.gz", 0.845),
        ("w8a.svm.gz", None, 0.98),
        ("agaricus.txt.train.svm.gz", "agaricus.txt.test.svm.gz", 0.999),
    ],
)
def test_real_files(train, test, least, tmp_path, capsys):
    for name in filter(None, (train, test)):
        if not (DATA / name).exists():
            pytest.skip(f"{name} is not in {DATA} (set FASTOPT_DATA)")
    argv = ["--test", DATA / test] if test else []
    model = tmp_path / "m.npz"
    code, out, _ = run(
        "train", DATA / train, *argv, "--l2", 1e-5, "--threads", "1,2", "--out", model,
        capsys=capsys,
    )  # fmt: skip
    assert code == 0
    rows = cells(out)
    assert [row["threads"] for row in rows] == ["1", "2"]
    assert all(float(row["test accuracy"]) > least for row in rows)
    if test:
        code, _, err = run("predict", model, DATA / test, "--out", tmp_path / "x", capsys=capsys)
        assert code == 0 and f"accuracy {rows[1]['test accuracy']}" in err


def test_version(capsys):
    code, out, _ = run("--version", capsys=capsys)
    assert (code, out) == (0, f"fastopt {fastopt.__version__}\n")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_is_one_line(tmp_path):
    train = write(tmp_path / "t.svm", [0, 1] * 50)
    model = tmp_path / "m.npz"
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "fastopt", "train", train, "--out", model], stdout=full,
            stderr=subprocess.PIPE, text=True, cwd=tmp_path,
        )  # fmt: skip
    assert done.returncode == 1 and "No space left on device" in one_line(done.stderr)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_an_unwritable_out_is_refused_before_training(tmp_path, capsys):
    train = write(tmp_path / "t.svm", [0, 1] * 50)
    (tmp_path / "closed").mkdir(mode=0o500)
    code, out, err = run("train", train, "--out", tmp_path / "closed" / "m", capsys=capsys)
    assert code == 2 and out == "" and "cannot be written here" in one_line(err)
