"""Any arrays, any options: a step changes the arrays' own elements as on contiguous copies.

What is drawn is checked against the same optimizer on contiguous copies, bit for bit, and against
the formulas in steps.py; the bytes between the elements are guarded. Whatever raises changes
nothing at all.
"""

import hashlib
import os

import layouts
import numpy as np
import pytest
import steps
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fastopt
from fastopt.rules import precision

bf16 = np.dtype(pytest.importorskip("ml_dtypes").bfloat16)
F4, F8, F2 = map(np.dtype, ("f4", "f8", "f2"))


def drawn(examples):
    """Hypothesis settings; reproducible where CI says that it is one."""
    return settings(
        max_examples=examples,
        deadline=None,
        derandomize=bool(os.environ.get("CI")),
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )


# name -> class, formula, the numbers of the formula, the optimizer's own keywords
RULES = {
    "sgd": (fastopt.SGD, steps.sgd, {"lr": 0.1}, {}),
    "momentum": (
        fastopt.SGD,
        steps.momentum,
        {"lr": 0.1, "mu": 0.9},
        {"momentum": 0.9, "dampening": 0.5},
    ),
    "look-ahead": (
        fastopt.SGD,
        steps.lookahead,
        {"lr": 0.1, "mu": 0.9},
        {"momentum": 0.9, "nesterov": "lookahead"},
    ),
    "adam": (fastopt.Adam, steps.adam, {"lr": 0.1}, {"betas": (0.9, 0.99), "eps": 1e-3}),
    "lion": (fastopt.Lion, steps.lion, {"lr": 0.1}, {"betas": (0.9, 0.99)}),
    "rprop": (fastopt.Rprop, steps.rprop, {"lr": 0.1}, {}),
    "adadelta": (fastopt.Adadelta, steps.adadelta, {"lr": 1.0}, {"eps": 1e-3}),
    "lamb": (fastopt.LAMB, steps.lamb, {"lr": 0.1}, {"betas": (0.9, 0.99), "eps": 1e-3}),
    "schedule-free": (fastopt.ScheduleFreeSGD, steps.schedule_free, {"lr": 0.1}, {}),
}
COMPRESSED = ("momentum", "adam", "lion")  # whose states may have fewer bits


@st.composite
def options(draw, rule, dtypes):
    """Draw keywords of `Optimizer` that go together."""
    o = {}
    maybe = st.sampled_from([False, False, True])
    o |= draw(
        st.sampled_from(
            [
                {},
                {},
                {"clip_value": 0.7},
                {"clip_norm": 1.5},
                {"clip_norm": 1.5, "clip_per": "tensor"},
                {"clip_norm": 1.5, "clip_per": "row"},
                {"clip_per": "row"},
            ]
        )
    )
    penalties = [{}, {}, {"l1": 0.2}, {"l1": 0.2, "proximal": True}]
    if rule != "rprop":
        penalties += [{"weight_decay": 0.1}, {"l1": 0.2, "weight_decay": 0.1, "proximal": True}]
    o |= draw(st.sampled_from(penalties))
    for one in {"lower": -0.6}, {"upper": 0.8}, {"max_norm": 1.2}, {"ema": 0.7}, {"maximize": True}:
        o |= one if draw(maybe) else {}
    o["accumulate"] = draw(st.sampled_from([1, 1, 2]))
    o["zero_grad"] = draw(maybe)
    o["nonfinite"] = draw(st.sampled_from(["propagate", "mask", "skip"]))
    if not dtypes.isdisjoint({F2, bf16}):
        o["rounding"] = draw(st.sampled_from(precision.ROUNDINGS))
    if rule in COMPRESSED and dtypes != {F8}:
        o["state_dtype"] = draw(st.sampled_from([None, None, "bfloat16", "8bit"]))
    return o


