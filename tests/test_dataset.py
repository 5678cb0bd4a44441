"""A data set is the same rows from every source, in blocks, shuffled, split and in shards."""

import pickle

import numpy as np
import pytest

import fastopt
from fastopt.data import CSR, DataError, load_svmlight, open_data, sources

N, COLUMNS = 700, 40


def matrix(n=N, seed=0, dtype="float32"):
    """Return a random matrix without empty columns at its ends, dense, and labels."""
    rng = np.random.default_rng(seed)
    X = rng.integers(-8, 9, (n, COLUMNS)) * (rng.random((n, COLUMNS)) < 0.15) / 8
    X[0, 0] = X[-1, -1] = 1
    return X.astype(dtype), rng.integers(0, 3, n).astype(float)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The same rows in every format: name -> (path, options of open_data)."""
    folder = tmp_path_factory.mktemp("formats")
    X, y = matrix()
    rows = [np.flatnonzero(row) for row in X]
    made = {}

    def write(name, lines, **options):
        (folder / name).write_text("".join(line + "\n" for line in lines))
        made[name] = folder / name, options

    write("rows.svm", (f"{t:g} " + " ".join(f"{k + 1}:{r[k]:g}" for k in at)
                       for t, r, at in zip(y, X, rows, strict=True)))  # fmt: skip
    write("rows.vw", (f"{t:g} | " + " ".join(f"{k}:{r[k]:g}" for k in at)
                      for t, r, at in zip(y, X, rows, strict=True)), hash_bits=6)  # fmt: skip
    write("rows.ffm", (f"{t:g} " + " ".join(f"{k % 3}:{k}:{r[k]:g}" for k in at)
                       for t, r, at in zip(y, X, rows, strict=True)))  # fmt: skip
    heads = [",".join([*(f"c{k}" for k in range(COLUMNS)), '"the\nlabel"'])]
    write("rows.csv", heads + [",".join(f"{v:g}" for v in [*r, t])
                               for t, r in zip(y, X, strict=True)], label="the\nlabel")  # fmt: skip
    try:
        import pyarrow
        from pyarrow import parquet

        columns = {f"c{k}": X[:, k] for k in range(COLUMNS)} | {"y": y}
        parquet.write_table(pyarrow.table(columns), folder / "rows.parquet", row_group_size=150)
        made["rows.parquet"] = folder / "rows.parquet", {"label": "y"}
    except ImportError:
        pass
    return made


def opened(files, name, cache, tmp_path, **how):
    if name not in files:
        pytest.skip("no pyarrow here")
    path, options = files[name]
    where = tmp_path / "rows.fastopt" if cache else False
    return open_data(path, cache=where, **options, **how)


def dense(X):
    found = np.zeros((X.shape[0], COLUMNS), X.dtype)
    rows = np.repeat(np.arange(X.shape[0]), np.diff(X.indptr))
    np.add.at(found, (rows, X.indices), X.data)
    return found


def gathered(blocks):
    """Return the blocks' rows, dense, and labels."""
    blocks = list(blocks)
    assert all(X.indptr[0] == 0 and X.shape[0] == len(y) > 0 for X, y, _ in blocks)
    return (np.concatenate([dense(X) for X, _, _ in blocks]),
            np.concatenate([y for _, y, _ in blocks]))  # fmt: skip


every = pytest.mark.parametrize(
    "name", ["rows.svm", "rows.vw", "rows.ffm", "rows.csv", "rows.parquet"]
)
both = pytest.mark.parametrize("cache", [False, True])


@every
@both
def test_every_source_has_the_same_rows(files, name, cache, tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "BLOCK", 5000)
    monkeypatch.setattr(sources, "PIECE", 1000)
    X, y = matrix()
    for data in (opened(files, name, cache, tmp_path), opened(files, name, cache, tmp_path)):
        found, labels = gathered(data.blocks())
        assert np.array_equal(found, X) and np.array_equal(labels, y)
        whole, labels, _ = data.to_csr()
        assert np.array_equal(dense(whole), X) and np.array_equal(labels, y)
        assert data.n_rows == N and data.nnz == np.count_nonzero(X) == whole.nnz
        assert data.n_features == whole.shape[1] == (64 if "vw" in name else COLUMNS)
        assert data.dtype == np.float32 and data.shape == (N, data.n_features)
        assert "rows" in repr(data)


@every
@both
@pytest.mark.parametrize("block_rows", [1, 64, 699, 10_000])
def test_blocks_have_at_most_so_many_rows(files, name, cache, block_rows, tmp_path):
    data = opened(files, name, cache, tmp_path, block_rows=block_rows)
    sizes = [len(y) for _, y, _ in data.blocks()]
    assert max(sizes) <= block_rows and sum(sizes) == N
    if cache:
        assert set(sizes[:-1]) <= {block_rows}


