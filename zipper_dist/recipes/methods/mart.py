"""MART."""

from dataclasses import replace

from zipper_dist.config.schema import TrainConfig
from zipper_dist.objectives.base import with_objective
from zipper_dist.objectives.mart import MartConfig
from zipper_dist.recipes.methods import LIKE_CIFAR10, alone, falling
from zipper_dist.recipes.registry import METHODS


@METHODS.register("mart")
def mart(base: TrainConfig) -> TrainConfig:
    """MART (Wang et al., 2020), published for CIFAR-10 with Zipper's adversarial lr and decay."""
    learner = with_objective(base.learners["adversarial"], MartConfig)
    if base.data.source in LIKE_CIFAR10:
        schedule = falling((75 / 120, 0.1), (90 / 120, 0.01), (100 / 120, 0.001))
        learner = replace(learner, schedule=schedule)
    return alone(base, "adversarial", learner)
