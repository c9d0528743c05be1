"""Predicts seconds an iteration: a pure function of costs, an assignment and a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from zipper_dist.config.placement import Mode
from zipper_dist.distributed.assignment import (
    Assignment,
    balanced,
    dedicated,
    rank_counts,
    shared,
    whole_learners,
)


@dataclass(frozen=True)
class Link:
    """What joins the ranks: bandwidth [bytes/s] and latency [s] of one message; whether sums
    travel while the ranks compute."""

    name: str
    bandwidth: float
    latency: float
    overlaps: bool = True

    def all_reduce(self, size: float, ranks: int) -> float:
        """Seconds of a ring all-reduce of ``size`` bytes: 2 (n - 1) messages of an n-th each."""
        messages = 2 * (ranks - 1)
        return messages * (size / ranks / self.bandwidth + self.latency)


@dataclass(frozen=True)
class Cost:
    """What a learner's iteration costs [s]: ``fixed`` for each shard, ``images`` in all."""

    fixed: float
    images: float

    @staticmethod
    def fitted(whole: float, halves: float) -> Cost:
        """From what it takes in one shard, and in two, one after the other."""
        fixed = max(0.0, halves - whole)
        return Cost(fixed, max(0.0, halves - 2 * fixed))

    def of(self, part: int, shards: int) -> float:
        """Seconds of ``part`` of ``shards`` shards."""
        return part * (self.fixed + self.images / shards)


@dataclass(frozen=True)
class Workload:
    """A run: its learners' costs, in order; what every rank does beside them, loading and mixing
    [s]; the size of the weights in fp32 [bytes]; the interval of redistributions (0: none)."""

    learners: Mapping[str, Cost]
    rest: float
    weights: int
    every: int = 10

    def assign(
        self, mode: Mode, ranks: int, shards: int, speeds: Sequence[float] = ()
    ) -> Assignment:
        """Who trains what, as a run decides it; ``speeds``: of each rank (default: 1)."""
        whole = {name: cost.of(shards, shards) for name, cost in self.learners.items()}
        by_rank = [{n: c / s for n, c in whole.items()} for s in speeds or [1.0] * ranks]
        if ranks == 1 or mode == "shared":
            return shared(list(whole), ranks, shards)
        if mode == "balanced":
            return balanced(by_rank, shards)
        if ranks < len(whole):
            return whole_learners(whole, ranks, shards)
        return dedicated(rank_counts(whole, ranks, shards), shards)

    def shards(self, mode: Mode, ranks: int) -> int:
        """The number of shards for a run on powers of two of ranks: as many as any learner has."""
        if mode != "dedicated" or ranks == 1:
            return ranks
        if ranks <= len(self.learners):
            return 1
        whole = {name: cost.of(1, 1) for name, cost in self.learners.items()}
        most = max(rank_counts(whole, ranks, ranks).values())
        return 1 << (most - 1).bit_length()  # what divides a minibatch of a power of two

    def predict(self, assignment: Assignment, link: Link, speeds: Sequence[float] = ()) -> float:
        """Seconds an iteration: of the rank that is done last, with the sums of its learners, and
        an interval's share of a redistribution."""
        ranks = len(assignment.items)
        pace = list(speeds) or [1.0] * ranks
        width = 1 if assignment.shards <= 2 else 2  # sums of more shards travel in float64
        clock = [self.rest / each for each in pace]
        arrived = list(clock)  # when the last sum of each rank is there
        for name, cost in self.learners.items():
            group = assignment.ranks_of(name)
            for rank in group:
                part = len(assignment.items[rank][name])
                clock[rank] += cost.of(part, assignment.shards) / pace[rank]
            if len(group) == 1:
                continue
            begin = max(max(clock[rank], arrived[rank]) for rank in group)
            end = begin + link.all_reduce(width * self.weights, len(group))
            for rank in group:
                arrived[rank] = end
                if not link.overlaps:
                    clock[rank] = end
        return max(*clock, *arrived) + self.redistribution(link, ranks)

    def redistribution(self, link: Link, ranks: int) -> float:
        """Seconds of one, spread over the iterations of an interval."""
        if self.every == 0:
            return 0.0
        width = 1 if len(self.learners) <= 2 else 2
        checksums = 8 * ranks * (len(self.learners) + 1)  # by which ranks prove that they agree
        sums = link.all_reduce(width * self.weights, ranks) + link.all_reduce(checksums, ranks)
        return sums / self.every
