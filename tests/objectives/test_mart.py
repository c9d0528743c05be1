from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from objectives.plain_methods import (
    FP32,
    attacked_by,
    batch,
    divergence,
    gradients,
    network,
    relative_error,
)
from zipper_dist.config.schema import AttackConfig
from zipper_dist.data import Minibatch
from zipper_dist.objectives import make_objective
from zipper_dist.objectives.at import AtConfig
from zipper_dist.objectives.mart import MartConfig, boosted_cross_entropy

ATTACK = AttackConfig(eps=0.12, step_size=0.05, steps=4)


def plain_margin(logits: Tensor, labels: Tensor) -> Tensor:
    """-log p_y - log(1 - max_{k≠y} p_k), image by image, from the probabilities."""
    losses = []
    for row, label in zip(logits.double().exp(), labels.tolist(), strict=True):
        p = row / row.sum()
        others = torch.cat([p[:label], p[label + 1 :]])
        losses.append(-p[label].log() - (1 - others.max()).log())
    return torch.stack(losses).mean()


def plain_loss(model: nn.Module, minibatch: Minibatch, images: Tensor, weight: float) -> Tensor:
    clean, attacked = model(minibatch.images), model(images)
    p = clean.exp() / clean.exp().sum(1, keepdim=True)
    doubt = 1 - p[torch.arange(len(p)), minibatch.labels]
    robust = (divergence(clean, attacked) * doubt).mean()
    result: Tensor = plain_margin(attacked, minibatch.labels) + weight * robust
    return result


@pytest.mark.parametrize("beta", [None, 5.0, 1.0])
def test_loss_and_gradient_are_those_of_a_plain_implementation(beta: float | None) -> None:
    model = network()
    plain = copy.deepcopy(model)
    minibatch = batch(model, 1)
    config = MartConfig(attack=ATTACK)
    if beta is not None:
        config = replace(config, beta=beta)
    objective = make_objective(config, lambda: FP32.attacked_network(model))
    images = attacked_by(objective, model, minibatch)
    loss, logits = objective.loss(model, minibatch, images)
    plainly = plain_loss(plain, minibatch, images, beta or 5.0)
    assert loss.item() == pytest.approx(plainly.item(), rel=1e-5)
    assert relative_error(gradients(loss, model), gradients(plainly, plain)) < 1e-5
    with torch.no_grad():
        torch.testing.assert_close(logits, plain(images), rtol=1e-4, atol=1e-4)
    # Some are misclassified, some are not, or half of the margin would not be looked at.
    right = logits.argmax(1) == minibatch.labels
    assert bool(right.any())
    assert not bool(right.all())


def test_the_attack_is_that_of_adversarial_training() -> None:
    model = network()
    minibatch = batch(model, 1)
    images = [
        attacked_by(
            make_objective(
                config,
                lambda: FP32.attacked_network(model),
            ),
            model,
            minibatch,
        )
        for config in (MartConfig(attack=ATTACK), AtConfig(attack=ATTACK))
    ]
    assert torch.equal(*images)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32), classes=st.integers(2, 6), size=st.integers(1, 5),
    scale=st.floats(0.1, 3),  # beyond, 1 - p of the plain code has lost its digits
)  # fmt: skip
def test_the_margin(seed: int, classes: int, size: int, scale: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(size, classes, generator=generator, dtype=torch.float64)
    labels = torch.randint(classes, (size,), generator=generator)
    found, wanted = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    losses = boosted_cross_entropy(found, labels), plain_margin(wanted, labels)
    assert losses[0].item() == pytest.approx(losses[1].item(), rel=1e-7)
    pairs = zip(losses, (found, wanted), strict=True)
    torch.testing.assert_close(*(torch.autograd.grad(loss, leaf)[0] for loss, leaf in pairs))


def test_the_margin_of_a_certain_mistake_is_finite() -> None:
    # In fp32 the wrong class has a probability of exactly 1, and log(1 - 1) would be infinite.
    logits = torch.tensor([[200.0, 0.0, -100.0]], requires_grad=True)
    assert logits.softmax(1)[0, 0].item() == 1
    loss = boosted_cross_entropy(logits, torch.tensor([1]))
    assert loss.item() == pytest.approx(400)
    loss.backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert bool(logits.grad.isfinite().all())
    assert bool(logits.grad.any())
