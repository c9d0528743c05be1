"""The whole algorithm, written once more, slowly and in float64.

It shares nothing with the package but its random draws: the order of the images and the starts of
the attacks. Batch normalisation, SGD, PGD, schedules, averages and redistribution are written out
here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from training.tiny_runs import (
    BATCH,
    IMAGES,
    STEPS,
    History,
    State,
    image_set,
)
from zipper_dist.config.schedules import Schedule
from zipper_dist.config.schema import (
    AttackConfig,
    AttackedLearnerConfig,
    LearnerConfig,
    TrainConfig,
)
from zipper_dist.rng import generator_at


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
