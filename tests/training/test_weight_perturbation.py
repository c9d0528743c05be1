from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from objectives.plain_methods import CLASSES, batch, network, relative_error
from torch import Tensor, nn

from zipper_dist.config.schema import AttackConfig
from zipper_dist.data import Minibatch
from zipper_dist.models import ModelSpec, build
from zipper_dist.objectives import OBJECTIVES, LearnerSteps, StepContext
from zipper_dist.rng import seed_global_generators
from zipper_dist.training.learner import BaseLearner
from zipper_dist.training.learner.flat_state import FlatState
from zipper_dist.training.learner.weight_perturbation import WeightPerturbation

GAMMA = 0.02
LR = 0.1
ATTACK = AttackConfig(eps=0.12, step_size=0.05, steps=3)
ATTACKING = ("at", "trades", "fat", "mart")


def with_dropout() -> nn.Module:
    """The small network, with dropout before its last layer."""
    model = network()
    assert isinstance(model, nn.Sequential)
    return nn.Sequential(*list(model)[:-1], nn.Dropout(0.3), model[-1])


def learner_of(objective: str, awp: float) -> BaseLearner:
    kind: Any = OBJECTIVES[objective].Config
    config = kind(lr=LR, momentum=0.0, weight_decay=0.0, attack=ATTACK, awp=awp)
    return BaseLearner(LearnerSteps("a", 1, 10), with_dropout(), config)


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """What is perturbed: the weights of convolutions and linear layers."""
    return {
        f"{name}.weight": module.weight
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear)
    }


@pytest.mark.parametrize("objective", ATTACKING)
def test_a_step_is_that_of_a_plain_implementation(objective: str) -> None:
    learner = learner_of(objective, GAMMA)
    # The plain one has a second network to perturb, as the public release has.
    model: nn.Module = copy.deepcopy(learner.state.model).train()
    proxy = copy.deepcopy(model)
    minibatch = batch(network(), 1)
    images = learner.objective.perturb(minibatch, StepContext(1, "a", 3, 0.3))
    result = learner.step(minibatch, 3)

    seed_global_generators(1, "modules of awp", "a", 3)  # what dropout draws from
    torch.autograd.backward(learner.objective.loss(proxy, minibatch, images)[0])
    with torch.no_grad():
        for weight in weights_of(proxy).values():
            assert weight.grad is not None
            weight += GAMMA * weight.norm() * weight.grad / weight.grad.norm()
    shifts = {n: w - weights_of(model)[n] for n, w in weights_of(proxy).items()}
    shifted = copy.deepcopy(model)
    for name, weight in weights_of(shifted).items():
        weight.data += shifts[name].detach()
    seed_global_generators(1, "modules", "a", 3)
    loss, _ = learner.objective.loss(shifted, minibatch, images)
    torch.autograd.backward(loss)
    with torch.no_grad():
        for parameter, there in zip(model.parameters(), shifted.parameters(), strict=True):
            assert there.grad is not None
            parameter.sub_(LR * there.grad)
    assert float(result.loss) == pytest.approx(loss.item(), rel=1e-5)
    found = [parameter.detach() for parameter in learner.state.model.parameters()]
    wanted = [parameter.detach() for parameter in model.parameters()]
    assert relative_error(found, wanted) < 1e-5
    # Running statistics: of the pass at the perturbed weights, and of that alone.
    for name, buffer in shifted.named_buffers():
        torch.testing.assert_close(learner.state.model.get_buffer(name), buffer)
    # And it matters.
    without = learner_of(objective, 0.0)
    without.step(minibatch, 3)
    assert not torch.allclose(without.state.flat, learner.state.flat, atol=1e-5)


@contextmanager
def moved(model: nn.Module, gamma: float, loss: Callable[[], Tensor]) -> Iterator[None]:
    """The weights of ``model`` moved along the gradient of ``loss()``."""
    perturbation = WeightPerturbation(model, gamma)
    gradients = torch.autograd.grad(loss(), perturbation.weights)
    with perturbation.along(list(gradients)):
        yield


def test_the_perturbation_has_the_size_and_direction_it_should() -> None:
    model = network()
    FlatState(model)
    before = copy.deepcopy(model)
    minibatch = batch(model, 1)

    def loss() -> Tensor:
        value: Tensor = nn.functional.cross_entropy(model(minibatch.images), minibatch.labels)
        return value

    with torch.no_grad():
        value_before = float(loss())
    with moved(model, GAMMA, loss):
        perturbed = weights_of(model)
        for name, weight in weights_of(before).items():
            size = float((perturbed[name] - weight).detach().norm() / weight.norm())
            assert size == pytest.approx(GAMMA, rel=1e-4)
        others = [n for n, _ in model.named_parameters() if n not in perturbed]
        assert len(others) == 4
        for name in others:
            assert torch.equal(model.get_parameter(name), before.get_parameter(name))
        with torch.no_grad():
            assert float(loss()) > value_before + 0.01


