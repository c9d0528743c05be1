"""Records: what a run reports while it goes on, a line of metrics.jsonl each."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

Record = dict[str, Any]
"""A record as JSON: the fields of a :class:`TrainingRecord`, or of an evaluation of θ_g (``step``,
``learner`` = "global", ``clean``, ``robust`` [%], ``seconds``)."""


@dataclass(frozen=True)
class WindowSummary:
    """The iterations of a learner since its last record: their last one, mean loss, accuracy on the
    minibatches as trained on [%], and images a second."""

    step: int
    learner: str
    loss: float
    accuracy: float
    images_per_second: float


@dataclass(frozen=True)
class TrainingRecord(WindowSummary):
    """A window of a base learner, and where the run is.

    Attributes:
        epoch: passes over the training set.
        lr: learning rate.
        gamma: γ, in a run of one or two learners: the mixing weight of the last one.
        weight: in a run of more learners, the mixing weight of this one.
        train_seconds: seconds of this rank's process in training, waiting included.
        wait_seconds: seconds of these in which it waited idly.
    """

    epoch: float
    lr: float
    gamma: float | None
    weight: float | None
    train_seconds: float
    wait_seconds: float

    def as_json(self) -> Record:
        """The fields that the run has."""
        return {name: value for name, value in asdict(self).items() if value is not None}
