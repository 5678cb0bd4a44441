"""MB/s of reading data by `open_data`, each format on 1 and 2 threads, beside other readers.

    python -m bench.bench_data [--repeats 5] [--megabytes 40]

Every file is read into memory from the page cache, by all readers in turn, `repeats` times; the
best time of each counts, as the machine may be busy. MB are 10^6 bytes of the file, of text if it
is compressed. "first" is a first pass that writes the cache, "later" one that checks and sums up
all values of the cache (MB of the text it stands for).

svmlight and VW: 75 non-zeros a row, Zipf-like columns out of 47,236, 6 digits. "names": 39 words a
row, of which 13 have a number. ffm: 39 fields, hashed indices, ones. CSV and Parquet: 14 numbers;
"mixed": 13 numbers and 26 strings of 8 letters, which fastopt hashes and others keep as strings
(pandas: as categories too). Vowpal Wabbit reads and predicts (--testonly): it does not do one
without the other.
"""

import argparse
import gzip
import os
import pathlib
import tempfile
import time

import numpy as np
from sklearn.datasets import load_svmlight_file

from bench.bench_svmlight import write_rcv1_shaped
from bench.harness import record, show
from fastopt.data import open_data

LETTERS = np.frombuffer(b"abcdefghijklmnopqrstuvwxyz", "S1")


def repeat(path, rows, megabytes, head=""):
    """Write rows of text over and over."""
    text = "".join(rows)
    with open(path, "w") as file:
        file.write(head)
        for _ in range(max(1, round(megabytes * 1e6 / len(text)))):
            file.write(text)


def words(rng, count):
    return rng.choice(LETTERS, (count, 8)).view("S8").ravel().astype(str)


def make(folder, megabytes):
    """Write the files; return name -> (path, options of open_data)."""
    rng = np.random.default_rng(0)
    made = {}

    def add(name, **options):
        made[name] = folder / name.replace(" ", "-"), options
        return made[name][0]

    write_rcv1_shaped(add("rcv1.svm"), megabytes)
    with open(made["rcv1.svm"][0]) as source, open(add("rcv1.vw"), "w") as target:
        for line in source:
            target.write(line.replace(" ", " |f ", 1))
    vocabulary = words(rng, 20_000)
    rows = []
    for _ in range(4000):
        tokens = rng.choice(vocabulary, 39).tolist()
        tokens[:13] = (f"{t}:{v:.4g}" for t, v in zip(tokens, rng.random(13), strict=False))
        spaces = f"|ad {' '.join(tokens[:20])} |user {' '.join(tokens[20:])}"
        rows.append(f"{rng.choice([-1, 1])} {spaces}\n")
    repeat(add("names.vw"), rows, megabytes)
    rows = [
        f"{rng.integers(0, 2)} "
        + " ".join(f"{f}:{i}:1" for f, i in enumerate(rng.integers(0, 10**6, 39))) + "\n"
        for _ in range(4000)
    ]  # fmt: skip
    repeat(add("criteo.ffm"), rows, megabytes)
    names = [f"x{k}" for k in range(14)]
    rows = [",".join(f"{v:.6g}" for v in row) + "\n" for row in rng.normal(size=(5000, 15))]
    repeat(add("numbers.csv", label="y"), rows, megabytes, ",".join(["y", *names]) + "\n")
    rows = [
        ",".join([str(k % 2), *(f"{v:.4g}" for v in rng.random(13)), *rng.choice(vocabulary, 26)])
        + "\n"
        for k in range(4000)
    ]  # fmt: skip
    columns = ["y", *(f"n{k}" for k in range(13)), *(f"s{k}" for k in range(26))]
    mixed = {"label": "y", "hash_bits": 20}
    repeat(add("mixed.csv", **mixed), rows, megabytes, ",".join(columns) + "\n")
    return made


def readers(name, path, options, taken):
    """Return reader -> call for one file; `taken` are files to be removed before each call."""
    calls = {}
    for threads in (1, 2):
        calls[f"fastopt {threads}"] = lambda n=threads: open_data(
            path, cache=False, threads=n, **options
        ).to_csr()
    suffix = path.suffix
    if suffix == ".svm":
        calls["scikit-learn"] = lambda: load_svmlight_file(path, dtype=np.float32)
    try:
        if suffix == ".csv":
            import pandas
            import pyarrow
            from pyarrow import csv

            calls["pandas"] = lambda: pandas.read_csv(path)
            calls["pyarrow 2"] = lambda: csv.read_csv(path)
            calls["pyarrow 1"] = lambda: csv.read_csv(
                path, read_options=csv.ReadOptions(use_threads=False)
            )
            if name.startswith("mixed"):
                kinds = csv.ConvertOptions(auto_dict_encode=True, auto_dict_max_cardinality=10**6)
                calls["pyarrow 2, categories"] = lambda: csv.read_csv(path, convert_options=kinds)
            assert pyarrow.__version__
    except ImportError:
        pass
    if suffix == ".vw":
        try:
            import vowpalwabbit

            calls["Vowpal Wabbit"] = lambda: vowpalwabbit.Workspace(
                f"--quiet -t -d {path}", arg_list=None
            ).finish()
        except ImportError:
            pass
    cache = path.with_suffix(".fastopt")
    taken["first"] = cache

    def later():
        data = open_data(path, cache=cache, threads=1, **options)
        return sum(float(X.data.sum()) for X, _, _ in data)

    calls["first"] = lambda: open_data(path, cache=cache, **options).n_rows
    calls["later"] = later
    return calls


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--megabytes", type=float, default=40)
    options = parser.parse_args()
    table = []
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        files = make(folder, options.megabytes)
        packed = folder / "rcv1.svm.gz"
        packed.write_bytes(gzip.compress(files["rcv1.svm"][0].read_bytes(), 6))
        files["rcv1.svm.gz"] = packed, {}
        sizes = {name: path.stat().st_size / 1e6 for name, (path, _) in files.items()}
        sizes["rcv1.svm.gz"] = sizes["rcv1.svm"]
        try:
            import zstandard

            packed = folder / "rcv1.svm.zst"
            packed.write_bytes(zstandard.compress(files["rcv1.svm"][0].read_bytes(), 3))
            files["rcv1.svm.zst"], sizes["rcv1.svm.zst"] = (packed, {}), sizes["rcv1.svm"]
        except ImportError:
            pass
        try:
            import pandas
            from pyarrow import parquet

            for name in ("numbers", "mixed"):
                path, how = files[f"{name}.csv"]
                target = path.with_suffix(".parquet")
                pandas.read_csv(path).to_parquet(target)
                files[f"{name}.parquet"] = target, how
                sizes[f"{name}.parquet"] = sizes[f"{name}.csv"]
        except ImportError:
            parquet = None
        for name, (path, how) in files.items():
            removed = {}
            calls = readers(name, path, how, removed)
            if path.suffix == ".parquet":
                calls["pyarrow 2"] = lambda p=path: parquet.read_table(p)
            best = dict.fromkeys(calls, float("inf"))
            for _ in range(options.repeats):
                for reader, call in calls.items():
                    if reader in removed and os.path.exists(removed[reader]):
                        os.remove(removed[reader])
                    start = time.perf_counter()
                    call()
                    best[reader] = min(best[reader], time.perf_counter() - start)
            for reader, seconds in best.items():
                table.append({"file": name, "MB": round(sizes[name], 1), "reader": reader,
                              "MB/s": sizes[name] / seconds})  # fmt: skip
    show(table, "Reading data, MB of text a second")
    record("data", table)


if __name__ == "__main__":
    main()
