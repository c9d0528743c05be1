"""The momentum iterative method (MIM): PGD along a running sum of normalised gradients.

Source: Dong, Liao, Pang, Su, Zhu, Hu and Li, "Boosting Adversarial Attacks with Momentum",
CVPR 2018.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from zipper_dist.attacks.ascent import Direction
from zipper_dist.attacks.base import ATTACKS, Iterated


def momentum(decay: float) -> Direction:
    """A direction that remembers: ``decay`` · the last direction + the gradient over its L1 norm.

    A gradient of zero adds nothing. The direction belongs to one attack on one batch.
    """
    memory: list[Tensor] = []

    def direction(gradient: Tensor) -> Tensor:
        # The peak first: the L1 norm of a gradient near the smallest floats would underflow.
        finite = torch.nan_to_num(gradient, nan=0.0)
        tiny = torch.finfo(finite.dtype).tiny
        scaled = finite / finite.abs().amax(dim=(1, 2, 3), keepdim=True).clamp_min(tiny)
        unit = scaled / scaled.abs().sum(dim=(1, 2, 3), keepdim=True).clamp_min(tiny)
        memory[:] = [unit + decay * memory[0]] if memory else [unit]
        return memory[0]

    return direction


@ATTACKS.register("mim")
@dataclass(frozen=True)
class Mim(Iterated):
    """MIM from the clean image, without a random start."""

    decay: float = 1.0
    """Of the momentum; 0: plain ascent."""

    def direction(self) -> Direction:
        """See :class:`~zipper_dist.attacks.base.Iterated`."""
        return momentum(self.decay)
