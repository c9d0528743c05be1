"""Where the metrics of a run go: a file here for each sink.

A new one is a class derived from :class:`Sink`, registered by name in a file of this package, or
given from outside: ``--metrics jsonl terminal my_package.module:MySink``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from torch import Tensor

from zipper_dist.errors import UserError
from zipper_dist.metrics.records import Record
from zipper_dist.registry import Registry


@dataclass(frozen=True)
class RunInfo:
    """The run that a sink is opened for."""

    directory: Path
    learners: Sequence[str]
    total_steps: int
    start_step: int = 0  # iterations up to here are done already
    last_steps: Mapping[str, int] = field(default_factory=dict)
    """Of each learner, and of "global", the last iteration that will not be recorded again."""
    console: Console | None = None  # where to show progress, if anywhere
    options: Mapping[str, Any] = field(default_factory=dict)
    """The options of the run, by their dotted names."""


class Sink:
    """Takes the records of a run. It is made without arguments, on rank 0 alone."""

    def open(self, run: RunInfo) -> None:
        """Begin; called once, before anything else."""

    def write(self, record: Record) -> None:
        """Take a record (see :mod:`zipper_dist.metrics.records`)."""

    def note(self, text: str) -> None:
        """Take a message for the user."""

    def stage(self, name: str, share: float) -> None:
        """Take the progress (0 … 1) of a stage after the training."""

    def picture(self, name: str, step: int, pixels: Tensor) -> None:
        """Take a picture, uint8 (C, H, W), such as of adversarial examples at a validation. One
        for which this raises does not come again."""

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Take what summary.json says, once the run is complete."""

    def close(self) -> None:
        """End; called once, also when the run fails."""


SINKS: Registry[type[Sink]] = Registry("metrics sink", "zipper_dist.metrics.sinks")


def scalars(record: Record) -> dict[str, float]:
    """The figures of a record, by name."""
    about = ("step", "learner", "time")
    return {k: float(v) for k, v in record.items() if k not in about and not isinstance(v, str)}


def final_scores(summary: Mapping[str, Any]) -> dict[str, float]:
    """The table of summary.json: ``final/LEARNER/clean`` and the like [%]."""
    learners = summary["final"]["learners"].items()
    return {f"final/{name}/{k}": float(v) for name, scores in learners for k, v in scores.items()}


def make_sinks(names: Sequence[str], option: str = "--metrics") -> list[Sink]:
    """The sinks of these names, in order; a name may be several, separated by commas."""
    sinks = []
    for name in (part.strip() for given in names for part in given.split(",")):
        kind = SINKS.find(name, option)
        if not (isinstance(kind, type) and issubclass(kind, Sink)):
            raise UserError(f"{option} {name}: is not a class derived from {__name__}.Sink")
        sinks.append(kind())
    return sinks
