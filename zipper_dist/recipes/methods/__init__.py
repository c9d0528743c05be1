"""The methods that Zipper is compared with: functions from a Zipper recipe to their own.

They train one learner on the same data, network and attack, with the hyper-parameters of the
public releases of TRADES, FAT and MART, epochs scaled; others are those of Zipper's learner.
"""

import math
from dataclasses import replace

from zipper_dist.config.schedules import Schedule, iterations
from zipper_dist.config.schema import LearnerConfig, MixConfig, TrainConfig

# Data sets that have the CIFAR-10 setting.
LIKE_CIFAR10 = ("cifar10", "cifar100", "svhn", "folder")


def falling(*drops: tuple[float, float]) -> Schedule:
    """1, and from each progress of ``drops`` (progress, value) on that value."""
    points, before = [(0.0, 1.0)], 1.0
    for at, value in drops:
        # Six digits, rounded down: an iteration at exactly 5/6 has the value of after the drop.
        millionths = math.floor(at * 1e6)
        points += [((millionths - 1) / 1e6, before), (millionths / 1e6, value)]
        before = value
    return Schedule(tuple(points))


def alone(base: TrainConfig, name: str, learner: LearnerConfig) -> TrainConfig:
    """``base`` with one learner, which is its own global learner: no average, no redistribution."""
    gamma = Schedule(((0.0, 0.0 if learner.threat() is None else 1.0),))
    mix = MixConfig(every=iterations(0), start=iterations(0), ema=0.0, gamma=gamma)
    return replace(base, mix=mix, learners={name: learner})


def guided(base: TrainConfig, natural: LearnerConfig, learner: LearnerConfig) -> TrainConfig:
    """``base`` with a learner that is the global learner, and a natural one that only guides it."""
    config = alone(base, "adversarial", learner)
    return replace(config, learners={"natural": natural, "adversarial": learner})
