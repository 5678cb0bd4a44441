"""Matrix completion: what it computes, in which order, with how many threads, and how it stops."""

from __future__ import annotations

import numpy as np
import pytest

import fastopt
from fastopt.factorization import completion, ratings
from fastopt.factorization.completion import factorize
from fastopt.factorization.factors import FactorizationResult

LOSSES = ("squared", "absolute", "logistic", "hinge", "bpr")
MASK = (1 << 64) - 1


def make(users=60, items=40, share=0.4, rank=3, seed=0, loss="squared", noise=0.3):
    """Pairs in order of users, and ratings of low rank."""
    r = np.random.default_rng(seed)
    full = r.normal(size=(users, rank)) @ r.normal(size=(items, rank)).T / np.sqrt(rank)
    full += r.normal(size=(users, 1)) / 2 + r.normal(size=items) / 2 + 1
    pairs = np.argwhere(r.random((users, items)) < share)
    y = full[tuple(pairs.T)] + noise * r.normal(size=len(pairs))
    if loss in ("logistic", "hinge"):
        y = np.where(y > 1, 1.0, -1.0)
    return pairs, (None if loss == "bpr" else y)


def value(loss, p, y):
    return {
        "squared": lambda: (p - y) ** 2 / 2,
        "absolute": lambda: np.abs(p - y),
        "logistic": lambda: np.logaddexp(0, -y * p),
        "hinge": lambda: np.maximum(0, 1 - y * p),
    }[loss]()


def derivative(loss, p, y):
    return {
        "squared": lambda: p - y,
        "absolute": lambda: np.sign(p - y),
        "logistic": lambda: -y / (1 + np.exp(y * p)),
        "hinge": lambda: np.where(y * p < 1, -y, 0.0),
    }[loss]()


def begin(users, items, rank, loss="squared", seed=0, spread=1.0, mean=0.5, low=-1.0):
    """A result to start from, all random."""
    r = np.random.default_rng(seed)
    return FactorizationResult(
        r.uniform(low, 1, (users, rank)), r.uniform(low, 1, (items, rank)),
        r.normal(size=users) * (loss != "bpr"), r.normal(size=items),
        0.0 if loss == "bpr" else mean, loss, spread, np.ones(users), np.ones(items),
    )  # fmt: skip


def parts_of(result):
    return (result.user_factors, result.item_factors, result.user_biases, result.item_biases)


def rmse(p, y):
    return float(np.sqrt(np.mean((p - y) ** 2)))


# ---- one rating, and many ----


@pytest.mark.parametrize("loss", LOSSES)
def test_a_step_is_the_gradient_of_the_objective(loss):
    """One rating moves everything by minus the rate times numerical derivatives."""
    l2, l2_bias, step, spread, y = 0.3, 0.2, 0.01, 2.0, 1.0
    start = begin(1, 2, 5, loss, spread=spread if loss in ("squared", "absolute") else 1.0)
    names = ("user_factors", "item_factors", "user_biases", "item_biases")
    sizes = [getattr(start, name).size for name in names]

    def objective(x):
        p, q, b, c = np.split(x, np.cumsum(sizes)[:-1])
        q = q.reshape(2, 5)
        if loss == "bpr":  # the user has item 0, so the other is 1
            ahead = (q[0] - q[1]) @ p + c[0] - c[1]
            shrunk = l2 * (p @ p + (q**2).sum()) + l2_bias * (c @ c)
            return np.logaddexp(0, -ahead) + shrunk / 2
        z = start.mean + b[0] + c[0] + p @ q[0]
        shrunk = l2 * (p @ p + q[0] @ q[0]) + l2_bias * (b[0] ** 2 + c[0] ** 2)
        return value(loss, z, y) + shrunk / 2

    x = np.concatenate([getattr(start, name).ravel() for name in names])
    numeric = np.array(
        [(objective(x + h) - objective(x - h)) / 2e-6 for h in np.eye(len(x)) * 1e-6]
    )
    result = factorize(
        np.array([[0, 0]]), None if loss == "bpr" else [y], rank=5, loss=loss, l2=l2,
        l2_bias=l2_bias, epochs=1, step=step, adaptive=False, shape=(1, 2), dtype="f8",
        random_state=0, start=start, track_objective=True,
    )  # fmt: skip
    after = np.concatenate([getattr(result, name).ravel() for name in names])
    unit = start.spread if loss == "squared" else 1.0
    gain = np.repeat([1, 1, start.spread, start.spread], sizes)
    np.testing.assert_allclose((x - after) / (step / unit * gain), numeric, atol=1e-8)
    assert result.history[-1]["objective"] == pytest.approx(objective(after), rel=1e-13)


