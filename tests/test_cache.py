"""The binary cache: what was parsed, or an error; never anything else."""

import contextlib
import os
import pickle
import random
import struct
import subprocess
import sys
import time
import warnings

import numpy as np
import pytest
from fastopt._core import checksums

from fastopt.data import DataError, builder, cache, open_data, sources
from fastopt.data.cache import Cache, writing
from fastopt.data.csr import CSR


def text(n=500, seed=0, zero=False):
    rng = random.Random(seed)
    return "".join(
        f"{rng.choice([-1, 1])} "
        + " ".join(f"{c}:{rng.random():.5g}" for c in sorted(rng.sample(range(1 - zero, 60), 7)))
        + "\n"
        for _ in range(n)
    )


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "data.svm"
    path.write_text(text())
    return path


def prepare(data):
    """Have everything read once."""
    return data.n_rows


def parts(rows):
    X, y, w = rows
    return [X.data, X.indices, X.indptr, y, *([] if w is None else [w]),
            *([] if X.fields is None else [X.fields])]  # fmt: skip


def same(a, b):
    assert a[0].shape == b[0].shape and len(parts(a)) == len(parts(b))
    for x, y in zip(parts(a), parts(b), strict=True):
        assert x.dtype == y.dtype and x.tobytes() == y.tobytes()


