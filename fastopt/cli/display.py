"""What the command line shows: live progress, and the table at the end."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

from fastopt.cli._terminal import BarColumn, Console, Progress, Table, TextColumn, box
from fastopt.cli.training import Run
from fastopt.progress import BARS, fits, sparkline

__all__ = ["LiveTraining", "facts", "si", "table"]

REDRAW = 0.1  # seconds; drawing costs about a millisecond
LINE = 1.0  # seconds between lines where nothing can be redrawn


def si(number: float) -> str:
    """Return a number with three digits and a unit prefix.

    Examples
    --------
    >>> si(1234567), si(999_999), si(12.34), si(0)
    ('1.23 M', '1.00 M', '12.3', '0.00')
    """
    for unit in ("", " k", " M", " G", " T"):
        if float(f"{number:.3g}") < 1000 or unit == " T":
            digits = 2 if float(f"{number:.3g}") < 10 else 1 if float(f"{number:.3g}") < 100 else 0
            return f"{number:.{digits}f}{unit}"
        number /= 1000
    raise AssertionError


def clock(seconds: float) -> str:
    """Return a time to go.

    Examples
    --------
    >>> clock(0.4), clock(75), clock(4000)
    ('0:00', '1:15', '1:06:40')
    """
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def facts(*named: tuple[str, str]) -> Table:
    """Return lines of text, each with a name in front."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True, min_width=5)
    grid.add_column()
    for name, text in named:
        grid.add_row(name, text)
    return grid


def part(name: str, number: int, of: int) -> str:
    """Return where one is, in a width that does not change.

    Examples
    --------
    >>> part("epoch", 3, 20)
    'epoch  3/20'
    """
    return f"{name} {number:>{len(str(of))}}/{of}"


class LiveTraining:
    """Show one training: a bar on a terminal, a line a second elsewhere, nothing if quiet.

    The bar ends with the objective, where it is tracked, and its curve.

    Everything shown is read from the runner's counters in its callback; drawing happens on the
    calling thread between two slices of work, at most ten times a second.
    """

    def __init__(self, console: Console, label: str, quiet: bool):
        self.console, self.label, self.quiet = console, label, quiet
        self.live = console.is_terminal and not quiet
        self.bar = Progress(
            TextColumn("[bold]{task.description:>9}"),
            BarColumn(bar_width=None),
            TextColumn("{task.percentage:>3.0f}%"),
            TextColumn("{task.fields[where]}", style="cyan"),
            TextColumn("{task.fields[rows]} rows", style="cyan"),
            TextColumn("{task.fields[rate]} nnz/s", style="green"),
            TextColumn("{task.fields[left]}"),
            TextColumn("{task.fields[curve]}", style="magenta"),
            console=console, auto_refresh=False, expand=True,
        )  # fmt: skip
        self.task = self.bar.add_task(
            label, where="", rows="0", rate="", left="", curve="", total=1
        )
        self.ascii, self.problem, self.epoch = not fits(BARS, console.file), 0, 0
        self.objectives: list[float] = []
        self.before: int | None = None  # rows at the first look: a checkpoint may have brought some

    def __enter__(self) -> LiveTraining:
        self.shown = time.perf_counter()
        if self.live:
            self.bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self.live:
            self.bar.stop()

    def update(self, progress: Any) -> None:
        """Show the runner's progress, if it is time to."""
        if progress.problem != self.problem:
            self.problem, self.epoch, self.objectives = progress.problem, 0, []
        if progress.objective is not None and progress.epoch != self.epoch:
            self.epoch = progress.epoch
            self.objectives.append(progress.objective)
        now = time.perf_counter()
        done = progress.problem * progress.rows_total + progress.rows_done
        if self.before is None:
            self.before, self.start = done, now
        total = progress.problems * progress.rows_total
        wait = 0 if self.live and done == total else REDRAW if self.live else LINE
        if self.quiet or now - self.shown < wait:
            return
        self.shown = now
        where = part("epoch", min(progress.epoch + 1, progress.epochs), progress.epochs)
        if progress.problems > 1:
            where = f"{part('class', progress.problem + 1, progress.problems)} {where}"
        rows, rate = si(done), si(progress.nnz_per_second)
        new = done - self.before
        left = f"{clock((now - self.start) * (total - done) / new)} left" if new > 0 else ""
        if self.live:
            room = 16 if self.console.width >= 110 else 6
            curve = sparkline(self.objectives, room, self.ascii)
            if self.objectives:
                curve = f"{self.objectives[-1]:.4g} {curve}"
            self.bar.update(
                self.task, completed=done, total=total, refresh=True, where=where,
                rows=f"{rows:>6}", rate=f"{rate:>6}", left=left if done < total else "done",
                curve=curve,
            )  # fmt: skip
        else:
            self.console.print(
                f"{self.label}: {done / max(total, 1):.0%}, {where}, {rows} rows, "
                f"{rate} nnz/s, {left}",
                highlight=False,
            )


def table(runs: Sequence[Run]) -> Table:
    """Return the table of all trainings."""
    shown = Table(
        box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0),
        header_style="bold",
    )  # fmt: skip
    metrics = list(runs[0].metrics)
    one = next((run for run in runs if run.threads == 1), None) if len(runs) > 1 else None
    fastest = max(runs, key=lambda run: run.nnz_per_second)
    columns = ["threads", "seconds", "examples/s", "non-zeros/s", "objective"]
    columns += ["test accuracy" if name == "accuracy" else name for name in metrics]
    for name in columns + (["speed-up"] if one else []):
        shown.add_column(name, justify="right", no_wrap=True)
    for run in runs:
        cells = [
            f"{run.threads} of {run.asked}" if run.threads < run.asked else str(run.threads),
            f"{run.seconds:.{2 if run.seconds >= 1 else 3}f}",
            si(run.rows_per_second),
            si(run.nnz_per_second),
            f"{run.objective:.5f}",
            *(f"{run.metrics.get(name, math.nan):.4f}" for name in metrics),
        ]
        if one:
            speed = run.nnz_per_second / one.nnz_per_second
            cells.append(f"{speed:.2f}×")
        shown.add_row(*cells, style="green" if len(runs) > 1 and run is fastest else "")
    return shown
