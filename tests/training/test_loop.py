"""What an interruption leaves undone of an iteration is done when the run continues."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from training.tiny_runs import LATE, STEPS, TinyNetwork, built, config_of, image_set
from zipper_dist.checkpoint import format as checkpoint
from zipper_dist.checkpoint.run_directory import RunDirectory
from zipper_dist.config.schedules import Schedule
from zipper_dist.config.schema import TrainConfig
from zipper_dist.data import Dataset
from zipper_dist.distributed.assignment import dedicated
from zipper_dist.distributed.communication import Overlap, Pending, World
from zipper_dist.distributed.signals import Signals
from zipper_dist.distributed.stopping import Stop
from zipper_dist.distributed.topology import Machine, plan
from zipper_dist.errors import Failure, Interrupted, UserError
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
    for module in ("network", "limits"):
        monkeypatch.setattr(
            f"zipper_dist.training.setup.{module}.build", lambda spec: TinyNetwork()
        )

    def made(
        name: str, wait: Overlap, config: TrainConfig = TWO, sinks: Sequence[Sink] = ()
    ) -> Made:
        world = World(plan(Machine.detect({}), "cpu", 1))
        directory = RunDirectory(tmp_path / name)
        directory.prepare()
        metrics = MetricsReporter(world, sinks)
        stop = Stop(world, Signals())
        run = RunContext(config, "fp32", directory, world, stop, wait, metrics)
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


def steps_there(run: RunContext, learner: str) -> list[int]:
    return sorted(checkpoint.steps_of(run.directory.checkpoints, learner))


def test_copies_that_do_not_fit_are_refused_before_any_is_set_aside(
    make: Callable[..., Made],
) -> None:
    train(*make("copies", Overlap(Signals())))
    run, state = make("copies", Overlap(Signals()))
    for name, steps in (("natural", [27, 30]), ("adversarial", [18])):
        for step in steps:
            checkpoint.path_of(run.directory.checkpoints, name, step).unlink()
    state.directories = [0, 1]
    with pytest.raises(UserError, match="do not fit together"):
        resume(run, state)
    assert steps_there(run, "natural") == [18]
    assert steps_there(run, "adversarial") == [27, 30]


def test_files_of_a_learner_that_is_saved_elsewhere_now_do_not_keep_others(
    make: Callable[..., Made],
) -> None:
    run, state = make("apart", Overlap(Signals()))
    train(run, state)
    for step in (27, 30):
        checkpoint.path_of(run.directory.checkpoints, "adversarial", step).unlink()
    state.assignment = dedicated({"natural": 1, "adversarial": 1}, 1)
    state.directories, state.saved = [0, 1], ["natural"]
    for state.at in range(31, 37):
        state.validation.posted.append(state.at)
        save(run, state)
    assert steps_there(run, "natural") == [*range(31, 37)]


def saved(make: Callable[..., Made]) -> Path:
    """A checkpoint of the natural learner in the directory of the run ``begun``."""
    run, state = make("begun", Overlap(Signals()), replace(TWO, steps=9))
    train(run, state)
    return checkpoint.path_of(run.directory.checkpoints, "natural", 9)


def refused(make: Callable[..., Made]) -> str:
    """What a run in that directory is told that cannot continue."""
    with pytest.raises(UserError) as raised:
        resume(*make("begun", Overlap(Signals()), replace(TWO, steps=9)))
    return str(raised.value)


def test_no_memory_for_a_checkpoint_is_no_reason_to_start_over(
    make: Callable[..., Made], monkeypatch: pytest.MonkeyPatch
) -> None:
    saved(make)
    run, state = make("begun", Overlap(Signals()), replace(TWO, steps=9))

    def restore(tensors: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(state.learners[0], "restore", restore)
    with pytest.raises(Failure, match=r"Tried to allocate 2\.00 GiB.*the same command continues"):
        resume(run, state)


def test_checkpoints_of_other_data_are_refused(
    make: Callable[..., Made], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a folder of images that has a class more than it had."""
    path = saved(make)

    class Larger(TinyNetwork):
        def __init__(self) -> None:
            super().__init__()
            self.linear = torch.nn.Linear(16, 40)

    monkeypatch.setattr("zipper_dist.training.setup.network.build", lambda spec: Larger())
    message = refused(make)
    assert str(path) in message
    assert "cannot be continued with the network and the data of now (" in message
    assert "\n" not in message
    assert path.exists()


@pytest.mark.parametrize(
    "change",
    [
        {"carry": "1"},
        {"carry": None},
        {"timers": {"no such": 1.0}},
        {"timers": []},
        {"history": 3},
        {"history": [3]},
        {"history": [{"step": 9}]},
    ],
    ids=str,
)
def test_notes_of_another_shape_are_refused(make: Callable[..., Made], change: Any) -> None:
    part = checkpoint.load(path := saved(make))
    checkpoint.save(path.parent, replace(part, notes={**part.notes, **change}))
    assert str(path) in refused(make)


@pytest.mark.parametrize("group", ["learner", "mixer", "look-9"])
def test_tensors_that_are_not_there_are_refused(make: Callable[..., Made], group: str) -> None:
    part = checkpoint.load(path := saved(make))
    groups = {name: tensors for name, tensors in part.groups.items() if name != group}
    checkpoint.save(path.parent, replace(part, groups=groups))
    assert str(path) in refused(make)


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
