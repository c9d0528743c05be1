"""Attacks: worst-case images within a ball around clean ones."""

from zipper_dist.attacks.ascent import (
    Direction,
    Loss,
    Network,
    ascend,
    identity,
    image_gradient,
    last,
    logits_at,
    summed_cross_entropy,
)
from zipper_dist.attacks.ball import Ball, L2Ball, LinfBall, make_ball
from zipper_dist.attacks.divergence import divergence, divergence_pgd
from zipper_dist.attacks.friendly import friendly_pgd
from zipper_dist.attacks.pgd import pgd, pgd_steps

__all__ = [
    "Ball",
    "Direction",
    "L2Ball",
    "LinfBall",
    "Loss",
    "Network",
    "ascend",
    "divergence",
    "divergence_pgd",
    "friendly_pgd",
    "identity",
    "image_gradient",
    "last",
    "logits_at",
    "make_ball",
    "pgd",
    "pgd_steps",
    "summed_cross_entropy",
]
