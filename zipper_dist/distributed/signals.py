"""Stopping when a signal asks for it."""

from __future__ import annotations

import os
import signal
from types import FrameType

from zipper_dist.errors import Interrupted


class Signals:
    """Turns Ctrl-C and SIGTERM into a request that the training loop asks after."""

    def __init__(self) -> None:
        self.number: int | None = None
        # torchrun hands every rank each Ctrl-C once more, so only without it does a second one
        # mean that the person has lost patience.
        self._repeats_mean_now = "TORCHELASTIC_RUN_ID" not in os.environ

    def install(self) -> None:
        """Catch the signals from now on."""
        signal.signal(signal.SIGINT, self._ask)
        signal.signal(signal.SIGTERM, self._ask)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.number is not None and self._repeats_mean_now:
            raise KeyboardInterrupt
        self.number = number

    def check(self) -> None:
        """Raise Interrupted if a signal has asked to stop."""
        if self.number is not None:
            raise Interrupted(self.number)
