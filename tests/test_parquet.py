"""Parquet through pyarrow: the same rows as from CSV, and errors that name file and row."""

import io
import random

import numpy as np
import pytest

from fastopt.data import DataError, open_data

pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")
murmurhash3_32 = pytest.importorskip("sklearn.utils").murmurhash3_32


def write(path, columns, **options):
    parquet.write_table(pyarrow.table(columns), path, **options)
    return path


def columns(n=2000, seed=0):
    rng = np.random.default_rng(seed)
    towns = np.array(["Rome", 'New "York"', "Paris, TX", "São\nPaulo", "", "Ulm"])
    return {
        "id": np.arange(n),
        "age": rng.integers(0, 90, n).astype("i2"),
        "income": rng.normal(size=n).astype("f4"),
        "town": towns[rng.integers(0, 6, n)],
        "member": rng.random(n) < 0.5,
        "street": [f"street {k}" for k in rng.integers(0, 300, n)],
        "w": rng.random(n),
        "y": rng.integers(0, 2, n),
    }


HOW = {"label": "y", "weight": "w", "ignore": ["id"], "hash_bits": 7}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_rows_are_those_of_csv(tmp_path, dtype):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(columns())
    frame["member"] = frame["member"].astype(int)
    frame.to_csv(tmp_path / "t.csv", index=False)
    table = columns()
    table["town"] = pyarrow.array(table["town"]).dictionary_encode()  # as pandas' categories are
    write(tmp_path / "t.parquet", table, row_group_size=300)
    a, b = (open_data(tmp_path / f"t.{name}", dtype=dtype, cache=False, **HOW).to_csr()
            for name in ("csv", "parquet"))  # fmt: skip
    assert a[0].shape == b[0].shape == (2000, 3 + 128)
    for x, y in zip((a[0].indptr, a[0].indices, a[1], a[2]),
                    (b[0].indptr, b[0].indices, b[1], b[2]), strict=True):  # fmt: skip
        assert np.array_equal(x, y)
    assert a[0].data.dtype == b[0].data.dtype == dtype
    np.testing.assert_allclose(a[0].data, b[0].data, 1e-6)  # CSV has the float32 in decimal


def test_hashes_are_murmur3_of_name_and_value(tmp_path):
    path = write(tmp_path / "t.parquet", {"town": ["Ulm", None, "", "Rome"], "n": [1, 0, 2, 3],
                                          "zip": [7, 7, None, 123]})  # fmt: skip
    data = open_data(path, hash_bits=9, categorical=["zip"], cache=False)
    X, y, w = data.to_csr()

    def at(text):
        return 1 + murmurhash3_32(text, 0, positive=True) % 512

    rows = [X.rows(k, k + 1) for k in range(4)]
    expected = [{0: 1, at(b"town=Ulm"): 1, at(b"zip=7"): 1}, {at(b"zip=7"): 1}, {0: 2},
                {0: 3, at(b"town=Rome"): 1, at(b"zip=123"): 1}]  # fmt: skip
    for row, wanted in zip(rows, expected, strict=True):
        assert dict(zip(row.indices.tolist(), row.data.tolist(), strict=True)) == wanted
    assert np.isnan(y).all() and w is None


def test_values_of_one_column_are_added_up(tmp_path):
    path = write(tmp_path / "t.parquet", {f"s{k}": ["x", "y"] for k in range(9)})
    X, _, _ = open_data(path, hash_bits=1, cache=False).to_csr()
    assert X.data.sum() == 18 and X.shape == (2, 2) and X.nnz <= 4
    for k in range(2):
        row = X.rows(k, k + 1)
        names = [b"s%d=%s" % (j, b"xy"[k : k + 1]) for j in range(9)]
        counts = np.bincount([murmurhash3_32(name, 0, positive=True) % 2 for name in names])
        assert row.data.tolist() == counts[counts > 0].tolist()


def test_row_groups_are_parts_and_blocks(tmp_path):
    path = write(tmp_path / "t.parquet", columns(), row_group_size=250)
    data = open_data(path, cache=False, block_rows=100, **HOW)
    assert {len(y) for _, y, _ in data.blocks()} <= {100, 50}
    assert data.n_rows == 2000
    shards = data.shards(3)
    assert [s.n_rows for s in shards] == [500, 750, 750]
    cached = open_data(path, cache=tmp_path / "c.fastopt", **HOW)
    assert cached.n_rows == 2000 and cached.nnz == data.nnz
    assert cached.to_csr()[2].tolist() == columns()["w"].tolist()


