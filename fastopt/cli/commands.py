"""The commands of `fastopt`: arguments in, text and exit code out."""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Literal

import numpy as np

import fastopt
from fastopt.cli import display, input_options, quickbench, training
from fastopt.cli._terminal import Console, Text, typer
from fastopt.data import CSR, demo
from fastopt.files import replacing
from fastopt.sparse import models
from fastopt.sparse.checkpoint import Checkpoint
from fastopt.threads import resolve

__all__ = ["app", "run"]

app = typer.Typer(
    name="fastopt", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
    rich_markup_mode="markdown", context_settings={"help_option_names": ["-h", "--help"]},
    help="Train sparse linear models on all cores, lock-free.",
    epilog="Start with: **fastopt train demo**",
)  # fmt: skip


def show_version(asked: bool) -> None:
    """Print the version and end, if asked to."""
    if asked:
        print(f"fastopt {fastopt.__version__}")
        raise typer.Exit


@app.callback()
def everywhere(
    version: Annotated[bool, typer.Option(
        "--version", is_eager=True, callback=show_version, help="Print the version and exit.",
    )] = False,
) -> None:  # fmt: skip
    """Train sparse linear models on all cores, lock-free."""


class UserError(Exception):
    """A mistake that one line explains."""

    def __init__(self, message: str, code: int = 1):
        super().__init__(message)
        self.code = code


def run(argv: list[str]) -> int:
    """Run the command line `argv` and return its exit code; every user's mistake is one line."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # "×" must not end a run where ASCII is all
    try:
        command = typer.main.get_command(app)
        code = command.main(args=argv or ["--help"], prog_name="fastopt", standalone_mode=False)
        if code == 130:  # typer has taken the Ctrl-C
            return complain("interrupted", 130)
        return code if isinstance(code, int) else 0
    except UserError as error:
        return complain(str(error), error.code)
    except (KeyboardInterrupt, typer.Abort):
        return complain("interrupted", 130)
    except MemoryError as error:
        return complain(str(error) or "out of memory", 1)
    except OSError as error:  # of the standard output: others are explained where they occur
        return complain(f"cannot write: {error.strerror or error}", 1)
    except Exception as error:
        # typer keeps the classes of its own errors, whose names have moved, to itself
        if not hasattr(error, "format_message"):
            raise
        return complain(error.format_message(), getattr(error, "exit_code", 2))


def complain(message: str, code: int) -> int:
    """Print one line on stderr and return `code`."""
    print("fastopt: " + " ".join(message.replace("Value error, ", "").split()), file=sys.stderr)
    return code


# --- options ---------------------------------------------------------------------------------


def threads_option(text: str | None) -> list[int] | None:
    """Check and read the value of --threads."""
    if text is None:
        return None
    try:
        numbers = [int(part) for part in text.split(",")]
        if min(numbers) < 1:
            raise ValueError
        return [resolve(number) for number in dict.fromkeys(numbers)]
    except ValueError as error:
        reason = f" ({error})" if "threads" in str(error) else ""
        raise typer.BadParameter(
            f"{text!r} is not a number of threads of at least 1, or several such as 1,2{reason}"
        ) from None


def step_option(text: str) -> str | float:
    """Check and read the value of --step."""
    try:
        return "auto" if text == "auto" else positive(float(text))
    except (ValueError, typer.BadParameter):
        raise typer.BadParameter(f"{text!r} is neither 'auto' nor a number above 0") from None


def positive(value: float) -> float:
    """Check a number that must be finite and above 0."""
    if not (math.isfinite(value) and value > 0):
        raise typer.BadParameter(f"{value} is not a finite number above 0")
    return value


def not_negative(value: float | None) -> float | None:
    """Check a number that must be finite and at least 0."""
    if value is not None and not (math.isfinite(value) and value >= 0):
        raise typer.BadParameter(f"{value} is not a finite number of at least 0")
    return value


def check_out(path: str | None, option: str = "--out") -> None:
    """Refuse, before any work is done, a file to write that cannot be one."""
    if path is not None and os.path.isdir(path):
        raise UserError(f"{option}: {path} is a folder, not a file", 2)
    if path is not None and not os.path.isdir(os.path.dirname(path) or "."):
        raise UserError(f"{option}: no such folder: {os.path.dirname(path)}", 2)
    if path is not None:
        target = os.path.realpath(path)
        plain = not os.path.exists(target) or os.path.isfile(target)
        if not os.access(os.path.dirname(target) if plain else target, os.W_OK):
            raise UserError(f"{option}: cannot be written here: {path}", 2)


File = Annotated[
    str,
    typer.Argument(
        metavar="FILE|demo", show_default=False,
        help="A file (svmlight/libsvm, VW, libffm, CSV, Parquet, a cache; plain, .gz or .zst), or "
        "**demo**: lines of Python source code on this machine, and the package each comes from.",
    ),
]  # fmt: skip


def plain_console(**options: Any) -> Console:
    """Return a console that prints text as it is: file names may hold brackets and colons."""
    return Console(highlight=False, markup=False, emoji=False, **options)


def examples(*lines: str) -> str:
    """Return the text below a command's options."""
    return "\n\n".join(["**Examples**", *lines])


