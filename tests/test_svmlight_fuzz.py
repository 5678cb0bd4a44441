"""Damaged files: the parser and a slow reference agree, in result or in line and byte."""

import gzip
import io
import os
import random
import re
import time

import numpy as np
import pytest

from fastopt.data import CSR, DataError, iter_svmlight, load_svmlight, sources

SECONDS = float(os.environ.get("FASTOPT_FUZZ_SECONDS", "10"))

NUMBER = re.compile(rb"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?(?=[\x00-\x20#]|$)")
QID = re.compile(rb"qid:([+-]?\d+)(?=[\x00-\x20#]|$)")
INDEX = re.compile(rb"(\d+):")
BLANKS = re.compile(rb"[ \t]*")


class Malformed(Exception):
    def __init__(self, line, byte):
        super().__init__(line, byte)
        self.line, self.byte = line, byte


def parse(text, *, zero_based="auto", n_features=None, query_id=False, dtype="float64"):
    """Return data, indices, indptr, n_features, y, qid, or raise the first Malformed."""
    data, indices, indptr, labels, queries = [], [], [0], [], []
    zero, edge, error, n = False, None, None, 0
    top = (2**63 - 2 if n_features is None else n_features) - (zero_based is True)

    def number(line, at, kind):
        found = NUMBER.match(line, at)
        with np.errstate(over="ignore"):
            if not found or not np.isfinite(np.dtype(kind).type(float(found[0]))):
                raise Malformed(n, at + 1)
        return float(found[0]), found.end()

    lines = text.split(b"\n")
    if lines[-1] == b"":
        lines.pop()
    try:
        for n, whole in enumerate(lines, 1):
            line = whole[:-1] if whole.endswith(b"\r") else whole
            line, _sign, comment = line.partition(b"#")
            at = BLANKS.match(line).end()
            if at < len(line):
                label, at = number(line, at, "float64")
                start = BLANKS.match(line, at).end()
                qid = QID.match(line, start)
                if qid and abs(int(qid[1])) < 2**63 - 1:
                    at = qid.end()
                elif line.startswith(b"qid:", start) or query_id:
                    raise Malformed(n, start + 1)
                previous = -1
                while at < len(line):
                    start = BLANKS.match(line, at).end()
                    if start == len(line):
                        break
                    index = INDEX.match(line, start)
                    if start == at or not index:
                        raise Malformed(n, start + 1)
                    i = int(index[1])
                    zero |= i == 0
                    if i > top or i <= previous or (i == 0 and zero_based is False):
                        raise Malformed(n, start + 1)
                    if i == n_features and zero_based == "auto":
                        edge = edge or Malformed(n, start + 1)
                    value, at = number(line, index.end(), dtype)
                    previous = i
                    indices.append(i)
                    data.append(value)
                labels.append(label)
                queries.append(int(qid[1]) if qid else 0)
                indptr.append(len(data))
            if bad := re.search(rb"[\0\r]", comment):
                raise Malformed(n, len(line) + bad.start() + 2)
    except Malformed as found:
        error = found
    if zero and edge:
        error = edge
    if error:
        raise error
    based = 0 if zero_based is True or (zero_based == "auto" and zero) else 1
    indices = [i - based for i in indices]
    if n_features is None:
        n_features = max(indices, default=-1) + 1
    return (
        np.array(data, dtype),
        np.array(indices, "int64"),
        np.array(indptr),
        n_features,
        np.array(labels, "float64"),
        np.array(queries, "int64"),
    )


PIECES = [
    b" ", b"  ", b"\t", b"\n", b"\r\n", b"\r", b"#", b":", b"::", b"0", b"1", b"9" * 19, b"9" * 30,
    b"-", b"+", b".", b"e", b"E", b"e5", b"e-400", b"e999", b"1e", b"qid:", b"qid:3", b" qid:x",
    b"nan", b"inf", b"0x1", b"1_0", b"\0", b"\x01", b"\x0b", b"\xff", b"\xef\xbb\xbf", b",", b"1:1",
    b" 4:", b" 2147483648:1", b" 9223372036854775807:1", b"0" * 40, b"# c\n", b"1e39", b"1.7e308",
    b"8589934592", b"\n\n\n", b" 0:1", b"3.4028236e38", b"-9223372036854775807",
]  # fmt: skip


def value(rng):
    return repr(rng.choice([1.0, rng.random(), -rng.random() * 10.0 ** rng.randrange(-40, 38)]))


