"""Every wrong input is refused by name, and after an error nothing has changed."""

import array
import ctypes
import signal
import threading
import time

import numpy as np
import pytest

import fastopt
from fastopt import SGD, Adam


def refused(match, call, error=(ValueError, TypeError, KeyError)):
    with pytest.raises(error, match=match):
        call()


def read_only():
    w = np.zeros(3)
    w.flags.writeable = False
    return w


base = np.zeros((4, 4))


@pytest.mark.parametrize(
    ("params", "match"),
    [
        ([], "params is empty"),
        ({}, "params is empty"),
        ({"W": read_only()}, "'W' is read-only"),
        ({"W": np.zeros(3, ">f8")}, "'W' must be a native float32, float64"),
        (
            {"W": np.zeros(3, int)},
            "'W' must be a native float32, float64, float16 or bfloat16 array, got dtype..int64",
        ),
        ({"W": np.zeros(3, object)}, "'W' must be"),
        ({"W": np.zeros(3, ">f2")}, "'W' must be"),
        ({"W": np.zeros(3, complex)}, "'W' must be"),
        ({"W": [1.0, 2.0]}, "'W' must be a numpy array.*got list"),
        (3.0, "'0' must be a numpy array"),
        ({"W": None}, "'W' must be a numpy array"),
        ({1: np.zeros(3)}, "names must be strings, got 1"),
        ({"W": np.ma.zeros(3)}, "'W' is a masked array"),
        ({"W": np.zeros((2, 2)).view(np.matrix)}, "'W' is a matrix, whose own rules"),
        ({"W": np.zeros(3).view(np.recarray)}, "'W' is a recarray, whose own rules"),
        ({"W": np.broadcast_to(np.zeros(1), 3)}, "'W' is read-only|share memory"),
        (
            {"W": np.lib.stride_tricks.as_strided(np.zeros(4), (3, 2), (8, 8))},
            "'W' has elements that",
        ),
        ({"W": np.lib.stride_tricks.as_strided(np.zeros(4), (3,), (0,))}, "'W' has elements that"),
        ([base, base], "'0' and '1' share memory"),
        ({"a": base[:, :2], "b": base[:, 1:]}, "'a' and 'b' share memory|'b' and 'a' share"),
        ([{"params": base}, {"params": {"0": np.zeros(2)}}], "'0' is in two groups"),
        ([{"lr": 1.0}], "group 0 has no 'params'"),
        ([{"params": base, "rl": 1.0}], "unknown hyper-parameter 'rl' in group 0.*'lr'"),
    ],
)
def test_wrong_parameters_are_refused_by_name(params, match):
    refused(match, lambda: SGD(params, lr=0.1))


def test_interleaved_views_are_no_overlap():
    SGD({"a": base[:, ::2], "b": base[:, 1::2]}, lr=0.1)
    SGD({"a": base[::2], "b": base[1::2], "empty": base[:0]}, lr=0.1)


@pytest.mark.parametrize(
    ("cls", "options", "match"),
    [
        (SGD, {}, "lr is required"),
        (SGD, {"lr": -1.0}, "SGD: lr must be a finite number >= 0, got -1.0"),
        (SGD, {"lr": float("nan")}, "lr must be"),
        (SGD, {"lr": float("inf")}, "lr must be"),
        (SGD, {"lr": "0.1"}, "lr must be"),
        (SGD, {"lr": True}, "lr must be"),
        (SGD, {"lr": 0.1, "momentum": 1.5}, r"momentum must be a finite number in \[0, 1\]"),
        (SGD, {"lr": 0.1, "nesterov": True}, "nesterov=True needs momentum > 0"),
        (SGD, {"lr": 0.1, "momentum_form": "heavy"}, "'torch' or 'classic'"),
        (SGD, {"lr": 0.1, "weight_decay": -1e-4}, "weight_decay must be"),
        (Adam, {"betas": (0.9, 1.0)}, r"betas must be two finite numbers in \[0, 1\)"),
        (Adam, {"betas": 0.9}, "betas must be"),
        (Adam, {"betas": (0.9, float("nan"))}, "betas must be"),
        (Adam, {"eps": -1e-8}, "eps must be"),
        (Adam, {"clip_norm": 0.0}, "clip_norm must be"),
        (Adam, {"clip_norm": float("nan")}, "clip_norm must be"),
        (Adam, {"threads": 0}, "threads"),
        (Adam, {"learning_rate": 0.1}, "unknown keyword 'learning_rate'; did you mean 'lr'"),
        (Adam, {"beta1": 0.1}, "did you mean 'betas'"),
        (Adam, {"weight_decy": 0.1}, "did you mean 'weight_decay'"),
        (Adam, {"clipnorm": 1.0}, "did you mean 'clip_norm'"),
        (Adam, {"zebra": 1.0}, "unknown keyword 'zebra'; known: 'lr'"),
        (fastopt.RMSprop, {"alpha": 1.0}, "alpha must be"),
        (fastopt.RMSprop, {"rho": 0.9}, "did you mean 'alpha'"),
        (fastopt.Adagrad, {"initial_accumulator_value": -1}, "initial_accumulator_value must be"),
        (Adam, {"lr": lambda t: float("nan")}, "lr must be.*from its schedule at t=0"),
    ],
)
def test_wrong_hyper_parameters_are_refused_by_name(cls, options, match):
    refused(match, lambda: cls(np.zeros(3), **options))


