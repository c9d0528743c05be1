"""Friendly adversarial training (FAT)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from zipper_dist.attacks import friendly_pgd, make_ball
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
        attack = context.strength(self.attack)
        x = batch.images
        start = x.detach()
        if attack.random_start:
            generator = context.generator(x.device, "pgd-start")
            start = make_ball(attack.norm, x, attack.eps).random_start(generator)
        with self.attacked.now() as network:
            return friendly_pgd(
                network,
                x,
                batch.labels,
                norm=attack.norm,
                eps=attack.eps,
                step_size=attack.step_size,
                steps=attack.steps,
                tau=self.tau_at(context.progress),
                start=start,
                fixed_shape=self.attacked.fixed_shape,
            )

    def tau_at(self, progress: float) -> int:
        """τ at ``progress`` 0 … 1: the schedule, rounded down [steps]."""
        # A line through whole numbers may miss them by its rounding.
        return math.floor(self.tau(progress) + 1e-9)
