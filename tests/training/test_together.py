"""Ranks that cannot train a learner together are refused by name."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from zipper_dist.accel.precision import Acceleration
from zipper_dist.distributed.assignment import dedicated, shared
from zipper_dist.distributed.communication import present
from zipper_dist.errors import UserError
from zipper_dist.training.setup.together import check_ranks_alike, directories, saves

LEARNERS = {"natural": None, "adversarial": None}
HOW = {"device": "cpu", "threads": 2, "compiled": False, "plain layout": False}
SHARED = shared(list(LEARNERS), ranks=2, shards=2)
APART = dedicated(dict.fromkeys(LEARNERS, 1), shards=1)


class Ranks:
    """A world of two ranks, the first of which asks; what the second says, by topic."""

    size, rank = 2, 0
    plan = SimpleNamespace(device=SimpleNamespace(type="cpu"), threads=2)

    def __init__(self, other: dict[str, Any]) -> None:
        self._other = other

    def gather(self, topic: str, mine: Any) -> Any:
        return present([mine, self._other.get(topic)])


def run_of(root: Path, **other: Any) -> Any:
    return SimpleNamespace(
        world=Ranks(other),
        wait=lambda pending: pending.result(),
        config=SimpleNamespace(learners=LEARNERS),
        directory=SimpleNamespace(root=root),
    )


def test_ranks_that_are_alike(tmp_path: Path) -> None:
    check_ranks_alike(run_of(tmp_path, how=HOW), Acceleration(), SHARED)


@pytest.mark.parametrize(
    ("what", "value"),
    [("device", "cuda"), ("threads", 1), ("compiled", True), ("plain layout", True)],
)
def test_ranks_that_are_not(tmp_path: Path, what: str, value: object) -> None:
    run = run_of(tmp_path, how=HOW | {what: value})
    with pytest.raises(
        UserError, match=f"ranks 0 and 1 .* natural learner .*{what} .* and {value}"
    ):
        check_ranks_alike(run, Acceleration(), SHARED)
    check_ranks_alike(run, Acceleration(), APART)  # each has a learner of its own


@pytest.mark.parametrize("first", [0, 1])
def test_a_note_on_each_directory_but_that_of_rank_0(tmp_path: Path, first: int) -> None:
    # Rank 0 alone leaves its mark here; what rank 1 sees in its directory, it says.
    seen = {"first": first, "where": "/data/run of machine far"}
    found, notes = directories(run_of(tmp_path, seen=seen))
    assert found == [0, first]
    said = "rank 1 keeps its checkpoints in /data/run of machine far, which rank 0 does not see"
    assert [note.partition(":")[0] for note in notes] == [said] * first
    assert list(tmp_path.iterdir()) == []


def test_every_directory_has_each_learner_that_is_trained_there_once() -> None:
    found = [0, 0, 2, 2]
    assert [rank for rank in range(4) if saves(rank, [0, 1, 2, 3], found)] == [0, 2]
    assert [rank for rank in (1, 3) if saves(rank, [1, 3], found)] == [1, 3]
    assert [rank for rank in (1, 3) if saves(rank, [1, 3], [0, 0, 0, 0])] == [1]
