"""Where the time of a rank goes."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from zipper_dist.distributed.communication import World
from zipper_dist.distributed.overlap import Overlap


@dataclass
class Timers:
    """Seconds, bytes sent and syncs of this rank, interrupted processes of the run included.

    Attributes:
        wall_seconds: all of it.
        eval_seconds: evaluating.
        wait_seconds: waiting idly for other ranks.
        comm_bytes: handed to all-reduces [bytes].
        syncs: all-reduces of the global learner, redistributions and the one at the end.
    """

    wall_seconds: float = 0.0
    eval_seconds: float = 0.0
    wait_seconds: float = 0.0
    comm_bytes: int = 0
    syncs: int = 0

    def __post_init__(self) -> None:
        self._settled = time.perf_counter()

    def settle(self, wait: Overlap, world: World) -> None:
        """Bring everything up to now."""
        now = time.perf_counter()
        self.wall_seconds += now - self._settled
        self.wait_seconds += wait.seconds
        self.comm_bytes += world.comm_bytes
        self._settled, wait.seconds, world.comm_bytes = now, 0.0, 0

    @contextlib.contextmanager
    def evaluating(self) -> Iterator[None]:
        """Count the duration as evaluation."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.eval_seconds += time.perf_counter() - start

    def figures(self) -> dict[str, float]:
        """The fields as JSON."""
        return asdict(self)