class Case:
    """An optimizer on drawn arrays, its twin on contiguous copies, and the formula."""

    def __init__(self, data, **fixed):
        draw = data.draw
        self.rule = draw(st.sampled_from(sorted(RULES)))
        cls, formula, numbers, own = RULES[self.rule]
        self.memory = layouts.Memory(draw(st.sampled_from(sorted(layouts.buffers(0)))), 1 << 20)
        self.rng = np.random.default_rng(draw(st.integers(0, 2**32)))
        low = [] if self.rule == "look-ahead" else [bf16, F2]
        self.params, self.grads = {}, {}
        large = draw(st.sampled_from([[]] * 9 + [layouts.LARGE]))
        for name in "abc"[: draw(st.integers(1, 3))]:
            shape = draw(st.sampled_from(large or layouts.SHAPES))
            dtype = draw(st.sampled_from([F4, F4, F8, *low]))
            g_dtype = F8 if dtype == F8 else draw(st.sampled_from([dtype, F4, F2, bf16]))
            self.params[name], self.grads[name] = self.arrays(draw, shape, dtype, g_dtype)
            large = []
        dtypes = {w.dtype for w in self.params.values()}
        self.options = draw(options(self.rule, dtypes)) | fixed
        self.memory.seal(draw(st.integers(0, 99)))
        for w in self.params.values():
            w[...] = self.numbers(w.shape)
        self.copies = {name: w.copy("A") for name, w in self.params.items()}
        self.formula = steps.Steps(formula, self.params, self.options, numbers)
        keywords = {**own, "lr": numbers["lr"], **self.options}
        self.opt, self.twin = cls(self.params, **keywords), cls(self.copies, **keywords)

    def arrays(self, draw, shape, dtype, g_dtype):
        """Draw a parameter and its gradient; often with their elements in turn, as in records."""
        if dtype == g_dtype and draw(st.booleans()):
            layout = draw(layouts.layouts(len(shape) + 1))
            both = self.memory.carve((*shape, 2), dtype, layout)
            return both[..., 0], both[..., 1]
        return (
            self.memory.carve(shape, dtype, draw(layouts.layouts(len(shape)))),
            self.memory.carve(shape, g_dtype, draw(layouts.layouts(len(shape), aligned=False))),
        )

    def numbers(self, shape):
        x = self.rng.standard_normal(shape)
        return np.where(self.rng.random(shape) < 0.1, 0, x)

    def fill(self, bad=False):
        """Put new gradients into the drawn arrays; `bad`: some are not finite."""
        for g in self.grads.values():
            g[...] = self.numbers(g.shape) * 2
            if bad and g.size:
                at = tuple(self.rng.integers(0, n) for n in g.shape)
                kinds = [np.nan, np.inf, -np.inf]
                g[at] = self.rng.choice(
                    kinds[: 1 if self.options["nonfinite"] == "propagate" else 3]
                )

    def step(self, frozen=(), bound=False):
        """Take one step on all three; return what the optimizer and the formula say of it."""
        twins = {name: g.copy() for name, g in self.grads.items()}
        if self.rule == "look-ahead":
            with self.opt.lookahead(), self.twin.lookahead():
                self.formula.look_ahead(frozen)
        before = {name: g.copy() for name, g in self.grads.items()}
        info = self.opt.step(None if bound else self.grads)
        again = self.twin.step(twins)
        with np.errstate(all="ignore"):
            taken = self.formula.step(before, frozen)
        assert (info.t, info.nonfinite, info.skipped) == (again.t, again.nonfinite, again.skipped)
        assert info.skipped == (not taken)
        for name, g in self.grads.items():
            zeroed = self.options["zero_grad"] and name not in frozen
            expected = np.zeros_like(before[name]) if zeroed else before[name]
            assert g.tobytes() == expected.tobytes(), name
        return info

    def compare(self):
        """Against the twin: the same bits. Against the formula: rounding. And the guards."""
        assert self.memory.untouched()
        for name, w in self.params.items():
            assert w.tobytes() == self.copies[name].tobytes(), name
            for key, state in self.opt.state[name].items():
                assert state.tobytes() == self.twin.state[name][key].tobytes(), (name, key)
        o = self.options
        if o.get("state_dtype"):
            return  # too coarse for the formula: see test_precision.py
        low = {F2, bf16} & {w.dtype for w in self.params.values()}
        if low and o.get("rounding") != "master" and ("l1" in o or self.rule == "lamb"):
            return  # a rounded number may have another sign
        mixed = "clip_norm" in o and len({w.dtype for w in self.params.values()}) > 1
        for name, w in self.params.items():
            exact = self.opt.state[name].get("master", w)
            close(exact, self.formula.w[name], self.opt.t, exact.dtype, mixed)
            if exact is not w:
                rounded = exact.astype(w.dtype)
                np.testing.assert_array_equal(w.astype("f8"), rounded.astype("f8"))
            if "ema" in o:
                average = self.opt.state[name]["ema"]
                close(average, self.formula.ema[name], self.opt.t, w.dtype, mixed)


