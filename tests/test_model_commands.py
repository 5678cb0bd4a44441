"""`fastopt train --checkpoint`, `resume` and `export`: killed trainings, and what others read."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest

pytest.importorskip("typer")
from fastopt.cli import main
from fastopt.data import load_svmlight
from fastopt.sparse import exports, models


@pytest.fixture(autouse=True)
def wide(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")


def run(*argv, capsys):
    code = main([str(a) for a in argv])
    out = capsys.readouterr()
    return code, out.out, out.err


def data(path, labels=(-1, 1), rows=400, first=1, seed=0):
    """Write rows whose label their first three columns tell."""
    r = np.random.default_rng(seed)
    X = r.normal(size=(rows, 6)).round(3)
    edges = np.quantile(X[:, 0] + X[:, 1], np.arange(1, len(labels)) / len(labels))
    y = np.array(labels)[np.digitize(X[:, 0] + X[:, 1], edges)]
    lines = [
        " ".join([str(label), *(f"{j + first}:{x}" for j, x in enumerate(row))])
        for label, row in zip(y, X, strict=True)
    ]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL there")
@pytest.mark.parametrize("loss", ["logistic", "multinomial"])
def test_killed_and_resumed(loss, tmp_path, capsys):
    """A command that is killed ends, resumed, with the model of one that was not."""
    file = data(tmp_path / "a.svm", labels=(1, 2, 3))
    options = ["--epochs", "9000", "--threads", "1", "--loss", loss]
    assert run("train", file, *options, "--out", tmp_path / "whole.npz", capsys=capsys)[0] == 0
    again = [*options, "--out", "again.npz", "--checkpoint", "run.ck", "--every", "0"]
    command = [sys.executable, "-m", "fastopt", "train", "a.svm", *again]
    process = subprocess.Popen(command, cwd=tmp_path)
    checkpoint = tmp_path / "run.ck"
    first = None
    while process.poll() is None:
        now = checkpoint.stat().st_mtime_ns if checkpoint.exists() else None
        if first is not None and now != first:  # written a second time
            break
        first = now
        time.sleep(0.001)
    process.kill()
    assert process.wait(60) == -9 and not (tmp_path / "again.npz").exists()
    code, out, _ = run("resume", checkpoint, "--every", 60, capsys=capsys)
    assert code == 0 and "rows had been trained on before" in out and "again.npz" in out
    whole, resumed = models.load(tmp_path / "whole.npz"), models.load(tmp_path / "again.npz")
    np.testing.assert_array_equal(whole.W, resumed.W)
    np.testing.assert_array_equal(whole.b, resumed.b)


def test_resume_says_what_is_wrong(tmp_path, capsys):
    file = data(tmp_path / "a.svm")
    checkpoint = tmp_path / "run.ck"
    train = ["train", file, "--epochs", 3, "--threads", 1, "--checkpoint", checkpoint]
    assert run(*train, capsys=capsys)[0] == 0
    code, _, err = run(*train, capsys=capsys)
    assert code == 2 and f"`fastopt resume {checkpoint}` goes on" in err
    code, out, _ = run("resume", checkpoint, capsys=capsys)  # complete: the same table
    assert code == 0 and "had been trained on before" in out
    data(file, seed=1)
    code, _, err = run("resume", checkpoint, capsys=capsys)
    assert code == 1 and "is of another training: " in err and "values of X are others" in err
    checkpoint.write_bytes(checkpoint.read_bytes()[:-100])
    code, _, err = run("resume", checkpoint, capsys=capsys)
    assert code == 1 and "run.ck: not a fastopt training checkpoint" in err
    code, _, err = run("resume", tmp_path / "none.ck", capsys=capsys)
    assert code == 1 and "No such file" in err and len(err.splitlines()) == 1
    checkpoint.unlink()
    code, _, err = run(*train, "--threads", "1,2", capsys=capsys)
    assert code == 2 and "one number of --threads" in err


def test_json_of_train(tmp_path, capsys):
    file = data(tmp_path / "a.svm", labels=(1, 2, 3))
    code, out, _ = run("train", file, "--json", "--epochs", 4, "--threads", 1, capsys=capsys)
    found = json.loads(out)
    assert code == 0 and len(out.splitlines()) == 1
    (one,) = found["runs"]
    assert one["metrics"]["accuracy"] > 0.5 and one["resumed"] == 0
    objectives = [[h["objective"] for h in one["history"] if h["problem"] == k] for k in range(3)]
    assert [len(o) for o in objectives] == [4, 4, 4]
    np.testing.assert_allclose(one["objective"], np.mean([o[-1] for o in objectives]))


def trained(tmp_path, capsys, labels, first=1, loss="logistic"):
    file, model = data(tmp_path / "a.svm", labels, first=first), tmp_path / "m.npz"
    options = ["--loss", loss, "--out", model, "--epochs", 5, "--threads", 1]
    assert run("train", file, *options, capsys=capsys)[0] == 0
    X, _ = load_svmlight(file, zero_based=True)[:2]
    dense = np.zeros(X.shape)
    dense[np.repeat(np.arange(X.shape[0]), np.diff(X.indptr)), X.indices] = X.data
    return model, models.load(model), X, dense


@pytest.mark.parametrize("labels", [(-1, 1), (1, 2, 3)])
def test_csv_and_json_have_the_weights(labels, tmp_path, capsys):
    model, mine, *_ = trained(tmp_path, capsys, labels)
    assert run("export", model, tmp_path / "w.csv", capsys=capsys)[0] == 0
    with open(tmp_path / "w.csv", newline="") as file:
        head, intercepts, *rows = csv.reader(file)
    assert head == ["column", "name", *map(str, labels[1:] if len(labels) == 2 else labels)]
    W = np.zeros_like(mine.W)
    for column, _, *weights in rows:
        W[:, int(column)] = np.array(weights, mine.W.dtype)
    np.testing.assert_array_equal(W, mine.W)
    np.testing.assert_array_equal(np.array(intercepts[2:], float), mine.b)
    code, out, _ = run("export", model, tmp_path / "w.json", "--json", capsys=capsys)
    assert code == 0 and json.loads(out)["format"] == "json"
    found = json.loads((tmp_path / "w.json").read_text())
    np.testing.assert_array_equal(np.array(found["weights"], mine.W.dtype), mine.W)
    assert found["intercepts"] == mine.b.tolist() and found["classes"] == list(labels)
    assert found["settings"]["loss"] == "logistic"


@pytest.mark.parametrize(
    ("labels", "loss"), [((-1, 1), "hinge"), ((1, 2, 3), "logistic"), ((0.5, 1.5), "squared")]
)
def test_scikit_learn_predicts_the_same(labels, loss, tmp_path, capsys):
    joblib = pytest.importorskip("joblib")
    pytest.importorskip("sklearn")
    model, mine, X, dense = trained(tmp_path, capsys, labels, loss=loss)
    assert run("export", model, tmp_path / "m.joblib", capsys=capsys)[0] == 0
    theirs = joblib.load(tmp_path / "m.joblib")
    assert type(theirs).__module__.startswith("sklearn.")
    np.testing.assert_allclose(theirs.predict(dense), mine.predict(X), rtol=1e-6)
    if loss == "logistic":
        expected = mine.probability(mine.decision(X))
        np.testing.assert_allclose(theirs.predict_proba(dense), expected, rtol=1e-5, atol=1e-15)


def liblinear_predictions(text, rows):
    """LIBLINEAR's `predict`, after `load_model` and `predict_values` of its linear.cpp."""
    lines = iter(text.splitlines())
    head = dict(line.split(" ", 1) for line in iter(lines.__next__, "w"))
    n, bias = int(head["nr_feature"]), float(head["bias"])
    W = np.array([line.split() for line in lines], float)
    assert len(W) == n + (bias >= 0)
    decision = np.array([[bias] @ W[n:] + sum(x * W[j - 1] for j, x in row) for row in rows])
    if "label" not in head:
        return decision[:, 0]
    labels = np.array(head["label"].split(), int)
    assert len(labels) == int(head["nr_class"])
    one = len(labels) == 2 and head["solver_type"] != "MCSVM_CS"
    assert W.shape[1] == (1 if one else len(labels))
    if one:
        return np.where(decision[:, 0] > 0, labels[0], labels[1])
    return labels[decision.argmax(axis=1)]


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize(
    ("labels", "loss"), [((-1, 1), "hinge"), ((1, 2, 3), "logistic"), ((0.5, 1.5), "squared")]
)
def test_liblinear_predicts_the_same(labels, loss, first, tmp_path, capsys):
    model, mine, X, dense = trained(tmp_path, capsys, labels, first, loss)
    code, out, _ = run("export", model, tmp_path / "m.model", capsys=capsys)
    assert code == 0 and ("feature k + 1 is column k" in out) == (first == 0)
    rows = [[(j + 1 if first == 0 else j, x) for j, x in enumerate(r) if j >= first] for r in dense]
    text = (tmp_path / "m.model").read_text()
    np.testing.assert_allclose(liblinear_predictions(text, rows), mine.predict(X), rtol=1e-6)


