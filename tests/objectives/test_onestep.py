from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from objectives.plain_methods import (
    FP32,
    attacked_by,
    batch,
    cross_entropy,
    gradients,
    network,
    relative_error,
)
from zipper_dist.config.schedules import Schedule
from zipper_dist.config.schema import AttackConfig
from zipper_dist.data import Minibatch
from zipper_dist.objectives import OBJECTIVES, StepContext, make_objective
from zipper_dist.objectives.at import AtConfig
from zipper_dist.objectives.onestep import NfgsmConfig, RsfgsmConfig

SEED = 18
EPS = 0.1
RSFGSM = RsfgsmConfig(attack=AttackConfig(eps=EPS, step_size=1.25 * EPS, steps=1))
NFGSM = NfgsmConfig(attack=AttackConfig(eps=EPS, step_size=EPS, steps=1))
L2 = AttackConfig(norm="l2", eps=0.8, step_size=0.6, steps=1)


def plain_images(model: nn.Module, minibatch: Minibatch, config: RsfgsmConfig) -> Tensor:
    """Noise, cut to [0, 1]; a step along the sign; RS-FGSM's back into the ball; cut to [0, 1]."""
    eps = config.attack.eps
    radius = config.noise * eps if isinstance(config, NfgsmConfig) else eps
    draws = StepContext(1, "a", 3, 0.5).generator(torch.device("cpu"), "pgd-start")
    x = minibatch.images
    noise = torch.empty_like(x).uniform_(-radius, radius, generator=draws)
    x, still = x.double(), copy.deepcopy(model).double().eval()
    begin = (x + noise.double()).clamp(0, 1).requires_grad_()
    (gradient,) = torch.autograd.grad(cross_entropy(still(begin), minibatch.labels), begin)
    # Or a rounding error could turn a pixel the other way.
    sizes = gradient.abs().flatten(1)
    assert float((sizes.amin(1) / sizes.amax(1)).min()) > 1e-5
    delta = begin.detach() + config.attack.step_size * gradient.sign() - x
    if not isinstance(config, NfgsmConfig):
        delta = delta.clamp(-eps, eps)
    return (x + delta).clamp(0, 1)


@pytest.mark.parametrize("config", [RSFGSM, NFGSM, replace(NFGSM, noise=0.5)])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_images_loss_and_gradient_are_those_of_a_plain_implementation(
    config: RsfgsmConfig, smoothing: float
) -> None:
    config = replace(config, label_smoothing=smoothing)
    model = network()
    minibatch = batch(model, SEED)
    objective = make_objective(config, lambda: FP32.attacked_network(model))
    wanted = plain_images(model, minibatch, config)
    images = attacked_by(objective, model, minibatch)
    torch.testing.assert_close(images.double(), wanted, rtol=0, atol=1e-6)

    model = model.double()
    plain = copy.deepcopy(model)
    loss, logits = objective.loss(model, minibatch, wanted)
    plain_logits = plain(wanted)
    plainly = cross_entropy(plain_logits, minibatch.labels, smoothing)
    assert loss.item() == pytest.approx(plainly.item(), rel=1e-9)
    assert relative_error(gradients(loss, model), gradients(plainly, plain)) < 1e-9
    torch.testing.assert_close(logits, plain_logits)


def test_the_noise_of_nfgsm_leaves_the_ball_and_rsfgsm_does_not() -> None:
    model = network()
    minibatch = batch(model, SEED)
    furthest = {}
    for config in (RSFGSM, NFGSM):
        objective = make_objective(config, lambda: FP32.attacked_network(model))
        delta = attacked_by(objective, model, minibatch) - minibatch.images
        furthest[config.objective] = float(delta.abs().max())
    assert furthest["rsfgsm"] <= EPS + 1e-6
    assert 2.5 * EPS < furthest["nfgsm"] <= 3 * EPS + 1e-6


def test_rsfgsm_is_at_with_one_step() -> None:
    model = network()
    minibatch = batch(model, SEED)
    images = [
        attacked_by(make_objective(each, lambda: FP32.attacked_network(model)), model, minibatch)
        for each in (RSFGSM, AtConfig(attack=RSFGSM.attack))
    ]
    assert torch.equal(*images)


def test_in_l2_noise_and_step_have_the_lengths_that_are_given() -> None:
    model = network()
    minibatch = batch(model, SEED)
    grey = Minibatch(0.4 + 0.2 * minibatch.images, minibatch.labels)  # nothing is cut
    objective = make_objective(replace(NFGSM, attack=L2), lambda: FP32.attacked_network(model))
    lengths = (attacked_by(objective, model, grey) - grey.images).flatten(1).norm(dim=1)
    assert bool((lengths <= 2 * 0.8 + 0.6 + 1e-5).all())
    assert bool((lengths > 0.8).any())


@pytest.mark.parametrize("config", [RSFGSM, NFGSM])
def test_a_ramp_scales_noise_and_step(config: RsfgsmConfig) -> None:
    model = network()
    minibatch = batch(model, SEED)
    full = AttackConfig(eps=EPS, step_size=config.attack.step_size, steps=1)
    ramp = AttackConfig(eps=2 * EPS, step_size=2 * full.step_size, steps=1)
    ramp = replace(ramp, schedule=Schedule.parse("0:0,1:1"))
    images = [
        attacked_by(
            make_objective(replace(config, attack=attack), lambda: FP32.attacked_network(model)),
            model,
            minibatch,
        )
        for attack in (full, ramp)
    ]
    torch.testing.assert_close(*images, rtol=0, atol=1e-6)


@pytest.mark.parametrize("objective", ["rsfgsm", "nfgsm"])
def test_one_step_it_is(objective: str) -> None:
    config = OBJECTIVES[objective].Config(objective=objective)
    assert list(config.problems("--a")) == []
    assert config.passes() == 5
    assert isinstance(config, RsfgsmConfig)
    (problem,) = replace(config, attack=replace(config.attack, steps=7)).problems("--a")
    length = "0.03922" if objective == "rsfgsm" else "0.03137"
    assert problem.startswith(f"--a.attack.steps 7: {objective} takes one step: give 1, and ")
    assert f"--a.attack.step-size {length}" in problem


def test_the_range_of_the_noise() -> None:
    (problem,) = replace(NFGSM, noise=-1.0).problems("--a")
    assert problem == "--a.noise -1.0: give 0 … 1000"
