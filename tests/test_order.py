"""The order of rows in the lock-free runner: what is visited, against SGD in NumPy."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

import fastopt
from fastopt.sparse.one_vs_rest import one_vs_rest
from fastopt.sparse.rows import Settings

N, D = 300, 12
MASK = (1 << 64) - 1


def make(n=N, d=D, seed=0):
    """Random rows with about half of their values."""
    r = np.random.default_rng(seed)
    dense = r.normal(size=(n, d)) * (r.random((n, d)) < 0.5)
    rows, columns = np.nonzero(dense)
    X = SimpleNamespace(
        data=dense[rows, columns],
        indices=columns.astype("i4"),
        indptr=np.searchsorted(rows, np.arange(n + 1)),
        shape=(n, d),
    )
    return X, np.where(dense @ r.normal(size=d) + 0.5 * r.normal(size=n) > 0, 1.0, -1.0), dense


def mix(x):
    """splitmix64 (Steele, Lea, Flood 2014)."""
    x = (x + 0x9E3779B97F4A7C15) & MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
    return x ^ (x >> 31)


def shuffled(n, seed, epoch):
    """The permutation that csrc/order.h describes: one-to-one steps on the next power of two."""
    key, bits = mix((seed + mix(epoch)) & MASK), max(2, (n - 1).bit_length())
    out = []
    for i in range(n):
        while True:
            for step in range(4):
                k = mix((key + step) & MASK)
                i = (i * (k | 1) + (k >> 32)) & ((1 << bits) - 1)
                i ^= i >> ((bits + 1) // 2)
            if i < n:
                break
        out.append(i)
    return np.array(out)


def step_sum(schedule, step, l2, row):
    if schedule == "inverse_time":
        return np.log1p(step * l2 * row) / l2
    if schedule == "power":
        return 2 * step * (np.sqrt(row + 0.5) - np.sqrt(0.5))
    return -np.log1p(-l2 * step) / l2 * row


def reference(dense, y, visits, schedule, l2=0.01, step=0.05, decay=0.9):
    """Logistic SGD over these rows, a list per epoch, with one step size per 64 rows of it."""
    w, b, before = np.zeros(dense.shape[1]), 0.0, 0
    gain = np.square(dense[dense != 0]).mean()
    blocks = (len(dense) + 2 * 63) // 64  # of a whole epoch
    for epoch, rows in enumerate(visits):
        for start in range(0, len(rows), 64):
            some = rows[start : start + 64]
            t, end = before + start, before + start + len(some)
            if schedule == "blocks":  # not given by the caller: blocks share an epoch evenly
                t, end = ((epoch * blocks + start / 64 + k) * len(dense) / blocks for k in (0, 1))
            if schedule == "epoch_decay":
                mean = step * decay**epoch
            else:
                kind = "inverse_time" if schedule == "blocks" else schedule
                mean = step_sum(kind, step, l2, end) - step_sum(kind, step, l2, t)
                mean /= end - t
            eta = step if schedule == "constant" else -np.expm1(-l2 * mean) / l2
            keep = 1 - eta * l2
            eta = mean if schedule == "power" else eta
            for i in some:
                g = -y[i] / (1 + np.exp(y[i] * (dense[i] @ w + b)))
                w = keep * w - eta * g * dense[i]
                b -= gain * eta * g
        before += len(rows)
    return w, b


def trained(X, y, order, schedule="constant", epochs=3, **more):
    return fastopt.hogwild(
        X, y, l2=0.01, epochs=epochs, step=0.05, schedule=schedule, average=False, threads=1,
        order=order, **more,
    )  # fmt: skip


def same(result, expected):
    np.testing.assert_allclose(result.w, expected[0], rtol=1e-11, atol=1e-12)
    assert result.intercept == pytest.approx(expected[1], rel=1e-11)


@pytest.mark.parametrize("schedule", ["constant", "inverse_time", "epoch_decay", "power"])
@pytest.mark.parametrize("count", [1, 63, 64, 65, 200, 300])
def test_given_rows_are_visited_in_this_order(schedule, count):
    X, y, dense = make()
    rows = np.random.default_rng(1).permutation(N)[:count]
    result = trained(X, y, rows, schedule)
    same(result, reference(dense, y, [rows] * 3, schedule))
    assert (result.order, result.rows, result.epochs) == ("given", 3 * count, 3)
    assert [r["rows"] for r in result.history] == [count, 2 * count, 3 * count]


@pytest.mark.parametrize("schedule", ["constant", "inverse_time", "epoch_decay", "power"])
def test_a_curriculum_is_followed_epoch_by_epoch(schedule):
    X, y, dense = make()
    curriculum = fastopt.Curriculum(dense[:, 0], start=0.1, full_at=4, seed=3)
    result = trained(X, y, curriculum, schedule, epochs=6)
    visits = [curriculum.order(epoch, N) for epoch in range(6)]
    assert [len(v) for v in visits] == [30, 98, 165, 233, 300, 300]
    same(result, reference(dense, y, visits, schedule))
    assert [r["rows"] for r in result.history] == np.cumsum([len(v) for v in visits]).tolist()


def test_rows_may_come_more_than_once():
    X, y, dense = make()
    rows = np.array([5, 5, 7, 5, 299, 0, 7], np.int32)
    same(trained(X, y, rows), reference(dense, y, [rows] * 3, "constant"))
    same(trained(X, y, rows.tolist()), reference(dense, y, [rows] * 3, "constant"))


def test_shuffle_is_a_permutation_of_single_rows_per_epoch():
    X, y, dense = make()
    visits = [shuffled(N, 7, epoch) for epoch in range(3)]
    assert all(sorted(v) == list(range(N)) for v in visits)
    same(trained(X, y, "shuffle", seed=7), reference(dense, y, visits, "constant"))
    assert trained(X, y, "shuffle").order == "shuffle"


def test_sequential():
    X, y, dense = make()
    visits = [np.arange(N)] * 3
    expected = reference(dense, y, visits, "blocks")
    same(trained(X, y, "sequential", "inverse_time"), expected)


def test_self_paced_sees_the_losses_of_the_model():
    """Each epoch's rows follow from the losses of the model after the last one."""
    X, y, dense = make()
    pace = fastopt.SelfPaced(start=0.5, growth=1.2, seed=4)
    result = trained(X, y, pace, epochs=4)
    again, visits, w, b = fastopt.SelfPaced(start=0.5, growth=1.2, seed=4), [], np.zeros(D), 0.0
    for epoch in range(4):
        again.update(np.logaddexp(0, -y * (dense @ w + b)))
        visits.append(again.order(epoch, N))
        w, b = reference(dense, y, visits, "constant")
    assert len(visits[1]) < len(visits[3])
    same(result, (w, b))


