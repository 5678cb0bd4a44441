"""What the command line takes from typer and rich, or an error that says what to install."""

try:
    import typer
    from rich import box
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn
    from rich.table import Table
    from rich.text import Text
except ModuleNotFoundError as error:
    raise ImportError(
        f"the command line needs {error.name}: pip install 'fastopt[cli]'", name=error.name
    ) from error

__all__ = ["BarColumn", "Console", "Progress", "Table", "Text", "TextColumn", "box", "typer"]
