"""CSV against the csv module, pandas and a slow parser, in rows or in line and byte."""

import csv
import gzip
import io
import re

import numpy as np
import pytest
from fastopt._core import text_parse
from hypothesis import example, given, settings
from hypothesis import strategies as st
from textcases import NUMBER, Malformed, agree, cuts, damaged, finite, read

from fastopt.data import DataError, open_data, sources
from fastopt.data.tables import Schema

murmurhash3_32 = pytest.importorskip("sklearn.utils").murmurhash3_32

SCHEMA = Schema(
    ("y", "a", "städte", "w", "note", "b", "c"),
    ("label", "number", "string", "weight", "ignored", "number", "string"),
    hash_bits=6,
)
BITS = 6


def column_of(name, value, bits):
    return murmurhash3_32(name.encode() + b"=" + value, 0, positive=True) % 2**bits


def parse(text, schema=SCHEMA, dtype="float32"):
    """Return data, indices, indptr, labels, weights of a text without header, or raise."""
    if text and not text.endswith(b"\n"):
        text += b"\n"
    mark = schema.delimiter.encode()[0]
    data, indices, indptr, labels, weights = [], [], [0], [], []
    n_numbers = schema.kinds.count("number")

    def bad(at):
        before = text[:at]
        raise Malformed(before.count(b"\n") + 1, at - (before.rfind(b"\n") + 1) + 1)

    at = 0
    while at < len(text):
        if text[at : at + 1] == b"\n" or text[at : at + 2] == b"\r\n":
            at = text.index(b"\n", at) + 1
            continue
        row, label, weight, numbers = {}, np.nan, 1.0, 0
        record = at
        for k in range(len(schema.kinds) + 1):
            if k == len(schema.kinds):
                bad(at)
            kind = schema.kinds[k]
            content, begin = b"", at
            if text[at : at + 1] == b'"':
                begin = at + 1
                found = re.compile(rb'(?:[^"]|"")*"(?!")').match(text, begin)
                if not found:
                    bad(at)
                content, at = found[0][:-1].replace(b'""', b'"'), found.end()
                if text[at] not in (mark, 10, 13):
                    bad(at)
            else:
                while text[at] not in (mark, 10, 13, 34):
                    at += 1
                if text[at] == 34:
                    bad(at)
                content = text[begin:at]
            if text[at] == 13 and text[at + 1] != 10:
                bad(at)
            if kind in ("label", "weight", "number"):
                word = content.strip(b" \t")
                if not word and kind == "number" and schema.missing == "zero":
                    word = b"0"
                if not NUMBER.fullmatch(word):
                    bad(begin)
                value = float(word)
                if not finite(value, dtype if kind == "number" else "float64"):
                    bad(begin)
                if kind == "weight" and value < 0:
                    bad(begin)
                if kind == "label":
                    label = value
                elif kind == "weight":
                    weight = value
                elif np.dtype(dtype).type(value) != 0:
                    row.setdefault(numbers, []).append(value)
            elif kind == "string" and content:
                where = n_numbers + column_of(schema.names[k], content, schema.hash_bits)
                row.setdefault(where, []).append(1.0)
            numbers += kind == "number"
            if text[at] == mark:
                at += 1
                continue
            if k + 1 < len(schema.kinds):
                bad(at)
            break
        at = text.index(b"\n", at) + 1
        assert at > record
        for index in sorted(row):
            indices.append(index)
            data.append(sum(row[index]))
        indptr.append(len(data))
        labels.append(label)
        weights.append(weight)
    return data, indices, indptr, labels, weights


numbers = st.sampled_from(["1", "-0.5", "3e2", " 7 ", "0", "", "1e39", '"2.5"', "0.1", "12345678"])
strings = st.sampled_from(
    ["red", "", '"a,b"', '"say ""hi"""', '"two\nlines"', '"cr\r\nlf"', " blank ", "é", '""', "1"]
)


