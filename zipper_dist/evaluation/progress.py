"""The progress of an evaluation on the terminal: a live bar, or plain lines where there is none."""

from __future__ import annotations

import time
from collections.abc import Mapping

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from zipper_dist.metrics.sinks.terminal import PLAIN_LINE_SECONDS
from zipper_dist.metrics.tables import duration


class Display:
    """How much of the work of this rank is done, and how long the rest will take at most.

    ``console``: where to show it; None: nowhere.
    """

    def __init__(self, console: Console | None) -> None:
        self._console = console
        self._began = self._last_line = time.monotonic()
        self._costs: dict[str, int] = {}
        self._finished = self._within = 0
        self._address, self._name = "", ""
        self._bar = Progress(
            TextColumn("{task.description}"), BarColumn(40), TextColumn("{task.fields[facts]}"),
            console=console, transient=True, disable=console is None or not console.is_terminal,
        )  # fmt: skip
        self._task = self._bar.add_task("", total=1.0, facts="")

    def __enter__(self) -> Display:
        self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.stop()

    def note(self, text: str) -> None:
        """Say something once."""
        if self._console is not None:
            self._console.print(text, highlight=False)

    def expect(self, costs: Mapping[str, int]) -> None:
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
        if self._bar.disable and now - self._last_line < PLAIN_LINE_SECONDS:
            return
        self._last_line = now
        total = self._finished + sum(self._costs.values())
        share = (self._finished + self._within) / max(1, total)
        facts = "time left unknown yet"
        if share > 0:
            left = (now - self._began) * (1 - share) / share
            facts = f"{100 * share:.0f} % of all attacks, {duration(left)} left"
        self._bar.update(self._task, completed=share, description=self._name, facts=facts)
        if self._bar.disable:
            self.note(f"{self._name}: {facts}")
