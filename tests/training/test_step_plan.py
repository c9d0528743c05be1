from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zipper_dist.config.schedules import epochs, iterations, progress
from zipper_dist.config.schema import EvalConfig, MixConfig, TrainConfig
from zipper_dist.config.threat import ThreatModel
from zipper_dist.recipes.registry import RECIPES, recipe
from zipper_dist.training.step_plan import StepPlan, evaluation_cost, fitting_batch_size

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


AUTO_PLAN = replace(CONFIG, epochs=120, eval=EvalConfig())


@settings(deadline=None)
@given(per_epoch=st.integers(1, 400), cost=st.floats(0, 2000), total=st.integers(1, 50_000))
def test_evaluations_take_a_tenth_of_a_run_at_most(per_epoch: int, cost: float, total: int) -> None:
    """But for the one at the end; and they are whole epochs apart."""
    plan = StepPlan.of(replace(AUTO_PLAN, steps=total), per_epoch, cost)
    assert plan.validate_every % per_epoch == 0
    assert cost / plan.validate_every <= 0.1 + 1e-9
    assert plan.validates_at(total)


@pytest.mark.parametrize("per_epoch", [50, 382, 460])
@pytest.mark.parametrize("cost", [0.0, 4.9])
def test_cheap_evaluations_are_at_every_epoch(per_epoch: int, cost: float) -> None:
    assert StepPlan.of(AUTO_PLAN, per_epoch, cost).validate_every == per_epoch


@settings(deadline=None)
@given(per_epoch=st.integers(1, 49), total=st.integers(100, 50_000))
def test_a_run_of_few_images_is_evaluated_a_sensible_number_of_times(
    per_epoch: int, total: int
) -> None:
    plan = StepPlan.of(replace(AUTO_PLAN, steps=total), per_epoch, evaluation_cost=0.1)
    number = sum(plan.validates_at(t) for t in range(1, total + 1))
    assert number <= max(11, total // 50 + 1)
    assert number >= min(5, total // per_epoch)


@pytest.mark.parametrize("total", [200, 1000, 46_000])
def test_rare_evaluations_leave_a_run_its_checkpoints(total: int) -> None:
    plan = StepPlan.of(replace(AUTO_PLAN, steps=total), 20, evaluation_cost=total)
    assert [t for t in range(1, total + 1) if plan.validates_at(t)] == [total]
    saved = [t for t in range(1, total + 1) if plan.saves_at(t)]
    assert len(saved) == min(20, total // 50)
    assert saved[0] == saved[1] - saved[0] == max(50, total // 20)


def test_an_interval_that_is_given_is_kept() -> None:
    config = replace(AUTO_PLAN, eval=EvalConfig(every=iterations(3)))
    plan = StepPlan.of(config, 10, evaluation_cost=1e6)
    assert plan.validate_every == 3
    assert all(plan.saves_at(t) == plan.validates_at(t) for t in range(1, plan.total_steps))


def test_the_cost_of_an_evaluation_is_in_iterations() -> None:
    config = recipe("cifar10")  # 3 passes for natural, 3 + 2 · 10 for adversarial
    assert evaluation_cost(config, 1000, 128) == 1000 * (1 + 2 * 20 + 1) / (128 * 26)
    two = replace(config.eval, threats=(ThreatModel("linf", 0.03), ThreatModel("l2", 0.5)))
    cost = evaluation_cost(replace(config, eval=two), 1000, 128)
    assert cost == 1000 * (1 + 2 * (2 * 20 + 1)) / (128 * 26)


@pytest.mark.parametrize(
    ("images", "batch_size"),
    [(1, 1), (2, 2), (9, 2), (20, 4), (162, 32), (639, 64), (640, 128), (50_000, 128)],
)
def test_the_batch_size_fits_the_images(images: int, batch_size: int) -> None:
    assert fitting_batch_size(images) == batch_size


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("total", [8, 9, 13, 36, 60, 120, 600])
def test_a_short_run_of_every_recipe_redistributes(name: str, total: int) -> None:
    plan = StepPlan.of(replace(recipe(name), steps=total), 5)
    if plan.mix_every:
        assert (plan.redistributions or 0) >= (1 if name == "digits" else 3)


def test_a_window_is_the_end_of_each_interval() -> None:
    def times(every: int, start: int, window: int) -> list[int]:
        plan = StepPlan(20, 10, every, start, 1, mix_window=window)
        return [t for t in range(21) if plan.redistributes_at(t)]

    assert times(every=5, start=10, window=2) == [10, 14, 15, 19]
    assert times(every=5, start=9, window=2) == [9, 10, 14, 15, 19]
    assert times(every=5, start=14, window=3) == [14, 15, 18, 19]
    assert times(every=5, start=16, window=5) == [16, 17, 18, 19]
    assert times(every=5, start=16, window=50) == [16, 17, 18, 19]
    assert times(every=0, start=0, window=5) == []
    assert times(every=30, start=0, window=12) == [19]


def test_redistributions_within_windows_are_counted() -> None:
    for total in (1, 7, 20, 23):
        for start in range(0, 25, 3):
            for every in (1, 2, 5, 7, 40):
                for window in (1, 2, 4, 7, 50):
                    plan = StepPlan(total, 5, every, start, 1, mix_window=window)
                    found = sum(map(plan.redistributes_at, range(1, total)))
                    assert plan.redistributions == found


def test_schedules_stand_still_for_an_epoch_if_they_are_told_to() -> None:
    assert StepPlan.of(CONFIG, 10).schedules_held == 1
    plan = StepPlan.of(replace(CONFIG, schedules_by="epoch"), 10)
    assert plan.schedules_held == 10
