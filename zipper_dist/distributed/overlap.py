"""Waiting without idling, and stopping when a signal asks for it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

from zipper_dist.distributed.placement import Pending
from zipper_dist.errors import Interrupted

SHORTEST_NAP = 5e-5
LONGEST_NAP = 5e-3


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


class Waiter:
    """Does ``work`` while it waits, and counts the seconds in which there was none.

    Args:
        signals: asked after between two units of work.
        work: does one unit of useful work and returns True, or returns False if there is none.
    """

    def __init__(self, signals: Signals, work: Callable[[], bool] = lambda: False) -> None:
        self.seconds = 0.0
        self.work = work
        self._signals = signals

    def until(self, condition: Callable[[], bool]) -> None:
        """Return once ``condition`` holds; raises Interrupted if a signal comes first."""
        nap = SHORTEST_NAP
        while True:
            # First, since a signal comes to all ranks: the others may be gone already, and this one
            # is to save its state rather than to complain of that.
            self._signals.check()
            if condition():
                return
            if self.work():
                nap = SHORTEST_NAP
                continue
            start = time.perf_counter()
            time.sleep(nap)
            self.seconds += time.perf_counter() - start
            nap = min(2 * nap, LONGEST_NAP)

    def __call__(self, pending: Pending) -> Any:
        """Wait for ``pending`` and return its result."""
        self.until(pending.done)
        return pending.result()
