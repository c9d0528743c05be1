"""Reads images that are not on the device in a thread, some minibatches ahead."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor

from zipper_dist.activity import doing
from zipper_dist.data.image_set import ImageSet
from zipper_dist.data.minibatches.batch import sent

AHEAD = 3
"""Minibatches that are read, at most, before they are asked for."""


@dataclass(frozen=True, eq=False)
class Wanted:
    """The images of a set that a minibatch takes."""

    image_set: ImageSet
    places: Tensor
    """int64 (M,), on the CPU."""


@dataclass(frozen=True, eq=False)
class Read:
    """The same, read."""

    pixels: Tensor
    """uint8 (M, H, W, C), on the CPU; in pinned memory if they go to a GPU."""
    labels: Tensor
    """int64 (M,), on the device where the set has them."""


class ReadAhead:
    """Reads what ``wanted`` says of each iteration; the same whichever were asked for before."""

    def __init__(self, wanted: Callable[[int], Sequence[Wanted]], pinned: bool) -> None:
        self._wanted = wanted
        self._pinned = pinned
        self._pending: dict[int, tuple[Sequence[Wanted], Future[list[Tensor]]]] = {}
        # It uses NumPy alone: PyTorch would start threads of its own for it.
        self._thread = ThreadPoolExecutor(1, "read-ahead")

    def __call__(self, t: int) -> list[Read]:
        """What iteration ``t`` takes; the next ones are on their way from now on."""
        pending = self._pending
        next_ones = range(t, t + AHEAD + 1)
        self._pending = {at: pending.get(at) or self._begun(at) for at in next_ones}
        wanted, images = self._pending[t]
        with doing("reading images"):
            found = images.result()
        return [
            Read(pixels, each.image_set.labels[sent(each.places, each.image_set.labels.device)])
            for each, pixels in zip(wanted, found, strict=True)
        ]

    def _begun(self, t: int) -> tuple[Sequence[Wanted], "Future[list[Tensor]]"]:
        wanted = self._wanted(t)
        found = []
        for each in wanted:
            _, channels, height, width = each.image_set.images.shape
            shape = (len(each.places), height, width, channels)
            # Here, as pinning in another thread would take another GPU.
            found.append(torch.empty(shape, dtype=torch.uint8, pin_memory=self._pinned))
        return wanted, self._thread.submit(_read, wanted, found)


def _read(wanted: Sequence[Wanted], found: list[Tensor]) -> list[Tensor]:
    for each, pixels in zip(wanted, found, strict=True):
        each.image_set.read_into(pixels.numpy(), each.places)
    return found
