"""SCORE: TRADES with squared errors of probabilities in place of its divergences."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from zipper_dist.accel.precision import Network
from zipper_dist.attacks import PGD, DivergencePGD
from zipper_dist.attacks.ascent import Loss, logits_at
from zipper_dist.config import ranges
from zipper_dist.data import Minibatch
from zipper_dist.objectives.base import OBJECTIVES
from zipper_dist.objectives.trades import LikeTrades, LikeTradesConfig


@dataclass(frozen=True)
class ScoreConfig(LikeTradesConfig):
    """A base learner that trains by SCORE."""

    objective: str = "score"
    beta: float = 6.0
    """Weight of the robustness term, λ in the release; its value for CIFAR-10."""
    clip: float = 0.0
    """Do without further loss on an image where no more than so much probability is misplaced."""

    def problems(self, option: str) -> Iterator[str]:
        """See :class:`~zipper_dist.config.schema.LearnerConfig`."""
        yield from super().problems(option)
        yield from ranges.below_one(f"{option}.clip", self.clip)


@OBJECTIVES.register("score")
class Score(LikeTrades):
    """max(0, ‖p(x) − y‖² + β ‖p(x) − p(x′)‖² − b), the mean over the images, y as one-hot vectors.

    x′ maximises ‖p(x) − p(x′)‖², from where TRADES starts. b is the first term of an image whose
    class lacks the probability ``clip``, spread over the others: clip² + clip² / (classes − 1).

    Source: Pang, Lin, Yang, Zhu and Yan, "Robustness and Accuracy Could Be Reconcilable by (Proper)
    Definition", ICML 2022, section 5; the clipping as in the authors' release for training without
    additional images.
    """

    Config = ScoreConfig
    config: ScoreConfig
    draws = "score-start"

    def attack(self, progress: float) -> PGD:
        """The attack at ``progress`` 0 … 1 of the run."""
        return SquaredErrorPGD.of(self.config.attack, self.config.attack.schedule(progress))

    def loss(self, model: nn.Module, batch: Minibatch, images: Tensor) -> tuple[Tensor, Tensor]:
        """See :class:`zipper_dist.objectives.base.Objective`."""
        clean, attacked = model(batch.images), model(images)
        classes, smoothing = clean.shape[1], self.config.label_smoothing
        wanted = (1 - smoothing) * batch.shares(clean) + smoothing / classes
        natural = (F.softmax(clean, 1) - wanted).square().sum(1)
        losses = natural + self.config.beta * squared_error(clean, attacked)
        if self.config.clip > 0:
            losses = F.relu(losses - self.config.clip**2 * classes / max(1, classes - 1))
        return losses.mean(), attacked


@dataclass(frozen=True)
class SquaredErrorPGD(DivergencePGD):
    """PGD on :func:`squared_error`, without labels."""

    def loss(self, network: Network, x: Tensor, y: Tensor) -> Loss:
        """See :class:`~zipper_dist.attacks.base.Iterated`."""
        clean = logits_at(network, x)
        return lambda logits: squared_error(clean, logits).sum()


def squared_error(clean: Tensor, attacked: Tensor) -> Tensor:
    """‖p(x) − p(x′)‖² of each image, (B,), from logits of both (B, classes)."""
    return (F.softmax(clean, 1) - F.softmax(attacked, 1)).square().sum(1)
