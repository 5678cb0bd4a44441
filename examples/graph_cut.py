"""Graph cuts, the third application: cut a flower out of a picture.

scikit-learn's flower.jpg, every other pixel, as a graph of neighbours, heavy where their colours
are alike. Some pixels of two flowers are seeds of 1, three borders of 0; other pixels cost the
distance of their colour from that of the seeds. The cut finds the rest, and proves how near the
least one it is. With --out FILE.png the flowers are drawn on grey.

    python examples/graph_cut.py [--out flower.png]
"""

import sys

import numpy as np

import fastopt


def main(quick: bool = False, out: str | None = None) -> dict[str, float]:
    """Cut; return the cut's weight, the proven bound, and the flower's part of the picture."""
    from sklearn.datasets import load_sample_image

    image = (load_sample_image("flower.jpg") / 255.0).astype(np.float32)
    image = image[::6, ::6] if quick else image[::2, ::2]
    rows, columns = image.shape[:2]
    y, x = np.mgrid[:rows, :columns] / np.array([rows, columns]).reshape(2, 1, 1)
    seeds = np.full((rows, columns), -1)
    seeds[(np.minimum(x, 1 - x) < 0.02) | (y < 0.02)] = 0
    seeds[(y > 0.98) & ((x < 0.4) | (x > 0.8))] = 0
    seeds[(y - 0.5) ** 2 * 0.44 + (x - 0.48) ** 2 < 0.004] = 1
    seeds[(y > 0.97) & (x > 0.55) & (x < 0.65)] = 1
    edges, weights = fastopt.image_graph(image, sigma=0.1)
    means = np.array([image[seeds == label].mean(axis=0) for label in range(2)])
    costs = 0.2 * np.square(image.reshape(-1, 1, 3) - means).sum(axis=2)
    result = fastopt.graph_cut(edges, weights, seeds=seeds.ravel(), costs=costs)
    flower = result.labels.reshape(rows, columns) == 1
    outcome = {
        "pixels": flower.size,
        "cut": result.cut,
        "proven bound": result.lower_bound,
        "flower's part": float(flower.mean()),
        "seconds": result.seconds,
    }
    for name, value in outcome.items():
        print(f"{name:14}{value:12.3f}")
    if out is not None:
        from matplotlib import image as files

        files.imsave(out, np.where(flower[..., None], image, 0.5))
    return outcome


if __name__ == "__main__":
    main(out=sys.argv[2] if sys.argv[1:2] == ["--out"] else None)
