"""What an interruption leaves undone of an iteration is done when the run continues."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from training.test_algorithm import LATE, STEPS, TinyNetwork, built, config_of, image_set
from zipper_dist.checkpoint.run_directory import RunDirectory
from zipper_dist.config.schedules import Schedule
from zipper_dist.config.schema import TrainConfig
from zipper_dist.data import Dataset
from zipper_dist.distributed.communication import Overlap, Pending, World
from zipper_dist.distributed.signals import Signals
from zipper_dist.distributed.stopping import Stop
from zipper_dist.distributed.topology import Machine, plan
from zipper_dist.errors import Interrupted
from zipper_dist.metrics.records import Record
from zipper_dist.metrics.reporter import MetricsReporter
from zipper_dist.metrics.sinks import Sink
from zipper_dist.training.context import RunContext, TrainState
from zipper_dist.training.loop import complete_iteration, train
from zipper_dist.training.resume import resume, save

pytestmark = pytest.mark.usefixtures("one_thread")

TWO = config_of(LATE)
THREE = replace(
    TWO,
    steps=4,
    log_every=2,
    learners={**TWO.learners, "third": replace(TWO.learners["natural"], lr=0.02)},
    mix=replace(
        LATE,
        weights={
            "natural": Schedule.parse("0:0.5,1:0.1"),
            "adversarial": Schedule.parse("0:0.3,1:0.7"),
            "third": Schedule.parse("0.2"),
        },
    ),
)

Made = tuple[RunContext, TrainState]


class InterruptedWait(Overlap):
    """A signal comes during the wait of that number."""

    def __init__(self, number: int) -> None:
        super().__init__(Signals())
        self.left = number

    def __call__(self, pending: Pending) -> Any:
        self.left -= 1
        if self.left == 0:
            raise Interrupted(15)
        return super().__call__(pending)


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Made]:
    """A run in this process, in a directory below the test's."""
    monkeypatch.setattr("zipper_dist.training.materials.build", lambda spec: TinyNetwork())

    def made(
        name: str, wait: Overlap, config: TrainConfig = TWO, sinks: Sequence[Sink] = ()
    ) -> Made:
        world = World(plan(Machine.detect({}), "cpu", 1))
        directory = RunDirectory(tmp_path / name)
        directory.prepare()
        metrics = MetricsReporter(world, sinks)
        signals = Signals()
        run = RunContext(
            config, "fp32", directory, world, signals, Stop(world, signals), wait, metrics
        )
        images = image_set(40, 0), image_set(4, 1), image_set(4, 2)
        return run, built(run, Dataset(*images, ("a", "b", "c", "d"), "none"))

    return made


def test_a_redistribution_that_was_interrupted_is_made_up_for(
    make: Callable[..., Made],
) -> None:
    run, uninterrupted = make("whole", Overlap(Signals()))
    train(run, uninterrupted)

    run, state = make("torn", InterruptedWait(2))
    with pytest.raises(Interrupted):
        train(run, state)
    # The first redistribution is at 12; the second, at 18, is what it waited for. It is a
    # validation and a checkpoint, too.
    assert (state.at, state.mixer.synced_at) == (18, 12)
    save(run, state)

    run, state = make("torn", Overlap(Signals()))
    assert resume(run, state).messages == ["continuing from iteration 18"]
    assert (state.at, state.mixer.synced_at) == (18, 12)
    complete_iteration(run, state)
    assert state.mixer.synced_at == 18
    complete_iteration(run, state)
    assert state.timers.syncs == 2
    train(run, state)
    assert state.at == STEPS
    assert state.validation.evaluated == uninterrupted.validation.evaluated == [9, 18, 27, 30]
    for mine, other in zip(state.learners, uninterrupted.learners, strict=True):
        assert torch.equal(mine.state.flat, other.state.flat)
    assert torch.equal(
        state.mixer.total(state.mixer.shares()),
        uninterrupted.mixer.total(uninterrupted.mixer.shares()),
    )


def test_nothing_is_left_undone_at_the_start(make: Callable[..., Made]) -> None:
    run, state = make("new", Overlap(Signals()))
    assert resume(run, state).messages == []
    complete_iteration(run, state)
    assert state.validation.posted == []
    assert state.timers.syncs == 0
    assert list(run.directory.checkpoints.iterdir()) == []


class Kept(Sink):
    """Keeps the records of base learners."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    def write(self, record: Record) -> None:
        if record["learner"] != "global":
            self.records.append(record)


def test_each_of_more_than_two_learners_is_recorded_with_its_weight(
    make: Callable[..., Made],
) -> None:
    kept = Kept()
    train(*make("three", Overlap(Signals()), THREE, [kept]))
    found = {(record["step"], record["learner"]): record for record in kept.records}
    assert {at: record["weight"] for at, record in found.items()} == pytest.approx(
        {
            (2, "natural"): 0.3, (2, "adversarial"): 0.5, (2, "third"): 0.2,
            (4, "natural"): 0.1, (4, "adversarial"): 0.7, (4, "third"): 0.2,
        }
    )  # fmt: skip
    assert not any("gamma" in record for record in kept.records)


def test_two_learners_are_recorded_with_gamma(make: Callable[..., Made]) -> None:
    kept = Kept()
    run, state = make("two", Overlap(Signals()), replace(TWO, steps=8, log_every=4), [kept])
    train(run, state)
    gamma = run.config.mix.gamma
    assert [record["gamma"] for record in kept.records] == [gamma(t / 8) for t in (4, 4, 8, 8)]
    assert not any("weight" in record for record in kept.records)
