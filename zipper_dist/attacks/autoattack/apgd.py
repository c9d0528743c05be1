"""Auto-PGD, untargeted and targeted, by its authors' own code.

Source: Croce and Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse
parameter-free attacks", ICML 2020.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from pyautoattack.autopgd_base import APGDAttack, APGDAttack_targeted
from torch import Tensor

from zipper_dist.accel.precision import Network
from zipper_dist.attacks.autoattack.adapter import (
    ITERATIONS,
    NAMES,
    SILENT,
    TARGETS,
    BlockNoise,
    FromAuthors,
    global_draws_kept,
    plain,
)
from zipper_dist.attacks.base import ATTACKS
from zipper_dist.attacks.draws import Draws


def _run(attack: APGDAttack, x: Tensor, y: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Adversarial images, and whether each is misclassified, from the package's own start."""
    attack.init_hyperparam(x)
    start = x + attack.eps * torch.ones_like(x) * attack.normalize(noise)
    with global_draws_kept(x):
        _, correct, _, adversarial = attack.attack_single_run(x, y, x_init=start)
    return adversarial, ~correct.bool()


@ATTACKS.register("apgd-ce")
@dataclass(frozen=True)
class APGD(FromAuthors):
    """Auto-PGD on the cross-entropy, from one random start."""

    iterations: int = ITERATIONS
    """Gradient steps."""

    family, loss = "apgd-ce", "ce"

    @property
    def cost(self) -> int:
        """See :class:`~zipper_dist.attacks.base.Attack`."""
        return 2 * self.iterations

    def iterates(self, network: Network, x: Tensor, y: Tensor, draws: Draws) -> Iterator[Tensor]:
        """See :class:`~zipper_dist.attacks.base.Attack`; there is only the result."""
        attack = APGDAttack(
            plain(network), norm=NAMES[self.norm], eps=self.eps, n_iter=self.iterations,
            loss=self.loss, device=x.device, logger=SILENT,
        )  # fmt: skip
        adversarial, broken = _run(attack, x, y, BlockNoise(self.norm, draws.blocks()).like(x))
        yield torch.where(broken[:, None, None, None], adversarial, x)


@ATTACKS.register("apgd-dlr")
@dataclass(frozen=True)
class APGDOnDLR(APGD):
    """Auto-PGD on the difference of logits ratio (DLR), which takes 3 classes or more."""

    family, loss = "apgd-dlr", "dlr"

    def unsuitable(self, classes: int) -> str | None:
        """See :class:`~zipper_dist.attacks.base.Attack`."""
        if classes >= 3:
            return None
        return f"its loss (DLR) takes 3 classes or more, and this network has {classes}"


@ATTACKS.register("apgd-t")
@dataclass(frozen=True)
class APGDTargeted(FromAuthors):
    """Auto-PGD towards each of the 9 likeliest wrong classes (all, where there are fewer).

    On the targeted DLR loss, which takes 4 classes; with fewer, on the cross-entropy of the target.
    An example is attacked until it is broken.
    """

    family = "apgd-t"

    iterations: int = ITERATIONS
    """Gradient steps for a target."""
    targets: int = TARGETS
    """Wrong classes at most."""

    @property
    def cost(self) -> int:
        """See :class:`~zipper_dist.attacks.base.Attack`."""
        return 2 * self.targets * self.iterations

    def iterates(self, network: Network, x: Tensor, y: Tensor, draws: Draws) -> Iterator[Tensor]:
        """See :class:`~zipper_dist.attacks.base.Attack`; yields after each target."""
        options: dict[str, Any] = {"norm": NAMES[self.norm], "eps": self.eps, "device": x.device}
        attack = APGDAttack_targeted(
            plain(network), n_iter=self.iterations, logger=SILENT, **options
        )
        with torch.no_grad():
            order = network(x).sort(dim=1)[1]
        classes = order.shape[1]
        attack.loss = "dlr-targeted" if classes >= 4 else "ce-targeted"
        noise = BlockNoise(self.norm, draws.blocks())
        result, standing = x.clone(), torch.arange(len(x), device=x.device)
        for target in range(2, min(self.targets, classes - 1) + 2):
            start = noise.like(x)[standing]
            attack.y_target = order[standing, -target]
            adversarial, broken = _run(attack, x[standing], y[standing], start)
            result[standing[broken]] = adversarial[broken]
            standing = standing[~broken]
            yield result
            if len(standing) == 0:
                break
