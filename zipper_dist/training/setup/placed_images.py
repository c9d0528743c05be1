"""Where the images of a run are while they are used."""

from dataclasses import replace

import torch

from zipper_dist.config.schema import DataConfig
from zipper_dist.data import ImageSet
from zipper_dist.data.stores import mapped
from zipper_dist.errors import UserError

ROOM = 0.5
"""How much of the memory that is free on a GPU images may take by default; networks need some."""


def placed(images: ImageSet, config: DataConfig, device: torch.device) -> ImageSet:
    """The images for use on the device: with their labels there, and themselves there, too, if
    ``config.store`` says so, or by default if there is room.

    UserError: they should be on a GPU, and cannot.
    """
    if images.on_disk or device.type != "cuda":
        return images.to(device)
    free = torch.cuda.mem_get_info(device)[0]
    if config.store == "memory" or (config.store == "auto" and images.nbytes > ROOM * free):
        return replace(images, labels=images.labels.to(device))
    if images.nbytes > free:
        raise UserError(
            f"--data.store {config.store}: {_size(images)} of images do not fit into the "
            f"{free / 2**30:,.1f} GiB that are free on the GPU: give memory or disk"
        )
    return images.to(device)


def described(images: ImageSet, config: DataConfig) -> str:
    """Where the images are, in words."""
    where = f"in the memory of {images.images.device.type}"
    if (on_disk := mapped(images.images)) is not None:
        where = f"on disk, in {on_disk.layout.path}"
    return f"training images: {_size(images)} {where} (--data.store {config.store})"


def _size(images: ImageSet) -> str:
    return f"{images.nbytes / 2**20:,.1f} MiB"
