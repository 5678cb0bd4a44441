"""Checkpoints of lock-free training: killed processes, other data, damaged files, full disks."""

from __future__ import annotations

import errno
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

import fastopt
from fastopt.sparse import checkpoint as module

#: Runs of `hogwild` that differ in what they carry from row to row.
RUNS = {
    "plain": {"loss": "logistic", "average": False},
    "averaged": {"loss": "hinge"},
    "l1": {"loss": "squared_hinge", "l1": 1e-3, "average": False, "track_objective": True},
    "l1, averaged": {"loss": "hinge", "l1": 1e-4, "positive": True, "schedule": "power"},
    "constant": {"loss": "hinge", "schedule": "constant", "step": 0.5, "l2": 1e-2},
    "single rows": {"loss": "hinge", "order": "shuffle"},
    "adagrad": {"loss": "logistic", "optimizer": "adagrad", "step": 0.1},
    "adam": {"loss": "hinge", "optimizer": "adam", "step": 0.01},
    "ftrl": {"loss": "logistic", "optimizer": "ftrl", "step": 0.1, "l1": 1e-3},
    "max-norm": {"loss": "hinge", "max_norm": 0.5},
    "large shrinkage": {"loss": "squared", "l2": 2.0, "step": 0.3, "mode": "serial"},
    "rows given": {"loss": "hinge", "order": lambda: np.arange(699, -1, -2)},
    "curriculum": {
        "loss": "logistic",
        "order": lambda: fastopt.Curriculum(np.arange(700) % 97, full_at=EPOCHS, stratify=PARTS),
    },
    "self-paced": {"loss": "hinge", "order": lambda: fastopt.SelfPaced(growth=1.001)},
}
#: Runs of `sdca`.
DUALS = {
    "dual hinge": {"loss": "hinge", "l2": 1e-3},
    "dual logistic": {"loss": "logistic", "l2": 1e-2, "track_objective": True},
    "dual squared": {"loss": "squared", "l2": 0.1, "fit_intercept": False, "shuffle": False},
}
PARTS = np.arange(700) % 3
#: Fits of `SGDClassifier`: several problems, the best epoch, means of all rows, adaptive steps.
FITS = {
    "three classes": {"loss": "log_loss", "tol": None},
    "best epoch": {"early_stopping": True, "n_iter_no_change": 200, "tol": 0.0},
    "mean": {"learning_rate": "constant", "average": 900, "tol": None, "penalty": "l1"},
    "adaptive": {"learning_rate": "adaptive", "eta0": 0.1, "tol": 1e-4, "n_iter_no_change": 3},
    "passive": {"learning_rate": "pa1", "eta0": 0.1, "average": True, "tol": None},
    "softmax": {"multi_class": "multinomial", "loss": "log_loss", "tol": None},
    "softmax, best epoch": {
        "multi_class": "multinomial", "loss": "log_loss", "early_stopping": True, "tol": 0.0,
        "n_iter_no_change": 200,
    },
    "one SVM": {"multi_class": "crammer_singer", "tol": None, "average": 900, "eta0": 0.1,
                "learning_rate": "constant"},
    "dual of classes": {"optimizer": "sdca", "tol": None, "alpha": 1e-2},
    "curriculum of rows": {"order": lambda: fastopt.Curriculum(PARTS, start=0.4), "tol": None,
                           "early_stopping": True},
}  # fmt: skip
EPOCHS = 1000
#: Runs that are killed, and how many times as long they are: a second or so each.
KILLED = {"l1, averaged": 20, "three classes": 20, "self-paced": 1, "one SVM": 60}


def data(seed=0, n=700, d=90):
    r = np.random.default_rng(seed)
    X = sparse.random(n, d, 0.1, "csr", np.float32, random_state=r)
    return X, X @ r.normal(size=d) + 0.1 * r.normal(size=n)


