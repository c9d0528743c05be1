"""Names and paths are printed as they are, whatever a terminal library would make of them."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table
from rich.text import Text

from zipper_dist.metrics.console import PLAIN_WIDTH, make_console, say
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


def test_plain_lines_fit_and_keep_words_whole() -> None:
    """With and without a style; also a path longer than a line, and where COLUMNS says more."""
    path = "/" + 40 * "a-long-name/"
    text = f"written:  {NAME} {path} {60 * 'and-so on '}"
    for given in (text, Text(text, "bold red")):
        written = io.StringIO()
        say(make_console(written), given, indent=4)
        lines = written.getvalue().splitlines()
        assert lines[0] == f"written:  {NAME}"
        assert lines[1] == f"    {path}"
        assert len(lines) > 5
        assert all(len(line) <= PLAIN_WIDTH for line in lines if path not in line)
        assert all(line.startswith("    ") for line in lines[1:])
        assert " ".join(written.getvalue().split()) == " ".join(text.split())


def test_a_plain_table_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    written = io.StringIO()
    table = Table(*(f"column {number}" for number in range(20)))
    table.add_row(*20 * ["some words in a cell"])
    make_console(written).print(table)
    assert max(map(len, written.getvalue().splitlines())) <= PLAIN_WIDTH


def test_a_terminal_breaks_lines_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.StringIO()
    console = Console(file=written, force_terminal=True, width=40, markup=False)
    say(console, 60 * "and so on ")
    assert len(written.getvalue().splitlines()) == 1
