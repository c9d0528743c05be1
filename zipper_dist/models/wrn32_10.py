"""WRN-32-10, the wide residual network of the adversarial-training literature."""

from collections import OrderedDict

from torch import Tensor, nn

from zipper_dist.models.layers import ACTIVATIONS, average_pool, conv1x1, conv3x3, scaled, stages
from zipper_dist.models.preact_resnet18 import PreActBlock
from zipper_dist.models.registry import NETWORKS, ModelSpec

BLOCKS_PER_STAGE = (32 - 2) // 6
"""Of the 32 layers two are the stem and the classifier; a block has two, and there are 3 stages."""


class WideBlock(PreActBlock):
    """The block of PreActResNet-18 with the shortcut's name in the code of FAT."""

    shortcut_name = "convShortcut"
    convolution = staticmethod(conv1x1)


@NETWORKS.register("wrn32_10")
class WideResNet(nn.Module):
    """WRN-32-10; (N, C, H, W) → logits (N, classes), for any H and W.

    A 3×3 stem with 16 channels, three stages of five blocks with 160, 320 and 640 channels, the
    last two halving height and width, BN, activation, a global average pool and a linear layer.
    Convolutions start Kaiming-normal (fan out), the linear layer's bias at zero.

    The depth is 6 n + 2 for n = 5 blocks a stage, as in the robustness literature. Wide ResNets'
    own paper counts 6 n + 4, so that other code (TRADES) calls this network WRN-34-10.

    Source: Zagoruyko and Komodakis (2016, arXiv:1605.07146); initialisation and state-dict names as
    in the code of FAT.
    """

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        widths = [scaled(width, spec.width_multiplier) for width in (16, 160, 320, 640)]
        self.conv1 = conv3x3(spec.channels, widths[0])
        blocks = stages(WideBlock, widths, BLOCKS_PER_STAGE, spec.activation)
        named = (nn.Sequential(OrderedDict(layer=blocks_of_stage)) for blocks_of_stage in blocks)
        self.block1, self.block2, self.block3 = named
        self.bn1 = nn.BatchNorm2d(widths[3])
        self.activation = ACTIVATIONS[spec.activation]()
        self.fc = nn.Linear(widths[3], spec.classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(self.fc.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, classes) of images (N, C, H, W) in [0, 1]."""
        features = self.block3(self.block2(self.block1(self.conv1(images))))
        features = average_pool(self.activation(self.bn1(features)))
        logits: Tensor = self.fc(features)
        return logits