def train(name, path=None, times=1):
    """Return the bits that a run or a fit ends with, and the rows that a checkpoint brought."""
    X, score = data()
    file = {"checkpoint": path, "checkpoint_every": 0} if path else {}
    options = {**(RUNS | DUALS | FITS)[name], **file}
    if "order" in options and callable(options["order"]):
        options["order"] = options["order"]()
    if name in DUALS:
        y = score if name == "dual squared" else np.where(score > 0, 1.0, -1.0)
        # float64: of float32 nothing would change any more
        result = fastopt.sdca(X.astype("f8"), y, epochs=EPOCHS // 4, tol=0, threads=1, **options)
        return np.append(result.w, result.beta), np.array(result.intercept), result.resumed
    if name in RUNS:
        y = np.where(score > 0, 1.0, -1.0)
        options = {"epochs": EPOCHS * times, "seed": 3, "threads": 1, **options}
        result = fastopt.hogwild(X, y, **options)
        return result.w, np.array(result.intercept), result.resumed
    options = {"max_iter": EPOCHS * times // 3, "random_state": 7, **options}
    model = fastopt.SGDClassifier(**options).fit(X, np.digitize(score, [-0.3, 0.3]))
    return model.coef_, model.intercept_, model.fit_report_["resumed"]


def same(found, whole):
    np.testing.assert_array_equal(found[0], whole[0])
    np.testing.assert_array_equal(found[1], whole[1])


def finished(name, path, out, kills):
    """Train in processes that are killed at random times until one ends; return what it wrote."""
    random = np.random.default_rng(len(name))
    killed = 0
    while True:
        process = subprocess.Popen([sys.executable, __file__, name, str(path), str(out)])
        before = path.stat().st_mtime_ns if path.exists() else 0
        while killed < kills and process.poll() is None:
            if path.exists() and path.stat().st_mtime_ns != before:
                time.sleep(0.02 * random.random())
                process.kill()  # SIGKILL
                break
            time.sleep(0.001)
        assert process.wait(60) in (0, -9)
        killed += process.returncode == -9
        if process.returncode == 0:
            with np.load(out) as found:
                return [found["w"], found["b"], found["resumed"]], killed


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL there")
@pytest.mark.parametrize("name", KILLED)
def test_killed_processes(name, tmp_path):
    """Killed again and again in the middle of epochs, it ends with the bits of a whole run."""
    found, killed = finished(name, tmp_path / "run.ck", tmp_path / "out.npz", 2)
    assert killed == 2 and found[2] > 0
    same(found, train(name, times=KILLED[name]))


@pytest.mark.filterwarnings("ignore:Maximum number of iteration")
@pytest.mark.parametrize("name", [*RUNS, *DUALS, *FITS])
def test_every_state(name, tmp_path, monkeypatch):
    """A copy of the file of any moment leads to the same bits; so does the file of the end."""
    whole, path, copies, write = train(name), tmp_path / "run.ck", [], module.Checkpoint._write
    seen = 0

    def writing(self, position):
        nonlocal seen
        seen += 1
        if seen in (1, 3, 5) or position is None:
            write(self, position)
        if seen in (3, 5):
            copies.append(shutil.copy(path, tmp_path / f"{seen}.ck"))

    monkeypatch.setattr(module.Checkpoint, "_write", writing)
    monkeypatch.setattr("fastopt.sparse.runner.SLICE", 1e-4)
    monkeypatch.setattr("fastopt.slices.SLICE", 1e-3)
    same(train(name, path), whole)
    assert copies
    for copy in copies:
        found = train(name, copy)
        same(found, whole)
        assert found[2] > 0
        position = module.load_npz(tmp_path / "run.ck", module.KIND, module.VERSION)[0]["position"]
        assert position is None  # the file of the end
    same(train(name, path), whole)


def begun(tmp_path, **options):
    """A run that its callback stopped in the middle of an epoch, and its file."""
    X, score = data()
    y = np.where(score > 0, 1.0, -1.0)
    path = tmp_path / "run.ck"
    options = {"epochs": 10**6, "seed": 3, "threads": 1, "checkpoint": path, **options}
    result = fastopt.hogwild(X, y, callback=lambda p: True, **options)
    assert result.status == "stopped" and path.exists()
    return X, y, {**options, "epochs": 10**6}


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"loss": "hinge"}, "loss is 'logistic' there, 'hinge' here"),
        ({"l2": 1e-3}, "l2 is '0.0001' there, '0.001' here"),
        ({"seed": 4}, "seed is 3 there, 4 here"),
        ({"epochs": 7}, "epochs is 1000000 there, 7 here"),
        ({"w0": np.ones(90)}, "start from which training began is another"),
        ({"sample_weight": np.arange(1, 701)}, "y and weights"),
    ],
)
def test_other_settings(change, name, tmp_path):
    X, y, options = begun(tmp_path)
    before = options["checkpoint"].read_bytes()
    with pytest.raises(ValueError, match=f"of another training: {name}.*or delete the file"):
        fastopt.hogwild(X, y, **{**options, **change})
    assert options["checkpoint"].read_bytes() == before


