"""Names and paths are printed as they are, whatever a terminal library would make of them."""

from __future__ import annotations

import io
from pathlib import Path

from rich.table import Table

from zipper_dist.metrics.console import make_console
from zipper_dist.metrics.sinks import RunInfo
from zipper_dist.metrics.sinks.terminal import Terminal
from zipper_dist.metrics.tables import print_summary

NAME = "a[/bold]b[red]c :smile:"
SUMMARY = {
    "recipe": NAME,
    "steps": 3,
    "wall_seconds": 1.0,
    "evaluation_attack": {"norm": "linf", "eps": 0.1, "steps": 2},
    "final": {"images": 4, "learners": {NAME: {"clean": 50.0, "robust": 25.0}}},
    "best": None,
    "ranks": [
        {"rank": 0, "learners": [NAME], "busy_seconds": 1.0, "eval_seconds": 0.5}
        | {"wait_seconds": 0.0, "syncs": 1, "comm_bytes": 0}
    ],
}


def test_messages_and_cells_are_printed_as_they_are() -> None:
    written = io.StringIO()
    console = make_console(written, width=200)
    console.print(NAME)
    table = Table(NAME, title=NAME)
    table.add_row(NAME)
    console.print(table)
    assert written.getvalue().count(NAME) == 4


def test_a_summary_names_recipe_and_learners_as_they_are() -> None:
    written = io.StringIO()
    print_summary(SUMMARY, make_console(written, width=200))
    assert written.getvalue().count(NAME) == 3


def test_a_live_table_names_learners_as_they_are() -> None:
    written = io.StringIO()
    console = make_console(written, width=200)
    terminal = Terminal()
    terminal.open(RunInfo(directory=Path("run"), learners=[NAME], total_steps=9, console=console))
    console.print(terminal._table())
    terminal.note(f"saved in {NAME}")
    terminal.close()
    assert written.getvalue().count(NAME) == 2
