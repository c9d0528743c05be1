"""Rates and the time left, from records with given times."""

from __future__ import annotations

import io
import itertools
import re
from pathlib import Path

import pytest

from zipper_dist.metrics.console import make_console
from zipper_dist.metrics.pace import Pace
from zipper_dist.metrics.records import Record
from zipper_dist.metrics.sinks import RunInfo
from zipper_dist.metrics.sinks.terminal import Terminal

Timed = list[tuple[float, Record]]


def lines_of(records: Timed, learners: list[str], total: int) -> list[str]:
    """What the terminal says of the pace of a run whose records come at these times, after each."""
    at, written = 0.0, io.StringIO()
    terminal = Terminal(clock=lambda: at)
    console = make_console(written, width=500)
    terminal.open(RunInfo(Path("run"), learners, total_steps=total, console=console))
    for at, record in records:  # noqa: B007
        terminal.write(record)
    terminal.close()
    return [line for line in written.getvalue().splitlines() if line.startswith("iteration ")]


def training(step: int, trained: float, images: float, learner: str = "natural") -> Record:
    figures = {"loss": 1.0, "accuracy": 50.0, "lr": 0.1, "images_per_second": images}
    return {"step": step, "learner": learner, "train_seconds": trained, **figures}


def left_of(line: str) -> int | None:
    """The seconds that a line says are left."""
    found = re.search(r"(?:(\d+):)?(\d+):(\d\d) left", line)
    return found and 3600 * int(found[1] or 0) + 60 * int(found[2]) + int(found[3])


def one_process(steps: int, compiling: float, a_step: float, evaluation: float) -> Timed:
    """A run that compiles first, has a record at 10 iterations, and an evaluation at 50."""
    records, now, trained = [], compiling, compiling
    for step in range(10, steps + 1, 10):
        now, trained = now + 10 * a_step, trained + 10 * a_step
        records.append((now, training(step, trained, 0.004 if step == 10 else 5.0)))
        if step % 50 == 0:
            now += evaluation
            about = {"clean": 90.0, "robust": 50.0, "seconds": evaluation}
            records.append((now, {"step": step, "learner": "global", **about}))
    return records


def test_the_time_left_shrinks_and_comes_true() -> None:
    records = one_process(500, compiling=600.0, a_step=1.0, evaluation=5.0)
    end = records[-1][0]
    lines = lines_of(records, ["natural"], 500)
    assert len(lines) == len(records)
    lefts = [left_of(line) for line in lines]
    assert lefts[0] is None
    # From the first evaluation on, which nobody can know before; until then it is 10 % too low.
    for (at, _), left in list(zip(records, lefts, strict=True))[1:]:
        assert left == pytest.approx(end - at, rel=0.15, abs=6)
    known = [left for left in lefts[6:] if left is not None]
    assert len(known) == len(lines) - 6
    assert all(later <= earlier for earlier, later in itertools.pairwise(known))


def test_the_time_left_follows_a_change_of_pace() -> None:
    pace = Pace(1000)
    for step in range(0, 500, 10):
        pace.observe(step, step, step)
    assert pace.left == pytest.approx(510)
    for more in range(1, 50):
        pace.observe(490 + 20 * more, 490 + more, 490 + 20 * more)
    assert pace.rate == pytest.approx(1 / 20)
    assert pace.left == pytest.approx((510 - 49) * 20)


def test_evaluation_beside_the_training_costs_no_time() -> None:
    """Rank 0 trains, evaluates and waits; rank 1 trains all the time, and its records matter."""
    records = []
    for step in range(10, 110, 10):
        records.append((step - 4.0, training(step, 0.5 * step, 9.0)))
        records.append((float(step), training(step, float(step), 3.0, "adversarial")))
        about = {"clean": 90.0, "robust": 50.0, "seconds": 4.0}
        records.append((step + 5.0, {"step": step, "learner": "global", **about}))
    lines = lines_of(records, ["natural", "adversarial"], 200)
    assert left_of(lines[-1]) == 100


def test_no_rate_in_the_first_record_and_small_ones_are_not_zero() -> None:
    records = one_process(30, compiling=600.0, a_step=40.0, evaluation=0.0)
    first, second, third = lines_of(records, ["natural"], 30)
    assert "it/s" not in first
    assert "time left unknown yet" in first
    assert " | 0.025 it/s | " in second
    assert left_of(second) == 400
    assert left_of(third) == 0


def test_nothing_sensible_is_no_figure() -> None:
    pace = Pace(100)
    assert (pace.rate, pace.left) == (None, None)
    for _ in range(2):
        pace.observe(1.0, 10, 0.5)
    assert (pace.rate, pace.left) == (None, None)
    pace.observe(1.0, 20, 0.5)
    assert (pace.rate, pace.left) == (None, None)