def unchanged(opt, arrays, call, match):
    before = [a.copy() for a in arrays]
    states = [s.copy() for one in opt.state.values() for s in one.values()]
    t = opt.t
    refused(match, call)
    assert all((a == b).all() for a, b in zip(arrays, before, strict=True))
    after = [s for one in opt.state.values() for s in one.values()]
    assert all((a == b).all() for a, b in zip(after, states, strict=True))
    assert opt.t == t


GOOD = {"W": np.ones((2, 3)), "b": np.ones(3)}


@pytest.mark.parametrize(
    ("grads", "match"),
    [
        (None, "grads is missing"),
        ({}, "gradient of 'W' is missing"),
        ({"W": GOOD["W"]}, "gradient of 'b' is missing"),
        ({**GOOD, "b": None}, "gradient of 'b' is missing"),
        ({**GOOD, "c": np.ones(1)}, "unknown name 'c'"),
        ({"W": GOOD["W"], "B": GOOD["b"]}, "unknown name 'B'; did you mean 'b'|unknown name 'B'"),
        ([GOOD["W"]], "grads has 1 arrays for 2 parameters: W, b"),
        (GOOD["W"], "grads has 1 arrays for 2 parameters"),
        ({**GOOD, "b": np.ones(4)}, r"'b' has shape \(4,\), its parameter \(3,\)"),
        ({**GOOD, "W": np.ones((3, 2))}, r"'W' has shape \(3, 2\)"),
        ({**GOOD, "W": np.ones(6)}, r"'W' has shape \(6,\)"),
        ({**GOOD, "b": np.ones(3, "float32")}, "'b' must be a native float64 array.*'f'"),
        ({**GOOD, "b": np.ones(3, int)}, "'b' must be a native float64"),
        ({**GOOD, "b": np.ones(3, ">f8")}, "'b' must be a native float64"),
        ({**GOOD, "b": [1.0, 1.0, 1.0]}, "'b' must be an array, got list"),
        ({**GOOD, "b": "abc"}, "'b' must be an array, got str"),
        ([{"W": GOOD["W"]}, {"b": GOOD["b"]}], "grads has 2 groups, the optimizer 1"),
    ],
)
@pytest.mark.parametrize("cls", [SGD, Adam])
def test_wrong_gradients_are_refused_and_nothing_has_changed(cls, grads, match):
    params = {"W": np.ones((2, 3)), "b": np.ones(3)}
    opt = cls(params, lr=0.1)
    opt.step(GOOD)
    unchanged(opt, list(params.values()), lambda: opt.step(grads), match)
    if grads is not None:
        unchanged(opt, list(params.values()), lambda: opt.bind(grads), match)
    opt.step(GOOD)
    assert opt.t == 2


def test_gradients_that_share_memory_with_parameters_or_states_are_refused():
    w = np.ones(10)
    opt = Adam({"w": w, "u": np.ones(10)}, lr=0.1)
    for bad in (w, w[::-1], opt.state["u"]["exp_avg"]):
        unchanged(
            opt,
            [w],
            lambda bad=bad: opt.step({"w": np.ones(10), "u": bad}),
            "gradient of 'u' shares memory",
        )
    base = np.ones((10, 2))
    SGD(base[:, 0], lr=0.1).step(base[:, 1])
    assert (base[:, 0] == 0.9).all()


def test_a_bad_schedule_value_in_the_middle_changes_nothing():
    w = np.ones(3)
    opt = Adam(w, lr=lambda t: 0.1 if t < 2 else -1.0)
    opt.step(np.ones(3))
    opt.step(np.ones(3))
    unchanged(opt, [w], lambda: opt.step(np.ones(3)), "lr must be.*schedule at t=2")


