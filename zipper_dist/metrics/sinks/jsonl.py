"""metrics.jsonl: one JSON object a line, flushed as it happens."""

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

from zipper_dist.checkpoint.files import UNUSED, set_aside, write_atomically
from zipper_dist.metrics.records import Record
from zipper_dist.metrics.sinks import SINKS, RunInfo, Sink


@SINKS.register("jsonl")
class JsonLines(Sink):
    """Appends to metrics.jsonl; a continued run drops records of iterations that are done again,
    and lines that are none of its records, such as an incomplete last one."""

    path: Path

    def open(self, run: RunInfo) -> None:
        """Continue the file of the run directory, or begin it; what cannot be read there, such as a
        directory, gets another name, as it is no reason not to train."""
        self.path = run.directory / "metrics.jsonl"
        try:
            lines = self.path.read_bytes().split(b"\n")
        except FileNotFoundError:
            return
        except OSError as error:
            set_aside(self.path)
            if run.console is not None:
                said = f"{self.path} cannot be read ({error.strerror}): begun anew"
                kept_as = f"what was there is kept as {self.path.name}{UNUSED}"
                run.console.print(f"warning: {said}; {kept_as}", highlight=False, markup=False)
            return
        kept = [line + b"\n" for line in lines if _is_record(line, run.last_steps)]
        write_atomically(self.path, b"".join(kept))

    def write(self, record: Record) -> None:
        """Write one line, or none of it and raise OSError."""
        size = self.path.stat().st_size if self.path.exists() else 0
        try:
            with self.path.open("a") as file:
                file.write(json.dumps(record) + "\n")
        except OSError:
            with contextlib.suppress(OSError):
                os.truncate(self.path, size)
            raise


def _is_record(line: bytes, last_steps: Mapping[str, int]) -> bool:
    """Whether the line is a record of an iteration up to the last of its learner."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return False
    if not isinstance(record, dict):
        return False
    step, learner = record.get("step"), record.get("learner")
    return type(step) is int and isinstance(learner, str) and step <= last_steps.get(learner, -1)
