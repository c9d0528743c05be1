"""LBGAT."""

from dataclasses import replace

from zipper_dist.config.schema import TrainConfig
from zipper_dist.objectives.base import with_objective
from zipper_dist.objectives.lbgat import LbgatConfig
from zipper_dist.recipes.methods import LIKE_CIFAR10, falling, guided
from zipper_dist.recipes.registry import METHODS


@METHODS.register("lbgat")
def lbgat(base: TrainConfig) -> TrainConfig:
    """LBGAT (Cui et al., 2021), published for CIFAR-10: 100 epochs there, rates falling after 75
    and 90. The guide is a natural learner that is trained at the same time."""
    natural = base.learners["natural"]
    learner = with_objective(base.learners["adversarial"], LbgatConfig)
    if base.data.source in LIKE_CIFAR10:
        schedule = falling((75 / 100, 0.1), (90 / 100, 0.01))
        natural = replace(natural, lr=0.1, weight_decay=2e-4, schedule=schedule)
        learner = replace(learner, lr=0.1, weight_decay=2e-4, schedule=schedule)
    return guided(base, natural, learner)
