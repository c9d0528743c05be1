"""MNIST with the small network of its adversarial-training literature."""

from zipper_dist.config.schedules import Schedule, progress
from zipper_dist.config.schema import AttackConfig, DataConfig, MixConfig, ModelConfig, TrainConfig
from zipper_dist.objectives.at import AtConfig
from zipper_dist.objectives.natural import NaturalConfig
from zipper_dist.recipes.registry import RECIPES


@RECIPES.register("mnist")
def mnist() -> TrainConfig:
    """MNIST with the network and attack of TRADES' release; the ramp of eps is ours, as training
    at eps 0.3 from scratch stalls at the accuracy of guessing."""
    schedule = Schedule(((0.0, 1.0), (0.55, 1.0), (0.75, 0.1), (1.0, 0.01)))
    ramp = Schedule(((0.0, 0.1), (0.3, 1.0)))
    return TrainConfig(
        epochs=20,
        batch_size=128,
        data=DataConfig(source="mnist", validation="1000"),
        model=ModelConfig(arch="small_cnn"),
        mix=MixConfig(
            every=progress(1 / 20),
            start=progress(12 / 20),
            ema=0.999,
            gamma=Schedule(((0.0, 1.0), (0.55, 1.0), (1.0, 0.5))),
        ),
        learners={
            "natural": NaturalConfig(lr=0.01, weight_decay=0.0, schedule=schedule),
            "adversarial": AtConfig(
                lr=0.05,
                weight_decay=0.0,
                schedule=schedule,
                attack=AttackConfig(eps=0.3, step_size=0.01, steps=40, schedule=ramp),
            ),
        },
    )