Loss = Literal["hinge", "logistic", "squared", "multinomial", "crammer_singer", "weston_watkins"]


# --- commands --------------------------------------------------------------------------------


@app.command(
    short_help="Train on a file or on the demo data.",
    epilog=examples(
        "fastopt train demo",
        "fastopt train a9a.svm.gz --test a9a.t.svm.gz --l2 1e-5 --out a9a.npz",
        "fastopt train data.svm --loss hinge --threads 1,2 --epochs 5",
        "fastopt train ads.csv --label click --hash-bits 20 --ignore id",
    ),
)
def train(
    file: File,
    test: Annotated[str | None, typer.Option(
        metavar="FILE", help="Test on this file; else on 10 % of the rows, held out.")] = None,
    loss: Annotated[Loss, typer.Option(
        help="hinge: linear SVM; logistic: with probabilities; squared: regression; one model of "
             "all classes: multinomial: with probabilities, crammer_singer, weston_watkins: SVMs.",
        )] = "logistic",
    l2: Annotated[float | None, typer.Option(
        callback=not_negative, metavar="NUMBER", show_default="1e-4; demo: 1e-6",
        help="Weight of ½‖w‖² in the objective.")] = None,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the rows.")] = 20,
    threads: Annotated[str | None, typer.Option(
        callback=threads_option, metavar="N[,N...]", show_default="all usable; demo: 1, then all",
        help="Threads; several numbers train several times, to compare.")] = None,
    step: Annotated[str, typer.Option(
        callback=step_option, metavar="auto|NUMBER", help="First step size.")] = "auto",
    schedule: Annotated[Literal["inverse_time", "constant", "epoch_decay"], typer.Option(
        help="How the step size falls; epoch_decay: by 0.9 after each epoch.")] = "inverse_time",
    seed: Annotated[int, typer.Option(min=0, help="Seed of the rows' order.")] = 0,
    out: Annotated[str | None, typer.Option(
        metavar="MODEL", help="Save the (last) model to this .npz file.")] = None,
    checkpoint: Annotated[str | None, typer.Option(
        metavar="FILE", help="Keep the whole training in this file: `fastopt resume FILE` goes on "
        "after a power cut or Ctrl-C.")] = None,
    every: Annotated[float, typer.Option(
        callback=not_negative, metavar="SECONDS", help="How often to write it.")] = 60.0,
    format: input_options.Format = "auto",
    label: input_options.Label = None,
    weight: input_options.Weight = None,
    hash_bits: input_options.HashBits = None,
    categorical: input_options.Categorical = None,
    ignore: input_options.Ignore = None,
    missing: input_options.Missing = "error",
    quiet: Annotated[bool, typer.Option(
        "--quiet", "-q", help="Print the table only.")] = False,
    as_json: Annotated[bool, typer.Option(
        "--json", help="Print one line of JSON instead, with each epoch's objective.")] = False,
) -> int:  # fmt: skip
    """Train a linear classifier or regressor and show how fast and how good it is.

    Two labels make a binary classifier, more (whole numbers) one classifier per label against the
    rest, or with --loss multinomial, crammer_singer or weston_watkins one model of all labels.
    The intercept is not regularised. Ctrl-C stops early: the table is still shown, --out still
    written, and the exit code is 130. With --checkpoint it may be resumed later, in the middle of
    an epoch; on one thread it then ends with the same model.
    """
    asked = {**locals()}
    if checkpoint is not None:
        if os.path.exists(checkpoint):
            raise UserError(
                f"--checkpoint: {checkpoint} is there already: `fastopt resume {checkpoint}` goes "
                "on with it; or delete it", 2,
            )  # fmt: skip
        check_out(checkpoint, "--checkpoint")
        for name in ("file", "test", "out", "checkpoint"):  # resume may be called elsewhere
            if asked[name] not in (None, "demo"):
                asked[name] = os.path.abspath(asked[name])
        asked["threads"] = asked["threads"] or [resolve()]
        if len(asked["threads"]) > 1:
            raise UserError("--checkpoint: goes with one number of --threads", 2)
    return train_as(**asked)


