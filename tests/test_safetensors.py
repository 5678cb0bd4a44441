"""State files as safetensors: what npz keeps, in a form that others read; whole, or refused."""

import json
import os
import pickle

import numpy as np
import pytest

import fastopt

safetensors = pytest.importorskip("safetensors")
from safetensors.numpy import load_file, save_file  # noqa: E402

CASES = [
    (fastopt.SGD, {}, "float32"),
    (fastopt.SGD, {"momentum": 0.9, "nesterov": "lookahead"}, "float64"),
    (fastopt.Adam, {"amsgrad": True, "ema": 0.9, "accumulate": 3}, "float64"),
    (fastopt.Adam, {"state_dtype": "bfloat16"}, "float32"),
    (fastopt.AdamW, {"state_dtype": "8bit", "weight_decay": 0.1}, "float32"),
    (fastopt.Adam, {"rounding": "kahan"}, "float16"),
    (fastopt.Adam, {"rounding": "master", "state_dtype": "8bit"}, "bfloat16"),
    (fastopt.Rprop, {}, "float32"),
    (fastopt.ScheduleFreeAdamW, {}, "float64"),
]


def make(cls=fastopt.Adam, options=None, dtype="float32"):
    if dtype == "bfloat16":
        dtype = pytest.importorskip("ml_dtypes").bfloat16
    params = {
        "W": np.full((300, 2), 0.5, dtype),
        "F": np.asfortranarray(np.full((2, 3), 0.5, dtype)),
        "none": np.zeros((0, 3), dtype),
        "number": np.array(0.5, dtype),
    }
    return params, cls(params, lr=0.1, **(options or {}))


def advance(params, opt, steps):
    for k in steps:
        rng = np.random.default_rng(k)
        grads = {n: rng.standard_normal(p.shape).astype(p.dtype) for n, p in params.items()}
        if "ahead" in opt.extra:
            with opt.lookahead():
                pass
        opt.step(grads)


def same(one, other):
    """Return whether two state dictionaries agree in every bit."""
    states = [{**each["state"]} for each in (one, other)]
    for name, arrays in states[0].items():
        assert arrays.keys() == states[1][name].keys()
        for key, array in arrays.items():
            assert array.dtype == states[1][name][key].dtype
            assert array.tobytes() == states[1][name][key].tobytes()
    return {**one, "state": None} == {**other, "state": None}


def header(path):
    """Return what the format says of itself, read by hand."""
    data = path.read_bytes()
    return json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])


@pytest.mark.parametrize(("cls", "options", "dtype"), CASES)
def test_everything_is_kept_bit_for_bit(tmp_path, cls, options, dtype):
    params, opt = make(cls, options, dtype)
    advance(params, opt, range(4))
    path = tmp_path / "opt.safetensors"
    opt.save(path)
    _, other = make(cls, options, dtype)
    other.load(path)
    assert same(opt.state_dict(), other.state_dict())
    assert os.listdir(tmp_path) == ["opt.safetensors"]
    if "state_dtype" not in options and dtype in ("float32", "float64"):  # no random rounding
        again, other = make(cls, options, dtype)
        other.load(path)
        for name, array in again.items():
            array[...] = params[name]
        advance(params, opt, range(4, 8))
        advance(again, other, range(4, 8))
        assert all(params[name].tobytes() == again[name].tobytes() for name in params)


def test_others_read_the_states_under_their_names(tmp_path):
    params, opt = make(dtype="float64")
    advance(params, opt, range(2))
    opt.save(tmp_path / "opt.safetensors")
    found = load_file(tmp_path / "opt.safetensors")
    assert set(found) == {f"{n}.{k}" for n in params for k in ("exp_avg", "exp_avg_sq")}
    for name in params:
        for key in ("exp_avg", "exp_avg_sq"):
            np.testing.assert_array_equal(found[f"{name}.{key}"], opt.state[name][key], strict=True)


def test_a_file_that_others_have_written_anew(tmp_path):
    """In an order of their own, with the same content."""
    params, opt = make(dtype="float64")
    advance(params, opt, range(2))
    path = tmp_path / "opt.safetensors"
    opt.save(path)
    before = list(header(path))
    save_file(load_file(path), path, header(path)["__metadata__"])
    assert list(header(path)) != before
    _, other = make(dtype="float64")
    other.load(path)
    assert same(opt.state_dict(), other.state_dict())


