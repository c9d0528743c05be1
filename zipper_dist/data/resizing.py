"""Bring all images of a set to one size."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch.nn import functional

from zipper_dist.data.image_set import ImageSet
from zipper_dist.errors import UserError

IMAGES_AT_ONCE = 1024
"""How many images are held as floating-point numbers at a time [images]."""


def check_size(size: int) -> None:
    """Raise UserError unless ``size`` can be the height and width of an image [pixels]."""
    if size < 1:
        raise UserError(f"--data.image-size {size}: must be at least 1 pixel")


def resize(image_set: ImageSet, size: int) -> ImageSet:
    """The set with images of ``size`` × ``size`` pixels: bilinear, antialiased, rounded.

    Raises UserError when ``size`` is not positive.
    """
    check_size(size)
    images = image_set.images
    count, channels, height, width = images.shape
    if (height, width) == (size, size):
        return image_set
    resized = torch.empty((count, size, size, channels), dtype=torch.uint8, device=images.device)
    resized = resized.permute(0, 3, 1, 2)
    for start in range(0, count, IMAGES_AT_ONCE):
        chunk = images[start : start + IMAGES_AT_ONCE].to(torch.float32)
        scaled = functional.interpolate(
            chunk, (size, size), mode="bilinear", antialias=True, align_corners=False
        )
        resized[start : start + IMAGES_AT_ONCE] = scaled.round_().clamp_(0, 255).to(torch.uint8)
    return replace(image_set, images=resized)