def train_as(
    *, file: str, test: str | None, loss: str, l2: float | None, epochs: int,
    threads: list[int] | None, step: str | float, schedule: str, seed: int, out: str | None,
    checkpoint: str | None, every: float, format: str, label: str | None, weight: str | None,
    hash_bits: int | None, categorical: list[str] | None, ignore: list[str] | None, missing: str,
    quiet: bool, as_json: bool,
) -> int:  # fmt: skip
    """Do what `train` was asked to, anew or from a checkpoint."""
    asked, quiet = {**locals()}, quiet or as_json
    console = plain_console()
    say = (lambda *text, **how: None) if quiet else console.print
    check_out(out)
    counts = threads or ([1, resolve()] if file == "demo" else [resolve()])
    counts = list(dict.fromkeys(counts))
    options = {
        "loss": loss,
        "l2": l2 if l2 is not None else 1e-6 if file == "demo" else 1e-4,
        "epochs": epochs,
        "step": step,
        "schedule": schedule,
        "seed": seed,
    }
    how = input_options.chosen(format, label, weight, hash_bits, categorical, ignore, missing)
    data = load_demo(console, say, test, loss) if file == "demo" else load_files(
        console, say, file, test, loss, how)  # fmt: skip
    if file == "demo" and threads is None and len(counts) == 1:
        say("One row only: this process may use one CPU.")

    runs: list[training.Run] = []
    with on_interrupt() as interrupted:
        for number in counts:
            label = "1 thread" if number == 1 else f"{number} threads"
            about = {"command": {**asked, "threads": [number]}}
            file_of_it = Checkpoint(checkpoint, every, about) if checkpoint else None
            with display.LiveTraining(console, label, quiet) as live, one_line_errors("", options):

                def callback(progress: Any, live: display.LiveTraining = live) -> bool:
                    live.update(progress)
                    return bool(interrupted)

                found = training.fit(
                    data, number, callback, version=fastopt.__version__, track=live.live or as_json,
                    checkpoint=file_of_it, **options,
                )  # fmt: skip
            runs.append(found)
            if interrupted or found.status == "diverged":
                break
        say(display.facts(("mode", f"{found.mode}: {found.reason}")))
        if found.resumed:
            say(f"\n{found.resumed:,} rows had been trained on before")
        say("")
        if not as_json:
            console.print(display.table(runs))
        if found.status == "diverged":
            saved = "; nothing saved" if out is not None else ""
            return complain(f"training diverged: {found.message}{saved}", 1)
        if out is not None:
            with one_line_errors("--out: "):
                models.save(out, found.model)
            say(f"\nModel of the {'last' if len(runs) > 1 else 'only'} row saved to {out}")
    if as_json:
        print(json.dumps({"data": file, "out": out, "runs": [run.as_dict() for run in runs]}))
    if found.status == "stopped" and checkpoint is not None:
        raise UserError(f"interrupted: `fastopt resume {checkpoint}` goes on from there", 130)
    if found.status == "stopped":
        raise UserError("interrupted: the last row is a training that was stopped early", 130)
    if interrupted:
        raise UserError("interrupted", 130)
    return 0


