"""Where images are kept: in the memory of the device, in that of the machine, or on disk."""

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zipper_dist.config.paths import expanded
from zipper_dist.config.schema import DataConfig
from zipper_dist.data.stores.cache import cached
from zipper_dist.data.stores.decoded import Bad, Decode, in_memory
from zipper_dist.data.stores.mapped import Layout, MappedImages, Pixels, mapped, stand_in
from zipper_dist.data.stores.memory import host_memory, require_memory

__all__ = [
    "Bad", "Decode", "Layout", "MappedImages", "Pixels", "Store", "files_as_they_are", "identity",
    "mapped", "stand_in",
]  # fmt: skip

FORMAT = 1
"""Of the files; those of another format are not found."""
COPIES = 2
"""How much memory images need while they are read and parted, as a multiple of themselves."""


@dataclass(frozen=True)
class Store:
    """Keeps the images that a source decodes, all of one shape, (H, W, C) ``shape``."""

    shape: tuple[int, int, int]
    cache: Path | None
    """Directory of the files that images are decoded into; None: they stay in memory."""

    @staticmethod
    def of(config: DataConfig, count: int, shape: tuple[int, int, int], option: str) -> "Store":
        """The store for ``count`` images. UserError about ``option`` and its value: they do not fit
        into memory, and may not be on disk."""
        height, width, channels = shape
        processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        needed = COPIES * processes * count * height * width * channels
        if config.store == "disk" or (config.store == "auto" and needed > host_memory()):
            require_memory(1, width, height, channels, option)
            return Store(shape, cache_directory(config))
        require_memory(count, width, height, channels, option)
        return Store(shape, None)

    def keep(self, name: str, about: Any, count: int, decode: Decode) -> tuple[Tensor, Bad]:
        """The images of numbers 0 … ``count`` - 1 that can be read, in order, and which cannot be.

        Those in the cache are decoded again where ``about`` (JSON), which says what they are made
        from, differs; ``name`` begins the names of their files.
        """
        if self.cache is None:
            return in_memory(count, self.shape, decode)
        described = json.dumps([FORMAT, count, self.shape, about])
        digest = hashlib.sha256(described.encode()).hexdigest()
        path = self.cache / f"{name}-{digest[:32]}.images"
        images, bad = cached(Layout(path, count, self.shape, checked=True), decode)
        if bad:
            images = images.part(torch.tensor([n for n in range(count) if n not in bad]))
        return stand_in(images), bad


def identity(images: Tensor) -> Any:
    """JSON that other images do not have: of those on disk where they are, or else their pixels."""
    if (on_disk := mapped(images)) is not None:
        layout, rows = on_disk.layout, hashlib.sha256(on_disk.rows.numpy().data)
        return [files_as_they_are([str(layout.path)]), layout.offset, rows.hexdigest()]
    pixels = images.permute(0, 2, 3, 1).contiguous().numpy()
    return hashlib.sha256(pixels.data).hexdigest()


def cache_directory(config: DataConfig) -> Path:
    """The directory of the files that images are decoded into."""
    if config.cache is not None:
        return expanded(config.cache, "--data.cache")
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "zipper_dist" / "images"


def files_as_they_are(paths: Iterable[str]) -> str:
    """A SHA-256 (hex) of the files' names, sizes and times: another one where one was changed."""
    found = hashlib.sha256()
    for path in paths:
        status = os.stat(path)
        found.update(f"{os.path.abspath(path)}\0{status.st_size} {status.st_mtime_ns}\n".encode())
    return found.hexdigest()
