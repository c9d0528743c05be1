"""What is aimed at, and whether it is met."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scaling.cases import BASELINES

SLACK = 0.03
"""How much longer `dedicated` may take than the learners' costs allow."""


@dataclass(frozen=True)
class Target:
    """A figure that should be at least, or at most, ``wanted``; ``turns``: the same by turn, if it
    is known, whose median then decides, unless their range spans what is wanted."""

    words: str
    measured: float
    wanted: float
    at_most: bool = False
    percent: bool = False
    turns: Sequence[float] = ()

    @property
    def met(self) -> bool:
        """Whether it is."""
        value = statistics.median(self.turns) if self.turns else self.measured
        return value <= self.wanted if self.at_most else value >= self.wanted

    @property
    def verdict(self) -> str:
        """``met``, ``not met``, or ``undecided``: turns are on both sides of what is wanted."""
        if self.turns and min(self.turns) < self.wanted < max(self.turns):
            return "undecided"
        return "met" if self.met else "not met"

    def row(self) -> list[str]:
        """Cells of a table: what, wanted, measured, median and range of the turns, verdict."""
        sign = "≤" if self.at_most else "≥"
        show = "{:.1%}" if self.percent else "{:.3f}"
        turns = "–"
        if self.turns:
            figures = statistics.median(self.turns), min(self.turns), max(self.turns)
            turns = "{} ({} … {})".format(*map(show.format, figures))
        return [
            self.words, f"{sign} {show.format(self.wanted)}", show.format(self.measured),
            turns, self.verdict,
        ]  # fmt: skip


def speedups(found: Mapping[str, Any]) -> dict[str, float]:
    """How much faster each parallel variant is than the same shards on one core."""
    return {
        name: found[base]["seconds"] / found[name]["seconds"] for name, base in BASELINES.items()
    }


def by_turn(found: Mapping[str, Any], name: str) -> list[float]:
    """The speed-up of a parallel variant in each turn, in which its baseline ran, too."""
    pairs = zip(found[BASELINES[name]]["bouts"], found[name]["bouts"], strict=True)
    return [base / seconds for base, seconds in pairs]


def allowed(found: Mapping[str, Any]) -> float:
    """Seconds that `dedicated` takes on two ranks if all of the smaller learner is hidden."""
    serial = found["serial"]
    seconds: float = serial["seconds"] - min(serial["learners"].values())
    return seconds


def targets(found: Mapping[str, Any]) -> list[Target]:
    """Those of a network whose figures are ``found``, the ones for unequal ranks included."""
    faster = speedups(found)
    hidden = min(found["serial"]["learners"].values())
    pairs = zip(found["serial"]["bouts"], found["dedicated-2"]["bouts"], strict=True)
    dedicated = [seconds / (serial - hidden) for serial, seconds in pairs]
    busy = found["unequal"]["balanced"]["by_rank"]["busy"]
    return [
        Target("`shared-2` over `serial-2-shards`", faster["shared-2"], 1.9,
               turns=by_turn(found, "shared-2")),
        Target("`balanced-2` over `serial-2-shards`", faster["balanced-2"], 1.85,
               turns=by_turn(found, "balanced-2")),
        Target(
            "`dedicated-2`, relative to what the learners' costs allow",
            found["dedicated-2"]["seconds"] / allowed(found), 1 + SLACK, at_most=True,
            turns=dedicated,
        ),
        Target("`trades-2` over `trades-1`", faster["trades-2"], 1.85,
               turns=by_turn(found, "trades-2")),
        Target(
            "unequal ranks, `balanced`: busy share of the less busy one", min(busy), 0.9,
            percent=True,
        ),
        Target(
            "`dedicated-2`: stopped at redistributions",
            found["dedicated-2"]["stopped_at_sync"], 0.02, at_most=True, percent=True,
        ),
        *(
            Target(
                f"`{name}`: at redistributions, the rank that waits most",
                max(found[name]["by_rank"]["sync"]), 0.02, at_most=True, percent=True,
            )
            for name in ("shared-2", "balanced-2")
        ),
    ]  # fmt: skip
