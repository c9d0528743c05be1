"""Which images are used, and which of them are held out to choose the best weights."""

import contextlib

import torch
from torch import Tensor

from zipper_dist.data.image_set import ImageSet
from zipper_dist.errors import UserError
from zipper_dist.rng import generator_at


def limited_indices(count: int, limit: int | None, part: str) -> Tensor:
    """Indices of the images that ``--data.limit`` leaves of ``count``, ascending: int64 (M,).

    The choice is random, but the same for every seed; ``part`` is ``train`` or ``test``. Raises
    UserError for a limit below 1.
    """
    if limit is not None and limit < 1:
        raise UserError(f"--data.limit {limit}: must be at least 1 image")
    if limit is None or limit >= count:
        return torch.arange(count)
    order = torch.randperm(count, generator=generator_at("cpu", "limit", part))
    return order[:limit].sort().values


def limit_images(image_set: ImageSet, limit: int | None, part: str) -> ImageSet:
    """Keep at most ``limit`` images, as :func:`limited_indices` chooses them.

    A smaller limit of a limited set chooses the images that it chooses of the whole set.
    """
    if limit is None:
        return image_set
    chosen = limited_indices(image_set.of or len(image_set), limit, part)
    if image_set.numbers is not None:
        chosen = torch.isin(image_set.numbers, chosen).nonzero().flatten()
    return image_set if len(chosen) == len(image_set) else image_set.subset(chosen)


def hold_out(
    train: ImageSet, test: ImageSet, validation: str, seed: int
) -> tuple[ImageSet, ImageSet]:
    """Hold validation images out of ``train``, at random by ``seed``: (train, validation).

    Raises UserError if ``validation``, as in the options, is wrong or leaves a set empty.
    """
    if validation == "test":
        return train, test
    images, count = len(train), 0
    with contextlib.suppress(ValueError):
        fraction = float(validation)
        count = round(fraction * images) if 0 < fraction < 1 else int(validation)
    if not 1 <= count < images:
        raise UserError(
            f"--data.validation {validation}: give a fraction such as 0.1, a number of images such "
            f"as 1000, or test; of the {images} training images (see --data.limit) at least 1 must "
            "be held out and 1 must remain"
        )
    order = torch.randperm(len(train), generator=generator_at("cpu", seed, "validation"))
    held_out, kept = order[:count].sort().values, order[count:].sort().values
    return train.subset(kept).as_whole(), train.subset(held_out).as_whole()