def test_states_have_their_own_dtypes_in_the_file(tmp_path):
    path = tmp_path / "opt.safetensors"
    make(options={"state_dtype": "bfloat16"})[1].save(path)
    assert header(path)["W.exp_avg"]["dtype"] == "BF16"
    make(options={"state_dtype": "8bit"})[1].save(path)
    kinds = {k: v["dtype"] for k, v in header(path).items() if k.startswith("W.")}
    assert kinds == {
        "W.exp_avg": "U8",
        "W.exp_avg.largest": "F32",
        "W.exp_avg_sq": "U8",
        "W.exp_avg_sq.largest": "F32",
    }


def test_torch_reads_the_same_bfloat16_numbers(tmp_path):
    pytest.importorskip("torch")
    from safetensors.torch import load_file

    params, opt = make(options={"state_dtype": "bfloat16"})
    advance(params, opt, range(3))
    opt.save(tmp_path / "opt.safetensors")
    found = load_file(tmp_path / "opt.safetensors")
    for name in params:
        expected = opt.state_value(name, "exp_avg")
        assert np.array_equal(found[f"{name}.exp_avg"].float().numpy(), expected)


def test_arrays_are_aligned_in_the_file(tmp_path):
    """A reader may map them into memory."""
    params = {"a": np.zeros(3, "float32"), "b": np.zeros(5)}
    fastopt.Adam(params, state_dtype="8bit").save(tmp_path / "opt.safetensors")
    head = header(tmp_path / "opt.safetensors")
    sizes = {"F64": 8, "F32": 4, "U8": 1}
    kinds = [(e["data_offsets"][0], sizes[e["dtype"]]) for n, e in head.items() if n[0] != "_"]
    assert len(kinds) == 6 and all(start % size == 0 for start, size in kinds)
    length = int.from_bytes((tmp_path / "opt.safetensors").read_bytes()[:8], "little")
    assert length % 8 == 0


def test_steps_beyond_double(tmp_path):
    _, opt = make()
    opt.load_state_dict({**opt.state_dict(), "t": 2**53 + 1, "missed": {"W": 2**53 - 1}})
    opt.save(tmp_path / "opt.safetensors")
    _, other = make()
    other.load(tmp_path / "opt.safetensors")
    assert other.t == 2**53 + 1 and other.state_dict()["missed"] == {"W": 2**53 - 1}


def test_groups_and_names_that_clash_with_labels(tmp_path):
    def build():
        names = ["a", "a.exp_avg", "state0", "__metadata__", "ü", "\ud800", "new\nline", ""]
        groups = [{"params": {n: np.zeros(2)}, "lr": 0.1 * k} for k, n in enumerate(names)]
        return fastopt.Adam(groups), names

    opt, names = build()
    opt.step([np.full(2, k + 1.0) for k in range(len(names))])
    opt.save(tmp_path / "opt.safetensors")
    other, _ = build()
    other.param_groups[3]["lr"] = 7.0
    other.load(tmp_path / "opt.safetensors")
    assert same(opt.state_dict(), other.state_dict())
    for k, name in enumerate(names):
        np.testing.assert_allclose(other.state[name]["exp_avg"], 0.1 * (k + 1), rtol=1e-15)


def small():
    opt = fastopt.Adam({"w": np.zeros(3, np.float32)}, state_dtype="bfloat16")
    opt.step(np.arange(3, dtype=np.float32))
    return opt


def test_a_file_cut_at_any_byte_is_refused(tmp_path):
    opt = small()
    path = tmp_path / "opt.safetensors"
    opt.save(path)
    whole = path.read_bytes()
    before = opt.state_dict()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        with pytest.raises(ValueError, match=r"opt.safetensors' is not a complete optimizer file"):
            opt.load(path)
    path.write_bytes(whole + b"\0")
    with pytest.raises(ValueError, match="not a complete optimizer file"):
        opt.load(path)
    assert same(opt.state_dict(), before)
    path.write_bytes(whole)
    opt.load(path)


@pytest.mark.parametrize("flip", [0x01, 0x08, 0x20, 0x80])
def test_a_changed_byte_is_refused_or_changes_nothing(tmp_path, flip):
    """The format has no checksum of its own; blanks and unused names may change."""
    opt = small()
    path = tmp_path / "opt.safetensors"
    opt.save(path)
    whole = path.read_bytes()
    before, refused = opt.state_dict(), 0
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ flip]) + whole[at + 1 :])
        try:
            opt.load(path)
        except ValueError as error:
            assert "opt.safetensors' is not a complete optimizer file" in str(error)
            refused += 1
        assert same(opt.state_dict(), before)
    assert refused > 0.95 * len(whole)


