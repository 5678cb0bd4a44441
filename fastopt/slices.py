"""How much native work to do before the next look at Ctrl-C and the callback."""

SLICE = 0.025  # seconds


def next_slice(done: int, seconds: float) -> int:
    """Return how many units of work take `SLICE`, `done` of them having taken `seconds`."""
    return max(1, int(done * min(4.0, SLICE / max(seconds, 1e-9))))
