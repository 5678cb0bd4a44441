"""A picture of bench/results/hogwild.json: time against the objective, on logarithmic axes.

For each data set and loss, how far above the lowest objective seen each contender's runs end, by
the seconds that they take: every point is a training of its own.

    python -m bench.picture_sparse [--results hogwild.json] [--out hogwild.svg]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from bench.harness import RESULTS
from bench.picture import STYLE, read

LEAST = 1e-5  # what is nearer to the lowest objective is drawn there
COLORS = {
    "fastopt, 1 thread": ("#9cc7e6", "o-"),
    "fastopt, 2 threads": ("#1b6ca8", "o-"),
    "fastopt, Newton, 1 thread": ("#9cc7e6", "^:"),
    "fastopt, Newton, 2 threads": ("#1b6ca8", "^:"),
    "fastopt.sdca, 1 thread": ("#9cc7e6", "s--"),
    "fastopt.sdca, 2 threads": ("#1b6ca8", "s--"),
    "scikit-learn SGD": ("#ee7733", "o-"),
    "LIBLINEAR": ("#4f9d69", "s--"),
    "VW": ("#b5b5b5", "o-"),
    "Snap ML, 1 thread": ("#d3c1e0", "s--"),
    "Snap ML, 2 threads": ("#8a63a8", "s--"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", default=RESULTS / "hogwild.json", type=Path)
    parser.add_argument("--out", default=RESULTS / "hogwild.svg", type=Path)
    arguments = parser.parse_args()
    facts, rows = read(arguments.results)
    rows = [row for row in rows if "curve" in row]
    data = list(dict.fromkeys(row["data"] for row in rows))
    losses = list(dict.fromkeys(row["loss"] for row in rows))
    plt.rcParams.update(STYLE)
    figure, axes = plt.subplots(
        len(data), len(losses), figsize=(10, 2.6 * len(data)), squeeze=False, sharex="row"
    )
    for i, name in enumerate(data):
        for j, loss in enumerate(losses):
            ax = axes[i][j]
            here = [row for row in rows if row["data"] == name and row["loss"] == loss]
            lowest = min(row["lowest"] for row in here)
            for row in here:
                who = "LIBLINEAR" if "LIBLINEAR" in row["who"] else row["who"]
                if who not in COLORS:
                    continue
                color, mark = COLORS[who]
                points = sorted((s, max(v / lowest - 1, LEAST)) for _, s, v in row["curve"])
                ax.plot(*zip(*points, strict=True), mark, color=color, ms=3, lw=1, label=who)
            ax.set(xscale="log", yscale="log", ylim=(LEAST / 1.5, 2), title=f"{name}, {loss}")
            ax.axhline(1e-3, color="0.8", lw=0.8, zorder=0)
            ax.axhline(1e-2, color="0.8", lw=0.8, zorder=0)
            if j == 0:
                ax.set_ylabel("above the lowest")
            if i == len(data) - 1:
                ax.set_xlabel("seconds")
    drawn = [ax.get_legend_handles_labels() for ax in axes.flat]
    named = {label: handle for one in drawn for handle, label in zip(*one, strict=True)}
    labels = [who for who in COLORS if who in named]
    figure.legend(
        [named[who] for who in labels],
        labels,
        loc="upper center",
        ncols=5,
        frameon=False,
        fontsize=8,
    )
    figure.text(0.01, 0.002, f"{facts['processor']}, {facts['cores']} processors", fontsize=7)
    figure.tight_layout(rect=(0, 0.01, 1, 0.96))
    figure.savefig(arguments.out, metadata={"Date": None})


if __name__ == "__main__":
    main()