def close(found, expected, t, dtype, mixed):
    """`mixed`: where float64 has a factor in it that comes from sums in float32."""
    unit = {F8: 2e-5 if mixed else 1e-11, F4: 2e-5, F2: 2.0**-9, bf16: 2.0**-6}[dtype]
    np.testing.assert_allclose(
        found.astype("f8"), expected, rtol=(t + 1) * unit, atol=2 * (t + 1) * unit
    )


@drawn(500)
@given(st.data())
def test_a_step_is_the_formula_wherever_the_elements_lie(data):
    case = Case(data)
    rounds = data.draw(st.integers(1, 4))
    bad = data.draw(st.sampled_from([None, None, None, *range(rounds)]))
    freezes = len(case.params) > 1 and case.rule not in ("schedule-free", "look-ahead")
    pause = data.draw(st.sampled_from([None, None, *range(rounds)])) if freezes else None
    if case.options["accumulate"] == 1 and data.draw(st.booleans()):
        case.opt.bind(case.grads)
        bound = True
    else:
        bound = False
    for k in range(rounds):
        frozen = ["a"] if k == pause else []
        for one in case.opt, case.twin:
            if frozen:
                one.freeze("a")
            elif k - 1 == pause:
                one.unfreeze("a")
        for _ in range(case.options["accumulate"]):
            case.fill(bad=k == bad)
            case.step(frozen, bound)
        case.compare()


def wrong_gradients(case, name):
    """Pairs of gradients of which that of `name` is wrong, and what the error says."""
    g, w, grads = case.grads[name], case.params[name], case.grads
    who = f"gradient of '{name}'"
    shapes = {(1, *g.shape), (*g.shape, 1), (), (1,) * g.ndim, (g.size,), g.shape[::-1]}
    for shape in sorted(shapes - {g.shape}):
        yield {**grads, name: np.zeros(shape, g.dtype)}, f"{who} has shape"
    for dtype in (F4 if w.dtype == F8 else F8, "i8", "?", "c8", "O", "U1", "M8[s]", "u2", "g"):
        if dtype != "g" or np.dtype("g").itemsize > 8:
            yield {**grads, name: np.zeros(g.shape, dtype)}, who
    swapped = (F8 if w.dtype == F8 else F4).newbyteorder()
    yield {**grads, name: np.zeros(g.shape, swapped)}, f"{who} must be a native"
    yield {**grads, name: np.zeros(g.shape, [("x", "f4")])}, f"{who} must be a native"
    yield {**grads, name: g.astype("f4").tolist()}, f"{who} must be an array, got (list|float)"
    yield {**grads, name: "abc"}, f"{who} must be an array, got str"
    yield {**grads, name: None}, f"{who} is missing"
    yield {**grads, name: np.ma.zeros(g.shape, F8 if w.dtype == F8 else F4)}, f"{who} is a masked"
    yield {key: one for key, one in grads.items() if key != name}, f"{who} is missing"
    yield {**grads, "z": g}, "unknown name 'z'"
    yield [*grads.values(), g], f"arrays for {len(grads)} parameters"
    if g.size:
        own = [w, w[::-1] if w.ndim else w, *case.opt.state[name].values()]
        for mine in own:
            if mine.shape == g.shape and mine.dtype.itemsize > 1 and mine.dtype != "u2":
                yield {**grads, name: mine}, f"{who} shares memory"
    if case.options["zero_grad"]:
        frozen = g.copy()
        frozen.flags.writeable = False
        yield {**grads, name: frozen}, f"{who} is read-only"
        if g.size > 1:
            same = np.lib.stride_tricks.as_strided(g.copy(), g.shape, (0,) * g.ndim)
            yield {**grads, name: same}, f"{who} has elements that share memory"
        for other, one in grads.items():
            if other != name and g.size and (one.shape, one.dtype) == (g.shape, g.dtype):
                yield {**grads, name: one}, "share memory, and zero_grad writes"


