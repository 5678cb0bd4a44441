"""Modes of the lock-free runner: rounds of the same bits, and those that are there for study."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

import fastopt
from fastopt.sparse import contention, evaluation
from fastopt.sparse.one_vs_rest import one_vs_rest
from fastopt.sparse.rows import Rows, Settings

STUDY = ("hogbatch", "rr", "aig")


def make(n=20_000, d=20, seed=0, dtype="f8", density=0.5, index="i4"):
    """Random rows and noisy linear labels."""
    r = np.random.default_rng(seed)
    dense = (r.normal(size=(n, d)) * (r.random((n, d)) < density)).astype(dtype)
    rows, columns = np.nonzero(dense)
    X = SimpleNamespace(
        data=dense[rows, columns],
        indices=columns.astype(index),
        indptr=np.searchsorted(rows, np.arange(n + 1)),
        shape=(n, d),
    )
    y = dense @ r.normal(size=d) + 0.5 * r.normal(size=n) + 0.3
    return X, np.where(y > 0, 1.0, -1.0), dense


def alone(n):
    """Rows with a column for each."""
    return SimpleNamespace(
        data=np.ones(n), indices=np.arange(n), indptr=np.arange(n + 1), shape=(n, n)
    )


# ---- deterministic ----


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize(
    "order", ["auto", "shuffle", "sequential", "turns", "permutation", "curriculum"]
)
def test_the_same_bits_for_any_number_of_threads(order, dtype):
    X, y, dense = make(dtype=dtype)
    given = {
        "permutation": np.random.default_rng(0).permutation(len(y)),
        "curriculum": fastopt.Curriculum(np.abs(dense).sum(1), full_at=3, stratify=y),
    }
    seen = set()
    for threads in (1, 2, 3, 4):
        for track in (False, True):
            result = fastopt.hogwild(
                X, y, deterministic=True, threads=threads, epochs=5, order=given.get(order, order),
                track_objective=track, l2=1e-3, seed=3,
            )  # fmt: skip
            assert result.mode == "rounds" and result.status == "finished"
            assert result.rows == result.history[-1]["rows"]
            seen.add((result.w.tobytes(), result.intercept))
    assert len(seen) == 1
    again = fastopt.hogwild(X, y, deterministic=True, epochs=5, seed=4, l2=1e-3)
    assert (again.w.tobytes(), again.intercept) not in seen


@pytest.mark.parametrize("loss", ["logistic", "hinge", "squared"])
@pytest.mark.parametrize("average", [True, False])
def test_rounds_reach_what_others_reach(loss, average):
    X, y, _ = make()
    value = {}
    for name, how in (("serial", {"threads": 1}), ("copies", {"threads": 2}), ("rounds", {})):
        result = fastopt.hogwild(
            X, y, loss=loss, l2=1e-3, epochs=20, average=average, track_objective=True,
            deterministic=name == "rounds", **how,
        )  # fmt: skip
        value[name] = result.history[-1]["objective"]
    for other in ("serial", "copies"):
        assert value["rounds"] == pytest.approx(value[other], rel=0.01 if average else 0.03)


def reference(dense, y, workers, epochs, step, l2, meet=512, falling=False, short=0.025):
    """Rounds as csrc/rounds.c describes them: logistic loss, rows in order.

    The step is constant, or falls as 1 / (1 + l2 step row): then workers' steps are longer where
    they are short, and merges know how much longer. Rounds have a batch for each worker. After
    every `meet` rows of theirs they are merged.
    """
    n, d = dense.shape
    batches = (n + 2 * 63 + 7 * 64) // 512
    gain = np.square(dense[:: n // 2048][dense[:: n // 2048] != 0]).mean()
    some = np.abs(dense[:: n // 2048])
    norms = some.sum(1) + np.sqrt(gain)
    h = (some * norms[:, None]).mean(0) * 0.25 / 10 + l2
    h_intercept = gain * 0.25 / 4
    calm = short / (0.25 * np.square(some).sum(1).mean())
    blocks = (n + 2 * 63) // 64

    def steps(i, epoch):
        """Return step and stretch in a row: those of its block."""
        if not falling:
            return step, 1.0
        t = np.array([epoch * blocks + i // 64, epoch * blocks + i // 64 + 1]) * (n / blocks)
        mean = np.diff(np.log1p(step * l2 * t) / l2)[0] / (n / blocks)
        stretch = min(max(calm / mean, 1.0), workers)
        return -np.expm1(-l2 * mean * stretch) / l2, stretch

    w, b = np.zeros(d), 0.0
    for epoch in range(epochs):
        first = 0
        while first < batches:
            stop = min(first + workers, batches)
            for at in range(0, 512, meet):
                z, c = w.copy(), b
                for o in range(first, stop):
                    v, u, lost, area, net = w.copy(), b, 0.0, 0.0, 0.0
                    for i in range(o * 512 + at, min(o * 512 + at + meet, n)):
                        g = -y[i] / (1 + np.exp(y[i] * (dense[i] @ v + u)))
                        eta, stretch = steps(i, epoch)
                        v = (1 - eta * l2) * v - eta * g * dense[i]
                        u -= gain * eta * g
                        lost += (1 - lost) * eta * l2
                        area, net = area + eta, net + eta / stretch
                    a, longer = area * h, area / net if net else 1.0
                    z += (1 + a) / (longer + workers * a) * (v - (1 - lost) * w - lost * z)
                    a = area * h_intercept
                    c += (1 + a) / (longer + workers * a) * (u - b)
                w, b = z, c
            first = stop
    return w, b


@pytest.mark.parametrize(("n", "workers"), [(8192, 2), (16_500, 4)])
def test_rounds_are_those_of_numpy(n, workers):
    X, y, dense = make(n=n, d=8)
    result = fastopt.hogwild(
        X, y, deterministic=True, order="sequential", epochs=1, step=0.05, schedule="constant",
        l2=0.01, average=False, threads=2,
    )  # fmt: skip
    w, b = reference(dense, y, workers, 1, 0.05, 0.01)
    np.testing.assert_allclose(result.w, w, rtol=1e-10, atol=1e-13)
    assert result.intercept == pytest.approx(b, rel=1e-10)


@pytest.mark.parametrize(("d", "meet"), [(8, 512), (200, 256)])
def test_rounds_with_longer_steps_are_those_of_numpy(d, meet):
    """Workers meet after 16,000 non-zeros, or every 64 * 2^k rows."""
    X, y, dense = make(n=8192, d=d)
    l2 = 0.05  # steps fall below what counts as short
    result = fastopt.hogwild(
        X, y, deterministic=True, order="sequential", epochs=4, step=0.2, l2=l2, average=False,
        threads=2,
    )  # fmt: skip
    w, b = reference(dense, y, 2, 4, 0.2, l2, meet, falling=True)
    np.testing.assert_allclose(result.w, w, rtol=1e-9, atol=1e-12)
    assert result.intercept == pytest.approx(b, rel=1e-9)
    never, _ = reference(dense, y, 2, 4, 0.2, l2, meet, falling=True, short=0)
    assert np.abs(never - w).max() > 1e-4


def test_rounds_with_much_shrinkage():
    """L2 shrinks a worker's copy beyond what float32 holds within a round."""
    X, y, _ = make(dtype="f4")
    noisy = {"step": 0.1, "schedule": "constant", "average": False, "epochs": 3}
    best, one, rounds = (
        fastopt.hogwild(X, y, l2=1.0, track_objective=True, **how).history[-1]["objective"]
        for how in (
            {"threads": 1, "epochs": 50},
            {"threads": 1, **noisy},
            {"deterministic": True, **noisy},
        )
    )
    assert best * 0.999 <= rounds <= one * 1.02


