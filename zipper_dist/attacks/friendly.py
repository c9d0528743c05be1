"""Early-stopped PGD: the attack of friendly adversarial training (FAT).

Source: Zhang, Xu, Han, Niu, Cui, Sugiyama and Kankanhalli, "Attacks Which Do Not Kill Training Make
Adversarial Learning Stronger", ICML 2020, algorithm 1.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from zipper_dist.attacks.ascent import Network, ascend, last
from zipper_dist.attacks.ball import make_ball
from zipper_dist.config.threat import Norm


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


def friendly_pgd(
    model: Network,
    x: Tensor,
    y: Tensor,
    *,
    norm: Norm,
    eps: float,
    step_size: float,
    steps: int,
    tau: int,
    start: Tensor,
    fixed_shape: bool = False,
) -> Tensor:
    """Images (B, C, H, W) attacked by PGD from ``start``, each for as long as it is friendly.

    Before each of at most ``steps`` steps an image that is misclassified where it is uses up one of
    its ``tau``; when it has none left it stays there. So most images end just across the decision
    boundary, ``tau`` steps beyond it. An image that is classified right again on its way uses up
    nothing, as in the source.

    The attack ends when all images have stopped. Those that have are taken out of the batch, unless
    ``fixed_shape``; that changes the rounding of the others and nothing else. How many go on is
    read from the device at every step; not so on a GPU with ``fixed_shape``, where all steps are
    taken, because the host is not to wait for the GPU.

    ``model``, ``x``, ``y``, ``norm``, ``eps``, ``step_size``: as for
    :func:`zipper_dist.attacks.pgd.pgd`; ``start``: images in the ball. Raises ValueError as there.
    """
    found, x_adv = start.clone(), start
    rows = torch.arange(len(x), device=x.device)
    ball, rule = make_ball(norm, x, eps), _StopRule(y, tau)
    for _ in range(steps):
        x_adv = last(x_adv, ascend(model, x_adv, ball, rule.loss, step_size, 1, rule.direction))
        if fixed_shape and x.is_cuda:
            continue
        going = int(rule.going.sum())
        if going == 0:
            break
        if going < len(rows) and not fixed_shape:
            found[rows] = x_adv
            kept = rule.going.nonzero().squeeze(1)
            rows, x_adv = rows[kept], x_adv[kept]
            rule.keep(kept)
            ball = make_ball(norm, x[rows], eps)
    found[rows] = x_adv
    return found
