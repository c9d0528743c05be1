"""Friendly adversarial training (FAT)."""

from __future__ import annotations

import math

from torch import Tensor

from zipper_dist.accel.precision import AttackedNetwork
from zipper_dist.attacks import friendly_pgd, make_ball
from zipper_dist.config.schema import AdversarialLearnerConfig
from zipper_dist.data import Minibatch
from zipper_dist.objectives.at import Adversarial
from zipper_dist.objectives.base import StepContext


class Fat(Adversarial):
    """Cross-entropy on images attacked until they are misclassified, and then τ(t) steps further.

    Source: Zhang et al., "Attacks Which Do Not Kill Training Make Adversarial Learning Stronger",
    ICML 2020, algorithms 1 and 2.
    """

    def __init__(self, config: AdversarialLearnerConfig, view: AttackedNetwork) -> None:
        super().__init__(config, view)
        assert config.tau is not None
        self.tau = config.tau

    def perturb(self, batch: Minibatch, context: StepContext) -> Tensor:
        """The attacked images, (B, C, H, W)."""
        attack = context.strength(self.attack)
        x = batch.images
        start = x.detach()
        if attack.random_start:
            generator = context.generator(x.device, "pgd-start")
            start = make_ball(attack.norm, x, attack.eps).random_start(generator)
        with self.view.now() as network:
            return friendly_pgd(
                network,
                x,
                batch.labels,
                norm=attack.norm,
                eps=attack.eps,
                step_size=attack.step_size,
                steps=attack.steps,
                tau=self.tau_at(context.progress),
                start=start,
                fixed_shape=self.view.fixed_shape,
            )

    def tau_at(self, progress: float) -> int:
        """τ at ``progress`` 0 … 1: the schedule, rounded down [steps]."""
        # A line through whole numbers may miss them by its rounding.
        return math.floor(self.tau(progress) + 1e-9)
