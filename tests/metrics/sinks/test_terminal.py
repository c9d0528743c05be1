"""What the terminal shows before the first record, and how wide it gets."""

from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console

from zipper_dist.metrics.console import make_console
from zipper_dist.metrics.sinks import RunInfo
from zipper_dist.metrics.sinks.terminal import Terminal

WIDEST = {
    "step": 123_456,
    "train_seconds": 1e6,
    "loss": 1234.5678,
    "accuracy": 100.0,
    "lr": 1.234e-05,
    "images_per_second": 123_456.0,
    "gamma": 0.123,
}
LEARNERS = ["natural", "adversarial-linf"]


def opened(console: Console) -> Terminal:
    times = iter(range(0, 1000, 7))
    terminal = Terminal(clock=lambda: float(next(times)))
    terminal.open(RunInfo(Path("run"), LEARNERS, total_steps=987_654, console=console))
    return terminal


def test_plain_lines_begin_before_the_first_record_and_fit_120_columns() -> None:
    written = io.StringIO()
    terminal = opened(make_console(written, width=300))
    assert written.getvalue() == "training from iteration 0 to 987654 …\n"
    evaluation = {"step": 123_456, "learner": "global", "clean": 100.0, "robust": 100.0}
    for learner in LEARNERS:
        terminal.write(WIDEST | {"step": 100_000, "train_seconds": 9e5, "learner": learner})
    terminal.write(evaluation)
    for learner in LEARNERS:
        terminal.write(WIDEST | {"learner": learner})
    terminal.close()
    lines = written.getvalue().splitlines()
    assert "0.235 it/s | γ 0.123 | global at 123456" in lines[-3], lines
    assert lines[-3].endswith("1023:25:37 left")
    assert lines[-2:] == [
        "  natural           loss 1234.5678  accuracy 100.0 %  lr 1.234e-05  123456 images/s",
        "  adversarial-linf  loss 1234.5678  accuracy 100.0 %  lr 1.234e-05  123456 images/s",
    ]
    assert max(map(len, lines)) <= 120


def test_a_live_table_tells_of_the_first_iterations() -> None:
    written = io.StringIO()
    console = Console(file=written, force_terminal=True, width=120)
    opened(console).close()
    assert "the first iterations, which may compile code …" in written.getvalue()
    assert "training from" not in written.getvalue()
