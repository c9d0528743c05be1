"""Data sets of the user's own in NumPy files: an .npz file or two .npy files for each part."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from zipper_dist.config.paths import expanded
from zipper_dist.config.schema import DataConfig
from zipper_dist.data.image_set import ImageSet
from zipper_dist.data.minibatches.extra import checked, labelled_images
from zipper_dist.data.registry import DATASETS, Parts
from zipper_dist.data.stores import Layout, MappedImages, Store, stand_in
from zipper_dist.errors import UserError

Arrays = tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]
NAMES = "classes.txt"


class NumpyFiles:
    """Images and labels from train.npz and test.npz in a directory, in the format of --data.extra,
    or from train_image.npy, train_label.npy and so on; and the names of the classes, a line each,
    from classes.txt, if it is there."""

    def fetch(self, config: DataConfig) -> None:
        """Check that the files are there; raises UserError if not."""
        root = expanded(config.root, "--data.root")
        for part in ("train", "test"):
            if missing := [path for path in _files(root, part) if not path.is_file()]:
                raise UserError(
                    f"numpy: there is no file {missing[0]}. Give the directory that has train.npz "
                    "and test.npz, each with uint8 image (N, H, W, C) and integer label (N,), or "
                    "train_image.npy, train_label.npy, test_image.npy and test_label.npy, with "
                    "--data.root"
                )

    def read(self, config: DataConfig) -> Parts:
        """The two sets, whose images stay where they are unless they fit into memory, and the class
        names. UserError: files are missing or damaged, or do not go together."""
        self.fetch(config)
        root = expanded(config.root, "--data.root")
        train, test = (_read(_files(root, part)) for part in ("train", "test"))
        (height, width, channels), other = train[0].shape[1:], test[0].shape[1:]
        if other != (height, width, channels):
            found = f"{(height, width, channels)}, and those of test {other} (H, W, C)"
            raise UserError(f"numpy: {root}: images of train are {found}: give one shape")
        names = _names(root, np.concatenate([train[1], test[1]]))
        count = len(train[0]) + len(test[0])
        store = Store.of(config, count, (height, width, channels), f"numpy: {root}")
        return _kept(train, store), _kept(test, store), names


def _files(root: Path, part: str) -> list[Path]:
    """The files of a part: a pair, if one of the two is there, or else the .npz file."""
    pair = [root / f"{part}_{name}.npy" for name in ("image", "label")]
    return pair if any(path.is_file() for path in pair) else [root / f"{part}.npz"]


def _read(files: list[Path]) -> Arrays:
    """The images, (N, H, W, C), which stay in their file, and their labels."""
    option = f"numpy: {files[0]}"
    if len(files) == 1:
        return labelled_images(files[0], option)
    try:
        images, labels = (np.load(path, mmap_mode="r", allow_pickle=False) for path in files)
    except OSError as error:
        raise UserError(f"{option}: this or {files[1].name} cannot be read ({error})") from None
    except (ValueError, EOFError) as error:
        raise UserError(
            f"{option}: this or {files[1].name} is no .npy file, or damaged ({error})"
        ) from None
    return checked(images, labels, option)


def _names(root: Path, labels: npt.NDArray[np.int64]) -> tuple[str, ...]:
    """The names of the classes: their numbers where no file has others."""
    path, lowest, highest = root / NAMES, int(labels.min()), int(labels.max())
    names = tuple(map(str, range(highest + 1)))
    if path.exists():
        try:
            names = tuple(path.read_text().splitlines())
        except (OSError, ValueError) as error:
            raise UserError(f"numpy: {path} cannot be read ({error}): give text") from None
    if lowest < 0 or not max(highest, 1) < len(names):
        wanted = f"0 to {len(names) - 1}, for the {len(names)} names of {NAMES}"
        raise UserError(
            f"numpy: {root}: labels go from {lowest} to {highest}: give two classes or more, "
            f"{wanted if path.exists() else 'from 0 on'}"
        )
    return names


def _kept(part: Arrays, store: Store) -> ImageSet:
    """The images in memory, or where they are in their file, as ``store`` says."""
    images, labels = part
    if store.cache is None:
        return ImageSet.from_pixels(np.array(images), labels)
    if not isinstance(images, np.memmap) or not images.flags.c_contiguous:
        raise UserError(
            "numpy: images in Fortran's order cannot be on disk: write them by "
            "numpy.ascontiguousarray, or give --data.store memory"
        )
    layout = Layout(Path(str(images.filename)), len(images), store.shape, images.offset)
    return ImageSet(stand_in(MappedImages(layout)), torch.from_numpy(np.array(labels)))


DATASETS.register("numpy")(NumpyFiles())
