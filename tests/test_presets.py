"""Presets: what other libraries compute, step by step, and the printed formulas."""

import inspect
import json
from pathlib import Path

import formulas
import numpy as np
import pytest

import fastopt
from fastopt.presets import PRESETS

PEERS = json.loads((Path(__file__).parent / "golden" / "peers.json").read_text())
EACH = [(preset, name) for preset, classes in PRESETS.items() for name in classes]

# What the libraries call the classes and keywords, where that differs.
THEIR_CLASS = {
    ("keras", "NAdam"): "Nadam",
    ("optax", "SignSGD"): "sign_sgd",
    ("optax", "ScheduleFreeSGD"): "contrib.schedule_free_sgd",
    ("optax", "ScheduleFreeAdamW"): "contrib.schedule_free_adamw",
    ("optax", "Muon"): "contrib.muon",
}
OUR_KEYWORD = {
    "learning_rate": "lr",
    "momentum": "momentum",
    "nesterov": "nesterov",
    "centered": "centered",
    "amsgrad": "amsgrad",
    "threshold": "threshold",
    "weight_decay": "weight_decay",
    "global_clipnorm": "clip_norm",
    "step_sizes": "step_sizes",
    "min_dim_size_to_factor": "min_dim_size_to_factor",
}


def theirs(library, name):
    default = name.lower() if library == "optax" else name
    return THEIR_CLASS.get((library, name), default)


def translated(library, name, kwargs):
    """Return the case's keywords in fastopt's names; None where it has something else."""
    cls = getattr(fastopt, name)
    if not kwargs.keys() <= OUR_KEYWORD.keys():
        return None
    ours = {OUR_KEYWORD[k]: v for k, v in kwargs.items()}
    if "weight_decay" in ours and not cls.decoupled and library != "torch":
        return None  # keras decouples the decay in all its classes
    if "weight_decay" in ours and (library, name) == ("keras", "ScheduleFreeAdamW"):
        return None  # keras decays y without z
    names = {*inspect.signature(cls).parameters, "clip_norm"}
    return ours if ours.keys() <= names else None


def golden_cases():
    for library, name in EACH:
        if library not in ("torch", "keras", "optax"):
            continue
        for case in PEERS["cases"]:
            if case["library"] == library and case["class"] == theirs(library, name):
                ours = translated(library, name, case["kwargs"])
                if ours is not None:
                    about = f"{library}-{case['name']}-{case['problem']}"
                    yield pytest.param(library, name, ours, case, id=about)


GOLDEN = list(golden_cases())


def trajectory(opt, w, gradients):
    found = []
    for g in gradients:
        opt.step(np.array(g))
        found.append(w.copy())
    return np.array(found)


def problem(name="vector"):
    made = PEERS["problems"][name]
    return np.array(made["start"]), np.array(made["gradients"])


def problem_of(name):
    return problem("wide" if name == "Muon" else "vector")


def close(found, case):
    np.testing.assert_allclose(found, case["params"], rtol=case["rtol"], atol=case["rtol"])


def golden(library, class_, kwargs):
    """Return the one case on the vector problem."""
    (case,) = (
        each
        for each in PEERS["cases"]
        if (each["library"], each["class"], each["problem"]) == (library, class_, "vector")
        and each["kwargs"] == kwargs
    )
    return case


# ---- the libraries


@pytest.mark.parametrize(("library", "name", "kwargs", "case"), GOLDEN)
def test_a_preset_equals_the_library(library, name, kwargs, case):
    w, gradients = problem(case["problem"])
    opt = getattr(fastopt, name)(w, preset=library, **kwargs)
    close(trajectory(opt, w, gradients), case)


def test_keras_weighs_the_points_of_warm_up_like_all_others():
    w, gradients = problem()
    opt = fastopt.ScheduleFreeAdamW(w, lr=0.1, preset="keras", betas=(0.5, 0.999), warmup_steps=3)
    kwargs = {"learning_rate": 0.1, "warmup_steps": 3, "beta_1": 0.5}
    close(trajectory(opt, w, gradients), golden("keras", "ScheduleFreeAdamW", kwargs))


