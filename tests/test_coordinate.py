"""Rules with a learning rate for each column in the runner: against their formulas, the library's
own dense rules, torch and each other."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

import fastopt
from fastopt.sparse import coordinate, runner
from fastopt.sparse.checkpoint import Checkpoint, Position
from fastopt.sparse.rows import Rows, Settings, Targets
from fastopt.sparse.run import Past, Run
from fastopt.sparse.runner import solve

sparse = pytest.importorskip("scipy.sparse")
RULES = ("adagrad", "adam", "ftrl")
B1, B2 = 0.9, 0.999


def make(n=300, d=40, seed=0, dtype="f8", index="i4"):
    """Rows of which some are empty, with columns that are frequent, rare and never there."""
    r = np.random.default_rng(seed)
    dense = r.normal(size=(n, d)) * (r.random((n, d)) < np.geomspace(0.8, 0.005, d))
    dense[r.random(n) < 0.1] = 0
    dense[:, -1] = 0
    X = sparse.csr_matrix(dense.astype(dtype))
    X.indices = X.indices.astype(index)
    y = np.where(dense @ r.normal(size=d) + 0.2 * r.normal(size=n) > 0, 1.0, -1.0)
    return X, y, dense.astype(dtype).astype("f8")


def derivative(loss, p, y):
    return p - y if loss == "squared" else -y / (1 + np.exp(y * p))


def reference(rule, dense, y, loss, l2, l1, step, epochs, w0=0.0, b0=0.0, steps=None):
    """Train as the formulas say, all columns at every row; returns w and b."""
    n, d = dense.shape
    w, b = np.full(d, float(w0)), float(b0)
    first, second, own = np.zeros(d), np.zeros(d), np.zeros(2)
    if rule == "ftrl":
        first[:], own[0] = -w / step, -b / step  # beta = 1

    def move(x, g, m, v, t, lr, l1t, l2t):
        if rule == "adagrad":
            m = m + g * g
            return x - lr * g / (np.sqrt(m) + 1e-10), m, v
        if rule == "adam":
            m, v = B1 * m + (1 - B1) * g, B2 * v + (1 - B2) * g * g
            return x - lr * (m / (1 - B1**t)) / (np.sqrt(v / (1 - B2**t)) + 1e-8), m, v
        sigma = (np.sqrt(v + g * g) - np.sqrt(v)) / lr
        m, v = m + g - sigma * x, v + g * g
        return of_ftrl(m, v, lr, l1t, l2t), m, v

    t = 0
    for epoch in range(epochs):
        for i in range(n):
            t += 1
            lr = step if steps is None else steps(epoch, i)
            if rule == "ftrl":
                w = of_ftrl(first, second, lr, l1 * t, l2 * t) if t > 1 or l1 or l2 else w
            else:
                square, eps = (first, 1e-10) if rule == "adagrad" else (second, 1e-8)
                known = square > 0
                w[known] *= np.exp(-l2 * lr / (np.sqrt(square[known]) + eps))
            g = derivative(loss, dense[i] @ w + b, y[i])
            at = np.flatnonzero(dense[i])
            w[at], first[at], second[at] = move(
                w[at], g * dense[i, at], first[at], second[at], t, lr, l1 * t, l2 * t
            )
            b, own[0], own[1] = move(b, g, own[0], own[1], t, lr, 0.0, 0.0)
    if rule == "ftrl":
        w = of_ftrl(first, second, lr, l1 * t, l2 * t)
    return w, b


def of_ftrl(z, n, alpha, l1, l2):
    """Return the weights of Algorithm 1 (McMahan et al., 2013)."""
    x = -(z - np.sign(z) * l1) / ((1 + np.sqrt(n)) / alpha + l2)
    return np.where(np.abs(z) <= l1, 0.0, x)


def in_order(X, y, w0=None, intercept0=0.0, past=None, **settings):
    """Train on the rows in their order; `hogwild` permutes them."""
    given = {
        "loss": "logistic", "l2": 0.0, "epochs": 2, "step": 0.1, "schedule": None, "decay": 0.9,
        "mode": "serial", "fit_intercept": True, "average": False, "threads": 1, "seed": 0,
        "shuffle": False, **settings,
    }  # fmt: skip
    rows = Rows(X, Settings.check(**given))
    target = Targets(rows, y=np.asarray(y, rows.dtype))
    w = np.zeros(X.shape[1], rows.dtype) if w0 is None else np.full(X.shape[1], w0, rows.dtype)
    return solve(rows, target, w, intercept0, past=past)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("loss", ["squared", "logistic"])
@pytest.mark.parametrize(
    ("dtype", "index", "close"), [("f8", "i4", 1e-9), ("f8", "i8", 1e-9), ("f4", "i4", 2e-3)]
)
@pytest.mark.parametrize("l2", [0.0, 0.01, 2.0])
def test_one_thread_is_the_formula(rule, loss, dtype, index, close, l2):
    l1 = 0.02 if l2 == 0.01 and rule == "ftrl" else 0.0
    X, y, dense = make(dtype=dtype, index=index)
    result = in_order(X, y, optimizer=rule, loss=loss, l2=l2, l1=l1)
    w, b = reference(rule, dense, y, loss, l2, l1, 0.1, 2)
    np.testing.assert_allclose(result.w, w, rtol=close, atol=close)
    assert result.intercept == pytest.approx(b, rel=close, abs=close)
    if l1:
        assert 2 < (result.w == 0).sum() < len(w)
        np.testing.assert_array_equal(result.w == 0, w == 0)


@pytest.mark.parametrize("rule", RULES)
def test_rows_longer_than_what_is_brought_together(rule):
    r = np.random.default_rng(0)
    dense = r.normal(size=(50, 300)) * (r.random((50, 300)) < 0.6)
    X, y = sparse.csr_matrix(dense), np.sign(r.normal(size=50))
    w, b = reference(rule, dense, y, "logistic", 0.01, 0.0, 0.1, 3)
    result = in_order(X, y, optimizer=rule, l2=0.01, epochs=3)
    np.testing.assert_allclose(result.w, w, rtol=1e-9, atol=1e-12)
    assert result.intercept == pytest.approx(b, rel=1e-9)


@pytest.mark.parametrize("rule", RULES)
def test_start_is_kept(rule):
    X, y, dense = make()
    w, b = reference(rule, dense, y, "logistic", 0.001, 0.0, 0.1, 1, w0=0.3, b0=-0.2)
    result = in_order(X, y, 0.3, -0.2, optimizer=rule, l2=0.001, epochs=1)
    np.testing.assert_allclose(result.w, w, rtol=1e-9, atol=1e-12)
    assert result.intercept == pytest.approx(b, rel=1e-9)


@pytest.mark.parametrize("rule", ["adagrad", "adam"])
def test_schedules(rule):
    X, y, dense = make()
    w, _ = reference(rule, dense, y, "logistic", 0.05, 0.0, 0.1, 3, steps=lambda e, i: 0.1 * 0.5**e)
    given = {"schedule": "epoch_decay", "decay": 0.5, "l2": 0.05, "epochs": 3}
    np.testing.assert_allclose(in_order(X, y, optimizer=rule, **given).w, w, rtol=0.02, atol=1e-3)
    with pytest.raises(ValueError, match=r"ftrl.*needs a constant step"):
        in_order(X, y, optimizer="ftrl", **given)


@pytest.mark.parametrize("rule", ["adagrad", "ftrl"])
def test_dense_rules_on_rows_do_the_same(rule):
    X, y, dense = make()
    w = np.zeros(dense.shape[1] + 1)  # the last one is the intercept
    dense = np.column_stack([dense, np.ones(len(dense))])
    opt = fastopt.Adagrad(w, lr=0.1) if rule == "adagrad" else fastopt.FTRL(w, lr=0.1)
    for _ in range(2):
        for x, target in zip(dense, y, strict=True):
            opt.step(derivative("logistic", x @ w, target) * x)
    result = in_order(X, y, optimizer=rule)
    np.testing.assert_allclose([*result.w, result.intercept], w, rtol=1e-11, atol=1e-14)


def test_adam_is_torchs_sparse_adam():
    torch = pytest.importorskip("torch")
    X, y, dense = make(n=100, d=12)
    w = torch.nn.Parameter(torch.zeros(12, 1, dtype=torch.float64))
    opt = torch.optim.SparseAdam([w], lr=0.1)
    for t, (x, target) in enumerate(zip(dense, y, strict=True), 1):
        # torch adds eps before it corrects the root.
        opt.param_groups[0]["eps"] = 1e-8 * (1 - B2**t) ** 0.5
        g = derivative("logistic", float(x @ w.detach().numpy()[:, 0]), target)
        at = np.flatnonzero(x)
        w.grad = torch.sparse_coo_tensor(
            at[None], g * x[at][:, None], (12, 1), check_invariants=True
        )
        opt.step()
    result = in_order(X, y, optimizer="adam", fit_intercept=False, epochs=1)
    np.testing.assert_allclose(result.w, w.detach().numpy()[:, 0], rtol=1e-9, atol=1e-12)


def test_columns_that_come_twice_have_two_turns():
    X, y, _ = make(n=30)
    twice = sparse.csr_matrix(
        (np.repeat(X.data, 2), np.repeat(X.indices, 2), 2 * X.indptr), X.shape
    )
    w, total = np.zeros(X.shape[1]), np.zeros(X.shape[1])
    for i in range(30):
        g = derivative("logistic", 2 * (X[i] @ w)[0], y[i])
        for j, x in zip(X[i].indices, X[i].data, strict=True):
            for _ in range(2):
                total[j] += (g * x) ** 2
                w[j] -= 0.1 * g * x / (np.sqrt(total[j]) + 1e-10)
    result = in_order(twice, y, optimizer="adagrad", fit_intercept=False, epochs=1)
    np.testing.assert_allclose(result.w, w, rtol=1e-9)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("average", [False, True])
def test_one_thread_gives_the_same_bits(rule, average):
    X, y, _ = make(n=3000)
    given = {"optimizer": rule, "threads": 1, "epochs": 3, "l2": 1e-3, "average": average}
    one, two = (fastopt.hogwild(X, y, seed=3, **given) for _ in range(2))
    looked_at = fastopt.hogwild(X, y, seed=3, track_objective=True, **given)
    other = fastopt.hogwild(X, y, seed=4, step=one.step, **given)
    np.testing.assert_array_equal(one.w, two.w)
    np.testing.assert_array_equal(one.w, looked_at.w)
    assert one.intercept == two.intercept == looked_at.intercept
    assert (one.w != other.w).any()
    assert one.mode == "serial" and one.reason


@pytest.mark.parametrize("rule", RULES)
def test_near_the_optimum(rule):
    linear_model = pytest.importorskip("sklearn.linear_model")
    X, y, _ = make(n=4000)
    l2 = 1e-2
    model = linear_model.LogisticRegression(C=1 / (l2 * len(y)), tol=1e-10, max_iter=1000)
    model.fit(X, y)
    from fastopt.sparse.evaluation import objective

    best = objective(X, y, model.coef_[0], model.intercept_[0], l2=l2)
    result = fastopt.hogwild(
        X, y, l2=l2, optimizer=rule, threads=1, epochs=60, track_objective=True,
        schedule=None if rule == "ftrl" else "power",
    )  # fmt: skip
    assert best < result.history[-1]["objective"] < 1.01 * best


@pytest.mark.parametrize("rule", RULES)
def test_two_threads_learn_as_well(rule, need_threads):
    X, y, _ = make(n=6000, d=300)
    given = {"optimizer": rule, "l2": 1e-3, "epochs": 10, "step": 0.1, "track_objective": True}
    alone = fastopt.hogwild(X, y, threads=1, **given)
    both = fastopt.hogwild(X, y, threads=2, mode="shared", **given)
    assert both.mode == "shared"
    auto = fastopt.hogwild(X, y, threads=2, **given)
    assert (auto.mode, auto.threads) == ("serial", 1) and "ask for mode 'shared'" in auto.reason
    assert both.history[-1]["objective"] < 1.05 * alone.history[-1]["objective"]


@pytest.mark.parametrize("threads", [1, 2])
def test_ftrl_makes_exact_zeros(threads):
    X, y, _ = make(n=6000, d=300)
    given = {"l1": 1e-2, "l2": 0.0, "average": False, "epochs": 20, "track_objective": True}
    result = fastopt.hogwild(
        X, y, optimizer="ftrl", threads=threads, mode="shared" if threads > 1 else "auto", **given
    )
    sgd = fastopt.hogwild(X, y, threads=1, **given)
    assert 0.3 < (result.w == 0).mean() < 1
    assert result.history[-1]["objective"] < 1.02 * sgd.history[-1]["objective"]


@pytest.mark.parametrize("rule", RULES)
def test_runs_go_on_where_they_ended(rule):
    X, y, _ = make()
    once = in_order(X, y, optimizer=rule, l2=0.01, epochs=2)
    first = in_order(X, y, optimizer=rule, l2=0.01, epochs=1)
    kept = first.past.states.first.copy()
    # The same rows again, from the weights and the states of the first run.
    rows = Rows(X, Settings.check(
        loss="logistic", l2=0.01, epochs=1, step=0.1, schedule=None, decay=0.9, mode="serial",
        fit_intercept=True, average=False, threads=1, seed=0, shuffle=False, optimizer=rule,
    ))  # fmt: skip
    again = solve(rows, Targets(rows, y=y), first.w.copy(), first.intercept, past=first.past)
    np.testing.assert_allclose(again.w, once.w, rtol=1e-12, atol=1e-15)
    assert again.intercept == pytest.approx(once.intercept, rel=1e-12)
    np.testing.assert_array_equal(first.past.states.first, kept)
    assert again.past.states.t == 2 * len(y)
    fresh = solve(rows, Targets(rows, y=y), first.w.copy(), first.intercept, past=Past(300.0))
    assert np.abs(fresh.w - once.w).max() > 1e-3


def test_another_step_keeps_the_weights_of_ftrl():
    X, y, _ = make()
    first = in_order(X, y, optimizer="ftrl", l2=0.01, l1=0.001, epochs=1)
    settings = Settings.check(
        loss="logistic", l2=0.01, l1=0.001, epochs=0, step=0.3, schedule=None, decay=0.9,
        mode="serial", fit_intercept=True, average=False, threads=1, seed=0, optimizer="ftrl",
    )  # fmt: skip
    states = coordinate.begin(first.past.states, settings, 0.3, first.w, first.intercept)
    t = states.t
    w = of_ftrl(states.first, states.second, 0.3, 0.001 * t, 0.01 * t)
    np.testing.assert_allclose(w, first.w, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"optimizer": "adagrad", "l1": 0.1}, "l1 needs optimizer 'sgd' or 'ftrl', got 'adagrad'"),
        ({"optimizer": "adam", "positive": True}, "positive needs optimizer 'sgd', got 'adam'"),
        ({"optimizer": "ftrl", "mode": "copies"}, "mode 'copies' needs optimizer 'sgd'"),
        ({"optimizer": "ftrl", "schedule": "power"}, "needs a constant step"),
        ({"optimizer": "rmsprop"}, "optimizer must be one of 'sgd', 'adagrad', 'adam', 'ftrl'"),
    ],
)
def test_what_a_rule_cannot_do_is_refused(given, message):
    X, y, _ = make(n=10)
    with pytest.raises(ValueError, match=message):
        fastopt.hogwild(X, y, **given)


@pytest.mark.parametrize("rule", RULES)
def test_sample_weights_and_rows_of_weight_0(rule):
    X, y, _ = make()
    weight = np.repeat([1.0, 0.0], 150)
    half = in_order(X[:150], y[:150], optimizer=rule, epochs=1)
    result = fastopt.hogwild(
        X, y, optimizer=rule, epochs=3, step=0.1, threads=1, sample_weight=np.ones(300)
    )
    plain = fastopt.hogwild(X, y, optimizer=rule, epochs=3, step=0.1, threads=1)
    np.testing.assert_array_equal(result.w, plain.w)
    rows = Rows(X, Settings.check(
        loss="logistic", l2=0.0, epochs=1, step=0.1, schedule=None, decay=0.9, mode="serial",
        fit_intercept=True, average=False, threads=1, seed=0, shuffle=False, optimizer=rule,
        relative=False,
    ), weight)  # fmt: skip
    seen = solve(rows, Targets(rows, y=y), np.zeros(X.shape[1]), 0.0)
    np.testing.assert_allclose(seen.w, half.w, rtol=1e-12)


@pytest.mark.parametrize("given", [*({"optimizer": rule} for rule in RULES), {"max_norm": 0.5}])
@pytest.mark.parametrize("average", [False, True])
def test_checkpoints_go_on_to_the_same_bits(given, average, tmp_path):
    X, y, _ = make(n=3000, d=200)
    given = {"threads": 1, "epochs": 6, "l2": 1e-3, "step": 0.1, "average": average, **given}
    whole = fastopt.hogwild(X, y, **given)
    file = tmp_path / "training"
    # A callback that stops at once leaves a checkpoint somewhere in the middle.
    rows = Rows(X, Settings.check(
        loss="logistic", schedule=None, decay=0.9, mode="auto", fit_intercept=True, seed=0,
        **{k: v for k, v in given.items()},
    ))  # fmt: skip
    kept = Checkpoint(file, 1000)
    w = np.zeros(200)
    kept.begin(rows, [Targets(rows, y=y)], w[None], np.zeros(1), runner.HogwildResult)
    target = Targets(rows, y=y)
    target.give(rows.samples)
    run = Run(rows, target.order(), 0.1, w.copy(), 0.0, Past())
    run.advance(15, 10**6)  # two epochs and a half
    kept.save(Position.of(run, [], 0.0, None, None))
    resumed = fastopt.hogwild(X, y, checkpoint=file, **given)
    assert 0 < resumed.resumed < resumed.rows == 18_000
    np.testing.assert_array_equal(resumed.w, whole.w)
    assert resumed.intercept == whole.intercept


def test_estimators_keep_the_states():
    estimators = pytest.importorskip("fastopt.estimators")
    X, y, _ = make(n=600)
    codes = np.where(X[:, 0].toarray()[:, 0] > 0.5, 2, y > 0).astype(int)
    for rule in RULES:
        model = estimators.SGDClassifier("log_loss", optimizer=rule, random_state=0, alpha=1e-3)
        model.partial_fit(X, codes, classes=[0, 1, 2])
        assert [s.t for s in model._states] == [600] * 3
        other = pickle.loads(pickle.dumps(model))
        for one in (model, other):
            one.partial_fit(X, codes)
        np.testing.assert_array_equal(model.coef_, other.coef_)
        assert [s.t for s in model._states] == [1200] * 3
        assert model.score(X, codes) > 0.8
    for rule in RULES:
        model = estimators.SGDRegressor(
            optimizer=rule, learning_rate="constant", eta0=0.05, random_state=0, max_iter=2,
            tol=None, warm_start=True,
        )  # fmt: skip
        model.fit(X, y)
        assert model._states[0].t == 1200
        first = model.coef_.copy()
        model.fit(X, y)
        assert model._states[0].t == 2400 and (model.coef_ != first).any()
        model.set_params(warm_start=False).fit(X, y)
        np.testing.assert_array_equal(model.coef_, first)
    sparse_model = estimators.SGDClassifier(
        "log_loss", optimizer="ftrl", penalty="l1", alpha=1e-2, random_state=0
    ).fit(X, y)
    assert 0 < (sparse_model.coef_ == 0).sum() < X.shape[1]


def test_what_estimators_refuse():
    estimators = pytest.importorskip("fastopt.estimators")
    X, y, _ = make(n=50)
    for bad, message in (
        ({"optimizer": "rmsprop"}, "optimizer must be one of 'sgd', 'sdca', 'adagrad'"),
        ({"optimizer": "adagrad", "penalty": "l1"}, "l1 needs optimizer 'sgd' or 'ftrl'"),
        ({"optimizer": "adam", "positive": True}, "positive needs optimizer 'sgd'"),
        ({"optimizer": "adam", "learning_rate": "pa1"}, "learning_rate 'pa1' needs"),
        ({"optimizer": "ftrl", "learning_rate": "adaptive"}, "needs a constant step"),
    ):
        with pytest.raises(ValueError, match=message):
            estimators.SGDClassifier(**bad).fit(X, y)


def test_user_losses():
    numba = pytest.importorskip("numba")

    @numba.cfunc("float64(float64, float64, CPointer(float64))")
    def squared(p, y, derivative):
        derivative[0] = p - y
        return (p - y) * (p - y) / 2

    X, y, _ = make()
    for rule in RULES:
        one, two = (in_order(X, y, optimizer=rule, loss=loss) for loss in ("squared", squared))
        np.testing.assert_array_equal(one.w, two.w)
