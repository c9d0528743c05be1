"""What an objective is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from zipper_dist.data import Minibatch
from zipper_dist.rng import generator_at


@dataclass(frozen=True)
class StepContext:
    """Where in the run an objective is asked for its loss: the address of its random draws."""

    seed: int
    learner: str
    step: int
    progress: float

    def generator(self, device: torch.device, purpose: str) -> torch.Generator:
        """A generator that no other learner, iteration or purpose shares."""
        return generator_at(device, self.seed, purpose, self.learner, self.step)


class Objective(Protocol):
    """What a base learner minimises: images to train on, and a loss on them."""

    def perturb(self, batch: Minibatch, context: StepContext) -> Tensor:
        """The images (B, C, H, W) that :meth:`loss` is to take, attacked if the method attacks."""

    def loss(self, model: nn.Module, batch: Minibatch, images: Tensor) -> tuple[Tensor, Tensor]:
        """The loss (a scalar), and the logits (B, classes) of ``images``.

        ``model`` comes in training mode and is left in it; ``images`` come from :meth:`perturb`.
        """
