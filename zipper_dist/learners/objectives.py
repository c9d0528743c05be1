"""Objectives: how a minibatch becomes a loss. A new method is a new objective."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zipper_dist.attacks import pgd
from zipper_dist.config import AdversarialLearnerConfig, AttackConfig, LearnerConfig
from zipper_dist.data import Minibatch
from zipper_dist.engine import AttackView
from zipper_dist.rng import generator_at


@dataclass(frozen=True)
class Moment:
    """Where in the run an objective is asked for its loss: the address of its random draws."""

    seed: int
    learner: str
    step: int
    progress: float

    def generator(self, device: torch.device, purpose: str) -> torch.Generator:
        """A generator that no other learner, iteration or purpose shares."""
        return generator_at(device, self.seed, purpose, self.learner, self.step)


class Objective(Protocol):
    """What a base learner minimises."""

    def __call__(self, model: nn.Module, batch: Minibatch, moment: Moment) -> tuple[Tensor, Tensor]:
        """The loss (a scalar) and the logits (batch, classes) it was computed from.

        ``model`` comes in training mode and is left in it.
        """


class Natural:
    """Cross-entropy on the images as they are."""

    def __call__(self, model: nn.Module, batch: Minibatch, moment: Moment) -> tuple[Tensor, Tensor]:
        """See :class:`Objective`."""
        logits = model(batch.images)
        return F.cross_entropy(logits, batch.labels), logits


class Adversarial:
    """Cross-entropy on images attacked by PGD (Madry et al., 2018, equation 2.1)."""

    def __init__(self, attack: AttackConfig, view: AttackView) -> None:
        self.attack = attack
        self.view = view

    def __call__(self, model: nn.Module, batch: Minibatch, moment: Moment) -> tuple[Tensor, Tensor]:
        """See :class:`Objective`."""
        logits = model(self.perturb(batch, moment))
        return F.cross_entropy(logits, batch.labels), logits

    def perturb(self, batch: Minibatch, moment: Moment) -> Tensor:
        """The attacked images, (B, C, H, W)."""
        scale = self.attack.schedule(moment.progress)
        with self.view.now() as network:
            return pgd(
                network,
                batch.images,
                batch.labels,
                norm=self.attack.norm,
                eps=scale * self.attack.eps,
                step_size=scale * self.attack.step_size,
                steps=self.attack.steps,
                random_start=self.attack.random_start,
                generator=moment.generator(batch.images.device, "pgd-start"),
            )


def make_objective(config: LearnerConfig, view: Callable[[], AttackView]) -> Objective:
    """The objective that ``config`` names; ``view`` makes the network that attacks see."""
    if isinstance(config, AdversarialLearnerConfig):
        return Adversarial(config.attack, view())
    return Natural()
