"""The svmlight reader: the numbers of Python and scikit-learn, and the right line on failure."""

import gzip
import io
import math
import os
import pathlib
import pickle
import random
import signal
import sys
import threading
import time
import tracemalloc

import numpy as np
import pytest
from fastopt._core import text_parse
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastopt.data import CSR, DataError, iter_svmlight, load_svmlight, sources

DATA = pathlib.Path(
    os.environ.get("FASTOPT_DATA")
    or pathlib.Path(__file__).resolve().parents[1] / ".." / "shared" / "data"
)
REAL = ["a9a.svm.gz", "a9a.t.svm.gz", "w8a.svm.gz", "agaricus.txt.train.svm.gz"]


def load(text, **settings):
    return load_svmlight(io.BytesIO(text), **settings)


def same(a, b):
    """Assert that two results of load_svmlight are equal in all bits and types."""
    for x, y in zip(a[1:], b[1:], strict=True):
        assert x.dtype == y.dtype and x.tobytes() == y.tobytes()
    for name in ("data", "indices", "indptr"):
        x, y = getattr(a[0], name), getattr(b[0], name)
        assert x.dtype == y.dtype and x.tobytes() == y.tobytes(), name
    assert a[0].shape == b[0].shape


# ---- real files


@pytest.mark.parametrize("name", REAL)
@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("threads", [1, 2])
def test_real_files_equal_scikit_learn(name, compressed, threads, tmp_path):
    datasets = pytest.importorskip("sklearn.datasets")
    if not (DATA / name).exists():
        pytest.skip(f"{name} is not there; set FASTOPT_DATA")
    path = DATA / name
    if not compressed:
        path = tmp_path / "plain.svm"
        path.write_bytes(gzip.decompress((DATA / name).read_bytes()))
    expected, labels = datasets.load_svmlight_file(str(DATA / name), dtype=np.float32)
    X, y = load_svmlight(path, threads=threads)
    assert X.shape == expected.shape and X.nnz == expected.nnz
    assert X.data.dtype == np.float32 and X.indices.dtype == np.int32
    assert np.array_equal(X.data, expected.data) and np.array_equal(y, labels)
    assert np.array_equal(X.indices, expected.indices)
    assert np.array_equal(X.indptr, expected.indptr)
    assert (X.to_scipy() != expected).nnz == 0


# ---- any matrix, in any dialect, cut anywhere

finite = st.floats(allow_nan=False, allow_infinity=False)


@st.composite
def written_matrix(draw):
    """Return text of a file in some dialect, and what it says."""
    zero_based, queries = draw(st.booleans()), draw(st.booleans())
    rows = draw(
        st.lists(st.tuples(finite, st.dictionaries(st.integers(0, 99), finite, max_size=6)))
    )
    blank = draw(st.sampled_from([" ", "\t", "  ", " \t "]))
    newline = draw(st.sampled_from(["\n", "\r\n"]))
    comment = draw(st.sampled_from(["", " # 5:5 qid:1", "#", "\t"]))
    extra = draw(st.sampled_from([None, "", "# 1 1:1", " \t"]))
    lines = []
    for k, (label, row) in enumerate(rows):
        tokens = [repr(label)] + [f"qid:{k - 3}"] * queries
        tokens += [f"{i + (not zero_based)}:{row[i]!r}" for i in sorted(row)]
        lines.append(draw(st.sampled_from(["", blank])) + blank.join(tokens) + comment)
        if extra is not None:
            lines.append(extra)
    text = newline.join(lines) + newline * draw(st.booleans())
    data = [row[i] for _, row in rows for i in sorted(row)]
    indices = [i for _, row in rows for i in sorted(row)]
    indptr = np.cumsum([0] + [len(row) for _, row in rows])
    labels = np.array([label for label, _ in rows], "float64")
    qid = np.arange(len(rows)) - 3
    return text.encode(), zero_based, queries, data, indices, indptr, labels, qid


