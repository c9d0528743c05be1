"""The pieces that the networks share."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ACTIVATIONS: Mapping[str, Callable[[], nn.Module]] = {"relu": nn.ReLU, "silu": nn.SiLU}
"""The activations by the name that ``--model.activation`` and weights files give them."""


def scaled(width: int, multiplier: float) -> int:
    """``width`` [channels] times ``multiplier``, rounded, and at least 1."""
    return max(1, round(width * multiplier))


def conv3x3(in_channels: int, out_channels: int, stride: int = 1) -> nn.Conv2d:
    """A 3×3 convolution that keeps height and width (divides them by ``stride``, rounding up).

    It has no bias: the batch normalisation that follows it would cancel one.
    """
    return nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)


def conv1x1(in_channels: int, out_channels: int, stride: int) -> nn.Conv2d:
    """A 1×1 convolution without bias, for a shortcut that changes the shape."""
    return nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False)


def stage(
    block: Callable[[int, int, int, str], nn.Module],
    channels: tuple[int, int],
    stride: int,
    activation: str,
    blocks: int = 2,
) -> nn.Sequential:
    """``blocks`` blocks, each made by ``block(in, out, stride, activation)``.

    (N, in, H, W) → (N, out, H/stride, W/stride), with ``channels`` = (in, out).
    """
    first = block(*channels, stride, activation)
    more = [block(channels[1], channels[1], 1, activation) for _ in range(blocks - 1)]
    return nn.Sequential(first, *more)


def global_average_pool(features: Tensor) -> Tensor:
    """The mean over all positions: (N, C, H, W) → (N, C), for any H and W."""
    return torch.flatten(F.adaptive_avg_pool2d(features, 1), 1)
