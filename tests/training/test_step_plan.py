from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zipper_dist.config.schedules import epochs, iterations, progress
from zipper_dist.config.schema import EvalConfig, MixConfig, TrainConfig
from zipper_dist.training.step_plan import StepPlan

CONFIG = TrainConfig(
    epochs=6,
    mix=MixConfig(every=epochs(2), start=epochs(3)),
    eval=EvalConfig(every=epochs(0.5)),
)
counts = st.integers(1, 60)


def test_epochs_become_iterations() -> None:
    assert StepPlan.of(CONFIG, steps_per_epoch=10) == StepPlan(
        total_steps=60, steps_per_epoch=10, mix_every=20, mix_start=30, validate_every=5
    )


def test_iterations_stay_iterations() -> None:
    config = replace(
        CONFIG,
        mix=MixConfig(every=iterations(7), start=iterations(9)),
        eval=EvalConfig(every=iterations(4)),
    )
    assert StepPlan.of(config, steps_per_epoch=10) == StepPlan(60, 10, 7, 9, 4)


def test_steps_replace_epochs() -> None:
    plan = StepPlan.of(replace(CONFIG, steps=17), steps_per_epoch=10)
    assert plan.total_steps == 17
    # Only the end moves: an interval in epochs is what it was.
    assert plan.mix_start == 30
    assert plan.epoch(17) == 1.7


def test_a_part_of_the_run_moves_with_its_end() -> None:
    config = replace(CONFIG, mix=MixConfig(every=progress(0.1), start=progress(0.5)))
    assert StepPlan.of(config, steps_per_epoch=10) == StepPlan(60, 10, 6, 30, 5)
    assert StepPlan.of(replace(config, steps=24), 10) == StepPlan(24, 10, 2, 12, 5)


def test_redistribution_begins_at_the_start_itself() -> None:
    def times(every: int, start: int) -> list[int]:
        plan = StepPlan(20, 10, mix_every=every, mix_start=start, validate_every=1)
        return [t for t in range(21) if plan.redistributes_at(t)]

    assert times(every=5, start=10) == [10, 15]
    assert times(every=5, start=11) == [15]
    assert times(every=5, start=9) == [10, 15]
    assert times(every=5, start=0) == [5, 10, 15]
    assert times(every=19, start=19) == [19]
    assert times(every=19, start=20) == []
    assert times(every=0, start=0) == []


@settings(deadline=None)
@given(every=counts, start=st.integers(0, 60), t=st.integers(0, 60))
def test_redistribution_is_every_so_often_from_the_start(every: int, start: int, t: int) -> None:
    plan = StepPlan(60, 10, mix_every=every, mix_start=start, validate_every=1)
    multiples = range(every, 60, every)
    assert plan.redistributes_at(t) == (t in [m for m in multiples if m >= start])


@settings(deadline=None)
@given(total=counts, every=counts)
def test_there_is_no_redistribution_after_the_last_iteration(total: int, every: int) -> None:
    plan = StepPlan(total, 10, mix_every=every, mix_start=0, validate_every=1)
    assert not plan.redistributes_at(total)


@settings(deadline=None)
@given(total=counts, every=st.integers(0, 60), start=st.integers(0, 70))
def test_redistributions_are_counted_up_to_the_end(total: int, every: int, start: int) -> None:
    plan = StepPlan(total, 10, mix_every=every, mix_start=start, validate_every=1)
    times = [t for t in range(total) if plan.redistributes_at(t)]
    assert plan.redistributions == (len(times) if every else None)


@settings(deadline=None)
@given(total=counts, every=counts, t=st.integers(0, 60))
def test_looks_are_every_so_often_and_at_the_end(total: int, every: int, t: int) -> None:
    plan = StepPlan(total, 10, mix_every=0, mix_start=0, validate_every=every)
    assert plan.validates_at(t) == (t in [*range(every, 61, every), total])


@pytest.mark.parametrize(("t", "epoch"), [(0, 0.0), (5, 0.5), (10, 1.0), (25, 2.5)])
def test_epoch(t: int, epoch: float) -> None:
    assert StepPlan.of(CONFIG, steps_per_epoch=10).epoch(t) == epoch


def test_redistributions_are_counted_without_going_through_the_run() -> None:
    for total in range(1, 30):
        for start in range(0, 32):
            for every in (1, 2, 3, 7, 29, 40):
                plan = StepPlan(total, 5, every, start, 1)
                assert plan.redistributions == sum(map(plan.redistributes_at, range(1, total)))
    assert StepPlan(10**18, 5, 2, 0, 1).redistributions == (10**18 - 1) // 2
