"""Early-stopped PGD: the attack of friendly adversarial training (FAT).

Source: Zhang, Xu, Han, Niu, Cui, Sugiyama and Kankanhalli, "Attacks Which Do Not Kill Training Make
Adversarial Learning Stronger", ICML 2020, algorithm 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from zipper_dist.accel.precision import Network
from zipper_dist.attacks.ascent import ascend, last
from zipper_dist.attacks.ball import make_ball
from zipper_dist.attacks.draws import Draws
from zipper_dist.attacks.pgd import PGD


class _StopRule:
    """Which examples go on: those not yet misclassified before more than ``tau`` of their steps."""

    def __init__(self, y: Tensor, tau: int) -> None:
        self._y = y
        self._left = torch.full_like(y, tau)
        self.going = torch.ones_like(y, dtype=torch.bool)

    def loss(self, logits: Tensor) -> Tensor:
        """The summed cross-entropy; on the way, the prediction decides who goes on."""
        logits = logits.float()
        wrong = logits.detach().argmax(1) != self._y
        self.going = self.going & ~(wrong & (self._left == 0))
        self._left = self._left - wrong.long()
        return F.cross_entropy(logits, self._y, reduction="sum")

    def direction(self, gradient: Tensor) -> Tensor:
        """The gradient of those who go on, 0 for the others."""
        going = self.going.view(-1, *[1] * (gradient.dim() - 1))
        return torch.where(going, gradient, 0)

    def keep(self, rows: Tensor) -> None:
        """Forget all examples but those at ``rows``."""
        self._y, self._left, self.going = self._y[rows], self._left[rows], self.going[rows]


@dataclass(frozen=True)
class FriendlyPGD(PGD):
    """PGD on each image for as long as it is friendly.

    Before each of at most ``steps`` steps an image that is misclassified where it is uses up one of
    its ``tau``; when it has none left it stays there. So most images end just across the decision
    boundary, ``tau`` steps beyond it. An image that is classified right again on its way uses up
    nothing, as in the source.

    The attack ends when all images have stopped. Those that have are taken out of the batch, unless
    ``fixed_shape``; that changes the rounding of the others and nothing else. How many go on is
    read from the device at every step; not so on a GPU with ``fixed_shape``, where all steps are
    taken, because the host is not to wait for the GPU.
    """

    tau: int = 0
    """Steps that an image may take while misclassified."""
    fixed_shape: bool = False
    """Keep all images in the batch."""

    def iterates(self, network: Network, x: Tensor, y: Tensor, draws: Draws) -> Iterator[Tensor]:
        """See :class:`~zipper_dist.attacks.base.Attack`; there is only the result."""
        start = self.start(make_ball(self.norm, x, self.eps), x, draws)
        yield self.from_start(network, x, y, start)

    def from_start(self, network: Network, x: Tensor, y: Tensor, start: Tensor) -> Tensor:
        """The images (B, C, H, W) that the attack ends at, from images ``start`` in the ball."""
        found, x_adv = start.clone(), start
        rows = torch.arange(len(x), device=x.device)
        ball, rule = make_ball(self.norm, x, self.eps), _StopRule(y, self.tau)
        for _ in range(self.steps):
            step = ascend(network, x_adv, ball, rule.loss, self.step, 1, rule.direction)
            x_adv = last(step)
            if self.fixed_shape and x.is_cuda:
                continue
            going = int(rule.going.sum())
            if going == 0:
                break
            if going < len(rows) and not self.fixed_shape:
                found[rows] = x_adv
                kept = rule.going.nonzero().squeeze(1)
                rows, x_adv = rows[kept], x_adv[kept]
                rule.keep(kept)
                ball = make_ball(self.norm, x[rows], self.eps)
        found[rows] = x_adv
        return found