@pytest.mark.parametrize("mode", ["copies", "shared"])
@pytest.mark.parametrize("order", ["shuffle", "given", "curriculum"])
def test_threads_visit_the_same_rows(mode, order):
    """Row i alone has column i, so w says how often it was trained on."""
    n = 2000
    X = SimpleNamespace(
        data=np.ones(n), indices=np.arange(n), indptr=np.arange(n + 1), shape=(n, n)
    )
    rows = np.random.default_rng(0).permutation(n)[:1500]
    visits = {"shuffle": np.arange(n), "given": rows}
    value = {"shuffle": "shuffle", "given": rows}
    curriculum = fastopt.Curriculum(np.arange(n), start=0.25)
    result = fastopt.hogwild(
        X, np.arange(1.0, n + 1), loss="squared", l2=0, epochs=1, step=0.5, schedule="constant",
        mode=mode, threads=2, fit_intercept=False, average=False,
        order=value.get(order, curriculum),
    )  # fmt: skip
    wanted = np.zeros(n, bool)
    wanted[visits.get(order, np.arange(500))] = True
    assert result.rows == wanted.sum() == result.nnz
    assert not result.w[~wanted].any()
    if mode == "shared":
        np.testing.assert_allclose(result.w[wanted], 0.5 * np.arange(1, n + 1)[wanted])
    else:  # two merges at once can lose some columns
        assert (result.w[wanted] > 0).mean() > 0.8


@pytest.mark.parametrize("threads", [1, 2])
def test_all_rows_reach_what_blocks_reach(threads):
    X, y, _ = make(n=10_000)
    same = {"epochs": 15, "threads": threads, "track_objective": True}
    aims = fastopt.hogwild(X, y, **same).history[-1]["objective"]
    for order in ("shuffle", "sequential", np.random.default_rng(2).permutation(10_000)):
        value = fastopt.hogwild(X, y, order=order, **same).history[-1]["objective"]
        assert value == pytest.approx(aims, rel=0.01)


def test_the_same_bits_however_slices_fall():
    """A curriculum on one thread, looked at after each epoch or not."""
    X, y, dense = make(n=5000)
    curriculum = fastopt.Curriculum(dense[:, 1], "root", full_at=5)
    one, two = (
        fastopt.hogwild(X, y, order=curriculum, threads=1, epochs=8, track_objective=track)
        for track in (False, True)
    )
    np.testing.assert_array_equal(one.w, two.w)


