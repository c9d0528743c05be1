"""TRADES: clean accuracy, and predictions that an attack does not change."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from zipper_dist.accel.precision import AttackedNetwork
from zipper_dist.attacks import DivergencePGD, SharedDraws, divergence
from zipper_dist.config.schema import AdversarialLearnerConfig
from zipper_dist.data import Minibatch
from zipper_dist.objectives.base import StepContext


class Trades:
    """CE(f(x), y) + β · KL(p(x) ‖ p(x′)), where x′ maximises the same divergence.

    Clean and attacked images go through the network one after the other, as in the public release:
    BatchNorm normalises each with its own statistics, and its running averages see both. (The
    release makes a third pass, over the clean images again, for the divergence; here the logits of
    the first one serve. It matters for dropout and for the number of updates of the averages.)

    Source: Zhang et al., "Theoretically Principled Trade-off between Robustness and Accuracy", ICML
    2019, algorithm 1 (β is 1/λ there).
    """

    def __init__(self, config: AdversarialLearnerConfig, view: AttackedNetwork) -> None:
        assert config.beta is not None
        self.attack = config.attack
        self.beta = config.beta
        self.label_smoothing = config.label_smoothing
        self.view = view

    def perturb(self, batch: Minibatch, context: StepContext) -> Tensor:
        """The attacked images, (B, C, H, W)."""
        attack = DivergencePGD.of(self.attack, self.attack.schedule(context.progress))
        draws = SharedDraws(context.generator(batch.images.device, "trades-start"))
        with self.view.now() as network:
            return attack.run(network, batch.images, batch.labels, draws)

    def loss(self, model: nn.Module, batch: Minibatch, images: Tensor) -> tuple[Tensor, Tensor]:
        """See :class:`zipper_dist.objectives.base.Objective`."""
        clean, attacked = model(batch.images), model(images)
        natural = F.cross_entropy(clean, batch.labels, label_smoothing=self.label_smoothing)
        return natural + self.beta * divergence(clean, attacked).mean(), attacked
