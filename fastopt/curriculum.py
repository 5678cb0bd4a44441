"""Curricula: which rows an epoch visits, and in which order, by how difficult they are.

A curriculum has one method, ``order(epoch, n)``, which returns the rows to visit in an epoch. The
same object serves mini-batches and the lock-free runner.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np

from fastopt.checks import check_callable, count, number, one_of

__all__ = ["Curriculum", "SelfPaced"]

PACINGS = ("linear", "root", "geometric", "step")
ORDERS = ("easy-first", "hard-first", "mixed")


class Curriculum:
    """Train on the easy rows first, and on more and more of the others.

    Epoch t = 0, 1, ... visits ceil(c(t) n) of n rows, each once, in random order: the easiest ones,
    or what `order` says. With s = `start` and T = `full_at`, the pacing functions are

    ===============  ==============================================  =====================
    ``"linear"``     ``c(t) = min(1, s + (1 - s) t / T)``            [2]_
    ``"root"``       ``c(t) = min(1, sqrt(s^2 + (1 - s^2) t / T))``  [2]_
    ``"geometric"``  ``c(t) = min(1, s^(1 - t / T))``
    ``"step"``       ``c(t) = s if t < T else 1``                    two stages, as in [1]_
    a callable       ``c(t) = min(1, pacing(t))``
    ===============  ==============================================  =====================

    With "root" new rows come at a rate that falls as 1 / c: each of them is seen as often.

    Parameters
    ----------
    difficulty : array_like of shape (n_rows,)
        How difficult each row is: anything that sorts them, such as a score, the loss of a trained
        model, or a length. Rows of the same difficulty are sorted at random.
    pacing : {"linear", "root", "geometric", "step"} or callable, default "linear"
        The part of the rows that an epoch visits. A callable takes the epoch and returns a number
        above 0.
    start : float in (0, 1], default 0.2
        s, the part of the rows in the first epoch.
    full_at : float, default 10
        T > 0, the epoch from which on all rows are visited.
    order : {"easy-first", "hard-first", "mixed"}, default "easy-first"
        The easiest rows; the most difficult ones; or the easiest ones with a part `share` of the
        epoch drawn from all others, in each epoch anew.
    stratify : array_like of shape (n_rows,), optional
        A label of each row: take the same part of the rows of each label, so that no class has to
        wait until its rows are easy enough.
    share : float in [0, 1], default 0.2
        Of "mixed" alone.
    seed : int, default 0
        Of the random order. The order of an epoch is a function of it and of the epoch.

    Raises
    ------
    ValueError, TypeError
        Naming the argument.

    References
    ----------
    .. [1] Bengio, Louradour, Collobert, Weston, "Curriculum Learning", 2009,
       https://doi.org/10.1145/1553374.1553380
    .. [2] Platanios, Stretcu, Neubig, Poczos, Mitchell, "Competence-based Curriculum Learning for
       Neural Machine Translation", 2019, https://arxiv.org/abs/1903.09848

    Examples
    --------
    >>> from fastopt.curriculum import Curriculum
    >>> by_length = Curriculum([7, 2, 9, 4, 5], start=0.4, full_at=2)
    >>> [sorted(by_length.order(epoch, 5).tolist()) for epoch in range(3)]
    [[1, 3], [0, 1, 3, 4], [0, 1, 2, 3, 4]]
    """

    def __init__(
        self,
        difficulty: Any,
        pacing: str | Callable[[int], float] = "linear",
        *,
        start: float = 0.2,
        full_at: float = 10,
        order: str = "easy-first",
        stratify: Any = None,
        share: float = 0.2,
        seed: int = 0,
    ) -> None:
        scores = np.array(difficulty)
        if scores.ndim != 1 or scores.dtype.kind not in "biuf" or not len(scores):
            raise ValueError(
                "difficulty must be one number per row, an array of one dimension, got shape "
                f"{scores.shape} of {scores.dtype}"
            )
        if np.isnan(scores).any():
            raise ValueError(f"difficulty must not be NaN, as at row {np.isnan(scores).argmax()}")
        if not callable(pacing):
            one_of("pacing", pacing, PACINGS)
        self.pacing = pacing
        self.start = number("start", start, 0, 1, open_below=True)
        self.full_at = number("full_at", full_at, 0, open_below=True)
        self.direction = one_of("order", order, ORDERS)
        self.share = number("share", share, 0, 1)
        self.seed = count("seed", seed, 0)
        self.n_rows = len(scores)
        labels = np.zeros(self.n_rows, np.int64)
        if stratify is not None:
            labels = np.asarray(stratify)
            if labels.shape != scores.shape:
                raise ValueError(
                    f"stratify must be one label per row, shape {scores.shape}, got {labels.shape}"
                )
            labels = np.unique(labels, return_inverse=True)[1].reshape(-1)
        ties = np.random.default_rng(self.seed).permutation(self.n_rows)
        ranked = np.lexsort((ties, -scores if order == "hard-first" else scores))
        self._ranked = [ranked[labels[ranked] == k] for k in range(int(labels.max()) + 1)]

    def fraction(self, epoch: int) -> float:
        """Return c(epoch), the part of the rows that an epoch visits.

        Examples
        --------
        >>> from fastopt.curriculum import Curriculum
        >>> [Curriculum(range(9), "root", start=0.6, full_at=4).fraction(t) for t in (0, 4, 5)]
        [0.6, 1.0, 1.0]
        """
        s, t = self.start, epoch / self.full_at
        if callable(self.pacing):
            return number("pacing", self.pacing(epoch), 0, open_below=True)
        if t >= 1:
            return 1.0
        return {
            "linear": s + (1 - s) * t,
            "root": math.sqrt(s * s + (1 - s * s) * t),
            "geometric": s ** (1 - t),
            "step": s,
        }[self.pacing]

    def order(self, epoch: int, n: int) -> np.ndarray:
        """Return the rows to visit in an epoch, in order.

        Parameters
        ----------
        epoch : int
            From 0.
        n : int
            How many rows there are, as many as `difficulty` has.

        Returns
        -------
        ndarray of int64, of shape (n_visits,)
        """
        if n != self.n_rows:
            raise ValueError(f"difficulty has {self.n_rows} numbers, but there are {n} rows")
        part = min(1.0, self.fraction(epoch))
        rng = np.random.default_rng([self.seed, epoch])
        chosen = []
        for ranked in self._ranked:
            visits = math.ceil(part * len(ranked) - 1e-9)
            others = round(self.share * visits) if self.direction == "mixed" else 0
            first = visits - others
            drawn = rng.choice(ranked[first:], others, replace=False) if others else ranked[:0]
            chosen += [ranked[:first], drawn]
        return rng.permutation(np.concatenate(chosen)).astype(np.int64, copy=False)

    def fingerprint(self) -> str:
        """Return what tells it from others, for a checkpoint; a callable counts as any other.

        Examples
        --------
        >>> from fastopt.curriculum import Curriculum
        >>> Curriculum([3, 1, 2]).fingerprint() == Curriculum([3, 1, 2], seed=1).fingerprint()
        False
        """
        ranks = zlib.crc32(np.concatenate(self._ranked).astype(np.int64))
        sizes = [len(ranked) for ranked in self._ranked]
        pacing = "a function" if callable(self.pacing) else self.pacing
        settings = (pacing, self.start, self.full_at, self.direction, self.share, self.seed)
        return f"Curriculum{(*settings, ranks, zlib.crc32(repr(sizes).encode()))}"

    def __repr__(self) -> str:
        return f"Curriculum({self.n_rows} rows, {self.pacing!r}, {self.direction!r})"


class SelfPaced:
    """Train on the rows whose loss is below a threshold that grows: the model sets its own pace.

    Self-paced learning [1]_ minimises over the weights w and over v_i in {0, 1}
    ``sum_i v_i loss_i(w) - (1 / K) sum_i v_i``: for given w, ``v_i = 1 if loss_i < 1 / K else 0``.
    Training and choosing rows take turns, and 1 / K grows by a factor in each. Here an epoch is a
    turn: epoch 0 visits the part `start` of the rows that have the smallest losses, whose largest
    one is the threshold; epoch t visits the rows with losses up to that times `growth` ** t, but
    never less than the part `start`.

    Parameters
    ----------
    losses : callable, optional
        Returns the loss of every row under the model as it is, an array of shape (n_rows,); called
        at the beginning of each epoch. The lock-free runner works them out by itself.
    start : float in (0, 1], default 0.5
        The part of the rows in the first epoch.
    growth : float, default 1.3
        Above 1; the threshold's factor from epoch to epoch.
    seed : int, default 0
        Of the order of an epoch's rows.

    Raises
    ------
    ValueError, TypeError
        Naming the argument.

    References
    ----------
    .. [1] Kumar, Packer, Koller, "Self-Paced Learning for Latent Variable Models", 2010,
       https://papers.nips.cc/paper/3923-self-paced-learning-for-latent-variable-models

    Examples
    --------
    >>> import numpy as np
    >>> from fastopt.curriculum import SelfPaced
    >>> pace = SelfPaced(lambda: np.array([3.0, 1.0, 9.0, 2.0]), growth=2)
    >>> [sorted(pace.order(epoch, 4).tolist()) for epoch in range(4)]
    [[1, 3], [0, 1, 3], [0, 1, 3], [0, 1, 2, 3]]
    """

    def __init__(
        self,
        losses: Callable[[], Any] | None = None,
        *,
        start: float = 0.5,
        growth: float = 1.3,
        seed: int = 0,
    ) -> None:
        check_callable("losses", losses)
        self.losses = losses
        self.start = number("start", start, 0, 1, open_below=True)
        self.growth = number("growth", growth, 1, open_below=True)
        self.seed = count("seed", seed, 0)
        self.threshold: float | None = None
        self._losses: np.ndarray | None = None

    def update(self, losses: Any) -> None:
        """Take the losses of all rows, shape (n_rows,), for the next `order`.

        Who trains calls it at the beginning of each epoch where there is no `losses`; rows with
        a loss of infinity are not visited.
        """
        self._losses = np.array(losses, np.float64)

    def order(self, epoch: int, n: int) -> np.ndarray:
        """Return the rows to visit in an epoch, in order; as `Curriculum.order`.

        Epoch 0 sets the threshold, for whatever comes after it.
        """
        if self.losses is not None:
            self.update(self.losses())
        losses = self._losses
        if losses is None:
            raise ValueError("losses must be given, or `update` called, before there is an order")
        if losses.shape != (n,) or np.isnan(losses).any():
            raise ValueError(
                f"losses must be one number per row, shape ({n},), not NaN; got {losses.shape}"
            )
        known = np.sort(losses[losses < math.inf])
        if not len(known):
            raise ValueError("losses must not all be infinite")
        least = float(known[math.ceil(self.start * len(known) - 1e-9) - 1])
        if epoch == 0 or self.threshold is None:
            self.threshold = least
        limit = max(self.threshold * self.growth**epoch, least)
        chosen = np.flatnonzero((losses <= limit) & (losses < math.inf))
        rng = np.random.default_rng([self.seed, epoch])
        return rng.permutation(chosen).astype(np.int64, copy=False)

    def fingerprint(self) -> str:
        """Return what tells it from others, for a checkpoint; a callable counts as any other."""
        losses = "a function" if self.losses else None
        return f"SelfPaced{(losses, self.start, self.growth, self.seed)}"

    def state_dict(self) -> dict[str, Any]:
        """Return what it has learned: its threshold, in the unit of the losses.

        Examples
        --------
        >>> from fastopt.curriculum import SelfPaced
        >>> pace = SelfPaced(lambda: [3.0, 1.0, 9.0, 2.0])
        >>> len(pace.order(0, 4)), pace.state_dict()
        (2, {'threshold': 2.0})
        """
        return {"threshold": self.threshold}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` returned."""
        threshold = state["threshold"]
        self.threshold = None if threshold is None else number("threshold", threshold, -math.inf)

    def __repr__(self) -> str:
        return f"SelfPaced(start={self.start:g}, growth={self.growth:g})"