@every
@both
def test_shuffled_blocks_are_the_same_rows_in_an_order_of_seed_and_epoch(
    files, name, cache, tmp_path, monkeypatch
):
    monkeypatch.setattr(sources, "BLOCK", 4000)
    monkeypatch.setattr(sources, "PIECE", 1000)
    X, y = matrix()
    data = opened(files, name, cache, tmp_path, block_rows=40)
    orders = {}
    for seed, epoch in ((0, 0), (0, 1), (1, 0), (0, 0)):
        found, labels = gathered(data.blocks(seed=seed, epoch=epoch))
        key = labels.tobytes() + found.tobytes()
        assert orders.setdefault((seed, epoch), key) == key
        rows = sorted(map(tuple, np.column_stack([found, labels]).tolist()))
        assert rows == sorted(map(tuple, np.column_stack([X, y]).tolist()))
    assert len(set(orders.values())) == 3
    assert not np.array_equal(labels, y)
    with pytest.raises(ValueError, match="seed must be at least 0"):
        next(data.blocks(seed=-1))


@every
@both
@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.5, 1.0, 1 / 3])
def test_split_is_exact_disjoint_and_the_same_everywhere(files, name, cache, fraction, tmp_path):
    X, y = matrix()
    data = opened(files, name, cache, tmp_path, block_rows=33)
    train, held = data.split(fraction, seed=5)
    assert held.n_rows == round(N * fraction) and train.n_rows == N - held.n_rows
    expected = open_data(X, y).split(fraction, seed=5)
    for part, other in zip((train, held), expected, strict=True):
        if part.n_rows:
            found, labels = gathered(part.blocks())
            assert np.array_equal(found, gathered(other.blocks())[0]) and len(labels) == part.n_rows
            assert np.array_equal(dense(part.to_csr()[0]), found)
        assert part.nnz == sum(b[0].nnz for b in part)
    both = [b for part in (train, held) if part.n_rows for b in part.blocks(seed=1)]
    rows = np.column_stack(gathered(both)).tolist()
    assert sorted(rows) == sorted(np.column_stack([X, y]).tolist())


def test_splits_of_splits_are_independent():
    X = np.arange(1, 20_001, dtype="f8")[:, None]
    data = open_data(X, X.ravel(), dtype="float64")
    rest, test = data.split(0.2, seed=0)
    train, validation = rest.split(0.25, seed=0)
    parts = [np.concatenate([y for _, y, _ in part]) for part in (test, validation, train)]
    assert np.array_equal(np.sort(np.concatenate(parts)), X.ravel())
    assert len(parts[0]) == 4000 and abs(len(parts[1]) - 4000) < 200
    assert train.n_rows == len(parts[2])
    for part in parts:  # spread evenly
        assert abs(np.mean(part) - 10_000) < 400
    assert data.split(0.2, seed=1)[1].to_csr()[1].tolist() != parts[0].tolist()


@every
@both
@pytest.mark.parametrize("n", [1, 3, 40])
def test_shards_have_all_rows_between_them(files, name, cache, n, tmp_path):
    X, y = matrix()
    data = opened(files, name, cache, tmp_path)
    shards = [pickle.loads(pickle.dumps(shard)) for shard in data.shards(n)]
    assert len(shards) == n
    found = [block for shard in shards for block in shard.blocks()]
    rows, labels = gathered(found)
    assert np.array_equal(rows, X) and np.array_equal(labels, y)
    sizes = [shard.n_rows for shard in shards]
    assert sum(sizes) == N
    if name != "rows.parquet":
        assert max(sizes) < 2 * N / n + 5
    assert sum(len(shard.to_csr()[1]) for shard in shards) == N
    if not cache and name == "rows.parquet":
        assert any("row_groups" in part for shard in shards for part in shard.describe())
    elif cache:
        assert [shard.describe()[0]["rows"][1] for shard in shards][-1] == N
    else:
        assert shards[0].describe()[0]["bytes"][0] == 0
    if sizes[-1]:
        both = [part for shard in shards for part in shard.shards(2)]
        assert sum(part.n_rows for part in both) == N
        assert sum(b.n_rows for shard in shards for b in shard.split(0.5)) == N


@both
def test_shards_of_a_split_are_its_rows(files, cache, tmp_path):
    train, held = opened(files, "rows.svm", cache, tmp_path).split(0.3, seed=2)
    for part in (train, held):
        expected = part.to_csr()[1].tolist()
        found = [label for shard in part.shards(4) for _, y, _ in shard for label in y]
        assert found == expected


