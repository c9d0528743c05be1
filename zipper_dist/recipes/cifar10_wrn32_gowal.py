"""CIFAR-10 with WRN-32-10 by TRADES as Gowal et al. (2020) train."""

from dataclasses import replace

from zipper_dist.config.schema import TrainConfig
from zipper_dist.objectives.base import with_objective
from zipper_dist.objectives.trades import TradesConfig
from zipper_dist.recipes.cifar10_wrn32 import cifar10_wrn32
from zipper_dist.recipes.methods import alone, falling
from zipper_dist.recipes.registry import RECIPES


@RECIPES.register("cifar10-wrn32-gowal")
def cifar10_wrn32_gowal() -> TrainConfig:
    """CIFAR-10, WRN-32-10, by "Uncovering the Limits of Adversarial Training against Norm-Bounded
    Adversarial Examples" (Gowal et al., 2020), without additional data.

    Ours are the length of the run and the attack's step, which is that of the other recipes; the
    learning rate is the paper's 0.1 for every 256 images of a minibatch.
    """
    base = cifar10_wrn32()
    learner = replace(
        with_objective(base.learners["adversarial"], TradesConfig),
        lr=0.2,
        nesterov=True,
        weight_decay=5e-4,
        schedule=falling((0.5, 0.1), (0.75, 0.01)),
    )
    config = alone(base, "adversarial", learner)
    return replace(
        config,
        epochs=200,
        batch_size=512,
        model=replace(base.model, activation="silu"),
        mix=replace(config.mix, ema=0.995),
    )