def everything(case):
    """All that an error must leave alone, in a form to compare."""
    kept = case.opt.state_dict()
    kept["state"] = {
        (name, key): digest(array)
        for name, one in kept["state"].items()
        for key, array in one.items()
    }
    return digest(case.memory.bytes[: case.memory.end]), kept


def digest(array):
    return hashlib.sha1(array.tobytes()).hexdigest()


@drawn(250)
@given(st.data())
def test_after_a_wrong_gradient_nothing_has_changed(data):
    case = Case(data, zero_grad=data.draw(st.booleans()))
    for _ in range(data.draw(st.integers(0, 2))):  # perhaps in the middle of accumulation
        case.fill()
        case.step()
    name = data.draw(st.sampled_from(sorted(case.grads)))
    case.fill()
    if case.rule == "look-ahead":
        with case.opt.lookahead(), case.twin.lookahead():
            case.formula.look_ahead(())
    before = everything(case)
    bound = case.options["accumulate"] == 1 and data.draw(st.booleans())
    if bound:
        case.opt.bind(case.grads)
    for grads, match in wrong_gradients(case, name):
        with pytest.raises((TypeError, ValueError), match=match):
            case.opt.bind(grads) if bound else case.opt.step(grads)
        assert everything(case) == before, match
    case.step(bound=bound)
    case.compare()


class Stop(Exception):
    """Of a hook."""


@drawn(200)
@given(st.data())
def test_after_a_wrong_number_or_a_gradient_that_is_not_finite_nothing_has_changed(data):
    case = Case(data, nonfinite=data.draw(st.sampled_from(["propagate", "raise"])))
    group, bad = case.opt.param_groups[0], []
    lr, limits = group["lr"], {key: group[key] for key in ("lower", "upper")}
    group["lr"] = lambda t: -1.0 if bad else lr
    case.fill()
    while True:  # until the next gradient leads to a step
        if case.rule == "look-ahead":
            with case.opt.lookahead(), case.twin.lookahead():
                case.formula.look_ahead(())
        if case.opt._gathered == case.options["accumulate"] - 1:
            break
        case.step()

    def refused(match, error=ValueError):
        before = everything(case)
        with pytest.raises(error, match=match):
            case.opt.step(case.grads)
        assert everything(case) == before, match

    bad.append(True)
    refused("lr must be")
    bad.clear()
    for key, value in ("lower", 2.0), ("upper", 1.0):
        group[key] = value
    refused("lower must be <= upper")
    for key in limits:
        group[key] = limits[key]

    def stop(opt, grads):
        raise Stop

    remove = case.opt.add_step_hook(before=stop)
    refused(None, Stop)
    remove()
    some = any(g.size for g in case.grads.values())
    if some and case.options["accumulate"] == 1 and case.options["nonfinite"] == "raise":
        case.fill(bad=True)
        refused(r"gradient of '[abc]' is -?(nan|inf) at index", FloatingPointError)
    case.fill()
    case.step()
    case.compare()