def test_liblinear_itself_reads_it(tmp_path, capsys):
    util = pytest.importorskip("liblinear.liblinearutil")
    model, mine, X, dense = trained(tmp_path, capsys, (1, 2, 3))
    assert run("export", model, tmp_path / "m.model", capsys=capsys)[0] == 0
    theirs = util.load_model(str(tmp_path / "m.model"))
    rows = [{j: x for j, x in enumerate(row) if j} for row in dense]
    labels, _, _ = util.predict([], rows, theirs, "-q")
    np.testing.assert_array_equal(labels, mine.predict(X))


@pytest.mark.parametrize("classes", [(4, 7), (1, 2, 5)])
def test_models_of_several_classes_together(classes, tmp_path):
    """One output for each class, of two as well: softmax, and SVMs that take the largest."""
    joblib = pytest.importorskip("joblib")
    pytest.importorskip("sklearn")
    r = np.random.default_rng(0)
    n = len(classes)
    W, b = r.normal(size=(n, 5)), r.normal(size=n)
    W[:, 0] = 0
    X = r.normal(size=(50, 5))
    scores = X @ W.T + b
    largest = np.array(classes)[scores.argmax(1)]
    for loss in ("multinomial", "crammer_singer", "weston_watkins"):
        model = models.LinearModel(W, b, np.array(classes), {"loss": loss, "l2": 0.1})
        exports.write(str(tmp_path / "m.joblib"), model, "sklearn")
        theirs = joblib.load(tmp_path / "m.joblib")
        np.testing.assert_array_equal(theirs.predict(X), largest)
        if loss == "multinomial":
            softmax = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
            np.testing.assert_allclose(theirs.predict_proba(X), softmax, rtol=1e-9)
            with pytest.raises(ValueError, match="LIBLINEAR has no loss 'multinomial'"):
                exports.write(str(tmp_path / "m.model"), model, "liblinear")
            continue
        assert not exports.write(str(tmp_path / "m.model"), model, "liblinear")
        rows = [[(j, x) for j, x in enumerate(row) if j] for row in X]
        text = (tmp_path / "m.model").read_text()
        assert text.startswith("solver_type MCSVM_CS\n")
        np.testing.assert_array_equal(liblinear_predictions(text, rows), largest)


