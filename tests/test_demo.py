"""The demo data: exact columns on a small fake library, the cache, and the real thing once."""

import hashlib
import itertools
import os
import subprocess
import sys

import numpy as np
import pytest

from fastopt.data import CSR, demo

M64 = 2**64 - 1


def column(*tokens: bytes) -> int:
    """The documented column of a token or of a pair of tokens, in Python's own integers."""
    hashes = [
        int.from_bytes(hashlib.blake2b(token, digest_size=8).digest(), "little") for token in tokens
    ]
    mixed = hashes[0] if len(hashes) == 1 else (0x9E3779B97F4A7C15 * hashes[0] + hashes[1]) & M64
    return mixed >> 47


def expected_row(tokens: list[bytes]) -> dict[int, np.float32]:
    counts: dict[int, int] = {}
    for key in [(t,) for t in tokens] + list(itertools.pairwise(tokens)):
        counts[column(*key)] = counts.get(column(*key), 0) + 1
    norm = sum(count**2 for count in counts.values()) ** 0.5
    return {c: np.float32(count / norm) for c, count in counts.items()}


def rows(X: CSR) -> list[dict[int, np.float32]]:
    return [
        dict(zip(X.indices[a:b].tolist(), X.data[a:b], strict=True))
        for a, b in zip(X.indptr[:-1], X.indptr[1:], strict=True)
    ]


@pytest.fixture
def library(tmp_path, monkeypatch):
    """Two packages, lines in common, and what has to be left out."""
    monkeypatch.setenv("FASTOPT_CACHE", str(tmp_path / "cache"))
    top = tmp_path / "lib"
    for name, text in {
        "alpha/__init__.py": b"x = y\n\n    return x\nreturn x\n)\nshared(line)\n",
        "alpha/deep/er.py": b"a a a\r\n\tx.y(z)  \n# \xc3\xa9t\xc3\xa9 !\n",
        "beta.py": b"import os\nshared(line)\nfor i in j: pass\nlast = 'line'",
        "test/test_alpha.py": b"not_this_one = 1\n",
        "site-packages/other.py": b"nor_this = 1\n",
        "alpha/__pycache__/x.py": b"nor_that = 1\n",
        "beta.txt": b"no source at all\n",
    }.items():
        path = top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text)
    return top


def test_rows_columns_and_labels_are_those_documented(library):
    data = demo.load([("", str(library))])
    assert data.classes == ["alpha", "beta"]
    want = {
        b"x = y": (0, [b"x", b"=", b"y"]),
        b"return x": (0, [b"return", b"x"]),
        b"a a a": (0, [b"a", b"a", b"a"]),
        b"x.y(z)": (0, [b"x", b".", b"y", b"(", b"z", b")"]),
        b"# \xc3\xa9t\xc3\xa9 !": (0, [b"#", b"\xc3\xa9t\xc3\xa9", b"!"]),
        b"import os": (1, [b"import", b"os"]),
        b"for i in j: pass": (1, [b"for", b"i", b"in", b"j", b":", b"pass"]),
        b"last = 'line'": (1, [b"last", b"=", b"'", b"line", b"'"]),
    }
    number = {
        line: int.from_bytes(hashlib.blake2b(line, digest_size=8).digest(), "little")
        for line in want
    }
    for X, y, held in ((data.X_train, data.y_train, False), (data.X_test, data.y_test, True)):
        lines = sorted(
            (line for line in want if (number[line] % 10 == 0) == held), key=number.__getitem__
        )
        assert X.shape == (len(lines), 2**17)
        assert y.tolist() == [want[line][0] for line in lines]
        assert rows(X) == [expected_row(want[line][1]) for line in lines]
        assert (X.data.dtype, X.indices.dtype, X.indptr.dtype) == ("float32", "int32", "int64")
    assert "8 distinct lines" in data.description and "1 lines that stand in" in data.description


def test_only_the_largest_packages_are_kept(library, monkeypatch):
    (library / "gamma.py").write_text("one_line = 1\n")
    monkeypatch.setattr(demo, "N_CLASSES", 2)
    assert demo.load([("", str(library))]).classes == ["alpha", "beta"]


def test_prefix_names_the_packages_and_keeps_their_tests(library):
    data = demo.load([("p.", str(library))])
    assert data.classes == ["p.alpha", "p.beta", "p.test"]


def test_rows_do_not_depend_on_how_many_lines_are_hashed_at_once(library, monkeypatch):
    whole = demo.load([("", str(library))])
    monkeypatch.setenv("FASTOPT_CACHE", str(library / "elsewhere"))
    monkeypatch.setattr(demo, "LINES_AT_ONCE", 3)
    parts = demo.load([("", str(library))])
    assert not parts.cached
    assert rows(parts.X_train) == rows(whole.X_train) and rows(parts.X_test) == rows(whole.X_test)


def same(a: demo.Demo, b: demo.Demo) -> bool:
    arrays = [
        (getattr(X, name), getattr(Y, name))
        for X, Y in ((a.X_train, b.X_train), (a.X_test, b.X_test))
        for name in ("data", "indices", "indptr")
    ] + [(a.y_train, b.y_train), (a.y_test, b.y_test)]
    return (a.classes, a.description) == (b.classes, b.description) and all(
        x.dtype == y.dtype and np.array_equal(x, y) for x, y in arrays
    )


def test_second_call_reads_the_cache(library):
    first, second = (demo.load([("", str(library))]) for _ in range(2))
    assert (first.cached, second.cached) == (False, True)
    assert same(first, second)
    assert first.X_train.shape == second.X_train.shape


