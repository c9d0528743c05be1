"""CW: Carlini and Wagner, "Towards Evaluating the Robustness of Neural Networks", 2017 (f₆)."""

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
    Unlike the cross-entropy it never saturates."""

    def loss(logits: Tensor) -> Tensor:
        logits = logits.float()
        right = logits.gather(1, y[:, None]).squeeze(1)
        wrong = logits.scatter(1, y[:, None], -torch.inf).amax(1)
        return (wrong - right).sum()

    return loss


@ATTACKS.register("cw")
@dataclass(frozen=True)
class Cw(Iterated):
    """The loss of Carlini and Wagner under PGD; the network has 2 classes or more."""

    steps: int = 30
    random_start: bool = True
    """Start at a random point of the ball."""

    def start(self, ball: Ball, x: Tensor, draws: Draws) -> Tensor:
        """See :class:`~zipper_dist.attacks.base.Iterated`."""
        return ball.random_start(draws.generators()) if self.random_start else x

    def loss(self, network: Network, x: Tensor, y: Tensor) -> Loss:
        """See :class:`~zipper_dist.attacks.base.Iterated`."""
        return summed_margin(y)
