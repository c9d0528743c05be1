"""The places that images can come from, by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from zipper_dist.config.schema import DataConfig
from zipper_dist.data.image_set import ImageSet
from zipper_dist.errors import UserError

SOURCES = ("digits", "mnist", "cifar10", "cifar100", "svhn", "folder")
"""The names that ``DataConfig.source`` can have."""


@dataclass(frozen=True)
class Source:
    """The two steps to the images."""

    fetch: Callable[[DataConfig], None]
    """Make the files present, by a download if need be. For one process only."""
    read: Callable[[DataConfig], tuple[ImageSet, ImageSet, tuple[str, ...]]]
    """Read the files: the training set, the test set and the class names. Writes nothing."""


def source_named(name: str) -> Source:
    """The source with this name; raises UserError when there is none."""
    # The imports are here because each takes a second or more, and a run needs one of them.
    if name == "digits":
        from zipper_dist.data import digits

        return Source(digits.fetch, digits.read)
    if name == "folder":
        from zipper_dist.data import folder

        return Source(folder.fetch, folder.read)
    if name in SOURCES:
        from zipper_dist.data import torchvision_sets

        return Source(torchvision_sets.fetch, torchvision_sets.read)
    raise UserError(f"unknown data set {name!r}: choose one of {', '.join(SOURCES)}")
