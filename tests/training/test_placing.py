"""Who trains what, from the options of a run."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from zipper_dist.config.placement import PlacementConfig, RankCounts
from zipper_dist.config.schema import TrainConfig
from zipper_dist.distributed.assignment import Assignment, dedicated, shared
from zipper_dist.errors import UserError
from zipper_dist.recipes.registry import recipe
from zipper_dist.training.setup.build import evaluators
from zipper_dist.training.setup.placing import FEWEST_IMAGES, UNEVEN, assign, costs_count, uneven

COSTS = {"natural": 1.0, "adversarial": 7.0}


def config_of(name: str = "digits", **options: Any) -> TrainConfig:
    return replace(recipe(name), placement=PlacementConfig(**options))


def assigned(
    ranks: int, config: TrainConfig | None = None, shards: int | None = None, batch_size: int = 24
) -> Assignment:
    return assign(config or config_of(), [COSTS] * ranks, batch_size, shards)


def sizes(assignment: Assignment) -> list[dict[str, int]]:
    return [{name: len(mine) for name, mine in each.items()} for each in assignment.items]


@given(st.integers(1, 40), st.integers(1, 300))
def test_shards_for_ranks_that_are_about_equally_busy(ranks: int, batch_size: int) -> None:
    """One learner, which all ranks share, so that the largest share is what an iteration takes."""
    assume(ranks <= batch_size)
    alone = config_of("digits-trades", mode="shared")

    def with_shards(shards: int | None) -> tuple[int, float]:
        found = assign(alone, [{"adversarial": 1.0}] * ranks, batch_size, shards)
        assert sum(len(mine["adversarial"]) for mine in found.items) == found.shards
        return found.shards, ranks * max(found.loads([{"adversarial": 1.0}] * ranks))

    shards, slowdown = with_shards(None)
    fitting = [n for n in range(ranks, batch_size + 1) if batch_size % n == 0]
    assert shards in fitting
    if ranks in fitting:
        assert shards == ranks
    if shards > fitting[0]:  # for that, shards are not made too small
        assert batch_size // shards >= FEWEST_IMAGES
        assert slowdown < with_shards(fitting[0])[1]
    for other in fitting:
        if batch_size // other >= FEWEST_IMAGES:
            assert slowdown < max(UNEVEN, with_shards(other)[1]) + 1e-9
            assert other >= shards or with_shards(other)[1] > max(UNEVEN, slowdown) - 1e-9


def test_shards_of_a_usual_minibatch() -> None:
    alone = config_of("digits-trades", mode="shared")
    found = [assign(alone, [{"adversarial": 1.0}] * n, 128, None).shards for n in range(1, 9)]
    assert found == [1, 2, 8, 4, 8, 16, 16, 8]


def test_ranks_that_are_not_equally_busy_are_told_what_would_be_even() -> None:
    learners = ("natural", "adversarial")
    (note,) = uneven(shared(learners, 7, 16), 128)
    assert note == (
        "16 shards of the natural learner are unequal shares for 7 ranks, which wait 24 % of the "
        "time: even would be 4 or 8 ranks, or a new run with --batch-size 126 --placement.shards 7"
    )
    (note,) = uneven(dedicated({"natural": 1, "adversarial": 3}, 8), 24)
    assert "8 shards of the adversarial learner" in note
    assert note.endswith("even would be 2 or 4 ranks, or a new run with --placement.shards 3")
    for even in (shared(learners, 8, 16), dedicated({"natural": 1, "adversarial": 1}, 1)):
        assert uneven(even, 128) == []


def test_one_or_two_ranks_have_one_shard() -> None:
    assert sizes(assigned(1)) == [{"natural": 1, "adversarial": 1}]
    assert sizes(assigned(2)) == [{"natural": 1}, {"adversarial": 1}]


def test_more_ranks_go_to_the_costly_learner_and_shards_follow() -> None:
    assert sizes(assigned(4)) == [{"natural": 3}, *[{"adversarial": 1}] * 3]
    # Five do not divide 24: six.
    assert assigned(6).shards == 6
    assert sizes(assigned(6))[0] == {"natural": 6}
    assert sum(each["adversarial"] for each in sizes(assigned(6))[1:]) == 6


def test_ranks_can_be_given() -> None:
    counts = RankCounts.parse("adversarial=1,natural=2")
    assert not costs_count(config_of(ranks=counts), 3)
    assert sizes(assigned(3, config_of(ranks=counts))) == [
        {"natural": 1},
        {"natural": 1},
        {"adversarial": 2},
    ]


def test_fewer_ranks_than_learners_train_whole_ones() -> None:
    config, costs = config_of("digits-multinorm"), {"natural": 1.0, "linf": 7.0, "l2": 7.0}
    found = assign(config, [costs] * 2, 24, None)
    assert sizes(found) == [{"natural": 1, "linf": 1}, {"l2": 1}]
    assert costs_count(config, 2)
    assert not costs_count(config, 3)
    assert not costs_count(config, 1)


def test_shared_and_balanced() -> None:
    assert sizes(assigned(3, config_of(mode="shared"))) == [{"natural": 1, "adversarial": 1}] * 3
    assert costs_count(config_of(mode="balanced"), 2)
    balanced = assigned(2, config_of(mode="balanced", shards=4))
    assert sizes(balanced) == [{"natural": 2, "adversarial": 2}] * 2


def test_a_rank_that_would_be_idle_is_named() -> None:
    slow = {name: 50 * cost for name, cost in COSTS.items()}
    with pytest.raises(UserError, match=r"rank 1 would have nothing to do.*more than 2 shards"):
        assign(config_of(mode="balanced", shards=2), [COSTS, slow], 24, None)


def test_ranks_that_wait_evaluate_or_else_all() -> None:
    assert evaluators(assigned(2), config_of()) == [0]
    assert evaluators(assigned(4), config_of()) == [0]
    shared = config_of(mode="shared")
    assert evaluators(assigned(3, shared), shared) == [0, 1, 2]
    alone = config_of("digits-trades")
    assert evaluators(assign(alone, [{"adversarial": 1.0}] * 2, 24, None), alone) == [0, 1]


def test_a_run_that_goes_on_keeps_its_shards() -> None:
    assert assigned(1, shards=8).shards == 8
    assert sizes(assigned(3, shards=2)) == [{"natural": 2}, *[{"adversarial": 1}] * 2]
    with pytest.raises(UserError, match="3 ranks have too little to do"):
        assigned(3, config_of(mode="shared"), shards=2)


@pytest.mark.parametrize(
    ("ranks", "options", "words"),
    [
        (
            1,
            {"shards": 5},
            "--placement.shards 5: must divide --batch-size 24; give one of 1, 2, 3",
        ),
        (3, {"mode": "shared", "shards": 2}, "3 ranks have too little to do"),
        (5, {"mode": "balanced", "shards": 2}, "shards of all learners: 4"),
        (5, {"shards": 2}, "shards of all learners: 4"),
        (25, {"mode": "shared"}, "25 ranks are more than the 24 images"),
        (3, {"ranks": RankCounts.parse("natural=1,adversarial=3")}, "these are 4 ranks, and 3"),
        (
            4,
            {"ranks": RankCounts.parse("natural=1,adversarial=3"), "shards": 2},
            "4 ranks have too little|3 ranks have too little",
        ),
    ],
)
def test_what_cannot_be(ranks: int, options: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        assigned(ranks, config_of(**options))


@pytest.mark.parametrize("text", ["", "natural", "natural=0", "natural=x", "=2", "natural:2"])
def test_ranks_that_cannot_be_read(text: str) -> None:
    with pytest.raises(ValueError, match="natural=1,adversarial=3"):
        RankCounts.parse(text)


def test_ranks_are_written_as_they_are_read() -> None:
    for text in ("auto", "natural=1,adversarial=3"):
        assert str(RankCounts.parse(text)) == text