def test_groups_check_what_is_set_later():
    opt = Adam(np.zeros(3))
    group = opt.param_groups[0]
    refused("lr must be", lambda: group.update(lr=-1.0))
    refused(
        "unknown hyper-parameter 'learning_rate'; did you mean 'lr'",
        lambda: group.update(learning_rate=1.0),
    )
    refused("unknown hyper-parameter 'params'", lambda: group.update(params={}))
    assert group["lr"] == 1e-3


def test_momentum_cannot_appear_without_its_buffer():
    w = np.zeros(1)
    opt = SGD(w, lr=0.1)
    opt.param_groups[0]["momentum"] = 0.9
    unchanged(opt, [w], lambda: opt.step(np.ones(1)), "momentum was 0 when")


def test_overflowing_scalars_are_refused():
    w = np.zeros(1)
    opt = Adam(w, lr=1.7e308)
    unchanged(opt, [w], lambda: opt.step(np.ones(1)), "scalar 'lr' of the rule is inf")


def test_bound_gradients_are_read_at_each_step():
    w, g = np.zeros(2), np.ones(2)
    opt = SGD(w, lr=1.0)
    opt.bind(g)
    opt.step()
    g[...] = 5
    opt.step()
    assert (w == -6).all()
    refused("bound already", lambda: opt.step(g))
    refused("cannot resize|resize", lambda: g.resize(5))
    opt.zero_grad()
    assert not g.any()
    opt.unbind()
    refused("grads is missing", opt.step)
    refused("no gradients are bound", opt.zero_grad)


@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (1,), (2, 3, 4, 5)])
def test_any_shape(shape):
    w = np.ones(shape)
    SGD({"w": w}, lr=0.5).step({"w": np.ones(shape)})
    assert w.shape == shape and (w == 0.5).all()


def test_a_failed_bind_keeps_the_old_binding():
    memory = array.array("d", [1.0] * 4)
    w = np.zeros(4)
    opt = SGD(w, lr=1.0, clip_norm=1.0)
    opt.bind(memory)
    refused("has shape", lambda: opt.bind(np.ones(5)))
    refused(None, lambda: memory.append(1.0), BufferError)  # still held
    opt.step()
    np.testing.assert_allclose(w, -0.5)
    opt.unbind()
    memory.append(1.0)


def test_a_step_inside_a_step_is_refused():
    """As from another thread: buffers and scalars of the outer step must stay."""
    w = np.zeros(2)

    def lr(t):
        if opt is not None and t == 1:
            refused("in use already", lambda: opt.step(np.ones(2)), RuntimeError)
            refused("in use already", opt.unbind, RuntimeError)
        return 1.0

    opt = None
    opt = SGD(w, lr=lr)
    opt.step(np.ones(2))
    opt.step(np.ones(2))
    opt.step(np.ones(2))
    np.testing.assert_array_equal(w, [-3, -3])
    assert opt.t == 3


