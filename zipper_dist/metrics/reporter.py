"""Brings the records of all ranks to the sinks on rank 0."""

import base64
import contextlib
import time
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zipper_dist.distributed.communication import World
from zipper_dist.errors import CommandError, in_one_line, log_failure
from zipper_dist.metrics.records import Record
from zipper_dist.metrics.sinks import SINKS, RunInfo, Sink

POLL_SECONDS = 0.2  # records are fetched over a socket, so not at every unit of work


class _Feed:
    """A sink, the records that it has still to take, and whether it was complained about."""

    def __init__(self, sink: Sink) -> None:
        self.sink = sink
        self.waiting: deque[Record] = deque()
        self.failed = False

    @property
    def name(self) -> str:
        """As ``--metrics`` has it, if it comes with the package."""
        kind = type(self.sink)
        return next((name for name, known in SINKS.items() if known is kind), kind.__name__)

    def write(self) -> None:
        """Let the sink take all that waits."""
        while self.waiting:
            self.sink.write(self.waiting[0])
            self.waiting.popleft()


class MetricsReporter:
    """Gives the records of all ranks, and the messages of rank 0, to the ``sinks`` on rank 0.

    A sink that fails is no reason to end a training: the user is told, and what it did not take is
    given to it again with the next record, also by a process that continues the run.
    """

    def __init__(self, world: World, sinks: Sequence[Sink]) -> None:
        self._world = world
        self._feeds = [_Feed(sink) for sink in sinks] if world.rank == 0 else []
        self.shows_pictures = any(type(sink).picture is not Sink.picture for sink in sinks)
        self._directory: Path | None = None  # of the run, once the sinks are open
        self._polled = 0.0

    @contextlib.contextmanager
    def opened(self, run: RunInfo, again: Iterable[Record] = ()) -> Iterator[None]:
        """The sinks are open for the duration. ``again``: what this rank reported before the run
        was interrupted, and the sinks may not have taken."""
        with contextlib.ExitStack() as opened:
            for feed in self._feeds:
                feed.sink.open(run)  # one that cannot begin ends the run before it has begun
                opened.callback(self._close, feed)
            self._directory = run.directory
            for record in again:
                self.report(record)
            yield

    def report(self, record: Record) -> None:
        """Report a record of this rank, with the time unless it has one."""
        record = {"time": time.time(), **record}
        if self._world.rank != 0:
            self._world.send(record)
        for feed in self._feeds:
            feed.waiting.append(record)
            with self._going_on(feed):
                feed.write()

    def unwritten(self, learners: Collection[str]) -> list[Record]:
        """The reported records of these learners that a sink may not have taken."""
        records = self._world.unacknowledged()
        for feed in self._feeds:  # each has taken all but the last few
            records = max(records, list(feed.waiting), key=len)
        return [record for record in records if record.get("learner") in learners]

    def note(self, text: str) -> None:
        """Tell the user something, if this is rank 0."""
        for feed in self._feeds:
            with self._going_on(feed):
                feed.sink.note(text)

    def tell(self, text: str) -> None:
        """Tell the user something, from any rank."""
        if self._world.rank != 0:
            self._world.send({"note": text})
        self.note(text)

    def picture(self, name: str, step: int, pixels: Tensor) -> None:
        """Show a small picture, uint8 (C, H, W) on the CPU, from any rank."""
        if self._world.rank != 0:
            content = base64.b64encode(pixels.contiguous().numpy().tobytes()).decode()
            shape = list(pixels.shape)
            message = {"picture": name, "step": step, "shape": shape, "pixels": content}
            self._world.send(message)
        for feed in self._feeds:
            with self._going_on(feed):
                feed.sink.picture(name, step, pixels)

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Report that the run is complete, if this is rank 0."""
        for feed in self._feeds:
            with self._going_on(feed):
                feed.sink.finish(summary)

    def stage(self, name: str, share: float) -> None:
        """Report the progress (0 … 1) of a stage after the training, if this is rank 0."""
        for feed in self._feeds:
            with self._going_on(feed):
                feed.sink.stage(name, share)

    def poll(self, now: bool = False) -> None:
        """On rank 0, once the sinks are open, pass on what the other ranks reported."""
        if self._world.rank != 0 or self._directory is None:
            return
        if now or time.monotonic() - self._polled > POLL_SECONDS:
            self._polled = time.monotonic()
            for record in self._world.receive():
                if "note" in record:
                    self.note(record["note"])
                elif "picture" in record:
                    content = bytearray(base64.b64decode(record["pixels"]))
                    pixels = torch.frombuffer(content, dtype=torch.uint8).view(record["shape"])
                    self.picture(record["picture"], record["step"], pixels)
                else:
                    self.report(record)
            if not any(feed.waiting for feed in self._feeds):
                self._world.acknowledge()

    def _close(self, feed: _Feed) -> None:
        with self._going_on(feed):
            feed.write()
        with self._going_on(feed):
            feed.sink.close()

    @contextlib.contextmanager
    def _going_on(self, feed: _Feed) -> Iterator[None]:
        """Tell the user, the first time, that a sink has failed, and go on."""
        try:
            yield
        except (CommandError, BrokenPipeError):  # there may be no terminal any more
            raise
        except Exception as error:
            if feed.failed:
                return
            feed.failed = True
            if self._directory is not None:
                log_failure(self._directory, error)
            self.note(
                f"warning: the metrics sink {feed.name} failed ({in_one_line(error)}); the "
                "training goes on, and what is missing there is written once it works again"
            )
