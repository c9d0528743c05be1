"""A toy of each kind that the package knows nothing of: an objective, a network, images, a recipe.

The tests copy this file elsewhere and name it on the command line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from zipper_dist.config.schedules import Schedule, progress
from zipper_dist.config.schema import (
    AttackConfig,
    DataConfig,
    EvalConfig,
    LearnerConfig,
    MixConfig,
    ModelConfig,
    TrainConfig,
)
from zipper_dist.data import ImageSet, Minibatch
from zipper_dist.models import ModelSpec
from zipper_dist.objectives import StepContext
from zipper_dist.objectives.at import AtConfig
from zipper_dist.objectives.natural import NaturalConfig


@dataclass(frozen=True)
class NoiseConfig(LearnerConfig):
    """A base learner that trains on noisy images."""

    sigma: float = 0.1
    """Standard deviation of the noise."""
    clip: bool = False
    """Keep pixels in 0 … 1."""

    def problems(self, option: str) -> Iterator[str]:
        yield from super().problems(option)
        if self.sigma < 0:
            yield f"{option}.sigma {self.sigma}: give 0 or more"


class Noise:
    """Cross-entropy on noisy images."""

    Config = NoiseConfig

    def __init__(self, config: NoiseConfig, attacked: Callable[[], Any]) -> None:
        self.config = config

    def perturb(self, batch: Minibatch, context: StepContext) -> Tensor:
        draws = context.generator(batch.images.device, "noise")
        noise = torch.randn(batch.images.shape, generator=draws)
        images = batch.images + self.config.sigma * noise
        return images.clamp(0, 1) if self.config.clip else images

    def loss(self, model: nn.Module, batch: Minibatch, images: Tensor) -> tuple[Tensor, Tensor]:
        logits = model(images)
        return nn.functional.cross_entropy(logits, batch.labels), logits


def linear(spec: ModelSpec) -> nn.Module:
    """A linear classifier."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(spec.channels * spec.height * spec.width, spec.classes)
    )


class Halves:
    """Images whose upper or lower half is bright."""

    def fetch(self, config: DataConfig) -> None:
        """Nothing is needed."""

    def read(self, config: DataConfig) -> tuple[ImageSet, ImageSet, tuple[str, ...]]:
        labels = torch.arange(80) % 2
        images = torch.zeros(80, 1, 6, 6, dtype=torch.uint8)
        for image, label in zip(images, labels.tolist(), strict=True):
            image[:, 3 * label : 3 * label + 3] = 200
        whole = ImageSet(images, labels)
        return whole, whole.subset(torch.arange(20)), ("upper", "lower")


HALVES = Halves()


def three() -> TrainConfig:
    """Three learners: two threat models and none."""
    return TrainConfig(
        epochs=3,
        batch_size=8,
        data=DataConfig(source="digits"),
        model=ModelConfig(arch="small_cnn", width=0.1),
        mix=MixConfig(
            every=progress(0.25),
            start=progress(0.5),
            ema=0.5,
            weights={
                "clean": Schedule.parse("0:0.2,1:0.4"),
                "linf": Schedule.parse("0.5"),
                "l2": Schedule.parse("0:0.3,1:0.1"),
            },
        ),
        learners={
            "clean": NaturalConfig(),
            "linf": AtConfig(attack=AttackConfig(eps=0.1, step_size=0.05, steps=1)),
            "l2": AtConfig(attack=AttackConfig("l2", eps=0.5, step_size=0.3, steps=1)),
        },
        eval=EvalConfig(attack_steps=1),
    )
