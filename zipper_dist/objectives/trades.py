"""TRADES: clean accuracy, and predictions that an attack does not change."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from zipper_dist.attacks import PGD, DivergencePGD, divergence
from zipper_dist.config import ranges
from zipper_dist.config.schema import AttackedLearnerConfig
from zipper_dist.data import Minibatch
from zipper_dist.objectives.base import OBJECTIVES, AttackedObjective, SmoothedConfig


@dataclass(frozen=True)
class LikeTradesConfig(SmoothedConfig, AttackedLearnerConfig):
    """A base learner whose attack starts as that of TRADES."""

    beta: float = 6.0
    """Weight of the robustness term, 1/λ in the paper; 6 is the value published for CIFAR-10."""

    def problems(self, option: str) -> Iterator[str]:
        """See :class:`~zipper_dist.config.schema.LearnerConfig`."""
        yield from super().problems(option)
        yield from ranges.number(f"{option}.beta", self.beta, 0, 1e3)
        if not self.attack.random_start:
            reason = f"what {self.objective} attacks has no gradient at the clean image"
            yield f"{option}.attack.no-random-start: start at random, because {reason}"


class LikeTrades(AttackedObjective):
    """The part of an objective whose x′ maximises KL(p(x) ‖ p(x′)); subclasses add the loss."""

    config: LikeTradesConfig

    def attack(self, progress: float) -> PGD:
        """The attack at ``progress`` 0 … 1 of the run."""
        return DivergencePGD.of(self.config.attack, self.config.attack.schedule(progress))


@dataclass(frozen=True)
class TradesConfig(LikeTradesConfig):
    """A base learner that trains by TRADES."""

    objective: str = "trades"
    third_pass: bool = False
    """Clean images pass once more, after the attacked ones, for the divergence, as in the authors'
    code: for BatchNorm's running statistics they count twice."""


@OBJECTIVES.register("trades")
class Trades(LikeTrades):
    """CE(f(x), y) + β · KL(p(x) ‖ p(x′)), where x′ maximises the same divergence.

    Clean and attacked images go through the network one after the other, so that BatchNorm
    normalises each with its own statistics; the clean pass serves for both terms, unless there is a
    third pass.

    Source: Zhang et al., "Theoretically Principled Trade-off between Robustness and Accuracy", ICML
    2019, algorithm 1 (β is 1/λ there).
    """

    Config = TradesConfig
    config: TradesConfig
    draws = "trades-start"

    def loss(self, model: nn.Module, batch: Minibatch, images: Tensor) -> tuple[Tensor, Tensor]:
        """See :class:`zipper_dist.objectives.base.Objective`."""
        clean, attacked = model(batch.images), model(images)
        natural = F.cross_entropy(clean, batch.labels, label_smoothing=self.config.label_smoothing)
        again = model(batch.images) if self.config.third_pass else clean
        return natural + self.config.beta * divergence(again, attacked).mean(), attacked
