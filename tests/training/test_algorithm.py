"""The whole algorithm, written once more, slowly and in float64, against what training does.

The reference shares nothing with the package but its random draws: the order of the images and the
starts of the attacks. Batch normalisation, SGD, PGD, schedules, averages and redistribution are
written out here.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zipper_dist.checkpoint.run_directory import RunDirectory
from zipper_dist.config.schedules import Schedule, epochs, iterations
from zipper_dist.config.schema import (
    AttackConfig,
    AttackedLearnerConfig,
    DataConfig,
    EvalConfig,
    LearnerConfig,
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
from zipper_dist.rng import generator_at
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

# What fp32 may cost, in the norm. It costs a tenth of that; each slip below a hundred times more.
TOLERANCE = 5e-6


pytestmark = pytest.mark.usefixtures("one_thread")


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
LATER = replace(LATE, start=iterations(13))
EPOCHS = replace(LATE, every=epochs(1), start=epochs(3))
NEVER = replace(LATE, every=iterations(0))


def built(run: RunContext, data: Dataset) -> TrainState:
    """A run in this process."""
    materials = prepare(run, data)
    return build_state(run, materials, place(run, materials, None), [0])


def trained(config: TrainConfig, directory: Path, monkeypatch: pytest.MonkeyPatch) -> History:
    """What the training loop does, in one process."""

    def tiny(spec: ModelSpec) -> nn.Module:
        return TinyNetwork()

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
    mixed = FlatState(TinyNetwork())
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


@dataclass(frozen=True)
class Slip:
    """A mistake in the algorithm: iterations by which something is off, or what goes wrong."""

    alpha: int = 0
    learning_rate: int = 0
    gamma: int = 0
    attack_scale: int = 0
    start: int = 0
    interval: int = 0
    attack_steps: int = 0
    draws: int = 0
    forgets_momentum: bool = False
    attacks_in_train_mode: bool = False
    biased_running_variance: bool = False
    mixes_before_the_step: bool = False
    keeps_own_statistics: bool = False
    no_warm_up: bool = False
    mixes_the_weights_themselves: bool = False
    average_outlives_redistribution: bool = False
    redistributes_at_the_end: bool = False


NONE = Slip()


def at(schedule: Schedule, t: int) -> float:
    """Piecewise-linear interpolation."""
    xs, ys = [x for x, _ in schedule.points], [y for _, y in schedule.points]
    return float(np.interp(t / STEPS, xs, ys))


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    picked = logits[torch.arange(len(labels)), labels]
    return (logits.exp().sum(1).log() - picked).mean()


def forward(state: State, images: Tensor, training: bool) -> tuple[Tensor, State]:
    """Logits, and the running statistics after this minibatch."""
    features = F.conv2d(images, state["conv.weight"])
    mean, variance = state["norm.running_mean"], state["norm.running_var"]
    statistics = {"norm.running_mean": mean, "norm.running_var": variance}
    if training:
        by_channel = features.transpose(0, 1).flatten(1)
        count = by_channel.shape[1]
        mean = by_channel.mean(1)
        variance = ((by_channel - mean[:, None]) ** 2).mean(1)
        statistics = {
            "norm.running_mean": 0.9 * statistics["norm.running_mean"] + 0.1 * mean.detach(),
            "norm.running_var": 0.9 * statistics["norm.running_var"]
            + 0.1 * variance.detach() * count / (count - 1),
        }
    scale = state["norm.weight"] / (variance + 1e-5).sqrt()
    normal = (features - mean[:, None, None]) * scale[:, None, None]
    normal = (normal + state["norm.bias"][:, None, None]).clamp(min=0)
    pooled = normal.reshape(len(images), -1, 2, 2, 2, 2).mean((3, 5))
    return pooled.flatten(1) @ state["linear.weight"].T + state["linear.bias"], statistics


def attacked(
    state: State,
    images: Tensor,
    labels: Tensor,
    attack: AttackConfig,
    seed: int,
    t: int,
    slip: Slip,
) -> Tensor:
    """L∞ PGD from a random start, in eval mode."""
    scale = at(attack.schedule, t + slip.attack_scale)
    eps, step = scale * attack.eps, scale * attack.step_size
    draws = generator_at("cpu", seed, "pgd-start", "adversarial", t + slip.draws)
    noise = torch.empty(images.shape).uniform_(-eps, eps, generator=draws)
    found = (images + noise.double()).clamp(0, 1)
    for _ in range(attack.steps + slip.attack_steps):
        found.requires_grad_()
        logits, _ = forward(state, found, slip.attacks_in_train_mode)
        (gradient,) = torch.autograd.grad(cross_entropy(logits, labels), found)
        with torch.no_grad():
            moved = found + step * gradient.sign()
            found = torch.minimum(torch.maximum(moved, images - eps), images + eps).clamp(0, 1)
    return found


def parameters_of(state: State) -> list[str]:
    return [name for name in state if "running" not in name]


class SlowLearner:
    """A base learner in float64."""

    def __init__(self, name: str, config: LearnerConfig, start: State, seed: int) -> None:
        self.name, self.config, self.seed = name, config, seed
        self.state = dict(start)
        self.average = dict(start)
        self.velocity: State = {}

    def step(self, images: Tensor, labels: Tensor, t: int, slip: Slip) -> None:
        config = self.config
        if isinstance(config, AttackedLearnerConfig):
            images = attacked(self.state, images, labels, config.attack, self.seed, t, slip)
        names = parameters_of(self.state)
        leaves = {name: self.state[name].clone().requires_grad_() for name in names}
        logits, statistics = forward({**self.state, **leaves}, images.detach(), training=True)
        gradients = torch.autograd.grad(cross_entropy(logits, labels), list(leaves.values()))
        assert isinstance(config.schedule, Schedule)
        rate = config.lr * at(config.schedule, t + slip.learning_rate)
        for name, gradient in zip(names, gradients, strict=True):
            direction = gradient + config.weight_decay * self.state[name]
            if name in self.velocity:
                self.velocity[name] = config.momentum * self.velocity[name] + direction
            else:
                self.velocity[name] = direction
            if config.nesterov:
                direction = direction + config.momentum * self.velocity[name]
            else:
                direction = self.velocity[name]
            self.state[name] = self.state[name] - rate * direction
        if slip.biased_running_variance:
            count = len(images) * 4 * 4  # the convolution leaves 4×4 positions
            old, new = self.state["norm.running_var"], statistics["norm.running_var"]
            statistics["norm.running_var"] = 0.9 * old + (new - 0.9 * old) * (count - 1) / count
        self.state |= statistics
        alpha = min(config.weight_average, (1 + t) / (10 + t))
        if config.weight_average > 0 and not slip.mixes_the_weights_themselves:
            self.average = {
                name: alpha * self.average[name] + (1 - alpha) * tensor
                for name, tensor in self.state.items()
            }
        else:
            self.average = self.state

    def load_global(self, theta: State, slip: Slip) -> None:
        kept = parameters_of(theta) if slip.keeps_own_statistics else list(theta)
        self.state |= {name: theta[name] for name in kept}
        if self.config.weight_average == 0 or not slip.average_outlives_redistribution:
            self.average = dict(self.state)
        if slip.forgets_momentum:
            self.velocity = {}


def mixture(learners: list[SlowLearner], gamma: float) -> State:
    if len(learners) == 1:
        return learners[0].average
    by_name = {learner.name: learner.average for learner in learners}
    natural, adversarial = by_name["natural"], by_name["adversarial"]
    return {name: gamma * adversarial[name] + (1 - gamma) * natural[name] for name in natural}


def reference(config: TrainConfig, start: State, slip: Slip = NONE) -> History:
    """The algorithm, from the initial state dict ``start``."""
    theta = {name: tensor.double() for name, tensor in start.items() if "num" not in name}
    learners = [
        SlowLearner(name, learner, theta, config.seed) for name, learner in config.learners.items()
    ]
    data = image_set(IMAGES, 0)
    steps_per_epoch = IMAGES // BATCH
    per_unit = {"epochs": steps_per_epoch, "iterations": 1}
    every, first = (
        round(interval.amount * per_unit[interval.unit])
        for interval in (config.mix.every, config.mix.start)
    )
    history: History = [{**{learner.name: theta for learner in learners}, "global": theta}]
    for t in range(1, STEPS + 1):
        epoch, place = divmod(t - 1, steps_per_epoch)
        order = torch.randperm(
            IMAGES, generator=generator_at("cpu", config.seed, "permutation", epoch)
        )
        chosen = order[place * BATCH : (place + 1) * BATCH]
        images, labels = data.images[chosen].double() / 255, data.labels[chosen]
        gamma = at(config.mix.gamma, t + slip.gamma)
        mixed_too_early = mixture(learners, gamma)
        for learner in learners:
            learner.step(images, labels, t, slip)
        mixed = mixed_too_early if slip.mixes_before_the_step else mixture(learners, gamma)
        n = t + slip.alpha
        alpha = config.mix.ema if slip.no_warm_up else min(config.mix.ema, (1 + n) / (10 + n))
        theta = {n: alpha * theta[n] + (1 - alpha) * mixed[n] for n in theta}
        last = t == STEPS and not slip.redistributes_at_the_end
        if every and t >= first + slip.start and t % (every + slip.interval) == 0 and not last:
            for learner in learners:
                learner.load_global(theta, slip)
        states = {learner.name: dict(learner.state) for learner in learners}
        history.append({**states, "global": theta})
    return history


def relative_error(found: State, wanted: State) -> float:
    """Of all of a network's tensors together, in the norm."""
    off = sum(float(((found[name].double() - wanted[name]) ** 2).sum()) for name in wanted)
    size = sum(float((tensor**2).sum()) for tensor in wanted.values())
    return float(np.sqrt(off / size))


