"""A metrics sink: evaluations of the global learner, as a table in the run directory."""

from __future__ import annotations

from pathlib import Path

from zipper_dist.metrics.records import Record
from zipper_dist.metrics.sinks import RunInfo, Sink


class Csv(Sink):
    """Appends iteration, clean and robust accuracy [%] to evaluations.csv."""

    path: Path

    def open(self, run: RunInfo) -> None:
        """Begin the file, or go on with it."""
        self.path = run.directory / "evaluations.csv"
        if not self.path.exists():
            self.path.write_text("step,clean,robust\n")

    def write(self, record: Record) -> None:
        """Take up an evaluation; the records of base learners are left out."""
        if record["learner"] == "global":
            with self.path.open("a") as file:
                file.write(f"{record['step']},{record['clean']:.2f},{record['robust']:.2f}\n")
