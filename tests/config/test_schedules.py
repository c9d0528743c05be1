from __future__ import annotations

import contextlib
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zipper_dist.config.schedules import (
    Interval,
    Schedule,
    epochs,
    iterations,
    progress,
    progress_at,
)

values = st.floats(-1e6, 1e6)
# Not any float: 1e-310 is no progress that a run could be at.
progresses = st.integers(0, 10**6).map(lambda millionths: millionths / 10**6)
schedules = (
    st.lists(st.tuples(progresses, values), min_size=1, max_size=5, unique_by=lambda p: p[0])
    .map(sorted)
    .map(lambda points: Schedule(tuple(points)))
)
# As a person writes them: a few digits.
short_schedules = (
    st.lists(
        st.tuples(st.integers(0, 1000), st.integers(-99999, 99999)),
        min_size=1,
        max_size=5,
        unique_by=lambda p: p[0],
    )
    .map(sorted)
    .map(lambda points: Schedule(tuple((at / 1000, value / 1000) for at, value in points)))
)


@settings(deadline=None)
@given(value=values)
def test_a_number_is_a_constant_schedule(value: float) -> None:
    schedule = Schedule.parse(repr(value))
    assert [schedule(progress) for progress in (0, 0.3, 1)] == [value] * 3
    assert schedule.values == (value,)


def test_points_are_joined_by_straight_lines() -> None:
    schedule = Schedule.parse("0:1,0.5:1,1:0.4")
    assert schedule.points == ((0.0, 1.0), (0.5, 1.0), (1.0, 0.4))
    assert schedule.values == (1.0, 1.0, 0.4)
    found = [schedule(progress) for progress in (0, 0.25, 0.5, 0.75, 1)]
    assert found == pytest.approx([1, 1, 1, 0.7, 0.4])


@settings(deadline=None)
@given(schedule=schedules, progress=st.floats(-0.5, 1.5))
def test_interpolation_is_numpys(schedule: Schedule, progress: float) -> None:
    wanted = float(np.interp(progress, [at for at, _ in schedule.points], schedule.values))
    scale = max(map(abs, schedule.values))
    assert schedule(progress) == pytest.approx(wanted, rel=1e-9, abs=1e-9 * scale)


@settings(deadline=None)
@given(schedule=schedules)
def test_a_schedule_takes_the_values_at_its_points(schedule: Schedule) -> None:
    scale = max(map(abs, schedule.values))
    for at, value in schedule.points:
        assert schedule(at) == pytest.approx(value, rel=1e-12, abs=1e-12 * scale)


@settings(max_examples=200, deadline=None)
@given(schedule=short_schedules, progress=progresses)
def test_a_schedule_stays_between_its_extremes(schedule: Schedule, progress: float) -> None:
    # Exactly, at the points too: an eps of -1e-17 is refused, whatever it was rounded from.
    for at in (progress, *(at for at, _ in schedule.points)):
        assert min(schedule.values) <= schedule(at) <= max(schedule.values)


