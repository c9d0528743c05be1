"""What the data sets that torchvision keeps have in common."""

from __future__ import annotations

import pickle
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from zipper_dist.config.schema import DataConfig
from zipper_dist.data.downloads import Download, has_md5, make_present, require_whole
from zipper_dist.data.image_set import ImageSet
from zipper_dist.data.registry import Parts
from zipper_dist.errors import UserError

DIGIT_NAMES = tuple("0123456789")

Pixels = npt.NDArray[np.uint8]
Raw = tuple[Pixels, npt.ArrayLike, tuple[str, ...]]

# What torchvision raises on files that are missing or do not hold what they should.
_UNREADABLE = (
    OSError,
    RuntimeError,
    ValueError,
    TypeError,
    LookupError,
    EOFError,
    AssertionError,
    pickle.UnpicklingError,
)


@dataclass(frozen=True)
class TorchvisionSet(ABC):
    """One data set: its files, how to open it, and what must come out.

    torchvision is imported by its methods, as that takes a second.
    """

    name: str
    """Name of the data set."""
    shape: tuple[int, int, int]
    """Height, width and channels of an image."""
    classes: int
    """Number of classes."""

    @abstractmethod
    def downloads(self, root: Path) -> list[Download]:
        """The files below a root directory."""

    @abstractmethod
    def open(self, root: Path, train: bool) -> Raw:
        """Pixels (N, H, W, C), labels and class names of the training or the test set."""

    def fetch(self, config: DataConfig) -> None:
        """Download what is missing of the data set into ``config.root``.

        Raises UserError when a download fails or a file that is there is broken.
        """
        make_present(self.name, self.downloads(config.root.expanduser()))

    def read(self, config: DataConfig) -> Parts:
        """The training set, the test set and the class names; writes nothing.

        Raises UserError when a file is missing or broken.
        """
        root = config.root.expanduser()
        train, names = self._read_part(root, train=True)
        test, _ = self._read_part(root, train=False)
        return train, test, names

    def _read_part(self, root: Path, train: bool) -> tuple[ImageSet, tuple[str, ...]]:
        try:
            pixels, labels, names = self.open(root, train)
            self._check(pixels, np.asarray(labels), names)
            return ImageSet.from_pixels(pixels, labels), names
        except _UNREADABLE as error:
            # torchvision does not say which file is at fault.
            downloads = self.downloads(root)
            require_whole(self.name, downloads)
            folder = next(iter(downloads[0].files)).parent
            raise UserError(
                f"{self.name}: the files in {folder} are corrupt ({error}). Delete them and start "
                "again"
            ) from error

    def _check(self, pixels: Pixels, labels: npt.NDArray[Any], names: tuple[str, ...]) -> None:
        """Raise ValueError unless the arrays are what this data set must hold."""
        if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[1:] != self.shape:
            raise ValueError(f"images of {pixels.dtype} {pixels.shape[1:]}, not uint8 {self.shape}")
        if len(pixels) != len(labels) or len(pixels) == 0:
            raise ValueError(f"{len(pixels)} images and {len(labels)} labels")
        if labels.min() < 0 or labels.max() >= self.classes:
            raise ValueError(
                f"labels from {labels.min()} to {labels.max()}, not 0 to {self.classes - 1}"
            )
        if len(names) != self.classes:
            raise ValueError(f"{len(names)} class names, not {self.classes}")


class CifarSet(TorchvisionSet):
    """CIFAR-10 or CIFAR-100."""

    def _kind(self) -> Any:
        from torchvision import datasets

        return datasets.CIFAR10 if self.classes == 10 else datasets.CIFAR100

    def downloads(self, root: Path) -> list[Download]:
        """See :class:`TorchvisionSet`."""
        kind = self._kind()
        named = [*kind.train_list, *kind.test_list, (kind.meta["filename"], kind.meta["md5"])]
        files = {root / kind.base_folder / name: has_md5(md5) for name, md5 in named}
        return [Download((kind.url,), root / kind.filename, kind.tgz_md5, files)]

    def open(self, root: Path, train: bool) -> Raw:
        """See :class:`TorchvisionSet`."""
        dataset = self._kind()(root, train=train)
        return dataset.data, dataset.targets, tuple(dataset.classes)
