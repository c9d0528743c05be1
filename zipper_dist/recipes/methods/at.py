"""Adversarial training (AT)."""

from zipper_dist.config.schema import TrainConfig
from zipper_dist.recipes.methods import alone
from zipper_dist.recipes.registry import METHODS


@METHODS.register("at")
def at(base: TrainConfig) -> TrainConfig:
    """AT (Madry et al., 2018): Zipper's adversarial learner, alone."""
    return alone(base, "adversarial", base.learners["adversarial"])
