"""Waiting for other ranks without idling."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from zipper_dist.distributed.communication import Pending
from zipper_dist.distributed.signals import Signals

SHORTEST_NAP = 5e-5
LONGEST_NAP = 5e-3


class Overlap:
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
