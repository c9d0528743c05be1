"""Records: what a run reports while it goes on, a line of metrics.jsonl each."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

Record = dict[str, Any]
"""A record as JSON: the fields of a :class:`TrainingRecord`, or of an evaluation of θ_g (``step``,
``learner`` = "global", ``clean``, ``robust`` [%], ``seconds``)."""


@dataclass(frozen=True)
class TrainingRecord:
    """The iterations of a base learner since its last record, and the state of the run.

    ``step``: the last iteration; ``loss``: mean; ``accuracy``: on the minibatches as trained on
    [%]; ``epoch``: passes over the training set; ``gamma``: γ, the mixing weight of the last
    learner, in a run of one or two; ``weight``: the mixing weight of this one in a run of more;
    ``train_seconds``: of this rank in training, of which it waited idly for ``wait_seconds``.
    """

    step: int
    learner: str
    loss: float
    accuracy: float
    images_per_second: float
    epoch: float | None = None
    lr: float | None = None
    gamma: float | None = None
    weight: float | None = None
    train_seconds: float | None = None
    wait_seconds: float | None = None

    def as_json(self) -> Record:
        """The fields that are not None."""
        return {name: value for name, value in asdict(self).items() if value is not None}
