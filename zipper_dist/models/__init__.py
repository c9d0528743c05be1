"""The networks, each in a small file of its own, and how one is built from its description."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import nn

from zipper_dist.errors import UserError
from zipper_dist.models.layers import ACTIVATIONS
from zipper_dist.models.preact_resnet import PreActResNet18
from zipper_dist.models.resnet import ResNet18
from zipper_dist.models.small_cnn import SmallCNN
from zipper_dist.models.wide_resnet import WideResNet

__all__ = ["ARCHITECTURES", "ModelSpec", "build"]

ARCHITECTURES: dict[str, type[SmallCNN | ResNet18 | PreActResNet18 | WideResNet]] = {
    "small_cnn": SmallCNN,
    "resnet18": ResNet18,
    "preact_resnet18": PreActResNet18,
    "wrn32_10": WideResNet,
}
"""The networks by the name that ``--model.arch`` and weights files give them."""


@dataclass(frozen=True)
class ModelSpec:
    """All that is needed to build a network; a weights file carries it."""

    arch: str
    """Architecture: a key of :data:`ARCHITECTURES`."""
    channels: int
    """Channels of an image: 1 for grey, 3 for colour."""
    height: int
    """Height of an image [pixels]."""
    width: int
    """Width of an image [pixels]; it has nothing to do with the width of the network."""
    classes: int
    """Number of classes, which is the number of logits."""
    width_multiplier: float = 1.0
    """Multiplies the number of channels (or features) of every layer but the last."""
    activation: str = "relu"
    """What stands between the layers: a key of :data:`zipper_dist.models.layers.ACTIVATIONS`."""


def build(spec: ModelSpec) -> nn.Module:
    """The network that ``spec`` describes: (N, channels, height, width) → logits (N, classes).

    It is in train mode; its initial values come from torch's global generator.

    Raises:
        UserError: the architecture or the activation is unknown, a number is out of range, or the
            images are too small for the architecture.
    """
    if spec.arch not in ARCHITECTURES:
        raise UserError(
            f"--model.arch {spec.arch!r} is not an architecture: choose {', '.join(ARCHITECTURES)}"
        )
    if spec.activation not in ACTIVATIONS:
        raise UserError(
            f"--model.activation {spec.activation!r} is not an activation: "
            f"choose {', '.join(ACTIVATIONS)}"
        )
    if not (math.isfinite(spec.width_multiplier) and spec.width_multiplier > 0):
        raise UserError(
            f"--model.width {spec.width_multiplier:g} is out of range: it must be more than 0"
        )
    if spec.channels < 1 or spec.classes < 1:
        raise UserError(
            f"no network for images of {spec.channels} channels in {spec.classes} classes: "
            "both must be 1 or more"
        )
    network = ARCHITECTURES[spec.arch]
    least = network.MIN_PIXELS
    if min(spec.height, spec.width) < least:
        raise UserError(
            f"--data.image-size: images of {spec.height}×{spec.width} pixels are too small for "
            f"--model.arch {spec.arch}: it needs {least}×{least} or more"
        )
    style = (spec.width_multiplier, spec.activation)
    if issubclass(network, SmallCNN):
        return network(spec.channels, spec.height, spec.width, spec.classes, *style)
    return network(spec.channels, spec.classes, *style)
