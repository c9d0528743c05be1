"""Random crops, and mirror images."""

from dataclasses import replace

import torch
from torch import Tensor

from zipper_dist.data.minibatches.augment import AUGMENTATIONS, Augmentation
from zipper_dist.data.minibatches.batch import Minibatch, sent


def default_padding(images: Tensor) -> int:
    """The padding of crops where none is given: an eighth of the smaller side [pixels]."""
    return max(1, min(images.shape[2:]) // 8)


def drawn_moves(count: int, padding: int, flip: bool, draws: torch.Generator) -> Tensor:
    """For so many images, how far a crop lies down and to the right, after ``padding`` pixels on
    each side, and whether it is mirrored: int64 (3, count), on the CPU."""
    shifts = torch.randint(-padding, padding + 1, (2, count), generator=draws)
    return torch.cat([shifts, torch.randint(0, 1 + flip, (1, count), generator=draws)])


def moved(pixels: Tensor, plan: Tensor, padding: int) -> Tensor:
    """Crops of ``pixels`` (N, H, W, C), black beyond their borders: (B, H, W, C).

    ``plan``, int64 (4, B), on the same device, has the number of each image and its moves.
    """
    image, down, right, flip = plan[:, :, None]
    _, height, width, channels = pixels.shape
    # Where each pixel of the result comes from: the crop first, then its mirror image.
    row = torch.arange(height, device=plan.device) + down
    column = torch.arange(width, device=plan.device)
    column = torch.where(flip > 0, width - 1 - column, column) + right
    line = image * height + row.clamp(0, height - 1)
    source = line[:, :, None] * width + column.clamp(0, width - 1)[:, None, :]
    result = pixels.view(-1, channels).index_select(0, source.view(-1))
    result = result.view(plan.shape[1], height, width, channels)
    if padding:
        row_inside = (row >= 0) & (row < height)
        column_inside = (column >= 0) & (column < width)
        result *= (row_inside[:, :, None] & column_inside[:, None, :])[..., None]
    return result


def _with_moves(batch: Minibatch, padding: int, flip: bool, draws: torch.Generator) -> Minibatch:
    count, pixels = len(batch.images), batch.images.permute(0, 2, 3, 1).contiguous()
    plan = torch.cat([torch.arange(count)[None], drawn_moves(count, padding, flip, draws)])
    result = moved(pixels, sent(plan, pixels.device), padding)
    return replace(batch, images=result.permute(0, 3, 1, 2))


@AUGMENTATIONS.register("crop")
class Crop(Augmentation):
    """Random crops after black pixels on each side, as many as an eighth of an image's side."""

    def __call__(self, batch: Minibatch, draws: torch.Generator) -> Minibatch:
        """See :class:`Augmentation`."""
        return _with_moves(batch, default_padding(batch.images), False, draws)


@AUGMENTATIONS.register("flip")
class Flip(Augmentation):
    """Half of the images left to right."""

    def __call__(self, batch: Minibatch, draws: torch.Generator) -> Minibatch:
        """See :class:`Augmentation`."""
        return _with_moves(batch, 0, True, draws)
