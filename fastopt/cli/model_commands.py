"""The commands of `fastopt` that go on with a training, and that hand a model to others."""

from __future__ import annotations

import json
import os
from typing import Annotated, Literal

from fastopt.cli._terminal import typer
from fastopt.cli.commands import (
    UserError,
    app,
    check_out,
    examples,
    not_negative,
    one_line_errors,
    plain_console,
    threads_option,
    train_as,
)
from fastopt.sparse import exports, models
from fastopt.sparse.checkpoint import about

__all__ = ["export", "resume"]


@app.command(
    short_help="Go on with a training that was killed or interrupted.",
    epilog=examples(
        "fastopt train big.svm --out big.npz --checkpoint big.ck --every 30",
        "fastopt resume big.ck",
    ),
)
def resume(
    file: Annotated[str, typer.Argument(
        metavar="FILE", show_default=False, help="What `fastopt train --checkpoint` wrote.")],
    threads: Annotated[str | None, typer.Option(
        callback=threads_option, metavar="N", show_default="as before",
        help="Another number of threads; not where one thread trained before.")] = None,
    every: Annotated[float | None, typer.Option(
        callback=not_negative, metavar="SECONDS", show_default="as before",
        help="How often to write the file.")] = None,
    quiet: Annotated[bool, typer.Option(
        "--quiet", "-q", help="Print the table only.")] = False,
    as_json: Annotated[bool, typer.Option(
        "--json", help="Print one line of JSON instead, with each epoch's objective.")] = False,
) -> int:  # fmt: skip
    """Go on with a training, from where its file was last written to, in the middle of an epoch.

    The file says what was asked for: data, options, and where the model is to go. The data must
    be the same; what differs is named. A training that is complete shows its table again, and
    writes its model again. Nothing deletes the file.
    """
    with one_line_errors(f"{file}: "):
        asked = about(file).get("command")
    if not isinstance(asked, dict):
        raise UserError(f"{file}: was not written by `fastopt train`: go on with it in Python")
    asked |= {"checkpoint": file, "quiet": quiet, "as_json": as_json}
    if threads is not None:
        if len(threads) > 1:
            raise UserError("--threads: one number goes on", 2)
        asked["threads"] = threads
    if every is not None:
        asked["every"] = every
    try:
        return train_as(**asked)
    except TypeError as error:
        if "train_as" not in str(error):
            raise
        raise UserError(f"{file}: was written by another version of fastopt ({error})") from None


@app.command(
    short_help="Write a model for other programs.",
    epilog=examples(
        "fastopt export a9a.npz a9a.model --to liblinear",
        "fastopt export a9a.npz weights.csv",
        "fastopt export a9a.npz a9a.joblib",
    ),
)
def export(
    model: Annotated[str, typer.Argument(
        metavar="MODEL", show_default=False, help="What `fastopt train --out` wrote.")],
    out: Annotated[str, typer.Argument(
        metavar="OUT", show_default=False,
        help="What to write: .csv, .json, .joblib, or .model for LIBLINEAR.")],
    to: Annotated[Literal["csv", "json", "sklearn", "liblinear"] | None, typer.Option(
        show_default="by OUT's name", help="Format of OUT.")] = None,
    as_json: Annotated[bool, typer.Option(
        "--json", help="Print one line of JSON instead, for programs.")] = False,
) -> None:  # fmt: skip
    """Write a model in a form that other programs read.

    csv: a line for each column with a weight that is not 0: its number, its name if the data was
    a table, and its weight for each output; the first line has the intercepts. json: all weights,
    intercepts, labels and settings. sklearn: a pickle that joblib loads, of scikit-learn's own
    estimator, which then predicts without fastopt. liblinear: the text that
    LIBLINEAR's `predict` and `load_model` take; labels must be whole numbers, and features count
    from 1.

    MODEL itself is an npz file, which NumPy reads: arrays W, b, and classes.
    """
    with one_line_errors(""):
        target = to or exports.format_of(out)
    check_out(out, "OUT")
    with one_line_errors(""):
        trained = models.load(model)
    with one_line_errors(f"{model}: "):
        shifted = exports.write(out, trained, target)
    size = os.path.getsize(out)
    if as_json:
        print(json.dumps({"out": out, "format": target, "bytes": size, "shifted": shifted}))
        return
    console = plain_console(soft_wrap=True)
    console.print(f"{out}: {target}, {size / 1e6:.3g} MB")
    if shifted:
        console.print("its feature k + 1 is column k: the data counted from 0, LIBLINEAR from 1")
