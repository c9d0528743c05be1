"""The momentum iterative method (MIM): PGD along a running sum of normalised gradients.

Source: Dong, Liao, Pang, Su, Zhu, Hu and Li, "Boosting Adversarial Attacks with Momentum",
CVPR 2018.
"""

from __future__ import annotations

import torch
from torch import Tensor

from zipper_dist.attacks.ascent import Direction, Network, ascend, last, summed_cross_entropy
from zipper_dist.attacks.ball import make_ball
from zipper_dist.config.threat import Norm


def momentum(decay: float) -> Direction:
    """A direction that remembers: ``decay`` · the last direction + the gradient over its L1 norm.

    A gradient of zero adds nothing. The direction belongs to one attack on one batch.
    """
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


def mim(
    model: Network,
    x: Tensor,
    y: Tensor,
    *,
    norm: Norm,
    eps: float,
    step_size: float,
    steps: int,
    decay: float = 1.0,
) -> Tensor:
    """The adversarial images (B, C, H, W) after ``steps`` steps from ``x``, without a random start.

    ``model``: images → logits, in eval mode. ``x``: clean images (B, C, H, W), float32 in [0, 1];
    ``y``: labels (B,), int64. ``eps`` and ``step_size``: in ``norm`` [1 = the full pixel range].

    Raises ValueError for an unknown norm or an eps that is negative or not finite.
    """
    ball = make_ball(norm, x, eps)
    loss = summed_cross_entropy(y)
    return last(x, ascend(model, x, ball, loss, step_size, steps, momentum(decay)))
