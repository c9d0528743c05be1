"""Natural training (NT): no attack."""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from zipper_dist.data import Minibatch
from zipper_dist.objectives.base import OBJECTIVES, Attacked, SmoothedConfig, StepContext


@dataclass(frozen=True)
class NaturalConfig(SmoothedConfig):
    """A base learner that trains on the images as they are."""


@OBJECTIVES.register("natural")
class Natural:
    """Cross-entropy on the images as they are."""

    Config = NaturalConfig

    def __init__(self, config: NaturalConfig, attacked: Attacked) -> None:
        self.label_smoothing = config.label_smoothing

    def perturb(self, batch: Minibatch, context: StepContext) -> Tensor:
        """The images as they are."""
        return batch.images

    def loss(self, model: nn.Module, batch: Minibatch, images: Tensor) -> tuple[Tensor, Tensor]:
        """See :class:`zipper_dist.objectives.base.Objective`."""
        logits = model(images)
        loss = F.cross_entropy(logits, batch.labels, label_smoothing=self.label_smoothing)
        return loss, logits