def test_shards_of_several_files_and_compressed_ones(tmp_path):
    import gzip

    lines = [f"{k} 1:1\n" for k in range(1000)]
    (tmp_path / "1.svm").write_text("".join(lines[:100]))
    (tmp_path / "2.svm").write_text("".join(lines[100:950])[:-1])
    (tmp_path / "3.svm").write_text("".join(lines[950:]))
    how = {"n_features": 1, "zero_based": False, "cache": False}
    shards = open_data(tmp_path / "?.svm", **how).shards(7)
    assert [y for shard in shards for _, b, _ in shard for y in b] == list(range(1000))
    assert all(80 < shard.n_rows < 200 for shard in shards)
    (tmp_path / "3.svm").write_bytes(gzip.compress("".join(lines[950:]).encode()))
    shards = open_data(tmp_path / "?.svm", **how).shards(2)  # whole files, then
    assert [y for shard in shards for _, b, _ in shard for y in b] == list(range(1000))


@pytest.mark.parametrize("n", [2, 5, 23])
def test_shards_of_a_table_do_not_cut_quotes(tmp_path, n, monkeypatch):
    path = tmp_path / "quoted.csv"
    rows = [f'{k},"a\n{"x" * (k % 50)}\n""1,2""\n"\n' for k in range(500)]
    path.write_text("y,s\n" + "".join(rows))
    shards = open_data(path, label="y", hash_bits=5, cache=False).shards(n)
    assert [y for shard in shards for _, b, _ in shard for y in b] == list(range(500))


def test_errors_in_shards_name_the_line_of_the_file(tmp_path):
    path = tmp_path / "bad.svm"
    path.write_text("1 1:1\n" * 900 + "1 1:x\n" + "1 1:1\n" * 99)
    shards = open_data(path, n_features=1, zero_based=False, cache=False).shards(5)
    bad = 0
    for shard in shards:
        try:
            list(shard)
        except DataError as error:
            assert (error.line, error.byte) == (901, 5)
            bad += 1
    assert bad == 1


@pytest.mark.parametrize("suffix", ["svm", "parquet"])
def test_files_that_change_between_passes_are_refused(tmp_path, suffix, monkeypatch):
    monkeypatch.setattr(sources, "BLOCK", 1000)

    def write(rows, index):
        path = tmp_path / f"rows.{suffix}"
        if suffix == "svm":
            path.write_text("".join(f"{k % 2} {index}:{k % 10}\n" for k in range(rows)))
            return path
        pyarrow = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        table = pyarrow.table({"y": np.arange(rows) % 2, "x": np.arange(rows) + index})
        parquet.write_table(table, path, row_group_size=100)
        return path

    how = {"cache": False} | ({"label": "y"} if suffix == "parquet" else {})
    data = open_data(write(1000, 1), **how)
    shard = data.shards(2)[1]
    assert data.n_rows == 1000 and len(data.describe()) > 1
    sent = pickle.dumps(shard)
    list(shard)
    for rows, index in ((10, 1), (1000, 23)):  # fewer; as many, where parts begin within lines
        write(rows, index)
        for one in (data, shard):
            with pytest.raises(DataError, match="has changed since it was first read"):
                list(one)
        with pytest.raises(DataError, match="has changed"):
            data.to_csr()
    write(10, 1)
    with pytest.raises(DataError, match="has changed"):
        list(pickle.loads(sent))
    write(1000, 1)  # elsewhere, a copy has another time
    assert len(gathered(pickle.loads(sent).blocks())[1]) == len(gathered(
        open_data(tmp_path / f"rows.{suffix}", **how).shards(2)[1].blocks())[1])  # fmt: skip


def test_a_file_that_is_cut_short_while_it_is_read_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "BLOCK", 1000)
    path = tmp_path / "rows.svm"
    path.write_text("")
    for blocks in (open_data(path, cache=False, n_features=1, zero_based=False).blocks(),
                   fastopt.data.iter_svmlight(path, n_features=1, zero_based=False)):  # fmt: skip
        path.write_text("1 1:1\n" * 99_000)
        next(blocks)
        path.write_text("1 1:1\n" * 100 + "1")
        with pytest.raises(DataError, match="cut short while it was read"):
            for _ in blocks:
                pass


# ---- arrays


@pytest.mark.filterwarnings("error")
def test_values_that_float32_cannot_hold_are_refused_also_in_arrays():
    scipy_sparse = pytest.importorskip("scipy.sparse")
    X = np.array([[1e300, 0], [0, 1]])
    for form in (X, scipy_sparse.csr_matrix(X)):
        with pytest.raises(ValueError, match="must be finite"):
            open_data(form)
        assert open_data(form, dtype="float64").to_csr()[0].data.tolist() == [1e300, 1]


