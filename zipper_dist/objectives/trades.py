"""TRADES: clean accuracy, and predictions that an attack does not change."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from zipper_dist.attacks import DivergencePGD, SharedDraws, divergence
from zipper_dist.config import ranges
from zipper_dist.config.schema import AttackedLearnerConfig
from zipper_dist.data import Minibatch
from zipper_dist.objectives.base import OBJECTIVES, Attacked, StepContext


@dataclass(frozen=True)
class TradesConfig(AttackedLearnerConfig):
    """A base learner that trains by TRADES."""

    objective: str = "trades"
    beta: float = 6.0
    """Weight of the robustness term, 1/λ in the paper; 6 is the value published for CIFAR-10."""
    label_smoothing: float = 0.0
    """Share of a label that is spread evenly over all classes, in the cross-entropy that is trained
    on; attacks are on the labels as they are."""

    def problems(self, option: str) -> Iterator[str]:
        """See :class:`~zipper_dist.config.schema.LearnerConfig`."""
        yield from super().problems(option)
        yield from ranges.below_one(f"{option}.label-smoothing", self.label_smoothing)
        yield from ranges.number(f"{option}.beta", self.beta, 0, 1e3)
        if not self.attack.random_start:
            yield (
                f"{option}.attack.no-random-start: trades has to start at random, because what it "
                "attacks has no gradient at the clean image"
            )


@OBJECTIVES.register("trades")
class Trades:
    """CE(f(x), y) + β · KL(p(x) ‖ p(x′)), where x′ maximises the same divergence.

    Clean and attacked images go through the network one after the other, as in the public release:
    BatchNorm normalises each with its own statistics, and its running averages see both. (The
    release makes a third pass, over the clean images again, for the divergence; here the logits of
    the first one serve. It matters for dropout and for the number of updates of the averages.)

    Source: Zhang et al., "Theoretically Principled Trade-off between Robustness and Accuracy", ICML
    2019, algorithm 1 (β is 1/λ there).
    """

    Config = TradesConfig

    def __init__(self, config: TradesConfig, attacked: Attacked) -> None:
        self.attack = config.attack
        self.beta = config.beta
        self.label_smoothing = config.label_smoothing
        self.attacked = attacked()

    def perturb(self, batch: Minibatch, context: StepContext) -> Tensor:
        """The attacked images, (B, C, H, W)."""
        attack = DivergencePGD.of(self.attack, self.attack.schedule(context.progress))
        draws = SharedDraws(context.generator(batch.images.device, "trades-start"))
        with self.attacked.now() as network:
            return attack.run(network, batch.images, batch.labels, draws)

    def loss(self, model: nn.Module, batch: Minibatch, images: Tensor) -> tuple[Tensor, Tensor]:
        """See :class:`zipper_dist.objectives.base.Objective`."""
        clean, attacked = model(batch.images), model(images)
        natural = F.cross_entropy(clean, batch.labels, label_smoothing=self.label_smoothing)
        return natural + self.beta * divergence(clean, attacked).mean(), attacked