def test_a_schedule_that_falls_to_zero_does_not_fall_below() -> None:
    schedule = Schedule.parse("0:0.1,0.4:0")
    assert schedule(0.4) >= 0


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "give a number, or points"),
        ("high", "give a number, or points"),
        ("0:1,", "give a number, or points"),
        ("0:1,0.5", "give a number, or points"),
        ("0:1:2", "give a number, or points"),
        ("0:one", "give a number, or points"),
        ("nan", "finite"),
        ("inf", "finite"),
        ("0:1,1:nan", "finite"),
        ("nan:1,1:1", "finite"),
        ("0.5:1,0.5:2", "must increase"),
        ("0.5:1,0.2:2", "must increase"),
        ("-0.1:1,1:2", "must lie in 0 … 1"),
        ("0:1,1.1:2", "must lie in 0 … 1"),
    ],
)
def test_what_is_not_a_schedule(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as raised:
        Schedule.parse(text)
    assert repr(text) in str(raised.value)


@settings(deadline=None)
@given(schedule=short_schedules, progress=progresses)
def test_a_schedule_survives_being_written(schedule: Schedule, progress: float) -> None:
    read = Schedule.parse(str(schedule))
    assert read(progress) == schedule(progress)
    if len(schedule.points) > 1:
        assert read == schedule


@settings(deadline=None)
@given(schedule=schedules)
def test_a_schedule_of_many_digits_survives_being_written(schedule: Schedule) -> None:
    # config.json holds the written form, and a run is continued if that is the same.
    assert Schedule.parse(str(schedule)).values == schedule.values


@settings(deadline=None)
@given(text=st.text("0123456789.:,-+einfp ", max_size=12))
def test_any_text_is_a_schedule_or_a_value_error(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert all(math.isfinite(value) for value in Schedule.parse(text).values)


@settings(deadline=None)
@given(count=st.integers(0, 999_999), steps_per_epoch=st.integers(1, 1000))
def test_iterations_are_iterations(count: int, steps_per_epoch: int) -> None:
    interval = Interval.parse(str(count))
    assert interval == iterations(count)
    assert interval.iterations(steps_per_epoch, 7) == count
    assert Interval.parse(str(interval)) == interval


@settings(deadline=None)
@given(count=st.integers(0, 1000), steps_per_epoch=st.integers(1, 1000))
def test_epochs_become_iterations(count: int, steps_per_epoch: int) -> None:
    interval = Interval.parse(f"{count}ep")
    assert interval == epochs(count)
    assert interval.iterations(steps_per_epoch, 7) == count * steps_per_epoch
    assert Interval.parse(str(interval)) == interval


@pytest.mark.parametrize(
    ("text", "steps_per_epoch", "wanted"),
    [
        ("0.5ep", 100, 50),
        ("1.5ep", 7, 10),
        ("0.1ep", 27, 3),
        # An interval that is not 0 is at least one iteration, or it would mean never.
        ("0.001ep", 100, 1),
        ("0.5ep", 1, 1),
        ("0ep", 100, 0),
    ],
)
def test_parts_of_epochs_are_rounded(text: str, steps_per_epoch: int, wanted: int) -> None:
    assert Interval.parse(text).iterations(steps_per_epoch, 7) == wanted


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "give iterations"),
        ("often", "give iterations"),
        ("1.5", "at most 1.0"),
        ("1.0000001", "at most 1.0"),
        ("-0.5", "0 or more"),
        ("nan", "0 or more"),
        ("ep", "give iterations"),
        ("5 epochs", "give iterations"),
        ("-1", "0 or more"),
        ("-0.5ep", "0 or more"),
        ("nanep", "0 or more"),
        ("infep", "0 or more"),
    ],
)
def test_what_is_not_an_interval(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as raised:
        Interval.parse(text)
    assert repr(text) in str(raised.value)


@settings(deadline=None)
@given(part=st.floats(0, 1), total_steps=st.integers(1, 10**5))
def test_progress_is_a_part_of_the_run(part: float, total_steps: int) -> None:
    interval = Interval.parse(repr(part))
    assert interval == progress(part)
    assert Interval.parse(str(interval)) == interval
    found = interval.iterations(3, total_steps)
    assert abs(found - part * total_steps) <= (0.5 if found > 1 else 1)
    assert (found == 0) == (part == 0)


def test_one_with_a_decimal_point_is_the_whole_run_and_without_it_one_iteration() -> None:
    assert Interval.parse("1.0").iterations(10, 200) == 200
    assert Interval.parse("1").iterations(10, 200) == 1
    assert (str(progress(1)), str(iterations(1)), str(epochs(1))) == ("1.0", "1", "1ep")


@pytest.mark.parametrize("text", ["1000000", "1234567", "0.1234567ep", "0.041666666666666664"])
def test_an_interval_of_many_digits_survives_being_written(text: str) -> None:
    interval = Interval.parse(text)
    assert Interval.parse(str(interval)) == interval


def test_a_huge_interval_is_a_value_error() -> None:
    with pytest.raises(ValueError):
        Interval.parse("1" + 400 * "0")


@given(total=st.integers(1, 500), t=st.integers(1, 500), held=st.integers(1, 60))
def test_progress_is_that_at_the_end_of_what_schedules_are_held_for(
    total: int, t: int, held: int
) -> None:
    t = min(t, total)
    assert progress_at(t, total) == t / total
    found = progress_at(t, total, held)
    assert found == min(total, math.ceil(t / held) * held) / total
