"""The commands stats and convert; train and predict on other formats than svmlight."""

import gzip
import json

import numpy as np
import pytest

pytest.importorskip("typer", reason="the command line needs the cli extra")
pytest.importorskip("rich", reason="the command line needs the cli extra")

from fastopt.cli import inputs, main
from fastopt.data import load_svmlight, open_data, writers


@pytest.fixture(autouse=True)
def wide(monkeypatch, tmp_path):
    """Lines are not wrapped; files are the test's own."""
    monkeypatch.setenv("COLUMNS", "250")
    monkeypatch.chdir(tmp_path)


def run(*argv, capsys):
    code = main([str(arg) for arg in argv])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def svm(n=300, seed=0, first=1):
    """Return svmlight text whose labels can be learned, without column 3."""
    rng = np.random.default_rng(seed)
    lines = []
    for _ in range(n):
        label = rng.integers(0, 2)
        columns = sorted({first + int(label), *(first + rng.choice([2, 4, 5, 6, 7], 3)).tolist()})
        lines.append(f"{label} " + " ".join(f"{c}:{rng.uniform(0.5, 1):.4g}" for c in columns))
    return "\n".join(lines) + "\n"


def table(n=400, seed=0, label=True):
    rng = np.random.default_rng(seed)
    rows = ["click,price,site,id"] if label else ["price,site,id"]
    for k in range(n):
        good = rng.integers(0, 2)
        site = rng.choice(["a.org", "b, inc"]) if good else rng.choice(["c.org", "d.org"])
        rows.append(f"{good}," * label + f'{rng.uniform():.3f},"{site}",{k}')
    return "\n".join(rows) + "\n"


# ---- stats


def test_stats_are_those_of_the_data_set(tmp_path, capsys):
    path = tmp_path / "a.svm"
    path.write_text(svm())
    expected = open_data(path, cache=False).stats()
    code, out, err = run("stats", path, "--json", capsys=capsys)
    found = json.loads(out)
    assert code == 0 and err == ""
    assert found["data"] == [str(path)] and found["format"] == "svmlight"
    assert found["zero_based"] is False
    for name in ("rows", "columns", "nnz", "omega", "delta", "rho", "rho_exact", "mode", "density"):
        assert found[name] == getattr(expected, name)
    code, out, err = run("stats", path, capsys=capsys)
    assert code == 0
    column, part = expected.hot[0]
    for text in ("300", f"{expected.nnz:,}", f"{expected.delta:.4g} of the rows", expected.reason,
                 f"hot      {column + 1} ({part:.1%})", "labels   0 (", "1 ("):  # fmt: skip
        assert text in out


def test_stats_of_several_files_and_of_tables(tmp_path, capsys):
    for k in range(2):
        (tmp_path / f"{k}.csv").write_text(table(seed=k))
    code, out, _ = run("stats", "?.csv", "--label", "click", "--hash-bits", "6", "--ignore", "id",
                       "--json", capsys=capsys)  # fmt: skip
    found = json.loads(out)
    assert code == 0 and found["rows"] == 800 and found["columns"] == 65
    code, out, _ = run("stats", "0.csv", "1.csv", "--label", "0", "--hash-bits", "6", "--json",
                       "--categorical", "id", "--weight", "price", capsys=capsys)  # fmt: skip
    found = json.loads(out)
    assert found["columns"] == 64 and found["weights"] == pytest.approx(400, rel=0.1)


