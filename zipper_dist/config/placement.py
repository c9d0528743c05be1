"""Options of the placement: which ranks train what."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from zipper_dist.config import ranges
from zipper_dist.config.schedules import one_word

Mode = Literal["dedicated", "shared", "balanced"]


@dataclass(frozen=True)
class RankCounts:
    """How many ranks each learner gets: ``natural=1,adversarial=3``; none, ``auto``: not said."""

    counts: tuple[tuple[str, int], ...] = ()

    @staticmethod
    def parse(text: str) -> RankCounts:
        """Read what an option says; raises ValueError if it cannot be read."""
        counts = []
        for part in text.split(",") if text != "auto" else ():
            name, _, count = part.partition("=")
            if not (name and count.isascii() and count.isdigit() and int(count) > 0):
                raise ValueError(
                    f"{text!r} does not say how many ranks each learner gets: give, "
                    "for example, natural=1,adversarial=3"
                )
            counts.append((name, int(count)))
        return RankCounts(tuple(counts))

    def __str__(self) -> str:
        return ",".join(f"{name}={count}" for name, count in self.counts) or "auto"


RankCountsOption = Annotated[RankCounts, one_word(RankCounts, RankCounts.parse, "NAME=N,…")]


@dataclass(frozen=True)
class PlacementConfig:
    """Which ranks train what. It decides how long a run takes, and not what it ends with; only the
    number of shards belongs to the result."""

    mode: Mode = "dedicated"
    """dedicated: every rank trains one learner; shared: every rank trains every learner, on its
    shards; balanced: shards go where they are done first, for ranks of different speed."""
    shards: int | Literal["auto"] = "auto"
    """Equal parts of the minibatch that are attacked and trained on one by one; auto: as many as
    any learner has ranks when the run starts, or the next number that divides the minibatch."""
    ranks: RankCountsOption = RankCounts()
    """Ranks of each learner (natural=1,adversarial=3), for dedicated; auto: by measured cost."""

    def problems(self, learners: Sequence[str]) -> Iterator[str]:
        """What is wrong with the options for ``learners``, a line each."""
        if self.shards != "auto":
            yield from ranges.at_least_one("--placement.shards", self.shards)
        if not self.ranks.counts:
            return
        if self.mode != "dedicated":
            yield f"--placement.ranks {self.ranks}: is for --placement.mode dedicated alone"
        if sorted(name for name, _ in self.ranks.counts) != sorted(learners):
            wanted = ", ".join(learners)
            yield f"--placement.ranks {self.ranks}: name each of the learners ({wanted}) once"
