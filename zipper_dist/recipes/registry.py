"""The named recipes: the options of a run, with the published hyper-parameters if there are any.

A name is ``<data>[-<arch>][-<method>]``; without a method it is Zipper. Sources: the public release
of Zipper for CIFAR-10 (ResNet-18 and WRN-32-10), of TRADES for the MNIST network and attack; the
others are ours, as their comments say. Methods are in :mod:`zipper_dist.recipes.methods`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from zipper_dist.config.schedules import Interval, Schedule
from zipper_dist.config.schema import (
    AdversarialLearnerConfig,
    AttackConfig,
    DataConfig,
    EvalConfig,
    LearnerConfig,
    MixConfig,
    ModelConfig,
    TrainConfig,
)
from zipper_dist.errors import UserError
from zipper_dist.recipes.methods import METHODS, alone, falling

THIRDS = "0:1,0.333333:1,0.666667:0.1,1:{end}"


def _cifar10() -> TrainConfig:
    """CIFAR-10, ResNet-18, as published: 120 epochs, redistribution from 75, every 5."""
    schedule = Schedule.parse(THIRDS.format(end=0.01))
    return TrainConfig(
        recipe="cifar10",
        epochs=120,
        batch_size=128,
        data=DataConfig(source="cifar10", validation="1000", crop_padding=4, flip=True),
        model=ModelConfig(arch="resnet18"),
        mix=MixConfig(
            every=Interval(5, True),
            start=Interval(75, True),
            ema=0.999,
            gamma=Schedule.parse("0:1,0.333333:1,0.666667:1,1:0.4"),
        ),
        learners={
            "natural": LearnerConfig(lr=0.1, weight_decay=5e-4, schedule=schedule),
            "adversarial": AdversarialLearnerConfig(
                lr=0.01,
                weight_decay=3.5e-3,
                schedule=schedule,
                attack=AttackConfig(eps=8 / 255, step_size=0.007, steps=10),
            ),
        },
        eval=EvalConfig(step_size=0.003),
    )


def _cifar10_wrn32() -> TrainConfig:
    """CIFAR-10, WRN-32-10, as published."""
    base = _cifar10()
    schedule = Schedule.parse(THIRDS.format(end=0.05))
    natural, adversarial = base.learners["natural"], base.learners["adversarial"]
    return replace(
        base,
        recipe="cifar10-wrn32",
        model=ModelConfig(arch="wrn32_10"),
        learners={
            "natural": replace(natural, schedule=schedule),
            "adversarial": replace(adversarial, lr=0.1, weight_decay=7e-4, schedule=schedule),
        },
    )


def _cifar100() -> TrainConfig:
    """CIFAR-100 with the CIFAR-10 setting."""
    base = _cifar10()
    return replace(base, recipe="cifar100", data=replace(base.data, source="cifar100"))


def _svhn() -> TrainConfig:
    """SVHN with the CIFAR-10 setting, as published; flips are left out, as they change digits."""
    base = _cifar10()
    return replace(base, recipe="svhn", data=replace(base.data, source="svhn", flip=False))


def _folder() -> TrainConfig:
    """A directory of class folders, with the CIFAR-10 setting."""
    base = _cifar10()
    return replace(
        base, recipe="folder", data=replace(base.data, source="folder", validation="0.1")
    )


def _mnist() -> TrainConfig:
    """MNIST with the network and attack of TRADES' release.

    The ramp of eps is ours: from scratch, training at eps 0.3 stalls at the accuracy of guessing.
    """
    schedule = Schedule.parse("0:1,0.55:1,0.75:0.1,1:0.01")
    return TrainConfig(
        recipe="mnist",
        epochs=20,
        batch_size=128,
        data=DataConfig(source="mnist", validation="1000"),
        model=ModelConfig(arch="small_cnn"),
        mix=MixConfig(
            every=Interval(1, True),
            start=Interval(12, True),
            ema=0.999,
            gamma=Schedule.parse("0:1,0.55:1,1:0.5"),
        ),
        learners={
            "natural": LearnerConfig(lr=0.01, weight_decay=0.0, schedule=schedule),
            "adversarial": AdversarialLearnerConfig(
                lr=0.05,
                weight_decay=0.0,
                schedule=schedule,
                attack=AttackConfig(
                    eps=0.3, step_size=0.01, steps=40, schedule=Schedule.parse("0:0.1,0.3:1")
                ),
            ),
        },
        eval=EvalConfig(),
    )


def _digits() -> TrainConfig:
    """The 8×8 digits that scikit-learn brings: any machine, about a minute. Settings are ours."""
    schedule = Schedule.parse("0:1,0.5:1,0.8:0.1,1:0.01")
    return TrainConfig(
        recipe="digits",
        epochs=18,
        batch_size=64,
        data=DataConfig(source="digits", validation="0.1"),
        model=ModelConfig(arch="resnet18", width=0.25),
        mix=MixConfig(
            every=Interval(4, True),
            start=Interval(10, True),
            ema=0.99,
            gamma=Schedule.parse("0:1,0.6:1,1:0.5"),
        ),
        learners={
            "natural": LearnerConfig(lr=0.05, schedule=schedule),
            "adversarial": AdversarialLearnerConfig(
                lr=0.05,
                schedule=schedule,
                attack=AttackConfig(
                    eps=0.17, step_size=0.045, steps=7, schedule=Schedule.parse("0:0.1,0.3:1")
                ),
            ),
        },
        eval=EvalConfig(every=Interval(2, True)),
    )


def _cifar10_wrn32_gowal() -> TrainConfig:
    """CIFAR-10, WRN-32-10, by "Uncovering the Limits of Adversarial Training against Norm-Bounded
    Adversarial Examples" (Gowal et al., 2020), without additional data.

    The paper's: TRADES with β = 6, SiLU, batches of 512 with a learning rate of 0.1 for every 256
    images, Nesterov momentum, weight decay 5e-4, a tenth of the learning rate from one half and a
    hundredth from three quarters of the run, and the average of the weights with decay 0.995 as the
    result. Ours: the length of the run, and the attack's step, which is that of the other recipes.
    """
    base = _cifar10_wrn32()
    adversarial = base.learners["adversarial"]
    assert isinstance(adversarial, AdversarialLearnerConfig)
    learner = replace(
        adversarial,
        objective="trades",
        beta=6.0,
        lr=0.2,
        nesterov=True,
        weight_decay=5e-4,
        schedule=falling((0.5, 0.1), (0.75, 0.01)),
    )
    config = alone(base, "gowal", {"adversarial": learner})
    return replace(
        config,
        epochs=200,
        batch_size=512,
        model=replace(base.model, activation="silu"),
        mix=replace(config.mix, ema=0.995),
    )


RECIPES: dict[str, Callable[[], TrainConfig]] = {
    "digits": _digits,
    "mnist": _mnist,
    "cifar10": _cifar10,
    "cifar100": _cifar100,
    "svhn": _svhn,
    "cifar10-wrn32": _cifar10_wrn32,
    "folder": _folder,
}
"""Zipper's recipes, each of which is a recipe for every one of :data:`METHODS`, too."""

SPECIAL: dict[str, Callable[[], TrainConfig]] = {"cifar10-wrn32-gowal": _cifar10_wrn32_gowal}

CHOICES = (
    f"{', '.join(RECIPES)}, each by Zipper or with the ending of another method "
    f"({', '.join(f'-{method}' for method in METHODS)}), and {', '.join(SPECIAL)}"
)
"""The recipes, in words."""


def recipe(name: str) -> TrainConfig:
    """The options of recipe ``name``; raises UserError if there is none of that name."""
    whole = RECIPES | SPECIAL
    if name in whole:
        return whole[name]()
    base, _, method = name.rpartition("-")
    if base in RECIPES and method in METHODS:
        return METHODS[method](RECIPES[base]())
    raise UserError(f"unknown recipe {name!r}; the recipes are {CHOICES}")
