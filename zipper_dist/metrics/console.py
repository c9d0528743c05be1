"""The terminal, as all commands print to it."""

from typing import IO

from rich.console import Console


def make_console(file: IO[str] | None = None, width: int | None = None) -> Console:
    """A console, by default of standard output, that prints text as it is: what a path, a name or a
    message holds is no markup and no emoji."""
    return Console(file=file, width=width, markup=False, emoji=False)


def announce(console: Console, text: str) -> None:
    """Say what begins. That a full disk takes no line of it is no reason not to begin; an output
    whose reader has gone ends the command as ever (BrokenPipeError)."""
    try:
        console.print(text, highlight=False, soft_wrap=True)
    except BrokenPipeError:
        raise
    except OSError:
        pass
