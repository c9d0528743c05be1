"""AutoAttack: four attacks in turn, each on the examples that the ones before did not break."""

from dataclasses import dataclass

from zipper_dist.attacks.autoattack import adapter
from zipper_dist.attacks.autoattack.adapter import APGD, FAB, APGDOnDLR, APGDTargeted
from zipper_dist.attacks.autoattack.square import Square
from zipper_dist.attacks.base import ATTACKS, Attack

__all__ = ["APGD", "FAB", "APGDOnDLR", "APGDTargeted", "AutoAttack", "Square"]


@ATTACKS.register("aa")
@dataclass(frozen=True)
class AutoAttack(Attack):
    """The standard version of AutoAttack."""

    family = "aa"

    iterations: int = adapter.ITERATIONS
    """Of APGD and FAB, for a target."""
    queries: int = adapter.QUERIES
    """Of Square."""

    @property
    def parts(self) -> tuple[Attack, ...]:
        """See :class:`~zipper_dist.attacks.base.Attack`."""
        means = self.eps, self.norm, self.iterations
        return APGD(*means), APGDTargeted(*means), FAB(*means), Square(*means[:2], self.queries)
