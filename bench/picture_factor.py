"""A picture of bench/results/factor-*.json: time against the test error of matrix completion.

For each data set that has them, and each rank, the runs of each contender on two threads: every
point is a training of its own, with the better of two l2.

    python -m bench.picture_factor [--out factor.svg]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from bench.harness import RESULTS
from bench.picture import STYLE, read

DATA = ("jester", "netflix", "jumbo")
COLORS = {
    "fastopt, shared": ("#1b6ca8", "o-"),
    "fastopt, blocks": ("#9cc7e6", "s--"),
    "LIBMF": ("#ee7733", "o-"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default=RESULTS / "factor.svg", type=Path)
    arguments = parser.parse_args()
    paths = {name: RESULTS / f"factor-{name}.json" for name in DATA}
    found = {name: read(path) for name, path in paths.items() if path.exists()}
    found = {k: v for k, v in found.items() if any("curve" in row for row in v[1])}
    ranks = (16, 64)
    plt.rcParams.update(STYLE)
    figure, axes = plt.subplots(
        len(found), len(ranks), figsize=(10, 2.6 * len(found) + 0.6), squeeze=False
    )
    facts = next(iter(found.values()))[0]
    for i, (name, (_, rows)) in enumerate(found.items()):
        for j, rank in enumerate(ranks):
            ax = axes[i][j]
            for row in rows:
                if "curve" not in row or row["rank"] != rank:
                    continue
                color, mark = COLORS[row["who"]]
                ax.axhline(row["bar"], color="0.8", lw=0.8, zorder=0)
                best: dict[int, tuple[float, float]] = {}
                for epochs, seconds, error in row["curve"]:
                    if epochs not in best or error < best[epochs][1]:
                        best[epochs] = seconds, error
                points = sorted(best.values())
                ax.plot(*zip(*points, strict=True), mark, color=color, ms=3, lw=1, label=row["who"])
            ax.set(xscale="log", yscale="log", title=f"{name}, rank {rank}")
            ax.yaxis.set_minor_formatter(matplotlib.ticker.FormatStrFormatter("%.3g"))
            ax.xaxis.set_major_locator(matplotlib.ticker.LogLocator(subs=(1, 2, 5)))
            ax.xaxis.set_major_formatter(matplotlib.ticker.FormatStrFormatter("%g"))
            ax.xaxis.set_minor_formatter(matplotlib.ticker.NullFormatter())
            if j == 0:
                ax.set_ylabel("test RMSE")
            if i == len(found) - 1:
                ax.set_xlabel("seconds")
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="upper center", ncols=3, frameon=False, fontsize=8)
    figure.text(0.01, 0.002, f"{facts['processor']}, {facts['cores']} processors", fontsize=7)
    figure.tight_layout(rect=(0, 0.01, 1, 0.96))
    figure.savefig(arguments.out, metadata={"Date": None})


if __name__ == "__main__":
    main()
