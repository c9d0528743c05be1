from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from objectives.plain_methods import (
    FP32,
    Path,
    attacked_by,
    batch,
    climb,
    cross_entropy,
    divergence,
    gradients,
    network,
    never,
    relative_error,
)
from zipper_dist.config.schedules import Schedule
from zipper_dist.config.schema import AttackConfig
from zipper_dist.config.threat import Norm
from zipper_dist.data import Minibatch
from zipper_dist.objectives import StepContext, make_objective
from zipper_dist.objectives.trades import TradesConfig

# Of the first sixty, that with the steepest flattest pixel, so that rounding turns none.
SEED = 46

# A radius of two steps and a bit: after five, many pixels are at the edge of the ball.
ATTACKS: dict[Norm, AttackConfig] = {
    "linf": AttackConfig(norm="linf", eps=0.12, step_size=0.05, steps=5),
    "l2": AttackConfig(norm="l2", eps=0.5, step_size=0.2, steps=5),
}


def config_of(norm: Norm = "linf", beta: float = 6.0, smoothing: float = 0.0) -> TradesConfig:
    return TradesConfig(beta=beta, label_smoothing=smoothing, attack=ATTACKS[norm])


def plain_attack(
    model: nn.Module, minibatch: Minibatch, attack: AttackConfig, scale: float = 1.0
) -> list[Path]:
    draws = StepContext(1, "a", 3, 0.5).generator(torch.device("cpu"), "trades-start")
    noise = 0.001 * torch.randn(minibatch.images.shape, generator=draws)
    paths = []
    for i in range(len(minibatch.images)):
        x = minibatch.images[i : i + 1]
        with torch.no_grad():
            clean = copy.deepcopy(model).eval()(x)
        start = (x + noise[i : i + 1]).clamp(0, 1)
        paths.append(
            climb(
                model,
                x,
                start,
                lambda logits, clean=clean: divergence(clean, logits).sum(),  # type: ignore[misc]
                never,
                attack.norm,
                scale * attack.eps,
                scale * attack.step_size,
                attack.steps,
            )
        )
    return paths


def plain_loss(
    model: nn.Module, minibatch: Minibatch, images: Tensor, beta: float, smoothing: float
) -> Tensor:
    """Clean images first; each batch has its own BatchNorm statistics."""
    clean = model(minibatch.images)
    attacked = model(images)
    return (
        cross_entropy(clean, minibatch.labels, smoothing)
        + beta * divergence(clean, attacked).mean()
    )


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize(("beta", "smoothing"), [(6.0, 0.0), (1.0, 0.1)])
def test_loss_and_gradient_are_those_of_a_plain_implementation(
    norm: Norm, beta: float, smoothing: float
) -> None:
    model = network()
    plain = copy.deepcopy(model)
    minibatch = batch(model, SEED)
    objective = make_objective(
        config_of(norm, beta, smoothing), lambda: FP32.attacked_network(model)
    )
    paths = plain_attack(plain, minibatch, ATTACKS[norm])
    wanted = torch.cat([path.end for path in paths])
    # Near the clean image the divergence is a difference of nearly equal numbers, so that rounding
    # shows in its gradient: along which L2 goes, and of which L∞ takes the sign.
    assert min(path.flattest for path in paths) > 5e-4
    images = attacked_by(objective, model, minibatch)
    torch.testing.assert_close(images, wanted, rtol=0, atol=1e-5 if norm == "linf" else 1e-3)
    if norm == "l2":
        wanted = images
    loss, logits = objective.loss(model, minibatch, images)
    plainly = plain_loss(plain, minibatch, wanted, beta, smoothing)
    assert loss.item() == pytest.approx(plainly.item(), rel=1e-5)
    assert relative_error(gradients(loss, model), gradients(plainly, plain)) < 1e-5
    # The running statistics have seen both batches, one after the other.
    for name, buffer in plain.named_buffers():
        torch.testing.assert_close(model.get_buffer(name), buffer)
    # The accuracy that a learner reports is that under its attack.
    with torch.no_grad():
        torch.testing.assert_close(logits, plain(wanted), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_images_compared_are_at_the_edge_of_the_ball(norm: Norm) -> None:
    model = network()
    minibatch = batch(model, SEED)
    attack = ATTACKS[norm]
    ends, freer = (
        torch.cat([path.end for path in plain_attack(model, minibatch, each)])
        for each in (attack, replace(attack, eps=2 * attack.eps))
    )
    # Every image would have gone further.
    assert bool(((ends - freer).flatten(1).abs().amax(1) > 0.02).all())
    # Black and white are edges, too.
    delta = ends - minibatch.images
    assert bool(((ends == 0) & (delta < 0)).any())
    assert bool(((ends == 1) & (delta > 0)).any())


def test_the_attack_raises_the_divergence_and_knows_no_labels() -> None:
    model = network()
    minibatch = batch(model, SEED)
    objective = make_objective(config_of(), lambda: FP32.attacked_network(model))
    images = attacked_by(objective, model, minibatch)
    other_labels = replace(minibatch, labels=(minibatch.labels + 1) % 4)
    assert torch.equal(attacked_by(objective, model, other_labels), images)
    still = copy.deepcopy(model).eval()
    with torch.no_grad():
        noise = ATTACKS["linf"].eps * torch.randn_like(images).sign()
        clean, attacked = still(minibatch.images), still(images)
        at_random = still((minibatch.images + noise).clamp(0, 1))
    assert bool((divergence(clean, attacked) > 2 * divergence(clean, at_random)).all())


def test_a_ramp_scales_radius_and_step() -> None:
    model = network()
    minibatch = batch(model, SEED)
    ramp = AttackConfig(eps=0.24, step_size=0.1, steps=5, schedule=Schedule.parse("0:0,1:1"))
    config = TradesConfig(attack=ramp)
    objective = make_objective(config, lambda: FP32.attacked_network(model))
    wanted = torch.cat([path.end for path in plain_attack(model, minibatch, ramp, scale=0.5)])
    torch.testing.assert_close(attacked_by(objective, model, minibatch), wanted, rtol=0, atol=1e-5)


def test_a_ramp_that_starts_at_nothing_leaves_the_images_alone() -> None:
    model = network()
    minibatch = batch(model, SEED)
    nothing = AttackConfig(schedule=Schedule.parse("0:0,1:1"))
    config = TradesConfig(attack=nothing)
    objective = make_objective(config, lambda: FP32.attacked_network(model))
    assert torch.equal(attacked_by(objective, model, minibatch, progress=0.0), minibatch.images)


def test_beta_is_6_unless_it_is_given() -> None:
    model = network()
    minibatch = batch(model, SEED)
    losses = []
    for config in (TradesConfig(), config_of(beta=6.0)):
        objective = make_objective(config, lambda: FP32.attacked_network(model))
        with torch.no_grad():
            losses.append(objective.loss(model, minibatch, minibatch.images * 0.9)[0])
    assert torch.equal(*losses)
