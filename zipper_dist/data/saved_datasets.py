"""Data sets that the Hugging Face library ``datasets`` has saved to disk; an extra."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from zipper_dist.config.paths import expanded
from zipper_dist.config.schema import DataConfig
from zipper_dist.data.decoding import Unreadable, read_rgb, resized, warnings_of_pillow
from zipper_dist.data.directories import TEST_NAMES
from zipper_dist.data.image_set import ImageSet
from zipper_dist.data.registry import DATASETS, Parts
from zipper_dist.data.splits import limited_indices
from zipper_dist.data.stores import Pixels, Store, files_as_they_are
from zipper_dist.errors import UserError, in_one_line
from zipper_dist.registry import require

if TYPE_CHECKING:
    from PIL import Image


class SavedDatasets:
    """RGB images from the directory that ``DatasetDict.save_to_disk`` wrote."""

    def fetch(self, config: DataConfig) -> None:
        """Check that the library and the directory are there; raises UserError if not."""
        require(["datasets"], "datasets", "--data.source datasets")
        root = expanded(config.root, "--data.root")
        if not (root / "dataset_dict.json").is_file():
            raise UserError(
                f"datasets: there is no file {root / 'dataset_dict.json'}. Give the directory that "
                "DatasetDict.save_to_disk wrote, with the splits train and test, with --data.root"
            )

    def read(self, config: DataConfig) -> Parts:
        """The two sets, of which only images within the limit are decoded, and the class names.

        UserError: splits or columns are missing, or images cannot be read (unless
        ``config.skip_unreadable``), differ in size without ``config.image_size``, or do not fit.
        """
        self.fetch(config)
        root = expanded(config.root, "--data.root")
        train, test = _splits(root, config.limit)
        with warnings_of_pillow():
            width, height = train.first_size()
            option = f"datasets: {root}"
            if size := config.image_size:
                width, height, option = size, size, f"--data.image-size {size}"
            count = len(train.labels) + len(test.labels)
            store = Store.of(config, count, (height, width, 3), option)
            return train.kept(store, config), test.kept(store, config), train.classes


@dataclass(frozen=True)
class Split:
    """Images of one split, their labels, and the names of the classes."""

    name: str
    table: Any  # a Dataset of the library
    column: str
    labels: list[int]
    classes: tuple[str, ...]

    def rgb(self, number: int) -> Image.Image:
        """An image; raises Unreadable where its content is none."""
        cell = self.table[number][self.column]
        if cell is None:
            raise Unreadable("there is none")
        return read_rgb(cell["path"] or self.name, cell["bytes"])

    def first_size(self) -> tuple[int, int]:
        """Width and height of the first image that can be read [pixels]."""
        for number in range(len(self.labels)):
            with contextlib.suppress(Unreadable):
                return self.rgb(number).size
        return 1, 1  # as none is readable, no image has this size

    def kept(self, store: Store, config: DataConfig) -> ImageSet:
        """The images, decoded to the size of the ``store``."""
        height, width, _ = store.shape

        def decode(number: int) -> Pixels | Unreadable:
            try:
                image = self.rgb(number)
            except Unreadable as error:
                return error
            if config.image_size is not None:
                image = resized(image, (width, height))
            if image.size != (width, height):
                raise UserError(
                    f"datasets: image {number} of {self.name} is {image.width}×{image.height} "
                    f"pixels, but the first is {width}×{height}: resize them all, as with "
                    f"--data.image-size {height}"
                )
            return np.asarray(image)

        files = files_as_they_are(file["filename"] for file in self.table.cache_files)
        about = [config.image_size is not None, version("pillow"), self.name, files]
        images, bad = store.keep("datasets", about, len(self.labels), decode)
        found = f"datasets: {len(bad)} of {len(self.labels)} images of {self.name} cannot be read"
        if bad:
            number, why = next(iter(bad.items()))
            found += f": the first is {number} ({why})"
        good = [label for number, label in enumerate(self.labels) if number not in bad]
        if bad and not (config.skip_unreadable and good):
            raise UserError(f"{found}: mend them, or go on without with --data.skip-unreadable")
        notes = (f"warning: went on without images: {found}",) if bad else ()
        labels = torch.tensor(good, dtype=torch.int64)
        return replace(ImageSet(images, labels), notes=notes)


def _splits(root: Path, limit: int | None) -> tuple[Split, Split]:
    """The training and the test images within the limit."""
    import datasets

    try:
        found = datasets.load_from_disk(str(root))
    except Exception as error:  # the library raises many kinds
        raise UserError(f"datasets: {root} cannot be read: {in_one_line(error)}") from None
    test = next((name for name in TEST_NAMES if name in found), None)
    if "train" not in found or test is None:
        has = f"has the splits {', '.join(found)}"
        raise UserError(f"datasets: {root} {has}: give train and test (Dataset.train_test_split)")
    splits = []
    for part, name in (("train", "train"), ("test", test)):
        whole = found[name]
        image = [n for n, kind in whole.features.items() if isinstance(kind, datasets.Image)]
        label = [n for n, kind in whole.features.items() if isinstance(kind, datasets.ClassLabel)]
        if len(image) != 1 or len(label) != 1:
            raise UserError(
                f"datasets: {root}: {name} has the columns {', '.join(whole.features)}: give one "
                "of images (datasets.Image) and one of classes (Dataset.class_encode_column)"
            )
        chosen = limited_indices(len(whole), limit, part).tolist()
        table = whole.cast_column(image[0], datasets.Image(decode=False)).select(chosen)
        classes = tuple(whole.features[label[0]].names)
        splits.append(Split(name, table, image[0], list(table[label[0]]), classes))
    if splits[0].classes != splits[1].classes or len(splits[0].classes) < 2:
        raise UserError(f"datasets: {root}: give both splits the same classes, two or more")
    if any(label is None or label < 0 for split in splits for label in split.labels):
        raise UserError(f"datasets: {root}: some images have no class: leave them out (filter)")
    return splits[0], splits[1]


DATASETS.register("datasets")(SavedDatasets())
