"""A data set of the user's own: image files in one folder a class."""

import contextlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from zipper_dist.config.paths import expanded
from zipper_dist.config.schema import DataConfig
from zipper_dist.data.decoding import Unreadable, read_rgb, special_file, warnings_of_pillow
from zipper_dist.data.image_set import ImageSet
from zipper_dist.data.memory import require_memory
from zipper_dist.data.registry import DATASETS, Parts
from zipper_dist.data.splits import limited_indices
from zipper_dist.errors import UserError

Sample = tuple[str, int]

NAMED = 5
"""Files that a message names, of those that have a problem."""


class Folder:
    """RGB images from the files train/CLASS/… and test/CLASS/… of a directory."""

    def fetch(self, config: DataConfig) -> None:
        """Check that there are train/ and test/ in ``config.root``; raises UserError if not."""
        root = expanded(config.root, "--data.root")
        for part in ("train", "test"):
            if not (root / part).is_dir():
                raise UserError(
                    f"folder: there is no directory {root / part}. Give the directory that holds "
                    "the images, in train/CLASS/ and test/CLASS/, with --data.root"
                )

    def read(self, config: DataConfig) -> Parts:
        """The two sets, of which only images within the limit are decoded, and the class names.

        Raises:
            UserError: the classes of train/ and test/ differ, images cannot be read (unless
                ``config.skip_unreadable``) or do not fit into memory, or sizes differ and there is
                no ``config.image_size`` to resize all to.
        """
        self.fetch(config)
        root = expanded(config.root, "--data.root")
        train_samples, names = _scan(root / "train", config.limit)
        test_samples, test_names = _scan(root / "test", config.limit)
        _check_classes(root, names, test_names)
        samples = [*train_samples, *test_samples]
        _refuse_special_files(samples)
        with warnings_of_pillow():
            size = _size(samples, config)
            option = f"--data.image-size {size[1]}" if config.image_size else f"folder: {root}"
            require_memory(len(samples), *size, 3, option)
            resize = config.image_size is not None
            train, bad = _decode_all(train_samples, size, resize)
            test, bad_test = _decode_all(test_samples, size, resize)
        bad += bad_test
        if bad and not (config.skip_unreadable and len(train) and len(test)):
            raise UserError(
                f"folder: {len(bad)} of {len(samples)} files cannot be read as images: "
                f"{_first(bad)}: mend or delete them, or go on without such files with "
                "--data.skip-unreadable"
            )
        note = f"folder: went on without {len(bad)} of {len(samples)} files, which cannot be read"
        notes = [f"warning: {note} as images: {_first(bad)}"] if bad else []
        return train, replace(test, notes=tuple(notes)), tuple(names)


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


def _refuse_special_files(samples: Sequence[Sample]) -> None:
    kinds = ((path, special_file(path)) for path, _ in samples)
    if found := [f"{path} is {kind}" for path, kind in kinds if kind is not None]:
        raise UserError(f"folder: only files can be images: {_first(found)}: delete what is none")


def _size(samples: Sequence[Sample], config: DataConfig) -> tuple[int, int]:
    """Width and height of all images [pixels]: as wanted, or else those of the first readable."""
    if config.image_size is not None:
        return config.image_size, config.image_size
    for path, _ in samples:
        with contextlib.suppress(Unreadable):
            return read_rgb(path).size
    return 1, 1  # as none is readable, no image has this size


def _decode_all(
    samples: Sequence[Sample], size: tuple[int, int], resize: bool
) -> tuple[ImageSet, list[str]]:
    """Decode the files in a few threads to (width, height) ``size`` [pixels]; what is wrong with
    those that are not in the set."""
    pixels = np.empty((len(samples), *reversed(size), 3), dtype=np.uint8)
    labels: list[int] = []
    good: list[str] = []
    bad: list[str] = []
    with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:
        # The first UserError, in the order of the files, is raised here and cancels what waits.
        decoded = pool.map(lambda sample: _decode(sample[0], size, resize), samples)
        for (path, label), image in zip(samples, decoded, strict=True):
            if isinstance(image, Unreadable):
                bad.append(f"{path} ({image})")
            else:
                pixels[len(labels)] = image
                labels.append(label)
                good.append(os.sep.join(Path(path).parts[-3:]))
    found = ImageSet.from_pixels(pixels[: len(labels)], labels)
    return replace(found, files=tuple(good)), bad


def _decode(path: str, size: tuple[int, int], resize: bool) -> npt.NDArray[np.uint8] | Unreadable:
    """The pixels (H, W, 3) of a file, or why it has none."""
    from PIL import Image

    try:
        image = read_rgb(path)
    except Unreadable as error:
        return error
    if resize and image.size != size:
        # Pillow's bilinear filter widens when it shrinks an image: it is antialiased.
        image = image.resize(size, Image.Resampling.BILINEAR)
    if image.size != size:
        raise UserError(
            f"folder: {path} is {image.width}×{image.height} pixels, but the first image is "
            f"{size[0]}×{size[1]}: resize them all, as with --data.image-size {size[1]}"
        )
    return np.asarray(image)


def _first(lines: Sequence[str]) -> str:
    """The first few of ``lines``, and how many more there are."""
    more = len(lines) - NAMED
    return ", ".join(lines[:NAMED]) + (f" and {more} more" if more > 0 else "")


DATASETS.register("folder")(Folder())
