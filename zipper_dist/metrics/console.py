"""The terminal, as all commands print to it."""

from typing import IO

from rich.console import Console


def make_console(file: IO[str] | None = None, width: int | None = None) -> Console:
    """A console, by default of standard output, that prints text as it is: what a path, a name or a
    message holds is no markup and no emoji."""
    return Console(file=file, width=width, markup=False, emoji=False)
