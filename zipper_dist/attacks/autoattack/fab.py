"""FAB, the fast adaptive boundary attack, by its author's own code.

Source: Croce and Hein, "Minimally distorted adversarial examples with a fast adaptive boundary
attack", ICML 2020.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from pyautoattack.fab_pt import FABAttack_PT
from torch import Tensor

from zipper_dist.accel.precision import Network
from zipper_dist.attacks.autoattack.adapter import (
    ITERATIONS,
    NAMES,
    TARGETS,
    FromAuthors,
    global_draws_kept,
    plain,
)
from zipper_dist.attacks.base import ATTACKS
from zipper_dist.attacks.draws import Draws


@ATTACKS.register("fab-t")
@dataclass(frozen=True)
class FAB(FromAuthors):
    """FAB towards each of the 9 likeliest wrong classes (all, where there are fewer).

    It draws no random numbers.
    """

    family = "fab-t"

    iterations: int = ITERATIONS
    """Steps for a target."""
    targets: int = TARGETS
    """Wrong classes at most."""

    @property
    def cost(self) -> int:
        """See :class:`~zipper_dist.attacks.base.Attack`."""
        return 3 * self.targets * self.iterations

    def iterates(self, network: Network, x: Tensor, y: Tensor, draws: Draws) -> Iterator[Tensor]:
        """See :class:`~zipper_dist.attacks.base.Attack`; there is only the result."""
        with torch.no_grad():
            classes = network(x[:1]).shape[1]
        attack = FABAttack_PT(
            plain(network), norm=NAMES[self.norm], eps=self.eps, n_iter=self.iterations,
            targeted=True, n_target_classes=min(self.targets, classes - 1), device=x.device,
        )  # fmt: skip
        with global_draws_kept(x):
            adversarial: Tensor = attack.perturb(x, y)
        yield adversarial
