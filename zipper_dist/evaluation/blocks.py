"""Where examples are: fixed blocks, dealt to ranks, and the random numbers of each example."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from zipper_dist.attacks.autoattack import BlockRows
from zipper_dist.rng import generator_at, seed_at


@dataclass(frozen=True)
class Layout:
    """``count`` examples in blocks of ``block_size``, the last of which may be smaller."""

    count: int
    block_size: int

    @property
    def blocks(self) -> int:
        """Number of blocks."""
        return -(-self.count // self.block_size)

    def size(self, block: int) -> int:
        """Examples in ``block``."""
        return min(self.block_size, self.count - block * self.block_size)

    def span(self, block: int) -> slice:
        """The examples of ``block``."""
        start = block * self.block_size
        return slice(start, start + self.size(block))

    def first(self, count: int) -> Layout:
        """The first blocks, of ``count`` examples or a few more together."""
        blocks = min(self.blocks, -(-count // self.block_size))
        return Layout(min(self.count, blocks * self.block_size), self.block_size)

    def dealt(self, part: int, parts: int) -> range:
        """The blocks of rank ``part`` of ``parts``: one in turn for each."""
        return range(part, self.blocks, parts)


@dataclass(frozen=True, eq=False)
class Places:
    """Which examples a batch holds, and the address of their random draws."""

    layout: Layout
    examples: Tensor
    """Numbers of the examples in the evaluated set: int64 (n,), ascending, on the CPU."""
    attack: str
    """Name of the attack in the address of its draws."""
    seed: int
    restart: int = 0

    def __getitem__(self, chosen: Tensor) -> Places:
        """The places of some of the rows, given by index or mask (on any device)."""
        examples = self.examples[chosen.cpu()]
        return Places(self.layout, examples, self.attack, self.seed, self.restart)

    def generators(self) -> Iterator[torch.Generator]:
        """A generator for each example, on the CPU, which no other example shares."""
        for example in self.examples.tolist():
            yield generator_at("cpu", self.seed, "start", self.attack, self.restart, example)

    def block_seed(self, block: int) -> int:
        """The seed of the attacks on a block: one for all, as AutoAttack has it."""
        return seed_at(self.seed, "block", block)

    def block_rows(self) -> list[BlockRows]:
        """The examples by block, in order."""
        blocks = self.examples // self.layout.block_size
        return [
            BlockRows(
                self.block_seed(block),
                self.layout.size(block),
                self.examples[blocks == block] - block * self.layout.block_size,
            )
            for block in sorted(set(blocks.tolist()))
        ]
