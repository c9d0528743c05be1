"""Brings the records of all ranks to the sinks on rank 0."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence

from zipper_dist.distributed.communication import World
from zipper_dist.metrics.records import Record
from zipper_dist.metrics.sinks.base import RunInfo, Sink


class MetricsReporter:
    """Reports what happens on this rank; on rank 0, to the sinks, what happens on all ranks.

    Args:
        world: the job.
        sinks: where rank 0 writes.
    """

    # The other ranks' records are fetched over a socket, so not at every unit of work.
    POLL_SECONDS = 0.2

    def __init__(self, world: World, sinks: Sequence[Sink]) -> None:
        self._world = world
        self._sinks = sinks if world.rank == 0 else []
        self._polled = 0.0

    @contextlib.contextmanager
    def opened(self, run: RunInfo) -> Iterator[None]:
        """The sinks are open for the duration."""
        with contextlib.ExitStack() as opened:
            for sink in self._sinks:
                sink.open(run)
                opened.callback(sink.close)
            yield

    def report(self, record: Record) -> None:
        """Report a record of this rank."""
        if self._world.rank != 0:
            self._world.send(record)
        for sink in self._sinks:
            sink.write(record)

    def note(self, text: str) -> None:
        """Tell the person something, if this is rank 0."""
        for sink in self._sinks:
            sink.note(text)

    def stage(self, name: str, share: float) -> None:
        """Tell how much (0 … 1) of a stage after the training is done, if this is rank 0."""
        for sink in self._sinks:
            sink.stage(name, share)

    def poll(self, now: bool = False) -> None:
        """On rank 0, take in what the other ranks reported."""
        if self._world.rank != 0:
            return
        if now or time.monotonic() - self._polled > self.POLL_SECONDS:
            self._polled = time.monotonic()
            for record in self._world.receive():
                self.report(record)
