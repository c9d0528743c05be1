"""Labelled images, and the three sets of them that a run works with."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from zipper_dist.data.stores.mapped import mapped, stand_in
from zipper_dist.data.stores.memory import require_memory

RESIZED_AT_ONCE = 1024
"""Images that are resized at a time, as floating-point numbers, at most [images]."""
RESIZED_PIXELS = 2**26
"""Pixels of all of them together, at most, but for a single image."""


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Labelled images; channels-last in memory, if this package made them."""

    images: Tensor
    """Pixels from 0 (black) to 255: uint8 (N, C, H, W); or
    :class:`~zipper_dist.data.stores.MappedImages` in place of the tensor, which knows no more than
    its shape and how to read the images at given places."""
    labels: Tensor
    """The class of each image, from 0: int64 (N,), on the device where they are used. The images
    are there, too, or on the CPU."""
    numbers: Tensor | None = None
    """Indices in the set that they were chosen from: int64 (N,), on the CPU; None: all of it."""
    of: int | None = None
    """Size of that set; None: as many as are here."""
    notes: tuple[str, ...] = ()
    """What a user should be told of them, a line each, when they have just been read."""
    files: tuple[str, ...] = ()
    """Names of their files, when they have just been read from files of the user's own."""

    def __post_init__(self) -> None:
        if not self.on_disk and (self.images.dtype != torch.uint8 or self.images.ndim != 4):
            raise ValueError(f"images must be uint8 (N, C, H, W), not {_describe(self.images)}")
        if self.labels.dtype != torch.int64 or self.labels.ndim != 1:
            raise ValueError(f"labels must be int64 (N,), not {_describe(self.labels)}")
        if len(self.images) != len(self.labels):
            raise ValueError(f"{len(self.images)} images but {len(self.labels)} labels")
        if self.images.device not in (self.labels.device, torch.device("cpu")):
            raise ValueError("images and labels must be on one device, or the images on the CPU")

    @staticmethod
    def from_pixels(pixels: npt.NDArray[np.uint8], labels: npt.ArrayLike) -> ImageSet:
        """Make a set on the CPU from pixels (N, H, W, C) and N class numbers."""
        images = torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2)
        return ImageSet(images, torch.from_numpy(np.array(labels, dtype=np.int64)))

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def on_disk(self) -> bool:
        """Whether the images are in a file, of which only those that are used are read."""
        return mapped(self.images) is not None

    @property
    def nbytes(self) -> int:
        """Size of all images [bytes]."""
        return math.prod(self.images.shape)

    def subset(self, indices: Tensor) -> ImageSet:
        """Copy the images at ``indices``, int64 (M,), in that order; those on disk stay there."""
        numbers = indices.cpu() if self.numbers is None else self.numbers[indices.cpu()]
        if (on_disk := mapped(self.images)) is not None:
            images = stand_in(on_disk.part(indices))
        else:
            # Selecting from the (N, H, W, C) view keeps the channels-last layout.
            pixels = self.images.permute(0, 2, 3, 1)[indices.to(self.images.device)]
            images = pixels.permute(0, 3, 1, 2)
        labels = self.labels[indices.to(self.labels.device)]
        return ImageSet(images, labels, numbers, self.of or len(self))

    def read_into(self, pixels: npt.NDArray[np.uint8], places: Tensor) -> None:
        """Copy images that are on the CPU, those at ``places``, into ``pixels``, (M, H, W, C); by
        this thread alone."""
        if (on_disk := mapped(self.images)) is not None:
            on_disk.read_into(pixels, places)
        else:
            whole = self.images.permute(0, 2, 3, 1).numpy()
            for image, place in zip(pixels, places.tolist(), strict=True):
                image[:] = whole[place]

    def to(self, device: torch.device | str) -> ImageSet:
        """The same set on ``device``; nothing is copied where it is there already, and images on
        disk stay there."""
        images = self.images if self.on_disk else self.images.to(device)
        return replace(self, images=images, labels=self.labels.to(device))

    def resized(self, size: int) -> ImageSet:
        """The set with images of ``size`` × ``size`` pixels: bilinear, antialiased, rounded."""
        count, channels, height, width = self.images.shape
        if (height, width) == (size, size):
            return self
        require_memory(count, size, size, channels, f"--data.image-size {size}")
        shape = (count, size, size, channels)
        images = torch.empty(shape, dtype=torch.uint8, device=self.images.device)
        images = images.permute(0, 3, 1, 2)
        at_once = min(RESIZED_AT_ONCE, max(1, RESIZED_PIXELS // size**2))
        for start in range(0, count, at_once):
            chosen = slice(start, start + at_once)
            chunk = self.images[chosen].to(torch.float32)
            chunk = F.interpolate(chunk, (size, size), mode="bilinear", antialias=True)
            images[chosen] = chunk.round_().clamp_(0, 255).to(torch.uint8)
        return replace(self, images=images)

    def as_whole(self) -> ImageSet:
        """The same images as a set of its own, whose numbers start from 0."""
        return replace(self, numbers=None, of=None)


@dataclass(frozen=True, eq=False)
class Dataset:
    """What a run trains on, chooses its best weights on, and is judged on at the end."""

    train: ImageSet
    """The images that the learners see."""
    validation: ImageSet
    """The images that the best weights are chosen on; may be the test set itself."""
    test: ImageSet
    """The images for the final figures."""
    class_names: tuple[str, ...]
    """The name of class 0, 1, …"""
    name: str
    """Where the images come from: digits, mnist, …"""
    notes: tuple[str, ...] = ()
    """What a user should be told of them, a line each."""
    files: tuple[str, ...] = ()
    """Names of the files that they were read from, where these are the user's own."""
    extra: ImageSet | None = None
    """Generated images, on the CPU, of which the learners see some in every minibatch."""

    def __post_init__(self) -> None:
        for part in ("train", "validation", "test"):
            image_set: ImageSet = getattr(self, part)
            if len(image_set) == 0:
                raise ValueError(f"the {part} set is empty")
            size, wanted = tuple(image_set.images.shape[1:]), tuple(self.train.images.shape[1:])
            if size != wanted:
                raise ValueError(f"images of the {part} set are {size}, not {wanted} (C, H, W)")
            lowest, highest = int(image_set.labels.min()), int(image_set.labels.max())
            if lowest < 0 or highest >= self.classes:
                found = f"labels of the {part} set go from {lowest} to {highest}"
                raise ValueError(f"{found}, not from 0 to {self.classes - 1}")

    def digest(self) -> str:
        """A SHA-256 (hex) of classes, labels, sizes and names of files, in order; not of pixels,
        which libraries for images may decode differently in the last bit."""
        parts = [self.train, self.validation, self.test, *([self.extra] if self.extra else [])]
        about = [self.class_names, self.files, [tuple(part.images.shape) for part in parts]]
        found = hashlib.sha256(json.dumps(about).encode())
        for part in parts:
            found.update(part.labels.cpu().numpy().tobytes())
        return found.hexdigest()

    @property
    def channels(self) -> int:
        """Channels of an image: 1 for grey, 3 for RGB."""
        return self.train.images.shape[1]

    @property
    def height(self) -> int:
        """Height of an image [pixels]."""
        return self.train.images.shape[2]

    @property
    def width(self) -> int:
        """Width of an image [pixels]."""
        return self.train.images.shape[3]

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)


def _describe(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"
