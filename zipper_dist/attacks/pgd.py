"""Projected gradient descent (PGD): the attack of adversarial training and its first yardstick.

Source: Madry, Makelov, Schmidt, Tsipras and Vladu, "Towards Deep Learning Models Resistant to
Adversarial Attacks", ICLR 2018.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from zipper_dist.attacks.ascent import Network, ascend, last, summed_cross_entropy
from zipper_dist.attacks.ball import Ball, make_ball
from zipper_dist.config.threat import Norm


def pgd_steps(
    model: Network,
    x: Tensor,
    y: Tensor,
    *,
    norm: Norm,
    eps: float,
    step_size: float,
    steps: int,
    random_start: bool,
    generator: torch.Generator | None,
) -> Iterator[Tensor]:
    """Untargeted PGD on the cross-entropy, one gradient step at a time.

    Yields the adversarial images (B, C, H, W) after each of ``steps`` steps, so that other work can
    be done in between (see :func:`zipper_dist.attacks.ascent.ascend`).

    ``model``: images → logits, in eval mode (:mod:`zipper_dist.accel.frozen`); its
    weights receive no gradient. ``x``: clean images, (B, C, H, W), float32 in [0, 1]; ``y``: labels
    (B,), int64. ``eps`` and ``step_size``: in ``norm`` [1 = the full pixel range]. ``generator``:
    draws the random start, on the device of ``x``; None: torch's global one.

    Raises ValueError, at the first step, for an unknown norm or an eps that is negative or not
    finite.
    """
    ball, start = _ball_and_start(x, norm, eps, random_start, generator)
    yield from ascend(model, start, ball, summed_cross_entropy(y), step_size, steps)


def pgd(
    model: Network,
    x: Tensor,
    y: Tensor,
    *,
    norm: Norm,
    eps: float,
    step_size: float,
    steps: int,
    random_start: bool,
    generator: torch.Generator | None,
) -> Tensor:
    """The adversarial images (B, C, H, W) after all ``steps`` of :func:`pgd_steps`.

    With 0 steps: the start, which without ``random_start`` is a copy of ``x``.
    """
    ball, start = _ball_and_start(x, norm, eps, random_start, generator)
    loss = summed_cross_entropy(y)
    return last(start, ascend(model, start, ball, loss, step_size, steps))


def _ball_and_start(
    x: Tensor, norm: Norm, eps: float, random_start: bool, generator: torch.Generator | None
) -> tuple[Ball, Tensor]:
    ball = make_ball(norm, x, eps)
    return ball, ball.random_start(generator) if random_start else x.detach().clone()
