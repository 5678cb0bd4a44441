"""Vowpal Wabbit's text: the columns of VW itself, a slow parser's rows, the right byte."""

import gzip
import re

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from textcases import NUMBER, Malformed, agree, cuts, damaged, finite, lines_of, read

from fastopt.data import DataError, open_data

murmurhash3_32 = pytest.importorskip("sklearn.utils").murmurhash3_32

NAME = re.compile(rb"[^\x00-\x20:|]*")
BLANKS = re.compile(rb"[ \t]*")
LIKE_A_NUMBER = re.compile(rb"\d|[+-][.\d]|\.|[+-]?(nan|inf|infinity)$", re.IGNORECASE)


def hash_of(name, seed):
    """Return VW's hash of a name (its hashstring): digits are a number, added to the seed."""
    if re.fullmatch(rb"\d*", name):
        return (int(name or b"0") + seed) % 2**64
    return murmurhash3_32(name, seed % 2**32, positive=True)


def number_at(line, at, ends):
    """Return a decimal number that ends before one of some bytes, and where; or None."""
    found = NUMBER.match(line, at)
    if found and (found.end() == len(line) or line[found.end()] in ends):
        return float(found[0]), found.end()
    return None


def parse_label(line, bar, n):
    tokens = []
    at = 0
    while at < bar:
        if line[at] == 32:
            at += 1
            continue
        if line[at] < 32 and line[at] != 9:
            raise Malformed(n, at + 1)
        if len(tokens) == 3:
            raise Malformed(n, tokens[2][0] + 1)
        start = at
        while at < bar and line[at] != 32:
            if line[at] < 32:
                raise Malformed(n, at + 1)
            at += 1
        tokens.append((start, line[start:at]))
    if tokens:
        start, last = tokens[-1]
        touches = start + len(last) == bar
        if touches and len(tokens) == 1 and last[:1] != b"'" and LIKE_A_NUMBER.match(last):
            raise Malformed(n, start + 1)
        if touches or last[:1] == b"'":
            tokens.pop()
    if len(tokens) == 3:
        raise Malformed(n, tokens[2][0] + 1)
    values = [np.nan, 1.0]
    for k, (start, token) in enumerate(tokens):
        found = NUMBER.fullmatch(token)
        if not found or not np.isfinite(float(token)) or (k == 1 and float(token) < 0):
            raise Malformed(n, start + 1)
        values[k] = float(token)
    return values


def parse_features(line, at, n, dtype):
    entries = []
    while at < len(line):
        at += 1
        if line[at : at + 1] == b":":
            raise Malformed(n, at + 1)
        name = NAME.match(line, at)
        space = hash_of(name[0], 0)
        at, scale, anonymous = name.end(), 1.0, 0
        if line[at : at + 1] == b":":
            found = number_at(line, at + 1, b" \t|")
            if not found or not finite(found[0], dtype):
                raise Malformed(n, at + 2)
            scale, at = found
        while True:
            at = BLANKS.match(line, at).end()
            if at == len(line) or line[at : at + 1] == b"|":
                break
            name = NAME.match(line, at)
            at, value = name.end(), scale
            index = hash_of(name[0], space)
            if line[at : at + 1] == b":":
                word = NAME.match(line, at + 1)
                found = number_at(line, at + 1, b" \t|")
                if found:
                    value = found[0] * scale
                    if not finite(value, dtype):
                        raise Malformed(n, at + 2)
                    if not name[0]:
                        index = (space + anonymous) % 2**64
                        anonymous += 1
                    at = found[1]
                else:
                    follows = line[word.end() : word.end() + 1]
                    if follows and follows not in b" \t:|":
                        raise Malformed(n, word.end() + 1)
                    like = not word[0] or LIKE_A_NUMBER.match(word[0])
                    if like or follows not in (b"", b" ", b"\t"):
                        raise Malformed(n, at + 2)
                    index, value, at = hash_of(word[0], index), 1.0, word.end()
            elif at < len(line) and line[at] not in b" \t|":
                raise Malformed(n, at + 1)
            if np.dtype(dtype).type(value) != 0:
                entries.append((index, value))
    return entries


def parse(text, bits=18, dtype="float32"):
    """Return data, indices, indptr, labels, weights of a text, or raise the first Malformed."""
    data, indices, indptr, labels, weights = [], [], [0], [], []
    for n, line in enumerate(lines_of(text), 1):
        bar = line.find(b"|")
        if bar < 0:
            if line.strip(b" \t"):
                raise Malformed(n, len(line) + 1)
            continue
        label, weight = parse_label(line, bar, n)
        row = {}
        for index, value in parse_features(line, bar, n, dtype):
            row.setdefault(index % 2**bits, []).append(value)
        for index in sorted(row):
            total = row[index][0]
            for value in row[index][1:]:
                total += value
            if not finite(total, dtype):
                raise Malformed(n, 1)
            indices.append(index)
            data.append(total)
        indptr.append(len(data))
        labels.append(label)
        weights.append(weight)
    return data, indices, indptr, labels, weights


