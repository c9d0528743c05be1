"""Friendly adversarial training (FAT)."""

from dataclasses import replace

from zipper_dist.config.schedules import Schedule
from zipper_dist.config.schema import TrainConfig
from zipper_dist.objectives.base import with_objective
from zipper_dist.objectives.fat import FatConfig
from zipper_dist.recipes.methods import LIKE_CIFAR10, alone, falling
from zipper_dist.recipes.registry import METHODS


@METHODS.register("fat")
def fat(base: TrainConfig) -> TrainConfig:
    """FAT (Zhang et al., 2020), published for CIFAR-10: τ is 1 from epoch 50, 2 from 90 of 120."""
    learner = with_objective(base.learners["adversarial"], FatConfig)
    if base.data.source in LIKE_CIFAR10:
        learner = replace(
            learner,
            lr=0.1,
            weight_decay=2e-4,
            schedule=falling((60 / 120, 0.1), (90 / 120, 0.01), (110 / 120, 0.005)),
            tau=Schedule(((0.0, 0.0), (0.416667, 1.0), (0.75, 2.0))),
        )
    return alone(base, "adversarial", learner)
