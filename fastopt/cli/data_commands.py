"""The commands of `fastopt` that look at data and convert it."""

from __future__ import annotations

import json
import os
import time
from typing import Annotated, Any, Literal

from fastopt.cli import input_options
from fastopt.cli._terminal import typer
from fastopt.cli.commands import (
    UserError,
    app,
    check_out,
    examples,
    one_line_errors,
    plain_console,
    reading,
    shown,
    threads_option,
)
from fastopt.cli.display import facts
from fastopt.data import Dataset, open_data, sparsity
from fastopt.data.writers import format_of, write
from fastopt.threads import resolve

__all__ = ["convert", "stats"]

Data = Annotated[
    list[str],
    typer.Argument(metavar="DATA...", show_default=False,
                   help="Files, patterns in quotes ('part-*.svm') or URLs; together one data set."),
]  # fmt: skip
Json = Annotated[
    bool, typer.Option("--json", help="Print one line of JSON instead, for programs."),
]  # fmt: skip


def opened(paths: list[str], report: Any, options: dict[str, Any]) -> Dataset:
    """Open what the user named."""

    def progress(done: int, total: int | None) -> None:
        if total and report:
            report(f"{done / 1e6:,.0f} MB", done / total)

    return open_data(paths, cache=False, on_progress=progress, **options)


