"""MART: adversarial training that weights misclassified images more."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from zipper_dist.attacks import divergence
from zipper_dist.config import ranges
from zipper_dist.config.schema import AttackedLearnerConfig
from zipper_dist.data import Minibatch
from zipper_dist.objectives.base import OBJECTIVES, AttackedObjective


@dataclass(frozen=True)
class MartConfig(AttackedLearnerConfig):
    """A base learner that trains by MART. Its loss is a margin: there is no label smoothing."""

    objective: str = "mart"
    beta: float = 5.0
    """Weight of the robustness term, λ in the paper; 5 is the value published for CIFAR-10."""

    def problems(self, option: str) -> Iterator[str]:
        """See :class:`~zipper_dist.config.schema.LearnerConfig`."""
        yield from super().problems(option)
        yield from ranges.number(f"{option}.beta", self.beta, 0, 1e3)


@OBJECTIVES.register("mart")
class Mart(AttackedObjective):
    """BCE(p(x′), y) + λ · KL(p(x) ‖ p(x′)) · (1 − p_y(x)), the mean over the images.

    x′ is attacked as in adversarial training. BCE(p, y) = −log p_y − log(1 − max_{k≠y} p_k).

    Source: Wang et al., "Improving Adversarial Robustness Requires Revisiting Misclassified
    Examples", ICLR 2020, table 1.
    """

    Config = MartConfig
    config: MartConfig

    def loss(self, model: nn.Module, batch: Minibatch, images: Tensor) -> tuple[Tensor, Tensor]:
        """See :class:`zipper_dist.objectives.base.Objective`."""
        clean, attacked = model(batch.images), model(images)
        labels = batch.labels.unsqueeze(1)
        doubt = 1 - F.softmax(clean, 1).gather(1, labels).squeeze(1)
        margin = boosted_cross_entropy(attacked, batch.labels)
        return margin + self.config.beta * (divergence(clean, attacked) * doubt).mean(), attacked


def boosted_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """The mean of −log p_y − log(1 − max_{k≠y} p_k) over logits (B, classes).

    log(1 − p_k) comes from the logits of the other classes and stays finite where p_k rounds to 1.
    """
    wrong = logits.scatter(1, labels.unsqueeze(1), -float("inf"))
    strongest = wrong.detach().argmax(1, keepdim=True)
    others = logits.scatter(1, strongest, -float("inf"))
    missing = logits.logsumexp(1) - others.logsumexp(1)
    return F.cross_entropy(logits, labels) + missing.mean()