@given(
    written_matrix(), st.sampled_from([1, 2, 3]), st.sampled_from([1, 2, 5, 11, 64, 1 << 18]),
    st.sampled_from(["float32", "float64"]), st.booleans(),
)  # fmt: skip
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_written_matrix_is_read_back(tmp_path, written, threads, chunk, dtype, mapped):
    text, zero_based, queries, data, indices, indptr, labels, qid = written
    source = io.BytesIO(text)
    if mapped:
        source = tmp_path / "written.svm"
        source.write_bytes(text)
    with np.errstate(over="ignore"):
        data = np.array(data, "float64").astype(dtype)
    how = {"threads": threads, "_chunk": chunk, "dtype": dtype, "query_id": queries}
    if not np.isfinite(data).all():
        with pytest.raises(DataError, match="expected a value that float32 can hold"):
            load_svmlight(source, zero_based=zero_based, n_features=100, **how)
        return
    X, y, *found = load_svmlight(source, zero_based=zero_based, n_features=100, **how)
    assert X.shape == (len(labels), 100)
    assert X.data.tobytes() == data.tobytes() and y.tobytes() == labels.tobytes()
    assert np.array_equal(X.indices, indices) and np.array_equal(X.indptr, indptr)
    assert not queries or np.array_equal(found[0], qid)


# ---- numbers


def read_numbers(texts, dtype):
    X, y = load("".join(f"{t} 1:{t}\n" for t in texts).encode(), dtype=dtype)
    return X.data, y


def assert_like_python(texts):
    texts = list(texts)
    with np.errstate(over="ignore"):
        expected = np.array([float(t) for t in texts])
        narrow = expected.astype("float32")
    for dtype, wanted in (("float64", expected), ("float32", narrow)):
        fits = np.isfinite(wanted)
        data, labels = read_numbers([t for t, ok in zip(texts, fits, strict=True) if ok], dtype)
        assert data.tobytes() == wanted[fits].tobytes()
        assert labels.tobytes() == expected[fits].tobytes()


@given(st.lists(finite, max_size=50), st.lists(st.floats(width=32, allow_nan=False), max_size=50))
def test_repr_of_any_float_is_read_back(wide, narrow):
    assert_like_python([repr(x) for x in wide])
    narrow = np.array([x for x in narrow if math.isfinite(x)], "float32")
    data, _ = read_numbers([str(x) for x in narrow], "float32")
    assert data.tobytes() == narrow.tobytes()


digits = st.text("0123456789", max_size=40) | st.text("09", min_size=700, max_size=900)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["", "+", "-"]), digits, st.sampled_from(["", "."]), digits,
            st.just("") | st.builds("{}{}".format, st.sampled_from("eE"), st.integers(-350, 350)),
        ).filter(lambda t: t[1] or (t[2] and t[3])).map(lambda t: "".join(t)),
        max_size=30,
    )
)  # fmt: skip
@settings(deadline=None)
def test_decimal_strings_are_rounded_as_python_does(texts):
    assert_like_python([t for t in texts if math.isfinite(float(t))])


def test_hard_numbers_are_rounded_as_python_does():
    rng = random.Random(0)
    texts = ["4.9e-324", "2.4703282292062327e-324", "2.4703282292062328e-324", "1e-400", "-0.0",
             "1.7976931348623157e308", "9007199254740993", "9007199254740993." + "0" * 900 + "1",
             "0" * 1000 + "1", "0." + "0" * 400 + "1e390", "1" + "0" * 400 + "e-390", "0e999999999",
             "0.1e-99999999999999999", "2.2250738585072011e-308", "18446744073709551615e-27",
             "1.17549430e-38", "16777217", "16777219", "7.038531e-26"]  # fmt: skip
    texts += [str(2**63 + 2**10 + d) for d in (-1, 0, 1, 2)] + [str(2**64 - 2**11 + 2**10 - 1)]
    for power in range(-45, 46):  # halfway between two neighbours, and one digit to either side
        odd = 2 * (rng.getrandbits(52) | 1 << 52) + 1
        exact = odd << power if power >= 0 else odd * 5**-power
        texts += [f"{10 * exact + d}e{min(power, 0) - 1}" for d in (-1, 0, 1)]
    for exponent in range(-27, 28):
        texts += [f"{rng.getrandbits(64)}e{exponent}"[-40:] for _ in range(20)]
        texts += [f"{10**19 - 1}e{exponent}", f"{2**53 + 1}e{exponent}"]
    assert_like_python(texts)
    # of 64 random bits, one in 2^12 leads to a rounding that only the remainder can decide
    assert_like_python(f"{rng.getrandbits(63)}e{rng.randint(-27, 27)}" for _ in range(50_000))


