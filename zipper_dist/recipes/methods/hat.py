"""HAT."""

from dataclasses import replace

from zipper_dist.config.schedules import Curve
from zipper_dist.config.schema import TrainConfig
from zipper_dist.objectives.base import with_objective
from zipper_dist.objectives.hat import HatConfig
from zipper_dist.recipes.methods import LIKE_CIFAR10, guided
from zipper_dist.recipes.registry import METHODS


@METHODS.register("hat")
def hat(base: TrainConfig) -> TrainConfig:
    """HAT (Rade and Moosavi-Dezfooli, 2022), published for CIFAR-10: 50 epochs there. The helper
    is a natural learner that is trained at the same time."""
    natural = base.learners["natural"]
    learner = with_objective(base.learners["adversarial"], HatConfig)
    if base.data.source in LIKE_CIFAR10:
        schedule = Curve("one-cycle", 0.25)
        natural = replace(natural, lr=0.21, weight_decay=5e-4, nesterov=True, schedule=schedule)
        learner = replace(learner, lr=0.21, weight_decay=5e-4, nesterov=True, schedule=schedule)
    return guided(base, natural, learner)
