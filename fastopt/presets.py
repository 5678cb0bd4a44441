"""Presets: the conventions of other libraries and of the sources, as keyword values."""

from __future__ import annotations

import functools
import inspect
from typing import Any

PRESETS: dict[str, dict[str, dict[str, Any]]] = {}


def accept(cls: type) -> None:
    """Let a class take `preset=`: the preset's keywords, unless they are given."""
    init = cls.__init__  # type: ignore[misc]
    signature = inspect.signature(init)

    @functools.wraps(init)
    def with_preset(self: Any, *args: Any, preset: str | None = None, **kwargs: Any) -> None:
        if preset is not None:
            given = signature.bind_partial(self, *args).arguments
            values = keywords(cls.__name__, preset)
            kwargs = {**{k: v for k, v in values.items() if k not in given}, **kwargs}
        init(self, *args, **kwargs)

    cls.__init__ = with_preset  # type: ignore[misc]


def keywords(name: str, preset: str) -> dict[str, Any]:
    """Return the keyword values of a preset for the class `name`."""
    if preset not in PRESETS:
        raise ValueError(f"{name}: preset must be one of {list(PRESETS)}, got {preset!r}")
    if name not in PRESETS[preset]:
        raise ValueError(f"{name}: there is no preset {preset!r} for it")
    return PRESETS[preset][name]
