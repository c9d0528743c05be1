"""What a run reports while it goes on: loss windows, metrics.jsonl, news for the display."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from pathlib import Path

import torch

from zipper_dist.checkpoint.files import write_atomically
from zipper_dist.distributed.communication import World
from zipper_dist.errors import TrainingDiverged
from zipper_dist.metrics.terminal import Display, NullDisplay, Record
from zipper_dist.training.learner import StepResult


class Reading:
    """Loss and number of right answers of an iteration, on their way to the host.

    From a GPU they are copied to pinned memory, behind the iteration's other work, so that the host
    can go on and queue the next one.
    """

    def __init__(self, result: StepResult) -> None:
        figures = torch.stack([result.loss.double(), result.correct.double()])
        self._arrived: torch.cuda.Event | None = None
        if figures.is_cuda:
            self._figures = torch.empty(2, dtype=torch.float64, pin_memory=True)
            self._figures.copy_(figures, non_blocking=True)
            self._arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._arrived.record()
        else:
            self._figures = figures

    def figures(self) -> tuple[float, float]:
        """Loss and right answers; waits for them where they have not arrived yet."""
        if self._arrived is not None:
            self._arrived.synchronize()
        loss, correct = self._figures.tolist()
        return loss, correct


class Window:
    """The iterations of one learner since its last record.

    Nothing is read from the device until the record is made, so that training need not wait.
    """

    def __init__(self, learner: str, batch_size: int) -> None:
        self.learner = learner
        self.batch_size = batch_size
        self._readings: list[Reading] = []
        self._last_step = 0
        self._busy = 0.0

    def add(self, step: int, result: StepResult, seconds: float) -> None:
        """Take up iteration ``step``, which took ``seconds``."""
        self._readings.append(Reading(result))
        self._last_step = step
        self._busy += seconds

    def check(self) -> None:
        """Raise TrainingDiverged, naming the iteration, if a loss is NaN or infinite."""
        for i, reading in enumerate(self._readings):
            loss, _ = reading.figures()
            if not math.isfinite(loss):
                step = self._last_step - len(self._readings) + 1 + i
                raise TrainingDiverged(
                    f"the loss of the {self.learner} learner is {loss} at iteration {step}; "
                    "the checkpoints up to then are kept. A lower "
                    f"--learners.{self.learner}.lr usually helps"
                )

    def close(self) -> Record | None:
        """The record of the window (None if it is empty); a new window begins."""
        if not self._readings:
            return None
        self.check()
        losses, correct = zip(*(reading.figures() for reading in self._readings), strict=True)
        images = len(losses) * self.batch_size
        record: Record = {
            "step": self._last_step,
            "learner": self.learner,
            "loss": sum(losses) / len(losses),
            "accuracy": 100 * sum(correct) / images,
            "images_per_second": images / max(self._busy, 1e-9),
        }
        self._readings, self._busy = [], 0.0
        return record


class JsonLinesSink:
    """metrics.jsonl: one JSON object a line, flushed as it happens. Rank 0 writes it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def trim(self, last_steps: Mapping[str, int]) -> None:
        """Drop the records that a resumed run is going to make again: those after ``last_steps``
        of their learner, and an incomplete last line."""
        if not self.path.exists():
            return
        kept = []
        for line in self.path.read_text().splitlines():
            try:
                record = json.loads(line)
            except ValueError:
                continue
            if record["step"] <= last_steps.get(record["learner"], -1):
                kept.append(line + "\n")
        write_atomically(self.path, "".join(kept).encode())

    def append(self, record: Record) -> None:
        """Write one line."""
        with self.path.open("a") as file:
            file.write(json.dumps(record) + "\n")


class MetricsReporter:
    """Brings the records of all ranks to the sink and the display on rank 0."""

    # The other ranks' news is fetched over a socket, so not at every unit of work.
    POLL_SECONDS = 0.2

    def __init__(self, world: World, sink: JsonLinesSink) -> None:
        self._world = world
        self._journal = sink
        self.display: Display = NullDisplay()
        self._polled = 0.0

    def report(self, record: Record) -> None:
        """Report a record of this rank."""
        if self._world.rank == 0:
            self._journal.append(record)
            self.display.update(record)
        else:
            self._world.send(record)

    def poll(self, now: bool = False) -> None:
        """On rank 0, take in what the other ranks reported."""
        if self._world.rank != 0:
            return
        if now or time.monotonic() - self._polled > self.POLL_SECONDS:
            self._polled = time.monotonic()
            for record in self._world.receive():
                self.report(record)
