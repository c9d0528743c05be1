"""The progress of a run on the terminal: a live table, or plain lines where there is none."""

import time
from collections.abc import Callable

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from zipper_dist.metrics.console import announce
from zipper_dist.metrics.pace import Pace
from zipper_dist.metrics.records import Record
from zipper_dist.metrics.sinks import SINKS, RunInfo, Sink
from zipper_dist.metrics.tables import duration

PLAIN_LINE_SECONDS = 5.0


@SINKS.register("terminal")
class Terminal(Sink):
    """What the learners do, how fast, and how long it will take; nothing without a console."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock  # [s]

    def open(self, run: RunInfo) -> None:
        """Begin to show the run."""
        self._rows: dict[str, Record | None] = dict.fromkeys(run.learners)
        self._warm: set[str] = set()  # learners that have had a record before their newest
        self._pace = Pace(run.total_steps)
        self._total, self._start_step = run.total_steps, run.start_step
        self._console = run.console or Console(quiet=True, force_terminal=False)
        self._evaluation: Record | None = None
        self._stage = ""
        self._last_line = self._clock()
        self._live = Live(console=self._console, transient=True, get_renderable=self._table)
        if self._console.is_terminal:
            self._live.start()
        else:
            steps = f"from iteration {run.start_step} to {run.total_steps}"
            announce(self._console, f"training {steps} …")

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
            if self._rows[record["learner"]] is not None:
                self._warm.add(record["learner"])
            self._rows[record["learner"]] = record
            self._observe()
        else:
            self._evaluation = record
            self._pace.evaluated()
        lines = [" | ".join([f"iteration {self._slowest()}/{self._total}", *self._facts()])]
        width = max(map(len, self._rows))
        for name, row in self._rows.items():
            if row:
                loss, accuracy, lr, rate = self._cells(row)
                figures = f"loss {loss}  accuracy {accuracy}  lr {lr}  {rate} images/s"
                lines.append(f"  {name:{width}}  {figures}")
        self._print_plainly("\n".join(lines), now=not is_training)

    def stage(self, name: str, share: float) -> None:
        """Show how much of a stage is done."""
        self._stage = f"{name}: {100 * share:.0f} %"
        self._print_plainly(self._stage)

    def _print_plainly(self, text: str, now: bool = False) -> None:
        """Print lines unless there is a table, or the last ones are too recent."""
        due = now or self._clock() - self._last_line >= PLAIN_LINE_SECONDS
        if due and not self._console.is_terminal:
            self._last_line = self._clock()
            self.note(text)

    def _slowest(self) -> int:
        return min(row["step"] if row else self._start_step for row in self._rows.values())

    def _observe(self) -> None:
        """Bring the pace up to date once all learners have a record."""
        rows = [row for row in self._rows.values() if row]
        if len(rows) == len(self._rows):
            # Of ranks that train at the same time, the one that evaluates counts less time for it.
            trained = max(row.get("train_seconds", 0.0) for row in rows)
            self._pace.observe(self._clock(), self._slowest(), trained)

    def _facts(self) -> list[str]:
        """Pace of the slowest learner, γ, newest evaluation, and stage or time left."""
        rate, left = self._pace.rate, self._pace.left
        facts = [] if rate is None else [f"{_number(rate)} it/s"]
        gammas = [row["gamma"] for row in self._rows.values() if row and "gamma" in row]
        if gammas and len(self._rows) > 1:
            facts.append(f"γ {gammas[-1]:.3f}")
        if e := self._evaluation:
            scores = f"clean {e['clean']:.2f} %, robust {e['robust']:.2f} %"
            facts.append(f"global at {e['step']}: {scores}")
        if self._stage:
            facts.append(self._stage)
        elif left is not None:
            facts.append(f"{duration(left)} left")
        elif any(self._rows.values()):
            facts.append("time left unknown yet")
        else:
            facts.append("the first iterations, which may compile code …")
        return facts

    def _table(self) -> Group:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for heading in ("learner", "iteration", "loss", "accuracy", "lr", "images/s"):
            table.add_column(heading, justify="left" if heading == "learner" else "right")
        for name, row in self._rows.items():
            cells = [f"{row['step']}/{self._total}", *self._cells(row)] if row else ["…"] * 5
            table.add_row(name, *cells)
        bar = ProgressBar(total=self._total, completed=self._slowest(), width=60)
        # The bar does not end its line, and what follows on it would be cut off.
        return Group(table, bar, Text("\n" + "  ".join(self._facts())))

    def _cells(self, record: Record) -> list[str]:
        """Loss, accuracy, learning rate and images a second, the last not of the first record."""
        images = record.get("images_per_second")
        return [
            f"{record['loss']:.4f}",
            f"{record['accuracy']:.1f} %",
            f"{record['lr']:.4g}",
            _number(images) if images and record["learner"] in self._warm else "…",
        ]


def _number(rate: float) -> str:
    """A rate, with decimals where it is small."""
    return f"{rate:.0f}" if rate >= 100 else f"{rate:.3g}"
