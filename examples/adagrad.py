"""AdaGrad's vanishing step against RMSProp's.

AdaGrad divides by the root of the sum of all squared gradients, which only grows: on a slope that
does not end its k-th step is lr / sqrt(k), and n steps go 2 lr sqrt(n) far. RMSProp divides by a
mean that forgets: its step tends to lr, and n steps go lr n far. Worse where the first gradients
were large: AdaGrad never forgets them.

    python examples/adagrad.py
"""

import numpy as np

import fastopt

LR = 0.01


def walk(rule: type, first: float, steps: int, **options: float) -> np.ndarray:
    """Return the steps' sizes on a slope of 1 that begins with one gradient of `first`."""
    w = np.zeros(1)
    opt = rule(w, lr=LR, **options)
    places = [0.0]
    for k in range(steps):
        opt.step(np.array([first if k == 0 else 1.0]))
        places.append(float(w[0]))
    return -np.diff(places)


def main(quick: bool = False) -> dict[str, dict[str, float]]:
    """Walk with both rules, with and without a steep start; return the sizes of steps."""
    steps = 1000 if quick else 10_000
    rules = {"AdaGrad": (fastopt.Adagrad, {}), "RMSProp": (fastopt.RMSprop, {"alpha": 0.9})}
    outcome = {}
    print(f"{'step / lr':28}{'10th':>8}{'100th':>8}{f'{steps}th':>8}{'distance / lr':>15}")
    for start, first in (("", 1.0), (", steep start", 1000.0)):
        for name, (rule, options) in rules.items():
            sizes = walk(rule, first, steps, **options) / LR
            row = {"10": sizes[9], "100": sizes[99], "last": sizes[-1], "distance": sizes.sum()}
            outcome[name + start] = {key: float(value) for key, value in row.items()}
            print(f"{name + start:28}{sizes[9]:8.4f}{sizes[99]:8.4f}{sizes[-1]:8.4f}"
                  f"{sizes.sum():15.1f}")  # fmt: skip
    return outcome


if __name__ == "__main__":
    main()
