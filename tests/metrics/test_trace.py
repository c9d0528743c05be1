"""The file of a timeline."""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path

import pytest

from zipper_dist.activity import begin_iteration, doing
from zipper_dist.config.iterations import IterationRange
from zipper_dist.metrics.trace import read_events, traced


def iterate(path: Path, first: int, last: int, wanted: str) -> list[str]:
    """Some iterations, and an error in the last; what the user is told."""
    told: list[str] = []
    timeline = traced(IterationRange.parse(wanted), path, 3, "rank 3: a", told.append)
    with contextlib.suppress(ZeroDivisionError), timeline:
        for t in range(first, last + 1):
            begin_iteration(t)
            with doing("attack", learner="a"):
                time.sleep(1e-4)
        raise ZeroDivisionError
    return told


def test_the_file_is_a_chrome_trace(tmp_path: Path) -> None:
    path = tmp_path / "trace-3.json"
    assert iterate(path, 1, 5, "2:4") == []
    events = json.loads(path.read_text())["traceEvents"]
    names = [event for event in events if event["ph"] == "M" and event["name"] == "process_name"]
    assert [(event["pid"], event["args"]) for event in names] == [(3, {"name": "rank 3: a"})]
    complete = [event for event in events if event["ph"] == "X"]
    assert complete == read_events(path)
    assert [(e["name"], e["pid"], e["args"]) for e in complete] == [
        ("attack", 3, {"learner": "a", "iteration": t}) for t in (2, 3, 4)
    ]
    assert all(type(event[time]) is int for event in complete for time in ("ts", "dur"))
    assert all(100 <= event["dur"] < 1e6 for event in complete)


def test_a_run_that_is_continued_keeps_the_iterations_that_it_does_not_repeat(
    tmp_path: Path,
) -> None:
    path = tmp_path / "trace-3.json"
    iterate(path, 1, 6, "2:9")
    iterate(path, 5, 8, "2:9")
    assert [event["args"]["iteration"] for event in read_events(path)] == [2, 3, 4, 5, 6, 7, 8]
    was = path.read_bytes()
    iterate(path, 10, 12, "2:9")  # nothing to record
    iterate(path, 3, 4, "none")
    assert path.read_bytes() == was


@pytest.mark.parametrize("content", ["", "[]", '{"traceEvents": [{}]}', '{"traceEvents": 3}'])
def test_a_file_of_other_origin_is_replaced(tmp_path: Path, content: str) -> None:
    path = tmp_path / "trace-3.json"
    path.write_text(content)
    assert read_events(path) == []
    iterate(path, 1, 2, "1:1")
    assert len(read_events(path)) == 1


def test_a_file_that_cannot_be_written_is_told_and_ends_nothing(tmp_path: Path) -> None:
    path = tmp_path / "trace-3.json"
    path.mkdir()
    (told,) = iterate(path, 1, 3, "1:2")
    assert told.startswith(f"warning: {path}: the timeline cannot be written (")