def test_other_data(tmp_path):
    X, y, options = begun(tmp_path)
    flipped = y.copy()
    flipped[350] *= -1
    longer, more = data(n=701)
    moved = X.copy()
    moved.data[:2] = moved.data[1::-1]
    for other, labels, name in [
        (X, flipped, "y and weights"),
        (X.astype("f8"), y, "dtype of X is 'float32' there, 'float64' here"),
        (longer, np.sign(more), r"shape of X is \[700, 90\] there, \[701, 90\] here"),
        (moved, y, "values of X"),
    ]:
        with pytest.raises(ValueError, match=name):
            fastopt.hogwild(other, labels, **options)


def test_other_rows_to_judge_by(tmp_path):
    X, score = data()
    y, held = score > 0, data(seed=1, n=99)[0]
    options = {"max_iter": 5, "random_state": 1, "checkpoint": tmp_path / "run.ck"}
    fastopt.SGDClassifier(**options).fit(X, y, validation=(held, y[:99]))
    fastopt.SGDClassifier(**options).fit(X, y, validation=(held.copy(), y[:99]))
    for other in (held.toarray(), 2 * held, held[::-1]):
        with pytest.raises(ValueError, match="validation rows to judge by are others"):
            fastopt.SGDClassifier(**options).fit(X, y, validation=(other, y[:99]))


def test_wider_indices(tmp_path):
    """The same rows with other types of indices are the same rows."""
    X, y, options = begun(tmp_path)
    X.indices, X.indptr = X.indices.astype("i8"), X.indptr.astype("i8")
    assert fastopt.hogwild(X, y, **options, callback=lambda p: True).resumed > 0


