"""Pure functions: the optimizer's bits, inputs untouched, states that can be used again."""

import pickle

import numpy as np
import pytest

import fastopt
from fastopt import functional

NAMES = functional._functions()
APART = [  # combinations that the optimizer in place does not take
    ("asgd", "ema")
]


SHAPES = {"W": (4, 5), "b": (3,)}
MATRICES = {"W": (4, 5)}


def start(dtype="f4", shapes=SHAPES):
    rng = np.random.default_rng(1)
    return {k: rng.standard_normal(s).astype(dtype) for k, s in shapes.items()}


def grads(k, dtype="f4", shapes=SHAPES):
    rng = np.random.default_rng(k)
    return {k: rng.standard_normal(s).astype(dtype) for k, s in shapes.items()}


def frozen(arrays):
    for array in arrays.values():
        array.flags.writeable = False
    return arrays


def the_bits(arrays):
    return {name: array.tobytes() for name, array in arrays.items()}


@pytest.mark.parametrize("options", [{}, {"ema": 0.9}, {"accumulate": 2}, {"clip_norm": 0.5}])
@pytest.mark.parametrize("name", [n for n in NAMES if NAMES[n].__module__.startswith("fastopt.")])
def test_same_bits_as_in_place_and_old_states_live_on(name, options):
    lr, shapes = 0.01, MATRICES if name == "muon" else SHAPES
    if (name, *options) in APART:
        pytest.skip("not a combination of the optimizer in place")
    ours, opt = start(shapes=shapes), getattr(functional, name)(lr=lr, **options)
    inner = NAMES[name](ours, lr=lr, **options)
    params = frozen(start(shapes=shapes))
    state = opt.init(params)
    assert state.t == 0
    for k in range(5):
        g = grads(k, shapes=shapes)
        inner.step(g)
        new, after = opt.update(params, frozen(g), state)
        again, _ = opt.update(params, g, pickle.loads(pickle.dumps(state)))
        assert the_bits(new) == the_bits(again) == the_bits(ours)
        params, state = frozen(new), after
    assert state.t == inner.t
    for key, states in inner.state.items():
        assert the_bits(states) == the_bits(state.state[key])
        assert not any(a.flags.writeable for a in state.state[key].values())


def test_structure_is_kept():
    opt = functional.make(fastopt.Adam, lr=0.1)
    for params in np.ones(2), [np.ones(2)], (np.ones(2), np.ones(3)), {"a": np.ones(2)}:
        grads = [np.ones_like(a) for a in params] if isinstance(params, tuple) else params
        new, state = opt.update(params, grads, opt.init(params))
        assert type(new) is type(params) and len(new) == len(params) and state.t == 1
    assert repr(state) == "State(Adam, t=1)"


def test_errors():
    with pytest.raises(TypeError, match="must be a class of optimizers"):
        functional.make(3)
    with pytest.raises(TypeError, match="did you mean 'lr'"):
        functional.adam(learning_rate=1)
    with pytest.raises(ValueError, match="zero_grad"):
        functional.adam(zero_grad=True)
    with pytest.raises(AttributeError, match="'adm'; did you mean"):
        _ = functional.adm
    opt = functional.adam()
    with pytest.raises(TypeError, match="groups"):
        opt.init([{"params": np.ones(2)}])
    with pytest.raises(TypeError, match="numpy array"):
        opt.init(3.0)
    with pytest.raises(TypeError, match="state must be from init"):
        opt.update(np.ones(2), np.ones(2), {})
    with pytest.raises(ValueError, match="does not fit"):
        opt.update(np.ones(2), np.ones(2), opt.init(np.ones(3)))
    with pytest.raises(ValueError, match="does not fit"):
        opt.update(np.ones(2), np.ones(2), functional.adamw().init(np.ones(2)))


def test_names():
    assert {"sgd", "adamw", "adabelief", "schedule_free_sgd", "make"} <= set(dir(functional))
    assert "fastopt.Adam" in functional.adam.__doc__
