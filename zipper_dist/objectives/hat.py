"""HAT: helper-based adversarial training."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from zipper_dist.attacks import divergence
from zipper_dist.config import ranges
from zipper_dist.data import Minibatch
from zipper_dist.objectives.base import OBJECTIVES
from zipper_dist.objectives.guided import Guided, GuidedConfig
from zipper_dist.objectives.trades import LikeTrades, LikeTradesConfig


@dataclass(frozen=True)
class HatConfig(GuidedConfig, LikeTradesConfig):
    """A base learner that trains by HAT."""

    objective: str = "hat"
    beta: float = 2.5
    """Weight of the robustness term; 2.5 is the value published for CIFAR-10."""
    gamma: float = 0.5
    """Weight of the helper images; 0.5 is the value published for CIFAR-10."""
    h: float = 2.0
    """How far a helper image is from the clean one, relative to the attacked one."""

    def problems(self, option: str) -> Iterator[str]:
        """See :class:`~zipper_dist.config.schema.LearnerConfig`."""
        yield from super().problems(option)
        yield from ranges.number(f"{option}.gamma", self.gamma, 0, 1e3)
        yield from ranges.number(f"{option}.h", self.h, 0, 1e3)


@OBJECTIVES.register("hat")
class Hat(Guided, LikeTrades):
    """CE(f(x), y) + β · KL(p(x) ‖ p(x′)) + γ · CE(f(x + h (x′ − x)), argmax g(x′)); g is the guide.

    x′ is attacked as in TRADES. The third term is left out as long as there is no guide.

    Source: Rade and Moosavi-Dezfooli, "Reducing Excessive Margin to Achieve a Better Accuracy vs.
    Robustness Trade-off", ICLR 2022, where g is a network with standard training.
    """

    Config = HatConfig
    config: HatConfig
    draws = "hat-start"

    def loss(self, model: nn.Module, batch: Minibatch, images: Tensor) -> tuple[Tensor, Tensor]:
        """See :class:`zipper_dist.objectives.base.Objective`."""
        config = self.config
        clean, attacked = model(batch.images), model(images)
        loss = F.cross_entropy(clean, batch.labels, label_smoothing=config.label_smoothing)
        loss = loss + config.beta * divergence(clean, attacked).mean()
        if self.guide is not None:
            helpers = model(batch.images + config.h * (images - batch.images))
            loss = loss + config.gamma * F.cross_entropy(helpers, self.guide(images).argmax(1))
        return loss, attacked
