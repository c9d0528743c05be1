"""An adapter to ``pyautoattack``, the authors' own package.

The attacks are the authors' code. What the adapter adds is where random numbers come from. The
package draws for whatever batch an attack still works on, so that an example's numbers depend on
which others have been broken. Here every draw is made for the whole of a fixed block of examples,
and an example takes its own row of it: the very numbers that the package draws when it attacks all
examples of the block with the block's seed. (But for Square in L2: there the package draws at each
query for those that still stand, so that no call of it could be matched.) So an outcome depends on
neither the batch nor what was attacked before, and the ensemble can use the outcomes of its parts.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, ClassVar

import torch
from torch import Tensor

from zipper_dist.accel.precision import Network
from zipper_dist.attacks.base import Attack
from zipper_dist.attacks.draws import BlockRows
from zipper_dist.config.threat import Norm

ITERATIONS, QUERIES, TARGETS = 100, 5000, 9
"""Of the standard version: of APGD and FAB for a target, of Square, and targets an example."""

NAMES = {"linf": "Linf", "l2": "L2"}
"""The package's names of the norms."""

# The package warns of zero gradients at every call; the sanity checks look for them once.
SILENT = logging.getLogger("zipper_dist.autoattack")
SILENT.addHandler(logging.NullHandler())
SILENT.propagate = False


@dataclass(frozen=True)
class FromAuthors(Attack):
    """An attack of the package, on images that are classified right.

    Its result has the adversarial image where it succeeded, elsewhere the clean one. The ball is
    kept up to the rounding of the package.
    """

    only_right: ClassVar[bool] = True

    @property
    def settings(self) -> dict[str, Any]:
        """See :class:`~zipper_dist.attacks.base.Attack`."""
        return super().settings | {"pyautoattack": version("pyautoattack")}


class _PlainGradient(torch.autograd.Function):
    """The identity; its gradient comes in the plain memory layout, as the package takes it."""

    @staticmethod
    def forward(ctx: Any, images: Tensor) -> Tensor:
        return images.view_as(images)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0].contiguous()


def plain(network: Network) -> Network:
    """``network`` as the package takes it: its gradient in the plain memory layout, and logits of
    its own, because Square writes into them."""
    return lambda images: network(_PlainGradient.apply(images)).clone()


def global_draws_kept(x: Tensor) -> AbstractContextManager[None]:
    """For the duration, torch's global generators are the package's; afterwards as they were."""
    return torch.random.fork_rng(devices=[x.device] if x.is_cuda else [])


class BlockNoise:
    """Random images, each example's from its row in the draws of its block."""

    def __init__(self, norm: Norm, blocks: Sequence[BlockRows]) -> None:
        self._norm = norm
        # On the CPU whatever the device, as in the package.
        self._blocks = [(b, torch.Generator().manual_seed(b.seed)) for b in blocks]

    def like(self, x: Tensor) -> Tensor:
        """The next draw for all examples of the batch ``x``, shaped as it and on its device."""
        draw = torch.rand if self._norm == "linf" else torch.randn
        rows = [
            draw((block.size, *x.shape[1:]), generator=generator)[block.rows]
            for block, generator in self._blocks
        ]
        drawn = torch.cat(rows)
        return (2 * drawn - 1 if self._norm == "linf" else drawn).to(x.device)
