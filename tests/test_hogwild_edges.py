"""Where steps shrink the weights at once, rows weigh nothing, or runs are cut: no wrong model."""

import ctypes
import os
import signal
import subprocess
import threading
import warnings

import numpy as np
import pytest

import fastopt

sparse = pytest.importorskip("scipy.sparse")


def rows(n=20_000, d=50, per_row=10, dtype="f4", seed=0):
    rng = np.random.default_rng(seed)
    at = np.stack([rng.choice(d, per_row, replace=False) for _ in range(n)])
    data = np.full(n * per_row, per_row**-0.5, dtype)
    X = sparse.csr_matrix((data, at.ravel(), np.arange(0, n * per_row + 1, per_row)), (n, d))
    y = np.where(X @ rng.normal(size=d) > 0, 1.0, -1.0)
    return X, y


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("how", [{"mode": "copies"}, {"mode": "shared"}, {"deterministic": True}])
def test_the_largest_step_that_several_workers_may_take(how, dtype, need_threads):
    X, y = rows(dtype=dtype)
    for schedule in ("constant", "epoch_decay"):
        same = {"loss": "hinge", "l2": 1.0, "step": 0.1, "schedule": schedule, "epochs": 3}
        alone = fastopt.hogwild(X, y, mode="serial", track_objective=True, **same)
        several = fastopt.hogwild(X, y, threads=2, track_objective=True, **how, **same)
        assert several.status == "finished" and several.threads == 2
        worst = 1.05 * alone.history[-1]["objective"]
        assert several.history[-1]["objective"] <= worst


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("schedule", ["epoch_decay", "power"])
@pytest.mark.parametrize("step", [200.0, 800.0])
def test_steps_that_shrink_the_weights_to_nothing(schedule, step, dtype):
    X, y = rows(2000, dtype=dtype)
    result = fastopt.hogwild(
        X, y, loss="hinge", l2=1.0, mode="serial", average=False, epochs=2, step=step,
        schedule=schedule,
    )  # fmt: skip
    assert result.status == "finished" and np.isfinite(result.w).all()
    if schedule == "epoch_decay":
        assert np.abs(result.w).max() <= 1  # a step is (1 - keep) / l2, at most 1 / l2


@pytest.mark.parametrize("optimizer", ["sgd", "adagrad", "adam", "ftrl"])
@pytest.mark.parametrize(("dtype", "large"), [("f4", 100.0), ("f8", 1000.0)])
def test_rows_of_weight_0_are_nothing_even_where_their_loss_overflows(optimizer, dtype, large):
    X = sparse.csr_matrix(np.array([[1, 0], [0, 1], [large, 0]], dtype))
    same = {
        "loss": "poisson", "step": 0.1, "epochs": 50, "fit_intercept": False, "threads": 1,
        "schedule": "constant", "optimizer": optimizer, "average": False, "track_objective": True,
        "order": "sequential", "l2": 0.0,
    }  # fmt: skip
    given = fastopt.hogwild(X, [3.0, 1.0, 0.0], sample_weight=[1, 1, 0], **same)
    without = fastopt.hogwild(X[:2], [3.0, 1.0], **same)
    assert given.status == "finished"
    if optimizer in ("sgd", "adagrad"):  # of the others, time passes in every row
        np.testing.assert_allclose(given.w, without.w, rtol=1e-5)
    assert np.isfinite([r["objective"] for r in given.history]).all()


def test_a_machine_skips_rows_of_weight_0_too():
    pytest.importorskip("sklearn")
    X = np.array([[1, 0], [0, 1], [1000, 0]] * 5, "f8")
    model = fastopt.FMRegressor(rank=2, random_state=0)
    model.fit(X, [3.0, 1.0, 1e300] * 5, sample_weight=[1, 1, 0] * 5)
    assert np.isfinite(model.predict(X[:2])).all()


def test_small_targets_do_not_stop_a_machine():
    pytest.importorskip("sklearn")
    rng = np.random.default_rng(0)
    X = rng.normal(size=(500, 4)).astype("f4")
    y = 1e-20 * (X[:, 0] * X[:, 1] - 2 * X[:, 2])
    model = fastopt.FMRegressor(rank=4, random_state=0).fit(X, y)
    assert np.isfinite(model.predict(X)).all()


