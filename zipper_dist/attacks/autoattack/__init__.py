"""AutoAttack: four attacks in turn, each on the examples that the ones before did not break.

Source: Croce and Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse
parameter-free attacks", ICML 2020.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from zipper_dist.attacks.autoattack.adapter import (
    APGD,
    FAB,
    ITERATIONS,
    QUERIES,
    APGDOnDLR,
    APGDTargeted,
)
from zipper_dist.attacks.autoattack.square import Square
from zipper_dist.attacks.base import ATTACKS, Attack

__all__ = ["APGD", "FAB", "APGDOnDLR", "APGDTargeted", "AutoAttack", "Square"]


@ATTACKS.register("aa")
@dataclass(frozen=True)
class AutoAttack(Attack):
    """The standard version of AutoAttack."""

    family = "aa"

    iterations: int = ITERATIONS
    """Of APGD and FAB, for a target."""
    queries: int = QUERIES
    """Of Square."""

    @property
    def parts(self) -> tuple[Attack, ...]:
        """See :class:`~zipper_dist.attacks.base.Attack`."""
        means: dict[str, Any] = {"eps": self.eps, "norm": self.norm}
        kinds = (APGD, APGDTargeted, FAB)
        found = (kind(iterations=self.iterations, **means) for kind in kinds)
        return (*found, Square(queries=self.queries, **means))
