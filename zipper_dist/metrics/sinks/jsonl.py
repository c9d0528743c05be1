"""metrics.jsonl: one JSON object a line, flushed as it happens."""

import json
from pathlib import Path

from zipper_dist.checkpoint.files import write_atomically
from zipper_dist.metrics.records import Record
from zipper_dist.metrics.sinks import SINKS, RunInfo, Sink


@SINKS.register("jsonl")
class JsonLines(Sink):
    """Appends to metrics.jsonl; a continued run drops records of iterations that are done again,
    and an incomplete last line."""

    path: Path

    def open(self, run: RunInfo) -> None:
        """Continue the file of the run directory, or begin it."""
        self.path = run.directory / "metrics.jsonl"
        if not self.path.exists():
            return
        kept = []
        for line in self.path.read_text().splitlines():
            try:
                record = json.loads(line)
            except ValueError:
                continue
            if record["step"] <= run.last_steps.get(record["learner"], -1):
                kept.append(line + "\n")
        write_atomically(self.path, "".join(kept).encode())

    def write(self, record: Record) -> None:
        """Write one line."""
        with self.path.open("a") as file:
            file.write(json.dumps(record) + "\n")