def test_ftrl_goes_on_from_its_states(tmp_path, monkeypatch):
    monkeypatch.setattr("fastopt.sparse.runner.CALLBACK_EVERY", 0)
    X, y = rows(3000)
    same = {
        "optimizer": "ftrl", "l2": 1e-3, "epochs": 1, "step": 0.1, "threads": 1, "average": False,
    }  # fmt: skip
    whole = fastopt.hogwild(X, y, **same)
    path = tmp_path / "run.ck"
    stopped = fastopt.hogwild(X, y, checkpoint=path, callback=lambda p: True, **same)
    assert stopped.status == "stopped"
    result = fastopt.hogwild(X, y, checkpoint=path, **same)
    assert result.status == "finished" and result.w.tobytes() == whole.w.tobytes()
    pytest.importorskip("sklearn")
    model = fastopt.SGDClassifier(
        optimizer="ftrl", alpha=1e-3, warm_start=True, order=fastopt.SelfPaced(), max_iter=3,
        tol=None, random_state=0,
    )  # fmt: skip
    assert model.fit(X, y).fit(X, y).score(X, y) > 0.8


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="needs signals")
@pytest.mark.slow
def test_ctrl_c_inside_a_slice_loses_and_repeats_nothing(tmp_path):
    X, y = rows(200_000, 50, 10)
    same = {"epochs": 40, "threads": 1, "step": 0.1, "seed": 3}
    whole = fastopt.hogwild(X, y, **same)
    for part in (0.2, 0.5, 0.8):
        path = tmp_path / f"{part}.ck"
        main = threading.main_thread().ident
        timer = threading.Timer(part * whole.seconds, signal.pthread_kill, (main, signal.SIGINT))
        timer.start()
        try:
            with pytest.raises(KeyboardInterrupt):
                fastopt.hogwild(X, y, checkpoint=path, **same)
        finally:
            timer.cancel()
        result = fastopt.hogwild(X, y, checkpoint=path, **same)
        assert result.rows == whole.rows and result.w.tobytes() == whole.w.tobytes()


def test_columns_that_come_twice_are_not_somebody_elses_writes():
    rng = np.random.default_rng(0)
    columns = np.repeat(rng.integers(0, 100_000, 40_000), 2)
    X = fastopt.CSR(np.ones(80_000, "f4"), columns, np.arange(0, 80_001, 2), (40_000, 100_000))
    y = np.where(rng.random(40_000) < 0.5, 1, -1)
    result = fastopt.hogwild(X, y, mode="shared", threads=2, epochs=3, step=0.1)
    if result.threads > 1:
        assert result.conflicts["changed"] < 0.1


@pytest.mark.parametrize("polish", ["lbfgs", "newton"])
def test_a_loss_of_ones_own_that_leaves_a_derivative_of_0_unwritten(tmp_path, polish):
    source, library = tmp_path / "loss.c", tmp_path / "loss.so"
    source.write_text(
        "double h(double p, double y, double *d) { double m = 1 - y * p; if (m <= 0) return 0;"
        "*d = -2 * y * m; return m * m; }"
    )
    try:
        command = ["gcc", "-shared", "-fPIC", "-O2", os.fspath(source), "-o", os.fspath(library)]
        subprocess.run(command, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no gcc here")
    h = ctypes.CDLL(os.fspath(library)).h
    h.restype, h.argtypes = ctypes.c_double, [
        ctypes.c_double, ctypes.c_double, ctypes.POINTER(ctypes.c_double)
    ]  # fmt: skip
    X, y = rows(2000, dtype="f8")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        own = fastopt.hogwild(X, y, loss=h, l2=1e-2, polish=polish)
        built_in = fastopt.hogwild(X, y, loss="squared_hinge", l2=1e-2, polish=polish)
    assert own.message.startswith("polished: the objective is within")
    assert own.history[-1]["objective"] == pytest.approx(built_in.history[-1]["objective"], 2e-6)


def test_labels_that_are_not_aligned():
    y = np.zeros(8 * 5 + 1, "u1")[1:].view("i8")
    scores = np.arange(10.0).reshape(5, 2)
    found = fastopt.losses.softmax_cross_entropy(scores, y)
    expected = fastopt.losses.softmax_cross_entropy(scores, y.copy())
    assert found[0] == expected[0]


def test_the_average_where_rows_contradict_each_other_and_the_last_weights_where_it_lags():
    rng = np.random.default_rng(0)
    X = sparse.random(4000, 40, 0.3, format="csr", random_state=0)
    truth = X @ rng.normal(size=40)
    clear = np.where(truth > 0, 1.0, -1.0)
    noisy = np.where(rng.random(4000) < 0.3, -clear, clear)

    def value(y, result):
        losses = np.logaddexp(0, -y * (X @ result.w + result.intercept))
        return losses.mean() + 1e-5 * result.w @ result.w

    def trained(y, **how):
        return fastopt.hogwild(X, y, l2=2e-5, threads=1, **how)

    both = [trained(clear, epochs=1, step=1e-3, average=average) for average in (True, False)]
    np.testing.assert_array_equal(both[0].w, both[1].w)
    assert both[0].intercept == both[1].intercept
    mean, last = (trained(noisy, epochs=3, step=1.0, average=average) for average in (True, False))
    assert value(noisy, mean) < value(noisy, last) - 0.01
