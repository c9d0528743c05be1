"""The digits of scikit-learn: any machine, about a minute."""

from zipper_dist.config.schedules import Schedule, epochs, progress
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


@RECIPES.register("digits")
def digits() -> TrainConfig:
    """The 8×8 digits that scikit-learn brings: any machine, about a minute. Settings are ours."""
    schedule = Schedule(((0.0, 1.0), (0.5, 1.0), (0.8, 0.1), (1.0, 0.01)))
    ramp = Schedule(((0.0, 0.1), (0.3, 1.0)))
    return TrainConfig(
        epochs=18,
        batch_size=64,
        data=DataConfig(source="digits", validation="0.1"),
        model=ModelConfig(arch="resnet18", width=0.25),
        mix=MixConfig(
            every=progress(4 / 18),
            start=progress(10 / 18),
            ema=0.99,
            gamma=Schedule(((0.0, 1.0), (0.6, 1.0), (1.0, 0.5))),
        ),
        learners={
            "natural": NaturalConfig(lr=0.05, schedule=schedule),
            "adversarial": AtConfig(
                lr=0.05,
                schedule=schedule,
                attack=AttackConfig(eps=0.17, step_size=0.045, steps=7, schedule=ramp),
            ),
        },
        eval=EvalConfig(every=epochs(2)),
    )
