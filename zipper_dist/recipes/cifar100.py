"""CIFAR-100."""

from dataclasses import replace

from zipper_dist.config.schema import TrainConfig
from zipper_dist.recipes.cifar10 import cifar10
from zipper_dist.recipes.registry import RECIPES


@RECIPES.register("cifar100")
def cifar100() -> TrainConfig:
    """CIFAR-100 with the CIFAR-10 setting."""
    base = cifar10()
    return replace(base, data=replace(base.data, source="cifar100"))
