"""Linear models: decisions against plain NumPy, files against damage."""

import json
import os
import stat

import numpy as np
import pytest

from fastopt import files
from fastopt.data import CSR
from fastopt.sparse import models


def random_csr(rng, n_rows, n_columns, per_row, dtype="float32", index="int32") -> CSR:
    lengths = rng.integers(0, per_row + 1, n_rows)
    indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    columns = [np.sort(rng.choice(n_columns, k, replace=False)) for k in lengths]
    indices = np.concatenate([np.empty(0, int), *columns]).astype(index)
    return CSR(rng.normal(size=len(indices)).astype(dtype), indices, indptr, (n_rows, n_columns))


def dense(X: CSR, n_columns: int) -> np.ndarray:
    out = np.zeros((X.shape[0], max(n_columns, X.shape[1])))
    for i in range(X.shape[0]):
        at = slice(X.indptr[i], X.indptr[i + 1])
        out[i, X.indices[at]] = X.data[at]
    return out[:, :n_columns]


def model(rng, outputs=1, features=7, loss="logistic", dtype="float32"):
    classes = np.arange(max(2, outputs)) * 10 - 10
    return models.LinearModel(
        rng.normal(size=(outputs, features)).astype(dtype),
        rng.normal(size=outputs),
        None if loss == "squared" else classes,
        {"loss": loss, "l2": 1e-4, "data": "näme.svm"},
    )


@pytest.mark.parametrize("outputs", [1, 4])
@pytest.mark.parametrize("columns", [3, 7, 12])
@pytest.mark.parametrize(("dtype", "index"), [("float32", "int32"), ("float64", "int64")])
def test_decision_is_the_product(outputs, columns, dtype, index):
    rng = np.random.default_rng(0)
    X = random_csr(rng, 60, columns, 3, dtype, index)
    m = model(rng, outputs, 7, dtype=dtype)
    want = dense(X, 7) @ m.W.astype(float).T + m.b
    np.testing.assert_allclose(m.decision(X), want, rtol=1e-12, atol=1e-12)


def test_no_rows_and_rows_without_values():
    m = model(np.random.default_rng(0), 3)
    empty = CSR(np.empty(0, "f4"), np.empty(0, "i4"), np.zeros(1, "i8"), (0, 7))
    assert m.predict(empty).shape == (0,)
    blank = CSR(np.empty(0, "f4"), np.empty(0, "i4"), np.zeros(6, "i8"), (5, 7))
    assert (m.decision(blank) == m.b).all()


def test_labels_and_probabilities():
    rng = np.random.default_rng(1)
    X = random_csr(rng, 200, 7, 5)
    binary, several, real = model(rng), model(rng, 4), model(rng, loss="squared")
    d = binary.decision(X)[:, 0]
    assert (binary.predict(X) == np.where(d > 0, 0, -10)).all()
    p = binary.probability(binary.decision(X))
    np.testing.assert_allclose(p, np.stack([1 - 1 / (1 + np.exp(-d)), 1 / (1 + np.exp(-d))], 1))
    d = several.decision(X)
    assert (several.predict(X) == d.argmax(1) * 10 - 10).all()
    p = several.probability(d)
    sigmoid = 1 / (1 + np.exp(-d))
    np.testing.assert_allclose(p, sigmoid / sigmoid.sum(1, keepdims=True))
    assert (p.argmax(1) == d.argmax(1)).all()
    assert (real.predict(X) == real.decision(X)[:, 0]).all()
    far = np.array([[-1e6, -1e6, -1e6, -1e6], [1e6, -1e6, 0, 0]])
    np.testing.assert_allclose(several.probability(far).sum(1), 1)
    for other in (real, model(rng, loss="hinge")):
        with pytest.raises(ValueError, match="--loss logistic"):
            other.probability(other.decision(X))


def test_beyond_counts_what_has_no_weight():
    X = CSR(np.ones(5, "f4"), np.array([0, 7, 9, 6, 9], "i4"), np.array([0, 3, 5]), (2, 10))
    assert models.beyond(X, 7) == (2, 3)
    assert models.beyond(X, 10) == models.beyond(X, 12) == (0, 0)


@pytest.mark.parametrize("outputs", [1, 4])
@pytest.mark.parametrize("loss", ["logistic", "squared"])
def test_saved_models_come_back(tmp_path, outputs, loss):
    if loss == "squared" and outputs > 1:
        outputs = 1
    m = model(np.random.default_rng(2), outputs, loss=loss)
    path = tmp_path / "no suffix"
    models.save(path, m)
    back = models.load(path)
    assert os.listdir(tmp_path) == ["no suffix"]
    assert back.W.dtype == m.W.dtype and np.array_equal(back.W, m.W)
    assert back.b.dtype == m.b.dtype and np.array_equal(back.b, m.b)
    assert back.settings == m.settings
    assert (back.classes is None) == (m.classes is None)
    assert m.classes is None or np.array_equal(back.classes, m.classes)
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask


def test_names_as_classes_come_back(tmp_path):
    m = model(np.random.default_rng(2))
    m = models.LinearModel(m.W, m.b, np.array(["no", "yes"]), m.settings)
    models.save(tmp_path / "m.npz", m)
    assert models.load(tmp_path / "m.npz").classes.tolist() == ["no", "yes"]


