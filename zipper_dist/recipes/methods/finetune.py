"""Robust fine-tuning of a network that others have trained."""

from dataclasses import replace

from zipper_dist.config.schedules import Curve, Schedule, progress
from zipper_dist.config.schema import TrainConfig
from zipper_dist.recipes.registry import METHODS

RISE = 0.05
"""The part of the run in which learning rates and the attack's radius grow."""

HALF = Schedule(((0.0, 0.5),))


@METHODS.register("finetune")
def finetune(base: TrainConfig) -> TrainConfig:
    """Zipper in a twelfth of the epochs, at a tenth of the learning rates, from torchvision's
    weights of its ResNet-18; the learners are mixed half and half throughout, which keeps the
    natural learner's accuracy. Settings are ours."""
    schedule = Curve("cosine", RISE)
    learners = {
        name: replace(learner, lr=learner.lr / 10, schedule=schedule)
        for name, learner in base.learners.items()
    }
    return replace(
        base,
        epochs=max(1, base.epochs // 12),
        model=replace(
            base.model,
            arch="torchvision:resnet18",
            weights="torchvision:DEFAULT",
            normalise="auto",
        ),
        mix=replace(base.mix, start=progress(0.1), every=progress(0.05), gamma=HALF),
        learners=learners,
    )
