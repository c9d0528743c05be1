"""A run of a tiny network in this process, and what its training comes to."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zipper_dist.checkpoint.run_directory import RunDirectory
from zipper_dist.config.schedules import Schedule, iterations
from zipper_dist.config.schema import (
    AttackConfig,
    DataConfig,
    EvalConfig,
    MixConfig,
    TrainConfig,
)
from zipper_dist.data import Dataset, ImageSet, Minibatch
from zipper_dist.distributed.communication import Overlap, World
from zipper_dist.distributed.signals import Signals
from zipper_dist.distributed.stopping import Stop
from zipper_dist.distributed.topology import Machine, plan
from zipper_dist.metrics.reporter import MetricsReporter
from zipper_dist.models import ModelSpec
from zipper_dist.objectives.at import AtConfig
from zipper_dist.objectives.natural import NaturalConfig
from zipper_dist.training.context import RunContext, TrainState
from zipper_dist.training.learner.flat_state import FlatState
from zipper_dist.training.loop import train
from zipper_dist.training.setup.build import build_state
from zipper_dist.training.setup.materials import prepare
from zipper_dist.training.setup.placing import place

State = dict[str, Tensor]
History = list[dict[str, State]]
"""By iteration, from 0: the state of each learner, and of the global one, as in a state dict."""
STEPS = 30
IMAGES = 40
BATCH = 8
CLASSES = 4


class TinyNetwork(nn.Module):
    """A convolution, batch normalisation, and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.linear = nn.Linear(4 * 2 * 2, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        features = F.relu(self.norm(self.conv(images)))
        logits: Tensor = self.linear(torch.flatten(F.avg_pool2d(features, 2), 1))
        return logits


class DoubleNetwork(TinyNetwork):
    """The same in float64; no surrogate of it can be made, as attacks would see it in fp32."""

    def __init__(self) -> None:
        super().__init__()
        self.double()

    def forward(self, images: Tensor) -> Tensor:
        assert isinstance(images, Tensor), "cannot be traced"
        return super().forward(images.double())


def image_set(count: int, seed: int) -> ImageSet:
    """Random images, black and white ones among their pixels, with labels that can be learnt."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(-60, 316, (count, 2, 6, 6), generator=generator).clamp(0, 255)
    labels = torch.arange(count) % CLASSES
    images[torch.arange(count), 0, labels] = 255
    return ImageSet(images.to(torch.uint8), labels)


def config_of(mix: MixConfig, weight_average: float = 0.0) -> TrainConfig:
    return TrainConfig(
        seed=3,
        steps=STEPS,
        batch_size=BATCH,
        device="cpu",
        precision="fp32",
        log_every=7,
        data=DataConfig(source="none"),
        mix=mix,
        learners={
            "natural": NaturalConfig(
                lr=0.1, weight_decay=5e-3, schedule=Schedule.parse("0:1,0.4:1,1:0.1")
            ),
            "adversarial": AtConfig(
                lr=0.05,
                weight_decay=1e-2,
                momentum=0.8,
                nesterov=True,
                schedule=Schedule.parse("0:0.2,0.5:1,1:0.3"),
                weight_average=weight_average,
                attack=AttackConfig(
                    eps=0.15, step_size=0.06, steps=3, schedule=Schedule.parse("0:0.5,0.7:1")
                ),
            ),
        },
        # Looks and checkpoints are in between, and must not show.
        eval=EvalConfig(every=iterations(9), attack_steps=1, batch_size=4),
    )


# The EMA's warm-up ends at iteration 20. The first redistribution is at t′ itself in LATE, and at
# the first multiple of c after t′ in LATER.
LATE = MixConfig(
    every=iterations(6),
    start=iterations(12),
    ema=0.7,
    gamma=Schedule.parse("0:1,0.25:0.8,1:0.4"),
)


def built(run: RunContext, data: Dataset) -> TrainState:
    """A run in this process."""
    materials = prepare(run, data)
    return build_state(run, materials, place(run, materials, None), [0])


def trained(
    config: TrainConfig,
    directory: Path,
    monkeypatch: pytest.MonkeyPatch,
    network: type[TinyNetwork] = TinyNetwork,
) -> History:
    """What the training loop does, in one process."""

    def tiny(spec: ModelSpec) -> nn.Module:
        return network()

    for module in ("network", "limits"):
        monkeypatch.setattr(f"zipper_dist.training.setup.{module}.build", tiny)
    cores = tuple(sorted(os.sched_getaffinity(0)))
    world = World(plan(Machine(0, 1, 0, 1, 0, cores), "cpu", 1))
    signals = Signals()
    stop = Stop(world, signals)
    run = RunContext(
        config=config,
        precision="fp32",
        directory=RunDirectory(directory),
        world=world,
        stop=stop,
        wait=Overlap(stop),
        metrics=MetricsReporter(world, []),
    )
    run.directory.prepare()
    data = Dataset(
        image_set(IMAGES, 0), image_set(4, 1), image_set(4, 2), ("a", "b", "c", "d"), "none"
    )
    state = built(run, data)
    history: History = []
    mixed = FlatState(network())
    minibatch = state.loader.minibatch

    def record() -> None:
        mixed.flat.copy_(state.mixer.total(state.mixer.shares()))
        mixed.load_integers(state.learners[0].state.integers)
        states = {learner.name: learner.state.state_dict() for learner in state.learners}
        history.append({**states, "global": mixed.state_dict()})

    def record_what_was_before(t: int) -> Minibatch:
        assert len(history) == t - 1
        record()
        return minibatch(t)

    monkeypatch.setattr(state.loader, "minibatch", record_what_was_before)
    train(run, state)
    record()
    return history
