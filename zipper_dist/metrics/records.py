"""Records: what a run reports while it goes on, a line of metrics.jsonl each."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from zipper_dist.errors import TrainingDiverged

GLOBAL = "global"  # the learner that the records of evaluations name

# As JSON: the time of the report [seconds since 1970], and the fields of a TrainingRecord, or of an
# evaluation of θ_g (step, learner = "global", clean, robust [%], seconds; constant: true if it
# answers all images alike; not_finite: images whose logits are NaN or infinite, if any).
Record = dict[str, Any]


@dataclass(frozen=True)
class TrainingRecord:
    """The iterations of a base learner since its last record, and the state of the run."""

    step: int  # the last iteration
    learner: str
    loss: float  # mean
    accuracy: float  # on the minibatches as trained on [%]
    images_per_second: float | None  # None: they took no measurable time
    epoch: float | None = None  # passes over the training set
    lr: float | None = None
    gamma: float | None = None  # γ, mixing weight of the last learner, in a run of one or two
    weight: float | None = None  # mixing weight of this one, in a run of more
    train_seconds: float | None = None  # of this rank in training, the idle ones included
    wait_seconds: float | None = None  # idle
    distance: float | None = None  # L2, to θ_g, just before a redistribution since the last record

    def as_json(self) -> Record:
        """The fields that are not None."""
        return {name: value for name, value in asdict(self).items() if value is not None}


class StepResult(NamedTuple):
    """What an iteration of a learner showed, as 0-D tensors on the device."""

    loss: Tensor  # mean
    correct: Tensor  # number of right answers among the images that were trained on


class _Reading:
    """A :class:`StepResult` on its way to the host, which does not wait for a GPU."""

    def __init__(self, result: StepResult) -> None:
        self._figures = torch.stack([result.loss.double(), result.correct.double()])
        self._arrived: torch.cuda.Event | None = None
        if self._figures.is_cuda:
            pinned = torch.empty(2, dtype=torch.float64, pin_memory=True)
            self._figures = pinned.copy_(self._figures, non_blocking=True)
            self._arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._arrived.record()

    def figures(self) -> tuple[float, float]:
        """Loss and right answers; waits for them where they have not arrived yet."""
        if self._arrived is not None:
            self._arrived.synchronize()
        loss, correct = self._figures.tolist()
        return loss, correct


class Window:
    """The iterations of one learner since its last record; read when the record is made.

    The first iteration of a process, which may compile, counts for the images a second only where
    there is no other.
    """

    def __init__(self, learner: str, batch_size: int) -> None:
        self.learner = learner
        self.batch_size = batch_size
        self.distance: float | None = None  # for the next record
        self._readings: list[_Reading] = []
        self._last_step = 0
        self._first: float | None = None  # seconds of the first iteration of this process
        self._timed, self._busy = 0, 0.0  # the iterations of this window but for that one

    def add(self, step: int, result: StepResult, seconds: float) -> None:
        """Add iteration ``step``, which took ``seconds``."""
        self._readings.append(_Reading(result))
        self._last_step = step
        if self._first is None:
            self._first = seconds
        else:
            self._timed += 1
            self._busy += seconds

    def state(self) -> dict[str, Any]:
        """The open window as JSON."""
        figures = [reading.figures() for reading in self._readings]
        counted = {"figures": figures, "timed": self._timed, "busy": self._busy}
        return counted if self.distance is None else counted | {"distance": self.distance}

    def restore(self, state: Mapping[str, Any], step: int) -> None:
        """Continue the window that :meth:`state` gave after iteration ``step``."""
        self._readings = [
            _Reading(StepResult(*torch.tensor(figures, dtype=torch.float64)))
            for figures in state["figures"]
        ]
        self._last_step = step
        self._timed, self._busy = state["timed"], state["busy"]
        self.distance = state.get("distance")

    def check(self) -> None:
        """Raise TrainingDiverged, naming the iteration, if a loss is NaN or infinite."""
        first = self._last_step - len(self._readings) + 1
        for step, reading in enumerate(self._readings, first):
            loss, _ = reading.figures()
            if not math.isfinite(loss):
                raise TrainingDiverged(
                    f"the loss of the {self.learner} learner is {loss} at iteration {step}; "
                    "the checkpoints up to then are kept. A lower "
                    f"--learners.{self.learner}.lr usually helps"
                )

    def close(self) -> TrainingRecord | None:
        """Begin a new window; the record of this one, if any, without the state of the run."""
        if not self._readings:
            return None
        self.check()
        losses, correct = zip(*(reading.figures() for reading in self._readings), strict=True)
        images = len(losses) * self.batch_size
        timed, busy = (self._timed, self._busy) if self._timed else (1, self._first or 0.0)
        record = TrainingRecord(
            step=self._last_step,
            learner=self.learner,
            loss=sum(losses) / len(losses),
            accuracy=100 * sum(correct) / images,
            images_per_second=timed * self.batch_size / busy if busy > 0 else None,
            distance=self.distance,
        )
        self._readings, self._timed, self._busy, self.distance = [], 0, 0.0, None
        return record
