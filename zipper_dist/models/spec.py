"""What describes a network."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from zipper_dist.errors import UserError
from zipper_dist.models.sources import SOURCES, source_of


@dataclass(frozen=True)
class ModelSpec:
    """All that is needed to build a network; a weights file carries it."""

    arch: str
    """Architecture: a key of :data:`~zipper_dist.models.registry.NETWORKS`, ``SOURCE:NAME`` with a
    key of :data:`~zipper_dist.models.sources.SOURCES`, or a reference to a factory of the user."""
    channels: int
    """Channels of an image: 1 for grey, 3 for colour."""
    height: int
    """Height of an image [pixels]."""
    width: int
    """Width of an image [pixels]."""
    classes: int
    """Number of classes, which is the number of logits."""
    width_multiplier: float = 1.0
    """Multiplies the number of channels (or features) of every layer but the last, where the
    network is the package's."""
    activation: str = "relu"
    """What stands between the layers: a key of :data:`zipper_dist.models.layers.ACTIVATIONS`."""
    # Not in the representation, by which evaluations of before know the network again.
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """Keyword arguments of a factory outside the package: JSON values."""
    normalise: tuple[float, ...] = field(default=(), repr=False)
    """Means of the channels, then their deviations, by which the network itself normalises images
    in [0, 1]; empty: it does not."""
    class_names: tuple[str, ...] = field(default=(), repr=False)
    """The names of the classes; empty where they are not known."""

    @property
    def is_from_outside(self) -> bool:
        """Whether the network's code is not this package's."""
        return ":" in self.arch

    @property
    def needs_trust(self) -> bool:
        """Whether building the network imports what only the user can vouch for."""
        return self.is_from_outside and source_of(self.arch) not in SOURCES

    def require_pixels(self, least: int) -> None:
        """Raise UserError unless images are at least ``least`` pixels high and wide."""
        if min(self.height, self.width) < least:
            raise UserError(
                f"--data.image-size: images of {self.height}×{self.width} pixels are too small for "
                f"--model.arch {self.arch}: it needs {least}×{least} or more"
            )
