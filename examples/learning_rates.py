"""Learning rates: too low, good, too high; and what their decay is for.

Without noise, descent on a quadratic with largest second derivative L converges for lr < 2 / L
alone. With noise it comes near the minimum and wanders there, the farther the larger lr is; a rate
that falls gets both: fast at first, quiet at the end.

    python examples/learning_rates.py
"""

import numpy as np

import fastopt
from fastopt import schedules

CURVES = np.geomspace(1.0, 10.0, 20)  # second derivatives, L = 10


def choices(steps: int) -> dict[str, float]:
    """Return f after so many steps for rates between a hundredth of and above 2 / L."""
    problem = (lambda x: float(CURVES @ x**2) / 2, lambda x: CURVES * x, np.ones(20), np.zeros(20))
    rates = {"0.02 / L": 0.002, "0.2 / L": 0.02, "1.8 / L": 0.18, "2.1 / L": 0.21}
    found = fastopt.compare(problem, {k: ("SGD", {"lr": v}) for k, v in rates.items()}, steps=steps)
    print(f"{'lr':24}{'f / f at start':>18}")
    for run in found:
        print(f"{run.method:24}{run.f[-1] / run.f[0]:18.2e}  {run.rate}")
    return {run.method: float(run.f[-1] / run.f[0]) for run in found}


def decays(steps: int, seeds: int) -> dict[str, float]:
    """Return f at the end, the mean over seeds, with noisy gradients."""
    rates = {
        "constant 0.1": 0.1,
        "constant 0.001": 0.001,
        "step decay": schedules.step(0.1, every=steps // 5, factor=0.3),
        "exponential": schedules.exponential(0.1, 0.01 ** (1 / steps)),
        "1 / t": schedules.inverse_time(0.1, 0.1),
        "cosine": schedules.cosine(0.1, steps),
    }
    outcome = {}
    print(f"\n{'schedule, noisy':24}{'f / f at start':>18}")
    for name, lr in rates.items():
        last = []
        for seed in range(seeds):
            rng, x = np.random.default_rng(seed), np.ones(20)
            opt = fastopt.SGD(x, lr=lr)
            for _ in range(steps):
                opt.step(CURVES * x + rng.standard_normal(20))
            last.append(float(CURVES @ x**2 / CURVES.sum()))
        outcome[name] = float(np.mean(last))
        print(f"{name:24}{outcome[name]:18.2e}")
    return outcome


def main(quick: bool = False) -> dict[str, float]:
    """Try rates, then schedules; return f at the end over f at the start of each."""
    return {**choices(100), **decays(500 if quick else 2000, 5 if quick else 10)}


if __name__ == "__main__":
    main()
