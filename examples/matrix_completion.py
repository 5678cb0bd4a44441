"""Matrix completion, the second application: ratings that nobody gave.

A matrix of rank 5 with noise of 0.1, of which one entry in twenty is known. What the factors say of
entries that they have not seen cannot be nearer than the noise, and comes close to it.

    python examples/matrix_completion.py
"""

import numpy as np

import fastopt

NOISE = 0.1


def main(quick: bool = False) -> dict[str, float]:
    """Complete the matrix; return errors on entries that were not seen."""
    users, items, known = (400, 300, 20_000) if quick else (4000, 3000, 600_000)
    rng = np.random.default_rng(0)
    U, V = rng.standard_normal((users, 5)), rng.standard_normal((items, 5))
    user, item = rng.integers(0, users, 2 * known), rng.integers(0, items, 2 * known)
    rating = np.einsum("ij,ij->i", U[user], V[item]) + NOISE * rng.standard_normal(2 * known)
    ratings = np.stack([user, item], axis=1)
    result = fastopt.factorize(
        ratings[:known], rating[:known], rank=8, l2=0.01, epochs=60 if quick else 40,
        biases=False, shape=(users, items), random_state=0,
    )  # fmt: skip
    unseen = slice(known, None)
    guess = np.einsum("ij,ij->i", result.user_factors[user[unseen]],
                      result.item_factors[item[unseen]]) + result.mean  # fmt: skip
    error = float(np.sqrt(np.mean((guess - rating[unseen]) ** 2)))
    outcome = {"spread": float(rating.std()), "error": error, "noise": NOISE,
               "seconds": result.seconds}  # fmt: skip
    for name, value in outcome.items():
        print(f"{name:10}{value:8.3f}")
    return outcome


if __name__ == "__main__":
    main()
