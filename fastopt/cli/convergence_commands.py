"""The commands of `fastopt` that show how optimizers converge."""

from __future__ import annotations

import ast
import contextlib
import importlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from typing import Annotated, Any, Literal

from fastopt import schedules
from fastopt.cli._terminal import Table, Text, box, typer
from fastopt.cli.commands import (
    UserError,
    app,
    check_out,
    examples,
    one_line_errors,
    plain_console,
    positive,
)
from fastopt.convergence import PROBLEMS, Comparison, compare, plots
from fastopt.convergence.comparison import DEFAULT, known_rules, known_solvers

__all__ = ["compare_methods"]

NAMED = ", ".join(PROBLEMS)
Which = Annotated[str, typer.Argument(
    metavar="[PROBLEM]", help=f"{NAMED}; or module:name of a fastopt.convergence.Problem, a tuple "
    "(fun, grad, x0[, optimum]), or a function that returns one.")]  # fmt: skip
Methods = Annotated[str | None, typer.Option(
    metavar="NAME,NAME...", show_default=",".join(DEFAULT),
    help="Update rules and solvers, without regard to case; **rules**: every rule; **all**: "
    "solvers too.")]  # fmt: skip
Steps = Annotated[int, typer.Option(min=1, help="At most so many steps of each.")]
Rate = Annotated[float | None, typer.Option(
    "--lr", metavar="NUMBER", show_default="the best of a grid for each rule",
    callback=lambda value: None if value is None else positive(value),
    help="One learning rate for all rules.")]  # fmt: skip
Out = Annotated[str, typer.Option(
    "--out", "-o", metavar="FILE", show_default=False,
    help="Where to: .png, .svg, .pdf; a moving picture: .gif or .html.")]  # fmt: skip


def named(what: str) -> Any:
    """Return the object that the user calls module:name, of the folder he is in, too."""
    module, _, name = what.partition(":")
    sys.path.insert(0, os.getcwd())
    try:
        with users_own(what):
            found = importlib.import_module(module)
            for part in name.split("."):
                found = getattr(found, part)
    finally:
        sys.path.remove(os.getcwd())
    return found


@contextlib.contextmanager
def users_own(what: str) -> Iterator[None]:
    """Turn any error of the user's own code into one line."""
    try:
        yield
    except Exception as error:
        raise UserError(f"{what}: {type(error).__name__}: {error}") from None


def compared(problem: str, methods: str | None, steps: int, lr: float | None) -> Comparison:
    """Compare what the user named."""
    names: list[str] | None = None
    if methods is not None:
        several = {"rules": known_rules(), "all": [*known_rules(), *known_solvers()]}
        names = several.get(methods.lower()) or [name.strip() for name in methods.split(",")]
    if ":" not in problem:
        with one_line_errors(""):
            return compare(problem, names, steps=steps, lr=lr)
    given = named(problem)
    with users_own(problem):
        return compare(given() if callable(given) else given, names, steps=steps, lr=lr)


STILL = ("eps", "jpeg", "jpg", "pdf", "png", "ps", "svg", "tif", "tiff", "webp")
MOVING = ("gif", "html", "htm")


def check_picture(file: str | None, option: str, moves: bool = True) -> None:
    """Refuse, before any work is done, a file that cannot be a picture."""
    check_out(file, option)
    known = (*STILL, *(MOVING if moves else ()))
    if file is not None and os.path.splitext(file)[1][1:].lower() not in known:
        raise UserError(f"{option}: must end in one of .{', .'.join(known)}, got {file}", 2)


def write_picture(file: str, draw: Callable[[], Any], option: str = "--out") -> None:
    """Draw without a screen, and write the picture."""
    with one_line_errors(f"{option}: "):
        plots.pyplot().switch_backend("agg")
        plots.save(draw(), file, dpi=60 if moving(file) else 100)


def moving(file: str) -> bool:
    """Whether a file is to hold a moving picture."""
    return os.path.splitext(file)[1][1:].lower() in MOVING


@app.command(
    "compare",
    short_help="Compare how update rules and solvers converge.",
    epilog=examples(
        "fastopt compare",
        "fastopt compare rosenbrock --methods sgd,nesterov,adam --steps 1000",
        "fastopt compare valley --methods rules --json",
        "fastopt compare saddle --methods sgd,momentum,rmsprop --plot saddle.gif",
        "fastopt compare mymodel:problem --plot losses.png",
    ),
)
def compare_methods(
    problem: Which = "valley",
    methods: Methods = None,
    steps: Steps = 200,
    lr: Rate = None,
    as_json: Annotated[bool, typer.Option(
        "--json", help="Print one line of JSON instead, for programs.")] = False,
    plot: Annotated[str | None, typer.Option(
        metavar="FILE", help="Draw the errors too; into a .gif or .html, the paths as they grow.",
        )] = None,
) -> None:  # fmt: skip
    """Run update rules and solvers on one problem, and say how fast each converges.

    The rate is read off the errors f - f(optimum): **linear, x 0.9 a step**: each step leaves
    nine tenths of the error, as gradient descent does on a bowl; **quadratic**: each step doubles
    the correct digits, as Newton's does near the minimum; **O(1/n^p)**: slower and slower;
    **stalled**, **diverging**, **exact**; or **too short to tell**.

    How a run ended: **converged**: the gradient is below 1e-10; **steps**: all steps were taken;
    **left**: the function has no minimum, and the run is on its way down for ever; **diverged**:
    a number was not finite; **stopped**: the solver gave up.
    """
    check_picture(plot, "--plot")
    found = compared(problem, methods, steps, lr)
    if as_json:
        head = {"problem": found.problem.name, "steps": steps}
        print(json.dumps({**head, "methods": found.rows()}))
    else:
        console = plain_console(soft_wrap=True)
        console.width = max(console.width, 100)  # a narrow terminal wraps lines, none is cut
        formula = f": {found.problem.formula}" if found.problem.formula else ""
        console.print(f"{found.problem.name}{formula}, from {found.problem.x0.tolist()}\n")
        console.print(table(found))
    if plot is not None:
        draw = plots.plot_animation if moving(plot) else plots.plot_losses
        write_picture(plot, lambda: draw(found), "--plot")


