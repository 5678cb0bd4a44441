"""What tests of text readers share: reading bytes, damaging them, comparing with a reference."""

import io
import re

import numpy as np
import pytest
from hypothesis import strategies as st

from fastopt.data import sources
from fastopt.data.builder import Builder
from fastopt.data.csr import DataError

NUMBER = re.compile(rb"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")


class Malformed(Exception):
    """What a reference raises at the first malformed place."""

    def __init__(self, line, byte):
        super().__init__(line, byte)
        self.line, self.byte = line, byte


def finite(value, dtype):
    """Whether a float64 is finite in a dtype."""
    with np.errstate(over="ignore"):
        return bool(np.isfinite(np.dtype(dtype).type(value)))


def lines_of(text):
    """Return the lines of a text without their ends."""
    lines = text.split(b"\n")
    if lines[-1] == b"":
        lines.pop()
    return [line[:-1] if line.endswith(b"\r") else line for line in lines]


def read(text, *, pieces=None, **how):
    """Read bytes as text of a format: X, y, weights. `pieces`: sizes of pieces and of blocks."""
    before = sources.PIECE, sources.BLOCK
    if pieces:
        sources.PIECE, sources.BLOCK = pieces
    try:
        builder = Builder("text", **how)
        with Source(io.BytesIO(text)) as opened:
            opened.read(builder)
    finally:
        sources.PIECE, sources.BLOCK = before
    X, y, _, weights = builder.finish()
    return X, y, weights


Source = sources.Source

#: How texts are cut: threads, bytes of a thread's chunk, and (piece, block) of a stream.
cuts = st.fixed_dictionaries({
    "threads": st.sampled_from([1, 1, 1, 2, 3]),
    "chunk": st.sampled_from([1, 2, 3, 7, 20, 64, 4096]),
    "pieces": st.sampled_from([(1 << 18, 1 << 23), (1, 1), (3, 10), (50, 30)]),
})  # fmt: skip


@st.composite
def damaged(draw, texts, tokens):
    """Return one of the texts with some bytes lost, doubled, or replaced by tokens."""
    text = draw(texts)
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(text)))
        length = draw(st.sampled_from([0, 0, 1, 1, 2, 8]))
        piece = draw(st.sampled_from(tokens) | st.binary(max_size=2))
        text = text[:at] + piece + text[at + length :]
    return text


def agree(text, reference, **how):
    """Assert that reader and reference agree on rows, or on the first malformed place.

    Bytes that would be taken for compressed data are left out.
    `reference(text)` returns data, indices, indptr, labels and weights, or raises Malformed.
    """
    if text.startswith((sources.GZIP, sources.ZSTD)):
        return
    try:
        data, indices, indptr, labels, weights = reference(text)
    except Malformed as malformed:
        with pytest.raises(DataError) as caught:
            read(text, **how)
        assert (caught.value.line, caught.value.byte) == (malformed.line, malformed.byte), str(
            caught.value
        )
        assert f":{malformed.line}: byte {malformed.byte}: found " in str(caught.value)
        return
    X, y, found = read(text, **how)
    assert X.indptr.tolist() == list(indptr)
    assert X.indices.tolist() == list(indices)
    assert X.data.tobytes() == np.array(data, X.dtype).tobytes()
    assert np.array_equal(y, np.array(labels, "float64"), equal_nan=True)
    if found is None:
        assert all(w == 1 for w in weights)
    else:
        assert found.tolist() == list(weights)
