"""Parameters and gradients of 16 bits, compressed states; against conversions written out here."""

import numpy as np
import pytest

import fastopt
from fastopt import _core
from fastopt.rules import precision

bf16 = pytest.importorskip("ml_dtypes").bfloat16

SPECIAL = np.array(
    [
        0.0,
        -0.0,
        np.inf,
        -np.inf,
        np.nan,
        1e-45,
        6e-8,
        5.9e-8,
        2.98e-8,
        6.1e-5,
        65504,
        65519.9,
        3e-8,
        65520,
        1e5,
        3.4e38,
        -3.4e38,
        1 + 2**-8,
        1 + 2**-9,
        1 + 3 * 2**-9,
        1.00048828125,
    ],
    "f4",
)


@pytest.fixture(params=_core.isa_available())
def isa(request):
    before = _core.get_isa()
    _core.set_isa(request.param)
    yield request.param
    _core.set_isa(before)


def sample(n=100_003):
    rng = np.random.default_rng(0)
    x = rng.standard_normal(n) * 10.0 ** rng.integers(-9, 6, n)
    return np.concatenate([SPECIAL, x.astype("f4")])


def stored(x, name):
    out = np.zeros(x.shape, np.float16 if name == "float16" else np.uint16)
    _core.encode(x, out, stochastic=False)
    return out if name == "float16" else out.view(bf16)


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_rounding_to_nearest_is_that_of_numpy_and_ml_dtypes(isa, name):
    x = sample()
    low = stored(x, name)
    with np.errstate(over="ignore"):
        wanted = x.astype(low.dtype)
    bad = np.isnan(x)
    assert np.isnan(low[bad].astype("f4")).all()
    if name == "bfloat16":  # a float32 that is subnormal is 0 in a step, and may be 0 here
        bad |= np.abs(x) < 1.2e-38
    np.testing.assert_array_equal(low[~bad].view("u2"), wanted[~bad].view("u2"))


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_every_16_bit_number_is_read_exactly(isa, name):
    low = np.arange(65536, dtype=np.uint16)
    low = low.view(np.float16 if name == "float16" else bf16)
    out = np.zeros(65536, "f4")
    _core.decode(precision.bits(low), out)
    np.testing.assert_array_equal(out, low.astype("f4"))


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_stochastic_rounding_takes_a_neighbour_and_is_right_on_average(isa, name):
    low_dtype = np.float16 if name == "float16" else bf16
    for value in 1.003, -0.7777, 3.1e-6, 1000.7:
        x = np.full(200_000, value, "f4")
        out = np.zeros(x.shape, np.float16 if name == "float16" else np.uint16)
        _core.encode(x, out, key=7)
        found = np.unique(out.view(low_dtype).astype("f8"))
        assert len(found) == 2 and found[0] < value < found[1]
        mean = out.view(low_dtype).astype("f8").mean()
        gap = found[1] - found[0]
        assert abs(mean - np.float32(value)) < 5 * gap / 2 / np.sqrt(x.size)
    exact = np.array([1.0, 0.5, -2.0, 0.0, np.inf, -np.inf], "f4")
    out = np.zeros(6, np.float16 if name == "float16" else np.uint16)
    _core.encode(exact, out, key=3)
    np.testing.assert_array_equal(out.view(low_dtype).astype("f4"), exact)


def in_order(stored):
    """Codes as csrc/compressed.inc lays them out, in the order of their elements."""
    whole = stored.size // 64 * 64
    words = stored[:whole].reshape(-1, 16, 4)
    return np.concatenate([words.transpose(0, 2, 1).reshape(-1), stored[whole:]])


