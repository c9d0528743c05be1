"""Attacks: worst-case images within a ball: ``x_adv = PGD(eps=8 / 255)(model, x, y)``."""

from zipper_dist.attacks.ascent import ascend, image_gradient, summed_cross_entropy
from zipper_dist.attacks.autoattack import APGD, FAB, APGDTargeted, AutoAttack, Square
from zipper_dist.attacks.ball import Ball, L2Ball, LinfBall, make_ball
from zipper_dist.attacks.base import ATTACKS, Attack, Iterated
from zipper_dist.attacks.cw import Cw
from zipper_dist.attacks.divergence import DivergencePGD, divergence
from zipper_dist.attacks.draws import Blocks, Draws, ExampleDraws, SharedDraws
from zipper_dist.attacks.fgsm import Fgsm
from zipper_dist.attacks.friendly import FriendlyPGD
from zipper_dist.attacks.mim import Mim
from zipper_dist.attacks.pgd import PGD

__all__ = [
    "APGD", "ATTACKS", "FAB", "PGD", "APGDTargeted", "Attack", "AutoAttack", "Ball", "Blocks",
    "Cw", "DivergencePGD", "Draws", "ExampleDraws", "Fgsm", "FriendlyPGD", "Iterated", "L2Ball",
    "LinfBall", "Mim", "SharedDraws", "Square", "ascend", "divergence", "image_gradient",
    "make_ball", "summed_cross_entropy",
]  # fmt: skip
