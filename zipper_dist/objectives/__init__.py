"""Objectives: how a minibatch becomes a loss. A new method is a new objective, in a file here."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from zipper_dist.accel.precision import AttackedNetwork
from zipper_dist.config.schema import AdversarialLearnerConfig, LearnerConfig
from zipper_dist.objectives.at import Adversarial
from zipper_dist.objectives.base import Objective, StepContext
from zipper_dist.objectives.fat import Fat
from zipper_dist.objectives.mart import Mart
from zipper_dist.objectives.natural import Natural
from zipper_dist.objectives.trades import Trades

__all__ = [
    "Adversarial",
    "Fat",
    "Mart",
    "Natural",
    "Objective",
    "StepContext",
    "Trades",
    "make_objective",
]

ATTACKING: Mapping[str, Callable[[AdversarialLearnerConfig, AttackedNetwork], Objective]] = {
    "at": Adversarial,
    "trades": Trades,
    "fat": Fat,
    "mart": Mart,
}


def make_objective(config: LearnerConfig, view: Callable[[], AttackedNetwork]) -> Objective:
    """The objective that ``config`` names; ``view`` makes the network that attacks see."""
    if isinstance(config, AdversarialLearnerConfig):
        return ATTACKING[config.objective](config.resolved(), view())
    return Natural(config)
