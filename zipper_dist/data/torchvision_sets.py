"""What the data sets that torchvision reads have in common: download, verify, open."""

import os
import socket
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from zipper_dist.config.paths import expanded
from zipper_dist.config.schema import DataConfig
from zipper_dist.data.image_set import ImageSet
from zipper_dist.data.registry import Parts
from zipper_dist.errors import UserError, in_one_line

SERVER_TIMEOUT = 10.0  # of a server that sends nothing [seconds]

Raw = tuple[npt.NDArray[np.uint8], npt.ArrayLike, tuple[str, ...]]
"""Pixels (N, H, W, C), labels and class names."""


@dataclass(frozen=True)
class DataFile:
    """A file that a data set is read from, and the download that brings it."""

    path: Path
    is_whole: Callable[[Path], bool]
    download: Path
    """Where the download is stored: an archive, or ``path`` itself."""
    md5: str
    """The published checksum of the download."""
    urls: tuple[str, ...]
    """Addresses of the download; the first that works is used."""

    def is_broken(self) -> bool:
        """Whether the file is there but incomplete or unreadable."""
        try:
            return self.path.is_file() and not self.is_whole(self.path)
        except OSError:
            return True

    def fetch(self) -> None:
        """Download it, unless the whole download is there, and unpack it."""
        from torchvision.datasets.utils import download_url, extract_archive

        folder = os.fspath(self.download.parent)
        for url in self.urls:
            try:
                download_url(url, folder, self.download.name, self.md5)
                break
            except Exception:
                if url == self.urls[-1]:
                    raise
        if self.download != self.path:
            extract_archive(os.fspath(self.download), folder)


def has_md5(md5: str) -> Callable[[Path], bool]:
    """A check that a file has this checksum."""
    from torchvision.datasets.utils import check_integrity

    return lambda path: bool(check_integrity(path, md5))


@dataclass(frozen=True)
class TorchvisionSet(ABC):
    """One data set: its files, how to open it, and what must come out."""

    name: str
    shape: tuple[int, int, int]
    """Height, width and channels of an image."""
    classes: int

    @abstractmethod
    def files(self, root: Path) -> list[DataFile]:
        """The files below a root directory."""

    @abstractmethod
    def open(self, root: Path, train: bool) -> Raw:
        """The content of the training or the test set."""

    def fetch(self, config: DataConfig) -> None:
        """Download what is missing; raises UserError if that fails or a file is broken."""
        files = self.files(expanded(config.root, "--data.root"))
        self._refuse_broken(files)
        timeout = socket.getdefaulttimeout()
        socket.setdefaulttimeout(SERVER_TIMEOUT)  # without one, a silent server hangs the command
        try:
            for file in files:
                if not file.path.is_file():
                    file.fetch()
        except BaseException as error:  # a keyboard interrupt, too
            for file in filter(DataFile.is_broken, files):  # half of a download
                file.path.unlink()
            if not isinstance(error, Exception):
                raise
            raise self._missing(files, f"the download failed: {in_one_line(error)}") from error
        finally:
            socket.setdefaulttimeout(timeout)

    def read(self, config: DataConfig) -> Parts:
        """The two sets and the class names; raises UserError if a file is missing or broken."""
        root = expanded(config.root, "--data.root")
        try:
            (train, names), (test, _) = (self._read_part(root, part) for part in (True, False))
        except Exception as error:  # torchvision raises many kinds, and names no file
            files = self.files(root)
            self._refuse_broken(files)
            if any(not file.path.is_file() for file in files):
                raise self._missing(files, "they have not been downloaded") from error
            problem = f"the files in {files[0].path.parent} are corrupt ({error})"
            raise UserError(f"{self.name}: {problem}. Delete them and start again") from error
        return train, test, names

    def _read_part(self, root: Path, train: bool) -> tuple[ImageSet, tuple[str, ...]]:
        """The images and class names; raises ValueError if they are not this data set's."""
        pixels, raw_labels, names = self.open(root, train)
        labels = np.asarray(raw_labels)
        if pixels.dtype != np.uint8 or pixels.shape[1:] != self.shape:
            raise ValueError(f"images of {pixels.dtype} {pixels.shape[1:]}, not uint8 {self.shape}")
        if len(pixels) != len(labels) or len(pixels) == 0:
            raise ValueError(f"{len(pixels)} images and {len(labels)} labels")
        lowest, highest = labels.min(), labels.max()
        if lowest < 0 or highest >= self.classes:
            raise ValueError(f"labels from {lowest} to {highest}, not 0 to {self.classes - 1}")
        return ImageSet.from_pixels(pixels, labels), names

    def _refuse_broken(self, files: Sequence[DataFile]) -> None:
        broken = [file.path for file in files if file.is_broken()]
        if broken:
            raise UserError(
                f"{self.name}: truncated, corrupt or unreadable: {_joined(broken)}. "
                f"Delete {'it' if len(broken) == 1 else 'them'} and start again"
            )

    def _missing(self, files: Sequence[DataFile], reason: str) -> UserError:
        missing = [file for file in files if not file.path.is_file()] or list(files)
        return UserError(
            f"{self.name}: missing {_joined(file.path.name for file in missing)} in "
            f"{missing[0].path.parent.absolute()}: {reason}. "
            f"Put {_joined(file.download.name for file in missing)} "
            f"(from {_joined(file.urls[0] for file in missing)}) "
            f"in {missing[0].download.parent.absolute()}, "
            "or give the directory that has the data set with --data.root"
        )


def _joined(parts: Iterable[object]) -> str:
    """The parts, each once, with commas."""
    return ", ".join(dict.fromkeys(map(str, parts)))
