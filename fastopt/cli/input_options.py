"""Options of the command line that say how data is read; those of `fastopt.open_data`."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from fastopt.cli._terminal import typer

__all__ = ["Categorical", "Format", "HashBits", "Ignore", "Label", "Missing", "Weight", "chosen",
           "spelled"]  # fmt: skip

PANEL = "How the data is read"

Format = Annotated[
    Literal["auto", "svmlight", "vw", "ffm", "csv", "parquet", "cache"],
    typer.Option(rich_help_panel=PANEL, help="auto: by the first bytes, the name, the first line."),
]
Label = Annotated[
    str | None,
    typer.Option(metavar="COLUMN", rich_help_panel=PANEL,
                 help="In tables, the column of labels: its name, or its number from 0."),
]  # fmt: skip
Weight = Annotated[
    str | None,
    typer.Option(metavar="COLUMN", rich_help_panel=PANEL,
                 help="In tables, the column of the rows' weights."),
]  # fmt: skip
HashBits = Annotated[
    int | None,
    typer.Option(min=1, max=31, rich_help_panel=PANEL, show_default="vw: 18",
                 help="Strings are hashed to 2^this columns; tables with strings need it."),
]  # fmt: skip
Categorical = Annotated[
    list[str] | None,
    typer.Option(metavar="COLUMN", rich_help_panel=PANEL,
                 help="In tables, take these numbers as names. May be repeated."),
]  # fmt: skip
Ignore = Annotated[
    list[str] | None,
    typer.Option(metavar="COLUMN", rich_help_panel=PANEL,
                 help="In tables, leave this column out. May be repeated."),
]  # fmt: skip
Missing = Annotated[
    Literal["error", "zero"],
    typer.Option(rich_help_panel=PANEL,
                 help="In tables, what an empty field is in a column of numbers."),
]  # fmt: skip


def spelled(message: str) -> str:
    """Return a message with the arguments of `open_data` as options of the command line.

    Examples
    --------
    >>> spelled("column 'site' holds strings: hash_bits=18 hashes them, ignore=['site'] does not")
    "column 'site' holds strings: --hash-bits 18 hashes them, --ignore 'site' does not"
    """
    message = re.sub(r"\b(categorical|ignore)=\[((['\"]).*?\3)\]", r"--\1 \2", message)
    message = re.sub(r"\bhash_bits=(?=\d)", "--hash-bits ", message)
    return message.replace("missing='zero'", "--missing zero")


def column(text: str | None) -> str | int | None:
    """Return a column's name, or its number."""
    if text is None or not text.removeprefix("-").isdecimal():
        return text
    return int(text)


def chosen(
    format: str,
    label: str | None,
    weight: str | None,
    hash_bits: int | None,
    categorical: list[str] | None,
    ignore: list[str] | None,
    missing: str,
) -> dict[str, Any]:
    """Return what was chosen, as arguments of `open_data` that JSON can hold."""
    values = {
        "format": None if format == "auto" else format,
        "label": column(label),
        "weight": column(weight),
        "hash_bits": hash_bits,
        "categorical": [column(name) for name in categorical or ()],
        "ignore": [column(name) for name in ignore or ()],
        "missing": None if missing == "error" else missing,
    }
    return {name: value for name, value in values.items() if value not in (None, [])}
