"""What describes a network, and where the networks are registered."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from zipper_dist.errors import UserError, in_one_line
from zipper_dist.models.layers import ACTIVATIONS
from zipper_dist.registry import Registry


@dataclass(frozen=True)
class ModelSpec:
    """All that is needed to build a network; a weights file carries it."""

    arch: str
    """Architecture: a key of :data:`NETWORKS`, or a reference to a factory outside the package."""
    channels: int
    """Channels of an image: 1 for grey, 3 for colour."""
    height: int
    """Height of an image [pixels]."""
    width: int
    """Width of an image [pixels]."""
    classes: int
    """Number of classes, which is the number of logits."""
    width_multiplier: float = 1.0
    """Multiplies the number of channels (or features) of every layer but the last."""
    activation: str = "relu"
    """What stands between the layers: a key of :data:`zipper_dist.models.layers.ACTIVATIONS`."""

    @property
    def is_from_outside(self) -> bool:
        """Whether the network's code is not this package's."""
        return ":" in self.arch

    def require_pixels(self, least: int) -> None:
        """Raise UserError unless images are at least ``least`` pixels high and wide."""
        if min(self.height, self.width) < least:
            raise UserError(
                f"--data.image-size: images of {self.height}×{self.width} pixels are too small for "
                f"--model.arch {self.arch}: it needs {least}×{least} or more"
            )


Factory = Callable[[ModelSpec], nn.Module]
"""Makes the network: (N, channels, height, width) → logits (N, classes), in train mode, with
initial values from torch's global generator."""

NETWORKS: Registry[Factory] = Registry("architecture", "zipper_dist.models")
"""The networks by the name that ``--model.arch`` and weights files give them."""


def build(spec: ModelSpec) -> nn.Module:
    """The network that ``spec`` describes, as :data:`Factory` says.

    Raises UserError if the description is wrong or does not suit the images, or a factory fails.
    """
    factory = NETWORKS.find(spec.arch, "--model.arch")
    if spec.activation not in ACTIVATIONS:
        choices = ", ".join(ACTIVATIONS)
        raise UserError(f"--model.activation {spec.activation!r}: unknown; choose {choices}")
    if not (math.isfinite(spec.width_multiplier) and spec.width_multiplier > 0):
        raise UserError(f"--model.width {spec.width_multiplier:g}: must be more than 0")
    if spec.channels < 1 or spec.classes < 1:
        raise UserError(f"no network for {spec.channels} channels and {spec.classes} classes")
    spec.require_pixels(1)
    try:
        network = factory(spec)
    except Exception as error:
        if not spec.is_from_outside:
            raise
        problem = f"cannot be built: {in_one_line(error)}"
        raise UserError(f"--model.arch {spec.arch}: {problem}") from None
    if not isinstance(network, nn.Module):
        raise UserError(f"--model.arch {spec.arch}: makes a {type(network).__name__}, no nn.Module")
    return network
