"""The threat models that a run is evaluated against."""

from __future__ import annotations

from zipper_dist.config.schema import AdversarialLearnerConfig, AttackConfig, TrainConfig
from zipper_dist.config.threat import ThreatModel
from zipper_dist.errors import UserError

NO_RADIUS = "--eval.eps: give a radius, because no learner trains against an attack that sets it"


def training_attack(config: TrainConfig) -> AttackConfig | None:
    """The attack that the run trains against, if it does."""
    for learner in config.learners.values():
        if isinstance(learner, AdversarialLearnerConfig):
            return learner.attack
    return None


def run_threats(config: TrainConfig) -> tuple[ThreatModel, ...]:
    """What the run is evaluated against: as its options say, or else what it trains against.

    Raises:
        UserError: neither says.
    """
    training, options = training_attack(config), config.eval
    norm = options.norm or (training.norm if training else "linf")
    eps = options.eps or (training.eps if training else None)
    if eps is None:
        raise UserError(NO_RADIUS)
    return (ThreatModel(norm, eps),)
