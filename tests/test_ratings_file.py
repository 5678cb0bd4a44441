"""load_ratings against what was written, and against damage."""

import gzip

import numpy as np
import pytest

import fastopt
from fastopt.factorization import ratings_file


def write(folder, pairs, y, between, name="x.txt", end="\n", more=""):
    rows = (
        between.join([str(u), str(i), repr(float(v))]) for (u, i), v in zip(pairs, y, strict=True)
    )
    text = "".join(row + more + end for row in rows)
    path = folder / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith("gz") else text.encode())
    return path


@pytest.mark.parametrize("between", [" ", "\t", ",", "::", ";", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\n\n"])
@pytest.mark.parametrize("name", ["x.txt", "x.gz"])
def test_it_reads_what_was_written(tmp_path, monkeypatch, between, end, name):
    monkeypatch.setattr(ratings_file, "BLOCK", 100)
    r = np.random.default_rng(0)
    pairs, y = r.integers(0, 10**6, (50, 2)), r.normal(size=50).astype("f4")
    separator = None if between.isspace() else between
    for more in ("", between + "964982703" + between + "x"):
        path = write(tmp_path, pairs, y, between, name, end, more)
        got, values = fastopt.load_ratings(path, separator=separator)
        assert got.dtype == np.int32 and values.dtype == np.float32
        np.testing.assert_array_equal(got, pairs)
        np.testing.assert_array_equal(values, y)
        got, values = fastopt.load_ratings(str(path), separator=separator, header=len(end) * 2)
        first = 2 if end == "\n" or end == "\n\n" else 4
        np.testing.assert_array_equal(got, pairs[first:])


def test_large_numbers_and_nothing(tmp_path):
    pairs, _ = fastopt.load_ratings(write(tmp_path, [[2**31, 2**40]], [1], " "))
    assert pairs.tolist() == [[2**31, 2**40]] and pairs.dtype == np.int64
    pairs, y = fastopt.load_ratings(write(tmp_path, [], [], " "))
    assert pairs.shape == (0, 2) and y.shape == (0,)
    (tmp_path / "no newline").write_text("1 2 3\n4 5 6")
    assert fastopt.load_ratings(tmp_path / "no newline")[1].tolist() == [3.0, 6.0]


@pytest.mark.parametrize(
    ("bad", "byte", "problem"),
    [
        ("1 2", 4, "found nothing, expected a rating"),
        ("7", 2, "found nothing, expected an item"),
        ("1.0 2 3", 1, "found '1.0', expected a user, an integer from 0 on"),
        ("1 -2 3", 3, "found '-2', expected an item, an integer from 0 on"),
        ("1 1 x", 5, "found 'x', expected a rating, a finite decimal number"),
        ("1 1 nan", 5, "found 'nan', expected a rating, a finite"),
        ("1 1 inf", 5, "found 'inf', expected a rating, a finite"),
        ("1 1 1e39", 5, "found '1e39', expected a rating"),
        ("1 1 0x10", 5, "found '0x10', expected a rating"),
        ("1 99999999999999999999 1", 3, "expected an item, an integer from 0 on"),
        ("1,2,3", 1, "found '1,2,3', expected a user"),
        ("\u0661 2 3", 1, "expected a user"),
        ("1_0 2 3", 1, "found '1_0', expected a user"),
        ("1 2 #3", 5, "found '#3', expected a rating"),
    ],
)
def test_bad_lines_are_named(tmp_path, monkeypatch, bad, byte, problem):
    monkeypatch.setattr(ratings_file, "BLOCK", 40)
    lines = ["5 6 1.5"] * 30
    lines[3], lines[22] = "", bad
    (tmp_path / "u").write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(fastopt.DataError, match=problem.replace(".", r"\.")) as caught:
        fastopt.load_ratings(tmp_path / "u")
    assert (caught.value.line, caught.value.byte) == (23, byte)
    assert caught.value.file == str(tmp_path / "u")


def test_one_separator_is_not_another(tmp_path):
    path = tmp_path / "u"
    for text in ("1\t2::3::4\n", "1\x1f2::3::4\n"):
        path.write_text(text)
        with pytest.raises(fastopt.DataError, match=r"u:1: byte 1: found .* expected a user"):
            fastopt.load_ratings(path, separator="::")
    path.write_text(" 1, 2 ,3.5 \n")
    pairs, y = fastopt.load_ratings(path, separator=",")
    assert (pairs.tolist(), y.tolist()) == ([[1, 2]], [3.5])


def test_bad_arguments_are_named(tmp_path):
    path = write(tmp_path, [[1, 2]], [3], " ")
    for separator in ("", "1", ".", " ,", 3, "e"):
        with pytest.raises(ValueError, match="separator must be None or characters"):
            fastopt.load_ratings(path, separator=separator)
    for header in (-1, 1.0, True):
        with pytest.raises(ValueError, match="header must be an integer of at least 0"):
            fastopt.load_ratings(path, header=header)
    with pytest.raises(OSError):
        fastopt.load_ratings(tmp_path / "nowhere")
