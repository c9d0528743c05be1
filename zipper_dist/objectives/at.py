"""Adversarial training (AT)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from zipper_dist.attacks import PGD, SharedDraws
from zipper_dist.config import ranges
from zipper_dist.config.schema import AttackedLearnerConfig, LearnerConfig
from zipper_dist.data import Minibatch
from zipper_dist.objectives.base import OBJECTIVES, Attacked, StepContext


@dataclass(frozen=True)
class AtConfig(AttackedLearnerConfig):
    """A base learner that trains on images attacked by PGD."""

    objective: str = "at"
    label_smoothing: float = 0.0
    """Share of a label that is spread evenly over all classes, in the cross-entropy that is trained
    on; attacks are on the labels as they are."""

    def problems(self, option: str) -> Iterator[str]:
        """See :class:`~zipper_dist.config.schema.LearnerConfig`."""
        yield from super().problems(option)
        yield from ranges.below_one(f"{option}.label-smoothing", self.label_smoothing)


@OBJECTIVES.register("at")
class Adversarial:
    """Cross-entropy on images attacked by PGD.

    Source: Madry et al., "Towards Deep Learning Models Resistant to Adversarial Attacks", ICLR
    2018, equation 2.1.
    """

    Config: ClassVar[type[LearnerConfig]] = AtConfig

    def __init__(self, config: AtConfig, attacked: Attacked) -> None:
        self.attack = config.attack
        self.label_smoothing = config.label_smoothing
        self.attacked = attacked()

    def perturb(self, batch: Minibatch, context: StepContext) -> Tensor:
        """The attacked images, (B, C, H, W)."""
        attack = PGD.of(self.attack, self.attack.schedule(context.progress))
        draws = SharedDraws(context.generator(batch.images.device, "pgd-start"))
        with self.attacked.now() as network:
            return attack.run(network, batch.images, batch.labels, draws)

    def loss(self, model: nn.Module, batch: Minibatch, images: Tensor) -> tuple[Tensor, Tensor]:
        """See :class:`zipper_dist.objectives.base.Objective`."""
        logits = model(images)
        loss = F.cross_entropy(logits, batch.labels, label_smoothing=self.label_smoothing)
        return loss, logits