def test_the_weights_come_back_bit_for_bit() -> None:
    model = network().eval()  # the perturbation leaves buffers alone
    state = FlatState(model)
    minibatch = batch(model, 1)
    before = state.state_dict()
    for _ in range(3):
        with moved(model, 0.7, lambda: model(minibatch.images).square().mean()):
            assert not torch.equal(state.state_dict()["0.weight"], before["0.weight"])
        assert all(map(torch.equal, state.state_dict().values(), before.values()))
        assert all(parameter.grad is None for parameter in model.parameters())


def test_the_weights_come_back_after_an_error() -> None:
    model = network().eval()  # the perturbation leaves buffers alone
    before = copy.deepcopy(model.state_dict())
    minibatch = batch(model, 1)
    with (
        pytest.raises(KeyboardInterrupt),
        moved(model, GAMMA, lambda: model(minibatch.images).square().mean()),
    ):
        raise KeyboardInterrupt
    assert all(map(torch.equal, model.state_dict().values(), before.values()))


def test_a_layer_without_a_gradient_stays_where_it_is() -> None:
    model = network()
    minibatch = batch(model, 1)
    last = model[-1]  # type: ignore[index]
    nn.init.zeros_(last.weight)  # as SmallCNN starts: no gradient gets past it
    before = copy.deepcopy(model.state_dict())
    with moved(model, GAMMA, lambda: model(minibatch.images).sum()):
        assert torch.equal(model.state_dict()["0.weight"], before["0.weight"])
        assert bool(model.state_dict()["0.weight"].isfinite().all())


def test_a_learner_with_it_goes_on_from_a_checkpoint_bit_for_bit() -> None:
    model = network()
    whole = learner_of("trades", GAMMA)
    interrupted = learner_of("trades", GAMMA)
    for t in range(1, 4):
        whole.step(batch(model, t), t)
        interrupted.step(batch(model, t), t)
    saved = {name: tensor.clone() for name, tensor in interrupted.tensors().items()}
    assert saved.keys() == learner_of("trades", 0.0).tensors().keys()  # it has no state
    resumed = learner_of("trades", GAMMA)
    resumed.restore(saved)
    for t in range(4, 7):
        whole.step(batch(model, t), t)
        resumed.step(batch(model, t), t)
    assert torch.equal(whole.state.flat, resumed.state.flat)


@pytest.mark.parametrize("arch", ["small_cnn", "resnet18"])
@pytest.mark.parametrize("awp", [0.0, 0.01])
@pytest.mark.parametrize("objective", ATTACKING)
def test_every_objective_trains_every_kind_of_network(
    objective: str, awp: float, arch: str
) -> None:
    # small_cnn has no buffers, which a perturbation would put back.
    model = build(ModelSpec(arch, 1, 16, 16, CLASSES, 0.05))
    kind: Any = OBJECTIVES[objective].Config
    learner = BaseLearner(LearnerSteps("a", 1, 2), model, kind(attack=ATTACK, awp=awp))
    before = learner.state.flat.clone()
    draws = torch.Generator().manual_seed(0)
    images = torch.rand(4, 1, 16, 16, generator=draws)
    for t in (1, 2):
        result = learner.step(Minibatch(images, torch.arange(4) % CLASSES), t)
        assert bool(result.loss.isfinite())
    assert not torch.equal(before, learner.state.flat)


class Odd(nn.Module):
    """With a weight that is frozen, and one that is not used."""

    def __init__(self) -> None:
        super().__init__()
        self.used = nn.Linear(16, CLASSES)
        self.frozen = nn.Linear(16, CLASSES).requires_grad_(False)
        self.idle = nn.Linear(16, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        logits: Tensor = self.used(x) + self.frozen(x)
        return logits


@pytest.mark.parametrize("awp", [0.0, 0.01])
@pytest.mark.parametrize("objective", ATTACKING)
def test_weights_that_are_frozen_or_idle_stay_as_they_are(objective: str, awp: float) -> None:
    kind: Any = OBJECTIVES[objective].Config
    learner = BaseLearner(LearnerSteps("a", 1, 2), Odd(), kind(attack=ATTACK, awp=awp))
    before = learner.state.state_dict()
    before = {name: tensor.clone() for name, tensor in before.items()}
    learner.step(Minibatch(torch.rand(4, 1, 4, 4), torch.arange(4) % CLASSES), 1)
    for name, tensor in learner.state.state_dict().items():
        assert torch.equal(tensor, before[name]) is not name.startswith("used"), name
