from __future__ import annotations

import dataclasses
import itertools
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from zipper_dist.checkpoint.format import (
    CheckpointInfo,
    DamagedCheckpoint,
    LearnerCheckpoint,
    choose,
    load,
    path_of,
    prune,
    save,
    steps_of,
    survey,
)

BOTH = ["natural", "adversarial"]
THIS = 64 * "1"  # identity of the run


def info_of(
    learner: str,
    step: int,
    synced_at: int = 0,
    posted: list[int] | None = None,
    kept: list[int] | None = None,
    evaluated: list[int] | None = None,
) -> CheckpointInfo:
    return CheckpointInfo(learner, step, synced_at, posted or [], kept or [], evaluated or [], THIS)


def groups_of(seed: int = 0) -> dict[str, dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "learner": {
            "theta": torch.randn(7, generator=generator),
            "special": torch.tensor([torch.nan, -torch.inf, -0.0]),
            "integer/norm.num_batches_tracked": torch.tensor(12),
        },
        "look-5": {"share": torch.randn(2, 3, generator=generator).t()},
    }


def same_bits(one: Tensor, other: Tensor) -> bool:
    as_bytes = [tensor.contiguous().flatten().view(torch.uint8) for tensor in (one, other)]
    return one.dtype == other.dtype and one.shape == other.shape and torch.equal(*as_bytes)


def save_steps(directory: Path, learner: str, *steps: int) -> None:
    for step in steps:
        save(directory, LearnerCheckpoint(info_of(learner, step), groups_of(step)))


def test_a_part_survives_with_all_its_tensors_and_notes(tmp_path: Path) -> None:
    info = info_of("natural", 20, 15, posted=[5, 10], kept=[10], evaluated=[5])
    notes: dict[str, Any] = {"carry": 0.1 + 0.2, "history": [{"step": 5, "clean": 99.5}]}
    path = save(tmp_path, LearnerCheckpoint(info, groups_of(), notes))
    assert path == path_of(tmp_path, "natural", 20)
    assert list(tmp_path.iterdir()) == [path]

    part = load(path)
    assert part.info == info
    assert part.notes == notes
    assert part.groups.keys() == groups_of().keys()
    for group, tensors in groups_of().items():
        assert part.groups[group].keys() == tensors.keys()
        assert all(same_bits(part.groups[group][name], tensor) for name, tensor in tensors.items())


@settings(deadline=None)
@given(carry=st.floats(0, 1))
def test_numbers_in_notes_are_exact(carry: float) -> None:
    # An exact resume needs the last bit.
    with tempfile.TemporaryDirectory() as directory:
        part = LearnerCheckpoint(info_of("natural", 1), {}, {"carry": carry})
        assert load(save(Path(directory), part)).notes == {"carry": carry}


def test_a_part_is_a_copy_of_what_was_saved(tmp_path: Path) -> None:
    state = groups_of()
    path = save(tmp_path, LearnerCheckpoint(info_of("natural", 1), state))
    state["learner"]["theta"].fill_(0)
    assert torch.equal(load(path).groups["learner"]["theta"], groups_of()["learner"]["theta"])


def test_saving_a_step_again_replaces_it(tmp_path: Path) -> None:
    save_steps(tmp_path, "natural", 3)
    save(tmp_path, LearnerCheckpoint(info_of("natural", 3, evaluated=[3]), groups_of()))
    (found,), complaints = survey(tmp_path, "natural", THIS)
    assert found.evaluated == [3]
    assert complaints == []


names = st.text("abc/.-_0:", min_size=1, max_size=5)
groups = st.dictionaries(st.text("abc/.-_0", min_size=1, max_size=5), st.sets(names), max_size=4)


@settings(deadline=None)
@given(groups=groups)
def test_groups_are_taken_apart_as_they_were_put_together(groups: Mapping[str, set[str]]) -> None:
    grouped = {
        group: {name: torch.tensor(len(name)) for name in names} for group, names in groups.items()
    }
    with tempfile.TemporaryDirectory() as directory:
        part = load(save(Path(directory), LearnerCheckpoint(info_of("natural", 1), grouped)))
    assert part.groups == {group: tensors for group, tensors in grouped.items() if tensors}