@app.command(
    short_help="Show how large and how sparse data is.",
    epilog=examples(
        "fastopt stats a9a.svm.gz",
        "fastopt stats 'logs-*.vw.zst' --hash-bits 22 --json",
        "fastopt stats ads.csv --label click --hash-bits 18",
    ),
)
def stats(
    data: Data,
    format: input_options.Format = "auto",
    label: input_options.Label = None,
    weight: input_options.Weight = None,
    hash_bits: input_options.HashBits = None,
    categorical: input_options.Categorical = None,
    ignore: input_options.Ignore = None,
    missing: input_options.Missing = "error",
    threads: Annotated[str | None, typer.Option(
        callback=threads_option, metavar="N", show_default="all usable",
        help="Threads for which a mode is suggested.")] = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Show rows, columns and density of data, and how much parallel training on it will collide.

    Ω, Δ and ρ are those of the Hogwild! paper (Niu, Recht, Ré and Wright, 2011). Ω: the most
    values of a row, so the most weights that one step touches. Δ: the part of the rows that have
    the most frequent column. ρ: the largest part of the rows that share a column with one row.
    Small Δ and ρ mean that threads seldom meet: they may write to one shared model. Where a
    column is in nearly all rows, each thread trains a copy of its own, and copies are merged.

    The data is read in passes of bounded memory: any size will do.
    """
    console = plain_console()
    options = input_options.chosen(format, label, weight, hash_bits, categorical, ignore, missing)
    start = time.perf_counter()
    name = ", ".join(data)
    quiet = (lambda *text, **how: None) if as_json else console.print
    with one_line_errors(""), reading(plain_console(stderr=True), name, quiet) as report:
        found = opened(data, report, options)
        numbers = found.stats((threads or [resolve()])[0])
    if as_json:
        head = {"data": data, "format": found.format, "zero_based": bool(found.zero_based)}
        print(json.dumps({**head, **numbers.as_dict()}))
        return
    console.print(facts(*described(name, found, numbers, time.perf_counter() - start)))


def described(name: str, data: Dataset, s: sparsity.Stats, seconds: float) -> list[tuple[str, str]]:
    """Return statistics in words."""
    first = 0 if data.zero_based or data.format not in ("svmlight", "ffm") else 1
    hot = ", ".join(f"{column + first} ({part:.1%})" for column, part in s.hot)
    less = "" if s.rho_exact else "at least "
    lines = [
        ("data", f"{name} ({data.format}; {seconds:.2f} s)"),
        ("rows", f"{s.rows:,}" + (f", {s.empty_rows:,} of them empty" if s.empty_rows else "")),
        ("columns", f"{s.columns:,}, {s.used_columns:,} of them with values"),
        ("values", f"{s.nnz:,}: {s.nnz / max(s.rows, 1):.1f} a row, density {s.density:.3g}"),
        ("Ω", f"{s.omega:,} values in the longest row"),
        ("Δ", f"{s.delta:.4g} of the rows have the most frequent column"),
        ("ρ", f"{less}{s.rho:.4g} of the rows share a column with one row"),
        ("hot", hot or "none"),
    ]
    known = s.labels
    if known.get("counts"):
        text = ", ".join(f"{shown(label)} ({count:,})" for label, count in known["counts"])
        lines.append(("labels", text))
    elif "mean" in known:
        text = f"{known['min']:g} to {known['max']:g}, mean {known['mean']:g}"
        lines.append(("labels", text))
    if known["missing"]:
        lines.append(("", f"{known['missing']:,} rows without label"))
    if s.weights is not None:
        lines.append(("weights", f"sum {s.weights:g}"))
    threads = "1 thread" if s.threads == 1 else f"{s.threads} threads"
    lines.append(("mode", f"{s.mode}, {threads}: {s.reason}"))
    return lines


@app.command(
    short_help="Write data in another format.",
    epilog=examples(
        "fastopt convert a9a.svm.gz a9a.fastopt",
        "fastopt convert 'clicks-*.csv' clicks.fastopt --label click --hash-bits 20",
        "fastopt convert rcv1.vw.zst rcv1.svm.gz",
    ),
)
def convert(
    data: Data,
    out: Annotated[str, typer.Argument(
        metavar="OUT", show_default=False,
        help="What to write: .fastopt (a cache), .svm, .vw or .ffm; text also .gz.")],
    to: Annotated[Literal["svmlight", "vw", "ffm", "cache"] | None, typer.Option(
        show_default="by OUT's name", help="Format of OUT.")] = None,
    format: input_options.Format = "auto",
    label: input_options.Label = None,
    weight: input_options.Weight = None,
    hash_bits: input_options.HashBits = None,
    categorical: input_options.Categorical = None,
    ignore: input_options.Ignore = None,
    missing: input_options.Missing = "error",
    double: Annotated[bool, typer.Option(
        "--double", help="Keep values in float64; else they are rounded to float32.")] = False,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Convert data, a block at a time, so that any size will do.

    A cache (.fastopt) is the parsed matrix, with checksums. It is mapped into memory, never parsed:
    `fastopt train data.fastopt` starts at once, and trains on more rows than the memory holds.

    Strings of tables and of VW become the columns that their hash gives. In svmlight and libffm
    columns count from 1, unless the source counts from 0. In VW's format they are numbers
    without namespace: read it with as many --hash-bits as the columns need.
    """
    console = plain_console(soft_wrap=True)
    with one_line_errors(""):
        target = to or format_of(out)
    check_out(out)
    options = input_options.chosen(format, label, weight, hash_bits, categorical, ignore, missing)
    if double:
        options["dtype"] = "float64"
    start = time.perf_counter()
    quiet = (lambda *text, **how: None) if as_json else console.print
    name = ", ".join(data)
    with one_line_errors(""), reading(plain_console(stderr=True), name, quiet) as report:
        found = opened(data, report, options)
        if any(os.path.realpath(path) == os.path.realpath(out) for path in data):
            raise UserError(f"OUT: {out} is one of the files to read", 2)
        write(found, out, target)
        rows, columns, nnz = found.n_rows, found.n_features, found.nnz
    seconds, size = time.perf_counter() - start, os.path.getsize(out)
    if as_json:
        print(json.dumps({"out": out, "format": target, "rows": rows, "columns": columns,
                          "nnz": nnz, "bytes": size, "seconds": round(seconds, 3)}))  # fmt: skip
        return
    console.print(
        f"{out}: {rows:,} rows × {columns:,} columns, {nnz:,} non-zeros, {size / 1e6:.1f} MB "
        f"({target}; {seconds:.2f} s)"
    )
    if target == "vw" and columns > 1:
        console.print(f"read it with --hash-bits {max(1, (columns - 1).bit_length())} or more")