def test_two_threads_never_mix_their_gradients():
    w = np.zeros(100_000)
    opt = SGD(w, lr=1.0)
    done = [0, 0]

    def work(k):
        gradient = np.full_like(w, 1.0 + k)
        for _ in range(300):
            try:
                opt.step(gradient)
                done[k] += 1
            except RuntimeError:
                pass

    threads = [threading.Thread(target=work, args=(k,)) for k in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert opt.t == sum(done)
    np.testing.assert_array_equal(w, -(done[0] + 2 * done[1]))


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs interval timers")
def test_ctrl_c_comes_before_or_after_a_step():
    w = np.zeros(4_000_000)
    opt = SGD(w, lr=1.0, threads=1)
    opt.bind(np.ones_like(w))
    start = time.perf_counter()
    opt.step()
    once = time.perf_counter() - start
    old = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        for share in (0.1, 0.3, 0.5, 0.7, 0.9):
            signal.setitimer(signal.ITIMER_REAL, once * share)
            with pytest.raises(KeyboardInterrupt):
                while True:
                    opt.step()
            assert (w == -opt.t).all()
    finally:
        signal.signal(signal.SIGALRM, old)


@pytest.mark.parametrize(("dtype", "large"), [("float32", 1e38), ("float64", 1e306)])
@pytest.mark.parametrize("per", ["all", "tensor", "row"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_clipping_a_huge_gradient_is_exact(dtype, large, order, per):
    """The factor itself is too small for the dtype."""
    if per != "all" and dtype == "float64":
        large = 1e304  # a factor below 1e-308 is 0 here, as subnormal numbers are in a step
    for norm in (1.0, 1e-3):
        w = np.zeros((2, 4), dtype, order)
        g = np.full((2, 4), large, dtype, order)
        g[1] = 0
        SGD(w, lr=1.0, clip_norm=norm, clip_per=per).step(g)
        np.testing.assert_allclose(w[0], -norm / 2, rtol=1e-6)


def test_scalars_must_fit_the_parameters_dtype():
    w = np.ones(2, "f4")
    gradient = np.zeros(2, "f4")
    refused(
        "eps is 1e-40 in this step, which is 0 in float32",
        lambda: Adam(w, eps=1e-40).step(gradient),
    )
    refused("'lr' of the rule is 1e.39.*too large", lambda: SGD(w, lr=1e39).step(gradient))
    np.testing.assert_array_equal(w, 1)
    Adam(w.astype("f8"), eps=1e-40).step(gradient.astype("f8"))


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64, np.int64])
def test_numpy_scalars_are_taken_in_double(kind):
    value = kind(1e-3) if kind is not np.int64 else kind(1)
    w, other = np.ones(1), np.ones(1)
    opt = fastopt.AdamW(w, lr=value, betas=(kind(0), 0.999), weight_decay=1e-5)
    fastopt.AdamW(other, lr=float(value), betas=(0.0, 0.999), weight_decay=1e-5).step(np.zeros(1))
    opt.step(np.zeros(1))
    assert w == other != 1
    opt.param_groups[0]["lr"] = lambda t: kind(1)
    opt.step(np.zeros(1))
    assert w == pytest.approx(other * (1 - 1e-5), rel=1e-15)


def test_misaligned_gradients_are_right_and_parameters_refused():
    bytes_ = np.zeros(4 * 9 + 1, np.uint8)
    odd = bytes_[1:].view("f4")
    refused("'0' is not aligned", lambda: SGD(odd, lr=1.0))
    w = np.zeros(9, "f4")
    odd[...] = np.arange(9)
    SGD(w, lr=1.0).step(odd)
    np.testing.assert_array_equal(w, -np.arange(9))


def test_a_matrix_of_ctypes_and_a_memoryview_of_two_dimensions():
    grid = ((ctypes.c_float * 3) * 2)((1, 2, 3), (4, 5, 6))
    for g in grid, memoryview(np.array(grid)), memoryview(np.asfortranarray(grid)):
        for order in "CF":
            w = np.zeros((2, 3), "f4", order)
            SGD(w, lr=1.0).step(g)
            np.testing.assert_array_equal(w, [[-1, -2, -3], [-4, -5, -6]])


def test_states_and_groups_cannot_be_replaced_unseen():
    opt = Adam({"w": np.zeros(2)})
    refused("mappingproxy", lambda: opt.state["w"].__setitem__("exp_avg", 0),
            (TypeError, AttributeError))  # fmt: skip
    group = opt.param_groups[0]
    group |= {"lr": 0.5}
    opt.step(np.ones(2))
    assert opt._arrays["w"][0] == pytest.approx(-0.5)
    refused("lr must be", lambda: group.__ior__({"lr": -1.0}))
    refused("cannot be removed", lambda: group.pop("lr"), TypeError)
    refused("cannot be removed", lambda: group.setdefault("x", 1), TypeError)
    refused("clip_norm must be", lambda: setattr(opt, "clip_norm", -1.0))
    refused("threads must be", lambda: setattr(opt, "threads", 0))


def test_a_growing_schedule_that_overflows_is_named():
    opt = SGD(np.zeros(1), lr=fastopt.schedules.exponential(1.0, 10.0))
    opt.load_state_dict(opt.state_dict() | {"t": 400})
    refused("SGD: the schedule of lr at t=400", lambda: opt.step(np.ones(1)))


def test_tiny_betas():
    """1 - beta rounds to 1."""
    w = np.zeros(1)
    Adam(w, lr=1.0, betas=(1e-17, 1e-300), eps=0.0).step(np.ones(1))
    assert w == -1


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("order", ["C", "F"])
def test_errors_speak_of_the_shapes_as_they_were_passed(order, accumulate):
    w = np.zeros((2, 3), order=order)
    opt = SGD(w, lr=1.0, accumulate=accumulate)
    match = r"gradient of '0' has shape \(3, 2\), its parameter \(2, 3\)"
    refused(match, lambda: opt.step(np.ones((3, 2))))
    refused("gradient of '0' must be an array, got list: use", lambda: opt.step([[[1.0]]]))


def test_gradients_without_a_buffer_are_refused_for_any_layout():
    class Copies:
        def __array__(self, dtype=None, copy=None):
            return np.zeros((3, 2))

    for w in (np.zeros((3, 2)), np.asfortranarray(np.zeros((3, 2)))):
        refused("gradient of '0'", lambda w=w: SGD(w, lr=1.0).bind(Copies()), TypeError)


def test_groups_are_as_many_as_the_optimizer_was_built_with():
    opt = SGD([{"params": np.zeros(1)}, {"params": np.zeros(1), "lr": 0.5}], lr=0.1)
    assert isinstance(opt.param_groups, tuple)
    refused("can't set|no setter", lambda: setattr(opt, "param_groups", ()), AttributeError)
    refused("grads has 'x'", lambda: opt.step([{"x": np.ones(1)}, {"1": np.ones(1)}]))
    refused(
        "grads has '1' in the group of 0",
        lambda: opt.step([{"0": np.ones(1), "1": np.ones(1)}, {"1": np.ones(1)}]),
    )


def test_several_values_are_set_together_or_not_at_all():
    opt = Adam(np.zeros(1))
    refused("eps must be", lambda: opt.param_groups[0].update(lr=0.5, eps=-1.0))
    assert opt.param_groups[0]["lr"] == 1e-3


def test_gradients_may_share_memory_unless_they_are_zeroed():
    """What is zeroed for one parameter would be read as 0 for the next."""
    g = np.ones(6000)
    same = np.lib.stride_tricks.as_strided(np.ones(1), (6000,), (0,))
    for grads, match in [
        ({"a": g, "b": g}, "gradients of 'a' and 'b' share memory, and zero_grad writes"),
        ({"a": np.ones(6000), "b": same}, "gradient of 'b' has elements that share memory"),
        ({"a": g[::-1], "b": g}, "'[ab]' and '[ab]' share memory"),
    ]:
        params = {"a": np.zeros(6000), "b": np.zeros(6000)}
        SGD(params, lr=1.0).step(grads)
        assert all((w == -1).all() for w in params.values())
        opt = SGD(params, lr=1.0, zero_grad=True, momentum=0.9)
        for call in opt.step, opt.bind:
            unchanged(opt, list(params.values()), lambda call=call, g=grads: call(g), match)
        assert all(g.all() for g in grads.values())
        opt.freeze("a")
        opt.step({"b": np.ones(6000)})
        assert (params["b"] == -2).all()
    both = np.ones((6000, 2))
    params = {"a": np.zeros(6000), "b": np.zeros(6000)}
    SGD(params, lr=1.0, zero_grad=True).step({"a": both[:, 0], "b": both[:, 1]})
    assert all((w == -1).all() for w in params.values()) and not both.any()


def test_zero_grad_zeroes_all_or_nothing():
    grads = [np.ones(2), np.ones(2)]
    grads[1].flags.writeable = False
    opt = SGD([np.zeros(2), np.zeros(2)], lr=1.0)
    opt.bind(grads)
    refused("gradient of '1' is read-only", opt.zero_grad)
    assert grads[0].all()


def test_other_slips_are_named():
    w = np.zeros(2)
    masked = np.ma.masked_array([1.0, 1e9], [False, True])
    refused("gradient of '0' is a masked array", lambda: SGD(w, lr=1.0).step(masked))
    refused("unknown keyword 'learning_rate'; did you mean 'lr'", lambda: SGD(w, learning_rate=1.0))
    refused(r"pass list\(\.\.\.\)", lambda: SGD((x for x in [w]), lr=1.0))
    refused(r"pass list\(\.\.\.\)", lambda: SGD({"w": w}.values(), lr=1.0))
    refused("is one group: put it in a list", lambda: SGD({"params": w, "lr": 0.1}, lr=1.0))
    opt = SGD(w, lr=0.1, momentum=0.9, nesterov=True)
    opt.param_groups[0]["dampening"] = 0.5
    refused("nesterov=True needs", lambda: opt.step(np.ones(2)))
    refused("it is a NoneType", lambda: opt.load_state_dict(None))
    refused("t must be an integer", lambda: opt.load_state_dict(opt.state_dict() | {"t": 10**30}))
    assert opt.t == 0 and not w.any()
