"""What a process does, as slices of its time."""

from __future__ import annotations

import itertools
import time

import pytest

from zipper_dist.activity import SHORTEST, Recorder, Slice, begin_iteration, doing, recorded_by

now = 0  # [ns]


def work(duration: int = SHORTEST) -> None:
    global now
    now += duration


@doing("evaluating")
def evaluate() -> int:
    work()
    return 3


def train(iterations: int) -> None:
    """Iterations with an attack within a training step, and an evaluation of two units."""
    for t in range(1, iterations + 1):
        begin_iteration(t)
        with doing("training step", learner="a"):
            work()
            with doing("attack", shard=1):
                work()
            work(2 * SHORTEST)
        for _ in range(2):
            assert evaluate() == 3
            with doing("waiting"):
                work(SHORTEST - 1)
        with doing("waiting"):
            work()
            work()


def recorded(first: int, last: int, iterations: int) -> list[list[Slice]]:
    """What is delivered, each time."""
    delivered: list[list[Slice]] = []
    recorder = Recorder(first, last, delivered.append, lambda: now)
    with recorded_by(recorder):
        train(iterations)
        assert len(delivered) == (1 if last < iterations else 0)
    recorder.finish()
    recorder.finish()
    return delivered


@pytest.mark.parametrize("last", [3, 5])
def test_an_activity_within_another_interrupts_it(last: int) -> None:
    (slices,) = recorded(2, last, 5)
    step: dict[str, object] = {"learner": "a"}
    expected = [
        ("training step", step, SHORTEST),
        ("attack", step | {"shard": 1}, SHORTEST),
        ("training step", step, 2 * SHORTEST),
        ("evaluating", {}, 3 * SHORTEST - 1),  # two units and the short gap between them
        ("waiting", {}, 2 * SHORTEST),
    ]
    assert [(each.activity, each.about, each.end - each.start) for each in slices] == [
        (activity, about | {"iteration": t}, duration)
        for t in range(2, last + 1)
        for activity, about, duration in expected
    ]
    assert all(one.end <= two.start for one, two in itertools.pairwise(slices))
    assert abs(slices[-1].end - time.time_ns()) < 60e9


def test_an_error_ends_an_activity() -> None:
    delivered: list[list[Slice]] = []
    recorder = Recorder(1, 1, delivered.append, lambda: now)
    with recorded_by(recorder):
        begin_iteration(1)
        with pytest.raises(ZeroDivisionError), doing("attack"), doing("waiting"):
            raise ZeroDivisionError
        work()
        evaluate()
    evaluate()  # nobody wants to know
    recorder.finish()
    assert [each.activity for each in delivered[0]] == ["evaluating"]
