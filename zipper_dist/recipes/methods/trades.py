"""TRADES."""

from dataclasses import replace

from zipper_dist.config.schema import TrainConfig
from zipper_dist.objectives.base import with_objective
from zipper_dist.objectives.trades import TradesConfig
from zipper_dist.recipes.methods import LIKE_CIFAR10, alone, falling
from zipper_dist.recipes.registry import METHODS


@METHODS.register("trades")
def trades(base: TrainConfig) -> TrainConfig:
    """TRADES (Zhang et al., 2019), published for CIFAR-10 and MNIST.

    On MNIST the ramp of eps and the learning rate are those of Zipper's adversarial learner: the
    published 0.01 is for five times as many epochs.
    """
    learner = with_objective(base.learners["adversarial"], TradesConfig)
    if base.data.source in LIKE_CIFAR10:
        schedule = falling((75 / 120, 0.1), (90 / 120, 0.01), (100 / 120, 0.001))
        learner = replace(learner, lr=0.1, weight_decay=2e-4, schedule=schedule)
    elif base.data.source == "mnist":
        schedule = falling((0.55, 0.1), (0.75, 0.01), (0.9, 0.001))
        learner = replace(learner, schedule=schedule, beta=1.0)
    return alone(base, "adversarial", learner)
