"""SVHN."""

from dataclasses import replace

from zipper_dist.config.schema import TrainConfig
from zipper_dist.recipes.cifar10 import cifar10
from zipper_dist.recipes.registry import RECIPES


@RECIPES.register("svhn")
def svhn() -> TrainConfig:
    """SVHN with the CIFAR-10 setting, as in the paper; without flips, as they change digits."""
    base = cifar10()
    return replace(base, data=replace(base.data, source="svhn", flip=False))
