"""ResNet-18 for small images."""

from torch import Tensor, nn

from zipper_dist.models.layers import ACTIVATIONS, average_pool, conv1x1, conv3x3, scaled, stages
from zipper_dist.models.registry import NETWORKS, ModelSpec


class BasicBlock(nn.Module):
    """conv, BN, act, conv, BN, plus the shortcut, act; (N, in, H, W) → (N, out, H/s, W/s)."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, activation: str) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[activation]()
        self.conv1 = conv3x3(in_channels, out_channels, stride)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = conv3x3(out_channels, out_channels)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.shortcut = nn.Sequential()  # the identity
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(
                conv1x1(in_channels, out_channels, stride), nn.BatchNorm2d(out_channels)
            )

    def forward(self, features: Tensor) -> Tensor:
        """The block's features (N, out, H/s, W/s)."""
        residual = self.activation(self.bn1(self.conv1(features)))
        residual = self.bn2(self.conv2(residual))
        activated: Tensor = self.activation(residual + self.shortcut(features))
        return activated


@NETWORKS.register("resnet18")
class ResNet18(nn.Module):
    """The CIFAR variant of ResNet-18; (N, C, H, W) → logits (N, classes), for any H and W.

    A 3×3 stem without pooling, four stages of two blocks with 64, 128, 256 and 512 channels, the
    last three halving height and width, a global average pool and a linear layer, all initialised
    by PyTorch.

    Source: He et al. (2016, arXiv:1512.03385); state-dict names as in kuangliu/pytorch-cifar.
    """

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        widths = [scaled(width, spec.width_multiplier) for width in (64, 64, 128, 256, 512)]
        self.conv1 = conv3x3(spec.channels, widths[0])
        self.bn1 = nn.BatchNorm2d(widths[0])
        layers = stages(BasicBlock, widths, 2, spec.activation)
        self.layer1, self.layer2, self.layer3, self.layer4 = layers
        self.activation = ACTIVATIONS[spec.activation]()
        self.linear = nn.Linear(widths[4], spec.classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, classes) of images (N, C, H, W) in [0, 1]."""
        features = self.activation(self.bn1(self.conv1(images)))
        features = self.layer4(self.layer3(self.layer2(self.layer1(features))))
        logits: Tensor = self.linear(average_pool(features))
        return logits