def mix(x):
    x = (x + 0x9E3779B97F4A7C15) & MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
    return x ^ (x >> 31)


def watch(monkeypatch):
    """Record every run: its epochs' steps, orders of blocks, and the model at the beginning."""
    runs = []

    class Watched(completion.Run):
        def __init__(self, *args):
            super().__init__(*args)
            self.seed, self.epochs = args[-1], []
            self.begun = [x.copy() for x in self.state()]
            runs.append(self)

        def begin(self, epoch):
            step = super().begin(epoch)
            order = [self.native.blocks_of(k) for k in range(self.native.units)]
            self.epochs.append((epoch, step, order))
            return step

    monkeypatch.setattr(completion, "Run", Watched)
    monkeypatch.setattr(ratings, "BLOCK_RATINGS", 16)  # small data in many blocks
    monkeypatch.setattr(ratings, "NARROWEST", 4)
    return runs


def negative(run, key, blocks, block, number, u):
    """The item that a rating of BPR is compared with."""
    grid = run.grid
    width, sizes = grid.widths[1], [int(s) for s in grid.sizes[1]]
    band = block % grid.bands
    other = sum(blocks) - block if len(blocks) == 2 else block
    own = (sizes[band] << 32) // sum(sizes) if len(blocks) == 2 else 0xFFFFFFFF
    seen = grid.items[grid.seen[u] : grid.seen[u + 1]]
    for k in range(16):
        x = mix((key + number * 16 + k) & MASK)
        b = band if x >> 32 < own else other % grid.bands
        item = b * width + ((x & 0xFFFFFFFF) * sizes[b] >> 32)
        if item not in seen:
            return item
    return None


