"""Decoding images in a few threads, in order."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from zipper_dist.data.decoding import Unreadable
from zipper_dist.data.stores.mapped import Pixels

Decode = Callable[[int], Pixels | Unreadable]
"""The pixels (H, W, C) of the image of a number, or why it has none."""
Bad = dict[int, str]
"""Numbers of the images that cannot be read, and why."""


def decoded(decode: Decode, numbers: Sequence[int]) -> Iterator[Pixels | Unreadable]:
    """What ``decode`` gives for each number. The first error, in their order, is raised here, and
    cancels what waits."""
    with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:
        yield from pool.map(decode, numbers)


def in_memory(count: int, shape: tuple[int, int, int], decode: Decode) -> tuple[Tensor, Bad]:
    """The images that can be read, uint8 (M, C, H, W), and which of ``count`` cannot."""
    pixels = np.empty((count, *shape), dtype=np.uint8)
    bad: Bad = {}
    for number, image in enumerate(decoded(decode, range(count))):
        if isinstance(image, Unreadable):
            bad[number] = str(image)
        else:
            pixels[number - len(bad)] = image
    return torch.from_numpy(pixels[: count - len(bad)]).permute(0, 3, 1, 2), bad
