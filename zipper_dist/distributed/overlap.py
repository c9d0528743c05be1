"""Waiting for other ranks without idling."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from zipper_dist.distributed.communication import Pending
from zipper_dist.distributed.signals import Signals

SHORTEST_SLEEP = 5e-5  # [s]
LONGEST_SLEEP = 5e-3


class Overlap:
    """Does ``work`` while it waits, and counts the idle ``seconds``.

    Args:
        signals: checked between two units of work.
        work: does one unit of useful work and returns True, or returns False if there is none.
    """

    def __init__(self, signals: Signals, work: Callable[[], bool] = lambda: False) -> None:
        self.seconds = 0.0
        self.work = work
        self._signals = signals

    def until(self, condition: Callable[[], bool]) -> None:
        """Return once ``condition`` holds; raises Interrupted if a signal comes first."""
        sleep = SHORTEST_SLEEP
        while True:
            # First: a signal comes to all ranks, and where the others are gone already, this one
            # is to save its state, not to fail with PeerLost.
            self._signals.check()
            if condition():
                return
            if self.work():
                sleep = SHORTEST_SLEEP
                continue
            start = time.perf_counter()
            time.sleep(sleep)
            self.seconds += time.perf_counter() - start
            sleep = min(2 * sleep, LONGEST_SLEEP)

    def __call__(self, pending: Pending) -> Any:
        """Wait for ``pending`` and return its result."""
        self.until(pending.done)
        return pending.result()
