"""Opening data sets: files of any size, URLs and arrays; and the names that go with them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

from fastopt.checks import count
from fastopt.data.builder import check_dtype
from fastopt.data.cache import Cache, default_path
from fastopt.data.csr import CSR, DataError
from fastopt.data.dataset import Dataset
from fastopt.data.reading import make_reading
from fastopt.data.sources import expand, is_url
from fastopt.data.stores import Arrays, Files
from fastopt.data.svmlight import iter_svmlight, load_svmlight

__all__ = ["CSR", "DataError", "Dataset", "iter_svmlight", "load_svmlight", "open_data"]


def open_data(
    source: Any,
    y: Any = None,
    *,
    format: str = "auto",
    n_features: int | None = None,
    hash_bits: int | None = None,
    zero_based: bool | str = "auto",
    dtype: Any = "float32",
    block_rows: int | str = "auto",
    cache: bool | str | os.PathLike = True,
    label: str | int | None = None,
    weight: str | int | None = None,
    categorical: Sequence[str | int] = (),
    ignore: Sequence[str | int] = (),
    header: bool | str = "auto",
    delimiter: str | None = None,
    missing: str = "error",
    sample_weight: Any = None,
    threads: int | None = None,
    on_progress: Callable[[int, int | None], Any] | None = None,
) -> Dataset:
    r"""Open files, URLs or arrays as a data set of rows for sparse linear models.

    Text may be compressed by gzip or zstd, which is known by its first bytes. The first pass over
    the data parses it into a binary cache; later ones, also of later runs, map that into memory.

    Parameters
    ----------
    source : str, path, list of them, or arrays
        A file, a glob pattern ("part-*.svm"), a URL that fsspec opens ("s3://...") or several of
        them, read one after the other; or a matrix in CSR or CSC form or a dense array.
    y : array of shape (n_rows,), default None
        The labels that go with arrays.
    format : str, default "auto"
        "svmlight" (or "libsvm"), "vw", "ffm" (or "libffm"), "csv", "parquet" or "cache". "auto"
        decides by the first bytes of the first file, else its name, else its first line.
    n_features : int, default None
        Number of columns, for svmlight and ffm; None finds it out by a pass over the data. Give it
        to test data what the training data has.
    hash_bits : int, default None
        Strings are hashed to 2^hash_bits columns: 18 for vw as there; in tables None refuses
        strings.
    zero_based : True, False or "auto", default "auto"
        For svmlight and ffm, whether the first column is called 0 or 1; "auto" is 0 if an index 0
        occurs anywhere. Give it to test data what the training data has.
    dtype : "float32" or "float64", default "float32"
        Type of the values; caches keep theirs.
    block_rows : int or "auto", default "auto"
        Most rows of a block; "auto" is some 2^20 values.
    cache : bool or path, default True
        Where the cache is: True is beside the file (its name with ".fastopt"), or in the folder
        FASTOPT_CACHE or ~/.cache/fastopt for several files, URLs and folders that cannot be written
        to. It is used as long as names, sizes and times of the files and how they are read stay
        the same. False: none, every pass parses the text again.
    label, weight : str or int, default None
        In tables, the columns of the labels and of the rows' weights, by name or by number from 0.
        Without `label`, labels are NaN.
    categorical : list of str or int, default ()
        In tables, columns of numbers to be taken as names.
    ignore : list of str or int, default ()
        In tables, columns to leave out.
    header : True, False or "auto", default "auto"
        Whether CSV files begin with names. "auto": if columns are given by name; else if the first
        label is not a number; without `label`, if any of the first fields is not.
    delimiter : ",", ";", "\t" or "|", default None
        Between the fields of CSV; None is "\t" in files called .tsv, else ",".
    missing : "error" or "zero", default "error"
        What an empty field is in a column of numbers.
    sample_weight : array of shape (n_rows,), default None
        The weights that go with arrays.
    threads : int, default None
        Threads that parse; None is the default of the package.
    on_progress : callable, default None
        Called as on_progress(bytes_done, bytes_in_all or None) during the first pass.

    Returns
    -------
    Dataset

    Raises
    ------
    DataError
        If a table's header is malformed. Malformed lines raise it when they are read: with file,
        line and byte.
    ValueError, TypeError
        For wrong arguments, and arguments that mean nothing in the format.
    FileNotFoundError
        If nothing is there.
    ImportError
        If the format, the compression or the URL needs a package that is not installed; the
        message says which: ``pip install 'fastopt[data]'``.

    Notes
    -----
    svmlight : ``label [qid:n] index:value ... [# comment]``, indices increasing; qids are skipped.
    vw : ``[label [importance]] ['tag]|namespace[:weight] name[:value] ... |...``. A column is
    ``hash(name, hash(namespace))`` in its lowest `hash_bits` bits, with VW's MurmurHash3, where a
    name of digits is a number added to its namespace's hash; without namespace that hash is 0. A
    word as value is hashed behind the name. Values of one column in a row are added up, zeros left
    out.
    ffm : ``label field:index:value ...``; X.fields has the fields, and X a column as often as the
    row has.
    csv (RFC 4180) and parquet: columns that are numbers come first, in their order, zeros left out;
    column ``MurmurHash3("name=value") mod 2^hash_bits`` behind them is 1 for each string that is
    not empty.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> import fastopt
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "ads.csv")
    ...     _ = path.write_text("click,price,site\n1,0.5,a.org\n0,2,b.org\n")
    ...     data = fastopt.open_data(path, label="click", hash_bits=10)
    ...     for X, y, weights in data.blocks(seed=0):
    ...         print(X.shape, X.data, y, weights)
    (2, 1025) [0.5 1.  2.  1. ] [1. 0.] None
    """
    block = None if block_rows == "auto" else count("block_rows", block_rows, 1)
    options = {
        "format": format, "n_features": n_features, "hash_bits": hash_bits, "label": label,
        "zero_based": zero_based, "dtype": dtype, "weight": weight, "categorical": categorical,
        "ignore": ignore, "header": header, "delimiter": delimiter, "missing": missing,
    }  # fmt: skip
    if is_array(source):
        return Dataset(from_arrays(source, y, sample_weight, threads, **options), block_rows=block,
                       cache=None)  # fmt: skip
    if y is not None or sample_weight is not None:
        raise ValueError("y and sample_weight go with arrays; files have their own")
    paths = expand(source)
    reading = make_reading(paths, **options)
    if reading.format == "cache":
        if len(paths) > 1 or is_url(paths[0]):
            raise ValueError("source: a cache must be one file on this machine")
        store = Cache(paths[0], threads)
        if n_features is not None:
            if n_features < store.n_features:
                raise ValueError(f"n_features must be at least {store.n_features}, as the cache's")
            store.n_features = n_features
        return Dataset(store, block_rows=block, cache=None)
    files = Files(paths, reading, threads, on_progress)
    where = None
    if cache is True and files.lasting:
        where = default_path(paths, not is_url(paths[0]))
    elif cache is not True and cache is not False:
        where = os.fspath(cache)
    return Dataset(files, block_rows=block, cache=where)


def is_array(source: Any) -> bool:
    """Whether a source is data, not names of files."""
    if isinstance(source, (str, os.PathLike, bytes)):
        return False
    return hasattr(source, "shape") or not all(
        isinstance(part, (str, os.PathLike, bytes)) for part in source
    )


def from_arrays(
    X: Any, y: Any, sample_weight: Any, threads: int | None, *, n_features: int | None, dtype: Any,
    zero_based: Any, **options: Any,
) -> Arrays:  # fmt: skip
    """Return arrays as a store, without arguments that are for files."""
    usual = {"format": "auto", "header": "auto", "missing": "error"}
    for name, value in options.items():
        if value != usual.get(name) and value is not None and value != ():
            raise ValueError(f"{name} is for files, not for arrays")
    dtype = check_dtype("dtype", dtype, ("float32", "float64"))
    return Arrays(X, y, sample_weight, dtype, n_features, threads)