def plain_sgd(run, loss, l2, l2_bias, biases, adaptive, nonnegative):
    """The update of the documentation, one rating after the other, in float64."""
    m, grid = run.model, run.grid
    p, q = (x.astype("f8").reshape(-1, m.padded) for x in run.begun[:2])
    a, b = (x.astype("f8").reshape(-1, 2) for x in run.begun[2:])
    s, unit, mean = m.spread, (m.spread if loss == "squared" else 1.0), m.mean
    clip = (lambda x: np.maximum(x, 0)) if nonnegative else (lambda x: x)
    rows = [np.count_nonzero(d) * m.settings.rank for d in grid.degrees]
    for epoch, step, order in run.epochs:
        weight = [(x**2).sum() / n / (unit**2 * s) for x, n in zip((q, p), rows[::-1], strict=True)]
        key = mix((run.seed + mix(epoch)) & MASK)
        for blocks in order:
            for block in blocks:
                for t in range(grid.blocks.start[block], grid.blocks.start[block + 1]):
                    u, i, y = grid.blocks.records[t]
                    j = None
                    if loss == "bpr":
                        j = negative(run, key, blocks, block, int(t), u)
                        if j is None:
                            continue
                        z = p[u] @ (q[i] - q[j]) + b[i, 0] - b[j, 0]
                        moved = [(p, a, u, derivative("logistic", z, 1.0), q[i] - q[j], 0)]
                        moved += [(q, b, i, moved[0][3], p[u].copy(), 1)]
                        moved += [(q, b, j, -moved[0][3], p[u].copy(), 1)]
                    else:
                        z = mean + a[u, 0] + b[i, 0] + p[u] @ q[i]
                        g = derivative(loss, z, y)
                        moved = [(p, a, u, g, q[i].copy(), 0), (q, b, i, g, p[u].copy(), 1)]
                    for rows_, extra, r, g, other, axis in moved:
                        rate = step / np.sqrt(extra[r, 1]) if adaptive else step
                        rows_[r] = clip(rows_[r] - rate * (g * other + l2 * rows_[r]))
                        extra[r, 1] += weight[axis] * g**2 if adaptive else 0
                        if biases and not (loss == "bpr" and axis == 0):
                            extra[r, 0] -= s * rate * (g + l2_bias * extra[r, 0])
    return p, q, a, b


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize(
    ("loss", "more"),
    [
        *((loss, {}) for loss in LOSSES),
        ("squared", {"adaptive": False, "schedule": "epoch_decay"}),
        ("squared", {"biases": False, "rank": 20}),
        ("squared", {"nonnegative": True, "biases": False, "schedule": "constant"}),
        ("bpr", {"adaptive": False, "biases": False}),
        ("bpr", {"nonnegative": True}),
        ("logistic", {"nonnegative": True, "adaptive": False}),
    ],
)
def test_one_thread_is_plain_sgd(monkeypatch, loss, more, dtype):
    runs = watch(monkeypatch)
    X, y = make(loss=loss)
    same = {"rank": 5, "l2": 0.02, "l2_bias": 0.1, "step": 0.05, "decay": 0.8, "epochs": 3}
    result = factorize(X, y, loss=loss, threads=1, random_state=1, dtype=dtype, **(same | more))
    (run,) = runs
    assert run.grid.bands == (6 if loss == "bpr" else 7) and len(run.epochs) == 3
    schedule = more.get("schedule", "inverse")
    for e, step, _ in run.epochs:
        factor = {"epoch_decay": 0.8**e, "inverse": 1 / (1 + e / 4), "constant": 1.0}[schedule]
        unit = run.model.spread if loss == "squared" else 1
        assert step == pytest.approx(0.05 * factor / unit)
    p, q, a, b = plain_sgd(
        run, loss, 0.02, 0.1, more.get("biases", True), more.get("adaptive", True),
        more.get("nonnegative", False),
    )  # fmt: skip
    tolerance = 1e-11 if dtype == "f8" else 1e-4
    users, items = run.grid.places
    for got, wanted in (
        (result.user_factors, p[users, : result.user_factors.shape[1]]),
        (result.item_factors, q[items, : result.item_factors.shape[1]]),
        (result.user_biases, a[users, 0]), (result.item_biases, b[items, 0]),
        (result.user_squares, a[users, 1]), (result.item_squares, b[items, 1]),
    ):  # fmt: skip
        assert got.dtype == np.dtype(dtype)
        np.testing.assert_allclose(got, wanted, rtol=tolerance, atol=tolerance)
    assert not p[:, result.user_factors.shape[1] :].any()
    if more.get("nonnegative"):
        assert min(result.user_factors.min(), result.item_factors.min()) == 0