@st.composite
def texts(draw):
    lines = []
    for _ in range(draw(st.integers(0, 5))):
        fields = [
            draw(st.sampled_from(["1", "0", "-1.5"])), draw(numbers), draw(strings),
            draw(st.sampled_from(["1", "0.5"])), draw(strings), draw(numbers), draw(strings),
        ]  # fmt: skip
        lines.append(",".join(fields))
        if draw(st.integers(0, 9)) == 0:
            lines.append("")
    newline = draw(st.sampled_from(["\n", "\r\n"]))
    return (newline.join(lines) + newline * draw(st.booleans())).encode()


TOKENS = [b"", b",", b'"', b'""', b"\n", b"\r", b"\r\n", b"\0", b" ", b"x", b"9" * 25, b"nan",
          b"-1", b'"\n"', b'","', b"1,2", b"0,1,x,1,,1,y\n"]  # fmt: skip


@given(damaged(texts(), TOKENS), cuts, st.sampled_from(["error", "zero"]),
       st.sampled_from(["float32", "float64"]))  # fmt: skip
@settings(max_examples=2500, deadline=None)
@example(b'1,2,"a', {"threads": 1, "chunk": 2, "pieces": (1, 1)}, "error", "float32")
@example(b'1,2,a"b,1,,1,c\n' * 3, {"threads": 2, "chunk": 3, "pieces": (1, 1)}, "error", "float32")
def test_damaged_files(text, cut, missing, dtype):
    schema = Schema(SCHEMA.names, SCHEMA.kinds, BITS, missing=missing)
    agree(text, lambda text: parse(text, schema, dtype), format="csv", hash_bits=BITS, dtype=dtype,
          schema=schema, n_features=schema.n_features, zero_based=True, **cut)  # fmt: skip


@given(st.text('1,"\n\rx .', max_size=40).map(str.encode) | st.binary(max_size=40), cuts)
@settings(max_examples=1500, deadline=None)
def test_random_bytes(text, cut):
    if text.startswith(b"\xef\xbb\xbf"):
        return
    schema = Schema(("a", "b"), ("number", "string"), 4)
    agree(text, lambda text: parse(text, schema), format="csv", hash_bits=4, schema=schema,
          n_features=17, zero_based=True, **cut)  # fmt: skip


def test_every_truncation():
    text = b'1,2,"a,""b""\n",1,x,3,c\r\n0,,"",0.5,"y\n",4," "\n\n1,1,b,1,,1,b'
    schema = Schema(SCHEMA.names, SCHEMA.kinds, BITS, missing="zero")
    for stop in range(len(text) + 1):
        agree(text[:stop], lambda text: parse(text, schema), format="csv", hash_bits=BITS,
              schema=schema, n_features=schema.n_features, zero_based=True)  # fmt: skip


# ---- other readers


def table(rows, seed):
    """Return the text of a table with everything that has to be quoted, by the csv module."""
    rng = np.random.default_rng(seed)
    towns = ["Rome", 'New "York"', "Paris, TX", "São\nPaulo", "", " Ulm", "a" * 300]
    written = io.StringIO(newline="")
    out = csv.writer(written, lineterminator="\n" if seed % 2 else "\r\n")
    out.writerow(["id", "age", "town", "clicked", "income"])
    for k in range(rows):
        out.writerow(
            [
                f"r{k}",
                rng.integers(0, 99),
                towns[rng.integers(len(towns))],
                rng.integers(0, 2),
                repr(float(rng.normal() * 10.0 ** rng.integers(-9, 9))),
            ]
        )
    return written.getvalue().encode()


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("threads", [1, 2])
def test_values_are_those_of_the_csv_module_and_pandas(tmp_path, seed, threads):
    path = tmp_path / "table.csv"
    path.write_bytes(table(5000, seed))
    data = open_data(path, label="clicked", ignore=["id"], hash_bits=12, dtype="float64",
                     threads=threads)  # fmt: skip
    X, y, w = data.to_csr()
    assert X.shape == (5000, 2 + 4096) and w is None
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert y.tolist() == [float(row["clicked"]) for row in rows]
    dense = X.to_scipy()
    assert dense[:, 0].toarray().ravel().tolist() == [float(row["age"]) for row in rows]
    assert dense[:, 1].toarray().ravel().tolist() == [float(row["income"]) for row in rows]
    for k, row in enumerate(rows):
        towns = [2 + column_of("town", row["town"].encode(), 12)] if row["town"] else []
        assert [i for i in X.rows(k, k + 1).indices if i >= 2] == towns
    pandas = pytest.importorskip("pandas")
    frame = pandas.read_csv(path, engine="python")  # exact in all versions
    assert np.array_equal(dense[:, 1].toarray().ravel(), frame["income"])


