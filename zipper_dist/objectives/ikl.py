"""IKL: TRADES with the improved, decoupled Kullback-Leibler divergence."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zipper_dist.attacks.ascent import logits_at
from zipper_dist.config import ranges
from zipper_dist.data import Minibatch
from zipper_dist.objectives.base import OBJECTIVES, Attacked, StepContext
from zipper_dist.objectives.trades import LikeTrades, LikeTradesConfig

_LEAST = 1e-12  # of a sum of probabilities: a class that is never seen gets equal weights


@dataclass(frozen=True)
class IklConfig(LikeTradesConfig):
    """A base learner that trains by IKL."""

    objective: str = "ikl"
    alpha: float = 4.0
    """Weight of the cross-entropy between clean and attacked; 4 is the value for CIFAR-10."""
    beta: float = 20.0
    """Weight of the squared differences of logits; 20 is the value for CIFAR-10."""
    temperature: float = 4.0
    """What logits are divided by for the mean predictions of the classes."""
    memory: float = 0.9975
    """Decay of these means in an iteration; 0.9975: of about 400 iterations."""

    def problems(self, option: str) -> Iterator[str]:
        """See :class:`~zipper_dist.config.schema.LearnerConfig`."""
        yield from super().problems(option)
        yield from ranges.number(f"{option}.alpha", self.alpha, 0, 1e3)
        yield from ranges.number(f"{option}.temperature", self.temperature, 1e-3, 1e3)
        yield from ranges.below_one(f"{option}.memory", self.memory)


@OBJECTIVES.register("ikl")
class Ikl(LikeTrades):
    """CE(f(x), y) + α · CE(p(x), f(x′)) + β · ¼ Σ_jk w_j w_k (Δ_jk(x) − Δ_jk(x′))².

    Δ_jk are differences of logits, and the gradient goes through both. p(x) in the second term is a
    constant. w are the mean predictions on clean images of the class y, at a temperature. x′ is
    attacked as in TRADES. As Σ w = 1, the last term is half the variance of f(x) − f(x′) under w.

    Source: Cui, Tian, Zhong, Qi, Yu and Zhang, "Decoupled Kullback-Leibler Divergence Loss",
    NeurIPS 2024: IKL, with class-wise weights. The authors take the means over the
    epoch before; here they are sums of probabilities that decay, in which every class has its row.
    """

    Config = IklConfig
    config: IklConfig
    draws = "ikl-start"

    def __init__(self, config: IklConfig, attacked: Attacked) -> None:
        super().__init__(config, attacked)
        self.state: dict[str, Tensor] = {}

    def perturb(self, batch: Minibatch, context: StepContext) -> Tensor:
        """The attacked images, (B, C, H, W)."""
        if not self.state:
            with self.attacked.now() as network:
                classes = logits_at(network, batch.images).shape[1]
            equal = torch.full((classes, classes), 1 / classes, device=batch.images.device)
            self.state["predictions"] = equal
        return super().perturb(batch, context)

    def loss(self, model: nn.Module, batch: Minibatch, images: Tensor) -> tuple[Tensor, Tensor]:
        """See :class:`zipper_dist.objectives.base.Objective`."""
        config = self.config
        clean, attacked = model(batch.images), model(images)
        shares = batch.shares(clean.detach())
        natural = F.cross_entropy(clean, batch.labels, label_smoothing=config.label_smoothing)
        soft = F.cross_entropy(attacked, F.softmax(clean.detach(), 1))
        spread = half_variance(clean - attacked, self._weights(shares))
        self._remember(clean.detach(), shares)
        return natural + config.alpha * soft + config.beta * spread.mean(), attacked

    def _weights(self, shares: Tensor) -> Tensor:
        """The mean prediction for the class of each image, (B, classes)."""
        sums = self.state["predictions"].to(shares.dtype)
        return shares @ (sums / sums.sum(1, keepdim=True))

    def _remember(self, clean: Tensor, shares: Tensor) -> None:
        """Add the predictions on clean images, from their logits (B, classes)."""
        sums, predicted = self.state["predictions"], F.softmax(clean / self.config.temperature, 1)
        sums.mul_(self.config.memory).add_(shares.T @ predicted).clamp_min_(_LEAST)


def half_variance(values: Tensor, weights: Tensor) -> Tensor:
    """Half the variance of each row of ``values`` under the ``weights``, whose sum is 1: (B,)."""
    centred = values - (weights * values).sum(1, keepdim=True)
    return (weights * centred.square()).sum(1) / 2