def test_every_cut_and_every_flipped_bit_is_noticed_or_harmless(tmp_path):
    m = model(np.random.default_rng(3), 2 + 1)
    path = tmp_path / "m.npz"
    models.save(path, m)
    whole = path.read_bytes()

    def check(content: bytes) -> bool:
        path.write_bytes(content)
        try:
            back = models.load(path)
        except ValueError as error:
            assert str(path) in str(error) and "\n" not in str(error)
            return False
        assert np.array_equal(back.W, m.W) and np.array_equal(back.b, m.b)
        assert np.array_equal(back.classes, m.classes) and back.settings == m.settings
        return True

    assert check(whole)
    assert not any(check(whole[:length]) for length in range(0, len(whole), 7))
    flips = [
        check(whole[:at] + bytes([whole[at] ^ 1 << at % 8]) + whole[at + 1 :])
        for at in range(len(whole))
    ]
    assert sum(flips) < 0.25 * len(flips)  # flags and times that nothing depends on
    at = whole.index(m.W.tobytes())
    assert not any(flips[at : at + m.W.nbytes])


@pytest.mark.parametrize("content", [b"", b"+1 1:2 3:4\n", b"\x80\x04K\x01.", b"PK\x03\x04" * 50])
def test_foreign_files_are_refused_by_name(tmp_path, content):
    path = tmp_path / "data.svm"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"data\.svm: not a fastopt linear model file"):
        models.load(path)


def test_a_npy_and_a_pickle_are_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(3))
    np.savez(tmp_path / "b.npz", W=np.array([{}], object), meta=np.array("{}"))
    for name in ("a.npy", "b.npz"):
        with pytest.raises(ValueError, match=f"{name}: not a fastopt linear model file"):
            models.load(tmp_path / name)


def test_other_kinds_and_versions_are_named(tmp_path):
    path = tmp_path / "x.npz"
    files.save_npz(path, "fastopt demo data", 1, {}, {})
    with pytest.raises(ValueError, match="holds a fastopt demo data, not a fastopt linear model"):
        models.load(path)
    files.save_npz(path, models.KIND, 99, {}, {})
    with pytest.raises(ValueError, match="format version 99; this fastopt reads version 1"):
        models.load(path)


@pytest.mark.parametrize(
    "arrays",
    [
        {},
        {"W": np.zeros((1, 3))},
        {"W": np.zeros(3), "b": np.zeros(1)},
        {"W": np.zeros((2, 3)), "b": np.zeros(2)},
        {"W": np.zeros((2, 3)), "b": np.zeros(1), "classes": np.arange(2)},
        {"W": np.zeros((3, 3)), "b": np.zeros(3), "classes": np.arange(2)},
        {"W": np.zeros((1, 3), int), "b": np.zeros(1), "classes": np.arange(2)},
        {"W": np.zeros((0, 3)), "b": np.zeros(0), "classes": np.arange(0)},
    ],
)
def test_arrays_that_do_not_fit_are_refused(tmp_path, arrays):
    files.save_npz(tmp_path / "x.npz", models.KIND, 1, {"settings": {}}, arrays)
    with pytest.raises(ValueError, match="do not make a linear model"):
        models.load(tmp_path / "x.npz")


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "m.npz"
    models.save(path, model(np.random.default_rng(4)))
    before = path.read_bytes()
    bad = models.LinearModel(np.array([[None]]), np.zeros(1), None, {})
    with pytest.raises(TypeError, match="Python objects"):
        models.save(path, bad)

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match="No space left"):
        models.save(path, model(np.random.default_rng(5)))
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["m.npz"]


def test_replacing_keeps_the_old_file_after_an_error(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"old")
    with pytest.raises(RuntimeError), files.replacing(path) as file:
        file.write(b"half")
        raise RuntimeError
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["x"]
    with files.replacing(path) as file:
        file.write(b"new")
    assert path.read_bytes() == b"new" and os.listdir(tmp_path) == ["x"]


@pytest.mark.parametrize(
    ("labels", "want"),
    [
        ([1.0, -1.0, -1.0], [-1, 1]),
        ([0.0, 1.0], [0, 1]),
        ([0.25, 7.5, 0.25], [0.25, 7.5]),
        ([3.0, 1.0, 2.0, 2.0], [1, 2, 3]),
        (["b", "a", "c"], ["a", "b", "c"]),
    ],
)
def test_classes_of(labels, want):
    found = models.classes_of(np.array(labels))
    assert found.tolist() == want
    assert [type(x) for x in found.tolist()] == [type(x) for x in want]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([1.0, 1.0], "at least 2 different ones"),
        ([], "at least 2 different ones"),
        ([0.5, 1.0, 2.0], "not whole numbers"),
        ([1.0, np.nan], "finite"),
        ([1.0, np.inf, 2.0], "finite"),
        (np.arange(1001.0), "more than the 1,000 classes"),
    ],
)
def test_labels_that_cannot_be_classes(labels, message):
    with pytest.raises(ValueError, match=message):
        models.classes_of(np.array(labels))


def test_settings_are_json(tmp_path):
    path = tmp_path / "m.npz"
    models.save(path, model(np.random.default_rng(6)))
    with np.load(path, allow_pickle=False) as stored:
        meta = json.loads(str(stored["meta"]))
    assert meta["kind"] == "fastopt linear model" and meta["settings"]["data"] == "näme.svm"


def test_links_devices_and_rights_stay(tmp_path):
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_bytes(b"old")
    target.chmod(0o600)
    link.symlink_to(target)
    with files.replacing(link) as file:
        file.write(b"new")
    assert link.is_symlink() and target.read_bytes() == b"new"
    assert target.stat().st_mode & 0o777 == 0o600
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    with files.replacing(pipe) as file:
        file.write(b"through")
    assert os.read(reader, 100) == b"through" and pipe.is_fifo()
    os.close(reader)
