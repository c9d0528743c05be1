"""The pieces that the networks share."""

import itertools
from collections.abc import Callable, Iterator, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ACTIVATIONS: Mapping[str, Callable[[], nn.Module]] = {"relu": nn.ReLU, "silu": nn.SiLU}
"""The activations by the name that ``--model.activation`` and weights files give them."""

Block = Callable[[int, int, int, str], nn.Module]
"""Makes a residual block from (channels in, channels out, stride, activation)."""


def scaled(width: int, multiplier: float) -> int:
    """``width`` [channels] times ``multiplier``, rounded, and at least 1."""
    return max(1, round(width * multiplier))


def conv3x3(in_channels: int, out_channels: int, stride: int = 1) -> nn.Conv2d:
    """A 3×3 convolution with padding; without bias, which batch normalisation would cancel."""
    return nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)


def conv1x1(in_channels: int, out_channels: int, stride: int) -> nn.Conv2d:
    """A 1×1 convolution without bias, for a shortcut that changes the shape."""
    return nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False)


def stages(
    block: Block, widths: list[int], blocks: int, activation: str
) -> Iterator[nn.Sequential]:
    """Stages of ``blocks`` blocks: ``widths`` are the channels of the stem and of each stage.

    (N, in, H, W) → (N, out, H/s, W/s), with stride s = 1 in the first stage and 2 in the others.
    """
    for number, (before, width) in enumerate(itertools.pairwise(widths)):
        first = block(before, width, 1 if number == 0 else 2, activation)
        more = [block(width, width, 1, activation) for _ in range(blocks - 1)]
        yield nn.Sequential(first, *more)


def average_pool(features: Tensor) -> Tensor:
    """The mean over all positions: (N, C, H, W) → (N, C), for any H and W."""
    return torch.flatten(F.adaptive_avg_pool2d(features, 1), 1)
