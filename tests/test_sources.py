"""Compression, globs, URLs, and formats that are found out."""

import gzip
import io
import os
import random
import sys
import threading

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastopt.data import DataError, load_svmlight, open_data, sources
from fastopt.data.reading import guess_format


def rows(n, seed=0):
    rng = random.Random(seed)
    return "".join(
        f"{rng.randint(0, 1)} "
        + " ".join(f"{3 * k + 1}:{rng.random():.6g}" for k in range(9))
        + "\n"
        for _ in range(n)
    ).encode()


def prepare(data):
    """Have everything read once."""
    return data.n_rows


def zstd(text, **how):
    return pytest.importorskip("zstandard").ZstdCompressor(**how).compress(text)


def equal(a, b):
    for x, y in zip((a[0].data, a[0].indices, a[0].indptr, a[1]),
                    (b[0].data, b[0].indices, b[0].indptr, b[1]), strict=True):  # fmt: skip
        assert x.tobytes() == y.tobytes()
    assert a[0].shape == b[0].shape


# ---- zstd


def test_zstd_is_known_by_its_bytes_and_may_have_frames(tmp_path, monkeypatch):
    text = rows(3000)
    expected = load_svmlight(io.BytesIO(text))
    path = tmp_path / "named-otherwise.txt"
    path.write_bytes(zstd(text[:1000]) + zstd(text[1000:], write_checksum=True, level=9))
    for block, piece in ((1 << 23, 1 << 18), (1000, 64), (1, 7)):
        monkeypatch.setattr(sources, "BLOCK", block)
        monkeypatch.setattr(sources, "PIECE", piece)
        equal(load_svmlight(path), expected)
        equal(open_data(path, cache=False).to_csr()[:2], expected)


def test_every_truncation_and_damage_of_zstd_is_an_error(tmp_path):
    text = rows(40)
    whole = zstd(text, write_checksum=True)
    for stop in range(4, len(whole)):
        with pytest.raises(DataError, match="damaged zstd data"):
            load_svmlight(io.BytesIO(whole[:stop]))
    rng = random.Random(0)
    for _ in range(300):
        broken = bytearray(whole)
        broken[rng.randrange(4, len(whole))] ^= 1 << rng.randrange(8)
        try:
            X, y = load_svmlight(io.BytesIO(bytes(broken)))
        except DataError as error:
            assert "zstd" in str(error) or "found" in str(error)
        else:  # a bit that changes nothing, such as a flag of the header
            equal((X, y), load_svmlight(io.BytesIO(text)))


def test_zstd_of_very_compressible_text_stays_small():
    import tracemalloc

    text = b"1 1:1\n" * 3_000_000
    packed = zstd(text, level=19)
    assert len(packed) < 10_000
    tracemalloc.start()
    X, _ = load_svmlight(io.BytesIO(packed))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert X.shape == (3_000_000, 1)
    assert peak < 1.3 * (X.data.nbytes + X.indices.nbytes + 2 * X.indptr.nbytes) + 40e6


def test_every_truncation_of_gzip_is_an_error():
    whole = gzip.compress(rows(20))
    for stop in range(4, len(whole)):
        with pytest.raises(DataError, match="damaged gzip data"):
            load_svmlight(io.BytesIO(whole[:stop]))


def test_missing_packages_are_named(tmp_path, monkeypatch):
    (tmp_path / "a.svm").write_bytes(b"\x28\xb5\x2f\xfd")
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    for module, path in (("zstandard", "a.svm"), ("pyarrow", "a.parquet")):
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(ImportError, match=rf"{module}: pip install 'fastopt\[data\]'"):
            open_data(tmp_path / path, cache=False).to_csr()
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    with pytest.raises(ImportError, match=r"fsspec: pip install 'fastopt\[data\]'"):
        open_data("memory://x.svm")


# ---- globs, lists, URLs