def refuses(opt, path, match):
    before = opt.state_dict()
    with pytest.raises(ValueError, match=match) as caught:
        opt.load(path)
    assert repr(str(path)) in str(caught.value)
    assert same(opt.state_dict(), before)


def test_foreign_files_are_refused(tmp_path):
    opt, path = small(), tmp_path / "x.safetensors"
    save_file({"w.exp_avg": np.zeros(3, np.float32)}, path)
    refuses(opt, path, "not a complete optimizer file of fastopt: it was not written by fastopt")
    save_file({"w": np.zeros(3, np.uint16)}, path, {"fastopt": "{}", "fortran": "[]", "crc32": "1"})
    refuses(opt, path, "'w' has the dtype U16")
    save_file(
        {"w": np.zeros(3, np.float32)}, path, {"fastopt": "{}", "fortran": "[]", "crc32": "1"}
    )
    refuses(opt, path, "its checksum is wrong")
    opt.save(tmp_path / "opt.npz")
    path.write_bytes((tmp_path / "opt.npz").read_bytes())
    refuses(opt, path, "not a complete optimizer file")
    path.write_bytes(pickle.dumps(opt.state_dict()))
    refuses(opt, path, "not a complete optimizer file")
    small().save(path)
    (tmp_path / "opt.npz").write_bytes(path.read_bytes())
    refuses(opt, tmp_path / "opt.npz", "not a complete optimizer file")


def test_files_of_something_else_are_refused(tmp_path):
    path = tmp_path / "x.safetensors"
    small().save(path)
    refuses(
        fastopt.SGD({"w": np.zeros(3)}, lr=0.1),
        path,
        "does not fit this SGD: optimizer is 'Adam', here 'SGD'",
    )
    refuses(fastopt.Adam({"v": np.zeros(3)}), path, "state of 'v' is missing")
    fits = r"'exp_avg' of 'w' is uint16\[3\], here float32\[3\]"
    refuses(fastopt.Adam({"w": np.zeros(3, np.float32)}), path, fits)
    fastopt.Lookahead(small()).save(path)
    refuses(small(), path, "its format is 'fastopt.lookahead/1'")
    with pytest.raises(FileNotFoundError):
        small().load(tmp_path / "none.safetensors")
    os.mkdir(tmp_path / "folder.safetensors")
    with pytest.raises(OSError, match=r"folder\.safetensors"):
        small().load(tmp_path / "folder.safetensors")


def test_wrappers_write_the_same_two_formats(tmp_path):
    path = tmp_path / "x.safetensors"
    params, opt = make(dtype="float64")
    one = fastopt.Lookahead(opt, k=3)
    advance(params, opt, range(2))
    one.slow["W"][...] = 7.0
    one.save(path)
    assert "array0" in load_file(path)
    other = fastopt.Lookahead(make(dtype="float64")[1], k=3)
    other.load(path)
    assert (other.slow["W"] == 7.0).all()
    assert same(other.inner.state_dict(), opt.state_dict())
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match="not a complete file of Lookahead"):
        other.load(path)


def test_a_failed_save_keeps_the_old_file(tmp_path, monkeypatch):
    opt, path = small(), tmp_path / "opt.safetensors"
    opt.save(path)
    old = path.read_bytes()

    def full(*args, **kwargs):
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="disk full"):
        opt.save(path)
    assert path.read_bytes() == old and os.listdir(tmp_path) == ["opt.safetensors"]


def test_without_the_package_a_file_can_be_written_but_not_read(tmp_path, monkeypatch):
    opt, path = small(), tmp_path / "opt.safetensors"
    monkeypatch.setitem(__import__("sys").modules, "safetensors", None)
    opt.save(path)
    with pytest.raises(ImportError, match=r"pip install 'fastopt\[safetensors\]'"):
        opt.load(path)


def test_an_old_package_is_named(tmp_path, monkeypatch):
    opt, path = small(), tmp_path / "opt.safetensors"
    opt.save(path)
    monkeypatch.setattr(safetensors, "safe_open", object)
    with pytest.raises(ImportError, match=r"safetensors >= 0.6, this is .*fastopt\[safetensors\]"):
        opt.load(path)


def test_the_package_is_imported_when_a_file_is_read(run_python):
    code = """
        import sys, numpy as np, fastopt
        opt = fastopt.Adam({"w": np.zeros(2)}, eps=0.5)
        opt.save("a.safetensors")
        print("safetensors" in sys.modules)
        opt.load("a.safetensors")
        print("safetensors" in sys.modules, "ml_dtypes" in sys.modules, "torch" in sys.modules)
    """
    assert run_python(code).split() == ["False", "True", "False", "False"]
