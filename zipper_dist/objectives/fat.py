"""Friendly adversarial training (FAT)."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from zipper_dist.attacks import PGD, FriendlyPGD
from zipper_dist.config import ranges
from zipper_dist.config.schedules import Schedule, ScheduleOption
from zipper_dist.objectives.at import Adversarial, AtConfig
from zipper_dist.objectives.base import OBJECTIVES

QUARTERS = Schedule(((0.0, 0.0), (0.75, 3.0)))


@dataclass(frozen=True)
class FatConfig(AtConfig):
    """A base learner that trains by FAT."""

    objective: str = "fat"
    takes_mixtures: ClassVar[bool] = False  # an image is misclassified or it is not
    tau: ScheduleOption = QUARTERS
    """Stop the attack on an image after so many misclassified steps [steps, by progress 0 … 1]."""
    omega: float = 0.0
    """Noise added with each step of the attack; 0.001 in the authors' code [1 = full range]."""

    def problems(self, option: str) -> Iterator[str]:
        """See :class:`~zipper_dist.config.schema.LearnerConfig`."""
        yield from super().problems(option)
        yield from ranges.values(f"{option}.tau", self.tau)
        yield from ranges.number(f"{option}.omega", self.omega, 0, 1)


@OBJECTIVES.register("fat")
class Fat(Adversarial):
    """Cross-entropy on images attacked until they are misclassified, and then τ(t) steps further.

    Source: Zhang et al., "Attacks Which Do Not Kill Training Make Adversarial Learning Stronger",
    ICML 2020, algorithms 1 and 2.
    """

    Config = FatConfig
    config: FatConfig

    def attack(self, progress: float) -> PGD:
        """The attack at ``progress`` 0 … 1 of the run."""
        return FriendlyPGD.of(
            self.config.attack,
            self.config.attack.schedule(progress),
            tau=self.tau_at(progress),
            fixed_shape=self.attacked.fixed_shape,
            omega=self.config.omega,
        )

    def tau_at(self, progress: float) -> int:
        """τ at ``progress`` 0 … 1: the schedule, rounded down [steps]."""
        # 1e-9: interpolation may round a whole number down.
        return math.floor(self.config.tau(progress) + 1e-9)