@pytest.fixture
def no_parsing(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("parsed again")

    return lambda: monkeypatch.setattr(builder, "text_parse", refuse)


# ---- written once, read as it was


@pytest.mark.parametrize("zero", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_second_pass_reads_the_cache(path, no_parsing, zero, dtype):
    path.write_text(text(zero=zero))
    expected = open_data(path, cache=False, dtype=dtype).to_csr()
    data = open_data(path, dtype=dtype)
    same(data.to_csr(), expected)
    assert sorted(os.listdir(path.parent)) == ["data.svm", "data.svm.fastopt"]
    no_parsing()
    again = open_data(path, dtype=dtype)
    same(again.to_csr(), expected)
    assert again.zero_based is zero and again.format == "svmlight" and again.n_rows == 500
    same(open_data(f"{path}.fastopt").to_csr(), expected)
    X, y, _ = again.to_csr()
    for array in (X.data, X.indices, y):  # mapped, not copied
        while array.base is not None and not isinstance(array, np.memmap):
            array = array.base
        assert isinstance(array, np.memmap)
        assert not array.flags.writeable


def test_stale_caches_are_written_anew(path, no_parsing):
    assert open_data(path).n_rows == 500
    path.write_text(text(501))
    assert open_data(path).n_rows == 501
    before = path.read_text()
    path.write_text(before.replace("1", "2", 1))  # of the same size
    os.utime(path, ns=(1, 1))
    X, _, _ = open_data(path).to_csr()
    same(open_data(path).to_csr(), open_data(path, cache=False).to_csr())
    for how in ({"dtype": "float64"}, {"n_features": 77}, {"zero_based": True}):
        found = open_data(path, **how).to_csr()
        same(found, open_data(path, cache=False, **how).to_csr())
        assert open_data(path, **how)._ready().about["reading"][next(iter(how))]
    no_parsing()
    prepare(open_data(path, zero_based=True))
    with pytest.raises(AssertionError, match="parsed again"):
        prepare(open_data(path))
    assert X.shape[1] == 59


def test_weights_and_wide_columns_may_come_late(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "BLOCK", 1)
    monkeypatch.setattr(sources, "PIECE", 64)
    path = tmp_path / "late.svm"
    path.write_text("1 1:1 2:2\n" * 100 + "2 7:1 3000000000:1\n" + "1 1:1\n" * 100)
    same(open_data(path).to_csr(), open_data(path, cache=False).to_csr())
    assert open_data(path).to_csr()[0].indices.dtype == np.int64
    path = tmp_path / "late.vw"
    path.write_text("1 | a b\n" * 100 + "1 0.5 | a\n" + "1 | a\n" * 99)
    X, y, w = open_data(path).to_csr()
    assert w.tolist() == [1] * 100 + [0.5] + [1] * 99
    same((X, y, w), open_data(path, cache=False).to_csr())
    assert [b[2] is None for b in open_data(path, block_rows=50).blocks()] == [False] * 4
    path = tmp_path / "fields.ffm"
    path.write_text("1 3:1:1 4:2:1\n" * 50)
    same(open_data(path).to_csr(), open_data(path, cache=False).to_csr())
    assert next(open_data(path, block_rows=7).blocks())[0].fields.tolist() == [3, 4] * 7


@pytest.mark.parametrize("content", ["", "# nothing\n", "1\n0\n"])
def test_files_without_values(path, content):
    path.write_text(content)
    for _ in range(2):
        data = open_data(path)
        X, y, _ = data.to_csr()
        assert X.shape == (content.count("\n") - content.count("#"), 1) and len(y) == X.shape[0]
        assert X.indptr.tolist() == [0] * (len(y) + 1)
        assert sum(len(b[1]) for b in data.blocks(seed=0)) == len(y)


def test_where_caches_are(path, tmp_path, monkeypatch):
    monkeypatch.setenv("FASTOPT_CACHE", str(tmp_path / "elsewhere"))
    prepare(open_data(path, cache=tmp_path / "new" / "mine"))
    assert (tmp_path / "new" / "mine").exists() and not (tmp_path / "data.svm.fastopt").exists()
    prepare(open_data([path, path]))
    assert len(os.listdir(tmp_path / "elsewhere" / "data")) == 1
    monkeypatch.setattr(os, "access", lambda *_: False)
    prepare(open_data(path))
    assert len(os.listdir(tmp_path / "elsewhere" / "data")) == 2
    assert not (tmp_path / "data.svm.fastopt").exists()


def test_other_files_are_left_alone(path, tmp_path):
    other = tmp_path / "thesis.txt"
    other.write_text("years of work")
    with pytest.raises(
        ValueError, match=r"thesis.txt is there and no fastopt cache; it is left al"
    ):
        prepare(open_data(path, cache=other))
    assert other.read_text() == "years of work"


def test_errors_leave_the_old_cache(path, monkeypatch):
    assert open_data(path).n_rows == 500
    kept = (path.parent / "data.svm.fastopt").read_bytes()
    path.write_text(text() + "bad\n")
    with pytest.raises(DataError, match=":501: byte 1: found 'bad'"):
        prepare(open_data(path))
    path.write_text(text(600))

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(cache.Writer, "finish", interrupt)
    with pytest.raises(KeyboardInterrupt):
        prepare(open_data(path))
    assert (path.parent / "data.svm.fastopt").read_bytes() == kept
    assert sorted(os.listdir(path.parent)) == ["data.svm", "data.svm.fastopt"]


def test_data_that_changes_while_it_is_read_is_refused(path):
    def touch(done, total):
        os.utime(path, ns=(done, done))

    with pytest.raises(DataError, match="the file has changed since it was first read"):
        prepare(open_data(path, on_progress=touch))


@pytest.mark.skipif(os.name != "posix", reason="st_ctime is the time of creation elsewhere")
def test_an_edit_that_puts_the_time_back_is_seen(path):
    path.write_text("1 1:1\n-1 1:2\n")
    assert open_data(path).to_csr()[0].data.tolist() == [1, 2]
    before = os.stat(path)
    path.write_text("1 1:3\n-1 1:4\n")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert os.stat(path).st_mtime_ns == before.st_mtime_ns
    assert open_data(path).to_csr()[0].data.tolist() == [3, 4]


def test_a_cache_of_other_options_written_meanwhile_is_not_taken(path, monkeypatch):
    other = path.parent / "other.fastopt"
    prepare(open_data(path, n_features=99, cache=other))

    @contextlib.contextmanager
    def overtaken(where, dtype):
        with writing(where, dtype) as writer:
            yield writer
        os.replace(other, where)  # another process is done just now

    writing = cache.writing
    monkeypatch.setattr(cache, "writing", overtaken)
    with pytest.raises(DataError, match="another process writes this cache with other options"):
        prepare(open_data(path))


def test_processes_that_write_the_same_cache_or_are_killed_leave_a_whole_one(path):
    path.write_text(text(3000))
    where = path.parent / "c.fastopt"
    code = (
        "import sys; from fastopt.data import open_data\n"
        "while True:\n"
        "    open_data(sys.argv[1], cache=sys.argv[2], threads=1).n_rows\n"
        "    open_data(sys.argv[1], cache=sys.argv[2], threads=1, n_features=99).n_rows\n"
    )
    expected = open_data(path, cache=False).to_csr()[0]
    for _ in range(3):
        running = [
            subprocess.Popen(
                [sys.executable, "-c", code, str(path), str(where)], stderr=subprocess.DEVNULL
            )
            for _ in range(2)
        ]
        end = time.monotonic() + 60
        while not where.exists() and time.monotonic() < end:
            time.sleep(0.01)
        seen = 0
        for _ in range(30):
            X = Cache(where).take(0, 3000)[0]  # all of it is checked
            assert np.array_equal(X.data, expected.data)
            assert np.array_equal(X.indices, expected.indices)
            seen += 1
            time.sleep(0.01)
        for process in running:
            process.kill()
            process.wait()
        X = Cache(where).take(0, 3000)[0]
        assert seen == 30 and np.array_equal(X.data, expected.data)
        where.unlink()


# ---- damage


def test_every_byte_is_guarded(tmp_path):
    """Whatever bit is lost, the rows are those that were written, or there is an error."""
    path = tmp_path / "small.vw"
    path.write_text("1 2 | a:0.5 b\n-1 | 7:3\n1 0.25 | x\n")
    expected = open_data(path).to_csr()
    whole = (tmp_path / "small.vw.fastopt").read_bytes()
    broken = tmp_path / "broken.fastopt"
    refused = 0
    rng = random.Random(0)
    for at in [*range(64), *range(4096, len(whole))]:
        damaged = bytearray(whole)
        damaged[at] ^= 1 << rng.randrange(8)
        broken.write_bytes(damaged)
        try:
            found = open_data(broken, format="cache").to_csr()
        except DataError as error:
            assert str(broken) in str(error)
            refused += 1
        else:
            same(found, expected)
    assert refused > len(whole) - 4096 - 400  # all but what fills up between sections
    for stop in range(0, len(whole), 13):
        broken.write_bytes(whole[:stop])
        with pytest.raises(DataError):
            open_data(broken, format="cache").to_csr()


def test_damage_is_found_where_it_is_read(path):
    path.write_text(text(60_000))
    prepare(open_data(path))
    where = path.parent / "data.svm.fastopt"
    whole = bytearray(where.read_bytes())
    about = Cache(where).about
    assert about["sections"]["data"][2] > cache.PIECE
    whole[about["sections"]["data"][1] + cache.PIECE + 5] ^= 1
    where.write_bytes(whole)
    data = open_data(path, block_rows=1000)
    blocks = data.blocks()
    assert next(blocks)[0].shape == (1000, 59)
    with pytest.raises(
        DataError, match=r"damaged fastopt cache: data, bytes from 1048576 on; dele"
    ):
        list(blocks)
    with pytest.raises(DataError, match="damaged"):
        data.to_csr()


def test_damaged_header_is_a_warning_and_written_anew(path):
    expected = open_data(path, cache=False).to_csr()
    prepare(open_data(path))
    where = path.parent / "data.svm.fastopt"
    whole = where.read_bytes()
    for damaged in (whole[:5000], whole[:40], whole[:20] + b"\xff" + whole[21:]):
        where.unlink()  # what is mapped must not be cut short
        where.write_bytes(damaged)
        with pytest.warns(RuntimeWarning, match="damaged fastopt cache: .* written anew now"):
            same(open_data(path).to_csr(), expected)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            same(open_data(path).to_csr(), expected)


def test_other_machines_and_versions(path):
    prepare(open_data(path))
    where = path.parent / "data.svm.fastopt"
    whole = where.read_bytes()
    order = struct.pack("=I", 0x01020304)
    assert whole[8:12] == order
    where.write_bytes(whole[:8] + order[::-1] + whole[12:])
    with pytest.raises(DataError, match="on a machine with the other byte order"):
        open_data(where)
    where.write_bytes(whole[:12] + struct.pack("=I", 2) + whole[16:])
    with pytest.raises(DataError, match="a fastopt cache of format 2; this fastopt reads format 1"):
        open_data(where)
    assert open_data(path).n_rows == 500  # written anew


@pytest.mark.parametrize(
    "indices, indptr, what",
    [
        ([0, 5], [0, 1, 2], "indices"), ([0, -1], [0, 1, 2], "indices"),
        ([0, 1], [0, 3, 2], "indptr"), ([0, 1], [-1, 1, 2], "indptr"),
        ([0, 1], [0, 1, 9], "indptr"),
    ],
)  # fmt: skip
def test_wrong_rows_with_right_checksums_are_refused(tmp_path, indices, indptr, what):
    path = tmp_path / "wrong.fastopt"
    indptr = np.array(indptr)
    X = CSR(np.ones(2, "f4"), np.array(indices, "i4"), indptr, (2, 5))
    with writing(str(path), "float32") as writer:
        writer.add(X, np.ones(2), None)
        writer.entries = int(indptr[-1])
        writer.finish(5, 0, {"sources": [], "reading": {"format": "svmlight"}, "zero_based": True})
    with pytest.raises(DataError, match=f"damaged fastopt cache: .*{what}"):
        open_data(path).to_csr()


def test_checksums_are_xxh64():
    """Known values of XXH64 with seed 0 (the xxHash project; python-xxhash's README)."""
    for data, expected in (
        (b"a", 0xD24EC4F1A98C6E5B), (b"abc", 0x44BC2CF5AD770999),
        (b"Nobody inspects the spammish repetition", 0xFBCEA83C8A378BF1),
    ):  # fmt: skip
        found = np.zeros(1, np.uint64)
        checksums(data, 100, found)
        assert int(found[0]) == expected
    xxhash = pytest.importorskip("xxhash")
    data = np.random.default_rng(0).bytes(10_000)
    for piece in (1, 31, 32, 33, 1000, 4096, 20_000):
        found = np.zeros(-(-len(data) // piece), np.uint64)
        checksums(data, piece, found, 2)
        for k, value in enumerate(found.tolist()):
            assert value == xxhash.xxh64_intdigest(data[k * piece : (k + 1) * piece])


# ---- elsewhere


def test_parts_of_a_cache_are_pickled_by_name(path, monkeypatch, tmp_path):
    monkeypatch.chdir(path.parent)
    data = open_data("data.svm")
    X, y, _ = data.to_csr()
    shards = [pickle.dumps(shard) for shard in data.shards(7)]
    assert max(map(len, shards)) < 500
    monkeypatch.chdir("/")
    labels = [label for shard in shards for _, y, _ in pickle.loads(shard).blocks() for label in y]
    assert labels == y.tolist()
    path.write_text(text(500, seed=1))
    prepare(open_data(path))
    with pytest.raises(DataError, match="the cache has changed since its parts were named"):
        pickle.loads(shards[0])
    assert X.nnz == 3500  # still there: what is mapped is the old file


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="reads /proc")
def test_training_on_a_cache_takes_no_memory_of_its_size(tmp_path, run_python):
    """Where 60 MB may be allocated, 200 MB of rows are trained on."""
    rng = np.random.default_rng(0)
    where = tmp_path / "big.fastopt"
    with writing(str(where), "float32") as writer:
        for _ in range(25):
            columns = np.sort(rng.integers(0, 2000, (10_000, 100), dtype=np.int32), axis=1)
            columns += np.arange(100, dtype=np.int32)
            y = np.where((columns < 30).any(axis=1), 1.0, -1.0)
            X = CSR(np.ones(1_000_000, "f4"), columns.ravel(), np.arange(0, 1_000_001, 100),
                    (10_000, 2100))  # fmt: skip
            writer.add(X, y, None)
        writer.finish(
            2100, 0, {"sources": [], "reading": {"format": "svmlight"}, "zero_based": True}
        )
    assert where.stat().st_size > 200e6
    code = f"""
        import resource
        import numpy as np, fastopt
        data = fastopt.open_data({str(where)!r}, threads=1)
        data.n_rows
        used = int(open("/proc/self/statm").read().split()[5]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_DATA, (used + 60_000_000, -1))
        try:
            np.ones(100_000_000, "u1")
        except MemoryError:
            print("the limit holds")
        X, y, _ = data.to_csr()
        r = fastopt.hogwild(X, y, loss="logistic", epochs=1, threads=1)
        sums = [np.add.reduceat(r.w[X.indices], X.indptr[:-1]) for X, _, _ in data.blocks()]
        print(X.shape, np.mean((np.concatenate(sums) + r.intercept > 0) == (y > 0)) > 0.9)
    """
    assert run_python(code).splitlines() == ["the limit holds", "(250000, 2100) True"]
