"""The command `fastopt table`: all modes on the same data, as in Figure 2 of the paper."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from fastopt.cli import input_options, training
from fastopt.cli._terminal import Table, box, typer
from fastopt.cli.commands import (
    app,
    complain,
    examples,
    load_demo,
    load_files,
    not_negative,
    on_interrupt,
    one_line_errors,
    plain_console,
    step_option,
    threads_option,
)
from fastopt.cli.data_commands import Json
from fastopt.cli.display import LiveTraining, facts
from fastopt.cli.modes_table import MODES, Comparison, compare
from fastopt.threads import resolve

__all__ = ["table"]


def modes_option(text: str | None) -> list[str] | None:
    """Check and read the value of --modes."""
    if text is None:
        return None
    names = list(dict.fromkeys(text.split(",")))
    strange = [name for name in names if name not in MODES]
    if strange:
        raise typer.BadParameter(f"{strange[0]!r} is not one of {', '.join(MODES)}")
    return names


@app.command(
    short_help="Compare all modes on one data set, as the Hogwild! paper does.",
    epilog=examples(
        "fastopt table demo",
        "fastopt table a9a.svm.gz --test a9a.t.svm.gz --loss hinge --epochs 20",
        "fastopt table rcv1.fastopt --modes serial,shared,rr,aig --json",
    ),
)
def table(
    file: Annotated[str, typer.Argument(
        metavar="DATA|demo", show_default=False, help="A data file; demo: the built-in data.")],
    test: Annotated[str | None, typer.Option(
        metavar="FILE", help="Test on this file; else on 10 % of the rows, held out.")] = None,
    loss: Annotated[Literal["hinge", "logistic", "squared"], typer.Option(
        help="hinge: linear SVM; logistic: with probabilities; squared: regression.",
        )] = "hinge",
    l2: Annotated[float, typer.Option(
        callback=not_negative, metavar="NUMBER", help="Weight of ½‖w‖² in the objective.")] = 1e-4,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the rows.")] = 20,
    threads: Annotated[str | None, typer.Option(
        callback=threads_option, metavar="N", show_default="all usable",
        help="Threads of all modes but serial.")] = None,
    modes: Annotated[str | None, typer.Option(
        callback=modes_option, metavar="NAME[,NAME...]", show_default="all",
        help=f"Which: {', '.join(MODES)}.")] = None,
    step: Annotated[str, typer.Option(
        callback=step_option, metavar="auto|NUMBER", help="First step size.")] = "auto",
    schedule: Annotated[Literal["inverse_time", "constant", "epoch_decay"], typer.Option(
        help="How the step size falls; epoch_decay: by 0.9 after each epoch, as in the paper.",
        )] = "inverse_time",
    seed: Annotated[int, typer.Option(min=0, help="Seed of the rows' order.")] = 0,
    format: input_options.Format = "auto",
    label: input_options.Label = None,
    weight: input_options.Weight = None,
    hash_bits: input_options.HashBits = None,
    categorical: input_options.Categorical = None,
    ignore: input_options.Ignore = None,
    missing: input_options.Missing = "error",
    as_json: Json = False,
) -> int:  # fmt: skip
    """Train in every mode on the same rows, and show what Figure 2 of the Hogwild! paper shows.

    Time, training and test error of each mode, how many times as fast as one thread, as
    round-robin and as locking it is; and of the data Ω, Δ and ρ (as `fastopt stats` explains them).

    serial: one thread. shared: the paper's Hogwild!, all threads write one model without locks.
    copies: each thread trains a copy, merged now and then, the default of `fastopt train`. rounds:
    the same with a fixed number of workers, so that any number of threads gives the same bits. rr:
    threads write in turn. aig: a thread locks the weights of its row.

    error is that of the rows that were trained on. lost is the part of shared writes that other
    threads' writes were lost to, by a sample.
    """
    console = plain_console(soft_wrap=True)
    say = (lambda *text, **how: None) if as_json else console.print
    how = input_options.chosen(format, label, weight, hash_bits, categorical, ignore, missing)
    notes = plain_console(stderr=True)
    data = load_demo(notes, say, test, loss) if file == "demo" else load_files(
        notes, say, file, test, loss, how)  # fmt: skip
    count = (threads or [resolve()])[0]
    options = {"loss": loss, "l2": l2, "epochs": epochs, "step": step, "schedule": schedule}
    with on_interrupt() as interrupted, one_line_errors("", options):
        live: dict[str, LiveTraining] = {}

        def callback(mode: str, progress: Any) -> bool:
            if mode not in live:
                live[mode] = LiveTraining(notes, mode, not notes.is_terminal or as_json)
                live[mode].__enter__()
            live[mode].update(progress)
            if interrupted or progress.rows_done == progress.rows_total:
                live[mode].__exit__()
            return bool(interrupted)

        found = compare(data, count, modes or tuple(MODES), callback, seed=seed, **options)
    if as_json:
        print(json.dumps({"data": data.name, "loss": loss, **found.as_dict()}))
    else:
        say(facts(("found", sparsity_of(found)), ("threads", f"{count}, and 1 in mode serial")))
        say("")
        console.print(drawn(data, found))
        for row in found.rows:
            if row.ran != row.mode:
                say(f"{row.mode} was {row.ran} here: {row.reason}")
    if found.rows[-1].status == "diverged":
        return complain(
            f"training diverged in mode {found.rows[-1].mode}: give a smaller --step", 1
        )
    return complain("interrupted: the last row was stopped early", 130) if interrupted else 0


def sparsity_of(found: Comparison) -> str:
    """Return Omega, Delta and rho in a line."""
    s, less = found.stats, "" if found.stats.rho_exact else "at least "
    return f"Ω {s.omega:,}, Δ {s.delta:.4g}, ρ {less}{s.rho:.4g}"


def drawn(data: training.Data, found: Comparison) -> Table:
    """Return the table of all modes."""
    shown = Table(
        box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0),
        header_style="bold",
    )  # fmt: skip
    error = "error" if data.classes is not None else "RMSE"
    names = ["mode", "seconds", error, f"test {error}", "objective"]
    for name in [*names, "× serial", "× rr", "× aig", "lost"]:
        shown.add_column(name, justify="left" if name == "mode" else "right", no_wrap=True)

    def number(value: float | None, form: str) -> str:
        return "–" if value is None else format(value, form)

    for row in found.rows:
        shown.add_row(
            row.mode,
            f"{row.seconds:.{2 if row.seconds >= 1 else 3}f}",
            number(row.train_error, ".4f"),
            number(row.test_error, ".4f"),
            f"{row.objective:.5f}",
            number(row.speedup, ".2f"),
            number(row.against_rr, ".2f"),
            number(row.against_aig, ".2f"),
            number(row.overwritten, ".2%"),
        )
    return shown
