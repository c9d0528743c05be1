from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import cast

import pytest
import torch
from torch import Tensor

from zipper_dist.distributed.communication import Overlap, Pending, World
from zipper_dist.distributed.signals import Signals
from zipper_dist.training.validation import KEPT_SNAPSHOTS, AsyncValidation, Snapshot, Validator

UNITS = 3


@dataclass
class Reduction:
    """An all-reduce that is done when the test says so; the other rank contributes 1000."""

    buffer: Tensor
    completed: bool = False

    def done(self) -> bool:
        return self.completed

    def result(self) -> Tensor:
        assert self.completed, "this would block"
        return self.buffer + 1000


class FakeWorld(World):
    """A job of ``size`` ranks, whose other ranks do as the test says."""

    def __init__(self, rank: int, size: int, complete: bool = False) -> None:
        self.rank, self.size = rank, size
        self.complete = complete
        self.reductions: list[Reduction] = []

    def all_reduce(self, buffer: Tensor, group: str | None = None) -> Pending:
        reduction = Reduction(buffer, self.complete)
        self.reductions.append(reduction)
        return Pending(reduction.done, reduction.result)

    @property
    def reduced(self) -> list[float]:
        """What was put into the all-reduces, in their order."""
        return [float(reduction.buffer[0]) for reduction in self.reductions]


class Blocked(Exception):
    """A rank would have to wait for another one."""


@dataclass
class FakeValidator:
    """Logs what it is asked to evaluate."""

    log: list[str]

    def evaluate(
        self, snapshot: Snapshot, theta: Tensor, part: int, parts: int
    ) -> Generator[None, None, str]:
        for unit in range(UNITS):
            self.log.append(f"snapshot {snapshot.step} θ {float(theta[0]):g} unit {unit}")
            yield
        return f"part {part} of {parts}"

    def conclude(self, snapshot: Snapshot, theta: Tensor, found: list[str], since: float) -> None:
        assert found == ["part 0 of 1"]


def added(shares: Mapping[str, Tensor]) -> Tensor:
    return torch.stack(list(shares.values())).sum(0)


@dataclass
class Rank:
    """The validation of one rank, and a log of what happens there."""

    world: FakeWorld
    log: list[str] = field(default_factory=list)
    when_idle: Callable[[], None] | None = None

    def __post_init__(self) -> None:
        wait, validator = Overlap(Signals(), self._work), cast(Validator, FakeValidator(self.log))
        self.validation = AsyncValidation(self.world, wait, validator, added, [0], concluding=[0])

    def _work(self) -> bool:
        if self.validation.work():
            return True
        if self.when_idle is None:
            raise Blocked
        self.when_idle()
        return False

    def work(self, units: int) -> list[bool]:
        return [self.validation.work() for _ in range(units)]


def snapshot_at(step: int) -> Snapshot:
    shares = {"natural": torch.full((4,), float(step)), "adversarial": torch.full((4,), 0.5)}
    return Snapshot(step, shares, {"count": torch.tensor(step)})


def evaluation_of(step: int) -> list[str]:
    return [f"snapshot {step} θ {step + 1000.5:g} unit {unit}" for unit in range(UNITS)]


def test_a_process_that_is_alone_evaluates_at_once() -> None:
    rank = Rank(FakeWorld(rank=0, size=1, complete=True))
    rank.validation.post(snapshot_at(10))
    assert rank.log == evaluation_of(10)
    assert rank.validation.evaluated == [10]
    rank.validation.post(snapshot_at(20))
    assert rank.log == evaluation_of(10) + evaluation_of(20)
    assert rank.validation.posted == rank.validation.evaluated == [10, 20]


@pytest.mark.parametrize("number", [0, 1])
def test_a_rank_may_be_one_snapshot_ahead_but_not_two(number: int) -> None:
    rank = Rank(FakeWorld(rank=number, size=2))
    rank.validation.post(snapshot_at(10))
    with pytest.raises(Blocked):
        rank.validation.post(snapshot_at(20))
    # It was handed in all the same, so that the other rank need not wait.
    assert rank.world.reduced == [10.5, 20.5]
    assert rank.validation.posted == [10, 20]


def test_the_evaluating_rank_evaluates_while_it_waits() -> None:
    rank = Rank(FakeWorld(rank=0, size=2))
    rank.validation.post(snapshot_at(10))
    assert rank.work(2) == [False, False]

    def other_rank_posts() -> None:
        rank.log.append("idle")
        rank.world.reductions[0].completed = True

    rank.when_idle = other_rank_posts
    rank.validation.post(snapshot_at(20))
    # Snapshot 20 is one snapshot ahead: nobody waits for it.
    assert rank.log == ["idle", *evaluation_of(10)]
    assert rank.validation.evaluated == [10]


def test_the_other_rank_waits_for_no_evaluation() -> None:
    rank = Rank(FakeWorld(rank=1, size=2, complete=True))
    for step in (10, 20, 30):
        rank.validation.post(snapshot_at(step))
    rank.validation.finish()
    assert rank.log == []
    assert rank.work(2) == [False, False]
    assert rank.validation.evaluated == []