@pytest.mark.parametrize("change", ["content", "new file", "removed file"])
def test_changed_files_rebuild_the_cache(library, change):
    demo.load([("", str(library))])
    if change == "content":
        (library / "beta.py").write_bytes(b"other = words\n")
    elif change == "new file":
        (library / "alpha" / "more.py").write_text("more = lines\n")
    else:
        (library / "alpha" / "deep" / "er.py").unlink()
    assert not demo.load([("", str(library))]).cached
    assert demo.load([("", str(library))]).cached


@pytest.mark.parametrize("damage", ["empty", "cut", "flipped", "foreign", "folder"])
def test_damaged_cache_is_rebuilt(library, damage):
    first = demo.load([("", str(library))])
    [path] = (library.parent / "cache").iterdir()
    whole = path.read_bytes()
    if damage == "folder":
        path.unlink()
        path.mkdir()
    else:
        at = whole.index(first.X_train.data.tobytes())
        path.write_bytes({
            "empty": b"",
            "cut": whole[: len(whole) // 2],
            "flipped": whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :],
            "foreign": b"hello, world\n" * 100,
        }[damage])  # fmt: skip
    again = demo.load([("", str(library))])
    assert not again.cached and same(first, again)
    if damage == "folder":
        assert "not cached" in again.note
    else:
        assert demo.load([("", str(library))]).cached


def test_works_without_a_place_for_the_cache(library, monkeypatch):
    monkeypatch.setenv("FASTOPT_CACHE", str(library / "beta.py" / "below a file"))
    data = demo.load([("", str(library))])
    assert data.note.startswith("not cached") and data.X_train.shape[0] + len(data.y_test) == 8
    assert not list(library.rglob("*.tmp"))


def test_cache_folder_follows_the_environment(monkeypatch):
    monkeypatch.setenv("HOME", "/home/of")
    for name in ("FASTOPT_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert demo.cache_folder() == "/home/of/.cache/fastopt"
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert demo.cache_folder() == "/xdg/fastopt"
    monkeypatch.setenv("FASTOPT_CACHE", "/own")
    assert demo.cache_folder() == "/own"


def test_too_few_packages_is_an_error_that_says_where_it_looked(tmp_path, monkeypatch):
    monkeypatch.setenv("FASTOPT_CACHE", str(tmp_path / "cache"))
    with pytest.raises(ValueError, match=f"at least 2 packages in {tmp_path}, found 0"):
        demo.load([("", str(tmp_path))])


def test_hashes_do_not_depend_on_the_process(library):
    script = (
        "import sys, hashlib; from fastopt.data import demo; d = demo.load([('', sys.argv[1])]);"
        "print(hashlib.sha256(b''.join(getattr(d, k).tobytes() for k in ('y_train', 'y_test')) +"
        "d.X_train.indices.tobytes() + d.X_train.data.tobytes()).hexdigest())"
    )
    found = set()
    for seed in ("1", "2"):
        cache = str(library.parent / f"cache{seed}")
        os.mkdir(cache)
        env = {**os.environ, "PYTHONHASHSEED": seed, "FASTOPT_CACHE": cache}
        command = [sys.executable, "-c", script, str(library)]
        found.add(
            subprocess.run(command, env=env, capture_output=True, check=True, cwd=cache).stdout
        )
    assert len(found) == 1


def test_progress_runs_from_0_to_1(library):
    shares = []
    demo.load([("", str(library))], on_progress=lambda what, share: shares.append(share))
    assert shares[0] == 0 and shares[-1] == 1 and shares == sorted(shares)


def test_take_picks_rows_in_order():
    X = CSR(
        np.arange(6, dtype="float32"), np.array([0, 1, 2, 0, 1, 2], "int32"),
        np.array([0, 1, 1, 4, 6]), (4, 3),
    )  # fmt: skip
    part = demo.take(X, np.array([3, 0, 1, 2, 3]))
    assert part.shape == (5, 3)
    assert part.indptr.tolist() == [0, 2, 3, 3, 6, 8]
    assert part.data.tolist() == [4, 5, 0, 1, 2, 3, 4, 5]
    assert part.indices.tolist() == [1, 2, 0, 1, 2, 0, 1, 2]


def test_the_real_data(tmp_path, monkeypatch):
    monkeypatch.setenv("FASTOPT_CACHE", str(tmp_path))
    data = demo.load()
    train, test = data.X_train, data.X_test
    n = train.shape[0] + test.shape[0]
    assert n > 100_000 and len(data.classes) == demo.N_CLASSES
    assert 0.09 < test.shape[0] / n < 0.11
    assert set(data.y_train.tolist()) == set(range(len(data.classes)))
    for X, y in ((train, data.y_train), (test, data.y_test)):
        assert len(y) == X.shape[0] == len(X.indptr) - 1
        assert X.indptr[0] == 0 and X.indptr[-1] == len(X.data) == len(X.indices)
        lengths = np.diff(X.indptr)
        assert lengths.min() >= 1  # every line has a token
        assert X.indices.min() >= 0 and X.indices.max() < 2**17
        inside = np.ones(len(X.indices) - 1, bool)
        inside[X.indptr[1:-1] - 1] = False
        assert (np.diff(X.indices)[inside] > 0).all()  # sorted, no repeats
        norms = np.add.reduceat(X.data.astype(float) ** 2, X.indptr[:-1])
        np.testing.assert_allclose(norms, 1, rtol=1e-6)
    assert demo.load().cached