def test_header_is_found_out(tmp_path):
    path = tmp_path / "table.csv"

    def read_it(text, **how):
        path.write_text(text)
        return open_data(path, cache=False, **how)

    X, y, _ = read_it("1,2,3\n0,5,6\n", label=0).to_csr()
    assert y.tolist() == [1, 0] and X.data.tolist() == [2, 3, 5, 6]
    X, y, _ = read_it("y,2,3\n0,5,6\n", label=0).to_csr()
    assert y.tolist() == [0] and X.shape == (1, 2)
    X, y, _ = read_it("1,2\n3,4\n").to_csr()
    assert X.shape == (2, 2) and np.isnan(y).all()
    X, _, _ = read_it("a,b\n3,4\n").to_csr()
    assert X.shape == (1, 2)
    X, y, _ = read_it("7,8\n3,4\n", label="8").to_csr()
    assert y.tolist() == [4]
    X, y, _ = read_it("1,x\n0,y\n", label=0, header=False, hash_bits=3).to_csr()
    assert X.shape == (2, 8)
    X, y, _ = read_it("\ufeffy,a\n0,4\n", label="y").to_csr()
    assert y.tolist() == [0]
    X, y, _ = read_it('"y\n1",a\n0,4\n', label="y\n1").to_csr()
    assert y.tolist() == [0]
    X, y, _ = read_it("a,y\n2,1\n", label=-1).to_csr()
    assert y.tolist() == [1]


def test_delimiters(tmp_path):
    for name, mark in (("a.tsv", "\t"), ("a.csv", ";"), ("b.csv", "|")):
        path = tmp_path / name
        path.write_text(f"y{mark}a\n1{mark}0.5\n")
        how = {} if mark == "\t" else {"delimiter": mark}
        X, y, _ = open_data(path, label="y", cache=False, **how).to_csr()
        assert y.tolist() == [1] and X.data.tolist() == [0.5]
    with pytest.raises(ValueError, match="delimiter must be one of"):
        open_data(path, label="y", delimiter=".")


