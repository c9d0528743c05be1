"""PreActResNet-18 for small images: ResNet-18 that normalises before each convolution."""

from torch import Tensor, nn

from zipper_dist.models.layers import ACTIVATIONS, average_pool, conv1x1, conv3x3, scaled, stages
from zipper_dist.models.registry import NETWORKS, ModelSpec


class PreActBlock(nn.Module):
    """BN, act, conv, BN, act, conv, plus the shortcut; (N, in, H, W) → (N, out, H/s, W/s)."""

    shortcut_name = "shortcut"

    def __init__(self, in_channels: int, out_channels: int, stride: int, activation: str) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[activation]()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = conv3x3(in_channels, out_channels, stride)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.conv2 = conv3x3(out_channels, out_channels)
        reshapes = stride != 1 or in_channels != out_channels
        shortcut = self.convolution(in_channels, out_channels, stride) if reshapes else None
        self.add_module(self.shortcut_name, shortcut)

    @staticmethod
    def convolution(in_channels: int, out_channels: int, stride: int) -> nn.Module:
        """A shortcut that changes the shape, with the names of its state."""
        return nn.Sequential(conv1x1(in_channels, out_channels, stride))

    def forward(self, features: Tensor) -> Tensor:
        """The block's features (N, out, H/s, W/s)."""
        activated = self.activation(self.bn1(features))
        # An identity shortcut carries the raw features, a convolution gets the activated ones.
        convolution = getattr(self, self.shortcut_name)
        shortcut: Tensor = features if convolution is None else convolution(activated)
        residual: Tensor = self.conv2(self.activation(self.bn2(self.conv1(activated))))
        return residual + shortcut


@NETWORKS.register("preact_resnet18")
class PreActResNet18(nn.Module):
    """The CIFAR variant of PreActResNet-18; (N, C, H, W) → logits (N, classes), for any H and W.

    The stages of ResNet-18 between a 3×3 stem and a global average pool with a linear layer, all
    initialised by PyTorch. The paper has one more BN and ReLU before the pool; this one has none,
    as in kuangliu/pytorch-cifar and the public code of FAT, whose state-dict names it keeps.

    Source: He et al. (2016, arXiv:1603.05027); kuangliu/pytorch-cifar, models/preact_resnet.py.
    """

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        widths = [scaled(width, spec.width_multiplier) for width in (64, 64, 128, 256, 512)]
        self.conv1 = conv3x3(spec.channels, widths[0])
        layers = stages(PreActBlock, widths, 2, spec.activation)
        self.layer1, self.layer2, self.layer3, self.layer4 = layers
        self.linear = nn.Linear(widths[4], spec.classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, classes) of images (N, C, H, W) in [0, 1]."""
        features = self.layer2(self.layer1(self.conv1(images)))
        features = self.layer4(self.layer3(features))
        logits: Tensor = self.linear(average_pool(features))
        return logits
