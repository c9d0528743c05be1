"""The fast gradient sign method (FGSM): one step as long as the ball is wide.

Source: Goodfellow, Shlens and Szegedy, "Explaining and Harnessing Adversarial Examples", ICLR 2015.
"""

from __future__ import annotations

from torch import Tensor

from zipper_dist.attacks.ascent import Network, ascend, last, summed_cross_entropy
from zipper_dist.attacks.ball import make_ball
from zipper_dist.config.threat import Norm


def fgsm(model: Network, x: Tensor, y: Tensor, *, norm: Norm, eps: float) -> Tensor:
    """The adversarial images (B, C, H, W) one step of length ``eps`` from ``x``.

    ``model``: images → logits, in eval mode. ``x``: clean images (B, C, H, W), float32 in [0, 1];
    ``y``: labels (B,), int64. ``eps``: in ``norm`` [1 = the full pixel range]. In L2 the step goes
    along the gradient itself.

    Raises ValueError for an unknown norm or an eps that is negative or not finite.
    """
    ball = make_ball(norm, x, eps)
    return last(x, ascend(model, x, ball, summed_cross_entropy(y), eps, 1))
