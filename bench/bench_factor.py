"""Matrix completion beside LIBMF, and BPR beside implicit: ns per rating, and time to a quality.

    python -m bench.bench_factor [--quick] [--data jester]

Data in memory, float32: jester (1.6 M ratings of 24,983 users and 100 items) where $FASTOPT_DATA or
../shared/data has it; netflix (120,000 x 8,885, 10 M ratings, 1 to 5 stars, of rank 20 with
Zipf-distributed users and items and noise); jumbo (100,000 x 100,000, 20 M ratings of rank 10,
uniform, 10 % noise). A tenth is for the test.

speed      ns per rating and epoch, from fits of 2 and of 6 epochs.
time to    seconds of a whole fit, preparation included, to LIBMF's best test RMSE + 0.1 %, on two
           threads: the quickest of some numbers of epochs and of two l2 that suit each. LIBMF has
           no biases, nor have we on jumbo, which is made without; it sees ratings less their mean.
           picture_factor.py draws all runs.
bpr        60 items of each of 20,000 users, drawn by planted tastes: AUC and precision at 10 on a
           tenth that was held out, at several numbers of epochs and the better of settings.

LIBMF is the one of `pip install libmf`, which is compiled without vectors; LIBMF_OBJ names a better
build: g++ -O3 -march=native -DUSEAVX -fopenmp -DUSEOMP -shared -fPIC mf.cpp libmf_interface.cpp.
What is not installed is left out. Everybody takes turns; minima.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

import fastopt
from bench.harness import record, show

try:
    from libmf import mf
except ImportError:
    mf = None
try:
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from implicit.bpr import BayesianPersonalizedRanking
except ImportError:
    BayesianPersonalizedRanking = None

EPOCHS = (2, 3, 4, 5, 7, 10, 14, 20)
L2 = {"jester": (0.2, 0.3), "netflix": (0.05, 0.07), "jumbo": (0.003, 0.01)}
THEIRS = {"jester": (0.1, 0.2), "netflix": (0.03, 0.05), "jumbo": (0.003, 0.01)}

Part = tuple[np.ndarray, np.ndarray]  # pairs, ratings
Data = tuple[str, tuple[int, int], Part, Part]


def zipf(r: np.random.Generator, n: int, size: int, power: float) -> np.ndarray:
    ends = np.cumsum(np.arange(1, n + 1) ** -power)
    drawn = np.searchsorted(ends, r.random(size) * ends[-1]).clip(0, n - 1)
    return r.permutation(n).astype(np.int32)[drawn]


def planted(
    shape: tuple[int, int], n: int, rank: int, noise: float, powers: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray, np.random.Generator]:
    """Pairs, and ratings of variance 1 of that rank, with noise."""
    r = np.random.default_rng(0)
    pairs = np.stack([zipf(r, shape[a], n, powers[a]) for a in (0, 1)], axis=1)
    falling = 0.9 ** (np.arange(rank) / 4)
    p, q = (r.normal(size=(size, rank)).astype("f4") * falling.astype("f4") for size in shape)
    y = np.empty(n, "f4")
    for first in range(0, n, 1 << 18):
        u, i = pairs[first : first + (1 << 18)].T
        y[first : first + (1 << 18)] = (p[u] * q[i]).sum(1)
    y /= np.sqrt((falling**4).sum())
    return pairs, y + noise * r.standard_normal(n, "f4"), r


def data_sets(quick: bool) -> Iterator[Data]:
    folder = Path(os.environ.get("FASTOPT_DATA") or "../shared/data")
    if (folder / "jester.npz").exists():
        z = np.load(folder / "jester.npz")
        parts = [
            (np.stack([z[f"{k}_user"], z[f"{k}_item"]], axis=1), z[f"{k}_rating"])
            for k in ("train", "test")
        ]
        yield "jester", tuple(int(x) for x in z["shape"]), parts[0], parts[1]
    less = 10 if quick else 1
    shape = (120_000 // less, 8_885 // (3 if quick else 1))
    pairs, y, r = planted(shape, 10_000_000 // less, 20, 1.2, (0.6, 0.9))
    y *= 0.55
    y += (0.4 * r.normal(size=shape[0]))[pairs[:, 0]] + (0.45 * r.normal(size=shape[1]))[
        pairs[:, 1]
    ]
    yield ("netflix", shape, *split(pairs, (y + 3.6).round().clip(1, 5).astype("f4")))
    size = 100_000 // less
    pairs, y, _ = planted((size, size), 20_000_000 // less, 10, 0.1, (0.0, 0.0))
    yield ("jumbo", (size, size), *split(pairs, y))


def split(pairs: np.ndarray, y: np.ndarray) -> tuple[Part, Part]:
    n = len(y) // 10
    return (pairs[n:], y[n:]), (pairs[:n], y[:n])


def rmse(p: np.ndarray, y: np.ndarray) -> float:
    return float(np.sqrt(np.mean((p - y) ** 2, dtype="f8")))


def libmf(table: np.ndarray, rank: int, threads: int, epochs: int, l2: float) -> Any:
    model = mf.MF(
        fun=mf.P_L2_MFR, k=rank, nr_threads=threads, nr_bins=20, nr_iters=epochs, lambda_p1=0.0,
        lambda_q1=0.0, lambda_p2=l2, lambda_q2=l2, eta=0.1, quiet=True, copy_data=False,
    )  # fmt: skip
    model.fit(table)
    return model


class Libmf:
    """LIBMF's fits of a table, in a process of their own, as its wrapper never frees a problem."""

    def __init__(self, table: np.ndarray) -> None:
        self.table, self.left, self.pool = table, 0, None

    def __call__(
        self, rank: int, threads: int, epochs: int, l2: float
    ) -> tuple[float, tuple[np.ndarray, np.ndarray]]:
        """Return the seconds of a fit, and its factors."""
        if self.left == 0:
            self.close()
            self.folder = tempfile.TemporaryDirectory()
            path = f"{self.folder.name}/table.npy"
            np.save(path, self.table)
            self.pool = concurrent.futures.ProcessPoolExecutor(
                1, multiprocessing.get_context("spawn"), _load, (path,)
            )
            self.left = max(1, int(4e9 / self.table.nbytes))
        self.left -= 1
        return self.pool.submit(_fit, rank, threads, epochs, l2).result()

    def close(self) -> None:
        """End the process."""
        if self.pool is not None:
            self.pool.shutdown()
            self.folder.cleanup()
        self.left, self.pool = 0, None


