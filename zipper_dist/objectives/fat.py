"""Friendly adversarial training (FAT)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from zipper_dist.attacks import FriendlyPGD, SharedDraws
from zipper_dist.config import ranges
from zipper_dist.config.schedules import Schedule, ScheduleOption
from zipper_dist.data import Minibatch
from zipper_dist.objectives.at import Adversarial, AtConfig
from zipper_dist.objectives.base import OBJECTIVES, Attacked, StepContext

QUARTERS = Schedule(((0.0, 0.0), (0.75, 3.0)))


@dataclass(frozen=True)
class FatConfig(AtConfig):
    """A base learner that trains by FAT."""

    objective: str = "fat"
    tau: ScheduleOption = QUARTERS
    """An image is attacked no further once it took this many steps while misclassified; over the
    run, rounded down: by default 0, 1, 2 and 3 in its quarters [steps, by progress 0 … 1]."""

    def problems(self, option: str) -> Iterator[str]:
        """See :class:`~zipper_dist.config.schema.LearnerConfig`."""
        yield from super().problems(option)
        yield from ranges.values(f"{option}.tau", self.tau)


@OBJECTIVES.register("fat")
class Fat(Adversarial):
    """Cross-entropy on images attacked until they are misclassified, and then τ(t) steps further.

    Source: Zhang et al., "Attacks Which Do Not Kill Training Make Adversarial Learning Stronger",
    ICML 2020, algorithms 1 and 2.
    """

    Config = FatConfig

    def __init__(self, config: FatConfig, attacked: Attacked) -> None:
        super().__init__(config, attacked)
        self.tau = config.tau

    def perturb(self, batch: Minibatch, context: StepContext) -> Tensor:
        """The attacked images, (B, C, H, W)."""
        attack = FriendlyPGD.of(
            self.attack,
            self.attack.schedule(context.progress),
            tau=self.tau_at(context.progress),
            fixed_shape=self.attacked.fixed_shape,
        )
        draws = SharedDraws(context.generator(batch.images.device, "pgd-start"))
        with self.attacked.now() as network:
            return attack.run(network, batch.images, batch.labels, draws)

    def tau_at(self, progress: float) -> int:
        """τ at ``progress`` 0 … 1: the schedule, rounded down [steps]."""
        # A line through whole numbers may miss them by its rounding.
        return math.floor(self.tau(progress) + 1e-9)