def test_too_little_for_rounds_is_one_thread_for_any_threads():
    X, y, _ = make(n=300)
    for threads in (1, 4):
        result = fastopt.hogwild(X, y, deterministic=True, threads=threads, epochs=1)
        assert result.mode == "serial" and "rows are too few" in result.reason
    X, y, _ = make()
    X.shape = (20_000, 1_000_000)
    result = fastopt.hogwild(X, y, deterministic=True, epochs=1)
    assert result.mode == "serial" and "non-zeros are too few" in result.reason
    result = fastopt.hogwild(make()[0], y, deterministic=True, epochs=1, l1=0.1, threads=4)
    assert result.mode == "serial" and "L1" in result.reason
    with pytest.raises(ValueError, match="mode must be 'auto', 'rounds' or 'serial' with"):
        fastopt.hogwild(X, y, deterministic=True, mode="copies")


def test_several_classes_in_rounds():
    X, _, dense = make()
    out = []
    for threads in (1, 3):
        settings = Settings.check(
            loss="logistic", l2=1e-4, epochs=3, step="auto", schedule="inverse_time", decay=0.9,
            mode="auto", fit_intercept=True, average=True, threads=threads, seed=0,
            deterministic=True,
        )  # fmt: skip
        out.append(one_vs_rest(X, dense[:, :3].argmax(1), 3, settings))
    np.testing.assert_array_equal(out[0].W, out[1].W)
    np.testing.assert_array_equal(out[0].b, out[1].b)