@pytest.mark.parametrize("column, message", [
    ([1.0, None], "row 2: found no value, expected a number in column 'a' (missing='zero' leaves"),
    ([1.0, np.nan], "row 2: found nan, expected a finite number in column 'a'"),
    ([1.0, 1e39], "row 2: found 1e+39, expected a value that float32 can hold in column 'a'"),
])  # fmt: skip
def test_wrong_values_name_their_row(tmp_path, column, message):
    path = write(tmp_path / "t.parquet", {"a": column, "y": [0, 1]}, row_group_size=1)
    with pytest.raises(DataError) as caught:
        open_data(path, label="y", cache=False).to_csr()
    assert message in str(caught.value) and str(path) in str(caught.value)
    if column[1] is None:
        X, _, _ = open_data(path, label="y", missing="zero", cache=False).to_csr()
        assert X.nnz == 1
    write(path, {"a": [1, 2], "y": [1, None]})
    with pytest.raises(DataError, match="row 2: found no value, expected a number in column 'y'"):
        open_data(path, label="y", cache=False).to_csr()
    write(path, {"a": [1, 2], "y": [0, 1], "w": [1, -1]})
    with pytest.raises(DataError, match="row 2: found a weight below 0 in column 'w'"):
        open_data(path, label="y", weight="w", cache=False).to_csr()


def test_columns_that_are_neither(tmp_path):
    path = write(tmp_path / "t.parquet", {"a": [[1], [2]], "b": [1, 2]})
    with pytest.raises(ValueError, match=r"column 'a' has the type list<.*>, neither numbers nor"):
        open_data(path)
    assert open_data(path, ignore=["a"], cache=False).to_csr()[0].data.tolist() == [1, 2]
    write(path, {"a": ["x"]})
    with pytest.raises(ValueError, match="column 'a' holds strings: hash_bits=18"):
        open_data(path)


def test_other_files_have_the_same_columns(tmp_path):
    write(tmp_path / "1.parquet", {"a": [1, 2], "y": [0, 1]})
    write(tmp_path / "2.parquet", {"y": [1], "x": [4], "a": [3]})
    X, y, _ = open_data(tmp_path / "?.parquet", label="y", cache=False).to_csr()
    assert X.data.tolist() == [1, 2, 3] and y.tolist() == [0, 1, 1]
    write(tmp_path / "2.parquet", {"y": [1], "b": [3]})
    with pytest.raises(DataError, match=r"2.parquet: found no column 'a'"):
        open_data(tmp_path / "?.parquet", label="y", cache=False).to_csr()


def test_files_without_rows(tmp_path):
    path = write(tmp_path / "t.parquet", {"a": np.empty(0), "s": pyarrow.array([], "string")})
    data = open_data(path, hash_bits=2, cache=False)
    assert data.n_rows == 0 and data.to_csr()[0].shape == (0, 5) and list(data) == []


def test_damaged_files_are_errors(tmp_path):
    whole = io.BytesIO()
    parquet.write_table(pyarrow.table(columns(50)), whole)
    whole = whole.getvalue()
    path = tmp_path / "t.parquet"
    for stop in range(0, len(whole) - 1, 97):
        path.write_bytes(whole[:stop])
        with pytest.raises((DataError, ValueError)):
            open_data(path, format="parquet", cache=False, **HOW).to_csr()
    rng = random.Random(0)
    for _ in range(60):
        broken = bytearray(whole)
        broken[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
        path.write_bytes(broken)
        try:
            open_data(path, format="parquet", cache=False, **HOW).to_csr()
        except (DataError, ValueError):  # ValueError: another name of a column
            pass


def test_bits_that_have_flipped_are_found_where_pages_have_checksums(tmp_path):
    path = tmp_path / "x.parquet"
    values = np.arange(10_000) * 0.37
    table = pyarrow.table({"a": values})
    pyarrow.parquet.write_table(
        table, path, compression="none", use_dictionary=False, write_page_checksum=True
    )
    damaged = bytearray(path.read_bytes())
    at = damaged.index(values[5000:5001].tobytes())
    damaged[at + 6] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(DataError, match=r"x\.parquet.*damaged Parquet file"):
        open_data(path, cache=False).to_csr()
