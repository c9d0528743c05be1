"""The small convolutional network of the MNIST results."""

from collections import OrderedDict

import torch
from torch import Tensor, nn

from zipper_dist.models.layers import ACTIVATIONS, scaled
from zipper_dist.models.registry import NETWORKS, ModelSpec

LEAST_PIXELS = 16  # of which the last feature map has one


@NETWORKS.register("small_cnn")
class SmallCNN(nn.Module):
    """Four convolutions and three fully connected layers; (N, C, H, W) → logits (N, classes).

    Convolutions start Kaiming-normal (fan in) with zero biases, the last layer at zero, the other
    two as PyTorch initialises them.

    Source: the network of Carlini and Wagner (2017, arXiv:1608.04644), with the initialisation of
    the public TRADES code (models/small_cnn.py), whose state-dict names it keeps.
    """

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        spec.require_pixels(LEAST_PIXELS)
        act = ACTIVATIONS[spec.activation]
        narrow, wide, hidden = (scaled(size, spec.width_multiplier) for size in (32, 64, 200))
        # Twice over, two 3×3 convolutions take 2 pixels each and a pooling halves.
        height, width = (((size - 4) // 2 - 4) // 2 for size in (spec.height, spec.width))
        self.feature_extractor = nn.Sequential(
            OrderedDict[str, nn.Module](
                conv1=nn.Conv2d(spec.channels, narrow, 3),
                relu1=act(),
                conv2=nn.Conv2d(narrow, narrow, 3),
                relu2=act(),
                maxpool1=nn.MaxPool2d(2),
                conv3=nn.Conv2d(narrow, wide, 3),
                relu3=act(),
                conv4=nn.Conv2d(wide, wide, 3),
                relu4=act(),
                maxpool2=nn.MaxPool2d(2),
            )
        )
        last = nn.Linear(hidden, spec.classes)
        self.classifier = nn.Sequential(
            OrderedDict[str, nn.Module](
                fc1=nn.Linear(wide * height * width, hidden),
                relu1=act(),
                drop=nn.Dropout(0.5),
                fc2=nn.Linear(hidden, hidden),
                relu2=act(),
                fc3=last,
            )
        )
        for layer in self.feature_extractor:
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, classes) of images (N, C, H, W) in [0, 1]."""
        logits: Tensor = self.classifier(torch.flatten(self.feature_extractor(images), 1))
        return logits
