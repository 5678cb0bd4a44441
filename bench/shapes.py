"""What is stepped: a tiny array, single ones, and the parameters' shapes of two models.

The single ones are matrices, because some rules are for matrices; to all others they are flat.
"""

from __future__ import annotations

import math

Shapes = list[tuple[int, ...]]


def resnet50() -> Shapes:
    """Return the shapes of ResNet-50's 161 parameters."""
    shapes: Shapes = [(64, 3, 7, 7), (64,), (64,)]
    channels = 64
    for width, blocks in (64, 3), (128, 4), (256, 6), (512, 3):
        for block in range(blocks):
            for shape in (width, channels, 1, 1), (width, width, 3, 3), (4 * width, width, 1, 1):
                shapes += [shape, shape[:1], shape[:1]]
            if block == 0:
                shapes += [(4 * width, channels, 1, 1), (4 * width,), (4 * width,)]
            channels = 4 * width
    return [*shapes, (1000, 2048), (1000,)]


def gpt2() -> Shapes:
    """Return the shapes of GPT-2-small's 148 parameters."""
    d = 768
    layer: Shapes = [(d,), (d,), (d, 3 * d), (3 * d,), (d, d), (d,), (d,), (d,)]
    layer += [(d, 4 * d), (4 * d,), (4 * d, d), (d,)]
    return [(50257, d), (1024, d), *(layer * 12), (d,), (d,)]


SHAPES: dict[str, Shapes] = {
    "tiny": [(3,)],
    "flat 10^4": [(100, 100)],
    "flat 10^7": [(10_000, 1000)],
    "ResNet-50": resnet50(),
    "GPT-2 small": gpt2(),
}


def elements(shapes: Shapes) -> int:
    """Return how many numbers arrays of these shapes hold."""
    return sum(map(math.prod, shapes))
