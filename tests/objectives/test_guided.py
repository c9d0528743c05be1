"""HAT and LBGAT, with and without a guide."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from objectives.plain_methods import (
    FP32,
    attacked_by,
    batch,
    cross_entropy,
    divergence,
    gradients,
    network,
    relative_error,
)
from zipper_dist.config.schedules import iterations
from zipper_dist.config.schema import AttackConfig
from zipper_dist.data import Minibatch
from zipper_dist.objectives import make_objective
from zipper_dist.objectives.guided import Guided, frozen_guide
from zipper_dist.objectives.hat import HatConfig
from zipper_dist.objectives.lbgat import LbgatConfig
from zipper_dist.objectives.trades import LikeTrades, LikeTradesConfig, TradesConfig

ATTACK = AttackConfig(eps=0.12, step_size=0.05, steps=4)
HAT, LBGAT = HatConfig(attack=ATTACK), LbgatConfig(attack=ATTACK)
SEED = 1


def plain_hat(
    model: nn.Module, guide: nn.Module | None, batch: Minibatch, images: Tensor, config: HatConfig
) -> Tensor:
    clean, attacked = model(batch.images), model(images)
    loss = cross_entropy(clean, batch.labels, config.label_smoothing)
    loss = loss + config.beta * divergence(clean, attacked).mean()
    if guide is None:
        return loss
    helpers = (1 - config.h) * batch.images + config.h * images
    labels = copy.deepcopy(guide).eval()(images).argmax(1)
    return loss + config.gamma * cross_entropy(model(helpers), labels)


def plain_lbgat(
    model: nn.Module, guide: nn.Module | None, batch: Minibatch, images: Tensor, config: LbgatConfig
) -> Tensor:
    clean, attacked = model(batch.images), model(images)
    robust = config.beta * divergence(clean, attacked).mean()
    if guide is None:
        return cross_entropy(attacked, batch.labels, config.label_smoothing) + robust
    wanted = copy.deepcopy(guide).eval()(batch.images).detach()
    errors = [
        (attacked[i, k] - wanted[i, k]) ** 2
        for i in range(attacked.shape[0])
        for k in range(attacked.shape[1])
    ]
    return torch.stack(errors).mean() + robust


@pytest.mark.parametrize("guided", [False, True])
@pytest.mark.parametrize(
    ("plain_loss", "config"),
    [
        (plain_hat, HAT),
        (plain_hat, replace(HAT, beta=1.0, gamma=2.0, h=3.5, label_smoothing=0.1)),
        (plain_lbgat, LBGAT),
        (plain_lbgat, replace(LBGAT, beta=6.0, label_smoothing=0.1)),
    ],
)
def test_loss_and_gradient_are_those_of_a_plain_implementation(
    plain_loss: Any, config: LikeTradesConfig, guided: bool
) -> None:
    model, other = network(), network(seed=7).double()
    single = batch(model, SEED)
    objective = make_objective(config, lambda: FP32.attacked_network(model))
    assert isinstance(objective, Guided)
    if guided:
        objective.guide = frozen_guide(copy.deepcopy(other))
    images = attacked_by(objective, model, single).double()
    minibatch = Minibatch(single.images.double(), single.labels)
    model = model.double()
    plain = copy.deepcopy(model)
    loss, logits = objective.loss(model, minibatch, images)
    plainly = plain_loss(plain, other if guided else None, minibatch, images, config)
    # The divergence is taken in float32.
    assert loss.item() == pytest.approx(plainly.item(), rel=1e-6)
    assert relative_error(gradients(loss, model), gradients(plainly, plain)) < 1e-5
    with torch.no_grad():
        torch.testing.assert_close(logits, plain(images))
        # Or the helper's labels would say nothing that the labels do not.
        labels = copy.deepcopy(other).eval()(images).argmax(1)
    assert bool((labels != minibatch.labels).any())


@pytest.mark.parametrize("config", [HAT, LBGAT])
def test_the_attack_is_that_of_trades(config: LikeTradesConfig) -> None:
    objectives = [
        make_objective(each, lambda: FP32.attacked_network(network()))
        for each in (config, TradesConfig(attack=ATTACK))
    ]
    assert all(isinstance(each, LikeTrades) for each in objectives)
    assert objectives[0].attack(0.5) == objectives[1].attack(0.5)  # type: ignore[attr-defined]


def test_a_guide_has_no_graph_and_stays_as_it_is() -> None:
    other = network(seed=7)
    before = copy.deepcopy(other.state_dict())
    guide = frozen_guide(other)
    images = batch(network(), SEED).images.requires_grad_()
    assert not guide(images).requires_grad
    assert all(torch.equal(before[name], tensor) for name, tensor in other.state_dict().items())


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        (replace(HAT, gamma=-1.0), "--a.gamma -1.0: give 0 … 1000"),
        (replace(HAT, h=-1.0), "--a.h -1.0: give 0 … 1000"),
        (replace(LBGAT, guide_every=iterations(0)), "--a.guide-every 0: give 1 iteration or more"),
        (replace(LBGAT, beta=-1.0), "--a.beta -1.0: give 0 … 1000"),
    ],
)
def test_ranges(config: LikeTradesConfig, problem: str) -> None:
    assert list(config.problems("--a")) == [problem]
