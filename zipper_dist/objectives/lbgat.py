"""LBGAT: the boundary of a natural network guides adversarial training."""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from zipper_dist.attacks import divergence
from zipper_dist.data import Minibatch
from zipper_dist.objectives.base import OBJECTIVES
from zipper_dist.objectives.guided import Guided, GuidedConfig
from zipper_dist.objectives.trades import LikeTrades, LikeTradesConfig


@dataclass(frozen=True)
class LbgatConfig(GuidedConfig, LikeTradesConfig):
    """A base learner that trains by LBGAT."""

    objective: str = "lbgat"
    beta: float = 0.0
    """Weight of TRADES' robustness term; published are 0 (CIFAR-10 and CIFAR-100) and 6."""


@OBJECTIVES.register("lbgat")
class Lbgat(Guided, LikeTrades):
    """The mean, over images and classes, of (f(x′) − g(x))², + β · KL(p(x) ‖ p(x′)); g: the guide.

    x′ is attacked as in TRADES. As long as there is no guide, CE(f(x′), y) is the first term.

    Source: Cui, Liu, Wang and Jia, "Learnable Boundary Guided Adversarial Training", ICCV 2021.
    There one loss trains both networks, so that the first term also pulls g towards f;
    here g trains by its own objective.
    """

    Config = LbgatConfig
    config: LbgatConfig
    draws = "lbgat-start"

    def loss(self, model: nn.Module, batch: Minibatch, images: Tensor) -> tuple[Tensor, Tensor]:
        """See :class:`zipper_dist.objectives.base.Objective`."""
        clean, attacked = model(batch.images), model(images)
        if self.guide is None:
            smoothing = self.config.label_smoothing
            loss = F.cross_entropy(attacked, batch.labels, label_smoothing=smoothing)
        else:
            loss = F.mse_loss(attacked, self.guide(batch.images))
        return loss + self.config.beta * divergence(clean, attacked).mean(), attacked