def valid_file(rng):
    """Return a well-formed file of a few rows in one of the format's dialects."""
    newline = rng.choice([b"\n", b"\r\n"])
    first, queries = rng.choice([0, 1]), rng.random() < 0.3
    lines = []
    for _ in range(rng.randrange(8)):
        if rng.random() < 0.15:
            lines.append(rng.choice([b"", b"  ", b"# only", b"\t# 1:1"]))
        row = [rng.choice([b"1", b"-1", b"+1", b"0.5", b"1e3", b"2"])]
        if queries:
            row.append(b"qid:%d" % rng.randrange(9))
        for column in sorted(rng.sample(range(first, 41), rng.randrange(6))):
            row.append(f"{column}:{value(rng)}".encode())
        line = rng.choice([b" ", b"\t", b"  "]).join(row)
        lines.append(line + rng.choice([b"", b"", b" ", b" # 3:4", b"#x"]))
    return newline.join(lines) + (newline if rng.random() < 0.7 else b"")


def damage(text, rng):
    for _ in range(rng.choice([0, 1, 1, 1, 2, 3])):
        at, length = rng.randrange(len(text) + 1), rng.choice([0, 0, 1, 1, 2, 8])
        piece = rng.choice(PIECES) if rng.random() < 0.8 else bytes([rng.randrange(256)])
        text = text[:at] + rng.choice([b"", piece, piece]) + text[at + length :]
    return text


def by_blocks(source, how):
    """Read with iter_svmlight what load_svmlight would return."""
    data, indices, labels, queries, ends = [], [], [], [], [0]
    for X, y, *qid in iter_svmlight(source, **how):
        assert 0 < len(y) <= how["block_rows"] and X.indptr[0] == 0
        ends += (X.indptr[1:] + ends[-1]).tolist()
        for parts, part in zip(
            (data, indices, labels, queries), (X.data, X.indices, y, *qid), strict=False
        ):
            parts.append(part)
    X = CSR(
        np.concatenate([np.empty(0, how["dtype"]), *data]),
        np.concatenate([np.empty(0, X.indices.dtype if data else "int32"), *indices]),
        np.array(ends),
        (len(ends) - 1, how["n_features"]),
    )
    return X, np.concatenate([np.empty(0), *labels]), np.concatenate([np.empty(0, int), *queries])


def check(text, tmp_path, rng, monkeypatch):
    settings = {
        "zero_based": rng.choice(["auto", "auto", True, False]),
        "n_features": rng.choice([None, None, 39, 40, 41, 2**40]),
        "query_id": rng.random() < 0.3,
        "dtype": rng.choice(["float32", "float64"]),
    }
    how = {
        "threads": rng.choice([1, 1, 1, 1, 1, 1, 2, 3]),
        "_chunk": rng.choice([1, 2, 3, 7, 20, 64, 4096]),
    }
    monkeypatch.setattr(sources, "BLOCK", rng.choice([1, 30, 1 << 23]))
    monkeypatch.setattr(sources, "PIECE", rng.choice([1, 10, 1 << 18]))
    packed = rng.random() < 0.2
    content = gzip.compress(text, 1) if packed else text
    source = io.BytesIO(content)
    if rng.random() < 0.3:
        source = tmp_path / "fuzz.svm"
        source.write_bytes(content)
    read = load_svmlight
    if settings["n_features"] and settings["zero_based"] != "auto" and rng.random() < 0.5:
        how["block_rows"] = rng.choice([1, 2, 5, 100])
        read = lambda source, **how: by_blocks(source, how)  # noqa: E731
    try:
        data, indices, indptr, n_features, labels, queries = parse(text, **settings)
    except Malformed as malformed:
        with pytest.raises(DataError) as caught:
            read(source, **settings, **how)
        assert (caught.value.line, caught.value.byte) == (malformed.line, malformed.byte)
        assert f":{malformed.line}: byte {malformed.byte}: found " in str(caught.value)
        return "malformed"
    X, y, *qid = read(source, **settings, **how)
    assert X.data.tobytes() == data.tobytes() and X.data.dtype == data.dtype
    assert np.array_equal(X.indices, indices) and np.array_equal(X.indptr, indptr)
    if read is load_svmlight or X.nnz:
        assert X.indices.dtype == ("int32" if n_features < 2**31 else "int64")
    assert X.shape == (len(labels), n_features) and y.tobytes() == labels.tobytes()
    assert not settings["query_id"] or np.array_equal(qid[0], queries)
    return "fine"


def test_damaged_files(tmp_path, monkeypatch):
    seed = int(os.environ.get("FASTOPT_FUZZ_SEED", time.time_ns()))
    stop = time.monotonic() + SECONDS
    seen = {"fine": 0, "malformed": 0}
    while time.monotonic() < stop:
        rng = random.Random(seed)
        text = damage(valid_file(rng), rng)
        try:
            seen[check(text, tmp_path, rng, monkeypatch)] += 1
        except BaseException as error:
            raise AssertionError(f"FASTOPT_FUZZ_SEED={seed}: {text!r}") from error
        seed += 1
    print(seen)
    assert min(seen.values()) > SECONDS, seen
