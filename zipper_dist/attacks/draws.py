"""Where the random numbers of an attack come from.

In training a batch shares one generator. In evaluation every draw has an address (seed, attack,
start, number of the example in the whole set), so that outcomes depend neither on the batch nor on
the other examples. AutoAttack's attacks draw for a block of examples, of which each takes its row.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from zipper_dist.rng import generator_at, seed_at

Generators = torch.Generator | Sequence[torch.Generator] | None
"""One generator for a whole batch, on its device (None: torch's global one), or one for each
example, on the CPU."""

BLOCK_SIZE = 128
"""Examples in a block, unless the user says otherwise [images]."""


@dataclass(frozen=True)
class Blocks:
    """``count`` examples in blocks of ``size``, the last of which may be smaller."""

    count: int
    size: int = BLOCK_SIZE

    def __len__(self) -> int:
        return -(-self.count // self.size)

    def size_of(self, block: int) -> int:
        """Examples in ``block``."""
        return min(self.size, self.count - block * self.size)

    def span(self, block: int) -> slice:
        """The examples of ``block``."""
        start = block * self.size
        return slice(start, start + self.size_of(block))

    def first(self, count: int) -> Blocks:
        """The first blocks, of ``count`` examples or a few more together."""
        blocks = min(len(self), -(-count // self.size))
        return Blocks(min(self.count, blocks * self.size), self.size)

    def dealt(self, part: int, parts: int) -> range:
        """The blocks of rank ``part`` of ``parts``: one in turn for each."""
        return range(part, len(self), parts)


@dataclass(frozen=True)
class BlockRows:
    """The examples of a batch that belong to one block."""

    seed: int
    """Seed of the attack on the block."""
    size: int
    """Examples in the block."""
    rows: Tensor
    """Which of them are in the batch: int64 (n,)."""


def block_seed(seed: int, block: int) -> int:
    """The seed of the attacks on a block: one for all of them, as AutoAttack has it."""
    return seed_at(seed, "block", block)


class Draws(ABC):
    """The random numbers of one batch."""

    @abstractmethod
    def generators(self) -> Generators:
        """What random starts are drawn from."""

    def blocks(self) -> list[BlockRows]:
        """The examples by block, in order; raises TypeError for a batch without blocks."""
        raise TypeError("this attack draws by block: it needs ExampleDraws")


@dataclass(frozen=True)
class SharedDraws(Draws):
    """One generator for a whole batch, as in training."""

    generator: torch.Generator | None

    def generators(self) -> Generators:
        """See :class:`Draws`."""
        return self.generator


@dataclass(frozen=True, eq=False)
class ExampleDraws(Draws):
    """Draws by the address of each example."""

    seed: int
    attack: str
    """Name of the attack."""
    all_blocks: Blocks
    """The blocks of the set that is attacked."""
    places: Tensor
    """Places of the batch's examples in that set: int64 (n,), ascending, on the CPU."""
    numbers: Tensor
    """Their numbers in the whole set that it was taken from: int64 (n,), on the CPU."""
    restart: int = 0

    def of(self, rows: Tensor, restart: int = 0) -> ExampleDraws:
        """The draws of some of the rows (index or mask, on any device) for one of the starts."""
        rows = rows.cpu()
        return replace(self, places=self.places[rows], numbers=self.numbers[rows], restart=restart)

    def generators(self) -> list[torch.Generator]:
        """See :class:`Draws`."""
        address = (self.seed, "start", self.attack, self.restart)
        return [generator_at("cpu", *address, number) for number in self.numbers.tolist()]

    def blocks(self) -> list[BlockRows]:
        """See :class:`Draws`."""
        size = self.all_blocks.size
        owners, found = self.places // size, []
        for block in sorted(set(owners.tolist())):
            rows = self.places[owners == block] - block * size
            seed = block_seed(self.seed, block)
            found.append(BlockRows(seed, self.all_blocks.size_of(block), rows))
        return found
