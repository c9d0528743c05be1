"""MIM: Dong et al., "Boosting Adversarial Attacks with Momentum", CVPR 2018."""

from dataclasses import dataclass

import torch
from torch import Tensor

from zipper_dist.attacks.ascent import Direction
from zipper_dist.attacks.base import ATTACKS, Iterated


def momentum(decay: float) -> Direction:
    """For one batch: ``decay`` · the last direction + the gradient over its L1 norm (or zero)."""
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
    """The momentum iterative method, from the clean image."""

    decay: float = 1.0
    """Of the momentum; 0: plain ascent."""

    def direction(self) -> Direction:
        """See :class:`~zipper_dist.attacks.base.Iterated`."""
        return momentum(self.decay)