def test_arrays_of_every_form():
    scipy_sparse = pytest.importorskip("scipy.sparse")
    X, y = matrix()
    weights = np.linspace(0, 2, N)
    forms = [X, X.astype("f8"), X.tolist(), scipy_sparse.csr_matrix(X), scipy_sparse.csc_array(X),
             scipy_sparse.coo_matrix(X), open_data(X).to_csr()[0]]  # fmt: skip
    for form in forms:
        form = np.array(form) if isinstance(form, list) else form
        data = open_data(form, y, sample_weight=weights, block_rows=100)
        found, labels = gathered(data.blocks())
        assert np.array_equal(found, X) and np.array_equal(labels, y)
        assert data.format == "arrays" and data.n_features == COLUMNS and data.nnz > 0
        assert np.concatenate([w for _, _, w in data]).tolist() == weights.tolist()
        assert [s.describe()[0]["rows"] for s in data.shards(2)] == [(0, 350), (350, 700)]
    csr = scipy_sparse.csr_matrix(X)
    assert np.shares_memory(open_data(csr, y).to_csr()[0].data, csr.data)
    assert open_data(csr, y, n_features=99).n_features == 99
    assert np.isnan(open_data(X).to_csr()[1]).all()
    assert open_data(X[:0]).n_rows == 0 and list(open_data(X[:0])) == []
    big = open_data(X, y, dtype="float64").to_csr()[0]
    assert big.dtype == np.float64


@pytest.mark.parametrize("change, message", [
    ({"indices": np.array([0, 5], "i4")}, "X.indices must lie in 0..4"),
    ({"indices": np.array([0, -1], "i4")}, "X.indices must lie in 0..4"),
    ({"indptr": np.array([0, 2, 1])}, "X.indptr must start at 0, never decrease"),
    ({"indptr": np.array([0, 1, 3])}, "X.indptr must start at 0, never decrease and end at or bef"),
    ({"indptr": np.array([0, 2])}, "X.indptr must have 2"),
    ({"data": np.array([1, np.nan], "f4")}, "finite"),
    ({"data": np.array([1], "f4")}, "X.indptr must start at 0"),
    ({"indices": np.array([0, 1], "i2")}, "X.indices must be int32 or int64"),
])  # fmt: skip
def test_wrong_matrices_are_refused_before_any_kernel(change, message):
    good = {"data": np.ones(2, "f4"), "indices": np.array([0, 4], "i4"), "indptr": np.arange(3)}
    open_data(CSR(**good, shape=(2, 5)))
    with pytest.raises((ValueError, TypeError), match=message):
        open_data(CSR(**{**good, **change}, shape=(2, 5)))


@pytest.mark.parametrize("how, message", [
    ({"y": [1.0]}, "y must be one number per row of X"),
    ({"y": [1, np.nan]}, "y must be finite"),
    ({"y": ["a", "b"]}, "y must be one number per row"),
    ({"sample_weight": [1, -1]}, "sample_weight must not be negative"),
    ({"n_features": 1}, "n_features must be at least 2"),
    ({"label": "y"}, "label is for files, not for arrays"),
    ({"hash_bits": 3}, "hash_bits is for files"),
])  # fmt: skip
def test_wrong_arguments_for_arrays(how, message):
    with pytest.raises(ValueError, match=message):
        open_data(np.ones((2, 2)), **how)
    with pytest.raises(ValueError, match="X must be finite"):
        open_data(np.array([[1.0, np.inf]]))
    with pytest.raises(TypeError, match="two dimensions"):
        open_data(np.ones(3))


# ---- with the rest of the package


def test_training_on_a_cache_is_training_on_the_rows(tmp_path, data_dir):
    path = tmp_path / "a9a.svm.gz"
    path.write_bytes((data_dir / "a9a.svm.gz").read_bytes())
    X, y = load_svmlight(path)
    mapped, labels, _ = open_data(path).to_csr()
    options = {"loss": "logistic", "epochs": 2, "threads": 1, "seed": 0, "l2": 1e-4}
    expected = fastopt.hogwild(X, 2 * y - 1, **options)
    found = fastopt.hogwild(mapped, 2 * labels - 1, **options)
    assert found.w.tobytes() == expected.w.tobytes()


def test_real_files_equal_scikit_learn(tmp_path, data_dir):
    datasets = pytest.importorskip("sklearn.datasets")
    for name in ("w8a.svm.gz", "agaricus.txt.train.svm.gz"):
        expected, labels = datasets.load_svmlight_file(str(data_dir / name), dtype=np.float32)
        for cache in (False, tmp_path / name):
            X, y, _ = open_data(data_dir / name, cache=cache).to_csr()
            assert np.array_equal(X.data, expected.data) and np.array_equal(y, labels)
            assert np.array_equal(X.indices, expected.indices) and X.shape == expected.shape
            assert np.array_equal(X.indptr, expected.indptr)
