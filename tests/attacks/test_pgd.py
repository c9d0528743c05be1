from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from zipper_dist.accel.frozen import frozen_eval_mode
from zipper_dist.accel.precision import Network
from zipper_dist.attacks import (
    PGD,
    SharedDraws,
    ascend,
    image_gradient,
    make_ball,
    summed_cross_entropy,
)
from zipper_dist.config.threat import Norm

NORMS: tuple[Norm, ...] = ("linf", "l2")
CLASSES = 3


def random_network(seed: int, activation: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    """A small convolutional network with BatchNorm for (B, 2, 6, 6), in training mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(2, 4, 3, padding=1),
            nn.BatchNorm2d(4),
            activation(),
            nn.Conv2d(4, 5, 3),
            activation(),
            nn.Flatten(),
            nn.Linear(5 * 4 * 4, CLASSES),
        )


def random_batch(seed: int, size: int = 4) -> tuple[Tensor, Tensor]:
    """Images (B, 2, 6, 6), many pixels of which are exactly 0 or exactly 1, and labels (B,)."""
    generator = torch.Generator().manual_seed(seed)
    x = (1.5 * torch.rand(size, 2, 6, 6, generator=generator) - 0.25).clamp(0, 1)
    return x, torch.randint(CLASSES, (size,), generator=generator)


def attack(
    model: Network, x: Tensor, y: Tensor, norm: Norm = "linf", steps: int = 3
) -> Iterator[Tensor]:
    return PGD(0.1, norm, 0.03, steps).iterates(model, x, y, draws(5))


def draws(seed: int) -> SharedDraws:
    return SharedDraws(torch.Generator().manual_seed(seed))


@settings(max_examples=40, deadline=None)
@given(
    norm=st.sampled_from(NORMS),
    activation=st.sampled_from((nn.ReLU, nn.Tanh, nn.GELU)),
    seed=st.integers(0, 2**32),
    eps=st.floats(1e-4, 1),
    relative_step=st.floats(0.01, 3),
    steps=st.integers(0, 4),
    random_start=st.booleans(),
)
def test_result_is_exactly_in_the_ball_and_repeatable(
    norm: Norm,
    activation: type[nn.Module],
    seed: int,
    eps: float,
    relative_step: float,
    steps: int,
    random_start: bool,
) -> None:
    model = random_network(seed, activation).eval()
    x, y = random_batch(seed)
    x_before, y_before = x.clone(), y.clone()

    def run() -> Tensor:
        attack = PGD(eps, norm, relative_step * eps, steps, random_start)
        return attack.run(model, x, y, draws(seed))

    x_adv = run()
    delta = (x_adv.double() - x.double()).flatten(1)
    assert (delta.abs().max() if norm == "linf" else delta.norm(dim=1).max()).item() <= eps
    assert x_adv.min().item() >= 0
    assert x_adv.max().item() <= 1
    assert torch.equal(x, x_before)
    assert torch.equal(y, y_before)
    assert torch.equal(run(), x_adv)


@pytest.mark.parametrize("norm", NORMS)
def test_pgd_is_the_last_of_its_steps(norm: Norm) -> None:
    model = random_network(0).eval()
    x, y = random_batch(0)
    iterates = list(attack(model, x, y, norm, steps=4))
    whole = PGD(0.1, norm, 0.03, 4).run(model, x, y, draws(5))
    assert len(iterates) == 4
    assert torch.equal(iterates[-1], whole)
    assert len({iterate.data_ptr() for iterate in iterates}) == 4
    assert not any(iterate.requires_grad for iterate in iterates)
    losses = [F.cross_entropy(model(images), y).item() for images in (x, *iterates)]
    assert losses == sorted(losses)


@pytest.mark.parametrize("norm", NORMS)
def test_zero_steps_give_the_start(norm: Norm) -> None:
    model = random_network(0).eval()
    x, y = random_batch(0)

    def start(random_start: bool) -> Tensor:
        return PGD(0.1, norm, 0.03, 0, random_start).run(model, x, y, draws(1))

    drawn = make_ball(norm, x, 0.1).random_start(torch.Generator().manual_seed(1))
    assert torch.equal(start(True), drawn)
    assert torch.equal(start(False), x)
    assert start(False).data_ptr() != x.data_ptr()


def test_an_image_is_attacked_alike_in_any_batch() -> None:
    model = random_network(0).eval()
    x, y = random_batch(0, size=8)
    loss = summed_cross_entropy(y)
    together = image_gradient(model, x, loss)
    alone = image_gradient(model, x[:1], summed_cross_entropy(y[:1]))
    torch.testing.assert_close(together[:1], alone)
    # bf16 logits, as a network under autocast gives, still make a float32 loss.
    assert loss(model(x).bfloat16()).dtype == torch.float32


def test_ascend_steps_along_the_direction_it_is_given() -> None:
    model = random_network(0).eval()
    x, y = random_batch(0)
    ball = make_ball("linf", x, 0.1)
    going_on = torch.tensor([1.0, 0.0, 1.0, 0.0]).view(4, 1, 1, 1)
    iterates = ascend(
        model, x, ball, summed_cross_entropy(y), [0.03, 0.03], direction=lambda g: g * going_on
    )
    x_adv = list(iterates)[-1]
    assert torch.equal(x_adv[1::2], x[1::2])
    assert bool((x_adv[::2] != x[::2]).flatten(1).any(1).all())


def forward_flops(batch: int) -> int:
    """FLOPs of ``random_network``'s matrix products, by hand: 2 for each multiply-add."""
    first = 4 * 6 * 6 * 2 * 3 * 3
    second = 5 * 4 * 4 * 4 * 3 * 3
    linear = 5 * 4 * 4 * CLASSES
    return 2 * batch * (first + second + linear)


def test_weights_cost_nothing_and_nothing_of_the_network_changes() -> None:
    model = random_network(0)
    model[0].requires_grad_(False)
    model.eval()
    model[2].train()
    flags = [module.training for module in model.modules()]
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    x, y = random_batch(0)

    def network(images: Tensor) -> Tensor:
        # The counter's hooks on modules do not bear the differentiated tensor itself as an input.
        logits: Tensor = model(images.view_as(images))
        return logits

    with FlopCounterMode(display=False) as counter:
        list(attack(network, x, y, steps=3))
    # The gradient of a product's input costs as much as the product; its weights' would as well.
    assert counter.get_total_flops() == 3 * 2 * forward_flops(len(x))
    assert all(parameter.grad is None for parameter in model.parameters())
    assert [parameter.requires_grad for parameter in model.parameters()] == [False] * 2 + [True] * 6
    assert [module.training for module in model.modules()] == flags
    assert all(torch.equal(state[name], tensor) for name, tensor in model.state_dict().items())


def test_frozen_weights_give_the_same_images() -> None:
    model = random_network(0).eval()
    x, y = random_batch(0)
    *_, with_gradients = attack(model, x, y)
    with frozen_eval_mode(model):
        *_, frozen = attack(model, x, y)
    assert torch.equal(with_gradients, frozen)


def test_modes_between_steps_are_the_callers() -> None:
    model = random_network(0).eval()
    x, y = random_batch(0)
    *_, expected = attack(model, x, y, steps=4)
    other = nn.Linear(2, 1)
    steps = attack(model, x, y, steps=4)
    for grad_enabled in (True, False, True, False):
        with torch.set_grad_enabled(grad_enabled):
            x_adv = next(steps)
            assert torch.is_grad_enabled() is grad_enabled
            assert not torch.is_inference_mode_enabled()
            assert not torch.is_autocast_enabled("cpu")
            assert other(torch.ones(1, 2)).requires_grad is grad_enabled
    assert torch.equal(x_adv, expected)


@pytest.mark.parametrize("grad_enabled", [True, False])
def test_an_abandoned_attack_leaves_the_modes_alone(grad_enabled: bool) -> None:
    model = random_network(0).eval()
    x, y = random_batch(0)
    with torch.set_grad_enabled(grad_enabled):
        steps = attack(model, x, y)
        next(steps)
        assert torch.is_grad_enabled() is grad_enabled
        del steps
        assert torch.is_grad_enabled() is grad_enabled
    assert torch.is_grad_enabled()


def test_an_image_that_requires_grad_gets_none() -> None:
    model = random_network(0).eval()
    x, y = random_batch(0)
    x.requires_grad_()
    *_, x_adv = attack(model, x, y)
    assert not x_adv.requires_grad
    assert x.grad is None