def test_several_classes_follow_the_same_order():
    X, _, dense = make()
    codes = dense[:, :3].argmax(1)
    curriculum = fastopt.Curriculum(np.abs(dense).sum(1), full_at=2)
    settings = Settings.check(
        loss="logistic", l2=0.01, epochs=3, step=0.05, schedule="constant", decay=0.9,
        mode="serial", fit_intercept=True, average=False, threads=1, seed=0, order=curriculum,
    )  # fmt: skip
    out = one_vs_rest(X, codes, 3, settings)
    visits = [curriculum.order(epoch, N) for epoch in range(3)]
    for k in range(3):
        w, b = reference(dense, np.where(codes == k, 1.0, -1.0), visits, "constant")
        np.testing.assert_allclose(out.W[k], w, rtol=1e-11, atol=1e-12)
        assert out.b[k] == pytest.approx(b, rel=1e-11)


@pytest.mark.parametrize(
    ("order", "error", "message"),
    [
        ("random", ValueError, "order must be one of 'auto', 'blocks'"),
        (3.5, TypeError, "order must be one of 'auto'.* array of row numbers"),
        (np.zeros(3), TypeError, "order must be one of"),
        (np.zeros(0, int), ValueError, "order must give an array of 1 to 300 row numbers"),
        (np.zeros(301, int), ValueError, "order must give an array of 1 to 300 row numbers"),
        ([0, 300], ValueError, "order must give row numbers from 0 to 299"),
        ([-1], ValueError, "order must give row numbers from 0 to 299"),
        (fastopt.Curriculum([1, 2]), ValueError, "difficulty has 2 numbers, but there are 300"),
        (SimpleNamespace(order=lambda e, n: [0.5]), ValueError, "order must give an array"),
    ],
)
def test_bad_orders_are_named(order, error, message):
    X, y, _ = make()
    with pytest.raises(error, match=message):
        trained(X, y, order)


# ---- the estimators ----


def test_estimators():
    sparse = pytest.importorskip("scipy.sparse")
    pytest.importorskip("sklearn")
    from sklearn.base import clone

    X, y, dense = make()
    Z = sparse.csr_matrix((X.data, X.indices, X.indptr), X.shape)
    rows = np.random.default_rng(0).permutation(N)
    params = {"learning_rate": "constant", "eta0": 0.05, "alpha": 0.01, "tol": None}
    params |= {"max_iter": 3, "random_state": 0}
    model = fastopt.SGDClassifier("log_loss", order=rows, **params).fit(Z, y)
    assert model.fit_report_["order"] == "given"
    in_order = fastopt.SGDClassifier("log_loss", shuffle=False, **params).fit(Z[rows], y[rows])
    np.testing.assert_allclose(model.coef_, in_order.coef_, rtol=1e-10)
    curriculum = fastopt.Curriculum(np.abs(dense).sum(1), start=0.5, full_at=2)
    model = clone(fastopt.SGDRegressor(order=curriculum, **params)).fit(Z, dense[:, 0])
    assert [r["rows"] for r in model.history_] == [150, 375, 675]
    with pytest.raises(ValueError, match="order must be a name with partial_fit"):
        model.partial_fit(Z, dense[:, 0])
    with pytest.raises(ValueError, match="optimizer='sdca' has an order of its own"):
        fastopt.SGDClassifier(order="shuffle", optimizer="sdca").fit(Z, y)
    with pytest.raises(ValueError, match="order must be one of"):
        fastopt.SGDClassifier(order="fast").fit(Z, y)


def test_rows_left_out_keep_their_numbers():
    """Rows of weight 0 are not there, and the others are visited as if they had never been."""
    pytest.importorskip("sklearn")
    _, y, dense = make()
    weight = np.ones(N)
    weight[::3] = 0
    there = np.flatnonzero(weight)
    params = {"learning_rate": "constant", "tol": None, "max_iter": 4, "random_state": 0}
    for order, others in (
        (np.arange(N)[::-1], np.arange(200)[::-1]),
        (fastopt.SelfPaced(), fastopt.SelfPaced()),
    ):
        one = fastopt.SGDClassifier(order=order, **params).fit(dense, y, sample_weight=weight)
        two = fastopt.SGDClassifier(order=others, **params).fit(dense[there], y[there])
        np.testing.assert_array_equal(one.coef_, two.coef_)