def test_estimators_in_rounds():
    sparse = pytest.importorskip("scipy.sparse")
    pytest.importorskip("sklearn")
    X, y, _ = make()
    Z = sparse.csr_matrix((X.data, X.indices, X.indptr), X.shape)
    some = {"random_state": 5, "max_iter": 4, "tol": None, "learning_rate": "optimal"}
    for kind in (fastopt.SGDClassifier, fastopt.SGDRegressor):
        models = [
            kind(**some, **more).fit(Z, y)
            for more in (
                {"n_jobs": 2},
                {"n_jobs": 3},
                {"deterministic": True},
                {"deterministic": True, "n_jobs": 1},
            )
        ]
        if fastopt._core.openmp() == "none":
            models = models[2:]
        for model in models:
            np.testing.assert_array_equal(model.coef_, models[0].coef_)
            assert model.fit_report_["mode"] == "rounds"
        assert kind(**some).fit(Z, y).fit_report_["mode"] == "serial"
        report = kind(**some, n_jobs=2, deterministic=False).fit(Z, y).fit_report_
        assert report["mode"] in ("copies", "serial")
        assert report["omega"] == np.diff(X.indptr).max()
        assert {"delta", "rho", "conflicts"} <= set(report)
    with pytest.raises(TypeError, match="deterministic must be True or False"):
        fastopt.SGDClassifier(deterministic="yes").fit(Z, y)


# ---- for study ----


@pytest.mark.parametrize("mode", STUDY)
@pytest.mark.parametrize("order", ["auto", "turns", "shuffle", "sequential"])
@pytest.mark.parametrize("n", [1, 65, 3000])
def test_every_row_once_an_epoch(mode, order, n):
    y = np.arange(1.0, n + 1)
    result = fastopt.hogwild(
        alone(n), y, loss="squared", l2=0, epochs=1, step=0.5, schedule="constant", mode=mode,
        threads=2, fit_intercept=False, average=False, order=order,
    )  # fmt: skip
    assert result.rows == n == result.nnz
    np.testing.assert_allclose(result.w, 0.5 * y, rtol=1e-12)


@pytest.mark.parametrize("mode", ["rr", "aig"])
@pytest.mark.parametrize("index", ["i4", "i8"])
def test_no_update_is_lost(mode, index, need_two):
    """Every row adds its values to the same columns, whatever the weights are."""
    n, threads = 20_000, 4
    X = SimpleNamespace(
        data=np.tile([1.0, 2.0, 4.0], n),
        indices=np.tile([0, 3, 4], n).astype(index),
        indptr=np.arange(n + 1) * 3,
        shape=(n, 6),
    )
    result = fastopt.hogwild(
        X, np.full(n, 1e15), loss="epsilon_insensitive", l2=0, epochs=2, step=1.0,
        schedule="constant", mode=mode, threads=threads, fit_intercept=False, average=False,
    )  # fmt: skip
    assert result.mode == mode and result.threads == threads
    assert result.w.tolist() == [2 * n, 0, 0, 4 * n, 8 * n, 0]


@pytest.fixture
def need_two():
    """Skip in a build without threads."""
    if fastopt._core.openmp() == "none":
        pytest.skip("this build has no OpenMP")


def test_locks_of_a_column_that_comes_twice(need_two):
    n = 5000
    X = SimpleNamespace(
        data=np.ones(3 * n),
        indices=np.tile([2, 0, 2], n),
        indptr=np.arange(n + 1) * 3,
        shape=(n, 3),
    )
    result = fastopt.hogwild(
        X, np.full(n, 1e15), loss="epsilon_insensitive", l2=0, epochs=1, step=1.0,
        schedule="constant", mode="aig", threads=3, fit_intercept=False, average=False,
    )  # fmt: skip
    assert result.w.tolist() == [n, 0, 2 * n]


def micro(dense, y, epochs, step, l2, size=16):
    """SGD of which `size` rows see the same weights, in the data's order."""
    w, b = np.zeros(dense.shape[1]), 0.0
    gain, keep = np.square(dense[dense != 0]).mean(), 1 - step * l2
    for _ in range(epochs):
        for low in range(0, len(y), size):
            some = range(low, min(low + size, len(y)))
            change = np.zeros_like(w)
            for r, i in enumerate(some):
                g = -y[i] / (1 + np.exp(y[i] * (keep**r * dense[i] @ w + b)))
                change = keep * change - step * g * dense[i]
                b -= gain * step * g
            w = keep ** len(some) * w + change
    return w, b


