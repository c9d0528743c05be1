"""The progress of a run on the terminal: a live table, or plain lines where there is none."""

from __future__ import annotations

import time

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from zipper_dist.metrics.records import Record
from zipper_dist.metrics.sinks import SINKS
from zipper_dist.metrics.sinks.base import RunInfo, Sink
from zipper_dist.metrics.tables import duration

PLAIN_LINE_SECONDS = 5.0


@SINKS.register("terminal")
class Terminal(Sink):
    """What the learners do, how fast, and how long it will take; nothing without a console."""

    _progress: _Progress | None = None

    def open(self, run: RunInfo) -> None:
        """Begin to show the run."""
        if run.console is not None:
            self._progress = _Progress(run, run.console)

    def write(self, record: Record) -> None:
        """Show a record."""
        if self._progress is not None:
            self._progress.update(record)

    def note(self, text: str) -> None:
        """Print a line."""
        if self._progress is not None:
            self._progress.note(text)

    def stage(self, name: str, share: float) -> None:
        """Show how much of a stage is done."""
        if self._progress is not None:
            self._progress.stage(name, share)

    def close(self) -> None:
        """Take the live table away."""
        if self._progress is not None:
            self._progress.stop()


class _Progress:
    """A run on a console."""

    def __init__(self, run: RunInfo, console: Console) -> None:
        self._rows: dict[str, Record | None] = dict.fromkeys(run.learners)
        self._total = run.total_steps
        self._start_step = run.start_step
        self._console = console
        self._evaluation: Record | None = None
        self._stage = ""
        self._began = time.monotonic()
        self._last_line = self._began
        self._live = (
            Live(get_renderable=self._render, console=console, refresh_per_second=4, transient=True)
            if console.is_terminal
            else None
        )
        if self._live is not None:
            self._live.start()

    def stop(self) -> None:
        if self._live is not None:
            self._live.stop()

    def note(self, text: str) -> None:
        self._console.print(text, highlight=False, soft_wrap=True)

    def update(self, record: Record) -> None:
        if record["learner"] in self._rows:
            self._rows[record["learner"]] = record
        else:
            self._evaluation = record
        if self._live is not None:
            return
        now = time.monotonic()
        if record["learner"] not in self._rows or now - self._last_line >= PLAIN_LINE_SECONDS:
            self._last_line = now
            self._console.print(self._plain_line(), highlight=False, soft_wrap=True)

    def stage(self, name: str, share: float) -> None:
        self._stage = f"{name}: {100 * share:.0f} %"
        now = time.monotonic()
        if self._live is None and now - self._last_line >= PLAIN_LINE_SECONDS:
            self._last_line = now
            self._console.print(self._stage, highlight=False)

    def _slowest(self) -> int:
        steps = [row["step"] if row else self._start_step for row in self._rows.values()]
        return min(steps)

    def _pace(self) -> tuple[float, float | None]:
        """Iterations a second of the slowest learner, and the seconds left if they are known."""
        done = self._slowest() - self._start_step
        rate = done / max(time.monotonic() - self._began, 1e-9)
        return rate, ((self._total - self._slowest()) / rate if done else None)

    def _facts(self) -> list[str]:
        rate, left = self._pace()
        facts = [f"{rate:.2f} iterations/s"]
        gammas = [row["gamma"] for row in self._rows.values() if row and "gamma" in row]
        if gammas and len(self._rows) > 1:
            facts.append(f"γ {gammas[-1]:.3f}")
        if self._evaluation is not None:
            e = self._evaluation
            facts.append(
                f"global at {e['step']}: clean {e['clean']:.2f} %, robust {e['robust']:.2f} %"
            )
        if self._stage:
            facts.append(self._stage)
        else:
            facts.append(f"{duration(left)} left" if left is not None else "time left unknown yet")
        return facts

    def _plain_line(self) -> str:
        parts = [f"iteration {self._slowest()}/{self._total}"]
        for name, row in self._rows.items():
            if row:
                parts.append(
                    f"{name} loss {row['loss']:.4f} accuracy {row['accuracy']:.1f} % "
                    f"lr {row['lr']:.4g} {row['images_per_second']:.0f} images/s"
                )
        return " | ".join(parts + self._facts())

    def _render(self) -> Group:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for heading in ("learner", "iteration", "loss", "accuracy", "lr", "images/s"):
            table.add_column(heading, justify="left" if heading == "learner" else "right")
        for name, row in self._rows.items():
            cells = ["…"] * 5
            if row:
                cells = [
                    f"{row['step']}/{self._total}",
                    f"{row['loss']:.4f}",
                    f"{row['accuracy']:.1f} %",
                    f"{row['lr']:.4g}",
                    f"{row['images_per_second']:.0f}",
                ]
            table.add_row(name, *cells)
        bar = ProgressBar(total=self._total, completed=self._slowest(), width=60)
        # The bar does not end its line, and what follows on it would be cut off.
        return Group(table, bar, Text("\n" + "  ".join(self._facts())))