# ---- what is accepted


def test_forms_of_lines():
    text = b"# head\n\n+1\t1:1. 2:.5\r\n \t \n-1.5e0 # none\n2 qid:7 3:1E+1#x\n3  00004:-0 \n0"
    X, y = load(text)
    assert y.tolist() == [1, -1.5, 2, 3, 0] and X.shape == (5, 4)
    assert X.data.tolist() == [1, 0.5, 10, 0] and math.copysign(1, X.data[3]) == -1
    assert X.indices.tolist() == [0, 1, 2, 3] and X.indptr.tolist() == [0, 2, 2, 3, 4, 4]


@pytest.mark.parametrize("text", [b"", b"\n", b"# nothing\n", b"  \r\n#"])
def test_files_without_rows(text, tmp_path):
    path = tmp_path / "empty.svm"
    path.write_bytes(text)
    X, y, qid = load_svmlight(path, query_id=True)
    assert X.shape == (0, 0) and X.indptr.tolist() == [0] and len(y) == len(qid) == 0
    assert load_svmlight(path, n_features=5)[0].shape == (0, 5)


def test_first_column_is_zero_if_an_index_zero_occurs_anywhere():
    text = b"1 5:1\n" * 1000
    for chunk in (8, 1 << 18):
        X, _ = load(text, _chunk=chunk)
        assert X.shape == (1000, 5) and X.indices[0] == 4
        X, _ = load(text + b"1 0:1\n", _chunk=chunk)
        assert X.shape == (1001, 6) and X.indices[0] == 5 and X.indices[-1] == 0
    assert load(text, zero_based=True)[0].shape == (1000, 6)


def test_index_types():
    assert load(b"1 2147483647:1\n")[0].indices.dtype == np.int32
    for text in (b"1 2147483648:1\n", b"1 3:1\n1 2147483649:1\n", b"1 0:1 2147483647:1\n"):
        X, _ = load(text)
        assert X.indices.dtype == np.int64 and X.shape[1] == X.indices[-1] + 1 > 2**31 - 1
    assert load(b"1 2147483648:1", index_dtype="int64")[0].indices.tolist() == [2147483647]
    assert load(b"1 2:1", n_features=2**31)[0].indices.dtype == np.int64
    assert load(b"1 9223372036854775806:1")[0].indices.tolist() == [2**63 - 3]


def test_wide_indices_in_a_later_block_of_a_stream(monkeypatch):
    monkeypatch.setattr(sources, "BLOCK", 1)
    monkeypatch.setattr(sources, "PIECE", 64)
    X, y = load(b"1 1:1 2:2\n" * 100 + b"2 7:1 3000000000:1\n" + b"1 1:1\n" * 100)
    assert X.shape == (201, 3000000000) and X.indices.dtype == np.int64
    assert X.indices[:200].tolist() == [0, 1] * 100 and X.indices[201] == 2999999999
    assert y.tolist() == [1] * 100 + [2] + [1] * 100


# ---- what is refused: text, settings, line, byte, part of the message