@pytest.mark.parametrize("density", [0.5, 1.0])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_micro_batches_are_those_of_numpy(density, dtype):
    X, y, dense = make(n=300, d=70, density=density, dtype=dtype)
    result = fastopt.hogwild(
        X, y, mode="hogbatch", threads=1, epochs=2, step=0.01, l2=0.01, schedule="constant",
        average=False, order=np.arange(300),
    )  # fmt: skip
    w, b = micro(dense.astype("f8"), y, 2, 0.01, 0.01)
    tolerance = 1e-11 if dtype == "f8" else 1e-4
    assert result.mode == "hogbatch"
    np.testing.assert_allclose(result.w, w, rtol=tolerance, atol=tolerance)
    assert result.intercept == pytest.approx(b, rel=tolerance)


@pytest.mark.parametrize("mode", STUDY)
@pytest.mark.parametrize("schedule", ["inverse_time", "constant"])
def test_study_reaches_what_one_thread_reaches(mode, schedule):
    X, y, _ = make()
    step = {"step": 0.02} if schedule == "constant" else {}
    value = [
        fastopt.hogwild(X, y, l2=1e-3, schedule=schedule, mode=m, threads=2, epochs=10,
                        track_objective=True, **step).history[-1]["objective"]
        for m in ("serial", mode)
    ]  # fmt: skip
    assert value[1] == pytest.approx(value[0], rel=0.01)


# ---- what is reported ----


def test_conflicts(need_two):
    X, y, _ = make()
    for mode, threads in (("serial", 1), ("copies", 2), ("rounds", 2), ("rr", 2)):
        assert fastopt.hogwild(X, y, mode=mode, threads=threads, epochs=1).conflicts == {}
    found = fastopt.hogwild(X, y, mode="shared", threads=4, epochs=20).conflicts
    assert set(found) == {"watched", "changed", "overwritten"}
    # one row in 512, of ten weights; rows without loss are not counted
    assert 0.5 < found["watched"] / (20 * len(X.data) / 512) < 1.5
    assert 0 <= found["overwritten"] <= found["changed"] + 0.1 <= 1.1


def test_nobody_else_means_no_conflicts():
    """Two workers that take turns on one thread never meet."""
    X, y, _ = make()
    settings = Settings.check(
        loss="logistic", l2=1e-3, epochs=1, step=0.1, schedule="constant", decay=0.9, mode="serial",
        fit_intercept=True, average=False, threads=1, seed=0,
    )  # fmt: skip
    rows = Rows(X, settings)
    rows.samples.target(y, None, 0, None)
    w = np.zeros(20)
    run = fastopt._core.Hogwild(
        rows.samples, "logistic", 0.0, "shared", "constant", "blocks", 2, 1.0, 1e-3, 0.1, 0.9, 0,
        512, w, 0.0, np.zeros(20), 0.0, None, None, 1e-3,
    )  # fmt: skip
    run.slice(0, run.batches, 1)
    watched, changed, overwritten = run.watched()
    assert watched > 100 and changed == overwritten == 0
    assert evaluation.objective(X, y, w, run.settle()[0]) < 0.5


@pytest.mark.parametrize("shift", [0, 10**6])
def test_sparsity_of_a_sample(shift):
    _, _, dense = make(n=60, d=40, density=0.03, seed=2)
    rows, columns = np.nonzero(dense)
    ends = np.searchsorted(rows, np.arange(61))
    there = dense != 0
    neighbours = (there.astype(int) @ there.T.astype(int) > 0).sum(1).max()
    found = contention.estimate(columns + shift, ends, 7)
    assert found["omega"] == 7 and found["rows"] == 60
    assert found["delta"] == there.sum(0).max() / 60
    assert found["rho"] == max(neighbours / 60, found["delta"])
    assert contention.estimate(columns[:0], np.zeros(4, int), 0)["rho"] == 0


def test_sparsity_in_the_result():
    X, y, dense = make(n=700, density=0.1)
    found = fastopt.hogwild(X, y, epochs=1).sparsity
    there = dense != 0
    assert found["omega"] == there.sum(1).max() and found["rows"] == 700
    assert found["delta"] == there.sum(0).max() / 700


def test_a_checkpoint_in_rounds_goes_on_to_the_same_bits(tmp_path):
    """Stopped in the middle of an epoch, resumed with another number of threads."""
    X, y, _ = make(n=60_000)
    same = {"deterministic": True, "epochs": 60, "l2": 1e-3, "seed": 2}
    whole = fastopt.hogwild(X, y, threads=2, **same)
    stopped = fastopt.hogwild(
        X, y, threads=2, checkpoint=tmp_path / "x", callback=lambda p: p.epoch >= 3, **same
    )
    assert stopped.status == "stopped" and stopped.rows < whole.rows
    result = fastopt.hogwild(X, y, threads=1, checkpoint=tmp_path / "x", **same)
    assert result.resumed == stopped.rows and result.rows == whole.rows
    np.testing.assert_array_equal(result.w, whole.w)
    assert result.intercept == whole.intercept
