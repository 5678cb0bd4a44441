"""States are matched by name, strictly; files are all or nothing; training resumes bit for bit."""

import os
import subprocess
import sys
import time

import numpy as np
import pytest

import fastopt
from fastopt import schedules


def make(cls=fastopt.Adam, dtype="float32", **options):
    params = {"W": np.full((3, 4), 0.5, dtype), "b": np.zeros(4, dtype)}
    return params, cls(params, lr=0.1, **options)


def grads(k, dtype="float32"):
    rng = np.random.default_rng(k)
    return {
        "W": rng.standard_normal((3, 4)).astype(dtype),
        "b": rng.standard_normal(4).astype(dtype),
    }


CLASSES = [
    (fastopt.SGD, {}),
    (fastopt.SGD, {"momentum": 0.9, "dampening": 0.5}),
    (fastopt.Adagrad, {"lr_decay": 0.1}),
    (fastopt.RMSprop, {}),
    (fastopt.Adam, {}),
    (fastopt.AdamW, {"weight_decay": 0.1}),
]


@pytest.mark.parametrize("through", ["dict", "file"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("cls", "options"), CLASSES)
def test_resumed_training_is_bit_identical(tmp_path, cls, options, dtype, through):
    params, opt = make(cls, dtype, **options)
    for k in range(3):
        opt.step(grads(k, dtype))
    if through == "file":
        opt.save(tmp_path / "opt.npz")
    state = opt.state_dict()
    kept = {name: a.copy() for name, a in params.items()}
    for k in range(3, 6):
        opt.step(grads(k, dtype))
    again, other = make(cls, dtype, **options)
    for name, a in again.items():
        a[...] = kept[name]
    if through == "file":
        other.load(tmp_path / "opt.npz")
    else:
        other.load_state_dict(state)
    assert other.t == 3
    for k in range(3, 6):
        other.step(grads(k, dtype))
    for name in params:
        assert params[name].tobytes() == again[name].tobytes()


def test_state_dict_is_a_copy_and_says_what_it_holds():
    _, opt = make(weight_decay=0.1)
    opt.step(grads(0))
    state = opt.state_dict()
    before = state["state"]["W"]["exp_avg"].copy()
    opt.step(grads(1))
    assert (state["state"]["W"]["exp_avg"] == before).all()
    assert state["t"] == 1 and state["optimizer"] == "Adam"
    assert set(state["state"]["W"]) == {"exp_avg", "exp_avg_sq"}
    assert state["state"]["W"]["exp_avg"].dtype == np.float32
    assert state["param_groups"][0]["params"] == ["W", "b"]
    assert state["param_groups"][0]["weight_decay"] == 0.1


def test_hyper_parameters_are_taken_over():
    _, opt = make()
    opt.param_groups[0]["lr"] = 0.007
    opt.param_groups[0]["betas"] = (0.5, 0.6)
    _, other = make()
    other.load_state_dict(opt.state_dict())
    assert other.param_groups[0]["lr"] == 0.007 and other.param_groups[0]["betas"] == (0.5, 0.6)


def changed(state, /, **changes):
    return {**state, **changes}


def test_every_difference_is_listed_and_nothing_changes():
    _, opt = make()
    opt.step(grads(0))
    good = opt.state_dict()
    small = np.zeros(2, "float32")
    w_state = good["state"]["W"]
    group = good["param_groups"][0]
    cases = [
        ({}, "it has no 'format'"),
        (changed(good, format="x/9"), "format is 'x/9'"),
        (
            changed(good, optimizer="SGD", rule="sgd"),
            "optimizer is 'SGD', here 'Adam'; rule is 'sgd', here 'adam'",
        ),
        (changed(good, t=-1), "t must be an integer >= 0, got -1"),
        (changed(good, t=1.5), "t must be"),
        (changed(good, param_groups=[]), "it has 0 groups, here 1"),
        (
            changed(good, param_groups=[{**group, "params": ["b", "W"]}]),
            r"group 0 has parameters \['b', 'W'\], here \['W', 'b'\]",
        ),
        (changed(good, param_groups=[{**group, "zeta": 1}]), "unknown hyper-parameter 'zeta'"),
        (
            changed(good, param_groups=[{k: v for k, v in group.items() if k != "eps"}]),
            "group 0 has no 'eps'",
        ),
        (changed(good, param_groups=[{**group, "lr": -1.0}]), "lr must be"),
        (changed(good, param_groups=[{**group, "lr": {"schedule": "x"}}]), "a schedule is not"),
        (changed(good, state={"W": w_state}), "state of 'b' is missing"),
        (changed(good, state={**good["state"], "x": {}}), "state of 'x' is for a parameter"),
        (
            changed(good, state={**good["state"], "W": {**w_state, "exp_avg": small}}),
            r"'exp_avg' of 'W' is float32\[2\], here float32\[3, 4\]",
        ),
        (
            changed(
                good,
                state={
                    **good["state"],
                    "W": {**w_state, "exp_avg": w_state["exp_avg"].astype("float64")},
                },
            ),
            r"'exp_avg' of 'W' is float64\[3, 4\], here float32",
        ),
        (
            changed(good, state={**good["state"], "W": {"exp_avg": w_state["exp_avg"]}}),
            "'exp_avg_sq' of 'W' is missing",
        ),
    ]
    for state, match in cases:
        with pytest.raises(ValueError, match=match):
            opt.load_state_dict(state)
        now = opt.state_dict()
        assert now["t"] == 1 and now["param_groups"] == good["param_groups"]
        for name, arrays in good["state"].items():
            for key, array in arrays.items():
                assert (now["state"][name][key] == array).all()


def test_a_schedule_that_fails_while_loading_changes_nothing():
    """Groups are taken over with the arrays, without asking schedules anything."""
    calls = []

    def lr(t):
        calls.append(t)
        return 0.1

    opt = fastopt.Adam({"w": np.zeros(2)}, lr=lr)
    opt.step(np.ones(2))
    saved = opt.state_dict()
    opt.step(np.ones(2))
    calls.clear()
    opt.load_state_dict(saved)
    assert opt.t == 1 and set(calls) <= {0, 1}


@pytest.mark.parametrize(
    "broken", [{"state": [1]}, {"param_groups": 5}, {"state": {"w": 3}}, {"param_groups": [1]}]
)
def test_parts_of_the_wrong_kind_are_refused(broken):
    opt = fastopt.Adam({"w": np.zeros(2)})
    with pytest.raises(ValueError, match="param_groups must be a list of mappings"):
        opt.load_state_dict(opt.state_dict() | broken)


def test_schedules_stay_the_live_ones():
    _, opt = make()
    opt.param_groups[0]["lr"] = schedules.exponential(0.1, 0.5)
    opt.step(grads(0))
    state = opt.state_dict()
    _, constant = make()
    with pytest.raises(ValueError, match="a schedule is not stored"):
        constant.load_state_dict(state)
    _, other = make()
    other.param_groups[0]["lr"] = schedules.exponential(0.1, 0.5)
    other.load_state_dict(state)
    assert other.step(grads(1)).lr == 0.05


def test_a_truncated_file_is_refused(tmp_path):
    _, opt = make()
    opt.step(grads(0))
    path = tmp_path / "opt.npz"
    opt.save(path)
    whole = path.read_bytes()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        with pytest.raises(ValueError, match="not a complete optimizer file"):
            opt.load(path)
    path.write_bytes(whole)
    opt.load(path)
    np.savez(path, x=np.zeros(3))
    with pytest.raises(ValueError, match="not a complete optimizer file"):
        opt.load(path)
    with pytest.raises(FileNotFoundError):
        opt.load(tmp_path / "none.npz")


def test_a_failed_save_keeps_the_old_file(tmp_path, monkeypatch):
    _, opt = make()
    path = tmp_path / "opt.npz"
    opt.save(path)
    old = path.read_bytes()

    def full(*args, **kwargs):
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="disk full"):
        opt.save(path)
    assert path.read_bytes() == old and os.listdir(tmp_path) == ["opt.npz"]


