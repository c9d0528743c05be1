"""Objectives: how a minibatch becomes a loss. A new method is a new objective, in a file here."""

from zipper_dist.objectives.base import (
    OBJECTIVES,
    LearnerSteps,
    Objective,
    StepContext,
    make_objective,
    state_of,
)

__all__ = ["OBJECTIVES", "LearnerSteps", "Objective", "StepContext", "make_objective", "state_of"]
