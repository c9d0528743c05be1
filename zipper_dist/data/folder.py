"""A data set of the user's own: image files in one folder a class."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from zipper_dist.config.schema import DataConfig
from zipper_dist.data.image_set import ImageSet
from zipper_dist.data.registry import DATASETS, Parts
from zipper_dist.data.splits import limited_indices
from zipper_dist.errors import UserError

if TYPE_CHECKING:
    from PIL import Image

Sample = tuple[str, int]


class Folder:
    """RGB images from the files train/CLASS/… and test/CLASS/… of a directory."""

    def fetch(self, config: DataConfig) -> None:
        """Check that there are train/ and test/ in ``config.root``; raises UserError if not."""
        root = config.root.expanduser()
        for part in ("train", "test"):
            if not (root / part).is_dir():
                raise UserError(
                    f"folder: there is no directory {root / part}. Give the directory that holds "
                    "the images, in train/CLASS/ and test/CLASS/, with --data.root"
                )

    def read(self, config: DataConfig) -> Parts:
        """The two sets, of which only images within the limit are decoded, and the class names.

        Raises:
            UserError: the classes of train/ and test/ differ, an image cannot be read, or sizes
                differ and there is no ``config.image_size`` to resize all to.
        """
        self.fetch(config)
        root = config.root.expanduser()
        train_samples, names = _scan(root / "train", config.limit)
        test_samples, test_names = _scan(root / "test", config.limit)
        _check_classes(root, names, test_names)
        wanted = config.image_size
        size = _load(train_samples[0][0]).size if wanted is None else (wanted, wanted)
        resize = wanted is not None
        train, test = (_decode_all(s, size, resize) for s in (train_samples, test_samples))
        return train, test, tuple(names)


def _scan(directory: Path, limit: int | None) -> tuple[list[Sample], list[str]]:
    """The image files within the limit and their class numbers, in order; and the class names."""
    from torchvision.datasets import ImageFolder

    try:
        found = ImageFolder(directory)
    except OSError as error:  # for a class without images, it names no path
        raise UserError(f"folder: {directory}: {error}") from error
    chosen = limited_indices(len(found.samples), limit, directory.name)
    return [found.samples[index] for index in chosen.tolist()], found.classes


def _check_classes(root: Path, train: Sequence[str], test: Sequence[str]) -> None:
    if train != test:
        only_train, only_test = sorted(set(train) - set(test)), sorted(set(test) - set(train))
        raise UserError(
            f"folder: {root}: train/ and test/ must have the same classes; only in train/: "
            f"{', '.join(only_train) or 'none'}; only in test/: {', '.join(only_test) or 'none'}"
        )
    if len(train) < 2:
        raise UserError(f"folder: {root}/train holds only one folder, {train[0]!r}: give two")


def _decode_all(samples: Sequence[Sample], size: tuple[int, int], resize: bool) -> ImageSet:
    """Decode the files in a few threads to (width, height) ``size`` [pixels]."""
    pixels = np.empty((len(samples), *reversed(size), 3), dtype=np.uint8)
    with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:
        # The first error, in the order of the files, is raised here and cancels what is waiting.
        images = pool.map(lambda sample: _decode(sample[0], size, resize), samples)
        for index, image in enumerate(images):
            pixels[index] = image
    return ImageSet.from_pixels(pixels, [label for _, label in samples])


def _decode(path: str, size: tuple[int, int], resize: bool) -> npt.NDArray[np.uint8]:
    """The pixels (H, W, 3) of a file."""
    from PIL import Image

    image = _load(path)
    if resize and image.size != size:
        # Pillow's bilinear filter widens when it shrinks an image: it is antialiased.
        image = image.resize(size, Image.Resampling.BILINEAR)
    if image.size != size:
        raise UserError(
            f"folder: {path} is {image.width}×{image.height} pixels, but the first image is "
            f"{size[0]}×{size[1]}: resize them all, as with --data.image-size {size[1]}"
        )
    return np.asarray(image)


def _load(path: str) -> Image.Image:
    """Decode a file to RGB; raises UserError if that is not possible."""
    from torchvision.datasets.folder import default_loader

    try:
        image: Image.Image = default_loader(path)
        return image
    except Exception as error:  # every decoder has its own
        raise UserError(f"folder: {path} cannot be read as an image ({error})") from error


DATASETS.register("folder")(Folder())
