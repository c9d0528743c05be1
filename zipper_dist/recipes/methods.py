"""The methods that Zipper is compared with: each turns a Zipper recipe into its own.

They train one learner on the same data, network and attack. What is published for a method is set
as published; everything else is as the Zipper learner of its kind has it. Epochs at which something
changes are scaled to the length of the recipe. Sources: the public releases of TRADES, FAT and
MART, all for CIFAR-10, and of TRADES for MNIST.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

from zipper_dist.config.schedules import Interval, Schedule
from zipper_dist.config.schema import (
    AdversarialLearnerConfig,
    LearnerConfig,
    MixConfig,
    TrainConfig,
)

Method = Callable[[TrainConfig], TrainConfig]

# Data sets that have the CIFAR-10 setting.
_LIKE_CIFAR10 = ("cifar10", "cifar100", "svhn", "folder")


def falling(*drops: tuple[float, float]) -> Schedule:
    """1, and from each progress of ``drops`` on the value beside it: a staircase."""
    points, before = [(0.0, 1.0)], 1.0
    for at, value in drops:
        # Six digits, rounded down: an iteration at exactly 5/6 has the value of after the drop.
        millionths = math.floor(at * 1e6)
        points += [((millionths - 1) / 1e6, before), (millionths / 1e6, value)]
        before = value
    return Schedule(tuple(points))


def alone(base: TrainConfig, method: str, learners: Mapping[str, LearnerConfig]) -> TrainConfig:
    """``base`` with one learner, which is its own global learner: no average, no redistribution."""
    gamma = 1.0 if "adversarial" in learners else 0.0
    mix = MixConfig(
        every=Interval(0, False),
        start=Interval(0, False),
        ema=0.0,
        gamma=Schedule(((0.0, gamma),)),
    )
    return replace(base, recipe=f"{base.recipe}-{method}", mix=mix, learners=dict(learners))


def _adversarial(base: TrainConfig) -> AdversarialLearnerConfig:
    learner = base.learners["adversarial"]
    assert isinstance(learner, AdversarialLearnerConfig)
    return learner


def _natural(base: TrainConfig) -> TrainConfig:
    """NT; its robustness is measured at the radius that the others train for."""
    attack = _adversarial(base).attack
    config = alone(base, "natural", {"natural": base.learners["natural"]})
    return replace(config, eval=replace(base.eval, norm=attack.norm, eps=attack.eps))


def _at(base: TrainConfig) -> TrainConfig:
    """AT (Madry et al., 2018): Zipper's adversarial learner, alone."""
    return alone(base, "at", {"adversarial": _adversarial(base)})


def _trades(base: TrainConfig) -> TrainConfig:
    """TRADES (Zhang et al., 2019), published for CIFAR-10 and MNIST.

    On CIFAR-10 the learning rate falls at epochs 75, 90 and 100 (of Zipper's 120), on MNIST at 55,
    75 and 90 of 100. On MNIST the ramp of eps is ours, and so is the learning rate (it is that of
    Zipper's adversarial learner): the published 0.01 is for five times as many epochs.
    """
    learner = replace(_adversarial(base), objective="trades")
    if base.data.source in _LIKE_CIFAR10:
        schedule = falling((75 / 120, 0.1), (90 / 120, 0.01), (100 / 120, 0.001))
        learner = replace(learner, lr=0.1, weight_decay=2e-4, schedule=schedule)
    elif base.data.source == "mnist":
        schedule = falling((0.55, 0.1), (0.75, 0.01), (0.9, 0.001))
        learner = replace(learner, schedule=schedule, beta=1.0)
    return alone(base, "trades", {"adversarial": learner})


def _fat(base: TrainConfig) -> TrainConfig:
    """FAT (Zhang et al., 2020), published for CIFAR-10: τ is 1 from epoch 50, 2 from 90 of 120."""
    learner = replace(_adversarial(base), objective="fat")
    if base.data.source in _LIKE_CIFAR10:
        learner = replace(
            learner,
            lr=0.1,
            weight_decay=2e-4,
            schedule=falling((60 / 120, 0.1), (90 / 120, 0.01), (110 / 120, 0.005)),
            tau=Schedule(((0.0, 0.0), (0.416667, 1.0), (0.75, 2.0))),
        )
    return alone(base, "fat", {"adversarial": learner})


def _mart(base: TrainConfig) -> TrainConfig:
    """MART (Wang et al., 2020), published for CIFAR-10 with Zipper's adversarial lr and decay."""
    learner = replace(_adversarial(base), objective="mart")
    if base.data.source in _LIKE_CIFAR10:
        schedule = falling((75 / 120, 0.1), (90 / 120, 0.01), (100 / 120, 0.001))
        learner = replace(learner, schedule=schedule)
    return alone(base, "mart", {"adversarial": learner})


METHODS: Mapping[str, Method] = {
    "natural": _natural,
    "at": _at,
    "trades": _trades,
    "fat": _fat,
    "mart": _mart,
}
"""The methods by the ending of a recipe's name."""
