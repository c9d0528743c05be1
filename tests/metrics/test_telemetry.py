from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from zipper_dist.errors import TrainingDiverged
from zipper_dist.metrics.telemetry import JsonLinesSink, Window
from zipper_dist.training.learner import StepResult

finite = st.floats(-1e6, 1e6, width=32)
broken = st.sampled_from([math.nan, math.inf, -math.inf])


def window_of(losses: list[float], first: int = 1, batch_size: int = 10) -> Window:
    window = Window("natural", batch_size)
    for step, loss in enumerate(losses, first):
        window.add(step, StepResult(torch.tensor(loss), torch.tensor(3)), seconds=0.5)
    return window


@settings(deadline=None)
@given(
    before=st.lists(finite, max_size=12),
    loss=broken,
    after=st.lists(finite | broken, max_size=5),
    first=st.integers(1, 10**6),
)
def test_the_first_iteration_that_diverged_is_named(
    before: list[float], loss: float, after: list[float], first: int
) -> None:
    window = window_of([*before, loss, *after], first)
    for look in (window.check, window.close):
        with pytest.raises(TrainingDiverged) as raised:
            look()
        message = str(raised.value)
        assert (
            f"loss of the natural learner is {loss} at iteration {first + len(before)};" in message
        )
        assert "--learners.natural.lr" in message
        assert "\n" not in message


@settings(deadline=None)
@given(losses=st.lists(finite, min_size=1, max_size=12), first=st.integers(1, 1000))
def test_a_window_sums_its_iterations_up(losses: list[float], first: int) -> None:
    window = window_of(losses, first)
    window.check()
    record = window.close()
    assert record == {
        "step": first + len(losses) - 1,
        "learner": "natural",
        "loss": pytest.approx(sum(losses) / len(losses)),
        "accuracy": pytest.approx(30.0),
        "images_per_second": pytest.approx(20.0),
    }
    assert json.loads(json.dumps(record))


def test_a_window_starts_afresh_after_its_record() -> None:
    window = window_of([1.0, 2.0])
    assert window.close() is not None
    assert window.close() is None
    window.check()
    window.add(3, StepResult(torch.tensor(7.0), torch.tensor(10)), seconds=2.0)
    record = window.close()
    assert record is not None
    assert (record["step"], record["loss"], record["accuracy"]) == (3, 7.0, 100.0)
    assert record["images_per_second"] == pytest.approx(5)


def test_an_iteration_is_named_right_in_a_later_window() -> None:
    window = window_of([1.0, 2.0])
    window.close()
    for step, loss in ((3, 1.0), (4, math.nan), (5, math.nan)):
        window.add(step, StepResult(torch.tensor(loss), torch.tensor(0)), seconds=1.0)
    with pytest.raises(TrainingDiverged, match="nan at iteration 4;"):
        window.check()


RECORDS = [
    {"step": 10, "learner": "natural"},
    {"step": 10, "learner": "adversarial"},
    {"step": 20, "learner": "natural"},
    {"step": 15, "learner": "global", "clean": 90.0},
    {"step": 20, "learner": "adversarial"},
    {"step": 30, "learner": "natural"},
    {"step": 25, "learner": "global", "clean": 91.0},
]


def journal_with(path: Path, tail: str = "") -> JsonLinesSink:
    sink = JsonLinesSink(path)
    for record in RECORDS:
        sink.append(record)
    with path.open("a") as file:
        file.write(tail)
    return sink


def records_in(path: Path) -> list[dict[str, object]]:
    content = path.read_text()
    assert content == "" or content.endswith("\n")
    return [json.loads(line) for line in content.splitlines()]


def test_records_are_on_disk_at_once_a_line_each(tmp_path: Path) -> None:
    journal_with(tmp_path / "metrics.jsonl")
    assert records_in(tmp_path / "metrics.jsonl") == RECORDS


def test_trim_drops_what_will_be_recorded_again(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    sink = journal_with(path)
    sink.trim({"natural": 20, "adversarial": 17, "global": 24})
    assert records_in(path) == [RECORDS[i] for i in (0, 1, 2, 3)]
    sink.append({"step": 18, "learner": "adversarial"})
    assert records_in(path)[-1] == {"step": 18, "learner": "adversarial"}


def test_trim_keeps_the_record_of_the_last_step_itself(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    journal_with(path).trim({"natural": 30, "adversarial": 20, "global": 25})
    assert records_in(path) == RECORDS


@settings(deadline=None, max_examples=50)
@given(data=st.data())
def test_trim_drops_an_incomplete_last_line(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    # The last line as a crash may leave it: cut anywhere.
    line = json.dumps({"step": 1, "learner": "natural", "loss": 0.25})
    length = data.draw(st.integers(0, len(line) - 1))
    path = tmp_path_factory.mktemp("run") / "metrics.jsonl"
    sink = journal_with(path, line[:length])
    sink.trim({"natural": 30, "adversarial": 20, "global": 25})
    assert records_in(path) == RECORDS
    sink.append({"step": 40, "learner": "natural"})
    assert records_in(path) == [*RECORDS, {"step": 40, "learner": "natural"}]


def test_trim_of_a_run_that_starts_over_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    journal_with(path, '{"st').trim({})
    assert records_in(path) == []


def test_trim_without_a_journal_makes_none(tmp_path: Path) -> None:
    JsonLinesSink(tmp_path / "metrics.jsonl").trim({"natural": 1})
    assert not list(tmp_path.iterdir())
