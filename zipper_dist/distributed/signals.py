"""Stopping when a signal, or the loss of a rank, asks for it."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from zipper_dist.errors import CommandError, Interrupted, UserError

CAUGHT = (signal.SIGINT, signal.SIGTERM)


class Signals:
    """Turns Ctrl-C and SIGTERM into a request to stop, which :meth:`check` raises; another thread
    may set ``error`` for it to raise."""

    def __init__(self) -> None:
        self.number: int | None = None
        self.error: CommandError | None = None
        # A second Ctrl-C ends the process, but not under torchrun, which sends each one twice.
        self._second_ends = "TORCHELASTIC_RUN_ID" not in os.environ

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Catch the signals for the duration; does nothing outside the main thread. A rank that was
        told to stop meanwhile says nothing of bad input, which the first rank has told of."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._ask) for number in CAUGHT}
        try:
            yield
        except UserError:
            self.check()
            raise
        finally:
            for number, handler in before.items():
                # None: a handler that was not installed from Python.
                signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.number is not None and self._second_ends:
            raise KeyboardInterrupt
        self.number = number

    def check(self) -> None:
        """Raise Interrupted if a signal has asked to stop, or ``error``."""
        if self.number is not None:
            raise Interrupted(self.number)
        self.listen()

    def listen(self) -> None:
        """Raise ``error``, if there is one."""
        if self.error is not None:
            raise self.error
