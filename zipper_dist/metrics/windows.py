"""Losses and accuracies between two records, read from the device only when a record is due."""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor

from zipper_dist.errors import TrainingDiverged
from zipper_dist.metrics.records import WindowSummary


class StepResult(Protocol):
    """What an iteration showed, on the device: loss and number of right answers (0-D tensors)."""

    @property
    def loss(self) -> Tensor:
        """Mean over the minibatch."""

    @property
    def correct(self) -> Tensor:
        """Right answers among the images that were trained on."""


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

    def close(self) -> WindowSummary | None:
        """What the window showed (None if it is empty); a new window begins."""
        if not self._readings:
            return None
        self.check()
        losses, correct = zip(*(reading.figures() for reading in self._readings), strict=True)
        images = len(losses) * self.batch_size
        summary = WindowSummary(
            step=self._last_step,
            learner=self.learner,
            loss=sum(losses) / len(losses),
            accuracy=100 * sum(correct) / images,
            images_per_second=images / max(self._busy, 1e-9),
        )
        self._readings, self._busy = [], 0.0
        return summary