MALFORMED = [
    (b"1 1:1\nx 1:1\n", {}, 2, 1, "found 'x', expected a finite decimal number as label"),
    (b"3:1 4:1\n", {}, 1, 1, "found '3:1', expected a finite decimal number as label"),
    (b"1,2 4:1\n", {}, 1, 1, "found '1,2'"),
    (b"\xef\xbb\xbf1 1:1\n", {}, 1, 1, r"found '\xef\xbb\xbf1'"),
    (b"1e999 1:1\n", {}, 1, 1, "found '1e999', expected a label that float64 can hold"),
    (b"nan 1:1\n", {}, 1, 1, "found 'nan'"),
    (b"# c\n\n1 1:nan\n", {}, 3, 5, "found 'nan', expected a finite decimal number as value"),
    (b"1 1:-inf\n", {}, 1, 5, "found '-inf'"),
    (b"1 1:1e309\n", {}, 1, 5, "expected a value that float32 can hold"),
    (b"1 1:1e309\n", {"dtype": "float64"}, 1, 5, "expected a value that float64 can hold"),
    (b"1 1:1e39\n", {}, 1, 5, "found '1e39', expected a value that float32 can hold"),
    (b"1 1:0x10\n", {}, 1, 5, "found '0x10'"),
    (b"1 1:1_0\n", {}, 1, 5, "found '1_0'"),
    (b"1 1:\n", {}, 1, 5, "found the end of the line"),
    (b"1 1: 2\n", {}, 1, 5, "found ' '"),
    (b"1 1:1e\n", {}, 1, 5, "found '1e'"),
    (b"1 1:.\r\n", {}, 1, 5, "found '.'"),
    (b"1 1:1:1\n", {}, 1, 5, "found '1:1'"),
    (b"1 1:1;2:1\n", {}, 1, 5, "found '1;2:1'"),
    (b"1 1:1 2\n", {}, 1, 7, "found '2', expected index:value or the end of the line"),
    (b"1 1:1 -2:1\n", {}, 1, 7, "found '-2:1', expected index:value"),
    (b"1 1.5:1\n", {}, 1, 3, "found '1.5:1', expected index:value"),
    (b"1 a:1\n", {}, 1, 3, "found 'a:1', expected index:value"),
    (b"1 3:1 2:1\n", {}, 1, 7, "found '2:1', expected an index greater than the one before"),
    (b"1 3:1 3:1\n", {}, 1, 7, "found '3:1', expected an index greater than the one before"),
    (b"1 0:1\n", {"zero_based": False}, 1, 3, "an index of at least 1, because zero_based=False"),
    (b"1 4:1\n", {"n_features": 3}, 1, 3, "an index of at most 3, because n_features=3"),
    (b"1 3:1\n", {"n_features": 3, "zero_based": True}, 1, 3, "at most 2, because n_features=3"),
    (b"1 3:1\n1\n2 0:1\n", {"n_features": 3}, 1, 3, "at most 2, because n_features=3 and"),
    (b"1 3:1\n1 0:1 x\n", {"n_features": 3}, 1, 3, "at most 2, because n_features=3 and"),
    (b"1 3:1\nx\n1 0:1\n", {"n_features": 3}, 2, 1, "found 'x'"),
    (b"1 2147483648:1\n", {"index_dtype": "int32"}, 1, 3, "2147483647, because index_dtype=int32"),
    (b"1 9223372036854775807:1\n", {}, 1, 3, "9223372036854775806, because index_dtype=int64"),
    (b"1 99999999999999999999999999:1\n", {}, 1, 3, "found '99999999999999999999999999:1'"),
    (b"1 qid:x 1:1\n", {}, 1, 3, "found 'qid:x', expected qid: and an integer"),
    (b"1 qid:1.5 1:1\n", {}, 1, 3, "found 'qid:1.5'"),
    (b"1 qid:9223372036854775808 1:1\n", {}, 1, 3, "found 'qid:9223372036854775808'"),
    (b"1 1:1 qid:1\n", {}, 1, 7, "found 'qid:1', expected index:value"),
    (b"1 qid:1\n1 1:1\n", {"query_id": True}, 2, 3, "found '1:1', expected qid: after the label"),
    (b"1 qid:1\n1\n", {"query_id": True}, 2, 2, "found the end of the line, expected qid:"),
    (b"1 1:1\0 2:1\n", {}, 1, 6, r"found '\x00', expected text"),
    (b"1 1:1 \0 2:1\n", {}, 1, 7, r"found '\x00', expected text"),
    (b"1 1:1 # a\0\n", {}, 1, 10, r"found '\x00', expected text"),
    (b"1 1:1\r2 1:1\r", {}, 1, 6, r"found '\r', expected text, with carriage returns only before"),
    (b"# c\r1 1:1\r", {}, 1, 4, r"found '\r', expected text"),
    (b"1 1:1\x0b2:1\n", {}, 1, 6, r"found '\x0b"),
    (b"\x1f\x8b1 1:1\n", {}, 1, 1, "damaged gzip data"),
]  # fmt: skip


