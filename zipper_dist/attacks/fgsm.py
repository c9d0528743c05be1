"""FGSM: Goodfellow, Shlens and Szegedy, "Explaining and Harnessing Adversarial Examples", 2015."""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from zipper_dist.accel.precision import Network
from zipper_dist.attacks.ascent import ascend, summed_cross_entropy
from zipper_dist.attacks.ball import make_ball
from zipper_dist.attacks.base import ATTACKS, Attack
from zipper_dist.attacks.draws import Draws


@ATTACKS.register("fgsm")
@dataclass(frozen=True)
class Fgsm(Attack):
    """The fast gradient sign method: one step of length ``eps`` from the clean image; in L2, along
    the gradient itself."""

    def iterates(self, network: Network, x: Tensor, y: Tensor, draws: Draws) -> Iterator[Tensor]:
        """See :class:`~zipper_dist.attacks.base.Attack`."""
        ball = make_ball(self.norm, x, self.eps)
        yield from ascend(network, x, ball, summed_cross_entropy(y), [self.eps])
