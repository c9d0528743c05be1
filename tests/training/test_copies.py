"""Checkpoints of a learner in several run directories: what is chosen, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from zipper_dist.checkpoint.format import CheckpointInfo
from zipper_dist.distributed.assignment import Assignment, dedicated, shared
from zipper_dist.errors import UserError
from zipper_dist.training.resume import check_directories, in_common, missing_elsewhere

LEARNERS = ("natural", "adversarial")
SHARED = shared(LEARNERS, ranks=2, shards=2)
APART = dedicated(dict.fromkeys(LEARNERS, 1), shards=1)


def info(step: int, evaluated: list[int]) -> CheckpointInfo:
    return CheckpointInfo("natural", step, 0, [5, 10], [5, 10], evaluated, identity="a")


def test_what_one_directory_does_not_know_to_be_evaluated_is_evaluated_again() -> None:
    here = [info(15, [5, 10]), info(10, [5]), info(5, [])]
    there = [info(15, [5]), info(10, [5])]
    assert in_common([here, there]) == [info(15, [5]), info(10, [5])]
    assert in_common([here]) == here
    assert in_common([here, []]) == []


@pytest.mark.parametrize("other", [{"synced_at": 15}, {"posted": [5]}, {"kept": [10]}])
def test_copies_with_other_things_left_to_do_are_not_the_same(other: dict[str, Any]) -> None:
    """Ranks that a signal stopped on different sides of a redistribution or a snapshot."""
    here, there = info(15, [5]), replace(info(15, [5]), **other)
    assert in_common([[here, info(10, [])], [there, info(10, [])]]) == [info(10, [])]


def refused(directories: list[int], natural: list[list[int]], adversarial: list[list[int]]) -> bool:
    """Whether copies of these iterations, of which none fit together, are refused."""
    run: Any = SimpleNamespace(directory=SimpleNamespace(checkpoints=Path("/data/checkpoints")))
    state: Any = SimpleNamespace(directories=directories)
    copies = {
        name: [[info(step, []) for step in steps] for steps in found]
        for name, found in zip(LEARNERS, (natural, adversarial), strict=True)
    }
    try:
        check_directories(run, state, copies)
    except UserError as error:
        return "/data/checkpoints of different machines do not fit together" in str(error)
    return False


def test_old_copies_on_a_machine_are_refused() -> None:
    assert refused([0, 1], [[160, 150], [20, 10]], [[160, 150], [20, 10]])  # shared
    assert refused([0, 1], [[160, 150]], [[20, 10]])  # a learner on each
    assert not refused([0, 0], [[160, 150]], [[20, 10]])  # one directory
    assert not refused([0, 1], [[5], []], [[5], [5]])  # no time for the first one


def missing(assignment: Assignment, directories: list[int], *files: dict[str, int]) -> list[str]:
    """What is said of the natural learner where ranks have so many ``files`` of each; without
    any, a rank has begun the run all the same."""
    run: Any = SimpleNamespace(directory=SimpleNamespace(checkpoints=Path("/data/checkpoints")))
    state: Any = SimpleNamespace(assignment=assignment, directories=directories)
    reports = []
    for counts in files:
        number = dict.fromkeys(LEARNERS, 0) | counts
        found = {name: [info(1, [])] * number[name] for name in LEARNERS}
        reports.append({"files": number, "found": found, "begun": True})
    return missing_elsewhere(run, state, "natural", reports)


@pytest.mark.parametrize(
    ("assignment", "files"),
    [
        (SHARED, ({"natural": 2}, {})),  # another machine than before
        (SHARED, ({"natural": 1}, {"adversarial": 1})),
        (APART, ({"adversarial": 1}, {"natural": 1})),  # the machines of before in another order
    ],
)
def test_a_machine_without_a_learner_that_it_trains_is_refused(
    assignment: Assignment, files: tuple[dict[str, int], ...]
) -> None:
    with pytest.raises(UserError, match=r"sees no checkpoint of the natural .* continue on the"):
        missing(assignment, [0, 1], *files)


def test_a_machine_that_had_no_time_for_its_first_checkpoint_is_said() -> None:
    said = missing(SHARED, [0, 1], {"natural": 1}, {})
    assert said == ["rank 1 sees no checkpoint of the natural learner"]


@pytest.mark.parametrize(
    ("assignment", "directories", "files"),
    [
        (SHARED, [0, 1], ({"natural": 2}, {"natural": 3})),
        (SHARED, [0, 1], ({}, {})),
        (APART, [0, 0], ({}, {"natural": 2})),  # one directory, whose files are of no use
        (APART, [0, 1], ({"natural": 2}, {"adversarial": 2})),
    ],
)
def test_other_directories_are_left_alone(
    assignment: Assignment, directories: list[int], files: tuple[dict[str, int], ...]
) -> None:
    assert missing(assignment, directories, *files) == []