@pytest.mark.parametrize("lines_before", [0, 1000])
@pytest.mark.parametrize("text, how, line, byte, message", MALFORMED)
def test_first_malformed_place_is_named(text, how, line, byte, message, lines_before, tmp_path):
    if lines_before and text.startswith(b"\x1f\x8b"):
        pytest.skip("is gzip only if it comes first")
    path = tmp_path / "bad.svm"
    before = b"1 qid:1 1:1 2:1 # \n" * lines_before
    path.write_bytes(before + text + (b"bad\n" * 50 if text.endswith(b"\n") else b""))
    for chunk in (4, 100, 1 << 18):
        for threads in (1, 3):
            with pytest.raises(DataError) as caught:
                load_svmlight(path, threads=threads, _chunk=chunk, **how)
            error = caught.value
            assert (error.file, error.line, error.byte) == (str(path), lines_before + line, byte)
            assert str(error).startswith(f"{path}:{lines_before + line}: byte {byte}: found ")
            assert message in str(error)
    assert isinstance(error, ValueError) and str(pickle.loads(pickle.dumps(error))) == str(error)


@pytest.mark.parametrize(
    "how, message",
    [
        ({"dtype": "int32"}, "dtype must be one of float32, float64, got 'int32'"),
        ({"dtype": "nonsense"}, "dtype must be one of"),
        ({"dtype": None}, "dtype must be one of"),
        ({"index_dtype": np.int16}, "index_dtype must be one of auto, int32, int64"),
        ({"zero_based": "yes"}, "zero_based must be True, False or 'auto', got 'yes'"),
        ({"n_features": 0}, "n_features must be None or at least 1"),
        ({"n_features": 2**31, "index_dtype": "int32"}, "n_features must be None or"),
    ],
)
def test_wrong_arguments_are_named(how, message):
    with pytest.raises(ValueError, match=message):
        load(b"1 1:1\n", **how)


