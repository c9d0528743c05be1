"""metrics.csv, as it is written and continued."""

from __future__ import annotations

import csv
from pathlib import Path

from zipper_dist.metrics.records import Record
from zipper_dist.metrics.sinks import RunInfo
from zipper_dist.metrics.sinks.csv import Csv

RECORDS: list[Record] = [
    {"time": 1.5, "step": 10, "learner": "natural", "loss": 0.25},
    {"time": 2.5, "step": 10, "learner": "adversarial", "loss": 0.5},
    {"time": 3.5, "step": 10, "learner": "global", "clean": 90.0, "robust@l2:0.5": 40.0},
    {"time": 4.5, "step": 20, "learner": "natural", "loss": 0.125},
    {"time": 5.5, "step": 20, "learner": "global", "clean": 91.0, "constant": True},
]


def rows(directory: Path) -> list[dict[str, str]]:
    """The lines of the file, without the cells that are empty."""
    with (directory / "metrics.csv").open(newline="") as file:
        return [{k: v for k, v in row.items() if v} for row in csv.DictReader(file)]


def written(directory: Path) -> list[dict[str, str]]:
    sink = Csv()
    sink.open(RunInfo(directory, ["natural", "adversarial"], 100))
    for record in RECORDS:
        sink.write(record)
    sink.close()
    return [{name: str(value) for name, value in record.items()} for record in RECORDS]


def test_every_record_is_a_line_with_its_own_columns(tmp_path: Path) -> None:
    assert written(tmp_path) == rows(tmp_path)
    first = (tmp_path / "metrics.csv").read_text().splitlines()[0]
    assert first == "time,step,learner,loss,clean,robust@l2:0.5,constant"


def test_a_continued_run_drops_what_comes_again_and_half_a_line(tmp_path: Path) -> None:
    expected = written(tmp_path)
    with (tmp_path / "metrics.csv").open("a") as file:
        file.write("4.5,20,natural,0.1")
    sink = Csv()
    last = {"natural": 20, "adversarial": 10, "global": 10}
    sink.open(RunInfo(tmp_path, ["natural", "adversarial"], 100, last_steps=last))
    assert rows(tmp_path) == expected[:4]
    sink.write(RECORDS[4])
    assert rows(tmp_path) == expected


def test_a_run_that_starts_over_begins_a_new_file(tmp_path: Path) -> None:
    written(tmp_path)
    Csv().open(RunInfo(tmp_path, ["natural"], 100, last_steps={"natural": 0, "global": 0}))
    assert rows(tmp_path) == []