@app.command(
    short_help="Predict the labels of a file's rows.",
    epilog=examples(
        "fastopt predict a9a.npz a9a.t.svm.gz --out labels.txt",
        "fastopt predict a9a.npz a9a.t.svm.gz --proba | head",
    ),
)
def predict(
    model: Annotated[str, typer.Argument(
        metavar="MODEL", show_default=False, help="What `fastopt train --out` wrote.")],
    file: Annotated[str, typer.Argument(
        metavar="FILE|demo", show_default=False,
        help="A data file, read as the training data was; demo: the demo's held-out lines.")],
    out: Annotated[str | None, typer.Option(
        metavar="FILE", help="Write there; without it, to the standard output.")] = None,
    proba: Annotated[bool, typer.Option(
        "--proba", help="After each label, every class's probability (logistic, multinomial).",
        )] = False,
) -> int:  # fmt: skip
    """Predict one label (or number) per line, in the order of the file's rows.

    How many of the predictions agree with the file's own labels goes to stderr. Columns that were
    not there in training count nothing; how many there are is said on stderr too.
    """
    check_out(out)
    notes = plain_console(stderr=True, soft_wrap=True)
    with one_line_errors(""):
        trained = models.load(model)
    if proba and (trained.classes is None or trained.settings["loss"] not in models.PROBABLE):
        raise UserError(
            f"--proba: needs a model trained with --loss logistic or multinomial, {model} was "
            f"trained with {trained.settings['loss']}", 2,
        )  # fmt: skip
    if file == "demo":
        with one_line_errors("demo: "):
            data = training.demo_data(demo.load())
        X, y = data.X_test, data.y_test
    else:
        with one_line_errors(f"{file}: "):
            like = trained.settings.get("reading")
            X, y, _, _, said = training.read(file, like=like or None, labelled=False)
        notes.print(f"{file}: {said}")
    note_strange_columns(notes.print, trained.n_features, X, file)
    decision = trained.decision(X)
    labels = trained.label(decision)
    lines = [shown(label) for label in labels.tolist()]
    if proba:
        notes.print("Probabilities of: " + " ".join(map(shown, trained.classes.tolist())))
        rows = trained.probability(decision).tolist()
        lines = [
            " ".join([line, *(f"{p:.6g}" for p in row)])
            for line, row in zip(lines, rows, strict=True)
        ]
    if out is None:
        # in pieces: one unbuffered write would not notice that the reader left in the middle of it
        try:
            for start in range(0, len(lines), 4096):
                sys.stdout.write("".join(f"{line}\n" for line in lines[start : start + 4096]))
            sys.stdout.flush()
        except BrokenPipeError:  # `| head` has all it wants
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    else:
        with one_line_errors("--out: "), replacing(out) as target:
            target.writelines(f"{line}\n".encode() for line in lines)
    there = y == y  # not NaN, which is no label
    y, labels = y[there], labels[there]
    if trained.classes is not None and (trained.classes.dtype.kind == "U") != (y.dtype.kind == "U"):
        notes.print(
            "No accuracy: of the model's and the file's labels, one are names, one numbers."
        )
    elif len(y):
        found = training.metrics_of(trained, labels, y)
        notes.print(", ".join(f"{name} {value:.4f}" for name, value in found.items()))
        note_strange_labels(notes.print, trained.classes, y, file)
    return 0


@app.command(short_help="Show what runs here, and why.")
def info() -> None:
    """Show the version, instruction set, threads and why, OpenMP runtime, compiler and flags."""
    fastopt.show_config()


@app.command(
    short_help="Measure this machine in under a minute.",
    epilog=examples("fastopt bench", "fastopt bench --threads 1,2,4"),
)
def bench(
    threads: Annotated[str | None, typer.Option(
        callback=threads_option, metavar="N[,N...]", show_default="1, then all usable",
        help="Threads to measure with.")] = None,
) -> None:  # fmt: skip
    """Measure this machine in under a minute: dense rules and sparse training.

    Dense: the time of one step on big parameters, against the time that reading and writing the
    same bytes takes. Sparse: nanoseconds per non-zero on the demo data.
    """
    console = plain_console(soft_wrap=True)
    counts = list(dict.fromkeys(threads or [1, resolve()]))
    console.print(quickbench.dense_table(counts))
    console.print("")
    with one_line_errors("demo: "):
        console.print(quickbench.sparse_table(counts))


# --- parts -----------------------------------------------------------------------------------


def load_demo(console: Console, say: Any, test: str | None, loss: str) -> training.Data:
    """Return the demo data, and say what it is."""
    if test is not None:
        raise UserError(
            "--test: the demo brings its own test rows; leave it out, or name a FILE", 2
        )
    if loss == "squared":
        raise UserError("--loss: the demo's labels are packages; use hinge or logistic", 2)
    start = time.perf_counter()
    with one_line_errors("demo: "), reading(console, "demo data", say) as report:
        found = demo.load(on_progress=report)
    seconds = time.perf_counter() - start
    where = "read from the cache" if found.cached else "built, and cached for the next time"
    say(display.facts(
        ("data", f"{found.description} ({found.note or where}: {seconds:.2f} s)"),
        ("train", training.shape(found.X_train)),
        ("test", training.shape(found.X_test)),
        ("labels", f"{len(found.classes)} packages: {', '.join(found.classes)}"),
    ))  # fmt: skip
    return training.demo_data(found)


