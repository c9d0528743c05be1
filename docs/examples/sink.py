"""A metrics sink: evaluations of the global learner, as a table in the run directory."""

from __future__ import annotations

from pathlib import Path

from zipper_dist.metrics.records import Record
from zipper_dist.metrics.sinks import RunInfo, Sink


class Csv(Sink):
    """Appends iteration, clean and robust accuracy [%] to evaluations.csv."""

    path: Path

    def open(self, run: RunInfo) -> None:
        """Begin the file, or go on with it after the last evaluation that will not come again."""
        self.path = run.directory / "evaluations.csv"
        rows = self.path.read_text().splitlines()[1:] if self.path.exists() else []
        last = run.last_steps.get("global", 0)
        kept = [row for row in rows if int(row.partition(",")[0]) <= last]
        self.path.write_text("\n".join(["step,clean,robust", *kept]) + "\n")

    def write(self, record: Record) -> None:
        """Take up an evaluation; the records of base learners are left out."""
        if record["learner"] == "global":
            with self.path.open("a") as file:
                file.write(f"{record['step']},{record['clean']:.2f},{record['robust']:.2f}\n")
