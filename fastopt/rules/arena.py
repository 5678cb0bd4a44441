"""Arena: many arrays in one flat buffer, by name."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np


class Arena(Mapping[str, np.ndarray]):
    """One flat buffer with named views, to be filled, stepped, saved or sent as a whole.

    Parameters
    ----------
    shapes : mapping name -> shape
        Shapes as tuples or integers.
    dtype : {"float32", "float64"}
        Type of all of them.

    Attributes
    ----------
    flat : ndarray
        The buffer, one-dimensional, starting on a 64-byte boundary, zero at first. The views
        follow each other in it without gaps, in the order given.

    Examples
    --------
    >>> import fastopt
    >>> params = fastopt.Arena({"W": (2, 3), "b": 3})
    >>> params["W"][...] = 1
    >>> params.flat
    array([1., 1., 1., 1., 1., 1., 0., 0., 0.], dtype=float32)
    >>> grads = params.like()
    >>> opt = fastopt.Adam(params)                  # by name
    >>> opt = fastopt.Adam(params.flat)             # or as one parameter, the fastest
    """

    def __init__(self, shapes: Mapping[str, Any], dtype: Any = "float32") -> None:
        if not isinstance(shapes, Mapping) or not shapes:
            raise ValueError("Arena: shapes must be a non-empty mapping name -> shape")
        kind = np.dtype(dtype)
        if kind not in (np.dtype("float32"), np.dtype("float64")):
            raise ValueError(f"Arena: dtype must be 'float32' or 'float64', got {dtype!r}")
        wanted: dict[str, tuple[int, ...]] = {}
        for name, shape in shapes.items():
            try:
                shape = (shape,) if isinstance(shape, (int, np.integer)) else tuple(shape)
            except TypeError:
                raise TypeError(
                    f"Arena: the shape of {name!r} must be an integer or a tuple, got {shape!r}"
                ) from None
            if not isinstance(name, str):
                raise TypeError(f"Arena: names must be strings, got {name!r}")
            if not all(isinstance(n, (int, np.integer)) and n >= 0 for n in shape):
                raise ValueError(f"Arena: the shape of {name!r} must be integers >= 0, got {shape}")
            wanted[name] = tuple(int(n) for n in shape)
        size = sum(math.prod(shape) for shape in wanted.values())
        raw = np.zeros(size * kind.itemsize + 64, np.uint8)
        start = -raw.__array_interface__["data"][0] % 64
        self.flat = raw[start : start + size * kind.itemsize].view(kind)
        self._name(wanted)

    def _name(self, shapes: dict[str, tuple[int, ...]]) -> None:
        self._views: dict[str, np.ndarray] = {}
        at = 0
        for name, shape in shapes.items():
            end = at + math.prod(shape)
            self._views[name] = self.flat[at:end].reshape(shape)
            at = end

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy is made from: views and buffer must stay one."""
        return {"shapes": {name: view.shape for name, view in self.items()}, "flat": self.flat}

    def __setstate__(self, state: dict[str, Any]) -> None:
        # The very array: a copy made together with this one, of an optimizer say, has it too.
        self.flat = state["flat"]
        self._name(state["shapes"])

    def like(self) -> Arena:
        """Return a new arena of zeros with the same names, shapes and dtype."""
        return Arena({name: view.shape for name, view in self.items()}, self.flat.dtype)

    def __getitem__(self, name: str) -> np.ndarray:
        return self._views[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._views)

    def __len__(self) -> int:
        return len(self._views)

    def __repr__(self) -> str:
        shapes = ", ".join(f"{name}: {view.shape}" for name, view in self.items())
        return f"Arena({self.flat.dtype}, {shapes})"
