"""CIFAR-10 with ResNet-18."""

from zipper_dist.config.schedules import Schedule, progress
from zipper_dist.config.schema import (
    AttackConfig,
    DataConfig,
    EvalConfig,
    MixConfig,
    ModelConfig,
    TrainConfig,
)
from zipper_dist.objectives.at import AtConfig
from zipper_dist.objectives.natural import NaturalConfig
from zipper_dist.recipes.registry import RECIPES


def thirds(end: float) -> Schedule:
    """Learning rates of the public release: constant, to a tenth, to ``end``, a third each."""
    return Schedule(((0.0, 1.0), (0.333333, 1.0), (0.666667, 0.1), (1.0, end)))


@RECIPES.register("cifar10")
def cifar10() -> TrainConfig:
    """CIFAR-10, ResNet-18, the paper's algorithm with the settings of its public release: 120
    epochs, redistribution from 75, every 5."""
    return TrainConfig(
        epochs=120,
        batch_size=128,
        data=DataConfig(source="cifar10", validation="1000", crop_padding=4, flip=True),
        model=ModelConfig(arch="resnet18"),
        mix=MixConfig(
            every=progress(5 / 120),
            start=progress(75 / 120),
            ema=0.999,
            gamma=Schedule(((0.0, 1.0), (0.333333, 1.0), (0.666667, 1.0), (1.0, 0.4))),
        ),
        learners={
            "natural": NaturalConfig(lr=0.1, weight_decay=5e-4, schedule=thirds(0.01)),
            "adversarial": AtConfig(
                lr=0.01,
                weight_decay=3.5e-3,
                schedule=thirds(0.01),
                attack=AttackConfig(eps=8 / 255, step_size=0.007, steps=10),
            ),
        },
        eval=EvalConfig(step_size=0.003),
    )