def _load(path: str) -> None:
    global _table
    _table = np.load(path)
    libmf(_table[:100], 8, 1, 1, 0.1)  # once, as everybody's code is loaded when the clock starts


def _fit(rank: int, threads: int, epochs: int, l2: float) -> Any:
    taken, model = seconds(lambda: libmf(_table, rank, threads, epochs, l2))
    return taken, (np.nan_to_num(model.p_factors()), np.nan_to_num(model.q_factors()))


def libmf_predict(factors: tuple[np.ndarray, np.ndarray], pairs: np.ndarray) -> np.ndarray:
    p, q = factors
    out = np.empty(len(pairs), "f4")
    for first in range(0, len(pairs), 1 << 18):
        u, i = pairs[first : first + (1 << 18)].T
        out[first : first + (1 << 18)] = (p[u] * q[i]).sum(1)
    return out


def table_of(train: Part, mean: float) -> np.ndarray:
    return np.column_stack([train[0], train[1] - mean]).astype("f4")


def seconds(call: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, result


def speed(data: Data, rounds: int) -> list[dict[str, Any]]:
    name, shape, train, _ = data
    n = len(train[1])
    theirs = Libmf(table_of(train, train[1].mean()))
    rows = []
    for rank in (16, 64, 128):
        contenders: dict[str, Callable[[int], tuple[float, Any]]] = {}
        for threads in (1, 2):
            for label, state in (("shared", None), ("blocks", 0)):
                if threads == 1 and state is None:
                    continue
                who = "fastopt" + (f", {label}" if threads == 2 else "")
                contenders[f"{who}, {threads} thread{'s' * (threads > 1)}"] = (
                    lambda epochs, threads=threads, state=state, rank=rank: seconds(
                        lambda: fastopt.factorize(
                            *train, rank=rank, epochs=epochs, threads=threads, random_state=state,
                            shape=shape, l2=L2[name][0], mode="auto",
                        )
                    )
                )  # fmt: skip
            if mf:
                contenders[f"LIBMF, {threads} thread{'s' * (threads > 1)}"] = (
                    lambda epochs, threads=threads, rank=rank: theirs(
                        rank, threads, epochs, THEIRS[name][0]
                    )
                )
        least = {who: [np.inf, np.inf] for who in contenders}
        for _ in range(rounds):
            for who, call in contenders.items():
                for k, epochs in enumerate((2, 6)):
                    least[who][k] = min(least[who][k], call(epochs)[0])
        for who, (short, long) in least.items():
            rows.append(
                {
                    "data": name, "rank": rank, "who": who,
                    "ns per rating": (long - short) / 4 / n * 1e9,
                    "preparation, s": max(short - (long - short) / 2, 0.0),
                }
            )  # fmt: skip
    theirs.close()
    return rows


def time_to(data: Data, rank: int, rounds: int) -> list[dict[str, Any]]:
    name, shape, train, test = data
    mean = float(train[1].mean())
    theirs = Libmf(table_of(train, mean))
    contenders: dict[str, tuple[Callable[[int, float], Any], Callable[[Any], Any], Any]] = {}
    for label, state in (("shared", None), ("blocks", 0)):
        contenders[f"fastopt, {label}"] = (
            lambda epochs, l2, state=state: seconds(
                lambda: fastopt.factorize(
                    *train, rank=rank, epochs=epochs, threads=2, random_state=state, shape=shape,
                    l2=l2, l2_bias=min(l2, 0.05), biases=name != "jumbo",
                )
            ),
            lambda result: result.predict(test[0]),
            L2[name],
        )  # fmt: skip
    if mf:
        contenders["LIBMF"] = (
            lambda epochs, l2: theirs(rank, 2, epochs, l2),
            lambda factors: libmf_predict(factors, test[0]) + mean,
            THEIRS[name],
        )
    tried: dict[str, list[tuple[float, float, int, float]]] = {who: [] for who in contenders}
    for who, (fit, predict, l2s) in contenders.items():
        for l2 in l2s:
            for epochs in EPOCHS:
                runs = [fit(epochs, l2) for _ in range(rounds)]
                error = rmse(predict(runs[-1][1]), test[1])
                tried[who].append((min(s for s, _ in runs), error, epochs, l2))
    theirs.close()
    bar = min(error for _, error, _, _ in tried["LIBMF" if mf else "fastopt, blocks"])
    rows = []
    for who, runs in tried.items():
        there = min((run for run in runs if run[1] <= bar * 1.001), default=None)
        best = min(runs, key=lambda run: run[1])
        rows.append(
            {
                "data": name, "rank": rank, "who": who, "bar": bar * 1.001,
                "seconds to bar": there[0] if there else "-",
                "epochs": there[2] if there else "-", "l2": there[3] if there else "-",
                "best RMSE": best[1], "in s": best[0],
                "curve": [(e, s, error) for s, error, e, _ in runs],
            }
        )  # fmt: skip
    return rows


def tastes(users: int, items: int = 4000, each: int = 60) -> tuple[Any, Any]:
    """Return what users have, drawn by tastes and popularity; a tenth is held out."""
    r = np.random.default_rng(0)
    p, q = r.normal(size=(users, 8)), r.normal(size=(items, 8))
    popular = -np.log(1 + r.permutation(items) / 20)
    chosen = np.empty((users, each), np.int32)
    for first in range(0, users, 1000):
        score = 1.8 * p[first : first + 1000] @ q.T / np.sqrt(8) + popular
        score += r.gumbel(size=score.shape)
        chosen[first : first + 1000] = np.argpartition(-score, each, axis=1)[:, :each]
    u, i = np.repeat(np.arange(users), each), chosen.ravel()
    held = r.random(len(u)) < 0.1
    return tuple(
        sparse.csr_matrix((np.ones(m.sum(), "f4"), (u[m], i[m])), (users, items))
        for m in (~held, held)
    )


def ranking(p: np.ndarray, q: np.ndarray, bias: Any, train: Any, test: Any) -> tuple[float, float]:
    """AUC and precision at 10 of the first 2,000 users, without what they were trained on."""
    areas, precision = [], []
    for u in range(min(2000, len(p))):
        wanted = test.indices[test.indptr[u] : test.indptr[u + 1]]
        if not len(wanted):
            continue
        score = (p[u] @ q.T + bias).astype("f8")
        score[train.indices[train.indptr[u] : train.indptr[u + 1]]] = -np.inf
        others = np.delete(score, wanted)
        others = np.sort(others[others > -np.inf])
        areas.append((np.searchsorted(others, score[wanted]) / len(others)).mean())
        top = np.argpartition(-score, 10)[:10]
        precision.append(len(np.intersect1d(top, wanted)) / min(10, len(wanted)))
    return float(np.mean(areas)), float(np.mean(precision))


def bpr(quick: bool, rounds: int) -> list[dict[str, Any]]:
    train, test = tastes(4000 if quick else 20_000)
    rows = []

    def add(who: str, epochs: int, fit: Callable[[], Any], settings: str) -> None:
        runs = [seconds(fit) for _ in range(rounds)]
        area, precision = ranking(*runs[-1][1], train, test)
        least = min(s for s, _ in runs)
        rows.append(
            {
                "who": who, "settings": settings, "epochs": epochs, "seconds": least,
                "ns per rating": least / epochs / train.nnz * 1e9, "AUC": area,
                "precision at 10": precision,
            }
        )  # fmt: skip

    def mine(epochs: int, l2: float) -> tuple[Any, Any, Any]:
        result = fastopt.factorize(
            train, loss="bpr", rank=32, epochs=epochs, l2=l2, threads=2, random_state=0
        )
        return result.user_factors, result.item_factors, result.item_biases

    def theirs(epochs: int, rate: float, l2: float) -> tuple[Any, Any, Any]:
        model = BayesianPersonalizedRanking(
            factors=32, learning_rate=rate, regularization=l2, iterations=epochs, num_threads=2,
            random_state=0,
        )  # fmt: skip
        model.fit(train, show_progress=False)
        return model.user_factors, model.item_factors, 0

    for epochs in (5, 10, 20, 40):
        for l2 in (0.005, 0.02):
            add("fastopt", epochs, lambda e=epochs, x=l2: mine(e, x), f"l2 {l2}")
    if BayesianPersonalizedRanking:
        for epochs in (10, 40, 100):
            for rate in (0.01, 0.03, 0.1):
                for l2 in (0.002, 0.01, 0.03):
                    add(
                        "implicit", epochs, lambda e=epochs, r=rate, x=l2: theirs(e, r, x),
                        f"rate {rate}, l2 {l2}",
                    )  # fmt: skip
    best: dict[tuple[str, int], dict[str, Any]] = {}
    for row in rows:  # of each number of epochs the settings that rank best
        key = row["who"], row["epochs"]
        if key not in best or row["precision at 10"] > best[key]["precision at 10"]:
            best[key] = row
    return list(best.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="smaller data, fewer rounds")
    parser.add_argument("--rounds", type=int, default=2, help="of each training to a quality")
    parser.add_argument("--data", help="only jester, netflix, jumbo or bpr")
    arguments = parser.parse_args()
    rounds = 1 if arguments.quick else 3
    if mf is None:
        print("libmf is not installed: left out")
    if BayesianPersonalizedRanking is None:
        print("implicit is not installed: left out")
    ours, quality, ranked = [], [], []
    for data in data_sets(arguments.quick):
        if arguments.data in (None, data[0]):
            ours += speed(data, rounds)
            for rank in (16, 64):
                quality += time_to(data, rank, 1 if arguments.quick else arguments.rounds)
    if arguments.data in (None, "bpr"):
        ranked = bpr(arguments.quick, 1 if arguments.quick else 2)
    show(ours, "ns per rating, float32")
    shown = [{k: v for k, v in row.items() if k != "curve"} for row in quality]
    show(shown, "seconds to LIBMF's best test RMSE + 0.1 %, two threads")
    show(ranked, "BPR, rank 32, two threads")
    record(
        "-".join(["factor", *([arguments.data] if arguments.data else [])]), ours + quality + ranked
    )


if __name__ == "__main__":
    main()
