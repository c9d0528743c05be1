"""Adversarial training (AT)."""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from zipper_dist.config.schema import AttackedLearnerConfig
from zipper_dist.data import Minibatch
from zipper_dist.objectives.base import OBJECTIVES, AttackedObjective, SmoothedConfig


@dataclass(frozen=True)
class AtConfig(SmoothedConfig, AttackedLearnerConfig):
    """A base learner that trains on images attacked by PGD."""

    objective: str = "at"


@OBJECTIVES.register("at")
class Adversarial(AttackedObjective):
    """Cross-entropy on images attacked by PGD.

    Source: Madry et al., "Towards Deep Learning Models Resistant to Adversarial Attacks", ICLR
    2018, equation 2.1.
    """

    Config = AtConfig
    config: AtConfig

    def loss(self, model: nn.Module, batch: Minibatch, images: Tensor) -> tuple[Tensor, Tensor]:
        """See :class:`zipper_dist.objectives.base.Objective`."""
        logits = model(images)
        loss = F.cross_entropy(logits, batch.labels, label_smoothing=self.config.label_smoothing)
        return loss, logits
