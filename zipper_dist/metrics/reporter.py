"""Brings the records of all ranks to the sinks on rank 0."""

import contextlib
import time
from collections.abc import Iterator, Sequence

from zipper_dist.distributed.communication import World
from zipper_dist.metrics.records import Record
from zipper_dist.metrics.sinks import RunInfo, Sink

POLL_SECONDS = 0.2  # records are fetched over a socket, so not at every unit of work


class MetricsReporter:
    """Gives the records of all ranks, and the messages of rank 0, to the ``sinks`` on rank 0."""

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
        """Tell the user something, if this is rank 0."""
        for sink in self._sinks:
            sink.note(text)

    def stage(self, name: str, share: float) -> None:
        """Report the progress (0 … 1) of a stage after the training, if this is rank 0."""
        for sink in self._sinks:
            sink.stage(name, share)

    def poll(self, now: bool = False) -> None:
        """On rank 0, pass on what the other ranks reported."""
        if self._world.rank != 0:
            return
        if now or time.monotonic() - self._polled > POLL_SECONDS:
            self._polled = time.monotonic()
            for record in self._world.receive():
                self.report(record)
