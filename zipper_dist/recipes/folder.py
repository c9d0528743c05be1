"""Images of the user's own."""

from dataclasses import replace

from zipper_dist.config.schema import TrainConfig
from zipper_dist.recipes.cifar10 import cifar10
from zipper_dist.recipes.registry import RECIPES


@RECIPES.register("folder")
def folder() -> TrainConfig:
    """A directory of class folders, with the CIFAR-10 setting; minibatches are smaller for few
    images, so that a run of as many epochs has enough iterations."""
    base = cifar10()
    data = replace(base.data, source="folder", validation="0.1")
    return replace(base, batch_size=None, data=data)
