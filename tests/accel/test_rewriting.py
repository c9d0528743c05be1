"""What a rewritten network computes is what it computed before."""

from __future__ import annotations

import copy
from typing import Any
from unittest import mock

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from zipper_dist.accel.precision import Acceleration
from zipper_dist.accel.rewriting import rewrite
from zipper_dist.accel.side_by_side import Conv2d, lay_side_by_side
from zipper_dist.accel.surrogate import Surrogate
from zipper_dist.models import ModelSpec, build


def exchanged(convolution: nn.Conv2d) -> Conv2d:
    """A copy of ``convolution`` that lays images side by side."""
    copied = copy.deepcopy(convolution)
    lay_side_by_side(copied)
    assert isinstance(copied, Conv2d)
    return copied


class Functions(nn.Module):
    """ReLU and max-pooling in other spellings."""

    def __init__(self, pool_reads_alone: bool = True) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(1, 4, 3)
        self.pool_reads_alone = pool_reads_alone

    def forward(self, x: Tensor) -> Tensor:
        before = self.convolution(x)
        rectified = F.relu(before)
        pooled: Tensor = F.max_pool2d(rectified, 2)
        if self.pool_reads_alone:
            return torch.flatten(pooled, 1)
        both: Tensor = torch.flatten(pooled, 1) + before.sum((1, 2, 3))[:, None]
        return both


def order(network: nn.Module) -> list[str]:
    """What a rewritten network calls, in order."""
    graph, _ = rewrite(network)
    return [node.name.rpartition("extractor_")[2] for node in graph.graph.nodes]


def gradient(network: nn.Module, images: Tensor) -> Tensor:
    images = images.clone().requires_grad_()
    torch.manual_seed(0)
    logits = network(images)
    (gradient,) = torch.autograd.grad((logits * torch.randn(logits.shape)).sum(), images)
    return gradient


def test_max_pooling_goes_before_relu() -> None:
    names = order(build(ModelSpec("small_cnn", 1, 28, 28, 10)))
    for pool, relu in (("maxpool1", "relu2"), ("maxpool2", "relu4")):
        assert names.index(relu) == names.index(pool) + 1


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 2**20), coarse=st.booleans())
def test_pooling_first_changes_no_bit_of_logits_or_gradient(seed: int, coarse: bool) -> None:
    torch.manual_seed(seed)
    for network in (
        nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, padding=1)),
        Functions(),
        Functions(pool_reads_alone=False),
    ):
        # Coarse numbers make ties, where the gradient has to go to the same pixel.
        images = torch.randint(0, 2, (2, 1, 9, 9)).float() if coarse else torch.rand(2, 1, 9, 9)
        rewritten = Surrogate(network.eval())
        with mock.patch("zipper_dist.accel.rewriting.pool_before_relu"):
            before = Surrogate(network)
        assert torch.equal(rewritten(images), before(images))
        assert torch.equal(gradient(rewritten, images), gradient(before, images))