@pytest.mark.parametrize("name", PRESETS["keras"])
def test_all_of_keras_is_compared(name):
    kwargs = [p.values[2] for p in GOLDEN if p.values[:2] == ("keras", name)]
    assert {} in kwargs and {"lr": 0.1} in kwargs


@pytest.mark.parametrize("name", PRESETS["optax"])
def test_all_of_optax_is_compared(name):
    kwargs = [p.values[2] for p in GOLDEN if p.values[:2] == ("optax", name)]
    assert {"lr": 1.0 if name == "Adadelta" else 0.1} in kwargs


def test_relatives_of_optax_through_a_keyword():
    for class_, name, word in [
        ("amsgrad", "Adam", {"amsgrad": "corrected"}),
        ("signum", "SignSGD", {"momentum": 0.9}),
    ]:
        w, gradients = problem()
        opt = getattr(fastopt, name)(w, preset="optax", lr=0.1, **word)
        close(trajectory(opt, w, gradients), golden("optax", class_, {"learning_rate": 0.1}))


def effective(preset, name):
    """Return the values a constructor gets from a preset, defaults included."""
    parameters = inspect.signature(getattr(fastopt, name)).parameters
    return {k: p.default for k, p in parameters.items()} | PRESETS[preset][name]


def same(ours, value):
    value = tuple(value) if isinstance(value, list) else value
    assert ours == value, (ours, value)


@pytest.mark.parametrize("name", PRESETS["torch"])
def test_torch_has_the_recorded_defaults(name):
    values = effective("torch", name)
    shared = PEERS["defaults"]["torch"][name].keys() & values.keys() - {"params"}
    assert "lr" in shared
    for k in shared:
        same(values[k], PEERS["defaults"]["torch"][name][k])


@pytest.mark.parametrize(
    ("library", "name"), [each for each in EACH if each[0] in ("keras", "optax")]
)
def test_keras_and_optax_have_the_recorded_defaults(library, name):
    values, recorded = effective(library, name), PEERS["defaults"][library][theirs(library, name)]
    if "betas" in values:
        values["b1"], values["b2"] = values["beta_1"], values["beta_2"] = values["betas"]
    for k in ("rho", "alpha"):
        if k in values:
            values["rho"] = values["decay"] = values[k]
    values["learning_rate"] = PRESETS[library][name].get("lr")
    # There is one eps: where fastopt has more than one place for it, it is in one of them.
    places = [values[k] for k in ("eps", "eps_root", "eps_outside") if k in values]
    values["epsilon"] = max(places, default=None)
    if "eps_root" not in recorded:
        values["eps"] = values["epsilon"]
    if name == "Adafactor":
        values["eps"] = values["epsilon_1"] = values["eps1"]
        values["epsilon_2"], values["beta_2_decay"] = values["eps2"], values["beta2_decay"]
        values["clip_threshold"] = values["clipping_threshold"] = values["d"]
        values["decay_rate"] = -values["beta2_decay"]
    if name == "Muon":
        values["beta"], values["ns_coeffs"] = values["momentum"], values["ns_coefficients"]
        values["muon_a"], values["muon_b"], values["muon_c"] = values["ns_coefficients"]
    for k in recorded.keys() & values.keys():
        if recorded[k] not in (None, "<required>") and (library, name, k) != (
            "optax",
            "AdamW",
            "decay",
        ):
            same(values[k], recorded[k])
    if (library, name) == ("optax", "Adafactor"):
        assert recorded["learning_rate"] is None and PRESETS[library][name]["lr"] == 1.0
    elif recorded["learning_rate"] in (None, "<required>"):
        assert "lr" not in PRESETS[library][name]


