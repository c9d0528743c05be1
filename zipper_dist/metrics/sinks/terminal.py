"""The progress of a run on the terminal: a live table, or plain lines where there is none."""

import time

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from zipper_dist.metrics.records import Record
from zipper_dist.metrics.sinks import SINKS, RunInfo, Sink
from zipper_dist.metrics.tables import duration

PLAIN_LINE_SECONDS = 5.0


@SINKS.register("terminal")
class Terminal(Sink):
    """What the learners do, how fast, and how long it will take; nothing without a console."""

    def open(self, run: RunInfo) -> None:
        """Begin to show the run."""
        self._rows: dict[str, Record | None] = dict.fromkeys(run.learners)
        self._total, self._start_step = run.total_steps, run.start_step
        self._console = run.console or Console(quiet=True, force_terminal=False)
        self._evaluation: Record | None = None
        self._stage = ""
        self._began = self._last_line = time.monotonic()
        self._live = Live(console=self._console, transient=True, get_renderable=self._table)
        if self._console.is_terminal:
            self._live.start()

    def close(self) -> None:
        """Take the live table away."""
        self._live.stop()

    def note(self, text: str) -> None:
        """Print a line."""
        self._console.print(text, highlight=False, soft_wrap=True)

    def write(self, record: Record) -> None:
        """Show a record; as plain lines, every evaluation and the newest training records."""
        is_training = record["learner"] in self._rows
        if is_training:
            self._rows[record["learner"]] = record
        else:
            self._evaluation = record
        parts = [f"iteration {self._slowest()}/{self._total}"]
        for name, row in self._rows.items():
            if row:
                loss, accuracy, lr, rate = _cells(row)
                parts.append(f"{name} loss {loss} accuracy {accuracy} lr {lr} {rate} images/s")
        self._print_plainly(" | ".join(parts + self._facts()), now=not is_training)

    def stage(self, name: str, share: float) -> None:
        """Show how much of a stage is done."""
        self._stage = f"{name}: {100 * share:.0f} %"
        self._print_plainly(self._stage)

    def _print_plainly(self, line: str, now: bool = False) -> None:
        """Print a line unless there is a table, or the last line is too recent."""
        due = now or time.monotonic() - self._last_line >= PLAIN_LINE_SECONDS
        if due and not self._console.is_terminal:
            self._last_line = time.monotonic()
            self.note(line)

    def _slowest(self) -> int:
        return min(row["step"] if row else self._start_step for row in self._rows.values())

    def _facts(self) -> list[str]:
        """Pace of the slowest learner, γ, newest evaluation, and stage or seconds left."""
        done = self._slowest() - self._start_step
        rate = done / max(time.monotonic() - self._began, 1e-9)
        facts = [f"{rate:.2f} iterations/s"]
        gammas = [row["gamma"] for row in self._rows.values() if row and "gamma" in row]
        if gammas and len(self._rows) > 1:
            facts.append(f"γ {gammas[-1]:.3f}")
        if e := self._evaluation:
            scores = f"clean {e['clean']:.2f} %, robust {e['robust']:.2f} %"
            facts.append(f"global at {e['step']}: {scores}")
        if self._stage:
            facts.append(self._stage)
        elif done:
            facts.append(f"{duration((self._total - self._slowest()) / rate)} left")
        else:
            facts.append("time left unknown yet")
        return facts

    def _table(self) -> Group:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for heading in ("learner", "iteration", "loss", "accuracy", "lr", "images/s"):
            table.add_column(heading, justify="left" if heading == "learner" else "right")
        for name, row in self._rows.items():
            cells = [f"{row['step']}/{self._total}", *_cells(row)] if row else ["…"] * 5
            table.add_row(name, *cells)
        bar = ProgressBar(total=self._total, completed=self._slowest(), width=60)
        # The bar does not end its line, and what follows on it would be cut off.
        return Group(table, bar, Text("\n" + "  ".join(self._facts())))


def _cells(record: Record) -> list[str]:
    """Loss, accuracy, learning rate and images a second."""
    return [
        f"{record['loss']:.4f}",
        f"{record['accuracy']:.1f} %",
        f"{record['lr']:.4g}",
        f"{record['images_per_second']:.0f}",
    ]