def largest_errors(found: History, wanted: History) -> dict[str, float]:
    """By learner, over all iterations."""
    assert len(found) == len(wanted) == STEPS + 1
    return {
        name: max(relative_error(f[name], w[name]) for f, w in zip(found, wanted, strict=True))
        for name in wanted[0]
    }


@pytest.mark.parametrize(
    "config",
    [
        pytest.param(config_of(LATE), id="redistribution at the start"),
        pytest.param(config_of(LATER), id="redistribution after the start"),
        pytest.param(config_of(EPOCHS), id="intervals in epochs"),
        pytest.param(config_of(NEVER), id="no redistribution"),
        pytest.param(config_of(LATE, weight_average=0.6), id="weight average"),
    ],
)
def test_training_is_the_algorithm(
    config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = trained(config, tmp_path, monkeypatch)
    for name in ("natural", "adversarial"):
        assert all(torch.equal(found[0][name][k], v) for k, v in found[0]["global"].items())
    errors = largest_errors(found, reference(config, found[0]["global"]))
    assert max(errors.values()) < TOLERANCE, errors
    # Counts of minibatches are copied, never averaged.
    for t, states in enumerate(found):
        assert {int(state["norm.num_batches_tracked"]) for state in states.values()} == {t}


@pytest.mark.parametrize("name", ["natural", "adversarial"])
def test_one_learner_alone_has_all_the_weight(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = config_of(NEVER)
    config = replace(
        both, learners={name: both.learners[name]}, eval=replace(both.eval, norm="linf", eps=0.15)
    )
    found = trained(config, tmp_path, monkeypatch)
    errors = largest_errors(found, reference(config, found[0]["global"]))
    assert max(errors.values()) < TOLERANCE, errors


def test_a_run_that_ends_at_a_multiple_of_the_interval_leaves_the_learners_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(LATE)
    assert STEPS % config.mix.every.amount == 0
    found = trained(config, tmp_path, monkeypatch)
    end = found[-1]
    for name in config.learners:
        assert not torch.equal(end[name]["conv.weight"], end["global"]["conv.weight"])
    # A redistribution at the end would change the learners and not the global learner.
    slip = Slip(redistributes_at_the_end=True)
    errors = largest_errors(found, reference(config, found[0]["global"], slip))
    assert errors["global"] < TOLERANCE
    assert min(errors[name] for name in config.learners) > 100 * TOLERANCE


NOTICED: dict[str, tuple[TrainConfig, list[Slip]]] = {
    "redistribution at the start": (
        config_of(LATE),
        [
            Slip(alpha=1),
            Slip(alpha=-1),
            Slip(no_warm_up=True),
            Slip(learning_rate=1),
            Slip(learning_rate=-1),
            Slip(gamma=1),
            Slip(gamma=-1),
            Slip(attack_scale=1),
            Slip(attack_scale=-1),
            Slip(attack_steps=1),
            Slip(attack_steps=-1),
            Slip(draws=1),
            Slip(start=1),
            Slip(interval=1),
            Slip(interval=-1),
            Slip(forgets_momentum=True),
            Slip(attacks_in_train_mode=True),
            Slip(biased_running_variance=True),
            Slip(mixes_before_the_step=True),
            Slip(keeps_own_statistics=True),
        ],
    ),
    "redistribution after the start": (config_of(LATER), [Slip(start=-1)]),
    "weight average": (
        config_of(LATE, weight_average=0.6),
        [Slip(mixes_the_weights_themselves=True), Slip(average_outlives_redistribution=True)],
    ),
}


@pytest.mark.parametrize("case", NOTICED)
def test_the_comparison_notices_slips(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, slips = NOTICED[case]
    found = trained(config, tmp_path, monkeypatch)
    for slip in slips:
        errors = largest_errors(found, reference(config, found[0]["global"], slip))
        assert errors["global"] > 100 * TOLERANCE, slip
