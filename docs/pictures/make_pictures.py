"""Draw every rule's path through the same valley, beside its relatives: one SVG per page.

    pip install 'fastopt[plot]' && python docs/pictures/make_pictures.py

The valley is f(x, y) = (x - 1)²/2 + 4 (y - (1 + x²)/2)², curved, and steep across: its second
derivative is 8 (1 + x²) across the floor and little along it. Every rule starts at
(-1.6, 2.4) and may ask for 100 gradients. What a legend does not name has the class's default,
but for lr: of the round numbers 1, 1.1, 1.25, ..., 9 times powers of ten, a rule gets the one with
the least mean of log loss over the whole run, of those with which the loss is never above where
it started.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

import fastopt as fo

HERE = Path(__file__).parent
START, BUDGET = (-1.6, 2.4), 100
MANTISSAS = (
    1,
    1.1,
    1.25,
    1.4,
    1.6,
    1.8,
    2,
    2.2,
    2.5,
    2.8,
    3.2,
    3.5,
    4,
    4.5,
    5,
    5.6,
    6.3,
    7.1,
    8,
    9,
)
RATES = [float(f"{m}e{k}") for k in range(-4, 3) for m in MANTISSAS]
FLOOR = 1e-8  # of the losses that are compared

# Okabe and Ito's colours, which colour-blind people can tell apart, and dashes for those who print.
OWN = {"color": "#0072B2", "lw": 1.6, "ls": "-", "zorder": 4}
OTHERS = (
    {"color": "#E69F00", "lw": 1.1, "ls": "-", "zorder": 2},
    {"color": "#009E73", "lw": 1.1, "ls": (0, (4, 1.2)), "zorder": 3},
    {"color": "#CC79A7", "lw": 1.1, "ls": (0, (1.2, 1)), "zorder": 3},
)


def loss(x: Any, y: Any) -> Any:
    """Return the height of the valley."""
    return (x - 1) ** 2 / 2 + 4 * (y - (1 + x * x) / 2) ** 2


def gradient(w: np.ndarray) -> np.ndarray:
    """Return its slope."""
    x, y = w.flat
    across = 8 * (y - (1 + x * x) / 2)
    return np.array([x - 1 - across * x, across]).reshape(w.shape)


@dataclass
class Line:
    """One rule in one picture: what makes it, and how its points are read and its loss measured."""

    label: str
    make: Callable[..., Any]
    options: dict[str, Any] = field(default_factory=dict)
    lr: float | None = None  # looked for where it is None
    noise: float = 0.0
    cost: int = 1  # gradients a step
    shape: tuple[int, ...] = (2,)
    point: Callable[[Any, np.ndarray], np.ndarray] = lambda opt, w: w
    step: Callable[[Any, np.ndarray, Callable], None] = lambda opt, w, g: opt.step(g(w))

    def run(self, lr: float) -> np.ndarray | None:
        """Return the points of a run; None if the loss was above where it started."""
        w = np.array(START).reshape(self.shape)
        opt = self.make(w, lr=lr, **self.options)
        rng = np.random.default_rng(0)

        def slope(w: np.ndarray) -> np.ndarray:
            return gradient(w) + self.noise * rng.standard_normal(w.shape)

        points, most = [np.array(START)], loss(*START)
        for _ in range(BUDGET // self.cost):
            self.step(opt, w, slope)
            if not loss(*w.flat) <= most:
                return None
            points.append(np.array(self.point(opt, w)).ravel())
        return np.array(points)

    def best(self) -> tuple[float, np.ndarray]:
        """Return the rate and the points of the best run."""
        found = []
        for lr in RATES if self.lr is None else [self.lr]:
            points = self.run(lr)
            if points is not None:
                found.append((np.nanmean(np.log(self.heights(points))), lr, points))
        return min(found, key=lambda each: each[:2])[1:]

    def heights(self, points: np.ndarray) -> np.ndarray:
        """Return the losses at the points, none below the floor."""
        return np.maximum(loss(*points.T), FLOOR)


def with_loss(opt: Any, w: np.ndarray, slope: Callable) -> None:
    """Take a step of Rprop's variant that is told the loss."""
    opt.loss = float(loss(*w))
    opt.step(slope(w))


def minimize_step(opt: Any, w: np.ndarray, slope: Callable) -> None:
    """Take one of SAM's steps, of two gradients."""
    opt.minimize_step(lambda: slope(w))


def mean(opt: Any, w: np.ndarray) -> np.ndarray:
    """Return the mean of the points that ASGD keeps, once it is one."""
    return opt.state["0"]["ema"] if opt.t > LATE else np.full(2, np.nan)


def average(opt: Any, w: np.ndarray) -> np.ndarray:
    """Return x, the result of the schedule-free rules, which hold y."""
    opt.eval()
    x = w.copy()
    opt.train()
    return x


