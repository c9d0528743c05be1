"""metrics.csv: a line for each record, as spreadsheets and data frames take it."""

import csv
import io
from pathlib import Path

from zipper_dist.checkpoint.files import write_atomically
from zipper_dist.metrics.records import Record
from zipper_dist.metrics.sinks import SINKS, RunInfo, Sink

FIRST = ["time", "step", "learner"]
"""The first columns; those of the figures follow as they come up."""


@SINKS.register("csv")
class Csv(Sink):
    """Appends to metrics.csv; a continued run drops records of iterations that are done again. A
    field that no record had before adds a column, for which the file is written anew."""

    path: Path

    def open(self, run: RunInfo) -> None:
        """Continue the file of the run directory, or begin it."""
        self.path = run.directory / "metrics.csv"
        self._columns = list(FIRST)
        rows = self._rows()
        kept = [r for r in rows if int(r["step"]) <= run.last_steps.get(r["learner"], -1)]
        self._write_anew(kept)

    def write(self, record: Record) -> None:
        """Write one line, or none of it and raise OSError."""
        if new := [name for name in record if name not in self._columns]:
            rows = self._rows()
            self._columns += new
            self._write_anew([*rows, record])
            return
        with self.path.open("a", newline="") as file:
            file.write(self._text([record]))

    def _rows(self) -> list[Record]:
        """The complete lines of the file, and its columns; none where it is absent or no such
        file."""
        if not self.path.exists():
            return []
        text = self.path.read_text(errors="replace")
        reader = csv.DictReader(io.StringIO(text[: text.rfind("\n") + 1]))
        columns = list(reader.fieldnames or [])
        if columns[: len(FIRST)] != FIRST:
            return []
        self._columns = columns
        return [row for row in reader if (row["step"] or "").isdigit() and None not in row.values()]

    def _write_anew(self, rows: list[Record]) -> None:
        header = dict(zip(self._columns, self._columns, strict=True))
        write_atomically(self.path, self._text([header, *rows]).encode())

    def _text(self, rows: list[Record]) -> str:
        content = io.StringIO()
        csv.DictWriter(content, self._columns, lineterminator="\n").writerows(rows)
        return content.getvalue()
