"""Friendly adversarial training (FAT)."""

from __future__ import annotations

import math

from torch import Tensor

from zipper_dist.accel.precision import AttackedNetwork
from zipper_dist.attacks import FriendlyPGD, SharedDraws
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
        attack = FriendlyPGD.of(
            self.attack,
            self.attack.schedule(context.progress),
            tau=self.tau_at(context.progress),
            fixed_shape=self.view.fixed_shape,
        )
        draws = SharedDraws(context.generator(batch.images.device, "pgd-start"))
        with self.view.now() as network:
            return attack.run(network, batch.images, batch.labels, draws)

    def tau_at(self, progress: float) -> int:
        """τ at ``progress`` 0 … 1: the schedule, rounded down [steps]."""
        # A line through whole numbers may miss them by its rounding.
        return math.floor(self.tau(progress) + 1e-9)
