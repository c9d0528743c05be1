"""Mixup."""

import torch

from zipper_dist.data.minibatches.augment import AUGMENTATIONS, Augmentation
from zipper_dist.data.minibatches.batch import Minibatch


@AUGMENTATIONS.register("mixup")
class MixUp(Augmentation):
    """λ of each image and 1 - λ of the one before it, and of their labels; λ is drawn for the
    minibatch, evenly from 0 … 1.

    Source: Zhang et al., "mixup: Beyond Empirical Risk Minimization", ICLR 2018, with α = 1.
    """

    mixes = True

    def __call__(self, batch: Minibatch, draws: torch.Generator) -> Minibatch:
        """See :class:`Augmentation`."""
        share = float(torch.rand((), generator=draws, dtype=torch.float64))
        parts = (batch.images, batch.labels)
        images, labels = (x * share + x.roll(1, 0) * (1 - share) for x in parts)
        return Minibatch(images.clamp_(0, 1), labels)  # rounding may leave [0, 1]
