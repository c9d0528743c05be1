"""CIFAR-10 with WRN-32-10."""

from dataclasses import replace

from zipper_dist.config.schema import ModelConfig, TrainConfig
from zipper_dist.recipes.cifar10 import cifar10, thirds
from zipper_dist.recipes.registry import RECIPES


@RECIPES.register("cifar10-wrn32")
def cifar10_wrn32() -> TrainConfig:
    """CIFAR-10, WRN-32-10, the paper's algorithm with the settings of its public release."""
    base = cifar10()
    natural, adversarial = base.learners["natural"], base.learners["adversarial"]
    return replace(
        base,
        model=ModelConfig(arch="wrn32_10"),
        learners={
            "natural": replace(natural, schedule=thirds(0.05)),
            "adversarial": replace(adversarial, lr=0.1, weight_decay=7e-4, schedule=thirds(0.05)),
        },
    )
