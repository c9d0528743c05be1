"""A chain with the images innermost computes what the network does, wherever an image is."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from zipper_dist.chains import MOST_CHANNELS, chain_of
from zipper_dist.innermost import Chain
from zipper_dist.models import ModelSpec, build
from zipper_dist.rewriting import rewrite


def chain(network: nn.Module) -> Chain | None:
    return chain_of(rewrite(network.eval().requires_grad_(False))[0])


def gradient(network: nn.Module | Chain, images: Tensor) -> Tensor:
    images = images.detach().clone().requires_grad_()
    (found,) = torch.autograd.grad(network(images).logsumexp(1).sum(), images)
    return found


def layers(
    channels: int, kernel: tuple[int, int], padding: tuple[int, int], size: int
) -> nn.Module:
    convolutions = [
        nn.Conv2d(channels, 5, kernel, padding=padding),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(5, 7, 3, padding=1, bias=False),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Flatten(),
    ]
    features = nn.Sequential(*convolutions)(torch.zeros(2, channels, size, size + 3)).shape[1]
    return nn.Sequential(*convolutions, nn.Linear(features, 9), nn.ReLU(), nn.Linear(9, 4))


@settings(max_examples=40, deadline=None)
@given(
    channels=st.integers(1, 3),
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    size=st.integers(6, 13),
    images=st.integers(1, 70),
    seed=st.integers(0, 2**31),
    data=st.data(),
)
def test_logits_and_gradients_are_the_networks(
    channels: int, kernel: tuple[int, int], size: int, images: int, seed: int, data: st.DataObject
) -> None:
    """Odd sizes, kernels that are not square, padding, batches that are filled up."""
    torch.manual_seed(seed)
    padding = tuple(data.draw(st.integers(0, k - 1)) for k in kernel)
    network = layers(channels, kernel, (padding[0], padding[1]), size).eval()
    x = torch.rand(images, channels, size, size + 3, dtype=torch.float32)
    expected, expected_gradient = network(x), gradient(network, x)
    found = chain(network)
    assert found is not None
    torch.testing.assert_close(found(x), expected, rtol=1e-4, atol=1e-5)
    # Where two numbers of a pool differ by rounding alone, the gradient may go to the other.
    apart = (gradient(found, x) - expected_gradient).abs() > 1e-5 + 1e-3 * expected_gradient.abs()
    assert float(apart.float().mean()) < 1e-3


def test_equal_numbers_send_the_gradient_where_torch_does() -> None:
    """All numbers are small integers, so that nothing is rounded and many are equal."""
    torch.manual_seed(0)
    network = layers(1, (2, 2), (0, 0), 9).eval()
    for parameter in network.parameters():
        parameter.data = torch.randint(-1, 2, parameter.shape).float()
    x = torch.randint(0, 2, (20, 1, 9, 12)).float()
    x.requires_grad_()
    (expected,) = torch.autograd.grad(network(x).sum(), x)
    found = chain(network)
    assert found is not None
    assert torch.equal(torch.autograd.grad(found(x).sum(), x)[0], expected)
    assert (expected != 0).any()


def test_an_image_gets_the_same_bits_wherever_it_is_in_whatever_batch() -> None:
    torch.manual_seed(0)
    network = build(ModelSpec("small_cnn", 1, 28, 28, 10, 0.25)).eval()
    nn.init.normal_(network.classifier.fc3.weight)  # type: ignore[union-attr,arg-type]
    found = chain(network)
    assert found is not None
    x = torch.rand(100, 1, 28, 28)
    logits, slopes = found(x), gradient(found, x)
    for first, images in ((0, 1), (1, 2), (5, 17), (9, 31), (16, 33), (30, 50), (3, 97)):
        part = slice(first, first + images)
        assert torch.equal(found(x[part]), logits[part])
        assert torch.equal(gradient(found, x[part]), slopes[part])
    assert found(x[:0]).shape == (0, 10)
    assert not found(x).requires_grad


class Shortcut(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3, padding=1)
        self.last = nn.Linear(4 * 36, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.one(x)
        logits: Tensor = self.last(torch.flatten(y + self.two(y), 1))
        return logits


@pytest.mark.parametrize(
    "network",
    [
        Shortcut(),
        nn.Sequential(nn.Conv2d(1, MOST_CHANNELS + 1, 3), nn.Flatten(), nn.Linear(612, 3)),
        nn.Sequential(nn.Conv2d(1, 4, 3, stride=2), nn.Flatten(), nn.Linear(36, 3)),
        nn.Sequential(nn.Conv2d(1, 4, 3, padding=3), nn.Flatten(), nn.Linear(576, 3)),
        nn.Sequential(nn.Conv2d(1, 4, 3), nn.MaxPool2d(3, 2), nn.Flatten(), nn.Linear(16, 3)),
        nn.Sequential(nn.Conv2d(1, 4, 3), nn.Linear(6, 3), nn.Flatten()),
        nn.Sequential(nn.Conv2d(1, 4, 3), nn.Sigmoid(), nn.Flatten(), nn.Linear(144, 3)),
        nn.Sequential(nn.Flatten(), nn.Linear(64, 3)),
        nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(144, 3)).double(),
    ],
    ids=str,
)
def test_other_networks_are_no_chain(network: nn.Module) -> None:
    assert chain(network) is None


def test_a_layer_that_does_more_than_its_class_says_is_no_chain() -> None:
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(144, 3))
    assert chain(copy.deepcopy(network)) is not None
    network[0].register_forward_hook(lambda module, args, output: 2 * output)
    assert chain(network) is None
