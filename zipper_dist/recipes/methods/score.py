"""SCORE."""

from dataclasses import replace

from zipper_dist.config.schema import TrainConfig
from zipper_dist.objectives.base import with_objective
from zipper_dist.objectives.score import ScoreConfig
from zipper_dist.recipes.methods import LIKE_CIFAR10, alone, falling
from zipper_dist.recipes.registry import METHODS


@METHODS.register("score")
def score(base: TrainConfig) -> TrainConfig:
    """SCORE (Pang et al., 2022), published for CIFAR-10 without additional images: 110 epochs
    there, rates falling at 100 and 105."""
    learner = with_objective(base.learners["adversarial"], ScoreConfig)
    if base.data.source in LIKE_CIFAR10:
        schedule = falling((100 / 110, 0.1), (105 / 110, 0.01))
        learner = replace(learner, lr=0.05, weight_decay=5e-4, schedule=schedule, clip=0.3)
    return alone(base, "adversarial", learner)
