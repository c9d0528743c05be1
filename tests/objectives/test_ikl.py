from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from objectives.plain_methods import (
    CLASSES,
    FP32,
    attacked_by,
    batch,
    cross_entropy,
    gradients,
    log_probabilities,
    network,
    relative_error,
)
from zipper_dist.config.schema import AttackConfig
from zipper_dist.data import Minibatch
from zipper_dist.objectives import LearnerSteps, StepContext, make_objective, state_of
from zipper_dist.objectives.ikl import Ikl, IklConfig
from zipper_dist.objectives.trades import LikeTrades, TradesConfig
from zipper_dist.training.learner import BaseLearner

ATTACK = AttackConfig(eps=0.12, step_size=0.05, steps=4)
CONFIG = IklConfig(attack=ATTACK, memory=0.6)


def plain_loss(
    clean: Tensor, attacked: Tensor, labels: Tensor, config: IklConfig, means: Tensor
) -> Tensor:
    """Over all pairs of classes, as the paper writes it; ``means``: (classes, classes)."""
    soft = -(log_probabilities(clean).exp().detach() * log_probabilities(attacked)).sum(1).mean()
    losses = []
    for n, a, label in zip(clean, attacked, labels.tolist(), strict=True):
        loss = torch.zeros((), dtype=clean.dtype)
        for j in range(CLASSES):
            for k in range(CLASSES):
                pair = means[label, j] * means[label, k]
                loss = loss + pair * ((n[j] - n[k]) - (a[j] - a[k])) ** 2
        losses.append(loss / 4)
    natural = cross_entropy(clean, labels, config.label_smoothing)
    return natural + config.alpha * soft + config.beta * torch.stack(losses).mean()


class PlainMeans:
    """The mean predictions of each class: images of earlier iterations count less and less."""

    def __init__(self, memory: float, temperature: float) -> None:
        self.seen: list[tuple[Tensor, Tensor]] = []
        self.memory, self.temperature = memory, temperature

    def add(self, clean: Tensor, labels: Tensor) -> None:
        self.seen.append((log_probabilities(clean / self.temperature).exp().detach(), labels))

    def now(self) -> Tensor:
        rows = []
        for label in range(CLASSES):
            total = self.memory ** len(self.seen) * torch.full((CLASSES,), 1 / CLASSES).double()
            for age, (predictions, labels) in enumerate(reversed(self.seen)):
                total = total + self.memory**age * predictions[labels == label].sum(0)
            rows.append(total / total.sum())
        return torch.stack(rows)


@pytest.mark.parametrize(
    ("alpha", "beta", "temperature", "smoothing"), [(4.0, 20.0, 4.0, 0.0), (1.0, 3.0, 1.0, 0.1)]
)
def test_losses_and_gradients_are_those_of_a_plain_implementation(
    alpha: float, beta: float, temperature: float, smoothing: float
) -> None:
    config = replace(
        CONFIG, alpha=alpha, beta=beta, temperature=temperature, label_smoothing=smoothing
    )
    model = network().double()
    plain = copy.deepcopy(model)
    objective = make_objective(config, lambda: FP32.attacked_network(network()))
    means = PlainMeans(config.memory, temperature)
    for seed in (1, 2, 3):
        single = batch(network(), seed)
        minibatch = Minibatch(single.images.double(), single.labels)
        images = attacked_by(objective, network(), single).double()
        loss, logits = objective.loss(model, minibatch, images)
        clean, attacked = plain(minibatch.images), plain(images)
        plainly = plain_loss(clean, attacked, minibatch.labels, config, means.now())
        # The mean predictions are kept in float32.
        assert loss.item() == pytest.approx(plainly.item(), rel=1e-6)
        assert relative_error(gradients(loss, model), gradients(plainly, plain)) < 1e-6
        torch.testing.assert_close(logits, attacked)
        means.add(clean, minibatch.labels)
    # Or the means would hardly count: classes differ in them.
    assert float((means.now() - 0.25).abs().max()) > 0.01


def test_the_attack_is_that_of_trades() -> None:
    model = network()
    minibatch = batch(model, 1)
    attacks = []
    for kind, config in ((LikeTrades, TradesConfig(attack=ATTACK)), (Ikl, CONFIG)):
        objective = make_objective(config, lambda: FP32.attacked_network(model))
        assert isinstance(objective, kind)
        attacks.append(objective.attack(0.5))
    assert attacks[0] == attacks[1]
    assert not torch.equal(attacked_by(objective, model, minibatch), minibatch.images)


def learner_of(model: nn.Module) -> BaseLearner:
    config = replace(CONFIG, lr=0.05, awp=0.01)
    return BaseLearner(LearnerSteps("a", 1, 10), model, config)


def test_a_restored_learner_goes_on_with_the_same_means() -> None:
    whole, second = learner_of(network()), learner_of(network())
    for t in range(1, 4):
        whole.step(batch(network(), t), t)
    saved = {name: tensor.clone() for name, tensor in whole.tensors().items()}
    assert saved["objective/predictions"].shape == (CLASSES, CLASSES)
    second.restore(saved)
    for learner in (whole, second):
        for t in range(4, 6):
            learner.step(batch(network(), t), t)
    ours, theirs = whole.tensors(), second.tensors()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_perturbed_weights_leave_the_means_alone() -> None:
    """With AWP the loss is computed twice in an iteration; its predictions count once."""
    learner, plain = learner_of(network()), network()
    minibatch = batch(network(), 1)
    learner.step(minibatch, 1)
    (sums,) = state_of(learner.objective).values()
    logits = plain(minibatch.images)  # the perturbation is small
    wanted = torch.full((CLASSES, CLASSES), CONFIG.memory / CLASSES)
    for row, label in zip((logits / 4).softmax(1), minibatch.labels.tolist(), strict=True):
        wanted[label] += row.detach()
    torch.testing.assert_close(sums, wanted, rtol=0, atol=0.1)


def test_a_class_that_is_not_seen_for_long_gets_equal_weights() -> None:
    model = network()
    objective = make_objective(replace(CONFIG, memory=0.0), lambda: FP32.attacked_network(model))
    first = batch(model, 1)
    minibatch = Minibatch(first.images, torch.zeros_like(first.labels))
    for t in range(3):
        images = objective.perturb(minibatch, StepContext(1, "a", t, 0.5))
        objective.loss(model, minibatch, images)
    loss, _ = objective.loss(model, first, images)
    assert bool(loss.isfinite())


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"alpha": -1.0}, "--a.alpha -1.0: give 0 … 1000"),
        ({"temperature": 0.0}, "--a.temperature 0.0: give 0.001 … 1000"),
        ({"memory": 1.0}, "--a.memory 1.0: give 0 … below 1"),
    ],
)
def test_ranges(change: dict[str, float], problem: str) -> None:
    assert list(replace(CONFIG, **change).problems("--a")) == [problem]  # type: ignore[arg-type]
