"""Live progress in one line with a curve: on a terminal, in a notebook, or as plain lines."""

from __future__ import annotations

import math
import shutil
import sys
import time
from collections.abc import Sequence
from typing import Any, TextIO

__all__ = ["Live", "sparkline"]

BARS, PLAIN = "▁▂▃▄▅▆▇█", "_.-=*#"
WIDTH = 24  # of a curve
REDRAW, LINE = 0.1, 1.0  # seconds between redrawings, and between lines where nothing is redrawn


def sparkline(values: Sequence[float], width: int = WIDTH, ascii: bool = False) -> str:
    """Return values as a curve in one line: bars between the lowest and the highest of them.

    Positive values are drawn on a logarithmic scale. More than `width` are thinned out: each bar is
    the last value of its part.

    Parameters
    ----------
    values : sequence of float
        Those that are not finite are left out.
    width : int, default 24
        Most characters.
    ascii : bool, default False
        Use characters that any terminal has.

    Examples
    --------
    >>> sparkline([8, 4, 2, 1])
    '█▆▃▁'
    >>> sparkline([1, 1], ascii=True), sparkline([])
    ('__', '')
    """
    values = [float(v) for v in values if math.isfinite(v)]
    if not values:
        return ""
    count = min(width, len(values))
    values = [values[(k + 1) * len(values) // count - 1] for k in range(count)]
    if min(values) > 0:
        values = [math.log(v) for v in values]
    low, bars = min(values), PLAIN if ascii else BARS
    spread = max(values) - low
    top = len(bars) - 1
    return "".join(bars[round((v - low) / spread * top) if spread > 0 else 0] for v in values)


def fits(text: str, stream: TextIO) -> bool:
    """Return whether a stream can show a text."""
    try:
        text.encode(getattr(stream, "encoding", None) or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def notebook_display() -> Any:
    """Return what shows text in place in the notebook that this runs in, or None."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    if type(shell).__name__ != "ZMQInteractiveShell":
        return None
    from IPython.display import display

    return display({"text/plain": ""}, raw=True, display_id=True)


class Live:
    """A callback of the runners that shows where training is, and the curve of the objective.

    On a terminal and in a notebook one line is redrawn ten times a second; elsewhere a line is
    printed every second, and at the end.
    """

    def __init__(self) -> None:
        self.stream = sys.stdout
        self.display = notebook_display()
        self.terminal = self.display is None and self.stream.isatty()
        self.ascii = self.display is None and not fits(BARS, self.stream)
        self.shown, self.width = -math.inf, 0
        self.problem, self.curve, self.epoch = 0, [], 0

    def __call__(self, p: Any) -> None:
        """Show a `Progress`, if it is time to."""
        if p.problem != self.problem:
            self.problem, self.curve, self.epoch = p.problem, [], 0
        if p.objective is not None and p.epoch != self.epoch:
            self.curve.append(p.objective)
            self.epoch = p.epoch
        now = time.monotonic()
        last = p.epoch >= p.epochs
        redrawn = self.terminal or self.display is not None
        if not last and now - self.shown < (REDRAW if redrawn else LINE):
            return
        self.shown = now
        self.show(self.text(p), last and p.problem + 1 == p.problems)

    def text(self, p: Any) -> str:
        """Return the line."""
        parts = [f"problem {p.problem + 1}/{p.problems}"] if p.problems > 1 else []
        parts += [f"epoch {p.epoch}/{p.epochs}", f"{p.nnz_per_second / 1e6:.0f} M non-zeros/s"]
        if p.objective is not None:
            parts.append(f"objective {p.objective:.6g}")
        text = ", ".join(parts)
        room = WIDTH
        if self.terminal:
            room = min(room, shutil.get_terminal_size().columns - len(text) - 3)
        return f"{text}  {sparkline(self.curve, max(1, room), self.ascii)}".rstrip()

    def show(self, text: str, last: bool) -> None:
        """Show a line in place of the one before, or below it."""
        if self.display is not None:
            self.display.update({"text/plain": text}, raw=True)
        elif self.terminal:
            end = "\n" if last else ""
            self.stream.write(f"\r{text:<{self.width}}{end}")
            self.stream.flush()
            self.width = 0 if last else len(text)
        else:
            print(text, file=self.stream)

    def close(self) -> None:
        """End the line that is being redrawn."""
        if self.terminal and self.width:
            self.stream.write("\n")
            self.stream.flush()
