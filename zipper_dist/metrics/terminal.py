"""The progress of a run on the terminal: a live table, or plain lines where there is none."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Any, Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

PLAIN_LINE_SECONDS = 5.0

Record = dict[str, Any]
"""A line of metrics.jsonl."""


class Display(Protocol):
    """Shows a run to a person."""

    def update(self, record: Record) -> None:
        """Take up a record."""

    def stage(self, name: str, share: float) -> None:
        """Say that ``share`` (0 … 1) of a stage after the training is done."""

    def note(self, text: str) -> None:
        """Say something once."""


def duration(seconds: float) -> str:
    """``seconds`` as 1:23:45 or 12:34."""
    whole = max(0, round(seconds))
    hours, rest = divmod(whole, 3600)
    head = f"{hours}:{rest // 60:02}" if hours else f"{rest // 60}"
    return f"{head}:{rest % 60:02}"


class NullDisplay:
    """Shows nothing: the display of every rank but 0."""

    def __enter__(self) -> NullDisplay:
        return self

    def __exit__(self, *exception: object) -> None:
        return None

    def update(self, record: Record) -> None:
        """Ignore the record."""

    def stage(self, name: str, share: float) -> None:
        """Ignore the stage."""

    def note(self, text: str) -> None:
        """Ignore the note."""


class Progress:
    """What both learners do, how fast, and how long it will take.

    Args:
        learners: their names, a row each.
        total_steps: iterations of the run.
        start_step: iterations done before this process began.
        console: where to write.
    """

    def __init__(
        self, learners: list[str], total_steps: int, start_step: int, console: Console
    ) -> None:
        self._rows: dict[str, Record | None] = dict.fromkeys(learners)
        self._total = total_steps
        self._start_step = start_step
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

    def __enter__(self) -> Progress:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def note(self, text: str) -> None:
        """Say something once."""
        self._console.print(text, highlight=False, soft_wrap=True)

    def update(self, record: Record) -> None:
        """Take up a record of metrics.jsonl."""
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
        """Say that ``share`` (0 … 1) of a stage after the training is done."""
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
        gammas = [row["gamma"] for row in self._rows.values() if row]
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
