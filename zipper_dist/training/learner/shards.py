"""Shards: equal parts of a minibatch, each attacked and trained on by itself."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from zipper_dist.data import Minibatch


@dataclass(frozen=True)
class Shards:
    """The shards ``mine``, by number, of the ``count`` that every minibatch is cut into."""

    count: int = 1
    mine: tuple[int, ...] = (0,)

    def of(self, batch: Minibatch) -> Iterator[tuple[int | None, Minibatch]]:
        """Number and images of each of them; ``count`` divides the size of the minibatch. The only
        shard has no number."""
        size = len(batch.labels) // self.count
        for number in self.mine:
            rows = slice(number * size, (number + 1) * size)
            yield (
                number if self.count > 1 else None,
                Minibatch(batch.images[rows], batch.labels[rows]),
            )


class ShardMean:
    """The mean over all shards of tensors that are shaped as those ``like``.

    ``buffer`` (1-D) holds the sum over some shards, and is to be summed over the processes that
    have the others, in any order and groups. Two numbers have but one sum. A few float32 numbers
    have in float64, where their sum is exact unless they differ by a factor of some 2²⁹.
    """

    def __init__(self, like: Sequence[Tensor], count: int) -> None:
        sizes = [tensor.numel() for tensor in like]
        exact = torch.float32 if count <= 2 else torch.float64
        self.buffer = torch.zeros(sum(sizes), dtype=exact, device=like[0].device)
        self._count = count
        self._views: list[Tensor] = []
        offset = 0
        for tensor, size in zip(like, sizes, strict=True):
            # In the tensor's own memory layout: adding is one pass over consecutive numbers.
            strides = torch.empty_like(tensor, device="meta").stride()
            self._views.append(self.buffer.as_strided(tensor.shape, strides, offset))
            offset += size

    def clear(self) -> None:
        """Begin a new sum."""
        self.buffer.zero_()

    def add(self, tensors: Sequence[Tensor | None]) -> None:
        """Add what a shard gave; nothing where there is None."""
        torch._foreach_add_(*self._pairs(tensors))

    def copy_to(self, tensors: Sequence[Tensor | None]) -> None:
        """Write the mean into ``tensors``, rounded to their type; once for each sum."""
        self.buffer.div_(self._count)
        views, there = self._pairs(tensors)
        torch._foreach_copy_(there, views)

    def _pairs(self, tensors: Sequence[Tensor | None]) -> tuple[list[Tensor], list[Tensor]]:
        pairs = [(v, t) for v, t in zip(self._views, tensors, strict=True) if t is not None]
        return [view for view, _ in pairs], [tensor for _, tensor in pairs]