def test_export_refused(tmp_path, capsys):
    model, *_ = trained(tmp_path, capsys, (-1, 1))
    code, _, err = run("export", model, tmp_path / "m.xyz", capsys=capsys)
    assert code == 1 and ".csv, .json, .joblib" in err
    code, _, err = run("export", model, tmp_path / "none" / "m.csv", capsys=capsys)
    assert code == 2 and err.startswith("fastopt: OUT: no such folder")
    named = models.LinearModel(
        np.ones((1, 3), "f4"), np.zeros(1), np.array(["a", "b"]), {"loss": "hinge"}
    )
    models.save(tmp_path / "named.npz", named)
    code, _, err = run("export", tmp_path / "named.npz", tmp_path / "x.model", capsys=capsys)
    assert code == 1 and "labels are whole numbers" in err
    assert not os.path.exists(tmp_path / "x.model")


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("resume", ["FILE", "--threads", "--every", "--json", "Examples", "--checkpoint"]),
        ("export", ["MODEL", "OUT", "csv|json|sklearn|liblinear", "--json", "Examples", "joblib"]),
        ("train", ["--checkpoint", "--every", "--json"]),
    ],
)
def test_help(command, words, capsys):
    code, out, _ = run(command, "--help", capsys=capsys)
    assert code == 0 and all(word in out for word in words)
