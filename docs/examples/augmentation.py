"""An augmentation: images darker or brighter, each by a factor of its own."""

from __future__ import annotations

from dataclasses import replace

import torch

from zipper_dist.data import Minibatch
from zipper_dist.data.minibatches import Augmentation


class Brightness(Augmentation):
    """Multiplies each image by a factor that is uniform in [0.6, 1.4]."""

    def __call__(self, batch: Minibatch, draws: torch.Generator) -> Minibatch:
        """The minibatch with other images; draws are made on the CPU, and then sent."""
        factors = 0.6 + 0.8 * torch.rand(len(batch.images), 1, 1, 1, generator=draws)
        images = batch.images * factors.to(batch.images.device)
        return replace(batch, images=images.clamp(0, 1))
