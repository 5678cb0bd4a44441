"""The command `fastopt`: a thin door, so that the package itself needs neither typer nor rich."""

from __future__ import annotations

import sys
from collections.abc import Sequence

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Parameters
    ----------
    argv : sequence of str, default None
        The arguments after the program's name; None takes them from `sys.argv`.

    Returns
    -------
    int
        0 for success, 1 for an error, 2 for a mistake in the arguments, 130 after Ctrl-C.
    """
    try:
        from fastopt.cli import commands, data_commands, model_commands, table_command  # noqa: F401
        from fastopt.cli import convergence_commands as _convergence  # noqa: F401
        from fastopt.cli import gradient_commands as _gradient  # noqa: F401
    except ImportError as error:
        if "fastopt[cli]" not in str(error):
            raise
        print(f"fastopt: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("fastopt: interrupted", file=sys.stderr)
        return 130
    return commands.run(sys.argv[1:] if argv is None else list(argv))


if __name__ == "__main__":
    sys.exit(main())