def test_the_other_rank_goes_on_once_the_first_snapshot_is_through() -> None:
    rank = Rank(FakeWorld(rank=1, size=2))
    rank.validation.post(snapshot_at(10))

    def first_rank_posts() -> None:
        rank.log.append("idle")
        rank.world.reductions[0].completed = True

    rank.when_idle = first_rank_posts
    rank.validation.post(snapshot_at(20))
    assert rank.log == ["idle"]


def test_evaluation_is_done_in_units_that_other_work_can_come_between() -> None:
    rank = Rank(FakeWorld(rank=0, size=2, complete=True))
    rank.validation.post(snapshot_at(10))
    assert rank.log == []
    for unit in range(UNITS):
        assert rank.validation.work()
        rank.log.append("training")
        assert rank.log[: 2 * unit + 2] == [
            line for done in evaluation_of(10)[: unit + 1] for line in (done, "training")
        ]
        assert rank.validation.evaluated == []
    # The last unit takes the result up.
    assert rank.validation.work()
    assert rank.validation.evaluated == [10]
    assert not rank.validation.work()


def test_waiting_ends_between_two_units() -> None:
    rank = Rank(FakeWorld(rank=0, size=2, complete=True))
    rank.validation.post(snapshot_at(10))
    waiter = Overlap(Signals(), rank.validation.work)
    waiter.until(lambda: len(rank.log) == 2)
    assert rank.log == evaluation_of(10)[:2]


def test_snapshots_are_evaluated_in_their_order() -> None:
    rank = Rank(FakeWorld(rank=0, size=2))
    rank.validation.post(snapshot_at(10))
    with pytest.raises(Blocked):
        rank.validation.post(snapshot_at(20))
    rank.world.reductions[1].completed = True
    assert rank.work(1) == [False]
    rank.world.reductions[0].completed = True
    rank.validation.finish()
    assert rank.log == evaluation_of(10) + evaluation_of(20)
    assert rank.validation.evaluated == [10, 20]


@pytest.mark.parametrize("number", [0, 1])
def test_the_end_waits_for_every_snapshot(number: int) -> None:
    rank = Rank(FakeWorld(rank=number, size=2))
    rank.validation.finish()
    rank.validation.post(snapshot_at(10))
    with pytest.raises(Blocked):
        rank.validation.finish()
    rank.world.reductions[0].completed = True
    rank.validation.finish()
    assert rank.log == (evaluation_of(10) if number == 0 else [])


def test_a_snapshot_is_posted_once() -> None:
    # A loop that was interrupted after posting does it again.
    rank = Rank(FakeWorld(rank=1, size=2, complete=True))
    for _ in range(2):
        rank.validation.post(snapshot_at(10))
    assert rank.world.reduced == [10.5]
    assert rank.validation.posted == [10]
    assert [snapshot.step for snapshot in rank.validation.kept] == [10]


def test_a_snapshot_posted_again_still_waits() -> None:
    rank = Rank(FakeWorld(rank=1, size=2))
    rank.validation.post(snapshot_at(10))
    for _ in range(2):
        with pytest.raises(Blocked):
            rank.validation.post(snapshot_at(20))
    assert rank.world.reduced == [10.5, 20.5]


def test_the_shares_of_a_snapshot_are_kept_as_they_were() -> None:
    # An all-reduce uses its buffer up, and the shares go into the next checkpoint.
    rank = Rank(FakeWorld(rank=0, size=2, complete=True))
    snapshot = snapshot_at(10)
    rank.validation.post(snapshot)
    rank.world.reductions[0].buffer.fill_(torch.nan)
    (kept,) = rank.validation.kept
    for name, share in snapshot_at(10).shares.items():
        assert torch.equal(kept.shares[name], share)


def test_the_newest_snapshots_are_kept() -> None:
    rank = Rank(FakeWorld(rank=1, size=2, complete=True))
    for step in range(10, 60, 10):
        rank.validation.post(snapshot_at(step))
    assert [snapshot.step for snapshot in rank.validation.kept] == [40, 50][-KEPT_SNAPSHOTS:]
    assert rank.validation.posted == [10, 20, 30, 40, 50]


def test_after_an_interruption_what_was_not_evaluated_is_posted_again() -> None:
    rank = Rank(FakeWorld(rank=0, size=2, complete=True))
    snapshots = [snapshot_at(20), snapshot_at(30)]
    rank.validation.repost(snapshots, posted=[10, 20, 30], evaluated=[10, 20])
    assert rank.world.reduced == [30.5]
    assert [snapshot.step for snapshot in rank.validation.kept] == [20, 30]
    assert rank.validation.posted == [10, 20, 30]
    rank.validation.post(snapshot_at(30))
    assert rank.world.reduced == [30.5]
    rank.validation.finish()
    assert rank.log == evaluation_of(30)
    assert rank.validation.evaluated == [10, 20, 30]


def test_an_evaluation_that_was_cut_short_is_done_anew() -> None:
    before = Rank(FakeWorld(rank=0, size=2, complete=True))
    before.validation.post(snapshot_at(10))
    before.work(2)
    assert before.validation.evaluated == []

    after = Rank(FakeWorld(rank=0, size=2, complete=True))
    after.validation.repost(
        list(before.validation.kept), before.validation.posted, before.validation.evaluated
    )
    after.validation.finish()
    assert after.log == evaluation_of(10)
