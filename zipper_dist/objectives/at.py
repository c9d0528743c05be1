"""Adversarial training (AT)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from zipper_dist.accel.precision import AttackedNetwork
from zipper_dist.attacks import PGD, SharedDraws
from zipper_dist.config.schema import AdversarialLearnerConfig
from zipper_dist.data import Minibatch
from zipper_dist.objectives.base import StepContext


class Adversarial:
    """Cross-entropy on images attacked by PGD.

    Source: Madry et al., "Towards Deep Learning Models Resistant to Adversarial Attacks", ICLR
    2018, equation 2.1.
    """

    def __init__(self, config: AdversarialLearnerConfig, view: AttackedNetwork) -> None:
        self.attack = config.attack
        self.label_smoothing = config.label_smoothing
        self.view = view

    def perturb(self, batch: Minibatch, context: StepContext) -> Tensor:
        """The attacked images, (B, C, H, W)."""
        attack = PGD.of(self.attack, self.attack.schedule(context.progress))
        draws = SharedDraws(context.generator(batch.images.device, "pgd-start"))
        with self.view.now() as network:
            return attack.run(network, batch.images, batch.labels, draws)

    def loss(self, model: nn.Module, batch: Minibatch, images: Tensor) -> tuple[Tensor, Tensor]:
        """See :class:`zipper_dist.objectives.base.Objective`."""
        logits = model(images)
        loss = F.cross_entropy(logits, batch.labels, label_smoothing=self.label_smoothing)
        return loss, logits
