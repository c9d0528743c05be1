"""Random erasing."""

import math
from dataclasses import replace

import torch

from zipper_dist.data.minibatches.augment import AUGMENTATIONS, Augmentation
from zipper_dist.data.minibatches.batch import Minibatch, sent

SHARE = 0.5  # of the images
AREA = (0.02, 0.33)  # of the image
RATIO = (0.3, 3.3)  # height / width
TRIES = 10


@AUGMENTATIONS.register("erase")
class Erase(Augmentation):
    """A rectangle of half of the images black: 2 to 33 % of it, its sides 0.3 to 3.3 to one.

    Source: Zhong et al., "Random Erasing Data Augmentation", AAAI 2020, algorithm 1; with the
    constants, and the ten tries, of torchvision.
    """

    def __call__(self, batch: Minibatch, draws: torch.Generator) -> Minibatch:
        """See :class:`Augmentation`."""
        (count, _, height, width), device = batch.images.shape, batch.images.device
        plan = sent(rectangles(count, height, width, draws), device)
        top, left, bottom, right = plan[:, :, None]
        row, column = (torch.arange(side, device=device) for side in (height, width))
        inside_rows = (row >= top) & (row < bottom)
        inside_columns = (column >= left) & (column < right)
        erased = inside_rows[:, None, :, None] & inside_columns[:, None, None, :]
        return replace(batch, images=batch.images.masked_fill(erased, 0.0))


def rectangles(count: int, height: int, width: int, draws: torch.Generator) -> torch.Tensor:
    """What is erased of so many images: top, left, bottom and right (the last two exclusive), int64
    (4, count); of those that stay whole an empty rectangle."""
    chosen = torch.rand(count, generator=draws) < SHARE
    area, ratio, down, along = torch.rand(4, TRIES, count, generator=draws, dtype=torch.float64)
    area = height * width * (AREA[0] + area * (AREA[1] - AREA[0]))
    low, high = map(math.log, RATIO)
    ratio = torch.exp(low + ratio * (high - low))
    h, w = (side.sqrt().round().long() for side in (area * ratio, area / ratio))
    fits = (h < height) & (w < width)
    first = fits.long().argmax(0, keepdim=True)  # 0 where none fits
    erased = chosen & fits.any(0)
    top, left = (down * (height - h + 1)).long(), (along * (width - w + 1)).long()
    sides = torch.stack([top, left, top + h, left + w])
    result: torch.Tensor = sides.gather(1, first.expand(4, 1, count)).squeeze(1) * erased
    return result