@pytest.mark.parametrize("argv, code, words", [
    ("stats none.svm", 1, ["none.svm", "No such file"]),
    ("stats", 2, ["DATA"]),
    ("stats bad.svm", 1, ["bad.svm:2: byte 5: found 'x'"]),
    ("stats t.csv --label z", 1, ["label: the table has no column 'z'"]),
    ("stats t.csv --label click", 1, ["column 'site' holds strings", "--hash-bits 18",
                                      "--ignore 'site'"]),
    ("stats gap.csv", 1, ["gap.csv:3: byte 3", "--missing zero"]),
    ("train gap.csv --label y --out m.npz", 1, ["gap.csv:3: byte 3", "--missing zero"]),
    ("stats a.svm --label y", 1, ["label means nothing for the svmlight format"]),
    ("stats t.csv --hash-bits 99", 2, ["--hash-bits"]),
    ("stats . ", 1, ["directory"]),
    ("stats nothing-*", 1, ["no file matches nothing-*"]),
    ("convert a.svm a.xyz", 1, ["a.xyz: the name does not say what to write"]),
    ("convert a.svm no/a.svm", 2, ["no such folder"]),
    ("convert a.svm a.svm", 2, ["a.svm is one of the files to read"]),
    ("convert a.svm a.ffm", 1, ["the ffm format needs fields"]),
    ("convert w.vw a.svm", 1, ["no weights of rows"]),
    ("convert u.vw a.svm", 1, ["row 2 has no label"]),
    ("convert bad.svm a.fastopt", 1, ["bad.svm:2: byte 5: found 'x'"]),
    ("convert a.svm thesis.fastopt", 1, ["thesis.fastopt is there and no fastopt cache"]),
])  # fmt: skip
def test_mistakes_are_one_line_and_write_nothing(argv, code, words, tmp_path, capsys):
    (tmp_path / "a.svm").write_text(svm())
    (tmp_path / "bad.svm").write_text("1 1:2\n1 3:x\n")
    (tmp_path / "t.csv").write_text(table())
    (tmp_path / "gap.csv").write_text("y,a\n1,2\n0,\n")
    (tmp_path / "w.vw").write_text("1 2 | a\n")
    (tmp_path / "u.vw").write_text("1 | a\n| a\n")
    (tmp_path / "thesis.fastopt").write_text("years of work")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    found, out, err = run(*argv.split(), capsys=capsys)
    assert found == code and out == ""
    assert err.startswith("fastopt: ") and err.count("\n") == 1
    for word in words:
        assert word in err
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("command", ["stats", "convert", "train"])
def test_help_teaches(command, capsys):
    code, out, _ = run(command, "--help", capsys=capsys)
    assert code == 0 and "Examples" in out and f"fastopt {command}" in out
    assert "How the data is read" in out and "--hash-bits" in out


def test_missing_values_may_be_zeros_also_when_predicting(tmp_path, capsys):
    (tmp_path / "gap.csv").write_text("y,a,b\n" + "1,2,\n0,,3\n" * 30)
    code, out, _ = run("stats", "gap.csv", "--label", "y", "--missing", "zero", "--json",
                       capsys=capsys)  # fmt: skip
    assert code == 0 and json.loads(out)["nnz"] == 60
    how = ("--label", "y", "--missing", "zero")
    assert run("train", "gap.csv", *how, "--out", "m.npz", capsys=capsys)[0] == 0
    code, out, err = run("predict", "m.npz", "gap.csv", capsys=capsys)
    assert code == 0 and "accuracy 1.0000" in out + err


# ---- convert


def rows(path, **how):
    X, y, w = open_data(path, cache=False, **how).to_csr()
    return X.data.tolist(), X.indices.tolist(), X.indptr.tolist(), y.tolist(), w


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("out", ["b.svm", "b.svm.gz", "b.fastopt", "b.vw"])
def test_conversion_keeps_all_bits(tmp_path, capsys, first, out):
    (tmp_path / "a.svm").write_text(svm(first=first))
    code, text, _ = run("convert", "a.svm", out, capsys=capsys)
    assert code == 0 and f"{out}: 300 rows × 8 columns" in text
    assert rows(out, **({"hash_bits": 3} if out == "b.vw" else {})) == rows("a.svm")
    if out == "b.vw":
        assert "--hash-bits 3 or more" in text
    if out == "b.svm.gz":
        assert gzip.decompress((tmp_path / out).read_bytes()).startswith((b"0 ", b"1 "))