def test_a_relu_whose_input_others_read_stays_where_it_is() -> None:
    names = order(Functions(pool_reads_alone=False))
    relu, pool = (next(i for i, n in enumerate(names) if part in n) for part in ("relu", "pool"))
    assert relu < pool


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@settings(deadline=None, max_examples=25)
@given(
    batch=st.integers(1, 40),
    pixels=st.integers(1, 8),
    stride=st.integers(1, 3),
    kernel=st.sampled_from([3, 5]),
    bias=st.booleans(),
)
def test_images_side_by_side_do_not_see_each_other(
    dtype: torch.dtype, batch: int, pixels: int, stride: int, kernel: int, bias: bool
) -> None:
    torch.manual_seed(batch)
    plain = nn.Conv2d(256, 256, kernel, stride, kernel // 2, bias=bias)
    plain = plain.to(dtype).to(memory_format=torch.channels_last)
    ours = exchanged(plain)
    x = torch.randn(batch, 256, pixels, pixels + 1).to(dtype)
    x = x.to(memory_format=torch.channels_last)
    with torch.no_grad():
        wanted, found = plain(x), ours(x)
    assert found.shape == wanted.shape
    # Rounding of sums of up to 6400 products; an image that sees another is off by some 0.1.
    torch.testing.assert_close(
        found, wanted, rtol=0, atol=1e-4 if dtype == torch.float32 else 2**-5
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_image_has_the_same_result_to_the_bit_among_any_number_of_others(
    dtype: torch.dtype,
) -> None:
    # An evaluation says the same in one process and in several, and promises at least two images.
    torch.manual_seed(0)
    layer = Conv2d(256, 256, 3, padding=1).to(dtype).to(memory_format=torch.channels_last)
    x = torch.randn(64, 256, 4, 4).to(dtype).to(memory_format=torch.channels_last)
    with torch.no_grad():
        together = layer(x)
        for size in range(2, 40):
            assert torch.equal(layer(x[:size]), together[:size]), size


def test_gradients_of_the_weights_and_the_images_side_by_side() -> None:
    torch.manual_seed(0)
    plain = nn.Conv2d(256, 256, 3, padding=1)
    ours = exchanged(plain)
    x = torch.randn(24, 256, 4, 4, requires_grad=True)
    gradients = []
    for layer in (plain, ours):
        loss = layer(x).square().sum()
        assert layer.bias is not None
        gradients.append(torch.autograd.grad(loss, [x, layer.weight, layer.bias]))
    for found, wanted in zip(gradients[1], gradients[0], strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-3)


def test_the_detour_is_taken_where_it_was_measured_to_pay(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes: list[tuple[int, ...]] = []
    convolution = F.conv2d

    def seen(x: Tensor, *rest: Any) -> Tensor:
        shapes.append(tuple(x.shape))
        found: Tensor = convolution(x, *rest)
        return found

    monkeypatch.setattr("zipper_dist.accel.side_by_side.F.conv2d", seen)
    network = build(ModelSpec("resnet18", 3, 32, 32, 10)).eval()
    lay_side_by_side(network)
    with torch.no_grad():
        network(torch.rand(32, 3, 32, 32))
    # Twice sixteen maps of 4×4, each with a column of zeros, and of 8×8 with two for a stride of 2.
    assert shapes.count((2, 512, 4, 80)) == 3
    assert shapes.count((2, 256, 8, 160)) == 1
    assert all(shape[0] == 32 for shape in shapes if shape[1] < 256)


def test_a_convolution_of_another_kind_is_left_alone() -> None:
    torch.manual_seed(0)
    x = torch.randn(4, 256, 4, 4)
    for plain in (
        nn.Conv2d(256, 256, 3, padding="same"),
        nn.Conv2d(256, 256, 3, padding=1, groups=2),
        nn.Conv2d(256, 256, 3, padding=2, dilation=2),
        nn.Conv2d(256, 256, 3, padding=1, padding_mode="circular"),
        nn.Conv2d(256, 256, 3),
    ):
        assert torch.equal(exchanged(plain)(x), plain(x))


class CentredConv2d(nn.Conv2d):
    """A convolution that makes the weights it uses from its parameters (weight standardisation)."""

    def forward(self, input: Tensor) -> Tensor:
        spread = self.weight.flatten(1).std(1)[:, None, None, None]
        weight = (self.weight - self.weight.mean((1, 2, 3), keepdim=True)) / spread
        return F.conv2d(input, weight, self.bias, self.stride, 1)


def test_a_convolution_that_makes_its_own_weights_computes_what_it_did() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(CentredConv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Flatten())
    network(5 * torch.rand(64, 1, 6, 6))  # gives BatchNorm statistics that are not trivial
    images = torch.rand(3, 1, 6, 6)
    torch.testing.assert_close(Surrogate(network.eval())(images), network(images))


def test_exchanged_convolutions_keep_names_parameters_and_results() -> None:
    torch.manual_seed(0)
    network = build(ModelSpec("resnet18", 3, 8, 8, 4, 0.125))
    state, names = dict(network.named_parameters()), list(network.state_dict())
    images = torch.rand(4, 3, 8, 8)
    wanted = network.eval()(images)
    lay_side_by_side(network)
    kinds = {type(module) for module in network.modules() if isinstance(module, nn.Conv2d)}
    assert kinds == {Conv2d}
    assert list(network.state_dict()) == names
    assert all(p is state[name] for name, p in network.named_parameters())
    # Too few channels for anything to be laid side by side.
    assert torch.equal(network(images), wanted)


def test_convolutions_with_hooks_and_on_other_devices_stay() -> None:
    hooked = nn.Conv2d(1, 1, 3)
    hooked.register_forward_hook(lambda module, images, out: 2 * out)
    network = nn.Sequential(hooked, nn.Conv2d(1, 1, 3, device="meta"))
    lay_side_by_side(network)
    assert [type(module) for module in network] == [nn.Conv2d, nn.Conv2d]


def test_a_training_step_uses_them_and_shares_the_parameters() -> None:
    network = nn.Sequential(nn.Conv2d(1, 1, 3))
    weight = next(network.parameters())
    trained = Acceleration("fp32").training_network(network)
    assert [type(module) for module in trained.children()] == [Conv2d]
    assert next(trained.parameters()) is weight
