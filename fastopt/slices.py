"""How much native work to do before the next look at Ctrl-C and the callback."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator

SLICE = 0.025  # seconds


def next_slice(done: int, seconds: float) -> int:
    """Return how many units of work take `SLICE`, `done` of them having taken `seconds`."""
    return max(1, int(done * min(4.0, SLICE / max(seconds, 1e-9))))


@contextlib.contextmanager
def held_interrupts() -> Iterator[None]:
    """Raise KeyboardInterrupt for a Ctrl-C in the block when it is left, not in the middle of it.

    Only where Ctrl-C raises it: on the main thread, with Python's own handler.
    """
    came: list[int] = []
    plain = threading.current_thread() is threading.main_thread()
    if not plain or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, lambda number, frame: came.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if came:
            raise KeyboardInterrupt
