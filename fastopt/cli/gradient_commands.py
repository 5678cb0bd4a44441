"""The command of `fastopt` that checks the gradient of the user's own function."""

from __future__ import annotations

import inspect
import json
import math
from typing import Annotated, Any

import fastopt
from fastopt.cli._terminal import typer
from fastopt.cli.commands import UserError, app, examples, plain_console
from fastopt.cli.convergence_commands import check_picture, named, users_own, write_picture
from fastopt.convergence import Problem, plots

__all__ = ["check_gradient"]


def checked(what: str, at: str | None) -> tuple[Any, Any, Any]:
    """Return the function, the gradient and the point that the user means."""
    found = named(what)
    with users_own(what):
        if callable(found) and not wanting(found):
            found = found()
    if isinstance(found, Problem):
        found = (found.fun, found.grad, found.x0)
    if callable(found):  # x -> (value, gradient)
        found = (found, True, None)
    if not isinstance(found, tuple) or len(found) not in (2, 3):
        raise UserError(
            f"{what}: must be (f, g, x), a function that returns it, or a function of x that "
            f"returns value and gradient, with --at; got {type(found).__name__}", 2,
        )  # fmt: skip
    f, g, x = found if len(found) == 3 else (*found, None)
    if at is not None:
        x = named(at if ":" in at else f"{what.partition(':')[0]}:{at}")
        with users_own(at):
            x = x() if callable(x) else x
    if x is None:
        raise UserError(f"{what}: where? --at names the point, an array of the same module", 2)
    return f, g, x


def wanting(function: Any) -> bool:
    """Whether a function cannot be called without arguments."""
    try:
        inspect.signature(function).bind()
    except TypeError:
        return True
    return False


@app.command(
    "check-grad",
    short_help="Check the gradient of your own function.",
    epilog=examples(
        "fastopt check-grad mymodel:problem",
        "fastopt check-grad mymodel:loss --at w0",
        "fastopt check-grad mymodel:problem --plot errors.png",
        "fastopt check-grad mymodel:problem --json",
    ),
)
def check_gradient(
    function: Annotated[str, typer.Argument(
        metavar="MODULE:NAME", show_default=False,
        help="Found as Python's import finds it, and in this folder.")],
    at: Annotated[str | None, typer.Option(
        metavar="NAME", help="The point: an array, or a function that returns it; of another "
        "module: MODULE:NAME.")] = None,
    rtol: Annotated[float | None, typer.Option(
        metavar="NUMBER", show_default="1e-5; float32: 1e-3",
        help="The relative error that is allowed.")] = None,
    rows: Annotated[int, typer.Option(min=1, help="Print so many components, worst first.")] = 10,
    seed: Annotated[int, typer.Option(
        min=0, help="Seed of the directions and components tried where x is large.")] = 0,
    as_json: Annotated[bool, typer.Option(
        "--json", help="Print one line of JSON instead, for programs.")] = False,
    plot: Annotated[str | None, typer.Option(
        metavar="FILE", help="Draw a heat map of the errors of the worst parameter.")] = None,
) -> int:  # fmt: skip
    """Compare a gradient with differences, and say what is wrong with it. Exit code 1: it is wrong.

    MODULE:NAME is one of

    - a tuple **(f, g, x)**: a function, its gradient (a function, or True if f returns value and
      gradient), and the point, an array or a dict of arrays;

    - a function without arguments that returns such a tuple;

    - a function of x that returns **value and gradient**, with --at for the point;

    - a fastopt.convergence.Problem.

    The first line names the mistake: **factor 2 everywhere**, **sign flipped**, **only W2 is
    wrong**. Kinks, as of a hinge or an absolute value, are named and are no mistake.
    """
    check_picture(plot, "--plot", moves=False)
    f, g, x = checked(function, at)
    with users_own(function):
        report = fastopt.check_grad(f, g, x, rtol=rtol, seed=seed)
    if as_json:
        worst = [
            {"component": row.label, "analytic": number(row.analytic),
             "numeric": number(row.numeric), "error": number(row.error), "status": row.status}
            for row in report.rows[:rows]
        ]  # fmt: skip
        print(json.dumps({"ok": report.ok, "diagnosis": report.diagnosis, "nfev": report.nfev,
                          "max_error": number(report.max_error), "rows": worst}))  # fmt: skip
    else:
        console = plain_console(soft_wrap=True)
        console.print(report.diagnosis, style="green" if report.ok else "red")
        console.print(report.table(rows))
    if plot is not None:
        write_picture(plot, lambda: plots.plot_gradient_check(report), "--plot")
    return 0 if report.ok else 1


def number(value: float) -> float | None:
    """Return a number that JSON knows: none for what is not finite."""
    return float(value) if math.isfinite(value) else None
