"""Convolutions whose backward pass in torch destroys memory; in processes of their own, which die
of it where nothing is done about it."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from zipper_dist.accel.frozen import frozen_eval_mode
from zipper_dist.accel.layout import needs_plain_layout
from zipper_dist.accel.precision import Acceleration
from zipper_dist.config.schema import AttackConfig
from zipper_dist.data import ImageSet, Loader
from zipper_dist.models import ModelSpec, build
from zipper_dist.objectives import LearnerSteps
from zipper_dist.objectives.at import AtConfig
from zipper_dist.training.learner import BaseLearner

SIZE = 64  # pixels; the smallest at which torch was seen to die


class Derived(nn.Conv2d):
    """Not exchanged for a faster one, because it might compute its weights from others."""


class ByFunction(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(16, channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight, stride=2)


class ByValues(nn.Module):
    """Reads values of its images, which a network without data has none of."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layer = Derived(channels, 16, 1, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x if x.mean().item() < 1 else x / 2)  # type: ignore[no-any-return]


def with_hook(channels: int) -> nn.Module:
    layer = nn.Conv2d(channels, 16, 1, stride=2)
    layer.register_forward_hook(lambda *_: None)
    return layer


LAYERS: dict[str, Callable[[int], nn.Module]] = {
    "plain": lambda channels: nn.Conv2d(channels, 16, 1, stride=2),
    "valid": lambda channels: nn.Conv2d(channels, 16, 1, stride=(2, 1), padding="valid"),
    "circular": lambda channels: nn.Conv2d(channels, 16, 1, stride=3, padding_mode="circular"),
    "derived": lambda channels: Derived(channels, 16, 1, stride=2),
    "hook": with_hook,
    "weight norm": lambda channels: weight_norm(nn.Conv2d(channels, 16, 1, stride=2)),
    "function": ByFunction,
    "values": ByValues,
}


def images(count: int, channels: int, size: int, layout: torch.memory_format) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(count, channels, size, size, generator=generator).to(memory_format=layout)


def gradients(network: nn.Module, x: Tensor) -> list[Tensor]:
    """Those of the weights, and that of the images."""
    x = x.clone().requires_grad_()
    for _ in range(3):  # memory that is destroyed is noticed later
        network.zero_grad()
        network(x).square().mean().backward()
    assert x.grad is not None
    return [x.grad, *(p.grad.clone() for p in network.parameters() if p.grad is not None)]


def check(network: nn.Module, x: Tensor) -> None:
    """A training network has the gradients that it has in double precision."""
    exact = gradients(network.double(), x.double())
    network.float()
    plain = needs_plain_layout(network, x.shape[1:])
    found = gradients(Acceleration(plain_layout=plain).training_network(network), x)
    for ours, theirs in zip(found, exact, strict=True):
        torch.testing.assert_close(ours.double(), theirs, rtol=1e-3, atol=1e-6)


def grid(kernel: int) -> None:
    """Widths, strides, sizes, layouts."""
    torch.set_num_threads(1)
    layouts = (torch.channels_last, torch.contiguous_format)
    cases = itertools.product((3, 8, 20), (4, 16), (1, 2, 3), (17, SIZE), layouts)
    for channels, out, stride, size, layout in cases:
        layer = nn.Conv2d(channels, out, kernel, stride, padding=kernel // 2, bias=False)
        check(layer, images(2, channels, size, layout))


def every_kind_of_layer() -> None:
    torch.set_num_threads(1)
    for make in LAYERS.values():
        check(make(8), images(8, 8, SIZE, torch.channels_last))


def learners() -> None:
    """Two steps of adversarial training, then the gradient that an attack takes."""
    torch.set_num_threads(1)
    pixels = torch.randint(0, 256, (8, 3, SIZE, SIZE), dtype=torch.uint8)
    loader = Loader(ImageSet(pixels, torch.arange(8) % 2), 8, 0)
    config = AtConfig(attack=AttackConfig(steps=1))
    for arch, width in (("resnet18", 0.125), ("preact_resnet18", 0.05)):
        model = build(ModelSpec(arch, 3, SIZE, SIZE, 2, width))
        learner = BaseLearner(LearnerSteps("a", 0, 2), model, config)
        for t in (1, 2):
            assert bool(learner.step(loader.minibatch(t), t).loss.isfinite())
        with frozen_eval_mode(build(ModelSpec(arch, 3, SIZE, SIZE, 2, width))) as network:
            gradients(network, loader.minibatch(1).images)


PARTS: dict[str, list[Callable[[], None]]] = {
    "grid": [lambda: grid(1), lambda: grid(3)],
    "networks": [every_kind_of_layer, learners],
}


@pytest.mark.parametrize("part", PARTS)
def test_training_does_not_destroy_memory(part: str) -> None:
    command = [sys.executable, __file__, part]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_network_is_trained_channels_last_where_that_is_safe() -> None:
    image = (8, SIZE, SIZE)
    for kind, make in LAYERS.items():
        exchanged = kind in ("plain", "valid", "circular")
        assert needs_plain_layout(make(8), image) is not exchanged, kind
        assert not needs_plain_layout(make(16), (16, SIZE, SIZE)), kind
    for arch in ("resnet18", "wrn32_10", "preact_resnet18", "small_cnn"):
        assert not needs_plain_layout(build(ModelSpec(arch, 3, 32, 32, 2, 0.125)), (3, 32, 32))


def test_an_exchanged_convolution_computes_the_same_bits_where_it_was_safe() -> None:
    x = images(4, 16, 32, torch.channels_last)
    layer = nn.Conv2d(16, 16, 1, stride=2)
    before = gradients(layer, x)
    after = gradients(Acceleration().training_network(layer), x)
    assert all(map(torch.equal, before, after))


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    for part in PARTS[sys.argv[1]]:
        part()
