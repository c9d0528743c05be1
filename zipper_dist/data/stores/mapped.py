"""Images in a file, of which only those that are asked for are read."""

from __future__ import annotations

import copy
import mmap
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from zipper_dist.errors import UserError

Pixels = npt.NDArray[np.uint8]

CHECKSUM = 4
"""Size of the checksum after an image: its CRC-32, little-endian [bytes]."""


@dataclass(frozen=True)
class Layout:
    """Where images are in a file, one after the other."""

    path: Path
    count: int
    shape: tuple[int, int, int]
    """Height, width and channels."""
    offset: int = 0
    """Where the first one begins [bytes]."""
    checked: bool = False
    """Whether each is followed by its checksum."""

    @property
    def size(self) -> int:
        """Size of an image [bytes]."""
        height, width, channels = self.shape
        return height * width * channels

    @property
    def stride(self) -> int:
        """From the beginning of an image to that of the next [bytes]."""
        return self.size + CHECKSUM * self.checked

    @property
    def index(self) -> Path:
        """The file that says that all of them are there."""
        return self.path.with_suffix(".json")

    @property
    def end(self) -> int:
        """Where the last one ends [bytes]."""
        return self.offset + self.count * self.stride


def checksum(image: Pixels) -> bytes:
    """What stands after an image, C-contiguous, if it is intact."""
    return zlib.crc32(image.data).to_bytes(CHECKSUM, "little")


class MappedImages:
    """Stands in for the tensor (N, C, H, W) of an ImageSet: gives the images at given places.

    Memory holds what was read as long as nobody needs it for something else. UserError, when they
    are read, for images that do not go with their checksums.
    """

    device = torch.device("cpu")
    """Of what is read."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.rows = torch.arange(layout.count)
        with layout.path.open("rb") as file:
            self._map = mmap.mmap(file.fileno(), layout.end, access=mmap.ACCESS_READ)
        # No image says which one is read next; :meth:`read_into` asks for what it needs.
        self._map.madvise(mmap.MADV_RANDOM)
        whole = np.frombuffer(self._map, np.uint8, layout.count * layout.stride, layout.offset)
        self._records = whole.reshape(layout.count, layout.stride)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def shape(self) -> torch.Size:
        """(N, C, H, W)."""
        height, width, channels = self.layout.shape
        return torch.Size((len(self), channels, height, width))

    def part(self, places: Tensor) -> MappedImages:
        """The images at ``places``, int64 (M,), in that order; none is read."""
        found = copy.copy(self)
        found.rows = self.rows[places.cpu()]
        return found

    def __getitem__(self, places: Tensor | slice) -> Tensor:
        """Read the images at ``places``: uint8 (M, C, H, W), channels-last in memory."""
        if isinstance(places, slice):
            places = torch.arange(len(self))[places]
        pixels = np.empty((len(places), *self.layout.shape), np.uint8)
        self.read_into(pixels, places)
        return torch.from_numpy(pixels).permute(0, 3, 1, 2)

    def read_into(self, pixels: Pixels, places: Tensor) -> None:
        """Read the images at ``places`` into ``pixels``, (M, H, W, C)."""
        layout, size = self.layout, self.layout.size
        rows = self.rows[places.cpu()].tolist()
        for row in rows:  # all are on their way before the first one is waited for
            start = layout.offset + row * layout.stride
            page = start - start % mmap.PAGESIZE
            self._map.madvise(mmap.MADV_WILLNEED, page, start + layout.stride - page)
        for image, row in zip(pixels, rows, strict=True):
            image[:] = self._records[row, :size].reshape(layout.shape)
            if layout.checked and self._records[row, size:].tobytes() != checksum(image):
                raise UserError(
                    f"{layout.path}: image {row} is damaged, as its checksum says: delete "
                    f"{layout.index} and start again, which mends it"
                )


def stand_in(images: MappedImages) -> Tensor:
    """``images`` for where a tensor is wanted that gives the images at some places."""
    return cast(Tensor, images)


def mapped(images: object) -> MappedImages | None:
    """``images`` if they are such a stand-in."""
    return images if isinstance(images, MappedImages) else None
