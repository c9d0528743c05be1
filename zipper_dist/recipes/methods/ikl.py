"""IKL."""

from dataclasses import replace

from zipper_dist.config.schedules import Curve, Schedule
from zipper_dist.config.schema import AttackedLearnerConfig, TrainConfig
from zipper_dist.objectives.base import with_objective
from zipper_dist.objectives.ikl import IklConfig
from zipper_dist.recipes.methods import LIKE_CIFAR10, alone
from zipper_dist.recipes.registry import METHODS


@METHODS.register("ikl")
def ikl(base: TrainConfig) -> TrainConfig:
    """IKL (Cui et al., 2024), published for CIFAR-10: with AWP, and a radius that grows throughout
    the run. The authors' attack has two to five steps, ours those of the recipe."""
    before = base.learners["adversarial"]
    assert isinstance(before, AttackedLearnerConfig)
    learner = with_objective(before, IklConfig)
    if base.data.source in LIKE_CIFAR10:
        learner = replace(
            learner,
            lr=0.2,
            weight_decay=5e-4,
            schedule=Curve("cosine", 0.0),
            awp=0.005,
            attack=replace(before.attack, schedule=Schedule(((0.0, 0.0), (1.0, 1.0)))),
        )
    return alone(base, "adversarial", learner)
