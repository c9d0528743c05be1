"""Stopping when a signal asks for it."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from zipper_dist.errors import Interrupted

CAUGHT = (signal.SIGINT, signal.SIGTERM)


class Signals:
    """Turns Ctrl-C and SIGTERM into a request that the training loop asks after."""

    def __init__(self) -> None:
        self.number: int | None = None
        # torchrun sends every rank each Ctrl-C once more; only without it does a second one mean
        # that the person wants the process to end at once.
        self._repeats_mean_now = "TORCHELASTIC_RUN_ID" not in os.environ

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Catch the signals for the duration. Only the main thread can; elsewhere nothing happens.

        What handled them before handles them again afterwards.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._ask) for number in CAUGHT}
        try:
            yield
        finally:
            for number, handler in before.items():
                # None: a handler that was not installed from Python.
                signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.number is not None and self._repeats_mean_now:
            raise KeyboardInterrupt
        self.number = number

    def check(self) -> None:
        """Raise Interrupted if a signal has asked to stop."""
        if self.number is not None:
            raise Interrupted(self.number)
