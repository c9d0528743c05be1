from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from objectives.plain_methods import (
    FP32,
    Path,
    attacked_by,
    batch,
    climb,
    gradients,
    network,
    never,
    relative_error,
)
from zipper_dist.config.schema import AttackConfig
from zipper_dist.data import Minibatch
from zipper_dist.objectives import StepContext, make_objective
from zipper_dist.objectives.score import ScoreConfig

# Of the first sixty, that with the steepest flattest pixel, so that rounding turns none.
SEED = 20
CLIP = 0.75
ATTACK = AttackConfig(eps=0.12, step_size=0.05, steps=5)


def probabilities(logits: Tensor) -> Tensor:
    powers = logits.double().exp()
    return powers / powers.sum(1, keepdim=True)


def plain_loss(
    model: nn.Module, minibatch: Minibatch, images: Tensor, config: ScoreConfig
) -> Tensor:
    """Image by image, class by class."""
    clean, attacked = probabilities(model(minibatch.images)), probabilities(model(images))
    losses = []
    for p, q, label in zip(clean, attacked, minibatch.labels.tolist(), strict=True):
        loss = torch.zeros((), dtype=torch.float64)
        for k in range(len(p)):
            wanted = (k == label) * (1 - config.label_smoothing) + config.label_smoothing / len(p)
            loss = loss + (p[k] - wanted) ** 2 + config.beta * (p[k] - q[k]) ** 2
        missing = [config.clip] + [config.clip / (len(p) - 1)] * (len(p) - 1)
        losses.append(torch.clamp(loss - sum(m**2 for m in missing), min=0))
    return torch.stack(losses).mean()


def plain_attack(model: nn.Module, minibatch: Minibatch) -> list[Path]:
    draws = StepContext(1, "a", 3, 0.5).generator(torch.device("cpu"), "score-start")
    noise = 0.001 * torch.randn(minibatch.images.shape, generator=draws)
    model = copy.deepcopy(model).double()
    paths = []
    for i in range(len(minibatch.images)):
        x = minibatch.images[i : i + 1].double()
        with torch.no_grad():
            clean = probabilities(copy.deepcopy(model).eval()(x))

        def error(logits: Tensor, clean: Tensor = clean) -> Tensor:
            return ((probabilities(logits) - clean) ** 2).sum()

        start = (x + noise[i : i + 1].double()).clamp(0, 1)
        step = (ATTACK.eps, ATTACK.step_size, ATTACK.steps)
        paths.append(climb(model, x, start, error, never, "linf", *step))
    return paths


@pytest.mark.parametrize(
    ("beta", "smoothing", "clip"), [(6.0, 0.0, 0.0), (4.0, 0.1, 0.0), (1.0, 0.0, CLIP)]
)
def test_loss_and_gradient_are_those_of_a_plain_implementation(
    beta: float, smoothing: float, clip: float
) -> None:
    model = network()
    minibatch = batch(model, SEED)
    config = ScoreConfig(beta=beta, label_smoothing=smoothing, clip=clip, attack=ATTACK)
    objective = make_objective(config, lambda: FP32.attacked_network(model))
    paths = plain_attack(model, minibatch)
    wanted = torch.cat([path.end for path in paths])
    # Or a rounding error could turn a pixel the other way.
    assert min(path.flattest for path in paths) > 1e-4
    images = attacked_by(objective, model, minibatch)
    torch.testing.assert_close(images, wanted.float(), rtol=0, atol=1e-5)

    model = model.double()
    plain = copy.deepcopy(model)
    exact = Minibatch(minibatch.images.double(), minibatch.labels)
    loss, logits = objective.loss(model, exact, wanted)
    plainly = plain_loss(plain, exact, wanted, config)
    assert loss.item() == pytest.approx(plainly.item(), rel=1e-9)
    assert relative_error(gradients(loss, model), gradients(plainly, plain)) < 1e-9
    with torch.no_grad():
        torch.testing.assert_close(logits, plain(wanted))


def test_some_images_of_the_clipped_loss_count_and_some_do_not() -> None:
    model = network().double()
    minibatch = batch(network(), SEED)
    images, labels = minibatch.images.double(), minibatch.labels
    bound = CLIP**2 + 3 * (CLIP / 3) ** 2
    with torch.no_grad():
        misplaced = probabilities(model(images)) - torch.eye(4, dtype=torch.float64)[labels]
    assert 0 < int((misplaced.square().sum(1) < bound).sum()) < len(labels)
