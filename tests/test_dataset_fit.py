"""Estimators fit from data sets of `open_data`: the same models, without the memory."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from scipy import sparse
from sklearn.datasets import dump_svmlight_file
from sklearn.metrics import accuracy_score, r2_score

import fastopt
from fastopt import SGDClassifier, SGDRegressor
from fastopt.data.writers import write


def made(n=3000, d=40, seed=0):
    r = np.random.default_rng(seed)
    X = sparse.random(n, d, 0.2, "csr", np.float32, random_state=r)
    X.data = X.data.round(3)  # as text has it, exactly
    return X, X @ r.normal(size=d) + 0.2 * r.normal(size=n)


@pytest.fixture
def files(tmp_path):
    """Rows and labels of three classes, and the same in files."""
    X, score = made()
    y = np.digitize(score, [-0.3, 0.3]).astype(float)
    dump_svmlight_file(X[:2000], y[:2000], str(tmp_path / "train.svm"), zero_based=True)
    dump_svmlight_file(X[2000:], y[2000:], str(tmp_path / "test.svm"), zero_based=True)
    return X, y, tmp_path


@pytest.mark.parametrize("cache", [True, False])
def test_same_model(files, cache):
    X, y, folder = files
    train = fastopt.open_data(folder / "train.svm", n_features=40, cache=cache, zero_based=True)
    test = fastopt.open_data(
        folder / "test.svm", n_features=40, cache=cache, zero_based=True, block_rows=130
    )
    options = {"loss": "log_loss", "random_state": 0}
    mine = SGDClassifier(**options).fit(train, validation=test)
    theirs = SGDClassifier(**options).fit(X[:2000], y[:2000], validation=(X[2000:], y[2000:]))
    np.testing.assert_array_equal(mine.coef_, theirs.coef_)
    np.testing.assert_array_equal(mine.predict(test), theirs.predict(X[2000:]))
    np.testing.assert_allclose(mine.predict_proba(test), theirs.predict_proba(X[2000:]), rtol=1e-6)
    assert mine.score(test) == accuracy_score(y[2000:], theirs.predict(X[2000:])) > 0.6
    assert mine.score(X[2000:], y[2000:]) == mine.score(test)
    again = SGDClassifier(random_state=0).partial_fit(train, classes=[0, 1, 2])
    np.testing.assert_array_equal(
        again.coef_, SGDClassifier(random_state=0).partial_fit(X[:2000], y[:2000], [0, 1, 2]).coef_
    )


def test_regression_with_weights(tmp_path):
    X, y = made()
    weights = np.random.default_rng(3).integers(0, 4, 3000).astype(float)
    data = fastopt.open_data(X, y, sample_weight=weights)
    options = {"learning_rate": "optimal", "random_state": 0}
    mine = SGDRegressor(**options).fit(data)
    theirs = SGDRegressor(**options).fit(X, y, sample_weight=weights)
    np.testing.assert_array_equal(mine.coef_, theirs.coef_)
    found = r2_score(y, theirs.predict(X), sample_weight=weights)
    np.testing.assert_allclose(mine.score(data), found, rtol=1e-9)
    part, rest = data.split(0.2)
    assert SGDRegressor(**options).fit(part).score(rest) > 0.5


def test_refused(files):
    X, y, folder = files
    train = fastopt.open_data(folder / "train.svm", cache=False)
    model = SGDClassifier(random_state=0).fit(train)
    for call, message in [
        (lambda: model.fit(train, y[:2000]), "y must be None where X is a data set"),
        (lambda: model.score(train, y[:2000]), "must be None where X is a data set"),
        (lambda: model.fit(fastopt.open_data(X)), "row 1 of .* has no label"),
        (lambda: model.score(fastopt.open_data(X)), "has no label"),
        (lambda: model.predict(fastopt.open_data(X[:, :30])), "give open_data n_features=40"),
        (
            lambda: model.fit(fastopt.open_data(X, y, sample_weight=y + 1), sample_weight=y),
            "sample_weight must be None where the data set has weights",
        ),
    ]:
        with pytest.raises(ValueError, match=message):
            call()


CHILD = """
import resource, sys
import numpy as np
import fastopt
from fastopt import SGDClassifier

SGDClassifier(random_state=0).fit([[0.0], [1.0]], [0, 1])  # libraries that load late
data = fastopt.open_data(sys.argv[1])
with open("/proc/self/status") as status:
    now = next(int(line.split()[1]) << 10 for line in status if line.startswith("VmData"))
limit = now + (32 << 20)
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
model = SGDClassifier(max_iter=2, tol=None, random_state=0, loss="log_loss").fit(data)
print(model.score(data))
try:
    X = data.to_csr()[0]
    print([np.array(X.data), np.array(X.indices)] and "fits")
except MemoryError:
    print("too large")
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux's limit of memory")
def test_larger_than_memory(tmp_path):
    """Fit and score take less memory than the rows, which a copy of them does not."""
    n, row, d = 150_000, 50, 5000
    r = np.random.default_rng(0)
    indices = np.cumsum(r.integers(1, d // row, (n, row), dtype=np.int32), axis=1, dtype=np.int32)
    data = r.random((n, row), dtype=np.float32)
    X = sparse.csr_matrix((n, d), dtype=np.float32)
    X.data, X.indices = data.ravel(), indices.ravel()
    X.indptr = np.arange(n + 1, dtype=np.int64) * row
    y = np.where(X @ r.normal(size=d) > 0, 1.0, -1.0)
    path = tmp_path / "rows.fastopt"
    write(fastopt.open_data(X, y), str(path), "cache")
    assert path.stat().st_size > 56 << 20
    found = subprocess.run(
        [sys.executable, "-c", CHILD, str(path)], capture_output=True, text=True, timeout=120
    )
    assert found.returncode == 0, found.stderr
    score, copy = found.stdout.split("\n")[:2]
    assert float(score) > 0.7 and copy == "too large"