@pytest.mark.parametrize("loss", ["squared", "bpr"])
def test_rounds_are_independent_and_every_block_comes_once(monkeypatch, loss):
    runs = watch(monkeypatch)
    X, y = make(loss=loss)
    factorize(X, y, loss=loss, rank=2, epochs=4, threads=1, random_state=0)
    (run,) = runs
    bands, orders = run.grid.bands, [order for _, _, order in run.epochs]
    assert bands == (6 if loss == "bpr" else 7)
    for order in orders:
        assert sorted(block for unit in order for block in unit) == list(range(bands**2))
        for first in range(0, len(order), run.native.round):
            units = order[first : first + run.native.round]
            users = [unit[0] // bands for unit in units]
            items = [block % bands for unit in units for block in unit]
            assert len(set(users)) == len(users) and len(set(items)) == len(items) == bands
            assert all(b // bands == unit[0] // bands for unit in units for b in unit)
    assert orders[0] != orders[1]
    back = [np.argsort(place) for place in run.grid.places]
    records = run.grid.blocks.records
    assert sorted(zip(*(run.grid.places[a][X[:, a]] for a in (0, 1)), strict=True)) == sorted(
        zip(records["user"], records["item"], strict=True)
    )
    assert all(len(b) == size for b, size in zip(back, (60, 40), strict=True))


# ---- threads ----


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("nonnegative", [False, True])
def test_the_same_bits_for_any_number_of_threads(monkeypatch, need_threads, loss, nonnegative):
    monkeypatch.setattr(ratings, "BLOCK_RATINGS", 64)
    X, y = make(300, 200, 0.3, loss=loss)
    seen = set()
    for threads in (1, 2, 3, 4):
        result = factorize(
            X, y, loss=loss, rank=9, epochs=4, random_state=5, mode="blocks", threads=threads,
            validation_fraction=0.1, nonnegative=nonnegative, track_objective=True,
        )  # fmt: skip
        assert result.threads == threads
        history = [{k: v for k, v in r.items() if k != "seconds"} for r in result.history]
        parts = (result.user_factors, result.item_factors, result.user_biases, result.item_biases)
        seen.add((str(history), *(part.tobytes() for part in parts)))
    assert len(seen) == 1
    other = factorize(X, y, loss=loss, rank=9, epochs=4, random_state=6, threads=1)
    assert other.user_factors.tobytes() != result.user_factors.tobytes()


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("loss", LOSSES)
def test_the_same_bits_on_every_instruction_set(loss, dtype):
    X, y = make(loss=loss)
    before, seen = fastopt.get_isa(), set()
    try:
        for isa in fastopt.isa_available():
            fastopt.set_isa(isa)
            result = factorize(X, y, loss=loss, rank=21, epochs=3, random_state=5, dtype=dtype)
            seen.add((result.user_factors.tobytes(), result.item_factors.tobytes()))
    finally:
        fastopt.set_isa(before)
    assert len(seen) == 1


@pytest.mark.parametrize("loss", LOSSES)
def test_threads_that_do_not_wait_train_as_well(monkeypatch, need_threads, loss):
    monkeypatch.setattr(ratings, "BLOCK_RATINGS", 64)  # 18 bands: eight threads' work even for bpr
    X, y = make(400, 300, 0.3, loss=loss)
    same = {"loss": loss, "rank": 4, "epochs": 40, "track_objective": True}
    alone = [factorize(X, y, threads=1, random_state=seed, **same) for seed in range(3)]
    worst = max(one.history[-1]["objective"] for one in alone)
    for threads in (2, 8):
        found = []
        for _ in range(3):  # a machine that is busy may stop a thread in the middle of a block
            many = factorize(X, y, threads=threads, mode="shared", **same)
            assert (many.mode, many.threads) == ("shared", threads)
            assert many.ratings == alone[0].ratings
            found.append(many.history[-1]["objective"])
            if found[-1] <= 1.05 * worst:
                break
        assert min(found) <= 1.05 * worst


def test_mode_and_reason(monkeypatch, need_threads):
    X, y = make(400, 300, 0.3)
    few = factorize(X, y, epochs=1, threads=2)
    assert (few.mode, few.threads) == ("serial", 1) and "too few" in few.reason
    monkeypatch.setattr(completion, "RATINGS_PER_THREAD", 1000)
    assert factorize(X, y, epochs=1, threads=1).reason == "one thread"
    for state, mode in ((None, "shared"), (3, "blocks")):
        result = factorize(X, y, epochs=1, threads=2, random_state=state)
        assert (result.mode, result.threads) == (mode, 2) and "random_state" in result.reason
    assert factorize(X[:100], y[:100], epochs=1, threads=2, mode="shared").mode == "serial"