def table(found: Comparison) -> Table:
    """Return a comparison as a table, that with the least error in green."""
    shown = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0),
                  header_style="bold")  # fmt: skip
    head, rows = found.cells()
    for name in head:
        words = name in ("method", "ended", "rate")
        shown.add_column(name, justify="left" if words else "right", no_wrap=True)
    least = min(history.errors[-1] for history in found)
    for history, cells in zip(found, rows, strict=True):
        best = history.errors[-1] == least and history.status not in ("diverged", "left")
        shown.add_row(*map(Text, cells), style="green" if best else "")
    return shown


plot_app = typer.Typer(
    no_args_is_help=True, rich_markup_mode="markdown",
    help="Draw paths, losses and schedules into a file.",
)  # fmt: skip
app.add_typer(plot_app, name="plot")


@plot_app.command(
    short_help="The paths of update rules over a surface.",
    epilog=examples(
        "fastopt plot trajectories -o paths.png",
        "fastopt plot trajectories monkey --methods sgd,adam,rprop -o monkey.gif",
        "fastopt plot trajectories beale --lr 0.01 -o beale.html",
    ),
)
def trajectories(
    out: Out, problem: Which = "rosenbrock", methods: Methods = "rules", steps: Steps = 200,
    lr: Rate = None,
) -> None:  # fmt: skip
    """Draw the paths of update rules over a function of two variables, still or moving.

    The circle is the start, the star the minimum. Watch SGD zigzag across a valley, momentum
    overshoot, and on a saddle who finds the way down first.
    """
    check_picture(out, "--out")
    found = compared(problem, methods, steps, lr)
    write_picture(out, lambda: (plots.plot_animation if moving(out) else plots.plot_trajectories)(
        found))  # fmt: skip


@plot_app.command(
    short_help="How errors fall, on logarithmic axes.",
    epilog=examples(
        "fastopt plot losses -o losses.png",
        "fastopt plot losses valley --methods momentum,nesterov,bfgs --against evaluations "
        "-o valley.svg",
    ),
)
def losses(
    out: Out, problem: Which = "valley", methods: Methods = None, steps: Steps = 200,
    lr: Rate = None,
    against: Annotated[Literal["steps", "evaluations", "seconds"], typer.Option(
        help="What the errors are drawn against.")] = "steps",
) -> None:  # fmt: skip
    """Draw how the error of each method falls with steps, evaluations or seconds.

    On these axes O(1/n^p) is a straight line of slope -p, and a linear rate bends down.
    """
    check_picture(out, "--out", moves=False)
    found = compared(problem, methods, steps, lr)
    write_picture(out, lambda: plots.plot_losses(found, against))


def schedule(text: str) -> Any:
    """Return the schedule that `text` calls by name, its arguments being numbers."""
    kinds = [name for name in schedules.__all__ if name not in ("join", "product", "warmup")]
    try:
        call = ast.parse(text, mode="eval").body
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
            raise ValueError("write it as a call, such as cosine(0.1, 100, warmup=10)")
        if call.func.id not in kinds:
            raise ValueError(f"schedules are {', '.join(kinds)}")
        values = [ast.literal_eval(value) for value in call.args]
        keywords = {str(word.arg): ast.literal_eval(word.value) for word in call.keywords}
        return getattr(schedules, call.func.id)(*values, **keywords)
    except (SyntaxError, TypeError, ValueError) as error:
        raise typer.BadParameter(f"{text!r}: {error}") from None


SCHEDULES = [
    "constant(0.1)",
    "step(0.1, every=30, factor=0.5)",
    "exponential(0.1, 0.97)",
    "inverse_time(0.1, 0.1)",
    "cosine(0.1, 100, warmup=10)",
    "warm_restarts(0.1, 25)",
    "one_cycle(0.1, 100)",
]


@plot_app.command(
    "schedules",
    short_help="Learning rates against steps.",
    epilog=examples(
        "fastopt plot schedules -o schedules.png",
        "fastopt plot schedules 'cosine(0.1, 100, warmup=10)' 'linear(0.1, 0.0, 100)' -o two.svg",
    ),
)
def draw_schedules(
    out: Out,
    which: Annotated[list[str] | None, typer.Argument(
        metavar="[SCHEDULE...]", show_default="one of each kind",
        help="Calls of fastopt.schedules, in quotes.")] = None,
    steps: Annotated[int, typer.Option(min=1, help="The last step that is drawn.")] = 100,
) -> None:  # fmt: skip
    """Draw schedules of the learning rate, or of anything else, against the step."""
    check_picture(out, "--out", moves=False)
    found = {text: schedule(text) for text in which or SCHEDULES}
    write_picture(out, lambda: plots.plot_schedules(found, steps))
