"""Arrays of any strides are updated where they lie, the rest of their memory is left alone."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastopt


def views(rng, dtype):
    """Views of all kinds of layout, with the array that owns the memory."""
    for shape, cut in [
        ((50, 7), np.s_[:, 0]),
        ((50, 7), np.s_[::3, 1:6:2]),
        ((100_003,), np.s_[::-1]),
        ((40, 60), np.s_[::-1, ::-2]),
        ((6, 5, 4), np.s_[:, 2]),
        ((9, 8), np.s_[3:4, :]),
        ((300, 400), np.s_[:, :399]),
        ((5, 3000), np.s_[:, ::2]),
    ]:
        owner = rng.standard_normal(shape).astype(dtype)
        yield owner, owner[cut]
        owner = rng.standard_normal(shape).astype(dtype)
        yield owner, owner.T[cut[::-1] if isinstance(cut, tuple) and len(cut) == 2 else ...]
        owner = rng.standard_normal((4, 3, 6, 5)).astype(dtype)
        yield owner, owner.transpose(0, 2, 3, 1)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("cls", [fastopt.SGD, fastopt.Adam])
def test_strided_equals_contiguous_and_touches_nothing_else(cls, dtype, threads):
    rng = np.random.default_rng(0)
    for owner, view in views(rng, dtype):
        untouched = owner.copy()
        plain = np.ascontiguousarray(view).copy()
        ours = cls({"w": view}, lr=0.1, threads=threads)
        peer = cls({"w": plain}, lr=0.1, threads=1)
        for k in range(2):
            g = rng.standard_normal(view.shape).astype(dtype)
            spread = np.empty((*view.shape, 2), dtype)[..., 1]
            spread[...] = g
            ours.step({"w": spread if k else np.asfortranarray(g)})
            peer.step({"w": g})
        assert view.tobytes() == plain.tobytes()
        for key, state in ours.state["w"].items():
            assert state.tobytes() == peer.state["w"][key].tobytes()
        view[...] = 0
        for other in np.flatnonzero((owner != 0).ravel()):
            assert owner.ravel()[other] == untouched.ravel()[other]


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_view_of_any_array(data):
    shape = data.draw(st.lists(st.integers(1, 9), min_size=1, max_size=4))
    cut = tuple(
        slice(data.draw(st.integers(0, n - 1)), None, data.draw(st.sampled_from([1, 2, 3])))
        if data.draw(st.booleans())
        else slice(None, None, data.draw(st.sampled_from([1, -1, -2])))
        for n in shape
    )
    owner = np.arange(1.0, 1 + np.prod(shape)).reshape(shape)
    view = owner[cut].transpose(data.draw(st.permutations(range(len(shape)))))
    expected = owner.copy()
    expected[cut] -= 0.5 * expected[cut]
    fastopt.SGD(view, lr=0.5).step(view.copy(order=data.draw(st.sampled_from("CFK"))))
    np.testing.assert_array_equal(owner, expected)
