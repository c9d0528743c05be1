"""The gradient of images with few channels is the one of torch's convolution."""

from __future__ import annotations

from typing import Any
from unittest import mock

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from zipper_dist.attacks import image_gradient, summed_cross_entropy
from zipper_dist.models import ModelSpec, build, few_channels
from zipper_dist.models.side_by_side import Conv2d
from zipper_dist.surrogate import Surrogate

DTYPES = [torch.float32, torch.bfloat16]


def layer(channels: int, filters: int, kernel: int, padding: int, dtype: torch.dtype) -> Conv2d:
    torch.manual_seed(0)
    made = Conv2d(channels, filters, kernel, padding=padding).to(dtype).requires_grad_(False)
    return made.to(memory_format=torch.channels_last)


def gradient(convolution: Conv2d, images: Tensor, along: Tensor) -> Tensor:
    images = images.detach().requires_grad_()
    (found,) = torch.autograd.grad(convolution(images), images, along)
    return found


@pytest.mark.parametrize("dtype", DTYPES)
@settings(deadline=None, max_examples=30)
@given(
    batch=st.integers(1, 5),
    channels=st.integers(1, 3),
    kernel=st.sampled_from([1, 3, 5]),
    padding=st.integers(0, 3),
    height=st.integers(5, 9),
    width=st.integers(5, 9),
)
def test_the_gradient_is_that_of_torch(
    dtype: torch.dtype,
    batch: int,
    channels: int,
    kernel: int,
    padding: int,
    height: int,
    width: int,
) -> None:
    convolution = layer(channels, 32, kernel, padding, dtype)
    images = torch.rand(batch, channels, height, width).to(dtype)
    images = images.to(memory_format=torch.channels_last)
    along = torch.randn_like(convolution(images))
    with mock.patch.object(few_channels, "gains", return_value=False):
        wanted = gradient(convolution, images, along)
    with mock.patch.object(few_channels, "gains", return_value=True):
        found = gradient(convolution, images, along)
    assert found.dtype == dtype
    # In bf16 a contribution is rounded before they are added up, and the sum again.
    bound = 1e-6 if dtype == torch.float32 else 2**-7
    assert float((found - wanted).float().norm() / wanted.float().norm()) < bound


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("threads", [1, 2])
def test_an_image_has_the_same_gradient_to_the_bit_among_any_number_of_others(
    dtype: torch.dtype, channels: int, threads: int
) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    convolution = layer(channels, 32, 3, 1, dtype)
    images = torch.rand(64, channels, 28, 28).to(dtype).to(memory_format=torch.channels_last)
    along = torch.randn_like(convolution(images))
    together = gradient(convolution, images, along)
    differing = [
        size
        for size in range(2, 64)  # an evaluation promises at least two images
        if not torch.equal(gradient(convolution, images[:size], along[:size]), together[:size])
    ]
    assert differing == []
    torch.set_num_threads(before)


def test_the_detour_is_taken_by_the_attack_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[tuple[int, ...]] = []
    apply = few_channels.ConvolveFewChannels.apply

    def seen(x: Tensor, *rest: Any) -> Any:
        taken.append(tuple(x.shape))
        return apply(x, *rest)

    monkeypatch.setattr(few_channels.ConvolveFewChannels, "apply", seen)
    monkeypatch.setattr("torch.cpu._is_amx_tile_supported", lambda: False)
    model = build(ModelSpec("small_cnn", 1, 28, 28, 10)).eval()
    images, loss = torch.rand(4, 1, 28, 28), summed_cross_entropy(torch.arange(4))
    for dtype in DTYPES:
        surrogate = Surrogate(model, dtype)
        with torch.no_grad():
            surrogate(images)
        assert taken == []
        image_gradient(surrogate, images, loss)
        assert taken == [(4, 1, 28, 28)]
        taken.clear()
    colour = build(ModelSpec("resnet18", 3, 32, 32, 10))
    F.cross_entropy(colour(torch.rand(2, 3, 32, 32)), torch.arange(2)).backward()  # type: ignore[no-untyped-call]
    assert taken == []
