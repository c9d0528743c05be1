"""Which rank trains which shards of which learners; pure functions of costs."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Costs = Mapping[str, float]
"""What an iteration of a whole learner costs, by name [s]."""


@dataclass(frozen=True)
class Assignment:
    """The shards of each learner that each rank trains; every shard is trained by one rank."""

    shards: int  # of every learner
    items: tuple[Mapping[str, tuple[int, ...]], ...]  # by rank: its learners, and shards of each

    def ranks_of(self, learner: str) -> list[int]:
        """The ranks that train a learner; the first is its leader, which saves it."""
        return [rank for rank, mine in enumerate(self.items) if learner in mine]

    def led_by(self, rank: int) -> list[str]:
        """The learners whose leader is ``rank``."""
        return [name for name in self.items[rank] if self.ranks_of(name)[0] == rank]

    def companions(self, rank: int) -> list[int]:
        """The ranks that keep step with ``rank``, itself among them: those that train a learner
        with it, those that train one with these, and so on."""
        found, new = {rank}, {rank}
        while new:
            learners = {name for each in new for name in self.items[each]}
            new = {other for name in learners for other in self.ranks_of(name)} - found
            found |= new
        return sorted(found)

    def together(self, learner: str) -> set[str]:
        """The learners that keep step with ``learner``, itself among them."""
        ranks = self.companions(self.ranks_of(learner)[0])
        return {name for rank in ranks for name in self.items[rank]}

    def loads(self, costs: Sequence[Costs]) -> list[float]:
        """What an iteration takes each rank, from the costs on it [s]."""
        return [
            sum(costs[rank][name] * len(mine) / self.shards for name, mine in items.items())
            for rank, items in enumerate(self.items)
        ]


def rank_counts(costs: Costs, ranks: int, most: int) -> dict[str, int]:
    """How many of ``ranks``, at least as many as learners, each learner gets, one learner a rank
    and at most ``most`` ranks a learner, so that the slowest is as fast as can be: each further
    rank goes to the slowest so far."""
    counts = dict.fromkeys(costs, 1)
    for _ in range(ranks - len(costs)):
        taking = [name for name in costs if counts[name] < most]
        counts[max(taking, key=lambda name: costs[name] / counts[name])] += 1
    return counts


def dedicated(counts: Mapping[str, int], shards: int) -> Assignment:
    """One learner on each rank, ``counts`` ranks for each, in order; at most ``shards`` each."""
    items: list[Mapping[str, tuple[int, ...]]] = []
    for name, count in counts.items():
        items += [{name: part} for part in _dealt(shards, count)]
    return Assignment(shards, tuple(items))


def shared(learners: Sequence[str], ranks: int, shards: int) -> Assignment:
    """Every learner on each of at most ``shards`` ranks."""
    parts = _dealt(shards, ranks)
    return Assignment(shards, tuple(dict.fromkeys(learners, part) for part in parts))


def balanced(costs: Sequence[Costs], shards: int) -> Assignment:
    """The shards of all learners on ranks with ``costs`` of their own, so that all are busy alike:
    the largest first, each where it would be done first."""
    learners = list(costs[0])
    size = {name: sum(each[name] for each in costs) for name in learners}
    load = [0.0] * len(costs)
    items: list[dict[str, list[int]]] = [{} for _ in costs]
    for name in sorted(learners, key=lambda name: -size[name]):
        for shard in range(shards):
            done = [load[rank] + costs[rank][name] / shards for rank in range(len(costs))]
            rank = done.index(min(done))
            load[rank] = done[rank]
            items[rank].setdefault(name, []).append(shard)
    # In the order of the method, which decides the order of sums.
    ordered = ({name: tuple(mine[name]) for name in learners if name in mine} for mine in items)
    return Assignment(shards, tuple(ordered))


def whole_learners(costs: Costs, ranks: int, shards: int) -> Assignment:
    """Whole learners on at most as many ranks as there are learners: the largest first, each where
    there is least to do."""
    parts = tuple(range(shards))
    whole = balanced([costs] * ranks, 1)
    return Assignment(shards, tuple(dict.fromkeys(mine, parts) for mine in whole.items))


def _dealt(shards: int, ranks: int) -> list[tuple[int, ...]]:
    """0 … shards - 1 in ``ranks`` runs, as equal in length as can be."""
    ends = [rank * shards // ranks for rank in range(ranks + 1)]
    return [tuple(range(a, b)) for a, b in itertools.pairwise(ends)]
