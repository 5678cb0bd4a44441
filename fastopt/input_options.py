"""Options of the command line that say how data is read; those of `fastopt.open_data`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastopt._terminal import typer

__all__ = ["Categorical", "Format", "HashBits", "Ignore", "Label", "Weight", "chosen"]

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
) -> dict[str, Any]:
    """Return what was chosen, as arguments of `open_data` that JSON can hold."""
    values = {
        "format": None if format == "auto" else format,
        "label": column(label),
        "weight": column(weight),
        "hash_bits": hash_bits,
        "categorical": [column(name) for name in categorical or ()],
        "ignore": [column(name) for name in ignore or ()],
    }
    return {name: value for name, value in values.items() if value not in (None, [])}
