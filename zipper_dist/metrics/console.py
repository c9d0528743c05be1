"""The terminal, as all commands print to it."""

import textwrap
from typing import IO

from rich.console import Console
from rich.text import Text

PLAIN_WIDTH = 120
"""Longest line where there is no terminal to break it, unless a word is longer [columns]."""


def make_console(file: IO[str] | None = None, width: int | None = None) -> Console:
    """A console, by default of standard output, that prints text as it is: what a path, a name or a
    message holds is no markup and no emoji. ``width`` [columns] is by default the terminal's, or
    PLAIN_WIDTH where there is none."""
    console = Console(file=file, width=width, markup=False, emoji=False)
    if width is None and not console.is_terminal:
        console.width = PLAIN_WIDTH
    return console


def say(console: Console, text: str | Text, indent: int = 2) -> None:
    """Print a paragraph: a terminal breaks it as it is wide, else lines end at PLAIN_WIDTH, words
    whole, and all but the first begin with ``indent`` blanks."""
    if not console.is_terminal:
        text = textwrap.fill(
            str(text), PLAIN_WIDTH, subsequent_indent=" " * indent, break_long_words=False,
            break_on_hyphens=False,
        )  # fmt: skip
    console.print(text, highlight=False, soft_wrap=True)


def announce(console: Console, text: str) -> None:
    """Say what begins. That a full disk takes no line of it is no reason not to begin; an output
    whose reader has gone ends the command as ever (BrokenPipeError)."""
    try:
        console.print(text, highlight=False, soft_wrap=True)
    except BrokenPipeError:
        raise
    except OSError:
        pass
