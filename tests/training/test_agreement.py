"""Ranks that hold other weights than they should are named."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from zipper_dist.distributed.assignment import Assignment, dedicated, shared
from zipper_dist.distributed.communication import Pending, present
from zipper_dist.training import agreement
from zipper_dist.training.agreement import Disagreement, check_agreement
from zipper_dist.training.context import RunContext, TrainState

LEARNERS = ("natural", "adversarial")
WEIGHTS = torch.linspace(-1, 1, 33)


class Ranks:
    """Threads that stand for the ranks of a job; ``sent`` counts their all-reduces."""

    def __init__(self, assignment: Assignment) -> None:
        self.assignment = assignment
        self.size = len(assignment.items)
        self.sent = 0
        self._given: list[Tensor] = []
        self._barrier = Barrier(self.size)

    def all_reduce(self, buffer: Tensor) -> Pending:
        self.sent += 1
        self._given.append(buffer.clone())
        self._barrier.wait()
        return present(buffer.copy_(torch.stack(self._given).sum(0)))

    def check(self, rank: int, weights: dict[str, Tensor]) -> str:
        """What ``rank`` says that has these weights."""
        config = SimpleNamespace(learners=dict.fromkeys(LEARNERS))
        world = SimpleNamespace(rank=rank, size=self.size, all_reduce=self.all_reduce)
        run: Any = SimpleNamespace(world=world, wait=lambda p: p.result(), config=config)
        mine = [
            SimpleNamespace(name=name, state=SimpleNamespace(flat=weights.get(name, WEIGHTS)))
            for name in self.assignment.items[rank]
        ]
        state: Any = SimpleNamespace(at=40, learners=mine, assignment=self.assignment)
        theta = weights.get("global", WEIGHTS)
        try:
            check_agreement(cast(RunContext, run), cast(TrainState, state), theta)
        except Disagreement as error:
            return str(error)
        return ""


def checked(assignment: Assignment, others: dict[int, dict[str, Tensor]]) -> str:
    """What all ranks say, of which those in ``others`` have other weights, by learner."""
    ranks = Ranks(assignment)
    weights = [others.get(rank, {}) for rank in range(ranks.size)]
    with ThreadPoolExecutor(ranks.size) as pool:
        said = list(pool.map(ranks.check, range(ranks.size), weights))
    assert len(set(said)) == 1
    assert ranks.sent == (ranks.size if ranks.size > 1 else 0)
    return said[0]


def flipped(bit: int) -> Tensor:
    other = WEIGHTS.clone()
    other.view(torch.int32)[5] ^= -(2**31) if bit == 31 else 1 << bit
    return other


PLACEMENTS = [
    shared(LEARNERS, 1, 1),
    shared(LEARNERS, 3, 4),
    dedicated({"natural": 1, "adversarial": 3}, 3),
]


@pytest.mark.parametrize("assignment", PLACEMENTS)
def test_equal_ranks_pass(assignment: Assignment) -> None:
    assert checked(assignment, {}) == ""


@pytest.mark.parametrize("bit", [0, 13, 31])
def test_one_bit_is_enough(bit: int) -> None:
    other = flipped(bit)
    for assignment in PLACEMENTS[1:]:
        said = checked(assignment, {2: {"adversarial": other}})
        assert said.startswith("after iteration 40, the adversarial learner of rank 2 is not that ")
    said = checked(PLACEMENTS[1], {1: {"global": other}})
    assert "the global learner of rank 1 is not that of rank 0, 2:" in said
    said = checked(PLACEMENTS[2], {3: {"adversarial": other}})
    assert "the adversarial learner of rank 3 is not that of rank 1, 2:" in said


def test_differences_that_cancel_each_other_count() -> None:
    swapped, opposite = WEIGHTS.clone(), WEIGHTS.clone()
    swapped[[3, 17]] = swapped[[17, 3]]
    bits = opposite.view(torch.int32)
    bits[3] += 1
    bits[17] -= 1
    for other in (swapped, opposite):
        said = checked(PLACEMENTS[1], {1: {"natural": other}})
        assert "the natural learner of rank 1 is not that of rank 0, 2:" in said


def test_the_checksum_is_that_of_whole_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = torch.randn(1000)
    bits = weights.view(torch.int32).tolist()
    exact = sum((2 * place + 1) * number for place, number in enumerate(bits))
    for part in (7, 1000, 2**18):
        monkeypatch.setattr(agreement, "PART", part)
        assert (agreement.checksum(weights) - exact) % 2**64 == 0


def test_learners_that_one_rank_trains_may_be_anything() -> None:
    assert checked(PLACEMENTS[2], {0: {"natural": flipped(3)}}) == ""
