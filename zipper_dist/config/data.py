"""Options of the images, and of what is done to them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from zipper_dist.config import ranges
from zipper_dist.config.schedules import one_word

NONE = "none"

StoreName = Literal["auto", "device", "memory", "disk"]


@dataclass(frozen=True)
class Augment:
    """Augmentations by name, in the order in which they are done."""

    names: tuple[str, ...] = ()

    @staticmethod
    def parse(text: str) -> Augment:
        """Read what an option says, such as ``crop,flip``; raises ValueError for a name that is
        empty or there twice."""
        names = tuple(text.split(",")) if text != NONE else ()
        if not all(names) or len(set(names)) < len(names):
            raise ValueError(f"{text!r}: give names, each once, such as crop,flip,cutmix, or none")
        return Augment(names)

    def __str__(self) -> str:
        return ",".join(self.names) or NONE


AugmentOption = Annotated[Augment, one_word(Augment, Augment.parse, "NAME,…|none")]


@dataclass(frozen=True)
class DataConfig:
    """The images."""

    source: str = "digits"
    """Data set: digits, mnist, cifar10, cifar100, svhn, folder, numpy, datasets,
    package.module:NAME or path/file.py:NAME."""
    root: Path = Path("data")
    """Directory of the data sets and their downloads; or of your images."""
    limit: int | None = None
    """Use at most so many training images and so many test images [images]."""
    validation: str = "0.1"
    """Training images held out to choose the best weights: a fraction (0.1), a number (1000), or
    `test`: choose on the test set, as the paper does."""
    image_size: int | None = None
    """Resize every image to this height and width [pixels]; a folder's images of different sizes
    are resized anyway."""
    skip_unreadable: bool = False
    """Go on without the files of a folder that cannot be read as images."""
    store: StoreName = "auto"
    """Where the images are kept while they are used: in the memory of the device, in that of the
    machine, or decoded in a file; auto: the first in which they fit."""
    cache: Path | None = None
    """Directory of the files that --data.store disk decodes images into; default:
    ~/.cache/zipper_dist/images."""
    crop_padding: int = 0
    """Random crops after so many black pixels on each side; 0 = none [pixels]."""
    flip: bool = False
    """Flip half of the images left to right, at random."""
    augment: AugmentOption = Augment()
    """Augmentations, in this order: crop, flip, randaugment, erase, cutmix, mixup,
    package.module:Class or path/file.py:Class."""
    extra: Path | None = None
    """Generated images that are trained on, too: an uncompressed .npz file with uint8 image
    (N, H, W, C) and label (N,)."""
    extra_fraction: float = 0.7
    """Their share of every minibatch, if there are any: 0 … below 1."""

    def problems(self) -> Iterator[str]:
        """What is out of range."""
        yield from ranges.at_least_one("--data.limit", self.limit)
        yield from ranges.at_least_one("--data.image-size", self.image_size)
        yield from ranges.number("--data.crop-padding", self.crop_padding, 0, ranges.MOST)
        share, usual = self.extra_fraction, DataConfig.extra_fraction
        yield from ranges.below_one("--data.extra-fraction", share)
        if self.extra is None and share != usual:
            yield f"--data.extra-fraction {share}: give the images with --data.extra FILE.npz"