def sgd(label: str = "SGD", **options: Any) -> Line:
    """Return a line of SGD."""
    return Line(label, fo.SGD, options)


def momentum(label: str = "SGD, momentum 0.9", **options: Any) -> Line:
    """Return a line of SGD with momentum."""
    return Line(label, fo.SGD, {"momentum": 0.9, **options})


def rprop(variant: str) -> Line:
    """Return a line of a variant of Rprop."""
    step = with_loss if variant == "iplus" else Line.step
    return Line(f"Rprop {variant}", fo.Rprop, {"variant": variant}, step=step)


def rule(cls: Any, label: str | None = None, **options: Any) -> Line:
    """Return a line of a class."""
    return Line(label or cls.__name__, cls, options)


NOISE, LATE = 2.0, 50  # of the gradients, where there is some; when ASGD's mean begins


def noisy(line: Line, point: Callable | None = None) -> Line:
    """Return the line with noise in its gradients, the same for all."""
    line.noise = NOISE
    if point is not None:
        line.point = point
    return line


ADAM_RATE, FTRL_RATE = 0.1, 0.4  # of the pictures in which a penalty is what differs

PICTURES: dict[str, tuple[Line, ...]] = {  # the page's own rule first
    "SGD": (sgd(), momentum(), momentum("SGD, Nesterov", nesterov=True)),
    "ASGD": (
        noisy(rule(fo.ASGD, f"ASGD's mean, t0={LATE}", t0=LATE), mean),
        noisy(sgd()),
        noisy(rule(fo.ScheduleFreeSGD), average),
    ),
    "SignSGD": (
        rule(fo.SignSGD),
        rule(fo.SignSGD, "Signum (momentum 0.9)", momentum=0.9),
        rule(fo.SignSGD, "SignSGD, eps=1", eps=1.0),
        sgd(),
    ),
    "Lion": (rule(fo.Lion), rule(fo.SignSGD), rule(fo.SignSGD, "Signum", momentum=0.9)),
    "Rprop": tuple(map(rprop, ("iminus", "minus", "plus", "iplus"))),
    "DeltaBarDelta": (rule(fo.DeltaBarDelta), sgd(), rprop("iminus")),
    "Adagrad": (rule(fo.Adagrad), rule(fo.RMSprop), rule(fo.Adadelta), sgd()),
    "RMSprop": (
        rule(fo.RMSprop),
        rule(fo.RMSprop, "RMSprop, momentum 0.9", momentum=0.9),
        rule(fo.Adagrad),
        rule(fo.Adam),
    ),
    "Adadelta": (
        rule(fo.Adadelta),
        Line("Adadelta as published", fo.Adadelta, {"rho": 0.95}, lr=1.0),
        rule(fo.RMSprop),
    ),
    "FTRL": (
        Line("FTRL, l1=30", fo.FTRL, {"l1": 30.0}, lr=FTRL_RATE),
        Line("FTRL", fo.FTRL, lr=FTRL_RATE),
        Line("Adagrad, eps=1", fo.Adagrad, {"eps": 1.0}, lr=FTRL_RATE),
    ),
    "Adam": (rule(fo.Adam), rule(fo.Adam, "AMSGrad", amsgrad=True), rule(fo.RMSprop), momentum()),
    "AdamW": (
        Line("AdamW, decay 0.2", fo.AdamW, {"weight_decay": 0.2}, lr=ADAM_RATE),
        Line("Adam, decay 0.2 (L2)", fo.Adam, {"weight_decay": 0.2}, lr=ADAM_RATE),
        Line("Adam", fo.Adam, lr=ADAM_RATE),
    ),
    "NAdam": (rule(fo.NAdam), rule(fo.Adam), momentum("SGD, Nesterov", nesterov=True)),
    "RAdam": (
        rule(fo.RAdam),
        rule(fo.RAdam, "RAdam, betas=(0.9, 0.9)", betas=(0.9, 0.9)),
        rule(fo.Adam),
        momentum(),
    ),
    "Adamax": (rule(fo.Adamax), rule(fo.Adam), rule(fo.RMSprop)),
    "AdaBelief": (
        rule(fo.AdaBelief),
        rule(fo.Adam),
        rule(fo.RMSprop, "RMSprop, centered", centered=True),
    ),
    "LARS": (rule(fo.LARS, exclude_vectors=False), momentum(), rule(fo.LAMB)),
    "LAMB": (rule(fo.LAMB), rule(fo.Adam), rule(fo.LARS, exclude_vectors=False)),
    "Adafactor": (Line("Adafactor", fo.Adafactor, shape=(1, 2)), rule(fo.Adam), rule(fo.RMSprop)),
    "Muon": (
        Line("Muon, no decay", fo.Muon, {"weight_decay": 0.0}, shape=(1, 2)),
        momentum(),
        rule(fo.SignSGD, "Signum", momentum=0.9),
    ),
    "ScheduleFreeSGD": (noisy(rule(fo.ScheduleFreeSGD), average), noisy(sgd()), noisy(momentum())),
    "ScheduleFreeAdamW": (
        noisy(rule(fo.ScheduleFreeAdamW), average),
        noisy(rule(fo.Adam)),
        noisy(rule(fo.ScheduleFreeSGD), average),
    ),
    "Lookahead": (
        Line(
            "Lookahead(SGD, momentum 0.9)", lambda w, lr: fo.Lookahead(fo.SGD(w, lr, momentum=0.9))
        ),
        momentum(),
        sgd(),
    ),
    "SAM": (
        Line("SAM(SGD)", lambda w, lr: fo.SAM(fo.SGD(w, lr)), cost=2, step=minimize_step),
        sgd(),
    ),
}


