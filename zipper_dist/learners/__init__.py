"""Base learners and their objectives."""

from zipper_dist.learners.flat import FlatState
from zipper_dist.learners.learner import BaseLearner, StepResult, warmed_up
from zipper_dist.learners.objectives import Moment, Objective, make_objective

__all__ = [
    "BaseLearner",
    "FlatState",
    "Moment",
    "Objective",
    "StepResult",
    "make_objective",
    "warmed_up",
]
