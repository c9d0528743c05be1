"""A data set of the user's own: image files in one folder a class."""

import contextlib
import math
import os
import statistics
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from zipper_dist.config.paths import expanded
from zipper_dist.config.schema import DataConfig
from zipper_dist.data.decoding import (
    Unreadable,
    read_rgb,
    resized,
    special_file,
    warnings_of_pillow,
)
from zipper_dist.data.directories import Sample, find_images, parts_of
from zipper_dist.data.image_set import ImageSet
from zipper_dist.data.registry import DATASETS, Parts
from zipper_dist.data.stores import Store, files_as_they_are
from zipper_dist.errors import UserError

NAMED = 5
"""Files that a message names, of those that have a problem."""
SAMPLE = 1024
"""Images whose sizes are looked at, at most, before they are decoded."""
SMALLEST, LARGEST, STEP = 32, 224, 16
"""Sizes that images of different sizes are resized to unless the user says [pixels]."""


class Folder:
    """RGB images from the files of a directory, in class folders: see :func:`find_images`."""

    def fetch(self, config: DataConfig) -> None:
        """Check that there are class folders in ``config.root``; raises UserError if not."""
        parts_of(expanded(config.root, "--data.root"))

    def read(self, config: DataConfig) -> Parts:
        """The two sets, of which only images within the limit are decoded, and the class names.

        Images of different sizes are resized, to :func:`_usual_size` if there is no
        ``config.image_size``.

        Raises:
            UserError: the classes of the parts differ, or images cannot be read (unless
                ``config.skip_unreadable``) or do not fit into memory.
        """
        root = expanded(config.root, "--data.root")
        files = find_images(root, config.limit)
        samples = [*files.train, *files.test]
        _refuse_special_files(samples)
        notes = list(files.notes)
        with warnings_of_pillow():
            decoded = None
            if not (wanted := config.image_size) and not _surely_differ(samples):
                size = _first_size(samples)
                store = Store.of(config, len(samples), (size[1], size[0], 3), f"folder: {root}")
                with contextlib.suppress(_OtherSize):
                    decoded = [_decode_all(root, part, store) for part in (files.train, files.test)]
            if decoded is None:
                if not wanted:
                    wanted, middle = _usual_size(samples)
                    notes.append(
                        f"folder: images of different sizes are resized to {wanted}×{wanted} "
                        f"pixels, as their shorter sides have a median of {middle:g}; another size "
                        "is set with --data.image-size"
                    )
                option = f"--data.image-size {wanted}"
                store = Store.of(config, len(samples), (wanted, wanted, 3), option)
                decoded = [
                    _decode_all(root, part, store, resize=True)
                    for part in (files.train, files.test)
                ]
        (train, bad), (test, bad_test) = decoded
        bad += bad_test
        if bad and not (config.skip_unreadable and len(train) and len(test)):
            raise UserError(
                f"folder: {len(bad)} of {len(samples)} files cannot be read as images: "
                f"{_first(bad)}: mend or delete them, or go on without such files with "
                "--data.skip-unreadable"
            )
        note = f"folder: went on without {len(bad)} of {len(samples)} files, which cannot be read"
        notes += [f"warning: {note} as images: {_first(bad)}"] if bad else []
        return train, replace(test, notes=tuple(notes)), files.classes


def _refuse_special_files(samples: Sequence[Sample]) -> None:
    kinds = ((path, special_file(path)) for path, _ in samples)
    if found := [f"{path} is {kind}" for path, kind in kinds if kind is not None]:
        raise UserError(f"folder: only files can be images: {_first(found)}: delete what is none")


class _OtherSize(Exception):
    """An image has another size than the first."""


def _first_size(samples: Sequence[Sample]) -> tuple[int, int]:
    """Width and height of the first readable image [pixels]."""
    for path, _ in samples:
        with contextlib.suppress(Unreadable):
            return read_rgb(path).size
    return 1, 1  # as none is readable, no image has this size


def _sizes(samples: Sequence[Sample]) -> dict[str, tuple[int, int]]:
    """The smaller and the larger side of at most SAMPLE images, evenly spaced, as their files say
    [pixels], by path; files that do not say are left out."""
    from PIL import Image

    found = {}
    for path, _ in samples[:: -(-len(samples) // SAMPLE)]:
        with contextlib.suppress(Exception), Image.open(path) as image:  # decoding says what is bad
            found[path] = (min(image.size), max(image.size))
    return found


def _surely_differ(samples: Sequence[Sample]) -> bool:
    """Whether some images that can be read differ in size, whichever way up they are; if not, they
    may differ all the same."""
    readable: set[tuple[int, int]] = set()
    for path, size in _sizes(samples).items():
        if size not in readable:
            with contextlib.suppress(Unreadable):
                read_rgb(path)
                readable.add(size)
        if len(readable) > 1:
            return True
    return False


def _usual_size(samples: Sequence[Sample]) -> tuple[int, float]:
    """The height and width for images of different sizes: the median of the shorter sides, rounded
    to a multiple of STEP, from SMALLEST to LARGEST; and that median [pixels]."""
    middle = statistics.median([side for side, _ in _sizes(samples).values()] or [SMALLEST])
    return min(max(STEP * math.floor(middle / STEP + 0.5), SMALLEST), LARGEST), middle


def _decode_all(
    root: Path, samples: Sequence[Sample], store: Store, resize: bool = False
) -> tuple[ImageSet, list[str]]:
    """Decode the files to the size of the ``store``; what is wrong with those that are not in the
    set."""
    height, width, _ = store.shape
    images, bad = store.keep(
        "folder",
        [resize, version("pillow"), files_as_they_are([path for path, _ in samples])],
        len(samples),
        lambda number: _decode(samples[number][0], (width, height), resize),
    )
    good = [sample for number, sample in enumerate(samples) if number not in bad]
    names = tuple(os.sep.join(Path(path).relative_to(root).parts[-3:]) for path, _ in good)
    labels = torch.tensor([label for _, label in good], dtype=torch.int64)
    found = replace(ImageSet(images, labels), files=names)
    return found, [f"{samples[number][0]} ({why})" for number, why in bad.items()]


def _decode(path: str, size: tuple[int, int], resize: bool) -> npt.NDArray[np.uint8] | Unreadable:
    """The pixels (H, W, 3) of a file, or why it has none."""
    try:
        image = read_rgb(path)
    except Unreadable as error:
        return error
    if resize:
        image = resized(image, size)
    if image.size != size:
        raise _OtherSize
    return np.asarray(image)


def _first(lines: Sequence[str]) -> str:
    """The first few of ``lines``, and how many more there are."""
    more = len(lines) - NAMED
    return ", ".join(lines[:NAMED]) + (f" and {more} more" if more > 0 else "")


DATASETS.register("folder")(Folder())