def test_columns_by_choice(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("zip,n,w,y\n123,1,2,1\n00123,2,0.5,0\n")
    data = open_data(path, label="y", weight="w", categorical=["zip"], hash_bits=8, cache=False)
    X, y, w = data.to_csr()
    assert X.shape == (2, 257) and y.tolist() == [1, 0] and w.tolist() == [2, 0.5]
    assert X.indices.tolist() == [0, 1 + column_of("zip", b"123", 8), 0,
                                  1 + column_of("zip", b"00123", 8)]  # fmt: skip
    for how, message in (
        ({"label": "z"}, "label: the table has no column 'z'; it has 'zip', 'n', 'w', 'y'"),
        ({"label": 4}, "label: the table has columns 0 to 3, not 4"),
        ({"label": "y", "weight": "y"}, "label and weight must be different columns"),
        ({"categorical": "zip"}, "categorical must be a list"),
        ({"label": "y", "categorical": ["zip"]}, "column 'zip' holds strings: hash_bits=18"),
        ({"label": "y", "n_features": 7}, "n_features must be None or 3, because the table"),
        ({"label": "y", "ignore": ["zip", "n", "w"]}, "no column but label"),
        ({"label": "y", "zero_based": False}, "zero_based: the csv format"),
    ):
        with pytest.raises((ValueError, TypeError), match=re.escape(message)):
            open_data(path, **how)


MALFORMED = [
    (b"1,2\n3,4,5\n", 2, 5, "found '5', expected the end of the line after 2 fields"),
    (b"1,2\n3\n", 2, 2, "found the end of the line, expected another field in column 'a'"),
    (b"1,x\n", 1, 3, "found 'x', expected a number in column 'a'; categorical=['a'] takes"),
    (b"x,1\n", 1, 1, "found 'x', expected a number in column 'y'"),
    (b"1,\n", 1, 3, "found the end of the line, expected a number in column 'a' (missing='zero'"),
    (b",1\n", 1, 1, "found an empty field, expected a number in column 'y'"),
    (b'1,2"\n', 1, 4, "expected quotes around the whole field, if it has a quote"),
    (b'1,"2"3\n', 1, 6, "found '3', expected a delimiter or the end of the line after the closing"),
    (b'1,"2\n', 1, 3, "expected a closing quote"),
    (b"1,2\r3\n", 1, 4, "expected text, with carriage returns only before newlines"),
    (b"1,1e39\n", 1, 3, "found '1e39', expected a value that float32 can hold"),
    (b"1e999,1\n", 1, 1, "found '1e999', expected a label that float64 can hold"),
]  # fmt: skip


@pytest.mark.parametrize("text, line, byte, message", MALFORMED)
@pytest.mark.parametrize("before", [1100, 30000])
def test_messages(text, line, byte, message, before, tmp_path):
    path = tmp_path / "bad.csv"
    rest = b"0,1\n" if b'"2\n' not in text else b""
    path.write_bytes(b"y,a\n" + b"1,0.25\n" * before + text + rest)
    for threads in (1, 2):
        with pytest.raises(DataError) as caught:
            open_data(path, label="y", cache=False, threads=threads).to_csr()
        assert (caught.value.line, caught.value.byte) == (before + 1 + line, byte)
        assert message in str(caught.value)


def test_error_in_a_field_of_several_lines_names_the_line_of_its_beginning(tmp_path):
    path = tmp_path / "bad.csv"
    path.write_bytes(b"y,s,a\n" + b'1,"two\nlines",1\n' * 1001 + b'0,"two\nlines",x\n')
    with pytest.raises(DataError, match=r"bad.csv:2005: byte 8: found 'x'"):
        open_data(path, label="y", hash_bits=4, cache=False).to_csr()


@pytest.mark.parametrize("text, line, byte", [
    (b'y,a"b\n1,2\n', 1, 4), (b'y,"a\n1,2\n', 1, 3), (b'y,"a"b\n1,2\n', 1, 6), (b"", 1, 1),
    (b"y,a\r1,2\n", 1, 4),
])  # fmt: skip
def test_malformed_headers(text, line, byte, tmp_path):
    path = tmp_path / "bad.csv"
    path.write_bytes(text)
    with pytest.raises(DataError) as caught:
        open_data(path, label="y")
    assert (caught.value.line, caught.value.byte) == (line, byte)


def test_other_files_have_the_same_header(tmp_path):
    for name, head in (("1", "y,a"), ("2", "y,a"), ("3", "a,y")):
        (tmp_path / f"{name}.csv").write_text(f"{head}\n1,2\n")
    paths = [tmp_path / "1.csv", tmp_path / "2.csv"]
    _, y, _ = open_data(paths, label="y", cache=False).to_csr()
    assert y.tolist() == [1, 1]
    with pytest.raises(DataError, match=r"3.csv:1: byte 1: found the header \['a', 'y'\]"):
        open_data(tmp_path / "*.csv", label="y", cache=False).to_csr()


def test_quote_without_end_does_not_hold_all_of_a_large_file(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "LONGEST", 1000)
    monkeypatch.setattr(sources, "BLOCK", 500)
    monkeypatch.setattr(sources, "PIECE", 100)
    path = tmp_path / "bad.csv.gz"
    path.write_bytes(gzip.compress(b"y,s\n" + b"1,a\n" * 999 + b'1,"a\n' + b"1,a\n" * 9999))
    with pytest.raises(
        DataError, match=r"bad.csv.gz:1001: byte 3: found '\"a', expected a closing"
    ):
        open_data(path, label="y", hash_bits=3, cache=False).to_csr()


@pytest.mark.parametrize("encoding, byte", [("utf-16-le", 2), ("utf-16-be", 1), ("utf-32-be", 1)])
def test_other_encodings_are_refused(tmp_path, encoding, byte):
    path = tmp_path / "wide.csv"
    path.write_bytes("y,s\n1,a\n0,b\n".encode(encoding))
    expected = rf"wide.csv:1: byte {byte}: found '\\x00', expected text in UTF-8"
    with pytest.raises(DataError, match=expected):
        open_data(path, label=0, hash_bits=3, cache=False).to_csr()


@pytest.mark.parametrize("suffix, pack", [("", bytes), (".gz", gzip.compress)])
def test_records_behind_a_very_long_one_may_have_lines(tmp_path, monkeypatch, suffix, pack):
    monkeypatch.setattr(sources, "LONGEST", 1000)
    monkeypatch.setattr(sources, "BLOCK", 500)
    monkeypatch.setattr(sources, "PIECE", 100)
    path = tmp_path / f"long.csv{suffix}"
    long = b"1," + b"x" * 3000 + b"\n"
    path.write_bytes(pack(b"y,s\n" + long + b'1,"a\nb\n\nc"\n' * 2000))
    blocks = list(open_data(path, label="y", hash_bits=3, cache=False))
    assert sum(len(y) for _, y, _ in blocks) == 2001
    assert len(blocks) > 10  # small again


def test_locale_does_not_matter(run_python):
    code = """
        import locale, io
        for name in ("de_DE.UTF-8", "de_DE", "C"):
            try: locale.setlocale(locale.LC_ALL, name); break
            except locale.Error: pass
        from fastopt.data.builder import Builder
        from fastopt.data.sources import Source
        from fastopt.data.tables import Schema
        s = Schema(("a",), ("number",))
        b = Builder("", format="csv", schema=s, n_features=1, zero_based=True, dtype="float64")
        with Source(io.BytesIO(b"1.25e-300\\n0.1\\n")) as f: f.read(b)
        print(b.finish()[0].data.tolist())
    """
    assert run_python(code).strip() == "[1.25e-300, 0.1]"


def test_wide_and_long_fields():
    text = b",".join(b"%d" % (k % 7) for k in range(3000)) + b"\n" + b"1," * 2999 + b"1"
    schema = Schema(tuple(map(str, range(3000))), ("number",) * 3000)
    agree(text, lambda text: parse(text, schema), format="csv", schema=schema, n_features=3000,
          zero_based=True, chunk=100)  # fmt: skip
    long = b'"' + b'a""\n' * 200_000 + b'",1\n'
    schema = Schema(("s", "n"), ("string", "number"), 10)
    X, _, _ = read(long, format="csv", schema=schema, hash_bits=10, n_features=1025,
                   zero_based=True, chunk=1000, threads=2)  # fmt: skip
    assert X.indices.tolist() == [0, 1 + column_of("s", b'a"\n' * 200_000, 10)]


@pytest.mark.parametrize("now", [b"1,22222,3333,44\n", b"\n\n\n\n\n\n1,2,3,4,5,6\n"])
def test_text_that_changes_meanwhile_writes_nothing_outside(now):
    text = bytearray(b"1,2".ljust(len(now) - 1, b" ") + b"\n")
    whole = [np.full(9, 7, t) for t in ("float32", "int32", "int64", "float64", "float64")]

    def allocate(rows, entries):
        text[:] = now[:-1] + b" "
        assert rows == 1 and entries == 2
        data, indices, ends, y, weights = (array[:2] for array in whole)
        return data, indices, ends, y, None, weights, None

    *_, error, _ = text_parse(
        text, allocate, lambda done: None, format=3, threads=1, chunk_bytes=99, n_features=9,
        entry0=0, columns=[(1, k, b"") for k in range(4)],
    )  # fmt: skip
    assert error is not None
    assert all((array[2:] == 7).all() for array in whole)
