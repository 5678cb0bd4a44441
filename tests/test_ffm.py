"""The libffm format against a slow parser, in rows or in line and byte."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from textcases import NUMBER, Malformed, agree, cuts, damaged, finite, lines_of, read

from fastopt.data import DataError, open_data

FEATURE = re.compile(rb"(\d+):(\d+):")
BLANKS = re.compile(rb"[ \t]*")


def parse(text, zero_based="auto", n_features=None, dtype="float32"):
    """Return data, indices, indptr, labels, weights (and fields), or raise the first Malformed."""
    rows, error, edge, zero = [], None, None, False
    top = (2**63 - 2 if n_features is None else n_features) - (zero_based is True)

    def number(line, at, n, kind):
        found = NUMBER.match(line, at)
        if not found or not re.match(rb"[\0-\x20]|$", line[found.end() :]):
            raise Malformed(n, at + 1)
        if not finite(float(found[0]), kind):
            raise Malformed(n, at + 1)
        return float(found[0]), found.end()

    try:
        for n, line in enumerate(lines_of(text), 1):
            at = BLANKS.match(line).end()
            if at == len(line):
                continue
            label, at = number(line, at, n, "float64")
            row = []
            while at < len(line):
                start = BLANKS.match(line, at).end()
                if start == at:
                    raise Malformed(n, at + 1)
                if start == len(line):
                    break
                found = FEATURE.match(line, start)
                if not found or int(found[1]) >= 2**31:
                    raise Malformed(n, start + 1)
                index = int(found[2])
                zero |= index == 0
                place = Malformed(n, found.start(2) + 1)
                if index > top or (index == 0 and zero_based is False):
                    raise place
                if zero_based == "auto" and index == n_features and edge is None:
                    edge = place
                value, at = number(line, found.end(), n, dtype)
                row.append((index, value, int(found[1])))
            rows.append((label, sorted(row, key=lambda entry: entry[0])))
    except Malformed as found:
        error = found
    if zero and edge:
        error = edge
    if error:
        raise error
    based = 0 if zero_based is True or (zero_based == "auto" and zero) else 1
    entries = [entry for _, row in rows for entry in row]
    indptr = np.cumsum([0] + [len(row) for _, row in rows])
    labels = [label for label, _ in rows]
    data = [value for _, value, _ in entries]
    indices = [index - based for index, _, _ in entries]
    parse.fields = [field for _, _, field in entries]
    return data, indices, indptr, labels, [1.0] * len(labels)


@st.composite
def texts(draw):
    first = draw(st.integers(0, 1))
    lines = []
    for _ in range(draw(st.integers(0, 5))):
        tokens = [draw(st.sampled_from([b"1", b"0", b"-1", b"0.5"]))]
        for _ in range(draw(st.integers(0, 12))):
            field, index = draw(st.integers(0, 30)), draw(st.integers(first, 40))
            value = draw(st.sampled_from([b"1", b"0", b"0.125", b"-2e3", b"0.1"]))
            tokens.append(b"%d:%d:%s" % (field, index, value))
        lines.append(draw(st.sampled_from([b" ", b"\t", b"  "])).join(tokens))
    return b"\n".join(lines) + b"\n" * draw(st.booleans())


TOKENS = [b"", b" ", b"\n", b"\r", b"\r\n", b"\0", b":", b"0", b"9" * 20, b"2147483648:1:1", b"-",
          b" 3:0:1", b"e9", b"nan", b"#", b"1e39", b" 1:40:1"]  # fmt: skip


@given(damaged(texts(), TOKENS), cuts, st.sampled_from(["auto", "auto", True, False]),
       st.sampled_from([None, 39, 40, 41, 2**40]))  # fmt: skip
@settings(max_examples=1500, deadline=None)
def test_damaged_files(text, cut, zero_based, n_features):
    how = {"zero_based": zero_based, "n_features": n_features}
    agree(text, lambda text: parse(text, **how), format="ffm", **how, **cut)


@given(texts())
@settings(deadline=None)
def test_fields_stay_with_their_values(text):
    X, _, _ = read(text, format="ffm")
    parse(text)
    assert X.fields.dtype == np.int32 and X.fields.tolist() == parse.fields
    half = X.rows(X.shape[0] // 2, X.shape[0])
    assert half.fields.tolist() == parse.fields[len(parse.fields) - half.nnz :]


def test_every_truncation():
    text = b"1 0:1:0.5 3:22:1 2:1:2\r\n-1 7:3:1e-2\n\n 0.5\t1:1:1"
    for stop in range(len(text) + 1):
        agree(text[:stop], parse, format="ffm")


def test_same_column_of_two_fields_counts_twice(tmp_path):
    path = tmp_path / "small.ffm"
    path.write_text("1 0:2:0.5 1:2:0.25 2:0:1\n0 0:1:1\n")
    X, y, w = open_data(path, cache=False).to_csr()
    assert X.indices.tolist() == [0, 2, 2, 1] and X.fields.tolist() == [2, 0, 1, 0]
    assert X.to_scipy().toarray().tolist() == [[1, 0, 0.75], [0, 1, 0]]
    assert y.tolist() == [1, 0] and w is None


@pytest.mark.parametrize("text, line, byte, message", [
    (b"1 0:1:1 5:1\n", 1, 9, "found '5:1', expected field:index:value or the end of the line"),
    (b"1\n2 0:1:x\n", 2, 7, "found 'x', expected a finite decimal number as value"),
    (b"a 0:1:1\n", 1, 1, "found 'a', expected a finite decimal number as label"),
])  # fmt: skip
def test_messages(text, line, byte, message):
    with pytest.raises(DataError) as caught:
        read(text, format="ffm")
    assert (caught.value.line, caught.value.byte) == (line, byte) and message in str(caught.value)
