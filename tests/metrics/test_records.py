from __future__ import annotations

import json
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from zipper_dist.errors import TrainingDiverged
from zipper_dist.metrics.records import StepResult, Window

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
    summary = window.close()
    assert summary is not None
    assert summary.as_json() == {
        "step": first + len(losses) - 1,
        "learner": "natural",
        "loss": pytest.approx(sum(losses) / len(losses)),
        "accuracy": pytest.approx(30.0),
        "images_per_second": pytest.approx(20.0),
    }


def test_a_window_starts_afresh_after_its_record() -> None:
    window = window_of([1.0, 2.0])
    assert window.close() is not None
    assert window.close() is None
    window.check()
    window.add(3, StepResult(torch.tensor(7.0), torch.tensor(10)), seconds=2.0)
    summary = window.close()
    assert summary is not None
    assert (summary.step, summary.loss, summary.accuracy) == (3, 7.0, 100.0)
    assert summary.images_per_second == pytest.approx(5)


def test_an_open_window_is_continued_by_another_process() -> None:
    losses = [0.1, 1 / 3, 2.5, 7e-9]
    whole, begun, resumed = window_of(losses), window_of(losses[:2]), Window("natural", 10)
    resumed.restore(json.loads(json.dumps(begun.state())), step=2)
    for step, loss in ((3, 2.5), (4, 7e-9)):
        resumed.add(step, StepResult(torch.tensor(loss), torch.tensor(3)), seconds=0.5)
    assert resumed.close() == whole.close()
    assert resumed.close() is None


def test_a_distance_is_in_one_record_also_of_another_process() -> None:
    begun, resumed = window_of([1.0]), Window("natural", 10)
    assert "distance" not in begun.state()
    begun.distance = 0.1
    resumed.restore(json.loads(json.dumps(begun.state())), step=1)
    for window in (begun, resumed):
        record = window.close()
        assert record is not None
        assert record.as_json()["distance"] == 0.1
        window.add(2, StepResult(torch.tensor(1.0), torch.tensor(3)), seconds=0.5)
        later = window.close()
        assert later is not None
        assert later.distance is None


def test_images_a_second_leave_the_first_iteration_of_a_process_out() -> None:
    window = Window("natural", 10)
    found = []
    for step, seconds in enumerate((100.0, 0.5, 0.5, 0.5), 1):
        window.add(step, StepResult(torch.tensor(1.0), torch.tensor(3)), seconds)
        if step % 2 == 0:
            record = window.close()
            assert record is not None
            found.append(record.images_per_second)
    assert found == [20.0, 20.0]


def test_there_is_no_rate_where_no_time_was_measured() -> None:
    window = Window("natural", 10)
    window.add(1, StepResult(torch.tensor(1.0), torch.tensor(3)), seconds=0.0)
    record = window.close()
    assert record is not None
    assert "images_per_second" not in record.as_json()


def test_an_iteration_is_named_right_in_a_later_window() -> None:
    window = window_of([1.0, 2.0])
    window.close()
    for step, loss in ((3, 1.0), (4, math.nan), (5, math.nan)):
        window.add(step, StepResult(torch.tensor(loss), torch.tensor(0)), seconds=1.0)
    with pytest.raises(TrainingDiverged, match="nan at iteration 4;"):
        window.check()