# ---- against Vowpal Wabbit and the reference

KINDS = [
    b"1 |f a:1 7:2 | 3:0.5 b",
    b"-1 2 'tag|f x:red y:2 :3 :4 z:0 |g x:red",
    b"0 | :5 a:b c 0012 12 99999999999999999999 1a",
    b"1 0.5|first:2.5 a:3 b |second:-1 a:3 b:1e-3 7",
    b"'tag|ns with\xc3\xa9 \xff:2 a,b=c:1 http//x",
    b"|a|b||c 1 1 1:2",
    b"+1e0 0 tag|12 3:4 x |12 3 | |",
]


def test_columns_are_those_of_vowpal_wabbit():
    vw = pytest.importorskip("vowpalwabbit")
    for bits in (18, 10):
        space = vw.Workspace(f"--quiet -b {bits} --noconstant")
        for line in KINDS:
            if b"\xff" in line:
                continue  # the Python face takes text
            row = space.parse(line.decode())
            expected = {}
            for ns in range(row.num_namespaces()):
                for k in range(row.num_features_in(ns)):
                    index = row.feature(ns, k) % 2**bits
                    expected[index] = expected.get(index, 0) + row.feature_weight(ns, k)
            label, weight = row.get_simplelabel_label(), row.get_simplelabel_weight()
            space.finish_example(row)
            X, y, w = read(line + b"\n", format="vw", hash_bits=bits, n_features=2**bits,
                           zero_based=True)  # fmt: skip
            assert X.indices.tolist() == sorted(expected), line
            np.testing.assert_allclose(X.data, [expected[k] for k in sorted(expected)], 1e-6)
            assert y[0] == label or (np.isnan(y[0]) and label > 3e38)
            assert (1.0 if w is None else w[0]) == weight


def test_documented_columns():
    """Numbers stand for themselves without a namespace; names are MurmurHash3, chained."""
    X, _, _ = read(b"1 | 5 200 |7 1 |a b c:2 d:red\n", format="vw", hash_bits=10, n_features=1024,
                   zero_based=True)  # fmt: skip
    a = murmurhash3_32(b"a", 0, positive=True)
    names = {k: murmurhash3_32(k, a, positive=True) for k in (b"b", b"c", b"d")}
    red = murmurhash3_32(b"red", names[b"d"], positive=True)
    expected = {5: 1, 200: 1, 8: 1, names[b"b"] % 1024: 1, names[b"c"] % 1024: 2, red % 1024: 1}
    assert dict(zip(X.indices.tolist(), X.data.tolist(), strict=True)) == expected


def test_rcv1_equals_the_numbers_in_the_file(data_dir):
    """Integer features of one namespace keep their distances; values are exact."""
    for name, rows in (("rcv1_small.dat.vw.gz", 1000), ("rcv1_small_test.data.vw.gz", 500)):
        data = open_data(data_dir / name, cache=False)
        X, y, w = data.to_csr()
        assert X.shape == (rows, 2**18) and w is None
        start = murmurhash3_32(b"f", 0, positive=True)
        lines = gzip.decompress((data_dir / name).read_bytes()).splitlines()
        for k in range(0, rows, 7):
            head, *tokens = lines[k].split()
            pairs = [token.split(b":") for token in tokens[1:]]
            row = sorted(((int(i) + start) % 2**18, np.float32(float(v))) for i, v in pairs)
            part = X.rows(k, k + 1)
            assert y[k] == float(head) and part.indices.tolist() == [i for i, _ in row]
            assert part.data.tolist() == [v for _, v in row]


# ---- fuzz

values = st.sampled_from(
    [
        b"1",
        b"0.25",
        b"-3e-5",
        b"+.5",
        b"1e39",
        b"0",
        b"red",
        b"a'b",
        b"1e-60",
        b"nan",
        b"3.14159265",
    ]
)
names = st.sampled_from(
    [b"a", b"b", b"price", b"x^y", b"7", b"007", b"12345678901234567890123", b"\xc3\xa9", b"a=b"]
)


@st.composite
def texts(draw):
    """Return a well-formed file of a few lines."""
    lines = []
    for _ in range(draw(st.integers(0, 4))):
        line = draw(st.sampled_from([b"", b" "]))
        heads = [b"1 ", b"-1 ", b"0.5 2 ", b"1 0.25 'tag", b"'t ", b"", b"1 2 t"]
        line += draw(st.sampled_from(heads))
        for _ in range(draw(st.integers(1, 3))):
            line += b"|" + draw(st.sampled_from([b"", b"f", b"12", b"long", b"w:2", b"w:-0.5"]))
            for _ in range(draw(st.integers(0, 5))):
                line += draw(st.sampled_from([b" ", b"  ", b"\t"])) + draw(names)
                if draw(st.booleans()):
                    line += b":" + draw(values)
            line += draw(st.sampled_from([b"", b" "]))
        lines.append(line)
        if draw(st.integers(0, 9)) == 0:
            lines.append(b" ")
    newline = draw(st.sampled_from([b"\n", b"\r\n"]))
    return newline.join(lines) + newline * draw(st.booleans())


