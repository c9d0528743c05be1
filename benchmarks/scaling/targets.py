"""What is aimed at, and whether it is met."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from scaling.cases import BASELINES

SLACK = 0.03
"""How much longer `dedicated` may take than the learners' costs allow."""


@dataclass(frozen=True)
class Target:
    """A figure that should be at least, or at most, ``wanted``."""

    words: str
    measured: float
    wanted: float
    at_most: bool = False
    percent: bool = False

    @property
    def met(self) -> bool:
        """Whether it is."""
        return self.measured <= self.wanted if self.at_most else self.measured >= self.wanted

    def row(self) -> list[str]:
        """Cells of a table: what, wanted, measured, met."""
        sign = "≤" if self.at_most else "≥"
        show = "{:.1%}" if self.percent else "{:.3f}"
        return [
            self.words, f"{sign} {show.format(self.wanted)}", show.format(self.measured),
            "met" if self.met else "not met",
        ]  # fmt: skip


def speedups(found: Mapping[str, Any]) -> dict[str, float]:
    """How much faster each parallel variant is than the same shards on one core."""
    return {
        name: found[base]["seconds"] / found[name]["seconds"] for name, base in BASELINES.items()
    }


def allowed(found: Mapping[str, Any]) -> float:
    """Seconds that `dedicated` takes on two ranks if all of the smaller learner is hidden."""
    serial = found["serial"]
    seconds: float = serial["seconds"] - min(serial["learners"].values())
    return seconds


def targets(found: Mapping[str, Any]) -> list[Target]:
    """Those of a network whose figures are ``found``, the ones for unequal ranks included."""
    faster = speedups(found)
    busy = found["unequal"]["balanced"]["by_rank"]["busy"]
    return [
        Target("`shared-2` over `serial-2-shards`", faster["shared-2"], 1.9),
        Target("`balanced-2` over `serial-2-shards`", faster["balanced-2"], 1.85),
        Target(
            "`dedicated-2`, relative to what the learners' costs allow",
            found["dedicated-2"]["seconds"] / allowed(found), 1 + SLACK, at_most=True,
        ),
        Target("`trades-2` over `trades-1`", faster["trades-2"], 1.85),
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
