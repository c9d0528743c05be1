"""Where the training and test images of a directory with class folders are."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from zipper_dist.data.splits import limited_indices
from zipper_dist.errors import UserError

Sample = tuple[str, int]
"""The path of a file, and the number of its class."""

TEST_NAMES = ("test", "val", "valid", "validation")
"""Directories beside train/ that hold test images: the first that is there is taken."""
TEST_SHARE = 0.2
"""Of the images that have no test images beside them, how many become such, about."""


@dataclass(frozen=True)
class ImageFiles:
    """The image files of a directory, within the limit, and its classes."""

    train: list[Sample]
    test: list[Sample]
    classes: tuple[str, ...]
    notes: tuple[str, ...]
    """What a user should be told, a line each."""


def parts_of(root: Path) -> tuple[Path, Path | None]:
    """The directory with the class folders of the training images, and that of the test images;
    None: they are among the training images. UserError: there are no such directories."""
    beside = [root / name for name in TEST_NAMES if (root / name).is_dir()]
    if (root / "train").is_dir() and (beside or _class_folders(root / "train")):
        return root / "train", beside[0] if beside else None
    if beside or not root.is_dir() or not _class_folders(root):
        raise UserError(
            f"folder: there is no directory {root / 'train'}. Give the directory that holds "
            "the images, in train/CLASS/ and test/CLASS/, in train/CLASS/ alone, or in CLASS/, "
            "with --data.root"
        )
    return root, None


def find_images(root: Path, limit: int | None) -> ImageFiles:
    """The image files below ``root``; UserError: the classes of the two parts differ, or there are
    too few classes or images."""
    train_folder, test_folder = parts_of(root)
    train, classes = _scan(train_folder)
    if len(classes) < 2:
        only = f"{train_folder} holds only one folder, {classes[0]!r}"
        raise UserError(f"folder: {only}: give two, one for each class")
    notes: tuple[str, ...] = ()
    if test_folder is None:
        names = [Path(path).relative_to(train_folder).as_posix() for path, _ in train]
        chosen = cut_test(names, [label for _, label in train])
        test = [sample for sample, is_test in zip(train, chosen, strict=True) if is_test]
        train = [sample for sample, is_test in zip(train, chosen, strict=True) if not is_test]
        if not test:
            raise UserError(f"folder: {train_folder}: every class has one image: none can be test")
        total = len(train) + len(test)
        held = f"{len(test)} of the {total} images in {train_folder} are kept for it"
        notes = (f"folder: there is no test set, so {held}, by their files' names",)
    else:
        test, test_classes = _scan(test_folder)
        _check_classes(train_folder, test_folder, classes, test_classes)
    return ImageFiles(
        _limited(train, limit, "train"), _limited(test, limit, "test"), tuple(classes), notes
    )


def cut_test(names: Sequence[str], labels: Sequence[int]) -> list[bool]:
    """Whether each image is for testing, by its file's name and its class.

    Names are spread evenly over 0 … 1 by a hash; what lies below TEST_SHARE is for testing, so that
    no other file decides. But a class of two or more images has at least one in each part: if need
    be, the lowest is for testing, or the highest is not.
    """
    of_class: dict[int, list[int]] = {}
    for index, label in enumerate(labels):
        of_class.setdefault(label, []).append(index)
    chosen = [False] * len(names)
    for indices in of_class.values():
        ordered = sorted((_address(names[index]), names[index], index) for index in indices)
        below = sum(address < TEST_SHARE for address, _, _ in ordered)
        for _, _, index in ordered[: min(max(below, 1), len(ordered) - 1)]:
            chosen[index] = True
    return chosen


def _address(name: str) -> float:
    digest = hashlib.sha256(os.fsencode(name)).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def _class_folders(directory: Path) -> list[str]:
    """Its folders, but for hidden ones and what macOS puts into archives."""
    names = (entry.name for entry in os.scandir(directory) if entry.is_dir())
    return sorted(name for name in names if not name.startswith((".", "__MACOSX")))


def _scan(directory: Path) -> tuple[list[Sample], list[str]]:
    """The image files in its class folders and their class numbers, in order; the class names."""
    from torchvision.datasets import ImageFolder

    class Classes(ImageFolder):  # type: ignore[misc]
        def find_classes(self, directory: str) -> tuple[list[str], dict[str, int]]:
            folders = _class_folders(Path(directory))
            if not folders:
                raise FileNotFoundError(f"there is no class folder in {directory}")
            return folders, {name: number for number, name in enumerate(folders)}

    try:
        found = Classes(directory)
    except OSError as error:  # for a class without images, it names no path
        raise UserError(f"folder: {directory}: {error}") from error
    return found.samples, found.classes


def _limited(samples: list[Sample], limit: int | None, part: str) -> list[Sample]:
    return [samples[index] for index in limited_indices(len(samples), limit, part).tolist()]


def _check_classes(
    train_folder: Path, test_folder: Path, train: Sequence[str], test: Sequence[str]
) -> None:
    if train != test:
        only_train, only_test = sorted(set(train) - set(test)), sorted(set(test) - set(train))
        other = test_folder.name
        raise UserError(
            f"folder: {train_folder.parent}: train/ and {other}/ must have the same classes; only "
            f"in train/: {', '.join(only_train) or 'none'}; only in {other}/: "
            f"{', '.join(only_test) or 'none'}"
        )