def test_names_may_be_any_text(tmp_path):
    w = {"a/b": np.zeros(2), "../x y": np.zeros(2), "ü": np.zeros(2)}
    opt = fastopt.Adam(w)
    opt.step({name: np.ones(2) for name in w})
    opt.save(tmp_path / "opt.npz")
    other = fastopt.Adam({name: np.zeros(2) for name in w})
    other.load(tmp_path / "opt.npz")
    assert (other.state["ü"]["exp_avg"] == opt.state["ü"]["exp_avg"]).all()


@pytest.mark.parametrize("file", ["s", "s.safetensors"])
def test_a_process_killed_while_it_saves_leaves_a_whole_file(tmp_path, file):
    """Killed at random moments, over and over: the file is always one that was saved whole."""
    if file.endswith("safetensors"):
        pytest.importorskip("safetensors")
    code = f"""
import numpy as np, fastopt
w = np.zeros(50_000)
opt = fastopt.Adam({{"w": w}})
while True:
    opt.step({{"w": np.full(50_000, float(opt.t))}})
    opt.save({str(tmp_path / file)!r})
    print(opt.t, flush=True)
"""
    rng = np.random.default_rng(0)
    last = 0
    for _ in range(8):
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        try:
            process.stdout.readline()  # it has saved once
            time.sleep(rng.random() * 0.05)
        finally:
            process.kill()
            rest, _ = process.communicate()
        last = max([1, *map(int, rest.split()[-1:])])
        opt = fastopt.Adam({"w": np.zeros(50_000)})
        opt.load(tmp_path / file)
        assert opt.t >= last
        m = 0.0
        for t in range(opt.t):
            m = 0.9 * m + 0.1 * t
        np.testing.assert_allclose(opt.state["w"]["exp_avg"], m, rtol=1e-10, atol=1e-12)
