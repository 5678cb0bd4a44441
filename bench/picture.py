"""A picture of bench/results/rules.json and peers.json: every rule, the memory's limit, the peers.

Left, the native step of every rule where arrays lie in DRAM, float32: ns per element, and the limit
as a mark. Right, for the same rules a whole step on 10^7 elements as multiples of the limit, each
library in its best mode and torch also in its default one.

    python -m bench.picture [--rules rules.json] [--peers peers.json] [--out rules.svg]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from bench.harness import RESULTS

SHAPE = "flat 10^7"
#: Of these modes the fastest stands for the library.
LIBRARIES: dict[str, tuple[tuple[str, ...], str]] = {
    "fastopt": (("fastopt",), "#1b6ca8"),
    "torch, fused or foreach": (("torch foreach", "torch fused"), "#ee7733"),
    "torch, default": (("torch default",), "#f5c49d"),
    "DeepSpeed": (("deepspeed",), "#8a63a8"),
    "optax, jitted": (("optax",), "#4f9d69"),
    "keras on jax, jitted": (("keras jit",), "#b5b5b5"),
}
THREADS = {1: "#9cc7e6", 2: "#1b6ca8"}
STYLE = {"svg.hashsalt": "fastopt", "svg.fonttype": "none", "font.size": 9}
THICK = 0.155  # of a bar on the right; rows are 1 apart


def read(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return facts and rows."""
    found = json.loads(path.read_text())
    return found["facts"], found["rows"]


def plural(threads: int) -> str:
    """Return "1 thread" or "2 threads"."""
    return f"{threads} thread{'s' * (threads > 1)}"


def native(axes: Any, rows: list[dict[str, Any]], rules: list[str]) -> None:
    """Draw ns per element of the rules where their arrays are largest."""
    place = [row["place"] for row in rows if "place" in row][-1]
    height = 0.8 / len(THREADS)
    for row in rows:
        if row.get("place") != place or row["dtype"] != "float32":
            continue
        y = rules.index(row["rule"]) + (list(THREADS).index(row["threads"]) - 0.5) * height
        axes.barh(y, row["ns/element"], height, color=THREADS[row["threads"]])
        axes.plot([row["limit"]] * 2, [y - height / 2, y + height / 2], color="black", lw=1.6)
    axes.set_xlabel("ns per element")
    title(axes, f"Native step, arrays in {place}, float32")
    marks = [Patch(color=color, label=plural(k)) for k, color in THREADS.items()]
    marks.append(Line2D([], [], color="black", label="limit: the same bytes"))
    legend(axes, marks, 2)


def against(axes: Any, rows: list[dict[str, Any]], rules: list[str], threads: int) -> None:
    """Draw a whole step of every library as multiples of the limit."""
    by_rule = {r["rule"]: r for r in rows if r["shape"] == SHAPE and r["threads"] == threads}
    most = 2.0
    for k, rule in enumerate(rules):
        if rule not in by_rule:
            axes.text(1.1, k, "none of the others has it", va="center", fontsize=7, color="#888888")
            continue
        row = {"fastopt": 1.0, **by_rule[rule]}
        bars = []
        for modes, color in LIBRARIES.values():
            ratios = [row[mode] for mode in modes if row.get(mode) is not None]
            if ratios:
                bars.append((row["ratio"] * min(ratios), color))
        for j, (length, color) in enumerate(bars):
            y = k + (j - (len(bars) - 1) / 2) * THICK
            axes.barh(y, length, THICK, color=color)
            text = f"{length:.2f}" if length < 9.95 else f"{length:.0f}"
            axes.annotate(
                text, (max(length, 1), y), (3, 0), textcoords="offset points", va="center",
                fontsize=6, color="#333333",
            )  # fmt: skip
            most = max(most, length)
    axes.axvline(1, color="black", lw=1.2)
    axes.set_xlim(0, most * 1.08)
    axes.set_xlabel("times the limit")
    title(axes, f"Whole step on one array of 10⁷ float32, {plural(threads)}")
    marks = [Patch(color=color, label=name) for name, (_, color) in LIBRARIES.items()]
    legend(axes, [*marks, Line2D([], [], color="black", label="limit: the same bytes")], 3)


def title(axes: Any, text: str) -> None:
    """Write what a half shows above its legend."""
    axes.annotate(
        text, (0, 1), (0, 46), xycoords="axes fraction", textcoords="offset points",
        fontsize=11, weight="bold",
    )  # fmt: skip


def legend(axes: Any, marks: list[Any], columns: int) -> None:
    """Put a legend where no bar can reach."""
    axes.legend(
        handles=marks, loc="lower left", bbox_to_anchor=(-0.01, 1.0), ncols=columns, frameon=False,
        fontsize=8, columnspacing=1.4, borderpad=0.2,
    )  # fmt: skip


def draw(rules_path: Path, peers_path: Path, out: Path) -> None:
    """Draw both halves and write the picture."""
    rows, (facts, peer_rows) = read(rules_path)[1], read(peers_path)
    rules = list(dict.fromkeys(row["rule"] for row in rows if "rule" in row))
    threads = max((row["threads"] for row in peer_rows if row["shape"] == SHAPE), default=1)
    size = (11.5, 0.5 * len(rules) + 1.8)
    with plt.rc_context(STYLE):
        figure, (left, right) = plt.subplots(1, 2, figsize=size, sharey=True, width_ratios=(1, 1.6))
        native(left, rows, rules)
        against(right, peer_rows, rules, threads)
        left.set_yticks(range(len(rules)), rules)
        left.set_ylim(len(rules) - 0.5, -0.5)
        for axes in left, right:
            axes.set_axisbelow(True)
            axes.grid(axis="x", color="#dddddd", lw=0.6)
            axes.tick_params(axis="y", length=0)
            for k in range(0, len(rules), 2):
                axes.axhspan(k - 0.5, k + 0.5, color="#f4f5f7", zorder=0)
            for side in "top", "right":
                axes.spines[side].set_visible(False)
        names = [name for name in ("numpy", "torch", "deepspeed", "optax", "keras") if facts[name]]
        versions = ", ".join(f"{name} {facts[name]}" for name in names)
        figure.text(0.01, 0.004, f"{facts['processor']}, {facts['isa']}; {versions}", fontsize=7)
        figure.tight_layout(rect=(0, 0.012, 1, 1))
        figure.savefig(out, dpi=110, metadata={"Date": None} if out.suffix == ".svg" else None)
    print(f"wrote {out.name}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rules", type=Path, default=RESULTS / "rules.json")
    parser.add_argument("--peers", type=Path, default=RESULTS / "peers.json")
    parser.add_argument("--out", type=Path, default=RESULTS / "rules.svg")
    options = parser.parse_args()
    draw(options.rules, options.peers, options.out)