def test_any_number_is_written_so_that_it_is_read_back(tmp_path):
    rng = np.random.default_rng(0)
    for dtype in ("float32", "float64"):
        bits = rng.integers(0, 2**63, 20_000, np.uint64)
        values = (bits >> 32).astype("u4").view("f4") if dtype == "float32" else bits.view("f8")
        values = np.r_[
            values[np.isfinite(values)], [0.1, 1e-5, 1e16, 5e-324 * (dtype != "float32")]
        ]
        X = values.astype(dtype)[:, None]
        y = rng.normal(size=len(X))
        for name in ("a.svm", "a.vw"):
            writers.write(open_data(X, y, dtype=dtype), tmp_path / name)
            found = open_data(tmp_path / name, dtype=dtype, cache=False).to_csr()
            expected = X[X != 0]
            assert found[0].data.tobytes() == expected.tobytes()
            assert found[1].tobytes() == y.tobytes()


def test_vw_keeps_weights_and_missing_labels(tmp_path, capsys):
    (tmp_path / "a.vw").write_text("1 0.25 | 3:2 7\n| 3\n-1 | 5:0.5\n")
    assert run("convert", "a.vw", "b.vw", "--hash-bits", "3", capsys=capsys)[0] == 0
    a, b = (rows(name, hash_bits=3) for name in ("a.vw", "b.vw"))
    assert a[:3] == b[:3] and np.array_equal(a[3], b[3], equal_nan=True)
    assert a[4].tolist() == b[4].tolist() == [0.25, 1, 1]


def test_ffm_keeps_fields(tmp_path, capsys):
    (tmp_path / "a.ffm").write_text("1 0:1:0.5 3:1:2 1:4:1\n0 7:2:1\n")
    assert run("convert", "a.ffm", "b.ffm", capsys=capsys)[0] == 0
    a, b = (open_data(name, cache=False).to_csr()[0] for name in ("a.ffm", "b.ffm"))
    assert a.fields.tolist() == b.fields.tolist() and a.indices.tolist() == b.indices.tolist()
    code, _, err = run("convert", "a.ffm", "b.svm", capsys=capsys)
    assert code == 1 and "row 1 has columns twice or out of order" in err


def test_conversion_to_json_and_double(tmp_path, capsys):
    (tmp_path / "a.svm").write_text("1 1:0.1\n")
    code, out, _ = run("convert", "a.svm", "b.fastopt", "--double", "--json", capsys=capsys)
    found = json.loads(out)
    assert code == 0 and found["rows"] == 1 and found["format"] == "cache"
    assert found["bytes"] == (tmp_path / "b.fastopt").stat().st_size
    assert open_data("b.fastopt").to_csr()[0].data.tolist() == [0.1]


# ---- train and predict


def accuracy(err):
    return float(err.split("accuracy ")[1])


def test_train_and_predict_on_every_form_of_the_same_data(tmp_path, capsys):
    (tmp_path / "a.svm").write_text(svm(2000))
    (tmp_path / "b.svm").write_text(svm(500, seed=1))
    for name in ("a.fastopt", "a.vw", "a.svm.gz"):
        assert run("convert", "a.svm", name, capsys=capsys)[0] == 0
    run("convert", "b.svm", "b.fastopt", capsys=capsys)
    run("convert", "b.svm", "b.vw", capsys=capsys)
    lines = {}
    for name in ("a.svm", "a.fastopt", "a.svm.gz"):
        code, _, _ = run("train", name, "--threads", "1", "--out", "m.npz", capsys=capsys)
        assert code == 0
        for test in ("b.svm", "b.fastopt") if name == "a.fastopt" else ("b.svm",):
            code, lines[name, test], err = run("predict", "m.npz", test, capsys=capsys)
            assert code == 0 and accuracy(err) == 1.0
    assert len(set(lines.values())) == 1
    assert run("train", "a.vw", "--hash-bits", "4", "--out", "v.npz", capsys=capsys)[0] == 0
    code, _, err = run("predict", "v.npz", "b.vw", capsys=capsys)
    assert code == 0 and accuracy(err) == 1.0