def load_files(
    console: Console, say: Any, file: str, test: str | None, loss: str, options: dict[str, Any]
) -> training.Data:
    """Return the rows of the user's files, and say what they are."""
    with one_line_errors(f"{file}: "), reading(console, file, say) as report:
        X, y, weights, how, said = training.read(file, report, **options)
    named = [("data", f"{file}: {said}")]
    other = None
    if test is not None:
        with one_line_errors(f"--test: {test}: "), reading(console, test, say) as report:
            *other, _, _, said = training.read(test, report, like=how)
        named.append(("test", f"{test}: {said}"))
    with one_line_errors(""):
        data = training.file_data(file, X, y, other, loss, weights, how)
    if test is None and data.X_test is None:
        named.append(("test", f"none: fewer than {training.FEWEST_ROWS} rows, none held out"))
    elif test is None:
        held = f"{data.X_test.shape[0]:,} rows of them (10 %, always the same), held out"
        named.append(("test", held))
    if data.classes is not None:
        counts = np.bincount(np.searchsorted(data.classes, data.y))
        named_classes = zip(data.classes.tolist()[:10], counts, strict=False)
        text = ", ".join(f"{shown(label)} ({n:,})" for label, n in named_classes)
        more = "" if len(counts) <= 10 else f", ... ({len(counts)} in all)"
        named.append(("labels", text + more))
    elif len(data.y):
        named.append(("target", f"{data.y.min():g} to {data.y.max():g}, mean {data.y.mean():g}"))
    say(display.facts(*named))
    if data.y_test is not None:
        note_strange_columns(say, data.X.shape[1], data.X_test, test or file)
        note_strange_labels(say, data.classes, data.y_test, test or file)
    return data


def shown(label: float | str) -> str:
    """Return a label or number as a file has it: whole ones without a point."""
    return str(label).removesuffix(".0")


def note_strange_columns(say: Any, n_features: int, X: CSR, file: str) -> None:
    """Say how many columns the model has no weights for."""
    columns, values = models.beyond(X, n_features)
    if columns:
        say(f"{columns:,} columns ({values:,} values) of {file} were not in training: ignored")


def note_strange_labels(say: Any, classes: np.ndarray | None, y: np.ndarray, file: str) -> None:
    """Say how many rows have a label that no training row had."""
    if classes is not None:
        strangers = int(np.sum(~np.isin(y, classes)))
        if strangers:
            say(
                f"{strangers:,} test rows of {file} have labels that were not in training: "
                "they count as wrong"
            )


@contextlib.contextmanager
def one_line_errors(prefix: str, options: Iterable[str] = ()) -> Iterator[None]:
    """Turn the errors that files and values of `options` may cause into one line for the user."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        if prefix:
            raise UserError(prefix + reason) from None
        raise UserError(f"{error.filename}: {reason}" if error.filename else reason) from None
    except (ValueError, EOFError, ImportError) as error:
        text = input_options.spelled(str(error))
        # a reader's message begins with the file's name already
        named = prefix.removesuffix(": ").split(": ")[-1]
        if named and text.startswith(named):
            prefix = prefix[: -len(named) - 2]
        if text.split()[0] in options:
            raise UserError(f"--{text}", 2) from None
        raise UserError(prefix + text) from None


@contextlib.contextmanager
def on_interrupt() -> Iterator[list[int]]:
    """Collect Ctrl-C in a list; a second one interrupts at once."""
    seen: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield seen
        return
    before = signal.getsignal(signal.SIGINT)

    def note(number: int, frame: object) -> None:
        seen.append(number)
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, note)
    try:
        yield seen
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def reading(console: Console, what: str, say: Any) -> Iterator[Any]:
    """Show on a terminal that something is being read; yields a callback (what, share)."""
    try:
        if not console.is_terminal or say is not console.print:
            yield None
            return
        with console.status(Text(f"Reading {what}")) as status:
            yield lambda doing, share: status.update(Text(f"Reading {what}: {doing}, {share:.0%}"))
    except KeyboardInterrupt:
        raise UserError(f"interrupted while reading {what}", 130) from None
