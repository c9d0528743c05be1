"""The relatives of PGD: FGSM, MIM and CW.

Sources: Goodfellow, Shlens and Szegedy, "Explaining and Harnessing Adversarial Examples", ICLR
2015; Dong et al., "Boosting Adversarial Attacks with Momentum", CVPR 2018; Carlini and Wagner,
"Towards Evaluating the Robustness of Neural Networks", IEEE S&P 2017 (f₆, without confidence).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from zipper_dist.accel.precision import Network
from zipper_dist.attacks.ascent import Direction, Loss, ascend, summed_cross_entropy
from zipper_dist.attacks.ball import Ball, make_ball
from zipper_dist.attacks.base import ATTACKS, Attack, Iterated
from zipper_dist.attacks.draws import Draws


@ATTACKS.register("fgsm")
@dataclass(frozen=True)
class Fgsm(Attack):
    """The fast gradient sign method: one step of length ``eps`` from the clean image; in L2, along
    the gradient itself."""

    def iterates(self, network: Network, x: Tensor, y: Tensor, draws: Draws) -> Iterator[Tensor]:
        """See :class:`~zipper_dist.attacks.base.Attack`."""
        ball = make_ball(self.norm, x, self.eps)
        yield from ascend(network, x, ball, summed_cross_entropy(y), self.eps, 1)


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
