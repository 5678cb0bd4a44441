"""Pictures of convergence, with matplotlib: paths, losses, schedules, and moving pictures.

Functions draw into `ax`, or into a new figure, and return the Axes, whose `figure.savefig(file)`
writes it; `plot_animation` returns an animation, which `save` writes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np

from fastopt.calculus.report import GradReport
from fastopt.checks import count, one_of
from fastopt.convergence.comparison import Comparison

if TYPE_CHECKING:
    from matplotlib.animation import FuncAnimation
    from matplotlib.axes import Axes

__all__ = [
    "plot_animation",
    "plot_gradient_check",
    "plot_losses",
    "plot_schedules",
    "plot_trajectories",
    "save",
]

# Okabe and Ito's colours, which colour-blind people can tell apart; then dashes.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#000000")
DASHES = ("-", (0, (4, 1.2)), (0, (1.2, 1)), (0, (6, 1, 1, 1)))
STYLES = tuple({"color": c, "ls": d} for d in DASHES for c in COLOURS)
GRID = 161  # points of a surface along each axis
LEVELS = 16
SIZE = (7.2, 4.8)  # inches


def pyplot() -> Any:
    """Return matplotlib.pyplot, or say what to install."""
    try:
        from matplotlib import pyplot
    except ModuleNotFoundError as error:
        raise ImportError(
            f"pictures need {error.name}: pip install 'fastopt[plot]'", name=error.name
        ) from error
    return pyplot


def axes(ax: Axes | None) -> Axes:
    """Return `ax`, or the axes of a new figure."""
    return pyplot().subplots(figsize=SIZE, layout="constrained")[1] if ax is None else ax


def plot_trajectories(comparison: Comparison, *, ax: Axes | None = None) -> Axes:
    """Draw the paths of all methods over the surface of a function of two variables.

    Parameters
    ----------
    comparison : Comparison
        What `fastopt.compare` returned.
    ax : matplotlib.axes.Axes, optional
        Where to draw; without it, in a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        Each line's data are `History.points`; the label is the method's.

    Raises
    ------
    ValueError
        If the problem has other than two variables.
    ImportError
        Without matplotlib.

    Examples
    --------
    >>> import fastopt
    >>> from fastopt.convergence.plots import plot_trajectories
    >>> found = fastopt.compare("beale", ["SGD", "Adam"], steps=50)
    >>> ax = plot_trajectories(found)  # doctest: +SKIP
    >>> ax.figure.savefig("beale.png")  # doctest: +SKIP
    """
    ax = surface(comparison, ax)
    for history, style in zip(comparison, cycle(STYLES), strict=False):
        ax.plot(*history.points.T, **style, lw=1.4, label=history.method)
    legend(ax, len(comparison))
    return ax


def surface(comparison: Comparison, ax: Axes | None) -> Axes:
    """Draw the level lines of a problem, its start and its optimum."""
    problem = comparison.problem
    if problem.x0.size != 2:
        raise ValueError(
            f"the problem of comparison must have 2 variables to be drawn, not {problem.x0.size}"
        )
    ax = axes(ax)
    (left, right), (bottom, top) = problem.limits or around(comparison)
    x, y = np.meshgrid(np.linspace(left, right, GRID), np.linspace(bottom, top, GRID))
    f = np.array([[float(problem.fun(np.array(p))) for p in zip(*row, strict=True)]
                  for row in zip(x, y, strict=True)])  # fmt: skip
    finite = f[np.isfinite(f)]
    # equally many points between any two lines: steep walls do not take all of them
    levels = np.unique(np.quantile(finite, np.linspace(0, 1, LEVELS + 2)[1:-1] ** 1.5))
    ax.contour(x, y, f, levels=levels, colors="0.8", linewidths=0.7, linestyles="solid", zorder=1)
    ax.plot(*problem.x0, "o", ms=6, mfc="white", mec="0.15", zorder=6)
    if problem.optimum is not None:
        ax.plot(*problem.optimum, "*", ms=11, color="0.15", zorder=6)
    ax.set(xlim=(left, right), ylim=(bottom, top), xlabel="x", ylabel="y")
    ax.set_title(f"{problem.name}: {problem.formula}" if problem.formula else problem.name)
    return ax


def around(comparison: Comparison) -> list[tuple[float, float]]:
    """Return limits with all paths inside."""
    problem = comparison.problem
    known = [] if problem.optimum is None else [problem.optimum[None]]
    points = np.concatenate([*known, *(history.points for history in comparison)])
    low, high = points.min(axis=0), points.max(axis=0)
    room = 0.1 * np.where(high > low, high - low, 1)
    return [(float(a), float(b)) for a, b in zip(low - room, high + room, strict=True)]


def legend(ax: Axes, lines: int) -> None:
    """Put the legend where it covers little: beside the axes if it is long."""
    where = {"loc": "center left", "bbox_to_anchor": (1, 0.5), "frameon": False}
    ax.legend(**(where if lines > 6 else {}), fontsize="small", ncols=1 + lines // 18)


def plot_animation(
    comparison: Comparison, *, ax: Axes | None = None, frames: int = 100
) -> FuncAnimation:
    """Draw the paths of all methods as they grow.

    Parameters
    ----------
    comparison : Comparison
        What `fastopt.compare` returned, of two variables.
    ax : matplotlib.axes.Axes, optional
        Where to draw; without it, in a new figure.
    frames : int
        Pictures at most, >= 2: each shows the steps of its time, from the start to the end of the
        longest run. Methods that have ended stay where they are.

    Returns
    -------
    matplotlib.animation.FuncAnimation
        `save(animation, "file.gif")`, or .html, writes it; keep it until then.

    Raises
    ------
    TypeError, ValueError, ImportError
        As `plot_trajectories`, and if frames is not an integer of at least 2.

    Examples
    --------
    >>> import fastopt
    >>> from fastopt.convergence.plots import plot_animation, save
    >>> found = fastopt.compare("saddle", ["SGD", "Momentum", "RMSprop"], steps=120)
    >>> save(plot_animation(found), "saddle.gif")  # doctest: +SKIP
    """
    frames, own = count("frames", frames, 2), ax is None
    ax = surface(comparison, ax)
    pyplot()
    from matplotlib.animation import FuncAnimation

    paths = [
        ax.plot([], [], **style, lw=1.4, label=history.method)[0]
        for history, style in zip(comparison, cycle(STYLES), strict=False)
    ]
    heads = [ax.plot([], [], "o", ms=5, color=path.get_color(), zorder=7)[0] for path in paths]
    legend(ax, len(paths))
    if own:
        ax.figure.canvas.draw()
        ax.figure.set_layout_engine("none")  # the same for all frames
    longest = max(history.steps for history in comparison)
    stops = np.unique(np.linspace(0, longest, min(frames, longest + 1)).astype(int))

    def draw(frame: int) -> list[Any]:
        for history, path, head in zip(comparison, paths, heads, strict=True):
            points = history.points[: stops[frame] + 1]
            path.set_data(*points.T)
            head.set_data(*points[-1:].T)
        return [*paths, *heads]

    return FuncAnimation(ax.figure, draw, frames=len(stops), interval=60, blit=False)


def save(picture: Axes | FuncAnimation, file: str | os.PathLike[str], *, dpi: int = 100) -> None:
    """Write a picture to a file, in the format that its name ends in.

    Parameters
    ----------
    picture : Axes or FuncAnimation
        What the functions of this module return.
    file : path
        Axes: .png, .svg, .pdf or what else matplotlib writes. An animation: .gif, through Pillow,
        or .html, a page that plays it without anything else.
    dpi : int
        Points an inch, >= 1.

    Raises
    ------
    ValueError
        If an animation is to go elsewhere, or matplotlib does not know the format.
    OSError
        If the file cannot be written.

    Examples
    --------
    >>> from fastopt import schedules
    >>> from fastopt.convergence.plots import plot_schedules, save
    >>> save(plot_schedules([schedules.cosine(0.1, 100)], 120), "cosine.svg")  # doctest: +SKIP
    """
    dpi = count("dpi", dpi, 1)
    ending = os.path.splitext(os.fspath(file))[1].lower()
    if not hasattr(picture, "to_jshtml"):
        picture.figure.savefig(file, dpi=dpi)
    elif ending == ".gif":
        picture.save(os.fspath(file), writer="pillow", dpi=dpi)
    elif ending in (".html", ".htm"):
        page = picture.to_jshtml(default_mode="loop")
        with open(file, "w", encoding="utf-8") as target:
            target.write(page)
    else:
        raise ValueError(f"file of an animation must end in .gif or .html, got {str(file)!r}")


AGAINST = ("steps", "evaluations", "seconds")


def plot_losses(comparison: Comparison, against: str = "steps", *, ax: Axes | None = None) -> Axes:
    """Draw how errors fall, on logarithmic axes.

    Parameters
    ----------
    comparison : Comparison
        What `fastopt.compare` returned.
    against : {"steps", "evaluations", "seconds"}
        What it costs. Steps and evaluations begin at 1, as 0 has no logarithm; so does time at
        the first step.
    ax : matplotlib.axes.Axes, optional
        Where to draw; without it, in a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        A line of `History.errors` for each method, from the first step on; its label is the method
        and its rate.

    Raises
    ------
    ValueError
        If against is none of these.
    ImportError
        Without matplotlib.

    Examples
    --------
    >>> import fastopt
    >>> from fastopt.convergence.plots import plot_losses
    >>> found = fastopt.compare("valley", ["SGD", "Momentum"])
    >>> ax = plot_losses(found, "evaluations")  # doctest: +SKIP
    """
    one_of("against", against, AGAINST)
    ax = axes(ax)
    for history, style in zip(comparison, cycle(STYLES), strict=False):
        x = np.arange(history.steps + 1) if against == "steps" else getattr(history, against)
        label = f"{history.method}: {history.rate}"
        ax.plot(x[1:], history.errors[1:], **style, lw=1.4, label=label)
    known = comparison.problem.minimum is not None
    ax.set(xscale="log", yscale="log", xlabel=against)
    ax.set(ylabel="f - f(optimum)" if known else "norm of the gradient")
    ax.set_title(comparison.problem.name)
    ax.grid(color="0.92", lw=0.6)
    legend(ax, len(comparison))
    return ax


def plot_schedules(
    schedules: Mapping[str, Callable[[int], float]] | Sequence[Callable[[int], float]],
    steps: int,
    *,
    ax: Axes | None = None,
) -> Axes:
    """Draw schedules, such as learning rates, against the step.

    Parameters
    ----------
    schedules : mapping label -> schedule, or sequence of schedules
        Those of `fastopt.schedules`, or any callable of an integer.
    steps : int
        t goes from 0 to steps, >= 1.
    ax : matplotlib.axes.Axes, optional
        Where to draw; without it, in a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        A line for each schedule.

    Raises
    ------
    TypeError, ValueError
        Naming the argument.
    ImportError
        Without matplotlib.

    Examples
    --------
    >>> from fastopt import schedules
    >>> from fastopt.convergence.plots import plot_schedules
    >>> ax = plot_schedules(
    ...     {"cosine": schedules.cosine(0.1, 100, warmup=10)}, steps=120
    ... )  # doctest: +SKIP
    """
    steps = count("steps", steps, 1)
    if callable(schedules) or not isinstance(schedules, (Mapping, Sequence)):
        raise TypeError(f"schedules must be a sequence or mapping of them, got {schedules!r}")
    named = schedules if isinstance(schedules, Mapping) else {repr(s): s for s in schedules}
    for label, schedule in named.items():
        if not callable(schedule):
            raise TypeError(f"schedules: {label!r} must be callable, got {schedule!r}")
    ax = axes(ax)
    t = np.arange(steps + 1)
    for (label, schedule), style in zip(named.items(), cycle(STYLES), strict=False):
        ax.plot(t, [schedule(int(k)) for k in t], **style, lw=1.4, label=label)
    ax.set(xlabel="step", ylabel="value")
    ax.grid(color="0.92", lw=0.6)
    legend(ax, len(named))
    return ax


ERRORS = (-12.0, 0.0)  # the exponents of relative errors that colours tell apart


def plot_gradient_check(
    report: GradReport, parameter: str | None = None, *, ax: Axes | None = None
) -> Axes:
    """Draw a heat map of the relative errors of one parameter's gradient.

    Parameters
    ----------
    report : GradReport
        What `fastopt.check_grad` returned.
    parameter : str, optional
        The name of an array; without it, that of the worst component.
    ax : matplotlib.axes.Axes, optional
        Where to draw; without it, in a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        Its image holds log10 of the errors: rows are the first axis, columns all others, a vector
        is one row. Not a number, and left white, is what was not looked at. Wrong components are
        marked by a cross, kinks by a circle.

    Raises
    ------
    TypeError, ValueError
        If report is something else, or has no such parameter.
    ImportError
        Without matplotlib.

    Examples
    --------
    >>> import numpy as np, fastopt
    >>> from fastopt.convergence.plots import plot_gradient_check
    >>> report = fastopt.check_grad(lambda w: float(np.sum(w**2)), lambda w: w, np.ones((3, 4)))
    >>> ax = plot_gradient_check(report)  # doctest: +SKIP
    """
    if not isinstance(report, GradReport):
        raise TypeError(f"report must be what check_grad returns, got {type(report).__name__}")
    names = tuple(report.shapes)
    parameter = names[report.rows[0].parameter] if parameter is None else parameter
    one_of("parameter", parameter, names)
    shape = report.shapes[parameter]
    rows = shape[0] if len(shape) > 1 else 1
    errors = report.errors[parameter].reshape(rows, -1)
    ax = axes(ax)
    low, high = ERRORS
    shown = np.log10(np.maximum(errors, 10**low))
    image = ax.imshow(shown, cmap="viridis", vmin=low, vmax=high, aspect="auto")
    ax.figure.colorbar(image, ax=ax, label="log10 of the relative error")
    for status, mark in (("wrong", "x"), ("kink", "o")):
        at = [
            row.index
            for row in report.rows
            if row.status == status and row.index >= 0 and names[row.parameter] == parameter
        ]
        if at:
            y, x = np.divmod(np.array(at), errors.shape[1])
            ax.plot(x, y, mark, ms=5, mfc="none", color="#D55E00", ls="none", label=status)
            ax.legend(fontsize="small")
    ax.set(title=f"{parameter}: {report.diagnosis}", xlabel="column", ylabel="row")
    return ax