def grid(largest, signed):
    """The magnitudes that the codes of a quantum stand for: 8 to an octave, in float64."""
    fraction, exponent = np.frexp(np.float64(largest))  # fraction in [1/2, 1)
    if not signed:
        steps = 8 * (exponent - 1) + int((2 * fraction - 1) * 8) - 254 + np.arange(256)
        return 2.0 ** (steps // 8) * (1 + steps % 8 / 8)
    first = exponent - 1 - (14 if fraction >= 0.875 else 15)
    steps = np.arange(128)
    return 2.0**first * (2.0 ** (steps // 8) * (1 + steps % 8 / 8) - 1)


def spread(rng, n, signed):
    """Numbers of many magnitudes, in quanta of many magnitudes; the first has only zeros."""
    x = rng.standard_normal(n) * 10.0 ** rng.integers(-12, 1, n)
    x *= np.repeat(10.0 ** rng.integers(-9, 9, -(-n // 256)), 256)[:n]
    x[rng.random(n) < 0.1] = 0
    x[:256] = 0
    return (x if signed else np.abs(x)).astype("f4")


@pytest.mark.parametrize("n", [7, 64, 255, 256, 2048, 5003])
@pytest.mark.parametrize("signed", [True, False])
def test_8_bit_codes_are_neighbours_on_their_grid(isa, signed, n):
    x = spread(np.random.default_rng(n), n + 256, signed)
    codes, largest = np.zeros(x.size, np.uint8), np.zeros(-(-x.size // 256), "f4")
    values = np.zeros(x.size, "f4")
    _core.encode(x, (codes, largest, signed), key=3)
    _core.decode((codes, largest, signed), values)
    codes = in_order(codes)
    assert not values[:256].any()
    for q in range(1, largest.size):
        part = slice(256 * q, 256 * q + 256)
        size = np.abs(x[part]).astype("f8")
        assert largest[q] == size.max()
        if largest[q] == 0:
            assert not values[part].any()
            continue
        numbers = grid(largest[q], signed)
        code = (codes[part] & (127 if signed else 255)).astype(int)
        wanted = numbers[code]
        if signed:
            np.testing.assert_array_equal(codes[part] >= 128, np.signbit(x[part]))
            wanted = np.copysign(wanted, x[part])
        np.testing.assert_array_equal(values[part], wanted.astype("f4"))
        size = np.maximum(size, numbers[0])  # unsigned, what is less becomes the least
        below = np.searchsorted(numbers, size, side="right") - 1
        assert ((code == below) | (code == below + 1)).all()
        assert numbers[0] < 3e-10 * largest[q] <= largest[q] <= numbers[-1]


@pytest.mark.parametrize("signed", [True, False])
def test_8_bit_rounding_is_right_on_average(isa, signed):
    x = spread(np.random.default_rng(1), 5003, signed)
    codes, largest = np.zeros(5003, np.uint8), np.zeros(20, "f4")
    seen, out, rounds = np.zeros(5003), np.zeros(5003, "f4"), 1000
    for key in range(rounds):
        _core.encode(x, (codes, largest, signed), key=key)
        _core.decode((codes, largest, signed), out)
        seen += out
    error, worst = seen / rounds - x, 0
    for q in range(1, 20):
        numbers, part = grid(largest[q], signed), slice(256 * q, 256 * q + 256)
        size = np.maximum(np.abs(x[part]), numbers[0]).astype("f8")
        at = np.clip(np.searchsorted(numbers, size, side="right"), 1, numbers.size - 1)
        gap = numbers[at] - numbers[at - 1]
        if not signed:  # what is less than the least becomes the least
            error[part] += x[part] - size
        # a step of a gap that happens with probability p has variance p (1 - p) <= 1/4
        worst = max(worst, np.max(np.abs(error[part]) / gap))
        assert abs(np.mean(error[part] / gap)) < 5 * 0.5 / np.sqrt(rounds * size.size)
    assert worst < 5 * 0.5 / np.sqrt(rounds)


@pytest.mark.parametrize("signed", [True, False])
def test_one_bad_number_spoils_its_256(isa, signed):
    for bad in np.nan, -np.nan, np.inf, np.uint32(0xFFFFFFFF).view("f4"):
        x = np.ones(1000, "f4")
        x[300] = bad
        codes, largest, out = np.zeros(1000, np.uint8), np.zeros(4, "f4"), np.zeros(1000, "f4")
        _core.encode(x, (codes, largest, signed))
        _core.decode((codes, largest, signed), out)
        assert np.isnan(out[256:512]).all()
        assert np.isfinite(out[:256]).all() and np.isfinite(out[512:]).all()


def test_unsigned_codes_do_not_become_0_next_to_others(isa):
    x = np.zeros(256, "f4")
    x[3], x[5] = 1.0, 1e-30
    codes, largest, out = np.zeros(256, np.uint8), np.zeros(1, "f4"), np.zeros(256, "f4")
    for key in range(20):
        _core.encode(x, (codes, largest, False), key=key)
        _core.decode((codes, largest, False), out)
        assert out[3] == 1 and (np.delete(out, 3) == 1.25 * 2.0**-32).all()


@pytest.mark.parametrize(
    ("half", "make"),
    [
        (2**-11, lambda: np.zeros(1024, np.float16)),
        (2**-8, lambda: np.zeros(1024, np.uint16)),
        (2**-4, lambda: (np.zeros(1024, np.uint8), np.zeros(4, "f4"), True)),
        (2**-4, lambda: (np.zeros(1024, np.uint8), np.zeros(4, "f4"), False)),
    ],
    ids=["float16", "bfloat16", "signed", "unsigned"],
)
def test_any_two_elements_are_rounded_independently(half, make):
    """In one quantum or two, at the same place or not: half of them up, and uncorrelated."""
    rounds, x, stored = 2000, np.full(1024, 1 + half, "f4"), make()
    sign, out = np.zeros((rounds, 1024), "f4"), np.zeros(1024, "f4")
    for key in range(rounds):
        _core.encode(x, stored, key=key)
        _core.decode(stored, out)
        sign[key] = np.where(out > x, 1, -1)
    correlation = sign.T @ sign / rounds
    np.fill_diagonal(correlation, 0)
    # of 500,000 numbers with this standard deviation, the largest is 5.1 of them
    assert np.abs(correlation).max() < 6.5 / np.sqrt(rounds)
    assert np.abs(sign.mean(0)).max() < 5 / np.sqrt(rounds)


def test_arrays_and_steps_are_rounded_independently():
    w = {name: np.zeros(20_480, "f4") for name in "ab"}
    opt = fastopt.SGD(w, lr=1.0, momentum=0.9, state_dtype="8bit")
    seen = []
    for _ in range(4):
        for key in "ab":  # 0.9 * 1 + 0.1625 lies in the middle of two codes
            opt.state[key]["momentum_buffer"][...] = 120
            opt.state[key]["momentum_buffer.largest"][...] = 1.0
        opt.step({name: np.full(20_480, 0.1625, "f4") for name in "ab"})
        seen += [opt.state_value(key, "momentum_buffer") > 1.0625 for key in "ab"]
    assert np.abs(np.mean(seen, 1) - 0.5).max() < 5 * 0.5 / np.sqrt(20_480)
    # In one step, 1 of 32 pairs of quanta has the same noise or its opposite, so that of 80
    # correlations this many have size 1 and their sum the variance 80 / 32.
    off = np.abs(np.corrcoef(seen) - np.eye(8)).max()
    assert off < 5 * np.sqrt(80 * (1 / 32 + 1 / 256)) / 80


def test_16_bit_parameters_move_where_rounding_to_nearest_stalls():
    """100 steps of 1e-3 from 1: bfloat16's numbers below 1 are 2^-8 apart."""
    ends = {}
    for rounding in precision.ROUNDINGS:
        w = np.ones(4096, bf16)
        opt = fastopt.SGD(w, lr=1e-3, rounding=rounding)
        for _ in range(100):
            opt.step(np.ones(4096, bf16))
        ends[rounding] = w.astype("f4")
    assert (ends["nearest"] == 1).all()
    assert (ends["master"] == np.float32(0.9).astype(bf16).astype("f4")).all()
    np.testing.assert_allclose(ends["kahan"], 0.9, atol=2**-8)
    assert abs(ends["stochastic"].mean() - 0.9) < 1e-3
    # each step has variance 1e-3 * 2^-8 at most: the step times the gap that it is rounded in
    assert ends["stochastic"].std() < np.sqrt(100 * 1e-3 * 2**-8)


@pytest.mark.parametrize("grad", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("param", ["float32", "float16", "bfloat16"])
def test_a_step_computes_in_float32_from_what_is_stored(isa, param, grad):
    dtypes = {"float32": np.float32, "float16": np.float16, "bfloat16": bf16}
    rng = np.random.default_rng(0)
    for shape in (5000,), (30, 70):
        w = rng.standard_normal(shape).astype(dtypes[param])
        g = rng.standard_normal(shape).astype(dtypes[grad])
        ref = w.astype("f4")
        opt, peer = fastopt.Adam(w, lr=0.1, rounding="nearest"), fastopt.Adam(ref, lr=0.1)
        for _ in range(3):
            opt.step(g)
            peer.step(g.astype("f4"))
            ref[...] = ref.astype(dtypes[param])
        np.testing.assert_array_equal(w.astype("f4"), ref)
        for key in "exp_avg", "exp_avg_sq":
            assert opt.state["0"][key].dtype == np.float32
            np.testing.assert_array_equal(opt.state["0"][key], peer.state["0"][key])


@pytest.mark.parametrize("rounding", precision.ROUNDINGS)
@pytest.mark.parametrize("state", precision.STATE_DTYPES)
def test_threads_layouts_and_instruction_sets_do_not_change_a_bit(rounding, state):
    rng = np.random.default_rng(0)
    start = rng.standard_normal((90, 700)).astype(bf16)
    grads = [rng.standard_normal((90, 700)).astype("f4") for _ in range(3)]
    seen = set()
    before = fastopt.get_isa()
    for isa in fastopt.isa_available():
        fastopt.set_isa(isa)
        for threads in 1, 2, 3:
            for strided in False, True:
                owner = np.zeros((180, 700), bf16)
                w = owner[::2] if strided else owner[:90]
                w[...] = start
                opt = fastopt.AdamW(
                    {"a": np.zeros(1001, "f4"), "w": w},
                    lr=0.1,
                    threads=threads,
                    rounding=rounding,
                    state_dtype=state,
                )
                for g in grads:
                    opt.step({"a": g.reshape(-1)[:1001].copy(), "w": g})
                seen.add(w.tobytes() + b"".join(s.tobytes() for s in opt.state["w"].values()))
    fastopt.set_isa(before)
    assert len(seen) == 1


def test_master_weights_are_the_float32_training():
    rng = np.random.default_rng(0)
    w = rng.standard_normal((40, 60)).astype(bf16)
    ref = w.astype("f4")
    opt, peer = fastopt.Adam({"w": w}, rounding="master"), fastopt.Adam(ref)
    for _ in range(20):
        g = rng.standard_normal((40, 60)).astype("f4")
        opt.step({"w": g})
        peer.step(g)
    np.testing.assert_array_equal(opt.state["w"]["master"], ref)
    np.testing.assert_array_equal(w, ref.astype(bf16))


@pytest.mark.parametrize("dtype", ["bfloat16", "8bit"])
@pytest.mark.parametrize(
    ("cls", "options"),
    [
        (fastopt.Adam, {}),
        (fastopt.AdamW, {"weight_decay": 0.1}),
        (fastopt.Lion, {"lr": 0.01}),
        (fastopt.SGD, {"lr": 0.02, "momentum": 0.9}),
    ],
)
def test_compressed_states_stay_near_the_exact_ones(cls, options, dtype):
    rng = np.random.default_rng(0)
    w, ref = np.zeros(20_000, "f4"), np.zeros(20_000, "f4")
    options = {"lr": 0.01, **options}
    opt, peer = cls(w, state_dtype=dtype, **options), cls(ref, **options)
    for _ in range(100):
        g = (rng.standard_normal(20_000) + 0.5).astype("f4")
        opt.step(g)
        peer.step(g)
    # 8-bit squares wander: each step moves them by 1e-3 and is rounded in a gap of 1/8, so after
    # 100 steps they are off by up to sqrt(100 * 1e-3 / 8) = 0.11, and the steps by half of that.
    assert np.std(w - ref) < 0.11 / 2 * abs(ref.mean()) + (0.1 * abs(ref.mean()))
    assert np.corrcoef(w, ref)[0, 1] > 0.9
    assert abs(w.mean() / ref.mean() - 1) < 0.02
    for key in peer.state["0"]:
        exact, found = peer.state["0"][key], opt.state_value("0", key)
        assert found.dtype == np.float32
        # an average of rounded numbers; unbiased, so the means agree
        assert abs(found.mean() / exact.mean() - 1) < 0.02
    size = sum(s.nbytes for s in opt.state["0"].values())
    full = sum(s.nbytes for s in peer.state["0"].values())
    assert size / full == pytest.approx(0.5 if dtype == "bfloat16" else 0.254, abs=0.001)


@pytest.mark.parametrize("rounding", precision.ROUNDINGS)
@pytest.mark.parametrize("state", precision.STATE_DTYPES)
def test_low_precision_resumes_bit_for_bit(tmp_path, rounding, state):
    rng = np.random.default_rng(0)
    w = rng.standard_normal(3000).astype(bf16)
    grads = [rng.standard_normal(3000).astype(bf16) for _ in range(6)]
    opt = fastopt.Adam({"w": w}, lr=0.1, rounding=rounding, state_dtype=state)
    for g in grads[:3]:
        opt.step({"w": g})
    opt.save(tmp_path / "s")
    other = w.copy()
    twin = fastopt.Adam({"w": other}, lr=0.1, rounding=rounding, state_dtype=state)
    twin.load(tmp_path / "s")
    for g in grads[3:]:
        opt.step({"w": g})
        twin.step({"w": g})
    assert w.tobytes() == other.tobytes()
    with pytest.raises(ValueError, match="does not fit"):
        fastopt.Adam({"w": np.zeros(3000)}, lr=0.1).load(tmp_path / "s")


@pytest.mark.parametrize("through", ["dict", "file"])
def test_8_bit_states_go_to_arrays_of_the_same_order(tmp_path, through):
    """One magnitude is for 256 elements that follow each other in memory."""
    rng = np.random.default_rng(0)
    start, g = rng.standard_normal((2, 40, 50)).astype("f4")
    g *= 10.0 ** rng.integers(-3, 3, (40, 1))

    def made(order):
        return fastopt.Adam({"w": start.copy(order)}, state_dtype="8bit")

    for order, other in "CF", "FC":
        opt, twin, wrong = made(order), made(order), made(other)
        opt.step({"w": g})
        opt.save(tmp_path / "s")
        stored = opt.state_dict()
        load = (
            (lambda one: one.load(tmp_path / "s"))
            if through == "file"
            else (lambda one, stored=stored: one.load_state_dict(stored))
        )
        load(twin)
        average = twin.state_value("w", "exp_avg")
        np.testing.assert_array_equal(average, opt.state_value("w", "exp_avg"))
        with pytest.raises(ValueError, match="'exp_avg' of 'w' has its axes in another order"):
            load(wrong)
        assert not wrong.state_value("w", "exp_avg").any()


def test_wrong_types_are_refused():
    w = np.zeros(4, "f4")
    opt = fastopt.SGD({"w": w}, lr=1.0)
    for g in np.zeros(4, "u2"), np.zeros(4, "f8"), np.zeros(4, ">f2"):
        with pytest.raises(TypeError, match="gradient of 'w' must be a native float32, float16"):
            opt.step({"w": g})
    with pytest.raises(TypeError, match="native float64 array"):
        fastopt.SGD({"w": np.zeros(4)}, lr=1.0).step({"w": np.zeros(4, bf16)})
    with pytest.raises(TypeError, match="parameter 'w' must be"):
        fastopt.SGD({"w": np.zeros(4, "u2")}, lr=1.0)


def test_gradients_that_share_memory_with_16_bit_parameters_are_refused():
    w = np.zeros(8, bf16)
    opt = fastopt.SGD({"w": w[:4]}, lr=1.0)
    with pytest.raises(ValueError, match="shares memory"):
        opt.step({"w": w[2:6]})


def test_the_largest_of_rounded_squares_is_refused():
    with pytest.raises(ValueError, match="amsgrad keeps the largest v"):
        fastopt.Adam(np.ones(4, "f4"), amsgrad=True, state_dtype="8bit")


def accuracy(digits, **options):
    """Of one hidden layer on MNIST after one pass over a third of it."""
    x, y = (digits["train_x"][:20_000].reshape(-1, 784) / 255).astype("f4"), digits["train_y"]
    rng = np.random.default_rng(0)
    p = {
        "W": (rng.standard_normal((784, 64)) * np.sqrt(2 / 784)).astype("f4"),
        "V": (rng.standard_normal((64, 10)) / 8).astype("f4"),
    }
    opt = fastopt.Adam(p, lr=2e-3, **options)
    for rows in np.split(rng.permutation(20_000), 200):
        hidden = np.maximum(x[rows] @ p["W"], 0)
        q = np.exp(hidden @ p["V"])
        q /= q.sum(1, keepdims=True)
        q[np.arange(100), y[rows]] -= 1
        back = (q @ p["V"].T) * (hidden > 0)
        opt.step({"W": x[rows].T @ back / 100, "V": hidden.T @ q / 100})
    test = (digits["test_x"].reshape(-1, 784) / 255).astype("f4")
    found = np.argmax(np.maximum(test @ p["W"], 0) @ p["V"], 1)
    return float((found == digits["test_y"]).mean())


def test_8_bit_adam_trains_mnist_to_the_same_accuracy(data_dir):
    with np.load(data_dir / "mnist.npz") as digits:
        exact, compressed = accuracy(digits), accuracy(digits, state_dtype="8bit")
    assert exact > 0.9
    assert abs(exact - compressed) < 0.01
