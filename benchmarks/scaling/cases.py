"""What ``bench_scaling`` compares: networks, placements, and the options of their runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from zipper_dist.config.placement import Mode, PlacementConfig
from zipper_dist.config.schedules import iterations
from zipper_dist.config.schema import AttackedLearnerConfig, LearnerConfig, TrainConfig
from zipper_dist.data import Dataset, ImageSet
from zipper_dist.models import ModelSpec
from zipper_dist.objectives.trades import TradesConfig
from zipper_dist.recipes.registry import recipe

ENDLESS = 10**6
"""Length of a run that is left before its end [iterations]."""
LR = 1e-4
"""Learning rate: images are random, so that nothing is to be learnt, and nothing may diverge."""


@dataclass(frozen=True)
class Network:
    """A network, its minibatch and attack, and how long each of its variants is measured.

    Attributes:
        iterations: of each variant, a multiple of ``bout``.
        unequal_iterations: the same for unequal ranks.
        bout: iterations of a variant before the next one takes its turn.
        every: c, iterations from one redistribution to the next.
        gpu_seconds: an estimate, not measured, of an iteration of all learners on one GPU, for
            what is predicted; None: there is none.
    """

    name: str
    recipe: str
    spec: ModelSpec
    batch_size: int = 128
    iterations: int = 10
    unequal_iterations: int = 6
    bout: int = 2
    every: int = 10
    gpu_seconds: float | None = None

    def quick(self) -> Network:
        """The same with a narrow network, few images and two bouts, to see that it runs."""
        spec = replace(self.spec, arch="small_cnn", width_multiplier=0.25)
        return replace(
            self, spec=spec, batch_size=16, iterations=4, unequal_iterations=2, bout=2, every=2
        )

    def dataset(self) -> Dataset:
        """Random images: time does not depend on what they show."""
        generator, spec = torch.Generator().manual_seed(0), self.spec
        shape = (4 * self.batch_size, spec.channels, spec.height, spec.width)
        images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
        labels = torch.randint(0, spec.classes, shape[:1], generator=generator)
        train = ImageSet(images, labels)
        few = train.subset(torch.arange(2))
        names = tuple(map(str, range(spec.classes)))
        return Dataset(train, few, few, names, "random")


NETWORKS = {
    each.name: each
    for each in (
        Network("small_cnn", "mnist", ModelSpec("small_cnn", 1, 28, 28, 10), unequal_iterations=10),
        # On an H100, 20 … 32 ms are estimated.
        Network("resnet18", "cifar10", ModelSpec("resnet18", 3, 32, 32, 10), gpu_seconds=0.026),
    )
}  # fmt: skip


@dataclass(frozen=True)
class Variant:
    """A way to train: ranks, shards, placement, and Zipper or TRADES alone."""

    name: str
    ranks: int
    shards: int
    mode: Mode = "dedicated"
    trades: bool = False

    def config(self, network: Network, run_dir: Path, steps: int | None = None) -> TrainConfig:
        """The options of its run, which saves nothing; ``steps`` of the attack, in place of the
        recipe's."""
        base = recipe(network.recipe)
        mix = replace(base.mix, every=iterations(network.every), start=iterations(1))
        if self.trades:
            base, mix = recipe(f"{network.recipe}-trades"), recipe(f"{network.recipe}-trades").mix
        learners = {name: _slow(each, steps) for name, each in base.learners.items()}
        return replace(
            base,
            run_dir=run_dir,
            steps=ENDLESS, batch_size=network.batch_size, device="cpu", compile="off", threads=1,
            metrics=(), mix=mix, learners=learners,
            model=replace(base.model, arch=network.spec.arch, width=network.spec.width_multiplier),
            eval=replace(base.eval, every=iterations(ENDLESS)),
            placement=PlacementConfig(self.mode, self.shards),
        )  # fmt: skip


def _slow(learner: LearnerConfig, steps: int | None) -> LearnerConfig:
    if isinstance(learner, TradesConfig):
        learner = replace(learner, beta=6.0)
    if isinstance(learner, AttackedLearnerConfig) and steps is not None:
        learner = replace(learner, attack=replace(learner.attack, steps=steps))
    return replace(learner, lr=LR)


EQUAL: Sequence[Variant] = (
    Variant("serial", 1, 1),
    Variant("serial-2-shards", 1, 2),
    Variant("dedicated-2", 2, 1),
    Variant("shared-2", 2, 2, "shared"),
    Variant("balanced-2", 2, 2, "balanced"),
    Variant("trades-1", 1, 2, trades=True),
    Variant("trades-2", 2, 2, "shared", trades=True),
)
UNEQUAL: Sequence[Variant] = (
    Variant("shared", 2, 8, "shared"),
    Variant("balanced", 2, 8, "balanced"),
)
"""Compared while a busy loop takes half of the second rank's core."""
BASELINES = {
    "dedicated-2": "serial",
    "shared-2": "serial-2-shards",
    "balanced-2": "serial-2-shards",
    "trades-2": "trades-1",
}
"""What each parallel variant is compared with: the same shards on one core."""
