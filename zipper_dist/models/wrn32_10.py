"""WRN-32-10, the wide residual network of the adversarial-training literature."""

from __future__ import annotations

from torch import Tensor, nn

from zipper_dist.models.layers import (
    ACTIVATIONS,
    conv1x1,
    conv3x3,
    global_average_pool,
    scaled,
    stage,
)
from zipper_dist.models.registry import NETWORKS, ModelSpec

DEPTH = 32
WIDEN_FACTOR = 10
BLOCKS_PER_STAGE = (DEPTH - 2) // 6
"""Of the 32 layers two are the stem and the classifier; a block has two, and there are 3 stages."""


class WideBlock(nn.Module):
    """BN, act, conv, BN, act, conv, plus the shortcut; (N, in, H, W) → (N, out, H/s, W/s)."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, activation: str) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[activation]()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = conv3x3(in_channels, out_channels, stride)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.conv2 = conv3x3(out_channels, out_channels)
        self.convShortcut: nn.Conv2d | None = None
        if stride != 1 or in_channels != out_channels:
            self.convShortcut = conv1x1(in_channels, out_channels, stride)

    def forward(self, features: Tensor) -> Tensor:
        """The block's features (N, out, H/s, W/s)."""
        activated = self.activation(self.bn1(features))
        # An identity shortcut carries the raw features, a convolution gets the activated ones.
        shortcut: Tensor = features if self.convShortcut is None else self.convShortcut(activated)
        residual: Tensor = self.conv2(self.activation(self.bn2(self.conv1(activated))))
        return residual + shortcut


class Stage(nn.Module):
    """Blocks in a row, the first with the stride; (N, in, H, W) → (N, out, H/s, W/s)."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, activation: str) -> None:
        super().__init__()
        self.layer = stage(
            WideBlock, (in_channels, out_channels), stride, activation, BLOCKS_PER_STAGE
        )

    def forward(self, features: Tensor) -> Tensor:
        """The stage's features (N, out, H/s, W/s)."""
        result: Tensor = self.layer(features)
        return result


@NETWORKS.register("wrn32_10")
class WideResNet(nn.Module):
    """WRN-32-10; (N, C, H, W) → logits (N, classes), for any H and W.

    A 3×3 stem with 16 channels, three stages of five blocks with 160, 320 and 640 channels, the
    last two halving height and width, BN, activation, a global average pool and a linear layer.
    Convolutions start Kaiming-normal (fan out), the linear layer's bias at zero.

    The depth counts the stem, the classifier and two convolutions a block: 6 n + 2 for n = 5 blocks
    a stage, as in the robustness literature (code of FAT, models/wrn_madry.py; Madry et al.'s
    CIFAR-10 challenge). Wide ResNets' own paper counts 6 n + 4, so that other code (TRADES) calls
    this network WRN-34-10, often with an unused copy of the first stage besides.

    Source: Zagoruyko and Komodakis (2016, arXiv:1605.07146); initialisation and state-dict names as
    in the code of FAT.
    """

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        activation = spec.activation
        sizes = (16, 16 * WIDEN_FACTOR, 32 * WIDEN_FACTOR, 64 * WIDEN_FACTOR)
        widths = [scaled(size, spec.width_multiplier) for size in sizes]
        self.conv1 = conv3x3(spec.channels, widths[0])
        self.block1 = Stage(widths[0], widths[1], 1, activation)
        self.block2 = Stage(widths[1], widths[2], 2, activation)
        self.block3 = Stage(widths[2], widths[3], 2, activation)
        self.bn1 = nn.BatchNorm2d(widths[3])
        self.activation = ACTIVATIONS[activation]()
        self.fc = nn.Linear(widths[3], spec.classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(self.fc.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, classes) of images (N, C, H, W) in [0, 1]."""
        features = self.block3(self.block2(self.block1(self.conv1(images))))
        features = global_average_pool(self.activation(self.bn1(features)))
        logits: Tensor = self.fc(features)
        return logits