def test_wrong_sources(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_svmlight(tmp_path / "none.svm")
    with pytest.raises(IsADirectoryError):
        load_svmlight(tmp_path)
    with pytest.raises(TypeError, match="not int"):
        load_svmlight(3)
    with pytest.raises(TypeError, match="binary mode"):
        load_svmlight(io.StringIO("1 1:1\n"))


@pytest.mark.parametrize("now", [b"1 1:1 2:2 3:3\n", b"1\n1\n1\n1\n1 1:1\n", b"1 1:1 2:2 3:3 "])
def test_text_that_changes_meanwhile_writes_nothing_outside(now):
    text = bytearray(b"1 1:1".ljust(len(now) - 1) + b"\n")
    whole = [np.full(9, 7, t) for t in ("float32", "int32", "int64", "float64")]

    def allocate(rows, entries):
        text[:] = now
        assert rows == entries == 1
        return [array[:1] for array in whole] + [None] * 3

    *_, error, _ = text_parse(
        text, allocate, lambda done: None, format=0, threads=1, chunk_bytes=99, zero_based=0,
        n_features=9, entry0=0,
    )  # fmt: skip
    assert error is not None
    assert all((array[1:] == 7).all() for array in whole)


# ---- gzip and streams


def many_rows(n, seed=0):
    rng = np.random.default_rng(seed)
    columns = np.sort(rng.choice(5000, (n, 20)), axis=1) + np.arange(20) + 1
    values = rng.random((n, 20))
    rows = [
        f"{k % 7} " + " ".join(f"{c}:{v:.6g}" for c, v in zip(*cv, strict=True))
        for k, cv in enumerate(zip(columns, values, strict=True))
    ]
    return ("\n".join(rows) + "\n").encode()


def test_gzip_is_known_by_its_bytes_and_may_have_members(tmp_path, monkeypatch):
    text = many_rows(3000)
    expected = load(text)
    path = tmp_path / "named-otherwise.txt"
    path.write_bytes(gzip.compress(text[:1000]) + gzip.compress(text[1000:]) + b"\0" * 512)
    for block, chunk in ((1 << 23, 1 << 18), (1000, 64), (1, 7)):
        monkeypatch.setattr(sources, "BLOCK", block)
        monkeypatch.setattr(sources, "PIECE", chunk)
        same(load_svmlight(path), expected)
        with open(path, "rb") as file:
            same(load_svmlight(file), expected)
        same(load(text, threads=2), expected)
    path.write_bytes(text)
    same(load_svmlight(path, _chunk=1000, threads=2), expected)


def test_gzip_of_very_compressible_text():
    text = b"1 1:1\n" * 1_000_000
    X, y = load(gzip.compress(text))
    assert X.shape == (1_000_000, 1) and y.sum() == 1_000_000


def test_damaged_gzip_is_an_error_after_the_lines_before_it(tmp_path):
    text = many_rows(3000)
    whole = gzip.compress(text)
    path = tmp_path / "damaged.gz"
    for broken in (whole[: len(whole) // 2], whole[:-4], whole + b"junk", whole[:-8] + b"12345678"):
        path.write_bytes(broken)
        with pytest.raises(DataError, match="damaged gzip data") as caught:
            load_svmlight(path)
        assert 1000 < caught.value.line <= 3001
    bad = text.replace(b"\n", b"\nx\n", 1)
    path.write_bytes(gzip.compress(bad)[: len(whole) // 2])
    with pytest.raises(DataError, match=":2: byte 1: found 'x'"):
        load_svmlight(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_named_pipe(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_bytes, args=(b"1 1:1\n2 2:1\n",))
    writer.start()
    _X, y = load_svmlight(path)
    writer.join()
    assert y.tolist() == [1, 2]


@pytest.mark.parametrize("rows", [1, 7, 1000, 2999, 3000, 3001])
def test_blocks_are_the_rows_of_the_whole(rows, monkeypatch):
    monkeypatch.setattr(sources, "BLOCK", 50_000)
    text = b"# head\n" + many_rows(3000).replace(b" ", b" qid:5 ", 1).replace(b"\n", b" qid:5\n", 0)
    X, y = load(text)
    how = {"n_features": X.shape[1], "zero_based": False, "block_rows": rows}
    blocks = list(iter_svmlight(io.BytesIO(text), **how))
    assert [len(b[1]) for b in blocks[:-1]] == [rows] * (len(blocks) - 1)
    start = 0
    for block, labels in blocks:
        stop = start + block.shape[0]
        same((block, labels), (X.rows(start, stop), y[start:stop]))
        start = stop
    assert start == 3000


def test_blocks_come_before_the_error_behind_them(monkeypatch):
    monkeypatch.setattr(sources, "BLOCK", 1)
    monkeypatch.setattr(sources, "PIECE", 12)
    blocks = iter_svmlight(
        io.BytesIO(b"1 1:1\n2 1:1\n3 1:1\nx\n"), n_features=1, zero_based=False, block_rows=1
    )
    assert [next(blocks)[1].tolist() for _ in range(2)] == [[1], [2]]
    with pytest.raises(DataError, match=":4: byte 1"):
        list(blocks)
    with pytest.raises(ValueError, match="block_rows must be at least 1"):
        next(iter_svmlight(io.BytesIO(b""), n_features=1, zero_based=True, block_rows=0))
    with pytest.raises(ValueError, match="needs n_features and zero_based"):
        next(iter_svmlight(io.BytesIO(b""), n_features=1, zero_based="auto"))


# ---- progress, interrupts, memory


def test_progress_reaches_the_size_of_the_file(tmp_path):
    text = many_rows(20_000)[:-1]
    for name, content in (("plain", text), ("packed", gzip.compress(text, 1))):
        path = tmp_path / name
        path.write_bytes(content)
        calls = []
        load_svmlight(path, threads=2, on_progress=lambda *call, to=calls: to.append(call))
        done = [call[0] for call in calls]
        assert done == sorted(done) and calls[-1] == (len(content), len(content))

    def stop(done, total):
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        load_svmlight(path, on_progress=stop)


def slow_lines(one_line):
    """Return over a second's worth of numbers that take the slow way."""
    token = "1:1.2345678901234567890123e-200"
    if not one_line:
        return (f"1 {token}\n" * 3_000_000).encode()
    return b"1 " + b" ".join(b"%d:1.2345678901234567890123e-200" % k for k in range(3_000_000))


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no interval timers here")
@pytest.mark.parametrize("one_line", [False, True])
@pytest.mark.parametrize("threads", [1, 2])
def test_interrupt_is_answered_within_a_fifth_of_a_second(tmp_path, threads, one_line):
    """In time of the processor, which other programs do not take from us."""
    path = tmp_path / "slow.svm"
    path.write_bytes(slow_lines(one_line))

    def interrupt(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGPROF, interrupt)
    try:
        start = time.process_time()
        signal.setitimer(signal.ITIMER_PROF, 0.1)
        with pytest.raises(KeyboardInterrupt):
            load_svmlight(path, threads=threads, dtype="float64")
        stopped = time.process_time()
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
    assert stopped - start < 0.1 + 0.2 * threads
    X, _y = load_svmlight(io.BytesIO(b"1 1:2\n"), threads=threads)
    assert X.data.tolist() == [2]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_errors_and_results_leave_nothing_behind(tmp_path):
    def resident():
        return int(pathlib.Path("/proc/self/statm").read_text().split()[1]) * 4096

    path = tmp_path / "bad.svm"
    path.write_bytes(many_rows(5000) + b"x\n")
    packed = tmp_path / "bad.gz"
    packed.write_bytes(gzip.compress(path.read_bytes(), 1))
    open_files = len(os.listdir("/proc/self/fd"))
    for k in range(60):
        if k == 20:
            before = resident()
        for bad in (path, packed):
            with pytest.raises(DataError):
                load_svmlight(bad, threads=2)
    assert resident() - before < 3_000_000  # one leak of the arrays alone is 0.8 MB a time
    assert len(os.listdir("/proc/self/fd")) == open_files


def test_memory_stays_near_the_size_of_the_result(tmp_path):
    text = many_rows(60_000)
    path = tmp_path / "big.svm"
    for content, factor, more in ((text, 1.02, 1e6), (gzip.compress(text, 1), 1.15, 30e6)):
        path.write_bytes(content)
        tracemalloc.start()
        X, y = load_svmlight(path)
        now, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        size = X.data.nbytes + X.indices.nbytes + X.indptr.nbytes + y.nbytes
        assert size <= now < size + 200_000
        assert peak < factor * size + more


# ---- CSR


def test_csr_rows_are_views():
    X, _ = load(b"1 1:1 2:2\n1\n1 3:3\n")
    part = X.rows(1, 3)
    assert part.shape == (2, 3) and part.indptr.tolist() == [0, 0, 1] and part.nnz == 1
    assert np.shares_memory(part.data, X.data) and np.shares_memory(part.indices, X.indices)
    assert X.rows(3, 3).shape == (0, 3)
    for start, stop in ((-1, 2), (2, 1), (0, 4)):
        with pytest.raises(IndexError, match="rows 0 to 3"):
            X.rows(start, stop)
    with pytest.raises(AttributeError):
        X.shape = (1, 1)


def test_csr_to_scipy(monkeypatch):
    sparse = pytest.importorskip("scipy.sparse")
    X, _ = load(b"1 1:1 2:2\n1\n1 3:3\n")
    assert isinstance(X.to_scipy(), sparse.csr_matrix)
    assert X.to_scipy().toarray().tolist() == [[1, 2, 0], [0, 0, 0], [0, 0, 3]]
    assert isinstance(X, CSR) and X.dtype == np.float32
    monkeypatch.setitem(sys.modules, "scipy.sparse", None)
    with pytest.raises(ImportError, match=r"pip install 'fastopt\[sklearn\]'"):
        X.to_scipy()