def test_damaged_files(tmp_path):
    X, y, options = begun(tmp_path)
    path = options["checkpoint"]
    whole = path.read_bytes()
    random = np.random.default_rng(0)
    damaged = [whole[: len(whole) // 2], b"", b"nothing", whole + b"x" * 70_000]
    for at in random.integers(0, len(whole), 40):
        flipped = bytearray(whole)
        flipped[at] ^= 1 << random.integers(8)
        damaged.append(bytes(flipped))
    for content in damaged:
        path.write_bytes(content)
        try:
            fastopt.hogwild(X, y, callback=lambda p: True, **options)
        except ValueError as error:
            assert str(path) in str(error)
        else:  # bytes that no checksum covers, as times of zip: the arrays are whole
            assert len(content) == len(whole)
    np.savez(path, w=np.ones(3))
    with pytest.raises(ValueError, match="not a fastopt training checkpoint file"):
        fastopt.hogwild(X, y, **options)


def test_full_disk(tmp_path, monkeypatch):
    """A disk that is full later on is a warning, and the last file stays; at once, an error."""
    X, score = data()
    y = np.where(score > 0, 1.0, -1.0)
    path, calls = tmp_path / "run.ck", 0

    def full(*arguments):
        nonlocal calls
        calls += 1
        if calls > 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        save(*arguments)

    save = module.save_npz
    monkeypatch.setattr(module, "save_npz", full)
    options = {"epochs": 60, "seed": 3, "threads": 1, "checkpoint": path, "checkpoint_every": 0}
    with pytest.warns(RuntimeWarning, match="run.ck could not be written: No space left on device"):
        result = fastopt.hogwild(X, y, **options)
    assert result.status == "finished" and result.epochs == 60
    np.testing.assert_array_equal(
        fastopt.hogwild(X, y, **{**options, "checkpoint": None}).w, result.w
    )
    path.unlink()
    with pytest.raises(OSError, match="No space left"):
        fastopt.hogwild(X, y, **options)
    monkeypatch.setattr(module, "save_npz", save)
    with pytest.raises(OSError, match="No such file"):
        fastopt.hogwild(X, y, **{**options, "checkpoint": tmp_path / "no" / "run.ck"})


@pytest.mark.parametrize(("looks", "threads"), [(1, (2, 1)), (7, (1, 2)), (20, (2, 2))])
def test_rounds(looks, threads, tmp_path, monkeypatch):
    """The same bits for any number of threads, before and after a file."""
    X, score = data(n=30_000)
    y = np.where(score > 0, 1.0, -1.0)
    options = {"epochs": 8, "deterministic": True, "mode": "rounds", "l2": 1e-3, "seed": 5}
    whole = fastopt.hogwild(X, y, threads=2, **options)
    if whole.mode != "rounds":
        pytest.skip(whole.reason)
    monkeypatch.setattr("fastopt.sparse.runner.SLICE", 1e-5)
    monkeypatch.setattr("fastopt.slices.SLICE", 1e-5)
    monkeypatch.setattr("fastopt.sparse.runner.CALLBACK_EVERY", 0)
    seen, options = [], {"checkpoint": tmp_path / "run.ck", **options}
    first = fastopt.hogwild(
        X, y, threads=threads[0], **options, callback=lambda p: seen.append(p) or len(seen) >= looks
    )
    second = fastopt.hogwild(X, y, threads=threads[1], **options)
    assert first.status == "stopped" and second.status == "finished"
    assert second.resumed == first.rows > 0 and second.rows == whole.rows
    same((second.w, second.intercept), (whole.w, whole.intercept))


@pytest.mark.parametrize("mode", ["copies", "shared", "hogbatch", "rr", "aig"])
def test_lock_free(mode, tmp_path):
    """Several threads go on as well: no row twice, and no worse model."""
    X, score = data(n=20_000)
    y = np.where(score > 0, 1.0, -1.0)
    path = tmp_path / "run.ck"
    epochs = 6 if mode == "rr" else 40  # whose threads wait for each other at every row
    options = {"epochs": epochs, "threads": 2, "mode": mode, "l2": 1e-3, "track_objective": True}
    options |= {"checkpoint": path, "checkpoint_every": 0}
    whole = fastopt.hogwild(X, y, **{**options, "checkpoint": None})
    if whole.mode != mode:
        pytest.skip(whole.reason)
    seen = []
    first = fastopt.hogwild(X, y, **options, callback=lambda p: seen.append(p) or len(seen) > 1)
    if first.status != "stopped":
        pytest.skip("too fast to be stopped")
    second = fastopt.hogwild(X, y, **options)
    assert second.status == "finished" and second.rows == whole.rows == epochs * 20_000
    assert second.resumed == first.rows
    assert [h["epoch"] for h in second.history] == [*range(1, epochs + 1)]
    assert second.history[-1]["objective"] < 1.02 * whole.history[-1]["objective"]
    seconds = [record["seconds"] for record in second.history]
    assert seconds == sorted(seconds)


def test_interrupt(tmp_path):
    """Ctrl-C writes the file."""
    X, score = data()
    y = np.where(score > 0, 1.0, -1.0)
    path = tmp_path / "run.ck"

    def interrupt(progress):
        raise KeyboardInterrupt

    options = {"epochs": 10**6, "seed": 3, "threads": 1, "checkpoint": path}
    with pytest.raises(KeyboardInterrupt) as caught:
        fastopt.hogwild(X, y, callback=interrupt, **options)
    again = fastopt.hogwild(X, y, callback=lambda p: True, **options)
    assert again.resumed == caught.value.result.rows > 0


@pytest.mark.skipif(sys.platform == "win32", reason="signals differ there")
@pytest.mark.parametrize("name", ["adaptive", "best epoch", "dual logistic"])
@pytest.mark.parametrize("after", [2, 9])
def test_interrupt_as_an_epoch_ends(name, after, tmp_path, monkeypatch):
    """A Ctrl-C that comes while an epoch is trained does not let it go unjudged."""
    whole = train(name)
    where = "fastopt.sparse.dual" if name in DUALS else "fastopt.sparse.runner"
    seen = []

    def interrupted(done, seconds):
        seen.append(done)
        if len(seen) == after:
            signal.raise_signal(signal.SIGINT)
        return 1

    monkeypatch.setattr(f"{where}.next_slice", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(name, tmp_path / "run.ck")
    found = train(name, tmp_path / "run.ck")
    same(found, whole)
    assert found[2] > 0


def test_estimator_without_random_state(tmp_path):
    """The seed of the file goes on, with the rows held out; parameters that differ are refused."""
    X, score = data()
    labels = np.digitize(score, [-0.3, 0.3])
    path = tmp_path / "fit.ck"
    options = {"early_stopping": True, "checkpoint": path, "n_jobs": 1}
    model = fastopt.SGDClassifier(**options).fit(X, labels)
    again = fastopt.SGDClassifier(**options).fit(X, labels)
    np.testing.assert_array_equal(again.coef_, model.coef_)
    assert again.fit_report_["resumed"] > model.fit_report_["resumed"] == 0
    assert again.history_ == model.history_ and again.n_iter_ == model.n_iter_
    with pytest.raises(ValueError, match="n_iter_no_change is 5 there, 6 here"):
        fastopt.SGDClassifier(**options, n_iter_no_change=6).fit(X, labels)
    model.set_params(early_stopping=False).partial_fit(X, labels)  # leaves the file alone
    with pytest.raises(TypeError, match="checkpoint must be a path"):
        fastopt.SGDClassifier(checkpoint=3).fit(X, labels)
    with pytest.raises(ValueError, match="checkpoint_every must be a number"):
        fastopt.SGDRegressor(checkpoint_every=-1).fit(X, labels)


#: Fields of csrc/hogwild.h's structures that a checkpoint does not hold: a run begins with them,
#: whatever it did before, or they count for one process (watched, changed, overwritten). The
#: rows of an epoch that are given are given again.
GIVEN = {
    "fo_walk": """
        step keep gain shape user coordinate max_norm corrected intercept intercepts room paid l1
        lag positive aggressive most diverged
        """,
    "fo_worker": """
        walk v base stretch met of base_intercepts watched changed overwritten padding
        """,
    "fo_hogwild": """
        samples loss mode way schedule order workers full locks careful l2 decay rate power origin
        seed calm given earlier merge_rows numbers outputs w h h_intercept
        average forget observing worker coordinate start stop diverged padding next ticket
        more_padding
        """,
}


def test_sdca(tmp_path, monkeypatch, need_threads):
    """Two workers go on to the same bits from the middle of an epoch; other numbers are refused."""
    X, score = data(n=40_000)
    y = np.where(score > 0, 1.0, -1.0)
    options = {"l2": 1e-3, "tol": 1e-6, "threads": 2, "epochs": 60}
    whole = fastopt.sdca(X, y, **options)
    assert whole.threads == 2
    monkeypatch.setattr("fastopt.slices.SLICE", 1e-5)
    monkeypatch.setattr("fastopt.sparse.dual.CALLBACK_EVERY", 0)
    seen, options = [], {"checkpoint": tmp_path / "run.ck", **options}
    first = fastopt.sdca(X, y, callback=lambda p: seen.append(p) or len(seen) > 20, **options)
    assert first.status == "stopped" and first.rows % 40_000 != 0
    with pytest.raises(ValueError, match="workers is 2 there, 1 here"):
        fastopt.sdca(X, y, **{**options, "threads": 1})
    with pytest.raises(ValueError, match=r"tol is '1e-06' there, '0\.001' here"):
        fastopt.sdca(X, y, **{**options, "tol": 1e-3})
    with pytest.raises(ValueError, match="optimizer is 'sdca' there, 'sgd' here"):
        fastopt.hogwild(X, y, loss="hinge", l2=1e-3, epochs=60, checkpoint=options["checkpoint"])
    second = fastopt.sdca(X, y, **options)
    assert second.resumed == first.rows and second.epochs == whole.epochs
    same((second.w, second.beta), (whole.w, whole.beta))
    assert (second.gap, second.intercept) == (whole.gap, whole.intercept)
    third = fastopt.sdca(X, y, **options)  # of the end
    same((third.w, third.beta), (whole.w, whole.beta))
    assert (third.gap, third.objective, third.status) == (whole.gap, whole.objective, "finished")
    assert third.history == second.history


def test_time_budget_of_all_processes(tmp_path):
    """What earlier processes took counts."""
    X, score = data()
    y, path = np.where(score > 0, 1.0, -1.0), tmp_path / "run.ck"
    options = {"tol": 0, "epochs": 10**8, "time_budget": 0.3, "checkpoint": path}
    first = fastopt.sdca(X, y, **options)
    assert first.status == "stopped" and "time budget" in first.message
    start = time.perf_counter()
    again = fastopt.sdca(X, y, **options)
    assert again.seconds >= 0.25 and time.perf_counter() - start < 0.2
    assert first.rows == again.resumed < again.rows < 1.5 * first.rows


class Threes:
    """An order that nobody can tell from another."""

    def order(self, epoch, n):
        return np.arange(epoch % 3, n, 3)


def test_other_orders(tmp_path):
    """A file of other rows, another curriculum or an order without a name is refused."""
    X, y, options = begun(tmp_path, order=fastopt.Curriculum(PARTS, "root", start=0.5))
    others = [
        fastopt.Curriculum(PARTS, "root", start=0.6),
        fastopt.Curriculum(PARTS[::-1], "root", start=0.5),
        fastopt.Curriculum(PARTS, "root", start=0.5, stratify=PARTS),
        fastopt.Curriculum(PARTS, lambda epoch: 0.5, start=0.5),
        fastopt.SelfPaced(),
        np.arange(700),
        "shuffle",
    ]
    for order in others:
        with pytest.raises(ValueError, match='order is "Curriculum'):
            fastopt.hogwild(X, y, **{**options, "order": order})
    fastopt.hogwild(X, y, **options, callback=lambda p: True)
    with pytest.raises(ValueError, match="have a method fingerprint"):
        fastopt.hogwild(X, y, **{**options, "order": Threes()})


def test_every_field_is_saved_or_given():
    """Who adds a field to the runner must say whether a checkpoint has to hold it."""
    root = Path(fastopt.__file__).parents[1]
    if not (root / "csrc" / "hogwild.h").exists():
        pytest.skip("not in a source tree")
    header = re.sub(r"/\*.*?\*/", "", (root / "csrc" / "hogwild.h").read_text(), flags=re.DOTALL)
    kept = (root / "fastopt" / "_hogwild_state.pxi").read_text()
    for name, given in GIVEN.items():
        structure = rf"typedef struct \{{([^{{}}]*)\}} {name};|struct {name} \{{([^{{}}]*)\}};"
        body = "".join(part or "" for part in re.search(structure, header).groups())
        fields = re.findall(r"(\w+)(?:\[\w+\])?(?=[,;])", body)
        saved = {f for f in fields if re.search(rf"(run|me|walk|last)\.{f}\b", kept)}
        assert not set(fields) - saved - set(given.split()), name


if __name__ == "__main__":
    w, b, resumed = train(sys.argv[1], sys.argv[2], KILLED[sys.argv[1]])
    np.savez(sys.argv[3], w=w, b=b, resumed=resumed)
