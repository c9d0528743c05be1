"""What ``bench_step`` compares: networks with their minibatch and attack, and ways to run them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from zipper_dist.config.schema import AttackConfig, Precision
from zipper_dist.data import ImageSet
from zipper_dist.models import ModelSpec

PARTS = ("attack", "adversarial step", "natural step", "mixing", "data", "rest")
"""What an iteration consists of; together they are the whole of it."""


@dataclass(frozen=True)
class Variant:
    """Precision of the engine (None: the plain reference), and whether it compiles."""

    precision: Precision | None
    compiled: bool


@dataclass(frozen=True)
class Setting:
    """A network, its minibatch and the attack."""

    spec: ModelSpec
    batch_size: int
    attack: AttackConfig
    augment: bool

    def words(self) -> str:
        """The setting in words."""
        shape = f"{self.spec.channels}×{self.spec.height}×{self.spec.width}"
        return f"batch {self.batch_size}, {shape}, PGD-{self.attack.steps}"

    def quick(self) -> Setting:
        """The same in little: two images and two gradient steps."""
        return replace(self, batch_size=2, attack=replace(self.attack, steps=2))


_CIFAR_ATTACK = AttackConfig(eps=8 / 255, step_size=0.007, steps=10)
NETWORKS = {
    "resnet18": Setting(ModelSpec("resnet18", 3, 32, 32, 10), 128, _CIFAR_ATTACK, True),
    "small_cnn": Setting(
        ModelSpec("small_cnn", 1, 28, 28, 10),
        128,
        AttackConfig(eps=0.3, step_size=0.01, steps=40),
        False,
    ),
    "wrn32_10": Setting(ModelSpec("wrn32_10", 3, 32, 32, 10), 8, _CIFAR_ATTACK, True),
}


def images_for(setting: Setting) -> ImageSet:
    """Random images of the setting's shape: time does not depend on what they show."""
    generator = torch.Generator().manual_seed(0)
    spec = setting.spec
    shape = (4 * setting.batch_size, spec.channels, spec.height, spec.width)
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    labels = torch.randint(0, spec.classes, shape[:1], generator=generator)
    return ImageSet(images, labels)
