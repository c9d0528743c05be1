"""Who trains what, for any costs and number of ranks."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from zipper_dist.distributed.assignment import (
    Assignment,
    Costs,
    balanced,
    dedicated,
    rank_counts,
    shared,
    whole_learners,
)

seconds = st.floats(0.01, 100.0)
learners = st.dictionaries(st.sampled_from("abcd"), seconds, min_size=1)
ranks_and_shards = st.integers(1, 8).flatmap(
    lambda ranks: st.tuples(st.just(ranks), st.integers(ranks, 16))
)


def assert_complete(assignment: Assignment, names: Sequence[str]) -> None:
    """Every shard of every learner is on one rank."""
    found = sorted(
        (name, shard)
        for items in assignment.items
        for name, mine in items.items()
        for shard in mine
    )
    assert found == sorted((name, shard) for name in names for shard in range(assignment.shards))
    # The learners of a rank in the order of the method, which decides the order of sums.
    for items in assignment.items:
        assert list(items) == [name for name in names if name in items]
        assert all(items.values())


@given(learners, st.integers(0, 12))
def test_dedicated_ranks(costs: Costs, more: int) -> None:
    counts = rank_counts(costs, len(costs) + more, most=more + 1)
    assert sum(counts.values()) == len(costs) + more
    assignment = dedicated(counts, max(counts.values()))
    assert_complete(assignment, list(costs))
    assert all(len(items) == 1 for items in assignment.items)
    for name, count in counts.items():
        assert len(assignment.ranks_of(name)) == count
    # No other way to give out the ranks makes the slowest learner faster.
    slowest = max(costs[name] / counts[name] for name in costs)
    for giver in costs:
        for taker in costs:
            if giver != taker and counts[giver] > 1:
                changed = {**counts, giver: counts[giver] - 1, taker: counts[taker] + 1}
                assert max(costs[n] / changed[n] for n in costs) >= slowest * (1 - 1e-9)


def test_the_costly_learner_gets_most_ranks() -> None:
    costs = {"natural": 3, "adversarial": 23}
    assert rank_counts(costs, 8, most=8) == {"natural": 1, "adversarial": 7}
    assert rank_counts(costs, 8, most=4) == {"natural": 4, "adversarial": 4}
    items = dedicated({"natural": 1, "adversarial": 3}, 3).items
    assert items == (
        {"natural": (0, 1, 2)},
        {"adversarial": (0,)},
        {"adversarial": (1,)},
        {"adversarial": (2,)},
    )


@given(learners, ranks_and_shards)
def test_shared_ranks(costs: Costs, size: tuple[int, int]) -> None:
    ranks, shards = size
    assignment = shared(list(costs), ranks, shards)
    assert_complete(assignment, list(costs))
    assert all(list(items) == list(costs) for items in assignment.items)
    lengths = {len(mine) for items in assignment.items for mine in items.values()}
    assert max(lengths) - min(lengths) <= 1


@given(learners, st.lists(st.floats(0.1, 10.0), min_size=1, max_size=8), st.integers(1, 16))
def test_balanced_ranks(costs: Costs, speeds: list[float], shards: int) -> None:
    each = [{name: cost / speed for name, cost in costs.items()} for speed in speeds]
    assignment = balanced(each, shards)
    assert_complete(assignment, list(costs))
    took = assignment.loads(each)
    # The bound: all work at the sum of the speeds. Within one item's cost, on a rank of mean speed.
    mean = sum(speeds) / len(speeds)
    largest = max(costs.values()) / shards / mean
    assert max(took) <= (sum(costs.values()) / sum(speeds) + largest) * (1 + 1e-9)
    # A rank is without work only if it would take longer for what another one does.
    for idle, _ in ((rank, items) for rank, items in enumerate(assignment.items) if not items):
        for rank, items in enumerate(assignment.items):
            if items:
                smallest = min(items, key=lambda name: costs[name])
                assert each[idle][smallest] / shards >= took[rank] * (1 - 1e-9)


@given(learners, st.integers(1, 8), st.integers(1, 16))
def test_equal_ranks_all_have_work_where_there_is_enough(
    costs: Costs, ranks: int, shards: int
) -> None:
    assignment = balanced([costs] * ranks, shards)
    assert sum(map(bool, assignment.items)) == min(ranks, shards * len(costs))


@given(learners, st.integers(1, 4), st.integers(1, 8))
def test_whole_learners_on_few_ranks(costs: Costs, ranks: int, shards: int) -> None:
    ranks = min(ranks, len(costs))
    assignment = whole_learners(costs, ranks, shards)
    assert_complete(assignment, list(costs))
    assert all(assignment.items)
    assert all(len(assignment.ranks_of(name)) == 1 for name in costs)
