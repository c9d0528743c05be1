"""metrics.jsonl, as it is written and continued."""

from __future__ import annotations

import io
import json
import resource
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from zipper_dist.metrics.sinks import RunInfo
from zipper_dist.metrics.sinks.jsonl import JsonLines

ALL = {"natural": 30, "adversarial": 20, "global": 25}


def opened(
    directory: Path, last_steps: Mapping[str, int], console: Console | None = None
) -> JsonLines:
    """The sink of a run that continues after ``last_steps``."""
    sink, learners = JsonLines(), ["natural", "adversarial"]
    sink.open(RunInfo(directory, learners, 100, last_steps=last_steps, console=console))
    return sink


RECORDS = [
    {"step": 10, "learner": "natural"},
    {"step": 10, "learner": "adversarial"},
    {"step": 20, "learner": "natural"},
    {"step": 15, "learner": "global", "clean": 90.0},
    {"step": 20, "learner": "adversarial"},
    {"step": 30, "learner": "natural"},
    {"step": 25, "learner": "global", "clean": 91.0},
]


def write_records(directory: Path, tail: str = "") -> Path:
    """The file that a run leaves behind which ends with ``tail``."""
    sink = opened(directory, {})
    for record in RECORDS:
        sink.write(record)
    with sink.path.open("a") as file:
        file.write(tail)
    return sink.path


def records_in(path: Path) -> list[dict[str, object]]:
    content = path.read_text()
    assert content == "" or content.endswith("\n")
    return [json.loads(line) for line in content.splitlines()]


def test_records_are_on_disk_at_once_a_line_each(tmp_path: Path) -> None:
    path = write_records(tmp_path)
    assert path == tmp_path / "metrics.jsonl"
    assert records_in(path) == RECORDS


def test_what_will_be_recorded_again_is_dropped(tmp_path: Path) -> None:
    path = write_records(tmp_path)
    sink = opened(tmp_path, {"natural": 20, "adversarial": 17, "global": 24})
    assert records_in(path) == [RECORDS[i] for i in (0, 1, 2, 3)]
    sink.write({"step": 18, "learner": "adversarial"})
    assert records_in(path)[-1] == {"step": 18, "learner": "adversarial"}


def test_the_record_of_the_last_step_itself_is_kept(tmp_path: Path) -> None:
    path = write_records(tmp_path)
    opened(tmp_path, ALL)
    assert records_in(path) == RECORDS


@settings(deadline=None, max_examples=50)
@given(data=st.data())
def test_an_incomplete_last_line_is_dropped(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    # The last line as a crash may leave it: cut anywhere.
    line = json.dumps({"step": 1, "learner": "natural", "loss": 0.25})
    length = data.draw(st.integers(0, len(line) - 1))
    path = write_records(tmp_path_factory.mktemp("run"), line[:length])
    sink = opened(path.parent, ALL)
    assert records_in(path) == RECORDS
    sink.write({"step": 40, "learner": "natural"})
    assert records_in(path) == [*RECORDS, {"step": 40, "learner": "natural"}]


def test_a_run_that_starts_over_keeps_nothing(tmp_path: Path) -> None:
    path = write_records(tmp_path, '{"st')
    opened(tmp_path, {})
    assert records_in(path) == []


def test_there_is_no_file_without_a_record(tmp_path: Path) -> None:
    opened(tmp_path, {"natural": 1})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "line",
    [
        *(b"{}", b"[]", b"3", b"null", b'"step"', b"\xff\xfe\x00garbage", b"[" * 100_000),
        *(b'{"step": "3", "learner": "natural"}', b'{"step": 3, "learner": ["natural"]}'),
        *(b'{"step": true, "learner": "natural"}', b'{"step": 3}', b'{"step": 3, "learner": "x"}'),
    ],
)
def test_lines_that_are_no_records_are_dropped(tmp_path: Path, line: bytes) -> None:
    path = write_records(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(line + b"\n" + whole + line + b"\n\n" + line)
    opened(tmp_path, ALL)
    assert path.read_bytes() == whole


@pytest.mark.parametrize("kind", ["a directory", "a file that cannot be read"])
def test_what_cannot_be_read_gets_another_name(tmp_path: Path, kind: str) -> None:
    path, console = tmp_path / "metrics.jsonl", Console(file=io.StringIO(), width=1000)
    if kind == "a directory":
        path.mkdir()
    else:
        path.symlink_to("/proc/self/mem")  # opens, but its first page cannot be read
    opened(tmp_path, ALL, console).write(RECORDS[0])
    assert records_in(path) == RECORDS[:1]
    assert (tmp_path / "metrics.jsonl.unused").is_dir() == (kind == "a directory")
    assert isinstance(console.file, io.StringIO)
    said = console.file.getvalue()
    assert said.startswith(f"warning: {path} cannot be read (")
    assert said.endswith("kept as metrics.jsonl.unused\n")
    opened(tmp_path, ALL)  # nor is a console needed
    assert records_in(path) == RECORDS[:1]


def test_a_line_that_does_not_fit_on_the_disk_leaves_no_part_of_it(tmp_path: Path) -> None:
    path = write_records(tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 10, hard))
    try:
        with pytest.raises(OSError):
            opened(tmp_path, ALL).write(RECORDS[0])
        assert records_in(path) == RECORDS
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
