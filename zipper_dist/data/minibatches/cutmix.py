"""CutMix."""

import math

import torch

from zipper_dist.data.minibatches.augment import AUGMENTATIONS, Augmentation
from zipper_dist.data.minibatches.batch import Minibatch


@AUGMENTATIONS.register("cutmix")
class CutMix(Augmentation):
    """A rectangle of each image comes from the one before it, and that share of its label. Its
    place and its size, evenly from 0 … 1 of the image, are drawn for the minibatch; it ends where
    the image does.

    Source: Yun et al., "CutMix: Regularization Strategy to Train Strong Classifiers with
    Localizable Features", ICCV 2019, algorithm 1, with α = 1.
    """

    mixes = True

    def __call__(self, batch: Minibatch, draws: torch.Generator) -> Minibatch:
        """See :class:`Augmentation`."""
        height, width = batch.images.shape[2:]
        size, *centre = torch.rand(3, generator=draws, dtype=torch.float64).tolist()
        half = 0.5 * math.sqrt(size)
        rows, columns = (_around(c, half, n) for c, n in zip(centre, (height, width), strict=True))
        images, before = batch.images.clone(), batch.images.roll(1, 0)
        images[:, :, rows, columns] = before[:, :, rows, columns]
        taken = (rows.stop - rows.start) * (columns.stop - columns.start) / (height * width)
        return Minibatch(images, batch.labels * (1 - taken) + batch.labels.roll(1, 0) * taken)


def _around(centre: float, half: float, length: int) -> slice:
    """The pixels within ``half`` of a side around its pixel at ``centre``, 0 … below 1 of it."""
    middle, reach = int(centre * length), int(half * length)
    return slice(max(0, middle - reach), min(length, middle + reach))
