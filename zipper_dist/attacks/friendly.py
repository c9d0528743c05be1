"""Early-stopped PGD: the attack of friendly adversarial training (FAT).

Source: Zhang, Xu, Han, Niu, Cui, Sugiyama and Kankanhalli, "Attacks Which Do Not Kill Training Make
Adversarial Learning Stronger", ICML 2020, algorithm 1.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from zipper_dist.accel.precision import Network
from zipper_dist.attacks.ascent import image_gradient
from zipper_dist.attacks.ball import drawn, make_ball
from zipper_dist.attacks.draws import Draws, Generators
from zipper_dist.attacks.pgd import PGD


@dataclass(frozen=True)
class FriendlyPGD(PGD):
    """PGD that stops at an image once it is misclassified and has taken ``tau`` steps while it was.

    Images that have stopped are taken out of the batch, unless ``fixed_shape``: that changes the
    rounding of the others alone. The attack ends when all have; on a GPU with ``fixed_shape`` all
    steps are taken, because the host is not to wait for the GPU.
    """

    tau: int = 0
    """Steps that an image may take while misclassified."""
    fixed_shape: bool = False
    """Keep all images in the batch."""
    omega: float = 0.0
    """Standard deviation of noise that is added with each step [1 = the full pixel range]."""

    def iterates(self, network: Network, x: Tensor, y: Tensor, draws: Draws) -> Iterator[Tensor]:
        """See :class:`~zipper_dist.attacks.base.Attack`; there is only the result."""
        start = self.start(make_ball(self.norm, x, self.eps), x, draws)
        yield self.from_start(network, x, y, start, draws.generators())

    def from_start(
        self, network: Network, x: Tensor, y: Tensor, start: Tensor, noise: Generators = None
    ) -> Tensor:
        """The images (B, C, H, W) that the attack ends at, from images ``start`` in the ball;
        ``noise`` draws what ``omega`` adds."""
        found, x_adv, rows = start.clone(), start, torch.arange(len(x), device=x.device)
        ball = make_ball(self.norm, x, self.eps)
        going, left = torch.ones_like(y, dtype=torch.bool), torch.full_like(y, self.tau)
        wrong = ~going

        def loss(logits: Tensor) -> Tensor:
            nonlocal wrong
            wrong = logits.detach().float().argmax(1) != y
            return F.cross_entropy(logits.float(), y, reduction="sum")

        for _ in range(self.steps):
            gradient = image_gradient(network, x_adv, loss)
            going = going & ~(wrong & (left == 0))
            left = left - wrong.long()
            gradient = torch.where(going[:, None, None, None], gradient, 0)
            if self.omega > 0:  # drawn for all images, whichever have stopped
                shift = self.omega * drawn(x.shape, x, noise, torch.Tensor.normal_)[rows]
                x_adv = x_adv + torch.where(going[:, None, None, None], shift, 0)
            x_adv = ball.step(x_adv, gradient, self.step)
            if self.fixed_shape and x.is_cuda:
                continue
            count = int(going.sum())
            if count == 0:
                break
            if count < len(rows) and not self.fixed_shape:
                found[rows] = x_adv
                kept = going.nonzero().squeeze(1)
                rows, x_adv, y, left = (t[kept] for t in (rows, x_adv, y, left))
                going = going[kept]
                ball = make_ball(self.norm, x[rows], self.eps)
        found[rows] = x_adv
        return found
