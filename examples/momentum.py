"""Momentum and Nesterov on an ill-conditioned quadratic: they overshoot, and are faster.

On (x² + 100 y²) / 2 descent creeps along the floor of the valley and never crosses x = 0. With
momentum 0.9 both others shoot across it, come back, and are there long before. Theory knows the
factor by which f falls in a step in the end, and the learning rate and momentum with which it is
least (Polyak, 1964; Nesterov, 1983; Lessard, Recht and Packard, 2016): it is measured here.

    python examples/momentum.py
"""

import math

import numpy as np

import fastopt

LARGE, SMALL = 100.0, 1.0  # second derivatives
ROOT = math.sqrt(LARGE / SMALL)
BALL = ((ROOT - 1) / (ROOT + 1)) ** 2

# learning rate, momentum, and the factor of f in a step that theory has, of each
THEORY = {
    "descent, best": (2 / (LARGE + SMALL), 0.0, ((LARGE - SMALL) / (LARGE + SMALL)) ** 2),
    "momentum 0.9": (1 / LARGE, 0.9, 0.9),
    "Nesterov 0.9": (1 / LARGE, 0.9, 0.9 * (1 - SMALL / LARGE)),
    "momentum, best": ((2 / (math.sqrt(LARGE) + math.sqrt(SMALL))) ** 2, BALL, BALL),
    "Nesterov, best": (1 / LARGE, (ROOT - 1) / (ROOT + 1), (1 - 1 / ROOT) ** 2),
}


def main(quick: bool = False) -> dict[str, dict[str, float]]:
    """Run all of them; return what was measured of each."""
    methods = {
        name: ("SGD", {"lr": lr, "momentum": momentum, "nesterov": name[0] == "N"})
        for name, (lr, momentum, _) in THEORY.items()
    }
    found = fastopt.compare("valley", methods, steps=500 if quick else 2000, tol=1e-100)
    outcome = {}
    print(f"{'':18}{'lr':>8}{'momentum':>10}{'overshoot':>11}{'steps to 1e-6':>15}"
          f"{'factor of f':>13}{'theory':>8}")  # fmt: skip
    for name, (lr, momentum, theory) in THEORY.items():
        run = found[name]
        there = run.f <= 1e-6 * run.f[0]
        outcome[name] = {
            "overshoot": float(run.points[:, 0].max()),  # beyond the floor of the valley
            "steps": int(np.argmax(there)) if there.any() else math.inf,
            "factor": run.rate.value,
            "theory": theory,
        }
        row = outcome[name]
        print(f"{name:18}{lr:8.4f}{momentum:10.3f}{row['overshoot']:11.3f}{row['steps']:15}"
              f"{row['factor']:13.4f}{theory:8.4f}")  # fmt: skip
    return outcome


if __name__ == "__main__":
    main()
