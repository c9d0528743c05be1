"""The progress of an evaluation on the terminal: a live bar, or plain lines where there is none."""

from __future__ import annotations

import time

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from zipper_dist.metrics.sinks.terminal import PLAIN_LINE_SECONDS
from zipper_dist.metrics.tables import duration


class NullProgress:
    """Shows nothing: the display of every rank but 0."""

    def __enter__(self) -> NullProgress:
        return self

    def __exit__(self, *exception: object) -> None:
        return None

    def expect(self, costs: dict[str, int]) -> None:
        """Ignore what is to come."""

    def stage(self, address: str, name: str) -> None:
        """Ignore the stage."""

    def tick(self, cost: int) -> None:
        """Ignore the work."""

    def note(self, text: str) -> None:
        """Ignore the note."""


class Bar(NullProgress):
    """How much of the work of this rank is done, and how long the rest will take.

    The rest is at most what is shown: what breaks early is not attacked to the end.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._began = self._last_line = time.monotonic()
        self._costs: dict[str, int] = {}
        self._finished = self._within = 0
        self._address, self._name = "", ""
        columns = (
            TextColumn("{task.description}"),
            BarColumn(40),
            TextColumn("{task.fields[facts]}"),
        )
        self._bar = (
            Progress(*columns, console=console, transient=True) if console.is_terminal else None
        )
        self._task: TaskID | None = None

    def __enter__(self) -> Bar:
        if self._bar is not None:
            self._bar.start()
            self._task = self._bar.add_task("", total=1.0, facts="")
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def expect(self, costs: dict[str, int]) -> None:
        """Say what each stage, by its address, will take at most."""
        self._costs = dict(costs)
        self._began = time.monotonic()

    def stage(self, address: str, name: str) -> None:
        """Begin a stage; the one before is done."""
        self._finished += self._costs.pop(self._address, 0)
        self._address, self._name, self._within = address, name, 0

    def tick(self, cost: int) -> None:
        """Say that some work is done."""
        self._within = min(self._within + cost, self._costs.get(self._address, 0))
        now = time.monotonic()
        if self._bar is None and now - self._last_line < PLAIN_LINE_SECONDS:
            return
        self._last_line = now
        share, facts = self._state(now)
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=share, description=self._name, facts=facts)
        else:
            self._console.print(f"{self._name}: {facts}", highlight=False)

    def _state(self, now: float) -> tuple[float, str]:
        done = self._finished + self._within
        total = self._finished + sum(self._costs.values())
        share = done / max(1, total)
        if share == 0:
            return share, "time left unknown yet"
        left = (now - self._began) * (1 - share) / share
        return share, f"{100 * share:.0f} % of all attacks, {duration(left)} left"

    def note(self, text: str) -> None:
        """Say something once."""
        self._console.print(text, highlight=False)
