"""Cut the flowers out of scikit-learn's picture and draw it: docs/pictures/flower-cut.png.

pip install 'fastopt[plot]' scikit-learn
python docs/pictures/cut_flower.py [--out flower-cut.png]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

import fastopt

try:
    import matplotlib
    from sklearn.datasets import load_sample_image
except ImportError as error:
    raise SystemExit(f"{error}: pip install 'fastopt[plot]' scikit-learn") from None

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.colors import ListedColormap

COLOURS = ["#1b6ca8", "#ee7733"]


def main() -> None:
    """Draw the picture with its seeds, and what the cut makes of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    out = Path(__file__).with_name("flower-cut.png")
    parser.add_argument("--out", type=Path, default=out)
    arguments = parser.parse_args()
    image = (load_sample_image("flower.jpg") / 255.0).astype(np.float32)
    height, width = image.shape[:2]
    y, x = np.mgrid[:height, :width] / np.array([height, width]).reshape(2, 1, 1)
    seeds = np.full((height, width), -1)
    seeds[(np.minimum(x, 1 - x) < 0.02) | (y < 0.02)] = 0
    seeds[(y > 0.98) & ((x < 0.4) | (x > 0.8))] = 0
    seeds[(y - 0.5) ** 2 * 0.44 + (x - 0.48) ** 2 < 0.004] = 1
    seeds[(y > 0.97) & (x > 0.55) & (x < 0.65)] = 1
    edges, weights = fastopt.image_graph(image, sigma=0.1)
    # What a label costs a pixel: the squared distance from the mean colour of the label's seeds.
    means = np.array([image[seeds == label].mean(axis=0) for label in range(2)])
    costs = 0.2 * np.square(image.reshape(-1, 1, 3) - means).sum(axis=2)
    result = fastopt.graph_cut(edges, weights, seeds=seeds.ravel(), costs=costs)
    print(f"cut {result.cut:.2f}, at least {result.lower_bound:.2f}; {result.message}")
    labels = result.labels.reshape(height, width)
    grey = image.mean(axis=2)
    figure, axes = plt.subplots(1, 2, figsize=(6, 2.1), dpi=80)
    for axis, what in zip(axes, (seeds, labels), strict=True):
        axis.imshow(grey, cmap="gray", vmin=0, vmax=1)
        shown = np.ma.masked_less(what, 0)
        axis.imshow(shown, cmap=ListedColormap(COLOURS), alpha=0.55, interpolation="nearest",
                    vmin=0, vmax=1)  # fmt: skip
        axis.set_axis_off()
    figure.subplots_adjust(0, 0, 1, 1, 0.02, 0)
    figure.savefig(arguments.out, pil_kwargs={"optimize": True}, metadata={"Software": None})


if __name__ == "__main__":
    main()
