"""An objective: cross-entropy on images with uniform noise."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zipper_dist.config.schema import LearnerConfig
from zipper_dist.data import Minibatch
from zipper_dist.objectives.base import Attacked, StepContext


@dataclass(frozen=True)
class NoisyConfig(LearnerConfig):
    """A learner that trains on noisy images."""

    noise: float = 0.1
    """Largest change of a pixel [1 = the full pixel range]."""


class Noisy:
    """CE(f(x + u), y), where u is uniform in [-noise, noise]."""

    Config = NoisyConfig

    def __init__(self, config: NoisyConfig, attacked: Attacked) -> None:
        self.noise = config.noise

    def perturb(self, batch: Minibatch, context: StepContext) -> Tensor:
        """The noisy images, (B, C, H, W); the draw is that of this learner and iteration alone."""
        generator = context.generator(batch.images.device, "noise")
        noise = torch.empty_like(batch.images).uniform_(
            -self.noise, self.noise, generator=generator
        )
        return (batch.images + noise).clamp(0, 1)

    def loss(self, model: nn.Module, batch: Minibatch, images: Tensor) -> tuple[Tensor, Tensor]:
        """The loss, and the logits that accuracy is counted from."""
        logits = model(images)
        return F.cross_entropy(logits, batch.labels), logits