def test_globs_and_lists(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = rows(300)
    lines = text.splitlines(keepends=True)
    for k in range(3):
        part = b"".join(lines[100 * k : 100 * k + 100])
        (tmp_path / f"part-{k}.svm").write_bytes([part, gzip.compress(part), part[:-1]][k])
    expected = load_svmlight(io.BytesIO(text))
    for source in ("part-*.svm", [tmp_path / f"part-{k}.svm" for k in range(3)],
                   ["part-[01].svm", "part-2.svm"]):  # fmt: skip
        for cache in (False, tmp_path / "all.fastopt"):
            equal(open_data(source, cache=cache).to_csr()[:2], expected)
    (tmp_path / "odd[1].svm").write_bytes(text)
    equal(open_data("odd[1].svm", cache=False).to_csr()[:2], expected)
    with pytest.raises(FileNotFoundError, match=r"no file matches none-\*"):
        open_data("none-*")
    with pytest.raises(FileNotFoundError):
        open_data("none.svm")
    with pytest.raises(IsADirectoryError, match="is a directory; name its files"):
        open_data(tmp_path)
    with pytest.raises(ValueError, match="list of files is empty"):
        open_data([])


def test_first_column_is_found_out_of_all_files(tmp_path):
    (tmp_path / "1.svm").write_text("1 1:1 3:1\n")
    (tmp_path / "2.svm").write_text("0 0:1 1:1\n")
    for cache in (False, tmp_path / "c.fastopt"):
        data = open_data(tmp_path / "*.svm", cache=cache)
        X, _, _ = data.to_csr()
        assert X.indices.tolist() == [1, 3, 0, 1] and X.shape == (2, 4) and data.zero_based is True
        assert [x.indices.tolist() for x, _, _ in data.blocks()] in (
            [[1, 3, 0, 1]],
            [[1, 3], [0, 1]],
        )


def test_line_numbers_start_again_in_each_file(tmp_path):
    (tmp_path / "1.svm").write_text("1 1:1\n" * 10)
    (tmp_path / "2.svm").write_text("1 1:1\n1 x\n")
    for cache in (False, tmp_path / "c.fastopt"):
        with pytest.raises(DataError, match=r"2\.svm:2: byte 3: found 'x'"):
            prepare(open_data(tmp_path / "*.svm", cache=cache))
    assert not (tmp_path / "c.fastopt").exists()
    assert sorted(os.listdir(tmp_path)) == ["1.svm", "2.svm"]


def test_urls(tmp_path, monkeypatch):
    fsspec = pytest.importorskip("fsspec")
    monkeypatch.setenv("FASTOPT_CACHE", str(tmp_path / "caches"))
    text = rows(200)
    expected = load_svmlight(io.BytesIO(text))
    fs = fsspec.filesystem("memory")
    lines = text.splitlines(keepends=True)
    fs.pipe("/folder/a.svm", b"".join(lines[:50]))
    fs.pipe("/folder/b.svm", gzip.compress(b"".join(lines[50:])))
    for cache in (False, True, True):
        data = open_data("memory://folder/*.svm", cache=cache)
        equal(data.to_csr()[:2], expected)
        assert sum(len(y) for _, y, _ in data.blocks(seed=1)) == 200
    assert len(os.listdir(tmp_path / "caches" / "data")) == 1
    fs.pipe("/folder/a.svm", b"".join(lines[:49]))  # the cache is stale now
    assert open_data("memory://folder/*.svm").n_rows == 199
    shards = open_data("memory://folder/a.svm", cache=False).shards(3)
    assert [shard.n_rows for shard in shards] and sum(s.n_rows for s in shards) == 49
    fs.pipe("/folder/a.svm", b"1 1:1\n1 y\n")
    with pytest.raises(DataError, match=r"a\.svm:2: byte 3: found 'y'"):
        prepare(open_data("memory://folder/a.svm"))
    with pytest.raises(FileNotFoundError):
        prepare(open_data("memory://folder/none.svm", cache=False))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_pipes_are_read_once(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)

    def opened(read):
        writer = threading.Thread(target=path.write_bytes, args=(b"1 1:1\n2 2:1\n",))
        writer.start()
        try:
            return read(open_data(path, format="svmlight"))
        finally:
            writer.join()

    assert opened(lambda data: data.to_csr()[1].tolist()) == [1, 2]
    with pytest.raises(ValueError, match="can be read only once"):
        prepare(open_data(path, format="svmlight"))


def test_the_beginning_of_a_pipe_is_not_lost(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    text = b"1 1:1\n2 2:1\n" * 200_000  # much more than a look at a file takes
    writer = threading.Thread(target=path.write_bytes, args=(text,))
    writer.start()
    y = open_data(path).to_csr()[1]  # svmlight, if nothing else is said
    writer.join()
    assert len(y) == 400_000 and y[0] == 1
    for format in ("csv", "parquet", "cache"):
        with pytest.raises(ValueError, match=f"format='{format}' needs a file or a URL"):
            open_data(path, format=format)


# ---- formats

NAMES = [
    ("x.svm", b"", "svmlight"), ("x.LIBSVM", b"1,2", "svmlight"), ("x.vw.gz", b"", "vw"),
    ("dat.vw.zst", b"", "vw"), ("x.ffm", b"", "ffm"), ("x.csv", b"1|2", "csv"),
    ("x.pq", b"", "parquet"),
    ("x.txt", b"1 |f a", "vw"), ("x.txt", b"|f a", "vw"), ("x", b"# c\n\n1 3:1", "svmlight"),
    ("x", b"1 qid:3 3:1 # a,b", "svmlight"), ("x", b"1 0:3:1", "ffm"), ("x", b"1,2,3", "csv"),
    ("x", b"a:b,c|d", "csv"), ("x", b"", "svmlight"), ("x", b"nothing", "svmlight"),
]  # fmt: skip


@pytest.mark.parametrize("name, text, format", NAMES)
def test_format_is_found_out(name, text, format):
    assert guess_format(name, text[:4], text) == format


def test_wrong_arguments_are_named(tmp_path):
    path = tmp_path / "a.svm"
    path.write_text("1 1:1\n")
    (tmp_path / "a.vw").write_text("1 | 1:1\n")
    for how, message in (
        ({"format": "xml"}, "format must be one of 'auto', 'svmlight'"),
        ({"dtype": "int8"}, "dtype must be one of float32, float64"),
        ({"zero_based": 2}, "zero_based must be True, False or 'auto'"),
        ({"n_features": 0}, "n_features must be at least 1"),
        ({"hash_bits": 3}, "hash_bits means nothing for the svmlight format"),
        ({"label": "y"}, "label means nothing for the svmlight format"),
        ({"block_rows": 0}, "block_rows must be at least 1"),
        ({"missing": "drop"}, "missing must be one of"),
        ({"header": 1.5}, "header must be True"),
        ({"y": [1.0]}, "y and sample_weight go with arrays"),
        ({"threads": 0}, "threads"),
        ({"format": "vw", "hash_bits": 40}, "hash_bits must be at most 31"),
        (
            {"format": "vw", "n_features": 5},
            "n_features must be None or 262144, because hash_bits=18",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            prepare(open_data(path, cache=False, **how))


def test_progress_counts_all_files(tmp_path):
    text = rows(20_000)
    (tmp_path / "1.svm").write_bytes(text)
    (tmp_path / "2.svm").write_bytes(gzip.compress(text))
    total = sum(path.stat().st_size for path in tmp_path.iterdir())
    for use in (lambda data: data.to_csr(), lambda data: data.n_rows):
        calls = []

        def report(*call, to=calls):
            to.append(call)

        use(open_data(tmp_path / "?.svm", cache=False, on_progress=report))
        done = [call[0] for call in calls]
        assert done == sorted(done) and calls[-1] == (total, total)


ANY = st.binary(max_size=80) | st.text('1:|," .\n\r\tax#q-', max_size=80).map(str.encode)


@given(ANY, st.sampled_from(["", b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"PAR1", b"fastoptC"]))
@settings(max_examples=600, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_bytes_are_rows_or_an_error(tmp_path, data, magic):
    path = tmp_path / "any"
    path.write_bytes((magic or b"") + data)
    for how in ({}, {"format": "csv", "hash_bits": 4}, {"format": "vw"}, {"format": "ffm"}):
        try:
            X, y, _ = open_data(path, cache=False, **how).to_csr()
        except ValueError as error:  # DataError is one
            assert str(error)
        else:
            assert X.shape[0] == len(y) == len(X.indptr) - 1
            assert X.nnz == 0 or (X.indices.min() >= 0 and X.indices.max() < X.shape[1])


def test_streams_and_caches_take_bounded_memory(tmp_path, monkeypatch):
    import tracemalloc

    from fastopt.data import cache

    monkeypatch.setattr(sources, "BLOCK", 1 << 18)
    monkeypatch.setattr(cache, "SPOOL", 1 << 16)
    monkeypatch.setattr(cache, "PIECE", 1 << 16)
    lines = [b"1 | a:1 b:2 c:3\n" * 1000, b"1 1:1 2:2 3:3\n" * 1000]
    for name, line in zip(("a.vw", "a.svm"), lines, strict=True):
        for suffix, pack in (("", bytes), (".gz", gzip.compress)):
            path = tmp_path / (name + suffix)
            path.write_bytes(pack(line * 600))
            for where in (False, tmp_path / "c.fastopt"):
                tracemalloc.start()
                rows = sum(len(y) for _, y, _ in open_data(path, cache=where))
                _, peak = tracemalloc.get_traced_memory()
                tracemalloc.stop()
                assert rows == 600_000 and peak < 8e6, (name, suffix, where, peak)
