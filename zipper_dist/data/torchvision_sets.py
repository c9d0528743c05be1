"""MNIST, CIFAR-10, CIFAR-100 and SVHN, in the files that torchvision keeps."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torchvision import datasets

from zipper_dist.config.schema import DataConfig
from zipper_dist.data.downloads import Download, has_md5, make_present, require_whole
from zipper_dist.data.image_set import ImageSet
from zipper_dist.errors import UserError

DIGIT_NAMES = tuple("0123456789")

Pixels = npt.NDArray[np.uint8]
Raw = tuple[Pixels, npt.ArrayLike, tuple[str, ...]]


@dataclass(frozen=True)
class TorchvisionSet:
    """One data set: its files, how to open it, and what must come out."""

    downloads: Callable[[Path], list[Download]]
    """The files below a root directory."""
    open: Callable[[Path, bool], Raw]
    """Root directory, whether the training set is wanted → pixels (N, H, W, C), labels, names."""
    shape: tuple[int, int, int]
    """Height, width and channels of an image."""
    classes: int
    """Number of classes."""


def fetch(config: DataConfig) -> None:
    """Download what is missing of the data set into ``config.root``.

    Raises UserError when a download fails or a file that is there is broken.
    """
    make_present(config.source, SETS[config.source].downloads(config.root.expanduser()))


def read(config: DataConfig) -> tuple[ImageSet, ImageSet, tuple[str, ...]]:
    """The training set, the test set and the class names; writes nothing.

    Raises UserError when a file is missing or broken.
    """
    root = config.root.expanduser()
    train, names = _read_part(config.source, root, train=True)
    test, _ = _read_part(config.source, root, train=False)
    return train, test, names


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


def _read_part(source: str, root: Path, train: bool) -> tuple[ImageSet, tuple[str, ...]]:
    """The training or the test set, and the class names."""
    spec = SETS[source]
    try:
        pixels, labels, names = spec.open(root, train)
        _check(spec, pixels, np.asarray(labels), names)
        return ImageSet.from_pixels(pixels, labels), names
    except _UNREADABLE as error:
        # torchvision does not say which file is at fault.
        downloads = spec.downloads(root)
        require_whole(source, downloads)
        folder = next(iter(downloads[0].files)).parent
        raise UserError(
            f"{source}: the files in {folder} are corrupt ({error}). Delete them and start again"
        ) from error


def _check(
    spec: TorchvisionSet, pixels: Pixels, labels: npt.NDArray[Any], names: tuple[str, ...]
) -> None:
    """Raise ValueError unless the arrays are what this data set must hold."""
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[1:] != spec.shape:
        raise ValueError(f"images of {pixels.dtype} {pixels.shape[1:]}, not uint8 {spec.shape}")
    if len(pixels) != len(labels) or len(pixels) == 0:
        raise ValueError(f"{len(pixels)} images and {len(labels)} labels")
    if labels.min() < 0 or labels.max() >= spec.classes:
        raise ValueError(
            f"labels from {labels.min()} to {labels.max()}, not 0 to {spec.classes - 1}"
        )
    if len(names) != spec.classes:
        raise ValueError(f"{len(names)} class names, not {spec.classes}")


def _mnist_downloads(root: Path) -> list[Download]:
    directory = root / "MNIST" / "raw"
    downloads = []
    for name, md5 in datasets.MNIST.resources:
        urls = tuple(f"{mirror}{name}" for mirror in datasets.MNIST.mirrors)
        # The checksum is that of the packed file, which need not be kept.
        unpacked = {directory / name.removesuffix(".gz"): is_whole_idx_file}
        downloads.append(Download(urls, directory / name, md5, unpacked))
    return downloads


def is_whole_idx_file(path: Path) -> bool:
    """Whether a file in MNIST's format (IDX, of bytes) is as long as its header says."""
    with path.open("rb") as file:
        magic = file.read(4)
        if len(magic) < 4 or magic[:3] != b"\x00\x00\x08":
            return False
        header = file.read(4 * magic[3])
    sizes = [int.from_bytes(header[at : at + 4], "big") for at in range(0, len(header), 4)]
    return path.stat().st_size == 4 + 4 * magic[3] + math.prod(sizes)


def _open_mnist(root: Path, train: bool) -> Raw:
    dataset = datasets.MNIST(root, train=train)
    return dataset.data.numpy()[..., None], dataset.targets.numpy(), DIGIT_NAMES


def _cifar_downloads(kind: Any) -> Callable[[Path], list[Download]]:
    """The downloads of torchvision's class CIFAR10 or CIFAR100."""

    def downloads(root: Path) -> list[Download]:
        named = [*kind.train_list, *kind.test_list, (kind.meta["filename"], kind.meta["md5"])]
        files = {root / kind.base_folder / name: has_md5(md5) for name, md5 in named}
        return [Download((kind.url,), root / kind.filename, kind.tgz_md5, files)]

    return downloads


def _open_cifar(kind: Any) -> Callable[[Path, bool], Raw]:
    def open_part(root: Path, train: bool) -> Raw:
        dataset = kind(root, train=train)
        return dataset.data, dataset.targets, tuple(dataset.classes)

    return open_part


def _svhn_downloads(root: Path) -> list[Download]:
    downloads = []
    for part in ("train", "test"):
        url, name, md5 = datasets.SVHN.split_list[part]
        downloads.append(Download((url,), root / name, md5, {root / name: has_md5(md5)}))
    return downloads


def _open_svhn(root: Path, train: bool) -> Raw:
    dataset = datasets.SVHN(root, split="train" if train else "test")
    return dataset.data.transpose(0, 2, 3, 1), dataset.labels, DIGIT_NAMES


SETS = {
    "mnist": TorchvisionSet(_mnist_downloads, _open_mnist, (28, 28, 1), 10),
    "cifar10": TorchvisionSet(
        _cifar_downloads(datasets.CIFAR10), _open_cifar(datasets.CIFAR10), (32, 32, 3), 10
    ),
    "cifar100": TorchvisionSet(
        _cifar_downloads(datasets.CIFAR100), _open_cifar(datasets.CIFAR100), (32, 32, 3), 100
    ),
    "svhn": TorchvisionSet(_svhn_downloads, _open_svhn, (32, 32, 3), 10),
}
"""The data sets by name."""