def canvas() -> tuple[Figure, Any, Any]:
    """Return a figure with the valley in its left half and room for losses in the right."""
    figure = Figure(figsize=(7.2, 3.3), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.25, 1))
    x, y = np.meshgrid(np.linspace(-2.1, 2.1, 85), np.linspace(-0.1, 2.7, 57))
    levels = np.geomspace(0.02, 120, 11)
    left.contour(x, y, loss(x, y), levels=levels, colors="0.82", linewidths=0.6)
    left.plot(*START, "o", ms=5, mfc="white", mec="0.15", zorder=6)
    left.plot(1, 1, "*", ms=10, color="0.15", zorder=6)
    left.annotate("start", START, xytext=(5, 5), textcoords="offset points")
    left.annotate("minimum", (1, 1), xytext=(8, -12), textcoords="offset points")
    left.set_xticks((-2, -1, 0, 1, 2))
    left.set_yticks((0, 1, 2))
    left.set(xlim=(-2.1, 2.1), ylim=(-0.1, 2.7), xlabel="x", ylabel="y")
    right.set(yscale="log", xlabel="gradients", xlim=(0, BUDGET), ylim=(1e-5, 20))
    right.yaxis.set_minor_locator(NullLocator())
    right.set_title("loss above its minimum", fontsize=9, loc="left")
    left.set_title("path, a dot every 10 gradients", fontsize=9, loc="left")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    right.grid(axis="y", color="0.92", lw=0.6)
    return figure, left, right


def draw(name: str, lines: tuple[Line, ...]) -> Figure:
    """Return the picture of a page."""
    figure, left, right = canvas()
    for line, style in zip(lines, (OWN, *OTHERS), strict=False):
        lr, points = line.best()
        label = f"{line.label}, lr={lr:g}"
        left.plot(*points.T, **style, label=label)
        left.plot(
            *points[:: 10 // line.cost].T, "o", ms=style["lw"] * 1.7, color=style["color"], zorder=5
        )
        right.plot(np.arange(len(points)) * line.cost, line.heights(points), **style)
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    return figure


def draw_random_search() -> Figure:
    """Return the picture of random search: its points, and the best so far."""
    figure, left, right = canvas()
    seen: list[np.ndarray] = []

    def height(x: np.ndarray) -> float:
        seen.append(x.copy())
        return float(loss(*x))

    found = fo.random_search(height, [(-2, 2), (0, 2.6)], n=BUDGET, seed=2)
    points = np.array(seen)
    better = points[np.flatnonzero(np.diff(found.history, prepend=np.inf) < 0)]
    left.plot(*points.T, "o", ms=2, color="0.55", zorder=3)
    left.plot(*better.T, **OWN, marker="o", ms=4, label="random_search: each better point")
    right.step(np.arange(1, BUDGET + 1), found.history, where="post", **OWN)
    lr, path = sgd().best()
    left.plot(*path.T, **OTHERS[0], label=f"SGD, lr={lr:g}")
    right.plot(loss(*path.T), **OTHERS[0])
    right.set_xlabel("values, or gradients")
    left.set_title("points and path", fontsize=9, loc="left")
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    return figure


def save(name: str, figure: Figure) -> None:
    """Write a small SVG: coordinates to a tenth of a point, without the date."""
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})

    def shorter(found: re.Match) -> str:
        return re.sub(r"\d+\.\d{2,}", lambda number: f"{float(number[0]):.1f}", found[0])

    text = re.sub(r' (d|x|y)="[^"]*"', shorter, file.getvalue())
    (HERE / f"{name}.svg").write_text(text)


def main() -> None:
    """Write all pictures beside this file."""
    mpl.rcParams.update(
        {
            "svg.hashsalt": "fastopt",
            "svg.fonttype": "none",
            "font.sans-serif": ["DejaVu Sans", "Arial"],
            "font.size": 8,
        }
    )
    for name, lines in PICTURES.items():
        save(name, draw(name, lines))
    save("random_search", draw_random_search())


if __name__ == "__main__":
    main()
