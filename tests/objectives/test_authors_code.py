"""TRADES, FAT and MART as their authors' code has them, against that code in plain words."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from objectives.plain_methods import attacked_by, batch, gradients, network, relative_error
from zipper_dist.accel.precision import AttackedNetwork
from zipper_dist.config.schedules import Schedule
from zipper_dist.config.schema import AttackConfig, LearnerConfig
from zipper_dist.data import Minibatch
from zipper_dist.objectives import Objective, StepContext, make_objective
from zipper_dist.objectives.at import AtConfig
from zipper_dist.objectives.fat import FatConfig
from zipper_dist.objectives.mart import MartConfig
from zipper_dist.objectives.trades import TradesConfig

UNCUT = AttackConfig(eps=0.12, step_size=0.05, steps=4, start="normal-uncut")


def objective_of(config: LearnerConfig, model: nn.Module, fixed_shape: bool = False) -> Objective:
    return make_objective(config, lambda: AttackedNetwork(model, None, fixed_shape))


def generator(purpose: str) -> torch.Generator:
    return StepContext(1, "a", 3, 0.5).generator(torch.device("cpu"), purpose)


def nearest(x_adv: Tensor, x: Tensor, eps: float) -> Tensor:
    return torch.min(torch.max(x_adv, x - eps), x + eps).clamp(0, 1)


def ascent(model: nn.Module, at: Tensor, labels: Tensor | None, clean: Tensor) -> Tensor:
    at = at.detach().requires_grad_()
    logits = model(at)
    if labels is None:
        target = F.softmax(clean, 1)
        loss = F.kl_div(F.log_softmax(logits, 1), target, reduction="sum")
    else:
        loss = F.cross_entropy(logits, labels)
    (gradient,) = torch.autograd.grad(loss, at)
    return gradient.sign()


@pytest.mark.parametrize(
    ("config", "purpose"),
    [
        (TradesConfig(attack=UNCUT), "trades-start"),
        (MartConfig(attack=UNCUT), "pgd-start"),
        (AtConfig(attack=UNCUT), "pgd-start"),
    ],
)
def test_the_start_is_normal_and_not_cut(config: LearnerConfig, purpose: str) -> None:
    model, still = network(), network().eval()
    minibatch = batch(model, 1)
    x = minibatch.images
    labels = None if isinstance(config, TradesConfig) else minibatch.labels
    x_adv = x + 0.001 * torch.randn(x.shape, generator=generator(purpose))
    assert float(x_adv.min()) < 0 < 1 < float(x_adv.max())
    for _ in range(UNCUT.steps):
        direction = ascent(still, x_adv, labels, still(x).detach())
        x_adv = nearest(x_adv + UNCUT.step_size * direction, x, UNCUT.eps)
    found = attacked_by(objective_of(config, model), model, minibatch)
    torch.testing.assert_close(found, x_adv, rtol=0, atol=1e-5)


def first_step(config: LearnerConfig, purpose: str) -> Tensor:
    """Where the gradient of a first step of length 0 is taken, less the clean image."""
    seen: list[Tensor] = []

    class Watching(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            seen.append(images.detach())
            return images.flatten(1)[:, :4]

    model = Watching()
    minibatch = Minibatch(torch.rand(4, 1, 6, 6).round(), torch.arange(4))
    objective_of(config, model).perturb(minibatch, StepContext(1, "a", 3, 0.5))
    return seen[-1] - minibatch.images


@pytest.mark.parametrize(
    ("start", "largest", "cut"), [("uniform", 0.12, True), ("normal", 0.005, True)]
)
def test_starts_are_cut_to_the_pixel_range_otherwise(start: str, largest: float, cut: bool) -> None:
    one = replace(UNCUT, steps=1, start=start)  # type: ignore[arg-type]
    delta = first_step(MartConfig(attack=one), "pgd-start")
    # Of black and white pixels, half of all moves would leave the pixel range.
    assert float(delta.abs().max()) <= largest
    assert float(delta.abs().max()) > largest / 3
    assert (float((delta == 0).float().mean()) > 0.3) == cut


def test_auto_is_what_the_paper_of_the_method_has() -> None:
    one = replace(UNCUT, steps=1, start="auto")
    for config, largest in ((TradesConfig(attack=one), 0.005), (MartConfig(attack=one), 0.12)):
        delta = first_step(config, "")
        assert largest / 3 < float(delta.abs().max()) <= largest


def test_the_third_pass_of_trades_counts_the_clean_images_twice() -> None:
    model = network()
    plain = copy.deepcopy(model)
    minibatch = batch(model, 1)
    images = (minibatch.images + 0.05).clamp(0, 1)
    config = TradesConfig(third_pass=True)
    loss, _ = objective_of(config, model).loss(model, minibatch, images)
    natural = F.cross_entropy(plain(minibatch.images), minibatch.labels)
    log_attacked = F.log_softmax(plain(images), 1)
    target = F.softmax(plain(minibatch.images), 1)
    plainly = natural + 6.0 * F.kl_div(log_attacked, target, reduction="batchmean")
    assert loss.item() == pytest.approx(plainly.item(), rel=1e-5)
    assert relative_error(gradients(loss, model), gradients(plainly, plain)) < 1e-4
    assert model.get_buffer("1.num_batches_tracked") == 3
    for name, buffer in plain.named_buffers():
        torch.testing.assert_close(model.get_buffer(name), buffer)


@pytest.mark.parametrize("fixed_shape", [False, True])
@pytest.mark.parametrize("tau", [0, 1])
def test_fat_adds_noise_with_each_step(tau: int, fixed_shape: bool) -> None:
    model, still = network(), network().eval()
    minibatch = batch(model, 18)
    x, y, omega = minibatch.images, minibatch.labels, 0.02
    attack = AttackConfig(eps=0.12, step_size=0.03, steps=6)
    draws = generator("pgd-start")
    x_adv = nearest(x + torch.empty(x.shape).uniform_(-0.12, 0.12, generator=draws), x, 0.12)
    left, going = torch.full_like(y, tau), torch.ones(len(y), dtype=torch.bool)
    stopped_early = False
    for _ in range(attack.steps):
        wrong = still(x_adv).argmax(1) != y
        going &= ~(wrong & (left == 0))
        left -= wrong.long()
        noise = omega * torch.randn(x.shape, generator=draws)
        moved = x_adv + attack.step_size * ascent(still, x_adv, y, x) + noise
        x_adv = torch.where(going[:, None, None, None], nearest(moved, x, attack.eps), x_adv)
        stopped_early |= 0 < int(going.sum()) < len(y)
    assert stopped_early
    config = FatConfig(tau=Schedule(((0.0, float(tau)),)), omega=omega, attack=attack)
    found = attacked_by(objective_of(config, model, fixed_shape), model, minibatch)
    torch.testing.assert_close(found, x_adv, rtol=0, atol=1e-5)