TOKENS = [
    b"", b" ", b"\t", b"\n", b"\r", b"\0", b"|", b"||", b":", b"::", b"'", b"1", b"9" * 25, b"-",
    b".", b"e5", b"nan", b"inf", b"-Infinity", b"infra", b"1e999", b" 1 ", b"x:y", b":3",
    b"|n:1e39 a:2", b"3.4e38 a:3.4e38 a:3.4e38", b"\xff", b"1_0", b"0x1",
]  # fmt: skip


@given(damaged(texts(), TOKENS), cuts, st.sampled_from([1, 5, 18, 31]),
       st.sampled_from(["float32", "float64"]))  # fmt: skip
@settings(max_examples=1500, deadline=None)
@example(b"1|f a", {"threads": 1, "chunk": 99, "pieces": None}, 18, "float32")
@example(b"1 2 3 4|f a", {"threads": 1, "chunk": 99, "pieces": None}, 18, "float32")
@example(b"1 | a:3e38 a:3e38 b", {"threads": 1, "chunk": 99, "pieces": None}, 18, "float32")
@example(b"1 | a:1 b:2 a:-1", {"threads": 1, "chunk": 99, "pieces": None}, 1, "float64")
def test_damaged_files(text, cut, bits, dtype):
    agree(text, lambda text: parse(text, bits, dtype), format="vw", hash_bits=bits,
          n_features=2**bits, zero_based=True, dtype=dtype, **cut)  # fmt: skip


@given(st.binary(max_size=60) | st.text(" |:'1a.\t\n\r-e", max_size=60).map(str.encode), cuts)
@settings(max_examples=1000, deadline=None)
def test_random_bytes(text, cut):
    agree(text, parse, format="vw", hash_bits=18, n_features=2**18, zero_based=True, **cut)


def test_every_truncation():
    text = b"\n".join(KINDS)
    for stop in range(len(text)):
        agree(text[:stop], parse, format="vw", hash_bits=18, n_features=2**18, zero_based=True)


@given(st.lists(st.integers(0, 40), max_size=700), st.integers(0, 12))
@settings(deadline=None, max_examples=200)
def test_long_rows_are_sorted_and_added_up(features, bits):
    """Sums in order of occurrence: 0.1 + 0.2 + ... is not associative."""
    text = b"1 | " + b" ".join(b"%d:0.%d" % (f * 7919, f + 1) for f in features) + b"\n"
    agree(text, lambda text: parse(text, bits, "float64"), format="vw", hash_bits=bits,
          n_features=2**bits, zero_based=True, dtype="float64")  # fmt: skip


# ---- messages

MALFORMED = [
    (b"1|f a\n", 1, 1, "found '1', expected a blank between the label and '|', or a ' before a"),
    (b"1 2 3 |f\n", 1, 5, "found '3', expected no more than label, importance and tag"),
    (b"1\t|f a\n", 1, 2, "expected blanks, no tab, before the first '|'"),
    (b"\n\n1 a\n", 3, 4, "found the end of the line, expected '|' and the features"),
    (b"yes |f a\n", 1, 1, "found 'yes', expected a finite decimal number as label"),
    (b"1 -2 |f a\n", 1, 3, "found '-2', expected a finite number of at least 0 as importance"),
    (b"1 |f:x a\n", 1, 6, "found 'x', expected a finite decimal number as weight of the namespace"),
    (b"1 |:2 a\n", 1, 4, "expected a namespace, a blank or the end of the line after '|'"),
    (b"1 |f a:1x\n", 1, 8, "found '1x', expected a finite decimal number or a word as value"),
    (b"1 |f a:1:2\n", 1, 8, "found '1:2', expected a finite decimal number or a word"),
    (b"1 |f a: b\n", 1, 8, "found ' ', expected a finite decimal number or a word as value"),
    (b"1 |f a:nan\n", 1, 8, "found 'nan', expected a finite"),
    (b"1 |f a:1e39\n", 1, 8, "found '1e39', expected a value that float32 can hold"),
    (b"1 |f a\0b\n", 1, 7, r"found '\x00b', expected text"),
]  # fmt: skip


@pytest.mark.parametrize("text, line, byte, message", MALFORMED)
def test_messages(text, line, byte, message, tmp_path):
    path = tmp_path / "bad.vw"
    for before in (0, 3000):
        path.write_bytes(b"1 |f a:2 b\n" * before + text + b"1 |f a\n")
        with pytest.raises(DataError) as caught:
            open_data(path, cache=False).to_csr()
        assert (caught.value.line, caught.value.byte) == (before + line, byte)
        assert str(caught.value).startswith(f"{path}:{before + line}: byte {byte}: ")
        assert message in str(caught.value)