@pytest.fixture(scope="module")
def intact(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    """A directory with parts at iterations 10 and 20, and the content of the newer one."""
    directory = tmp_path_factory.mktemp("checkpoints")
    save_steps(directory, "natural", 10, 20)
    return directory, path_of(directory, "natural", 20).read_bytes()


def assert_the_older_one_is_used(directory: Path) -> None:
    newest = path_of(directory, "natural", 20)
    with pytest.raises(DamagedCheckpoint, match="checksum"):
        load(newest)
    usable, (complaint,) = survey(directory, "natural", THIS)
    assert [part.step for part in usable] == [10]
    assert str(newest) in complaint
    chosen = choose({"natural": usable}, "natural", alone)
    assert chosen is not None
    assert chosen["natural"].step == 10


@settings(max_examples=150, deadline=None)
@given(data=st.data(), mask=st.integers(1, 255))
def test_one_changed_byte_anywhere_is_noticed(
    intact: tuple[Path, bytes], data: st.DataObject, mask: int
) -> None:
    directory, content = intact
    position = data.draw(st.integers(0, len(content) - 1), label="position")
    damaged = bytearray(content)
    damaged[position] ^= mask
    path_of(directory, "natural", 20).write_bytes(damaged)
    assert_the_older_one_is_used(directory)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_truncated_file_is_noticed(intact: tuple[Path, bytes], data: st.DataObject) -> None:
    directory, content = intact
    length = data.draw(st.integers(0, len(content) - 1), label="length")
    path_of(directory, "natural", 20).write_bytes(content[:length])
    assert_the_older_one_is_used(directory)


def test_bytes_at_the_end_are_noticed(intact: tuple[Path, bytes]) -> None:
    directory, content = intact
    path_of(directory, "natural", 20).write_bytes(content + b"\0")
    assert_the_older_one_is_used(directory)


def test_a_directory_in_place_of_a_file_is_reported(tmp_path: Path) -> None:
    save_steps(tmp_path, "natural", 10)
    path_of(tmp_path, "natural", 20).mkdir()
    usable, complaints = survey(tmp_path, "natural", THIS)
    assert [part.step for part in usable] == [10]
    assert len(complaints) == 1


def test_the_survey_is_of_one_learner_newest_first(tmp_path: Path) -> None:
    save_steps(tmp_path, "natural", 5, 200, 30)
    save_steps(tmp_path, "adversarial", 7)
    usable, complaints = survey(tmp_path, "natural", THIS)
    assert [(part.learner, part.step) for part in usable] == [
        ("natural", 200),
        ("natural", 30),
        ("natural", 5),
    ]
    assert complaints == []
    assert survey(tmp_path, "trades", THIS) == ([], [])
    assert survey(tmp_path / "absent", "natural", THIS) == ([], [])


def test_half_written_files_are_no_checkpoints(tmp_path: Path) -> None:
    save_steps(tmp_path, "natural", 5)
    (tmp_path / ".natural-00000009.ckpt.0123.tmp").write_bytes(b"half")
    assert steps_of(tmp_path, "natural") == [5]


def test_files_of_other_origin_are_no_checkpoints(tmp_path: Path) -> None:
    save_steps(tmp_path, "natural", 5)
    (tmp_path / "natural-lastgood.ckpt").write_bytes(b"")
    assert steps_of(tmp_path, "natural") == [5]


def test_prune_keeps_the_newest_three_complete_steps_and_all_that_is_newer(tmp_path: Path) -> None:
    save_steps(tmp_path, "natural", 10, 20, 30, 40, 50, 60, 70)
    save_steps(tmp_path, "adversarial", 10, 15, 20, 30, 40, 50)
    foreign = tmp_path / "notes.txt"
    foreign.write_text("mine")

    prune(tmp_path, ["natural"], BOTH, 0)
    assert steps_of(tmp_path, "natural") == [70, 60, 50, 40, 30]
    # The other rank's files are the other rank's.
    assert steps_of(tmp_path, "adversarial") == [50, 40, 30, 20, 15, 10]
    prune(tmp_path, ["adversarial"], BOTH, 0)
    assert steps_of(tmp_path, "adversarial") == [50, 40, 30]
    assert foreign.exists()


def test_prune_keeps_everything_while_there_is_little(tmp_path: Path) -> None:
    save_steps(tmp_path, "natural", 10, 20, 30, 40, 50)
    prune(tmp_path, ["natural"], BOTH, 0)
    assert len(steps_of(tmp_path, "natural")) == 5
    save_steps(tmp_path, "adversarial", 10, 20)
    prune(tmp_path, BOTH, BOTH, 0)
    assert len(steps_of(tmp_path, "natural")) == 5
    assert len(steps_of(tmp_path, "adversarial")) == 2


@settings(max_examples=20, deadline=None)
@given(
    mine=st.sets(st.integers(1, 12)),
    other=st.sets(st.integers(1, 12)),
    reached=st.integers(0, 14),
    keep=st.integers(1, 4),
)
def test_prune_leaves_what_it_should(
    mine: set[int], other: set[int], reached: int, keep: int
) -> None:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        for learner, steps in (("natural", mine), ("adversarial", other)):
            for step in steps:
                path_of(directory, learner, step).touch()
        prune(directory, ["natural"], BOTH, reached, keep)
        # Where the other's are elsewhere, it may not have made those from ``reached`` on.
        complete = mine & other if mine and other else {s for s in mine | other if s < reached}
        oldest = ([0] * keep + sorted(complete))[-keep]
        assert set(steps_of(directory, "natural")) == {step for step in mine if step >= oldest}
        assert set(steps_of(directory, "adversarial")) == other


def test_a_fast_learner_elsewhere_keeps_what_a_slow_one_needs(tmp_path: Path) -> None:
    """Checkpoints every 10, validations every 60; each learner in a directory of its own."""
    fast, slow = (tmp_path / name for name in BOTH)
    fast.mkdir()
    slow.mkdir()
    for step in range(10, 180, 10):
        posted = [look for look in (60, 120) if look <= step]
        save(fast, LearnerCheckpoint(info_of("natural", step, posted=posted, kept=posted), {}))
        prune(fast, ["natural"], BOTH, reached=0)
    save_steps(slow, "adversarial", 10, 20)  # and then it is killed
    natural, adversarial = survey(fast, "natural", THIS)[0], survey(slow, "adversarial", THIS)[0]
    assert chosen_steps(natural, adversarial) is not None
    # A redistribution after 90: the slow one has got there, but not saved.
    prune(fast, ["natural"], BOTH, reached=90)
    assert steps_of(fast, "natural") == list(range(170, 50, -10))
    prune(fast, ["natural"], BOTH, reached=175)
    assert steps_of(fast, "natural") == [170, 160, 150]


def chosen_steps(
    natural: list[CheckpointInfo], adversarial: list[CheckpointInfo], together: bool = False
) -> tuple[int, int] | None:
    chosen = choose(
        {"natural": natural, "adversarial": adversarial},
        "natural",
        companions(["natural", "adversarial"], together),
    )
    if chosen is None:
        return None
    assert {name: part.learner for name, part in chosen.items()} == {name: name for name in chosen}
    return chosen["natural"].step, chosen["adversarial"].step


def naturals(*steps: int, synced_at: int = 0) -> list[CheckpointInfo]:
    return [info_of("natural", step, synced_at) for step in steps]


def adversarials(*steps: int, synced_at: int = 0) -> list[CheckpointInfo]:
    return [info_of("adversarial", step, synced_at) for step in steps]


def test_the_newest_parts_are_chosen() -> None:
    assert chosen_steps(naturals(30, 20, 10), adversarials(30, 20, 10)) == (30, 30)
    # Learners may go on from different iterations.
    assert chosen_steps(naturals(47, 40, 30), adversarials(33, 30, 20)) == (47, 33)
    assert chosen_steps(naturals(10, 20, 30)[::-1], adversarials(20, 10)) == (30, 20)


def test_parts_of_different_redistributions_are_never_combined() -> None:
    natural = naturals(47, synced_at=40) + naturals(40, 30, synced_at=20)
    adversarial = adversarials(40, 30, synced_at=20)
    assert chosen_steps(natural, adversarial) == (40, 40)
    assert chosen_steps(naturals(47, synced_at=40), adversarial) is None
    # Not even where the steps agree.
    assert chosen_steps(naturals(40, synced_at=40), adversarials(40, synced_at=20)) is None


def test_the_slower_learner_counts_first() -> None:
    # Going back to the earlier redistribution would lose the adversarial learner's iterations,
    # which are the expensive ones.
    natural = naturals(45, synced_at=40) + naturals(100, synced_at=20)
    adversarial = adversarials(42, synced_at=40) + adversarials(39, synced_at=20)
    assert chosen_steps(natural, adversarial) == (45, 42)


def test_one_process_needs_parts_of_one_iteration() -> None:
    assert chosen_steps(naturals(47, 40, 30), adversarials(33, 30), together=True) == (30, 30)
    assert chosen_steps(naturals(47, 40), adversarials(33), together=True) is None


def test_without_a_part_of_each_learner_there_is_nothing_to_continue() -> None:
    assert chosen_steps(naturals(10), []) is None
    assert chosen_steps([], []) is None


def test_a_method_of_one_learner_continues_from_its_newest() -> None:
    parts = [info_of("trades", 20, 15), info_of("trades", 10)]
    assert choose({"trades": parts}, "trades", alone) == {"trades": parts[0]}


def test_a_look_that_cannot_be_posted_again_makes_a_part_unusable() -> None:
    lacking = info_of("adversarial", 30, posted=[10, 20, 30], kept=[20, 30])
    older = info_of("adversarial", 20, posted=[10, 20], kept=[10, 20])
    unevaluated = info_of("natural", 25, posted=[10, 20], kept=[10, 20])
    evaluated = dataclasses.replace(unevaluated, evaluated=[10])
    assert chosen_steps([evaluated], [lacking, older]) == (25, 30)
    assert chosen_steps([unevaluated], [lacking, older]) == (25, 20)
    assert chosen_steps([unevaluated], [lacking]) is None


def test_the_leader_too_must_be_able_to_post_its_looks_again() -> None:
    natural = info_of("natural", 30, posted=[10, 20, 30], kept=[20, 30], evaluated=[])
    adversarial = info_of("adversarial", 30, posted=[10, 20, 30], kept=[10, 20, 30])
    assert chosen_steps([natural], [adversarial]) is None
    evaluated = dataclasses.replace(natural, evaluated=[10])
    assert chosen_steps([evaluated], [adversarial]) == (30, 30)


def test_a_learner_that_has_yet_to_post_what_was_evaluated_does_not_fit() -> None:
    # The adversarial learner goes back to iteration 10, because its checkpoint of iteration 20 is
    # damaged or was never completed. It will post look 20, in which a leader that has evaluated it
    # takes no part: its share would be added to the leader's of another look, and all later
    # all-reduces, redistributions among them, would be paired wrongly.
    adversarial = info_of("adversarial", 10, posted=[10], kept=[10])
    leaders = [
        info_of("natural", 30, posted=[10, 20, 30], kept=[20, 30], evaluated=[10, 20]),
        info_of("natural", 20, posted=[10, 20], kept=[10, 20], evaluated=[10]),
    ]
    assert chosen_steps(leaders[:1], [adversarial]) is None
    assert chosen_steps(leaders, [adversarial]) == (20, 10)


def test_what_other_learners_know_of_evaluations_does_not_count() -> None:
    # Only the leader's process evaluates, so only its part knows.
    natural = info_of("natural", 20, posted=[10, 20], kept=[10, 20])
    adversarial = info_of("adversarial", 20, posted=[10, 20], kept=[20], evaluated=[10])
    assert chosen_steps([natural], [adversarial]) is None


some_steps = st.lists(
    st.tuples(st.integers(1, 9), st.integers(0, 2)), max_size=5, unique_by=lambda pair: pair[0]
)


@settings(deadline=None)
@given(natural=some_steps, adversarial=some_steps, together=st.booleans())
def test_no_better_pair_is_left_out(
    natural: list[tuple[int, int]], adversarial: list[tuple[int, int]], together: bool
) -> None:
    found = chosen_steps(
        [info_of("natural", step, synced_at) for step, synced_at in natural],
        [info_of("adversarial", step, synced_at) for step, synced_at in adversarial],
        together,
    )
    possible = [
        (step, other)
        for step, synced_at in natural
        for other, other_synced_at in adversarial
        if synced_at == other_synced_at and not (together and step != other)
    ]
    if found is None:
        assert not possible
    else:
        assert found in possible
        assert (min(found), sum(found)) == max((min(pair), sum(pair)) for pair in possible)


def alone(learner: str) -> list[str]:
    """A learner that keeps step with no other."""
    return [learner]


def companions(learners: list[str], together: bool) -> Callable[[str], list[str]]:
    """Which learners keep step with one: all, or none other."""
    return lambda learner: learners if together else [learner]


def newest_of_all(
    parts: Mapping[str, list[CheckpointInfo]], leader: str, together: bool
) -> tuple[int, int] | None:
    """The least and the sum of the iterations of the newest parts, of all combinations."""

    def fits(candidate: tuple[CheckpointInfo, ...]) -> bool:
        evaluated = next(part for part in candidate if part.learner == leader).evaluated
        return (
            len({part.synced_at for part in candidate}) == 1
            and not (together and len({part.step for part in candidate}) > 1)
            and all(s in part.kept or s in evaluated for part in candidate for s in part.posted)
            and all(set(evaluated) <= set(part.posted) for part in candidate)
        )

    fitting = filter(fits, itertools.product(*parts.values()))
    ages = [(min(p.step for p in found), sum(p.step for p in found)) for found in fitting]
    return max(ages, default=None)


snapshots = st.sets(st.sampled_from([2, 4]))
some_parts = st.lists(
    st.tuples(st.integers(1, 5), st.integers(0, 1), snapshots, snapshots, snapshots),
    max_size=4,
    unique_by=lambda part: part[0],
)


@settings(deadline=None, max_examples=300)
@given(found=st.lists(some_parts, min_size=1, max_size=4), data=st.data(), together=st.booleans())
def test_the_choice_among_any_number_of_learners_is_the_newest_of_all_combinations(
    found: list[list[tuple[int, int, set[int], set[int], set[int]]]],
    data: st.DataObject,
    together: bool,
) -> None:
    parts = {
        f"learner{i}": [
            info_of(f"learner{i}", step, synced_at, *map(sorted, sets))
            for step, synced_at, *sets in infos
        ]
        for i, infos in enumerate(found)
    }
    leader = data.draw(st.sampled_from(sorted(parts)))
    chosen = choose(parts, leader, companions(list(parts), together))
    wanted = newest_of_all(parts, leader, together)
    if chosen is None:
        assert wanted is None
    else:
        assert list(chosen) == list(parts)
        assert newest_of_all({n: [part] for n, part in chosen.items()}, leader, together) == wanted


def test_many_learners_take_no_longer_than_their_number() -> None:
    # All combinations would be 6 to the power of 40.
    parts = {f"learner{i}": [info_of(f"learner{i}", t) for t in range(6)] for i in range(40)}
    chosen = choose(parts, "learner0", companions(list(parts), together=True))
    assert chosen is not None
    assert {part.step for part in chosen.values()} == {5}
