"""Stopping ranks that train a learner together after the same iteration."""

import time
from collections.abc import Sequence

from zipper_dist.distributed.communication import World
from zipper_dist.distributed.signals import Signals
from zipper_dist.errors import Interrupted

LOOK_SECONDS = 0.2  # between two looks for a signal that another rank got


class Stop:
    """When a signal stops this rank, which keeps step with its ``companions``, itself among them.

    Ranks that train a learner together wait for each other in every iteration, so none may stop
    while another goes on. Once one of them got a signal, each says in which iteration it is, and
    begins no further one before all have said so; they stop after the last of these iterations.
    """

    def __init__(self, world: World, signals: Signals) -> None:
        self.companions: Sequence[int] = [world.rank]
        self._world = world
        self._signals = signals
        self._iteration = 0
        self._signal: int | None = None
        self._last: int | None = None
        self._looked = 0.0

    def begin(self, iteration: int) -> None:
        """This rank begins an iteration."""
        self._iteration = iteration

    def check(self) -> None:
        """Raise Interrupted if it is agreed that this rank stops now, in or after its iteration."""
        if len(self.companions) == 1:
            self._signals.check()
        elif self.listen() and self._signal is not None and self._last == self._iteration:
            raise Interrupted(self._signal)

    def listen(self) -> bool:
        """Take part in what the companions agree on: whether this rank knows if it goes on after
        its iteration. Raises if a rank is lost."""
        self._signals.listen()
        if len(self.companions) == 1:
            return True
        if self._signal is None:
            self._signal = self._signals.number or self._signal_of_another()
            if self._signal is not None:
                self._world.post("stop", [self._iteration, self._signal])
        if self._signal is not None and self._last is None:
            said = self._world.posted("stop", self.companions)
            if len(said) == len(self.companions):
                self._last = max(at for at, _ in said.values())
        return self._signal is None or self._last is not None

    def _signal_of_another(self) -> int | None:
        now = time.monotonic()
        if now - self._looked < LOOK_SECONDS:
            return None
        self._looked = now
        said = self._world.posted("stop", self.companions)
        return next((number for _, number in said.values()), None)