@pytest.mark.parametrize("lr", [None, 0.1])
@pytest.mark.parametrize("name", PRESETS["torch"])
def test_torch_live(name, lr, monkeypatch):
    torch = pytest.importorskip("torch")
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)  # for NAdam's product of momenta
    words = {} if lr is None else {"lr": lr}
    if name == "Muon":  # which iterates in bfloat16, see test_muon
        monkeypatch.setattr(torch.Tensor, "bfloat16", torch.Tensor.clone)
    try:
        w, gradients = problem_of(name)
        p = torch.nn.Parameter(torch.tensor(w.copy()))
        theirs_, expected = getattr(torch.optim, name)([p], **words), []
        for g in gradients:
            p.grad = torch.tensor(g)
            theirs_.step()
            expected.append(p.detach().numpy().copy())
    finally:
        torch.set_default_dtype(default)
    opt = getattr(fastopt, name)(w, preset="torch", **words)
    np.testing.assert_allclose(trajectory(opt, w, gradients), expected, rtol=1e-12, atol=1e-12)
    parameters = inspect.signature(getattr(torch.optim, name)).parameters
    values = effective("torch", name)
    for k in parameters.keys() & values.keys() - {"params"}:
        same(values[k], parameters[k].default)


@pytest.mark.parametrize("name", PRESETS["keras"])
def test_keras_live(name, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    pytest.importorskip("jax").config.update("jax_enable_x64", True)
    keras = pytest.importorskip("keras")
    floatx = keras.config.floatx()
    keras.config.set_floatx("float64")
    rtol = 1e-6 if name in ("Adafactor", "Muon") else 1e-12  # means and norms in float32
    try:
        w, gradients = problem_of(name)
        p = keras.Variable(w, dtype="float64")
        theirs_, expected = getattr(keras.optimizers, theirs("keras", name))(), []
        theirs_.build([p])
        for g in gradients:
            theirs_.apply([keras.ops.convert_to_tensor(g, dtype="float64")])
            expected.append(np.array(p.value))
    finally:
        keras.config.set_floatx(floatx)
    opt = getattr(fastopt, name)(w, preset="keras")
    np.testing.assert_allclose(trajectory(opt, w, gradients), expected, rtol=rtol, atol=rtol)


@pytest.mark.parametrize("name", PRESETS["optax"])
def test_optax_live(name):
    pytest.importorskip("jax").config.update("jax_enable_x64", True)
    optax = pytest.importorskip("optax")
    import jax.numpy as jnp

    w, gradients = problem_of(name)
    rtol = 1e-6 if name == "Adafactor" else 1e-12  # its decay rate in float32
    made = optax
    for part in theirs("optax", name).split("."):
        made = getattr(made, part)
    theirs_, p, expected = made(learning_rate=0.1), jnp.asarray(w), []
    state = theirs_.init(p)
    for g in gradients:
        updates, state = theirs_.update(jnp.asarray(g), state, p)
        p = optax.apply_updates(p, updates)
        expected.append(np.array(p))
    opt = getattr(fastopt, name)(w, preset="optax", lr=0.1)
    np.testing.assert_allclose(trajectory(opt, w, gradients), expected, rtol=rtol, atol=rtol)


# ---- the printed formulas

PRINTED = [
    ("textbook", "SGD", {"lr": 0.1, "momentum": 0.9}, formulas.momentum_classic(0.1, 0.9)),
    ("textbook", "Adagrad", {"lr": 0.1}, formulas.adagrad(0.1, 1e-7)),
    ("textbook", "RMSprop", {"lr": 0.1}, formulas.rmsprop(0.1, 0.9, 0.0, inside=1e-6)),
    ("textbook", "Adam", {}, formulas.adam(1e-3, 0.9, 0.999, 1e-8)),
    ("paper", "SGD", {"lr": 0.1, "momentum": 0.9}, formulas.momentum_classic(0.1, 0.9)),
    ("paper", "Adagrad", {"lr": 0.1, "eps": 0.1}, formulas.adagrad(0.1, 0.1)),
    ("paper", "RMSprop", {"lr": 0.1}, formulas.rmsprop(0.1, 0.9, 0.0)),
    ("paper", "Adadelta", {}, formulas.adadelta(1.0, 0.95, 1e-6)),
    ("paper", "Rprop", {}, formulas.rprop(0.1, 0.5, 1.2, 1e-6, 50.0, "plus")),
    (
        "paper",
        "FTRL",
        {"lr": 0.1, "beta": 1.0, "l1": 0.0, "l2": 0.2},
        formulas.ftrl(0.1, 1.0, 0.0, 0.2, 0.0, 0.0),
    ),
    ("paper", "Adam", {}, formulas.adam(1e-3, 0.9, 0.999, 1e-8)),
    (
        "paper",
        "Adam",
        {"amsgrad": True, "bias_correction": False, "eps": 0.0},
        formulas.amsgrad(1e-3, 0.9, 0.999, 0.0, form="paper"),
    ),
    (
        "paper",
        "AdamW",
        {"weight_decay": 0.1},
        formulas.adam(1e-3, 0.9, 0.999, 1e-8, wd=0.1, decoupled=True, independent=True),
    ),
    ("paper", "Adamax", {}, formulas.adamax(2e-3, 0.9, 0.999, 0.0)),
    ("paper", "NAdam", {"lr": 0.1, "eps": 0.1}, formulas.nadam(0.1, 0.9, 0.999, 0.1, 1 / 250)),
    ("paper", "RAdam", {"lr": 0.1}, formulas.radam(0.1, 0.9, 0.999, threshold=4)),
    ("paper", "Lion", {"lr": 0.1, "weight_decay": 0.1}, formulas.lion(0.1, 0.9, 0.99, 0.1)),
    ("paper", "Adafactor", {}, formulas.adafactor(1e-30, 1e-3, 1.0)),
    ("paper", "Muon", {"lr": 0.1, "momentum": 0.9}, formulas.muon(0.1, 0.9, 1e-7)),
]


@pytest.mark.parametrize("scale", [1.0, 1e-6])
@pytest.mark.parametrize(
    ("preset", "name", "kwargs", "formula"), PRINTED, ids=lambda v: v if isinstance(v, str) else ""
)
def test_a_source_is_its_formula(preset, name, kwargs, formula, scale):
    _, gradients = problem()
    start = 0.0 if name == "FTRL" else 1.0
    w, p = np.array([[start]] if name == "Muon" else [start]), start
    opt = getattr(fastopt, name)(w, preset=preset, **kwargs)
    rule = formula()
    for g in (scale * gradients[:, 0]).tolist():
        next(rule)
        p = rule.send((p, g))
        opt.step(np.full(w.shape, g))
        np.testing.assert_allclose(w.ravel(), [p], rtol=1e-12, atol=1e-12)


# Where lr stands shows only when it changes: what the libraries' code does.
INSIDE = {
    ("torch", "SGD"): False,
    ("torch", "RMSprop"): False,
    ("keras", "SGD"): True,
    ("keras", "RMSprop"): True,
    ("optax", "SGD"): False,
    ("optax", "RMSprop"): True,
    ("textbook", "SGD"): True,
    ("textbook", "RMSprop"): True,
    ("paper", "SGD"): True,
}


@pytest.mark.parametrize(("preset", "name"), INSIDE)
def test_the_buffer_has_lr_inside_or_outside(preset, name):
    assert {each for each in EACH if "momentum_form" in PRESETS[each[0]][each[1]]} == set(INSIDE)
    w = np.array([0.0])
    opt = getattr(fastopt, name)(w, lr=0.1, momentum=0.5, preset=preset)
    x1 = x2 = 1.0
    if name == "RMSprop":
        rho, group = opt.param_groups[0]["alpha"], opt.param_groups[0]
        x1, x2 = (
            1 / (np.sqrt(s + group["eps_root"]) + group["eps"]) for s in (1 - rho, 1 - rho**2)
        )
    opt.step(np.ones(1))
    np.testing.assert_allclose(w, -0.1 * x1, rtol=1e-12)
    opt.param_groups[0]["lr"] = 0.2
    opt.step(np.ones(1))
    second = 0.5 * 0.1 * x1 + 0.2 * x2 if INSIDE[preset, name] else 0.2 * (0.5 * x1 + x2)
    np.testing.assert_allclose(w, -0.1 * x1 - second, rtol=1e-12)


def test_all_formulas_are_compared():
    found = {(preset, name) for preset, name, *_ in PRINTED}
    assert found == {each for each in EACH if each[0] in ("textbook", "paper")}


# ---- the argument and the table


def test_keywords_that_are_given_win():
    for args, kwargs in [((0.5,), {}), ((), {"lr": 0.5})]:
        opt = fastopt.Adam(np.zeros(2), *args, preset="keras", eps=0.25, **kwargs)
        group = opt.param_groups[0]
        assert (group["lr"], group["eps"], group["eps_hat"]) == (0.5, 0.25, True)
    opt = fastopt.Adam(params=np.zeros(2), preset="keras", eps_hat=False, eps=0.0)
    assert (opt.param_groups[0]["eps"], opt.param_groups[0]["eps_hat"]) == (0.0, False)


def test_what_a_group_says_wins():
    groups = [{"params": {"a": np.zeros(1)}, "eps": 0.25}, {"params": {"b": np.zeros(1)}}]
    opt = fastopt.Adam(groups, preset="keras")
    assert [group["eps"] for group in opt.param_groups] == [0.25, 1e-7]


def test_what_all_optimizers_take_goes_with_a_preset():
    opt = fastopt.Adam(np.zeros(2), preset="keras", maximize=True, clip_norm=1.0)
    assert opt.param_groups[0]["maximize"] is True


def test_without_a_preset_nothing_changes():
    plain, none = fastopt.Adam(np.zeros(2)), fastopt.Adam(np.zeros(2), preset=None)
    for k in plain.param_groups[0].keys() - {"params"}:
        assert plain.param_groups[0][k] == none.param_groups[0][k]


def test_optax_has_no_default_rate():
    with pytest.raises(TypeError, match="lr is required"):
        fastopt.SGD(np.zeros(2), preset="optax")


def test_a_preset_is_not_changed_by_its_use():
    before = repr(PRESETS)
    opt = fastopt.Adam(np.zeros(2), preset="torch", eps=0.5)
    opt.param_groups[0]["lr"] = 7.0
    assert repr(PRESETS) == before


def test_wrong_names():
    w = np.zeros(2)
    allowed = r"Adam: preset must be one of \['torch', 'keras', 'optax', 'textbook', 'paper'\]"
    with pytest.raises(ValueError, match=allowed + ", got 'kears'"):
        fastopt.Adam(w, preset="kears")
    with pytest.raises(ValueError, match=r"RAdam: preset must be one of \['torch', 'paper'\], got"):
        fastopt.RAdam(w, preset="optax")
    with pytest.raises(ValueError, match="DeltaBarDelta: there are no presets for this class"):
        fastopt.DeltaBarDelta(w, preset="paper")


@pytest.mark.parametrize(("preset", "name"), EACH)
def test_presets_are_keywords_of_their_classes(preset, name):
    cls = getattr(fastopt, name)
    assert PRESETS[preset][name].keys() <= inspect.signature(cls).parameters.keys()
    words = {} if "lr" in PRESETS[preset][name] else {"lr": 0.1}
    opt = cls(np.ones((2, 2)), preset=preset, **words)
    for k, value in PRESETS[preset][name].items():
        assert opt.param_groups[0][k] == value


def test_the_table():
    header, *lines = fastopt.presets.table().splitlines()
    assert header.split() == ["class", "keyword", *PRESETS]
    assert {line.split()[0] for line in lines} == {name for _, name in EACH}
    starts = [header.index(word) for word in header.split()]
    rows = {}
    for line in lines:
        cells = [line[i:j].strip() for i, j in zip(starts, [*starts[1:], None], strict=True)]
        rows[tuple(cells[:2])] = cells[2:]
    assert len(rows) == len(lines)
    for (name, k), cells in rows.items():
        for preset, cell in zip(PRESETS, cells, strict=True):
            values = PRESETS[preset].get(name, {})
            assert cell == (repr(values[k]) if k in values else "-")
    assert ("Adam", "lr") not in rows and ("Adam", "eps_hat") in rows


def test_a_subclass_takes_its_parents_presets_and_signatures_show_the_keyword():
    class Mine(fastopt.Adam):
        def __init__(self, params, lr=0.5, **common):
            super().__init__(params, lr, **common)

    try:
        assert Mine(np.ones(2), preset="keras").param_groups[0]["eps_hat"] is True
    finally:
        del fastopt.Optimizer.registry["Mine"]
    assert "preset" in inspect.signature(fastopt.Adam).parameters
