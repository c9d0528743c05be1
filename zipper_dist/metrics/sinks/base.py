"""What a sink is: it gets every record of a run, on rank 0."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from zipper_dist.metrics.records import Record


@dataclass(frozen=True)
class RunInfo:
    """The run that a sink is opened for.

    Attributes:
        directory: the run directory.
        learners: the base learners by name, in the order of the method.
        total_steps: iterations of the run.
        start_step: iterations done before this process began.
        last_steps: of each learner ("global" among them), the last iteration that is not going to
            be recorded again; empty where the run starts from iteration 1.
        console: where to write for a person; None: nowhere.
    """

    directory: Path
    learners: Sequence[str]
    total_steps: int
    start_step: int = 0
    last_steps: Mapping[str, int] = field(default_factory=dict)
    console: Console | None = None


class Sink:
    """Takes the records of a run. It is made without arguments, on rank 0 alone."""

    def open(self, run: RunInfo) -> None:
        """Begin; called once, before anything else."""

    def write(self, record: Record) -> None:
        """Take up a record (see :mod:`zipper_dist.metrics.records`)."""

    def note(self, text: str) -> None:
        """Take up a message for the person."""

    def stage(self, name: str, share: float) -> None:
        """Take up that ``share`` (0 … 1) of a stage after the training is done."""

    def close(self) -> None:
        """End; called once, also when the run fails."""
