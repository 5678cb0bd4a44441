"""MB/s of reading svmlight text into a CSR matrix, beside scikit-learn's load_svmlight_file.

    python -m bench.bench_svmlight [--repeats 5] [--megabytes 60]

Files: a9a and agaricus (found by FASTOPT_DATA, else ../shared/data; decompressed first), and one
shaped like RCV1: 75 non-zeros a row, Zipf-like columns out of 47,236, values of 6 digits. Every
file is read in float32 by all readers in turn, `repeats` times, from the page cache; MB are 10^6
bytes of text. Medians; scikit-learn's reader is a single thread.
"""

import argparse
import gzip
import os
import pathlib
import statistics
import tempfile
import time

import numpy as np
from sklearn.datasets import load_svmlight_file

from bench.harness import record, show
from fastopt.data import load_svmlight

DATA = pathlib.Path(os.environ.get("FASTOPT_DATA", "../shared/data"))


def write_rcv1_shaped(path, megabytes, digits=6):
    """Write about so many MB: 5,000 rows over and over, of 75 one-based columns each."""
    rng = np.random.default_rng(0)
    rows = []
    for _ in range(5000):
        zipf = np.unique((47236 ** rng.random(100)).astype(int))
        columns = np.union1d(zipf, rng.integers(1, 47237, 60))
        columns = np.sort(rng.permutation(columns)[:75])
        values = rng.random(75) * 0.2
        entries = " ".join(f"{c}:{v:.{digits}g}" for c, v in zip(columns, values, strict=True))
        rows.append(f"{rng.choice([-1, 1])} {entries}\n")
    text = "".join(rows)
    with open(path, "w") as file:
        for _ in range(round(megabytes * 1e6 / len(text))):
            file.write(text)


def seconds(read):
    start = time.perf_counter()
    read()
    return time.perf_counter() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--megabytes", type=float, default=60)
    options = parser.parse_args()
    readers = {f"fastopt, {n} thread{'s' * (n > 1)}": n for n in (1, 2)}
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for name in ("a9a.svm", "agaricus.txt.train.svm"):
            if (DATA / f"{name}.gz").exists():
                paths.append(pathlib.Path(folder, name))
                paths[-1].write_bytes(gzip.decompress((DATA / f"{name}.gz").read_bytes()))
            else:
                print(f"{name}.gz is not in {DATA}: left out")
        for name, digits in (("rcv1-shaped", 6), ("rcv1-shaped, 17 digits", 17)):
            paths.append(pathlib.Path(folder, name))
            write_rcv1_shaped(paths[-1], options.megabytes, digits)
        table = []
        for path in paths:
            size = path.stat().st_size / 1e6
            taken = {name: [] for name in [*readers, "scikit-learn"]}
            for _ in range(options.repeats):
                for name, threads in readers.items():
                    taken[name].append(
                        seconds(lambda p=path, n=threads: load_svmlight(p, threads=n))
                    )
                taken["scikit-learn"].append(
                    seconds(lambda p=path: load_svmlight_file(p, dtype=np.float32))
                )
            speed = {name: size / statistics.median(times) for name, times in taken.items()}
            one, two = (speed[name] / speed["scikit-learn"] for name in readers)
            table.append(
                {"file": path.name, "MB": size}
                | {f"{name}, MB/s": value for name, value in speed.items()}
                | {"ratio, 1 thread": one, "ratio, 2 threads": two}
            )
    show(table, "Reading svmlight text")
    record("svmlight", table)


if __name__ == "__main__":
    main()
