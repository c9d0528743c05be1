"""Adversarial training (AT)."""

from dataclasses import dataclass

from zipper_dist.config.schema import AttackedLearnerConfig
from zipper_dist.objectives.base import OBJECTIVES, AttackedObjective, CrossEntropy, SmoothedConfig


@dataclass(frozen=True)
class AtConfig(SmoothedConfig, AttackedLearnerConfig):
    """A base learner that trains on images attacked by PGD."""

    objective: str = "at"


@OBJECTIVES.register("at")
class Adversarial(CrossEntropy, AttackedObjective):
    """Cross-entropy on images attacked by PGD.

    Source: Madry et al., "Towards Deep Learning Models Resistant to Adversarial Attacks", ICLR
    2018, equation 2.1.
    """

    Config = AtConfig
    config: AtConfig
