"""The attack of Carlini and Wagner as PGD: ascent on the margin loss, inside the ball.

Source of the loss (f₆, without confidence): Carlini and Wagner, "Towards Evaluating the Robustness
of Neural Networks", IEEE S&P 2017; its use under PGD: Madry et al., ICLR 2018.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from zipper_dist.accel.precision import Network
from zipper_dist.attacks.ascent import Loss
from zipper_dist.attacks.ball import Ball
from zipper_dist.attacks.base import ATTACKS, Iterated
from zipper_dist.attacks.draws import Draws


def summed_margin(y: Tensor) -> Loss:
    """The highest wrong logit less that of ``y`` (B,), int64; above 0 where an example is broken.

    Unlike the cross-entropy it does not saturate, however confident the network is.
    """

    def loss(logits: Tensor) -> Tensor:
        logits = logits.float()
        right = logits.gather(1, y[:, None]).squeeze(1)
        wrong = logits.scatter(1, y[:, None], -torch.inf).amax(1)
        return (wrong - right).sum()

    return loss


@ATTACKS.register("cw")
@dataclass(frozen=True)
class Cw(Iterated):
    """PGD on the margin loss; the network has 2 classes or more."""

    steps: int = 30
    random_start: bool = True
    """Start at a random point of the ball."""

    def start(self, ball: Ball, x: Tensor, draws: Draws) -> Tensor:
        """See :class:`~zipper_dist.attacks.base.Iterated`."""
        return ball.random_start(draws.generators()) if self.random_start else x

    def loss(self, network: Network, x: Tensor, y: Tensor) -> Loss:
        """See :class:`~zipper_dist.attacks.base.Iterated`."""
        return summed_margin(y)
