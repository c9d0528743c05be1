"""What a command does before it can do anything else: import packages, which takes seconds."""

import contextlib
import os
import signal
import sys
from collections.abc import Iterator

_ASK_FOR_A_TEXT = ("--help", "--version", "--tyro-")
"""How options begin with which a command prints a text, and nothing else is wanted."""


def output_is_closed() -> bool:
    """Whether a command was started without standard output, for which Python has None; from now on
    what is printed there is discarded."""
    closed = sys.stdout is None
    if closed:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    return closed


@contextlib.contextmanager
def importing(what: str = "loading PyTorch …") -> Iterator[None]:
    """Say at once that the command is alive, by a line of the first rank on standard output; Ctrl-C
    ends the process for the duration without a traceback, unless it was ignored."""
    first = os.environ.get("RANK", "0") == "0"
    silent = any(word == "-h" or word.startswith(_ASK_FOR_A_TEXT) for word in sys.argv[1:])
    if not output_is_closed() and first and not silent:
        # Not by sys.stdout, whose buffer would keep, and fail with, what cannot be written.
        with contextlib.suppress(OSError):
            os.write(1, f"{what}\n".encode(sys.stdout.encoding, "replace"))
    handler = signal.getsignal(signal.SIGINT)
    if handler is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
