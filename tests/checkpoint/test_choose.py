"""Which checkpoints a run continues from."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping

from hypothesis import given, settings
from hypothesis import strategies as st

from checkpoint.parts import info_of
from zipper_dist.checkpoint.format import (
    CheckpointInfo,
    choose,
)


def adversarials(*steps: int, synced_at: int = 0) -> list[CheckpointInfo]:
    return [info_of("adversarial", step, synced_at) for step in steps]


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
