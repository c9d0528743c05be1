"""The attack of Carlini and Wagner as PGD: ascent on the margin loss, inside the ball.

Source of the loss (f₆, without confidence): Carlini and Wagner, "Towards Evaluating the Robustness
of Neural Networks", IEEE S&P 2017; its use under PGD: Madry et al., ICLR 2018.
"""

from __future__ import annotations

import torch
from torch import Tensor

from zipper_dist.attacks.ascent import Loss, Network, ascend, last
from zipper_dist.attacks.ball import make_ball
from zipper_dist.config.threat import Norm


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


def cw(
    model: Network,
    x: Tensor,
    y: Tensor,
    *,
    norm: Norm,
    eps: float,
    step_size: float,
    steps: int,
    start: Tensor | None = None,
) -> Tensor:
    """The adversarial images (B, C, H, W) after ``steps`` steps on the margin loss.

    ``model``: images → logits (B, classes), 2 classes or more, in eval mode. ``x``: clean images
    (B, C, H, W), float32 in [0, 1]; ``y``: labels (B,), int64. ``eps`` and ``step_size``: in
    ``norm`` [1 = the full pixel range]. ``start``: images in the ball to start from; None: ``x``.

    Raises ValueError for an unknown norm or an eps that is negative or not finite.
    """
    start = x if start is None else start
    ball = make_ball(norm, x, eps)
    return last(start, ascend(model, start, ball, summed_margin(y), step_size, steps))
