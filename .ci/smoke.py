"""The shortest proof that an installed fastopt works: it says what it is and takes a step."""

import sys
from pathlib import Path

import numpy as np

import fastopt

source = Path(__file__).resolve().parent.parent / "fastopt"
if source in Path(fastopt.__file__).resolve().parents:
    sys.exit(f"this is the source tree, not an installed package: {fastopt.__file__}")
print(f"fastopt from {fastopt.__file__}")
fastopt.show_config()

w = np.ones(100_001, np.float32)
fastopt.SGD(w, lr=0.5, threads=2).step(np.full_like(w, 0.5))
assert (w == 0.75).all(), w
