"""PGD on the change of the prediction, without the label: the attack of TRADES.

Source: Zhang, Yu, Jiao, Xing, El Ghaoui and Jordan, "Theoretically Principled Trade-off between
Robustness and Accuracy", ICML 2019, algorithm 1.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from zipper_dist.attacks.ascent import Loss, Network, ascend, last, logits_at
from zipper_dist.attacks.ball import make_ball
from zipper_dist.config.threat import Norm

START = 0.001
"""Standard deviation of the noise that the attack starts with [1 = the full pixel range]. At the
clean image itself the divergence is at its minimum, so that its gradient there is 0."""


def divergence(clean: Tensor, attacked: Tensor) -> Tensor:
    """KL(p(x) ‖ p(x′)) of each image, (B,), from logits of both (B, classes); in float32."""
    p, q = (F.log_softmax(logits.float(), 1) for logits in (clean, attacked))
    return F.kl_div(q, p, reduction="none", log_target=True).sum(1)


def summed_divergence(clean: Tensor) -> Loss:
    """The sum of :func:`divergence`, with the ``clean`` logits (B, classes) held fixed."""
    return lambda logits: divergence(clean, logits).sum()


def divergence_pgd(
    model: Network,
    x: Tensor,
    *,
    norm: Norm,
    eps: float,
    step_size: float,
    steps: int,
    generator: torch.Generator | None,
) -> Tensor:
    """Images (B, C, H, W) in the ball, moved to where the model predicts other than at ``x``.

    They start at ``x`` + 0.001 · N(0, 1), brought into the ball, and ascend
    :func:`summed_divergence`. ``model``, ``x``, ``norm``, ``eps``, ``step_size``: as for
    :func:`zipper_dist.attacks.pgd.pgd`; ``generator`` draws the noise. Raises ValueError as there.
    """
    ball = make_ball(norm, x, eps)
    noise = torch.randn(x.shape, generator=generator, dtype=x.dtype, device=x.device)
    start = ball.project(x + START * noise)
    loss = summed_divergence(logits_at(model, x))
    return last(start, ascend(model, start, ball, loss, step_size, steps))
