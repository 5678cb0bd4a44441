"""Adam's bias correction, on and off.

Both averages start at 0 and are too small at first: m after one step is (1 - b1) g, v is
(1 - b2) g². Corrected, the first step is lr, whatever the gradient; without correction it is
lr (1 - b1) / sqrt(1 - b2) = 3.16 lr, and v lags so far behind m that steps go on growing. With
b2 = 0.9999 it is 10 lr (Kingma and Ba, 2015, section 6.4).

    python examples/adam_bias.py
"""

import numpy as np

import fastopt

LR = 0.001


def main(quick: bool = False) -> dict[tuple[float, bool], dict[str, float]]:
    """Take steps on a constant slope; return the steps' sizes, in units of lr."""
    steps = 50 if quick else 500
    outcome = {}
    print(f"{'b2':8}{'corrected':>10}{'1st step':>10}{'largest':>9}{'by step':>9}{'last':>8}")
    for b2 in (0.999, 0.9999):
        for corrected in (True, False):
            w, places = np.zeros(1), [0.0]
            opt = fastopt.Adam(w, lr=LR, betas=(0.9, b2), bias_correction=corrected)
            for _ in range(steps):
                opt.step(np.full(1, 7.0))
                places.append(float(w[0]))
            sizes = -np.diff(places) / LR
            outcome[b2, corrected] = {
                "first": float(sizes[0]), "largest": float(sizes.max()), "last": float(sizes[-1])
            }  # fmt: skip
            print(f"{b2:<8}{corrected!s:>10}{sizes[0]:10.3f}{sizes.max():9.3f}"
                  f"{sizes.round(9).argmax() + 1:9}{sizes[-1]:8.3f}")  # fmt: skip
    return outcome


if __name__ == "__main__":
    main()