def test_columns_that_do_not_fit_are_refused(tmp_path, capsys):
    (tmp_path / "a.svm").write_text(svm(500))
    run("convert", "a.svm", "a.fastopt", capsys=capsys)
    run("convert", "a.svm", "a.vw", capsys=capsys)
    run("convert", "a.vw", "v.fastopt", capsys=capsys)
    run("train", "a.svm", "--out", "m.npz", capsys=capsys)
    run("train", "a.vw", "--hash-bits", "4", "--out", "v.npz", capsys=capsys)
    for argv, word in (
        ("predict m.npz a.fastopt", "its columns count from 1, those of the training data from 0"),
        ("predict m.npz a.vw", "a.vw:1: byte 3: found '|'"),
        ("predict m.npz v.fastopt", "it is vw data, the training data was svmlight data"),
        ("predict v.npz a.svm", "a.svm:1: byte"),
        ("predict v.npz v.fastopt", "it has 262,144 columns, in training 16"),
        ("train a.svm --test v.fastopt", "it is vw data"),
    ):
        code, out, err = run(*argv.split(), capsys=capsys)
        assert code == 1 and out.count("accuracy") == 0 and word in err


def test_tables_with_strings(tmp_path, capsys):
    (tmp_path / "a.csv").write_text(table(3000))
    (tmp_path / "b.csv").write_text(table(500, seed=1))
    (tmp_path / "c.csv").write_text(table(500, seed=1, label=False))
    how = ("--label", "click", "--hash-bits", "8", "--ignore", "id")
    code, out, _ = run("train", "a.csv", *how, "--out", "m.npz", capsys=capsys)
    assert code == 0 and "257 columns" in out
    code, labelled, err = run("predict", "m.npz", "b.csv", capsys=capsys)
    assert code == 0 and accuracy(err) == 1.0
    code, unlabelled, err = run("predict", "m.npz", "c.csv", capsys=capsys)
    assert code == 0 and unlabelled == labelled and "accuracy" not in err
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    pandas.read_csv("b.csv").to_parquet("b.parquet")
    code, parquet, err = run("predict", "m.npz", "b.parquet", capsys=capsys)
    assert code == 0 and parquet == labelled and accuracy(err) == 1.0
    (tmp_path / "d.csv").write_text("price,site\n0.5,a.org\n")
    code, _, err = run("predict", "m.npz", "d.csv", capsys=capsys)
    assert code == 1 and "ignore: the table has no column 'id'" in err
    # only numbers in a column of strings are still strings
    (tmp_path / "e.csv").write_text("price,site,id\n0.5,7,1\n")
    assert run("predict", "m.npz", "e.csv", capsys=capsys)[0] == 0
    # and strings in a column of numbers are not new columns
    (tmp_path / "f.csv").write_text("price,site,id\nmuch,a.org,1\n")
    code, _, err = run("predict", "m.npz", "f.csv", capsys=capsys)
    assert code == 1 and "its columns of numbers are [], in training ['price']" in err


def test_rows_without_label_are_not_trained_on(tmp_path, capsys):
    (tmp_path / "a.vw").write_text("1 | a\n-1 | b\n| c\n" * 20)
    code, _, err = run("train", "a.vw", capsys=capsys)
    assert code == 1 and "a.vw: row 3 has no label" in err
    (tmp_path / "a.csv").write_text("y,a\n" + "1,2\n0,1\n" * 30)
    code, _, err = run("train", "a.csv", capsys=capsys)
    assert code == 1 and "has no label; in a table, --label names the column" in err
    assert run("train", "a.csv", "--label", "y", capsys=capsys)[0] == 0


def test_weights_of_rows_count_in_training(tmp_path, capsys):
    """All rows are alike; the weights say which label is the majority's."""
    for heavy in (1, -1):
        lines = [f"{label} {9 if label == heavy else 1} | a\n" for label in (1, -1)]
        (tmp_path / "w.vw").write_text("".join(lines * 100))
        assert run("train", "w.vw", "--out", "m.npz", capsys=capsys)[0] == 0
        code, out, _ = run("predict", "m.npz", "w.vw", capsys=capsys)
        assert code == 0 and set(out.split()) == {str(heavy)}


def test_reading_for_the_command_line_keeps_column_numbers(tmp_path):
    (tmp_path / "a.svm").write_text(svm())
    X, y, _, reading, said = inputs.read("a.svm")
    expected, labels = load_svmlight("a.svm", zero_based=True)
    assert X.indices.tolist() == expected.indices.tolist() and y.tolist() == labels.tolist()
    assert reading["zero_based"] is True and "300 rows × 8 columns" in said
    json.dumps(reading)
